"""When a certificate is renewed, and when something that failed is tried again. Times in seconds.

Rules:

1. A certificate is due `renew_before` its end, or at two thirds of its life if that comes later.
2. A random part of a quarter of what is left then spreads renewals; it comes from the certificate's fingerprint, so
   that a restart does not draw again.
3. The authority's own advice (ARI, RFC 9773) goes first, but never past the last tenth of the certificate's life.
4. Failures are tried again after a delay that doubles, with jitter, so that an authority that is back is not met by
   everybody at once.
"""

from __future__ import annotations

from collections.abc import Callable

FIRST = 60.0
MOST = 6 * 3600.0
#: After the authority has said that it is asked too often.
LIMITED = 3600.0
#: Delays differ by up to this share.
JITTER = 0.25


def due(not_before: float, not_after: float, renew_before: float, fingerprint: str) -> float:
    """When to renew, in seconds since the epoch."""
    life = not_after - not_before
    first = max(not_after - renew_before, not_before + life * 2 / 3)
    return first + (not_after - first) / 4 * fraction(fingerprint)


def advised(advice: float, not_before: float, not_after: float) -> float:
    """When to renew if the authority suggests `advice`."""
    return min(advice, not_after - (not_after - not_before) / 10)


def delay(failures: int, limited: bool, uniform: Callable[[float, float], float]) -> float:
    """How long to wait after `failures` in a row (from 1). `uniform` draws between two numbers."""
    base = min(FIRST * 2.0 ** min(failures - 1, 20), MOST)
    return max(base, LIMITED if limited else 0.0) * uniform(1 - JITTER, 1 + JITTER)


def fraction(fingerprint: str) -> float:
    """0 ≤ x < 1 from hexadecimal digits."""
    return int(fingerprint[:12], 16) / 16**12
