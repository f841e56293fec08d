"""Obtains certificates by ACME and renews them in time.

Rules:

1. Accounts go their ways side by side; the certificates of one are obtained one after the other, under a lock on disk
   that a second gateway or a successor respects.
2. A proof is in every worker before the authority is told to look, and gone when the order is over.
3. Only a certificate that fits its key and covers its names replaces one.
4. Failures are kept on disk: a gateway that restarts every minute does not ask every minute. Whoever cannot wait says
   so (`pygate cert renew`), or changes the names.
5. Nothing here stops the gateway: what cannot be obtained is logged, counted and tried again.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from acme import messages
from cryptography.hazmat.primitives.asymmetric import ec

from pygate.config.units import seconds
from pygate.control.certificates import files, pem, schedule, storage
from pygate.control.certificates.authority import Account, Authority, AuthorityError
from pygate.control.certificates.bounded import in_thread
from pygate.control.certificates.challenges import Board, key_text
from pygate.control.certificates.gather import system_roots
from pygate.control.certificates.storage import Attempts, Storage

log = logging.getLogger("pygate.control.certificates")

#: How often it is looked for work.
LOOK_EVERY = 30.0
#: How long an authority may take to look at all proofs, and to issue.
VALIDATION = 180.0
ISSUE = 180.0
#: Pause between two questions whether it is done; it grows to the second.
POLL_FIRST = 0.5
POLL_MOST = 5.0
#: Advice is asked for within this time after the start, so that many gateways do not ask at once.
ADVICE_WITHIN = 3600.0
USER_AGENT = "pygate"


@dataclass(frozen=True)
class Wanted:
    """A certificate of an account."""

    name: str
    hosts: tuple[str, ...]
    renew_before: float


@dataclass
class _Advice:
    renew: float | None
    ask_again: float
    fingerprint: str


class Renewer:
    """All ACME certificates of one gateway."""

    def __init__(self, board: Board, refresh: Callable[[str], Awaitable[bool]]) -> None:
        """`refresh` gathers, stages and puts in force; it returns whether all of it is."""
        self.counts = {"ok": 0, "failed": 0}
        self._board = board
        self._refresh = refresh
        self._advice: dict[tuple[str, str], _Advice] = {}
        self._accounts: dict[str, asyncio.Task[None]] = {}

    def look(self, config: dict[str, Any], base: Path) -> None:
        """Starts what is due. Must be called on a running loop."""
        for name in config.get("acme", {}):
            running = self._accounts.get(name)
            if running is None or running.done():
                task = asyncio.create_task(self._account(name, config, base), name=f"acme {name}")
                self._accounts[name] = task

    async def close(self) -> None:
        """Ends what is under way."""
        tasks = list(self._accounts.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _account(self, name: str, config: dict[str, Any], base: Path) -> None:
        try:
            kept, wanted = storage.of(config, name), _wanted(config, name)
            due = await asyncio.to_thread(self._due, kept, wanted)
            asked = [w for w in wanted if self._asks_advice(kept, w)]
            if not due and not asked:
                return
            with kept.locked() as ours:
                if ours:
                    await self._session(settings_of(config, name, base), kept, due, asked, _kind(config, name))
        except OSError as e:
            log.error("acme.%s: its directory cannot be used: %s", name, e)
        except Exception:
            log.exception("acme.%s failed", name)

    async def _session(
        self, account: Account, kept: Storage, due: list[tuple[Wanted, str]], asked: list[Wanted], kind: str
    ) -> None:
        authority = Authority(account, kept, USER_AGENT)
        try:
            await in_thread(authority.open, seconds=120)
        except (AuthorityError, TimeoutError) as e:
            for item, _ in due:
                self._failed(account, kept, item, e)
            return
        for item, why in due:
            log.info("certificate %s: obtaining it from acme.%s (%s)", item.name, account.name, why)
            try:
                await self._obtain(authority, kept, item, kind)
            except (AuthorityError, TimeoutError, OSError) as e:
                if isinstance(e, AuthorityError) and e.unknown:
                    authority.forget()
                self._failed(account, kept, item, e)
                await self._refresh("a challenge is over")
                if isinstance(e, AuthorityError) and (e.limited or e.unknown):
                    return
            else:
                self.counts["ok"] += 1
                log.info("certificate %s: obtained", item.name)
        for item in asked:
            with contextlib.suppress(AuthorityError, TimeoutError, files.Unreadable):
                await self._ask_advice(authority, kept, item)

    async def _obtain(self, authority: Authority, kept: Storage, wanted: Wanted, kind: str) -> None:
        hosts = list(wanted.hosts)
        key = key_text(ec.generate_private_key(ec.SECP256R1()))
        order = await in_thread(authority.order, hosts, key)
        proofs = await in_thread(authority.proofs, order, kind)
        shown = [proof for proof, _ in proofs]
        try:
            if proofs:
                self._board.show(shown)
                if not await self._refresh("a challenge is shown"):
                    raise AuthorityError("the challenge could not be shown: the workers do not take it")
            for _, challenge in proofs:
                await in_thread(authority.answer, challenge)
            await _until(lambda: in_thread(authority.proven, order), VALIDATION, "look at the proofs")
        finally:
            self._board.remove(shown)
        chain = await self._issued(authority, order)
        await asyncio.to_thread(_fits, chain, key, hosts)
        await asyncio.to_thread(kept.store, wanted.name, key, chain, hosts)
        if not await self._refresh(f"certificate {wanted.name} is new"):
            log.error("certificate %s: obtained, but the workers do not take it", wanted.name)

    async def _issued(self, authority: Authority, order: messages.OrderResource) -> str:
        await in_thread(authority.finalize, order)
        found: list[str] = []

        async def there() -> bool:
            chain = await in_thread(authority.chain, order)
            found.extend([chain] if chain else [])
            return bool(found)

        await _until(there, ISSUE, "issue the certificate")
        return found[0]

    # ---- when ----

    def _due(self, kept: Storage, wanted: list[Wanted]) -> list[tuple[Wanted, str]]:
        """What has to be obtained now, and why."""
        now, found = time.time(), []
        for item in wanted:
            why = self._why(kept, item, now)
            attempts = kept.attempts(item.name)
            waits = now < attempts.not_before <= now + 2 * schedule.MOST and attempts.hosts == list(item.hosts)
            if why and (not waits or kept.wanted_now(item.name)):
                found.append((item, why))
        return found

    def _why(self, kept: Storage, item: Wanted, now: float) -> str:
        try:
            chain = pem.chain(files.read(kept.certificate(item.name), files.MAX_PEM)[0])
            facts = pem.facts(chain[0])
        except (files.Unreadable, pem.Wrong):
            return "there is none"
        ordered = kept.attempts(item.name).obtained
        missing = [host for host in item.hosts if not any(pem.covers(san, host) for san in facts.sans)]
        if missing or ordered and set(ordered) != set(item.hosts):
            return "its names have changed"
        if kept.wanted_now(item.name):
            return "somebody asks for it"
        when = schedule.due(facts.not_before, facts.not_after, item.renew_before, facts.fingerprint)
        advice = self._advice.setdefault(
            (str(kept.path), item.name), _Advice(None, now + random.uniform(0, ADVICE_WITHIN), facts.fingerprint)
        )
        if advice.fingerprint != facts.fingerprint:
            advice.renew, advice.fingerprint = None, facts.fingerprint
        if advice.renew is not None:
            when = schedule.advised(advice.renew, facts.not_before, facts.not_after)
        return f"it expires in {(facts.not_after - now) / 86400:.1f} days" if now >= when else ""

    def _asks_advice(self, kept: Storage, item: Wanted) -> bool:
        advice = self._advice.get((str(kept.path), item.name))
        return advice is not None and time.time() >= advice.ask_again

    async def _ask_advice(self, authority: Authority, kept: Storage, item: Wanted) -> None:
        advice = self._advice[(str(kept.path), item.name)]
        advice.ask_again = time.time() + ADVICE_WITHIN
        chain = files.read(kept.certificate(item.name), files.MAX_PEM)[0].decode("ascii", "replace")
        leaf = pem.text(pem.chain(chain.encode())[:1])
        advice.renew, again = await in_thread(authority.advice, leaf)
        advice.ask_again = max(again, time.time() + 60)

    def _failed(self, account: Account, kept: Storage, wanted: Wanted, error: Exception) -> None:
        self.counts["failed"] += 1
        told = str(error) or "it took too long"
        before = kept.attempts(wanted.name)
        failures = 1 + (before.failures if before.hosts == list(wanted.hosts) else 0)
        limited = isinstance(error, AuthorityError) and error.limited
        wait = schedule.delay(failures, limited, random.uniform)
        log.error(
            "certificate %s: acme.%s gave none: %s; attempt %d, the next in %.0f min",
            wanted.name,
            account.name,
            told,
            failures,
            wait / 60,
        )
        try:
            kept.note(wanted.name, Attempts(list(wanted.hosts), failures, time.time() + wait, told, before.obtained))
            kept.settled(wanted.name)
        except OSError as e:
            log.error("acme.%s: its directory cannot be written: %s", account.name, e)


def settings_of(config: dict[str, Any], name: str, base: Path) -> Account:
    """An account's settings with paths resolved."""
    table = config["acme"][name]
    roots = str(base / table["ca"]) if table.get("ca") else str(system_roots())
    return Account(
        name,
        table["directory"],
        table.get("email", ""),
        roots,
        table.get("eab_key_id", ""),
        table.get("eab_hmac_key", ""),
    )


