"""Telemetry by opentelemetry-sdk, in the control process only.

`service` is the way in. `families` names the metrics, `prometheus` and `otlp` write them; `call` is what the
audit log tells of a call, from which `spans` and `access` make traces and logs; `pipeline` and `batch` send it.
"""

from pygate.telemetry.service import Telemetry

__all__ = ["Telemetry"]
