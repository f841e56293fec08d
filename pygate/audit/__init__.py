"""The audit log as its readers use it: follow it, ask it for calls, verify it.

Reading happens in Rust (`pygate._core`); this package gives it types and words. It never writes a log.
"""

from __future__ import annotations

from pygate.audit.calls import Call, Status, find, parse_status, query
from pygate.audit.tail import Tail
from pygate.audit.verify import Segment, Summary, verify

__all__ = ["Call", "Segment", "Status", "Summary", "Tail", "find", "parse_status", "query", "verify"]
