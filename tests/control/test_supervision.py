"""Workers die, configurations change, programs are replaced: clients see none of it."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from tests.control.running import Gateway, Load, wait_for

ONE_MORE = '[[routes]]\nname = "{0}"\nmatch = {{ path = "/{0}" }}\nservice = "up"\n'


def test_starts_serves_and_stops(gateway: Gateway) -> None:
    process = gateway.start()
    assert len(gateway.workers()) == 2
    assert gateway.get() == (200, gateway.state()["revision"])
    process.send_signal(signal.SIGTERM)
    assert process.wait(15) == 0
    assert sorted(p.name for p in gateway.run_dir.iterdir()) == ["pygate.lock", "revisions", "shared"]
    assert not (gateway.directory / "admin.sock").exists()


def test_a_wrong_configuration_does_not_start(gateway: Gateway) -> None:
    gateway.write("[workerz]\n")
    process = gateway.start(wait=False)
    assert process.wait(15) == 2
    assert "did you mean `workers`" in gateway.log


def test_one_control_process_per_run_directory(gateway: Gateway) -> None:
    gateway.start()
    second = gateway.start(wait=False)
    assert second.wait(15) == 1
    assert "another pygate" in gateway.log
    assert gateway.get()[0] == 200


def test_taken_address_is_an_error_that_leaves_no_worker(gateway: Gateway) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        gateway.address = f"127.0.0.1:{taken.getsockname()[1]}"
        process = gateway.start(wait=False)
        assert process.wait(15) == 1
    assert "another process listens there" in gateway.log
    assert not list(gateway.run_dir.glob("worker-*.sock"))


def test_killed_workers_are_replaced_and_nobody_is_refused(gateway: Gateway) -> None:
    gateway.start()
    port = gateway.port
    for _ in range(4):
        before = gateway.workers()
        os.kill(before[0], signal.SIGKILL)
        # Both at once: connections wait in the listener that the control process holds.
        os.kill(before[1], signal.SIGKILL)
        assert gateway.get(port=port)[0] == 200
        gateway.wait_for_workers(other_than=before)
    assert gateway.state()["restarts"] == 8


def test_frequent_deaths_are_answered_ever_later(gateway: Gateway) -> None:
    gateway.start()
    for _ in range(3):
        workers = gateway.workers()
        os.kill(workers[0], signal.SIGKILL)
        os.kill(workers[1], signal.SIGKILL)
        gateway.wait_for_workers(other_than=workers)
    delays = [line.rsplit(" ", 2)[1] for line in gateway.log.splitlines() if "worker 0 is started again" in line]
    assert delays == ["0.0", "0.1", "0.2"]


def test_reload_on_change_of_file_with_no_request_lost(gateway: Gateway) -> None:
    gateway.start()
    pids = gateway.workers()
    seen = [gateway.state()["revision"]]
    with Load(gateway).running() as load:
        for name in ("b", "c", "d"):
            gateway.write(ONE_MORE.format(name))
            seen.append(wait_for(lambda: (r := gateway.state()["revision"]) not in seen and r, "a new revision"))
    assert load.failures == [] and load.done > 20
    assert load.revisions <= set(seen)
    assert gateway.get()[1] == seen[-1]
    assert gateway.workers() == pids


def test_a_bad_file_changes_nothing_and_says_so(gateway: Gateway) -> None:
    process = gateway.start()
    revision = gateway.state()["revision"]
    gateway.write("[[routes]]\nnam = 'x'\n")
    failed = wait_for(lambda: (s := gateway.state()) and not s["last_reload"]["ok"] and s, "a failed reload")
    assert failed["revision"] == revision and failed["reloads"]["failed"] == 1
    assert {p["path"] for p in failed["last_reload"]["problems"]} == {"routes[1].nam"}
    assert gateway.get() == (200, revision)
    assert "unknown key `nam`" in gateway.log and f"revision {revision} stays in force" in gateway.log
    # By signal and by request it is refused just the same, and a repaired file is taken.
    process.send_signal(signal.SIGHUP)
    wait_for(lambda: gateway.state()["reloads"]["failed"] == 2, "a second failed reload")
    status, body = gateway.ask("/-/reload", "POST")
    assert status == 422 and json.loads(body)["revision"] == revision
    gateway.write(ONE_MORE.format("x"))
    wait_for(lambda: gateway.state()["revision"] != revision, "the repaired revision")


def test_reload_by_signal_without_watching(gateway: Gateway) -> None:
    process = gateway.start()
    process.send_signal(signal.SIGHUP)
    state = wait_for(lambda: (s := gateway.state())["reloads"]["ok"] and s, "a reload")
    assert state["last_reload"]["ok"]


def test_entrypoints_come_and_go(gateway: Gateway) -> None:
    gateway.start()
    first, port = gateway.workers(), gateway.port
    with Load(gateway).running() as load:
        gateway.write('[entrypoints.second]\naddress = "127.0.0.1:0"\n')
        second = wait_for(lambda: gateway.state()["listening"].get("second"), "the second entrypoint")
        assert gateway.get(port=int(second.rpartition(":")[2]))[0] == 200
        wait_for(lambda: len(gateway.state()["workers"]) == 2, "the old workers' end")
        assert not set(first.values()) & set(gateway.workers().values())
        gateway.write()
        wait_for(lambda: "second" not in gateway.state()["listening"], "the end of the second entrypoint")
        wait_for(lambda: len(gateway.state()["workers"]) == 2, "the old workers' end")
    assert load.failures == []
    assert gateway.port == port
    with pytest.raises(ConnectionRefusedError):
        gateway.get(port=int(second.rpartition(":")[2]))


def test_stop_finishes_what_is_in_flight(gateway: Gateway) -> None:
    process = gateway.start()
    port, answers = gateway.port, []
    client = threading.Thread(target=lambda: answers.append(gateway.get("/slow", port)))
    client.start()
    time.sleep(0.4)
    process.send_signal(signal.SIGTERM)
    client.join(10)
    assert [status for status, _ in answers] == [200]
    assert process.wait(10) == 0
    with pytest.raises(ConnectionRefusedError):
        gateway.get(port=port)


def upgrade(gateway: Gateway) -> dict[str, object]:
    command = [sys.executable, "-m", "pygate.cli.main", "upgrade", "--run-dir", str(gateway.run_dir), "--json"]
    result: dict[str, object] = json.loads(subprocess.run(command, capture_output=True, timeout=60).stdout)
    return result


def test_upgrade_under_load_refuses_nobody(gateway: Gateway) -> None:
    first = gateway.start()
    slots = [set(gateway.workers())]
    with Load(gateway).running() as load:
        for _ in range(3):
            old, workers = gateway.pid, gateway.workers()
            result = upgrade(gateway)
            assert result["ok"] and result["old"] == old and result["new"] == gateway.pid != old, gateway.log
            slots.append(set(gateway.wait_for_workers(other_than=workers)))
    assert load.failures == [] and load.done > 20
    assert slots[0].isdisjoint(slots[1])
    assert gateway.get()[0] == 200
    # Who started it still waits for the same process, and stops the gateway through it.
    first.send_signal(signal.SIGTERM)
    assert first.wait(20) == 0
    assert gateway.pid is None and not list(gateway.run_dir.glob("worker-*.sock"))


def test_failed_upgrade_leaves_the_old_one_serving(gateway: Gateway) -> None:
    process = gateway.start()
    workers = gateway.workers()
    with Load(gateway).running() as load:
        gateway.write("oops")
        result = upgrade(gateway)
    assert not result["ok"] and "goes on" in str(result["error"])
    assert load.failures == []
    assert gateway.pid == process.pid and gateway.workers() == workers
    # Nothing is left over that would stand in the way of the next attempt.
    gateway.write()
    assert upgrade(gateway)["ok"], gateway.log


def test_orphans_serve_on_and_are_taken_over(gateway: Gateway) -> None:
    process = gateway.start()
    orphans, port = gateway.workers(), gateway.port
    with Load(gateway).running() as load:
        process.kill()
        process.wait(5)
        time.sleep(0.5)
        assert gateway.get(port=port)[0] == 200
        gateway.start()
        assert gateway.port == port
        wait_for(lambda: len(gateway.state()["workers"]) == 2, "the orphans' end")
    assert load.failures == [] and load.done > 20
    assert not set(orphans.values()) & set(gateway.workers().values())
    assert gateway.log.count("adopted") == 2


def test_systemd_socket_activation(gateway: Gateway, tmp_path: Path) -> None:
    # What systemd does: the socket as descriptor 3, and the process id of the very process that is executed.
    activate = 'exec 3<&"$FD"; shift 0; LISTEN_PID=$$ LISTEN_FDS=1 LISTEN_FDNAMES=web exec "$@"'
    with socket.create_server(("127.0.0.1", 0)) as passed:
        port = passed.getsockname()[1]
        process = gateway.start(
            {"FD": str(passed.fileno())}, (passed.fileno(),), through=["/bin/bash", "-c", activate, "activate"]
        )
        assert gateway.port == port and gateway.get(port=port)[0] == 200
        process.send_signal(signal.SIGTERM)
        assert process.wait(15) == 0
        # The socket is systemd's: it listens on, and the next start serves what has queued up meanwhile.
        waiting = threading.Thread(target=lambda: gateway.get(port=port))
        waiting.start()
        gateway.start(
            {"FD": str(passed.fileno())}, (passed.fileno(),), through=["/bin/bash", "-c", activate, "activate"]
        )
        waiting.join(10)
        assert not waiting.is_alive()


def test_systemd_is_told(gateway: Gateway) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as systemd:
        systemd.bind(str(gateway.directory / "notify"))
        systemd.settimeout(15)

        def until(word: str) -> str:
            while True:
                message = systemd.recv(4096).decode()
                if word in message:
                    return message

        environment = {"NOTIFY_SOCKET": str(gateway.directory / "notify"), "WATCHDOG_USEC": "200000"}
        process = gateway.start(environment)
        assert "STATUS=serving revision" in until("READY=1")
        until("WATCHDOG=1")
        process.send_signal(signal.SIGHUP)
        assert "MONOTONIC_USEC=" in until("RELOADING=1")
        until("READY=1")
        assert upgrade(gateway)["ok"]
        assert until("MAINPID=").startswith(f"MAINPID={gateway.pid}\n")
        until("WATCHDOG=1")
        os.kill(gateway.pid or 0, signal.SIGTERM)
        until("STOPPING=1")
        assert process.wait(15) == 0


def test_admin_needs_its_token(gateway: Gateway) -> None:
    gateway.write()
    text = gateway.config.read_text().replace("[admin]\n", '[admin]\ntoken = "env:PYGATE_TEST_TOKEN"\n')
    gateway.config.write_text(text)
    gateway.start({"PYGATE_TEST_TOKEN": "s3same"})
    assert gateway.ask("/-/live")[0] == 200
    assert gateway.ask("/revision")[0] == 401
    assert gateway.ask("/-/reload", "POST", {"authorization": "Bearer wrong"})[0] == 401
    status, body = gateway.ask("/config", headers={"authorization": "Bearer s3same"})
    assert status == 200 and b"s3same" not in body and b"env:PYGATE_TEST_TOKEN" in body
    assert "s3same" not in gateway.log


def test_admin_refuses_what_browsers_can_be_made_to_send(gateway: Gateway) -> None:
    gateway.start()
    assert gateway.ask("/revision", headers={"host": "evil.example"})[0] == 421
    assert gateway.ask("/-/reload", "POST", {"origin": "http://evil.example"})[0] == 403
    assert gateway.ask("/-/reload")[0] == 405
    assert gateway.ask("/nothing")[0] == 404
