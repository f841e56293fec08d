"""Fetches OCSP responses for certificates with `ocsp = "fetch"`.

Rules:

1. A response is fetched anew at half of its validity, with a little randomness, so that a responder may be down for the
   other half without anybody noticing.
2. Only a response that may be stapled (`ocsp.verify`) replaces one; it lies in the run directory, by the fingerprint of
   its certificate, where `gather` picks it up.
3. A responder that fails is asked again after a delay that doubles. A staple that expires meanwhile is dropped.
"""

from __future__ import annotations

import asyncio
import logging
import random
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import requests

from pygate.control.certificates import bounded, files, ocsp, pem
from pygate.control.certificates.gather import Entry, Gathered
from pygate.control.certificates.settings import staple_file

log = logging.getLogger("pygate.control.certificates")

#: Seconds for one question.
CALL = 20.0
#: Delays after failures, in seconds.
FIRST = 60.0
MOST = 3600.0
#: Questions under way at once.
PARALLEL = 8


@dataclass
class _State:
    failures: int = 0
    not_before: float = 0.0


class Stapler:
    """Keeps the responses of one gateway fresh."""

    def __init__(self, run_dir: Path) -> None:
        self.counts = {"ok": 0, "failed": 0}
        self._run_dir = run_dir
        self._states: dict[str, _State] = {}
        self._parallel = asyncio.Semaphore(PARALLEL)

    async def look(self, gathered: Gathered, config: dict[str, Any]) -> bool:
        """Fetches what is due; returns whether anything new is there."""
        tables = config.get("certificates", {})
        entries = {
            e.facts.fingerprint: e
            for e in gathered.entries
            if tables.get(e.name, {}).get("ocsp") == "fetch" and e.facts.responder and len(e.chain) > 1
        }
        for gone in self._states.keys() - entries.keys():
            del self._states[gone]
            staple_file(self._run_dir, gone).unlink(missing_ok=True)
        now = time.time()
        due = [e for e in entries.values() if now >= self._when(e)]
        return any(await asyncio.gather(*(self._fetch(e) for e in due)))

    def _when(self, entry: Entry) -> float:
        state = self._states.setdefault(entry.facts.fingerprint, _State())
        if entry.staple is None:
            return state.not_before
        half = (entry.staple.until - entry.staple.since) / 2
        return max(entry.staple.since + half * (1 + int(entry.facts.fingerprint[:4], 16) / 0xFFFFF), state.not_before)

    async def _fetch(self, entry: Entry) -> bool:
        state = self._states[entry.facts.fingerprint]
        try:
            async with self._parallel:
                staple = await bounded.in_thread(fetch, entry, seconds=CALL + bounded.CONNECT)
            await asyncio.to_thread(self._keep, entry, staple)
        except (ocsp.Unusable, TimeoutError, OSError) as e:
            # requests' exceptions are OSErrors.
            self.counts["failed"] += 1
            state.failures += 1
            wait = min(FIRST * 2.0 ** min(state.failures - 1, 20), MOST) * random.uniform(0.75, 1.25)
            state.not_before = time.time() + wait
            told = str(e) or "no answer in time"
            log.error("certificate %s: no OCSP response from its responder: %s", entry.name, told)
            return False
        self.counts["ok"] += 1
        state.failures, state.not_before = 0, time.time() + FIRST
        return True

    def _keep(self, entry: Entry, staple: ocsp.Staple) -> None:
        file = staple_file(self._run_dir, entry.facts.fingerprint)
        files.private(file.parent)
        files.write(file, staple.der, durable=False)


def fetch(entry: Entry) -> ocsp.Staple:
    """Asks the responder that a certificate names. Blocks. Raises `ocsp.Unusable`, `requests.RequestException`."""
    url = entry.facts.responder
    if urlsplit(url).scheme not in ("http", "https"):
        raise ocsp.Unusable("the certificate names a responder that is not asked over http")
    headers = {
        "Content-Type": "application/ocsp-request",
        "Accept": "application/ocsp-response",
        "Accept-Encoding": "identity",
    }
    body = ocsp.request(entry.chain[0], entry.chain[1])
    with bounded.session() as client:
        response = bounded.call(client, "POST", url, files.MAX_OCSP, CALL, data=body, headers=headers)
    if response.status_code != requests.codes.ok:
        raise ocsp.Unusable(f"status {response.status_code}")
    return ocsp.verify(response.content, entry.chain[0], entry.chain[1], pem.now())
