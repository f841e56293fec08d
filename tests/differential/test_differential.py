"""The quick form of the differential test with two origins, and what it rests on."""

from __future__ import annotations

from typing import Any

from tests.differential import client, corpus, report
from tests.differential.client import Answer, Trial
from tests.differential.judge import Evidence, judge
from tests.differential.run import run
from tests.differential.servers import ID_FIELDS


def test_pygate_and_its_origins_agree_on_every_request() -> None:
    entries = corpus.quick()
    result = run(entries, ["pygate"], ["waitress", "uvicorn"], 60.0)
    wrong = report.disagreements(result.pygate)
    assert not wrong, "\n".join(f"{f.origin}: {f.entry}: {f.what}" for f in wrong)
    assert result.complete
    # It has to have something to disagree about: all that is ordinary is served, some of the rest, not all.
    for origin in ("waitress", "uvicorn"):
        trials = result.evidence.trials["pygate", origin]
        for entry, trial in zip(entries, trials, strict=True):
            if entry.ordinary:
                assert trial and [a.origin for a in trial.answers] == [origin] * (entry.ordinary + 1), entry.name
        served = sum(bool(trial and trial.answers and trial.answers[0].origin) for trial in trials)
        assert 20 < served < len(entries) - 60


def request(target: str, *, id: str = "", body: str = "", port: int = 1, method: str = "GET") -> dict[str, Any]:
    headers = [["x-fresh-id", id]] if id else []
    seen = {"port": port, "peer": 9, "method": method, "target": target, "headers": headers, "complete": True}
    return seen | {"length": len(body), "sha": body, "body": body}


def kinds(seen: dict[str, list[dict[str, Any]]], trials: dict[str, Trial] | None = None) -> list[tuple[str, str]]:
    """Kinds and origins of what is found behind an nginx when these requests were seen."""
    entries = corpus.corpus()[:2]
    nothing = Trial([], True)
    pairs: dict[tuple[str, str], list[Trial | None]] = {
        ("nginx", origin): [(trials or {}).get(origin, nothing), nothing] for origin in seen
    }
    evidence = Evidence(entries, pairs, {("nginx", origin): requests for origin, requests in seen.items()})
    return [(finding.kind, finding.origin) for finding in judge(evidence, ID_FIELDS, None)]


def test_requests_the_proxy_did_not_send_are_told() -> None:
    good = request("/t00000", id="a")
    assert kinds({"one": [good], "two": [good]}) == []
    assert kinds({"one": [good, request("/t00000/hidden")]}) == [("smuggled", "one")]
    assert kinds({"one": [good, request("/t00000/x", id="a")]}) == [("smuggled", "one")]
    assert kinds({"one": [good, good | {"peer": 10}]}) == []  # sent again on another connection


def test_different_readings_are_told_and_stricter_ones_only_counted() -> None:
    good, other = request("/t00000", id="a"), request("/t00000", id="b", body="x")
    assert kinds({"one": [good], "two": [good, other]}) == [("stricter", "one")]
    assert kinds({"one": [good], "two": [request("/t00000", id="a", body="x")]}) == [("differs", "two")]


def test_requests_and_answers_out_of_step_are_told() -> None:
    assert kinds({"one": [request("/t00000", id="a", body="GET /t00001")]}) == [("crossed", "one")]
    foreign = Trial([Answer(200, "one", request("/t00001", id="b"))], True)
    assert kinds({"one": []}, {"one": foreign}) == [("crossed", "one")]
    probe = Trial([], True, probed=True, probes=[Answer(200, "one", request("/t00000/hidden", id="a"))])
    assert kinds({"one": []}, {"one": probe}) == [("crossed", "one")]


def test_answers_are_told_apart() -> None:
    got = (
        b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nx-origin: one\r\ncontent-length: 2\r\n\r\n{}"
        b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\n"  # to HEAD
        b"HTTP/1.1 404 No\r\ntransfer-encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n"
        b"HTTP/1.1 400 Bad\r\n\r\nuntil the end"
    )
    assert [(a.status, a.origin) for a in client.answers(got)] == [(200, "one"), (200, ""), (404, ""), (400, "")]


def test_tags_keep_lengths_right() -> None:
    for entry in corpus.corpus():
        assert len(entry.bytes(7)) == len(entry.raw + corpus.NEXT)
        assert corpus.TAG not in entry.bytes(7)
