//! Time as the core sees it: an argument, never a call.

use std::time::Duration;

/// One reading of both clocks, taken once per callback by the caller.
///
/// `mono` orders and times everything (CLOCK_MONOTONIC, so that all processes of a host share it);
/// `wall` is only written down.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Now {
    pub mono: Instant,
    /// Nanoseconds since the Unix epoch, UTC.
    pub wall_ns: u64,
}

/// Nanoseconds of CLOCK_MONOTONIC.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Instant(pub u64);

impl Instant {
    /// Zero when `earlier` lies in the future.
    pub fn since(self, earlier: Instant) -> Duration {
        Duration::from_nanos(self.0.saturating_sub(earlier.0))
    }
}

impl std::ops::Add<Duration> for Instant {
    type Output = Instant;
    fn add(self, by: Duration) -> Instant {
        Instant(self.0.saturating_add(by.as_nanos() as u64))
    }
}