def _wanted(config: dict[str, Any], account: str) -> list[Wanted]:
    before = seconds(config["acme"][account].get("renew_before", "30d"))
    return [
        Wanted(name, tuple(table.get("hosts", [])), before)
        for name, table in sorted(config.get("certificates", {}).items())
        if table.get("acme") == account
    ]


def _kind(config: dict[str, Any], account: str) -> str:
    return str(config["acme"][account].get("challenge", "http-01"))


def _fits(chain: str, key: str, hosts: list[str]) -> None:
    """Raises `AuthorityError` for a certificate that must not replace one."""
    try:
        found = pem.chain(chain.encode())
        pem.key_for(key.encode(), found[0])
        facts = pem.facts(found[0])
    except pem.Wrong as e:
        raise AuthorityError(f"what was issued {e}") from None
    missing = [host for host in hosts if not any(pem.covers(san, host) for san in facts.sans)]
    if missing:
        raise AuthorityError(f"what was issued lacks {', '.join(missing)}")


async def _until(done: Callable[[], Awaitable[bool]], limit: float, what: str) -> None:
    pause = POLL_FIRST
    try:
        async with asyncio.timeout(limit):
            while not await done():
                await asyncio.sleep(pause)
                pause = min(pause * 1.5, POLL_MOST)
    except TimeoutError:
        raise AuthorityError(f"the authority did not {what} within {limit:.0f} s") from None
