"""Virtual keys, teams, projects, their limits, and what was used: the governed side of AI traffic.

    money, limits     amounts and limits as people write them, as whole numbers inside
    prices            what models cost: the catalogue that comes with pygate
    secret            how a key is made and recognised
    refusal           what is wrong with what somebody asked for
    database          SQLite and PostgreSQL behind one small interface; postgres, migrations
    store             keys, teams and projects; wishes: requests for changes, read strictly
    usage             what calls add up to, per minute
    snapshot          what workers know of keys, as a file
    follower          audit log → usage
    api               the operations as requests and answers in JSON, for admin listener and command line
    service, duty     all of it inside the control process
    desk              who answers the command line: the running gateway, else the store

Rules:

1. No worker and no request ever waits for the store: workers have the snapshot, counters are in shared memory.
2. A key is told once, to who made it; only its SHA-256 and the beginning it is recognised by are kept.
3. Money is a whole number of nano-USD; no float ever holds it.
"""
