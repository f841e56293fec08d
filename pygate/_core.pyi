"""Types of the Rust extension (`rust/py`)."""

from os import PathLike
from typing import Any

_Place = tuple[int, int, int]

def read_toml(text: str) -> tuple[dict[str, Any], dict[str, tuple[_Place, _Place]]]:
    """`(value, {path: (key, value)})`, places as (line, column, length); ValueError(message, line, column, length)."""

def schema() -> str:
    """JSON Schema of the configuration."""

class Shared:
    """The memory all processes of one gateway share."""

    @staticmethod
    def create(path: str | PathLike[str], workers: int) -> Shared:
        """Makes a fresh file for `workers` slots, replacing what was there. Raises OSError."""

    @staticmethod
    def open(path: str | PathLike[str]) -> Shared:
        """Opens a file made by `create`. Raises OSError when it is missing or of another version."""

    @property
    def workers(self) -> int:
        """Worker slots the file was made for."""

class MetricsReader:
    """Reads what all workers count."""

    def __init__(self, shared: Shared) -> None: ...
    def snapshot(self) -> bytes:
        """Everything counted, at one moment, as JSON (`core::observe::Snapshot`)."""

    def retire(self, worker: int) -> None:
        """Zeroes the gauges of a worker that is gone and has no successor in its slot; counters stay."""
