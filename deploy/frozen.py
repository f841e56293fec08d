"""Entry point of the standalone build.

pygate starts its own kind – workers, a successor, the demo upstream – as `sys.executable -m pygate.MODULE`. In the
standalone build `sys.executable` is this program, so it understands `-m` for modules of pygate, and nothing else.
"""

import runpy
import sys

if len(sys.argv) > 2 and sys.argv[1] == "-m" and sys.argv[2].split(".")[0] == "pygate":
    module = sys.argv[2]
    del sys.argv[1:3]
    runpy.run_module(module, run_name="__main__", alter_sys=True)
else:
    from pygate.cli.main import main

    sys.exit(main())
