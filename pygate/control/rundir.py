"""The run directory: everything a running gateway leaves on disk for the next control process.

    pygate.lock            held (flock) by the control process; an upgrade passes the very lock on
    pygate.pid             its process id
    shared                 the shared memory file
    revisions/ID/          what workers compile: `config.json` and what belongs to it
    keys.json              the virtual keys workers know, without anything that opens them
    upgrade.failed         why the last upgrade failed; removed by who asks for the next
    worker-PID.sock        where a worker can be found by a new control process

Rules: one control process per run directory; nothing in here is needed to serve a request; all of it is 0700.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
from pathlib import Path

from pygate.config import Loaded

#: Revisions kept for a look back, besides those in use.
KEEP_REVISIONS = 5

# sockaddr_un holds 108 bytes with the closing zero.
_MAX_SOCKET_PATH = 107
_SOCKET_NAME = len("/worker-4194304.sock")


class RunDirError(Exception):
    """The run directory cannot be used; the message says why and what to do."""


def default_run_dir() -> Path:
    """`$RUNTIME_DIRECTORY` under systemd, else `run`."""
    return Path(os.environ.get("RUNTIME_DIRECTORY", "run").split(":")[0])


class RunDir:
    """An existing, locked run directory."""

    def __init__(self, path: Path, lock: int | None = None) -> None:
        """Makes and locks `path`, or takes over the `lock` of a predecessor. Raises `RunDirError`."""
        self.path = path.resolve()
        if len(os.fsencode(self.path)) + _SOCKET_NAME > _MAX_SOCKET_PATH:
            raise RunDirError(
                f"the run directory's path is too long for sockets: {self.path}; choose another --run-dir"
            )
        try:
            self.revisions.mkdir(parents=True, exist_ok=True)
            self.path.chmod(0o700)
            if lock is None:
                lock = os.open(self.lock_file, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise RunDirError(
                f"another pygate (process {self.pid() or '?'}) runs in {self.path}; stop it, send it SIGHUP to reload"
                " or `pygate upgrade` to replace it, or choose another --run-dir"
            ) from None
        except OSError as e:
            raise RunDirError(f"the run directory {self.path} cannot be used: {e.strerror}") from None
        self.lock = lock

    @property
    def lock_file(self) -> Path:
        return self.path / "pygate.lock"

    @property
    def revisions(self) -> Path:
        return self.path / "revisions"

    @property
    def shared(self) -> Path:
        return self.path / "shared"

    def pid(self) -> int | None:
        return read_pid(self.path)

    def write_pid(self) -> None:
        """Says who is in charge, in one step."""
        fresh = self.path / f"pygate.pid.{os.getpid()}"
        fresh.write_text(f"{os.getpid()}\n")
        fresh.rename(self.path / "pygate.pid")

    def remove_pid(self) -> None:
        """Removes the pid file if it is ours."""
        if self.pid() == os.getpid():
            (self.path / "pygate.pid").unlink(missing_ok=True)

    def note_upgrade(self, failure: str) -> None:
        """Writes down why an upgrade failed, for who asked for it."""
        fresh = self.path / "upgrade.new"
        fresh.write_text(failure + "\n")
        fresh.rename(self.path / "upgrade.failed")

    def store(self, loaded: Loaded) -> Path:
        """Writes a revision's directory, in one step; returns it."""
        target = self.revisions / loaded.revision
        if not target.exists():
            fresh = self.revisions / f".{loaded.revision}.{os.getpid()}"
            shutil.rmtree(fresh, ignore_errors=True)
            fresh.mkdir(mode=0o700)
            loaded.write(fresh)
            with contextlib.suppress(FileExistsError):
                fresh.rename(target)
        os.utime(target)
        return target

    def prune(self, in_use: set[str]) -> None:
        """Removes old revisions that nobody uses."""
        kept = sorted((p for p in self.revisions.iterdir()), key=lambda p: p.stat().st_mtime, reverse=True)
        for path in kept[KEEP_REVISIONS:]:
            if path.name not in in_use:
                shutil.rmtree(path, ignore_errors=True)

    def worker_sockets(self) -> dict[int, Path]:
        """Sockets of workers, live or stale, by process id."""
        found = {}
        for path in self.path.glob("worker-*.sock"):
            pid = path.stem.removeprefix("worker-")
            if pid.isdigit():
                found[int(pid)] = path
        return found


def read_pid(path: Path) -> int | None:
    """The process id of the control process in a run directory, if it left one."""
    try:
        return int((path / "pygate.pid").read_text())
    except (OSError, ValueError):
        return None
