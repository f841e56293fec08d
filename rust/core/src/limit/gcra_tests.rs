//! Virtual time throughout; threads race for real.

use super::*;
use crate::shared::Layout;
use proptest::prelude::*;
use std::sync::atomic::AtomicU64 as Counter;

fn shared() -> Shared {
    Shared::format(&tempfile::tempfile().unwrap(), Layout::for_workers(1)).unwrap()
}

fn quota(rate: &str, burst: u64) -> Quota {
    Quota::new(Rate::parse(rate).unwrap(), burst).unwrap()
}

const MS: u64 = 1_000_000;

#[test]
fn a_burst_then_the_rate() {
    let shared = shared();
    // Steps of 2^20 ns, 256 of them per request: whole units, so that times come out exact.
    let steps = |n: u64| Duration::from_nanos(n << 20);
    let quota = Quota::new(Rate { count: 1, per: steps(256) }, 3).unwrap();
    // (time, allowed, remaining, reset, retry after), times in steps
    for (step, allowed, remaining, reset, retry) in [
        (0, true, 2, 256, 0),
        (0, true, 1, 512, 0),
        (0, true, 0, 768, 0),
        (0, false, 0, 768, 256),
        (100, false, 0, 668, 156),
        (255, false, 0, 513, 1),
        (256, true, 0, 768, 0),
        (767, true, 0, 513, 0),
        (768, true, 0, 768, 0),
        (768, false, 0, 768, 256),
        (9_000, true, 2, 256, 0),
    ] {
        let now = Instant(5 << 30) + steps(step);
        let found = check(&shared, &quota, 77, 1, now).unwrap();
        let expected = Decision { allowed, limit: 3, remaining, reset: steps(reset), retry_after: steps(retry) };
        assert_eq!(found, expected, "at step {step}");
    }
}

#[test]
fn costs_above_one_and_above_the_burst() {
    let shared = shared();
    let quota = quota("10/s", 10);
    assert_eq!(check(&shared, &quota, 1, 7, Instant(0)).map(|d| (d.allowed, d.remaining)), Some((true, 3)));
    assert_eq!(check(&shared, &quota, 1, 4, Instant(0)).map(|d| d.allowed), Some(false));
    assert_eq!(check(&shared, &quota, 1, 3, Instant(0)).map(|d| d.allowed), Some(true));
    assert_eq!(check(&shared, &quota, 2, u32::MAX, Instant(0)).map(|d| d.allowed), Some(false));
}

#[test]
fn quotas_have_bounds() {
    let of = |rate: &str, burst| Quota::new(Rate::parse(rate).unwrap(), burst);
    assert!(of("1000000/s", 1).is_ok());
    assert!(of("1000001/s", 1).unwrap_err().contains("1,000,000"));
    assert!(of("1/d", 14).is_err());
    assert!(of("1/d", 13).is_ok());
    assert!(of("1/s", 0).is_err());
    assert!(of("1/s", u64::MAX).is_err());
    for rate in ["100/s", "3/s", "7/m", "9999/s"] {
        let rate = Rate::parse(rate).unwrap();
        let exact = rate.per.as_nanos() as f64 / rate.count as f64;
        let interval = (Quota::new(rate, 1).unwrap().interval * UNIT) as f64;
        assert!(interval >= exact && interval < exact * 1.003, "{rate:?}");
    }
}

#[test]
fn a_smaller_burst_after_a_reload_locks_nobody_out() {
    let shared = shared();
    let (old, new) = (quota("1/s", 1000), quota("1/s", 2));
    assert!((0..1000).all(|_| check(&shared, &old, 5, 1, Instant(0)).unwrap().allowed));
    let refused = check(&shared, &new, 5, 1, Instant(0)).unwrap();
    assert!(!refused.allowed && refused.retry_after <= Duration::from_millis(1001), "{refused:?}");
    assert!(check(&shared, &new, 5, 1, Instant(1100 * MS)).unwrap().allowed);
}

#[test]
fn a_bucket_holds_sixteen_live_keys_and_reuses_past_ones() {
    let shared = shared();
    let quota = quota("1/s", 1);
    for key in 1..=16 {
        assert!(check(&shared, &quota, key, 1, Instant(key * MS)).unwrap().allowed);
    }
    assert_eq!(check(&shared, &quota, 17, 1, Instant(20 * MS)), None);
    assert!(!check(&shared, &quota, 16, 1, Instant(20 * MS)).unwrap().allowed);
    assert!(check(&shared, &quota, 17, 1, Instant(1002 * MS)).unwrap().allowed, "key 1 is past");
    assert_eq!(check(&shared, &quota, 18, 1, Instant(1001 * MS)), None);
    assert!(!check(&shared, &quota, 17, 1, Instant(1003 * MS)).unwrap().allowed);
}

#[test]
fn time_may_wrap_and_leftovers_count_as_past() {
    let shared = shared();
    let quota = quota("1/s", 2);
    let wrap = (TIME + 1) * UNIT;
    for (key, now) in [(3, wrap - 300), (4, wrap), (5, 5 * wrap - 1)] {
        assert!(check(&shared, &quota, key, 1, Instant(now)).unwrap().allowed);
        assert!(check(&shared, &quota, key, 1, Instant(now + 200)).unwrap().allowed);
        assert!(!check(&shared, &quota, key, 1, Instant(now + 400)).unwrap().allowed);
    }
    for days in [10, 26, 30, 38] {
        let now = Instant(7 * wrap + days * 86_400_000 * MS);
        assert!(check(&shared, &quota, days, 1, Instant(7 * wrap)).unwrap().allowed);
        assert!(check(&shared, &quota, days, 2, now).unwrap().allowed, "after {days} days");
    }
}

#[test]
fn threads_share_one_quota_exactly() {
    let shared = shared();
    let quota = quota("1/h", 200);
    let allowed = Counter::new(0);
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                for _ in 0..5_000 {
                    let found = check(&shared, &quota, 11, 1, Instant(0)).unwrap();
                    allowed.fetch_add(u64::from(found.allowed), SeqCst);
                }
            });
        }
    });
    assert_eq!(allowed.into_inner(), 200);
}

#[test]
fn threads_that_take_fresh_words_at_once_still_allow_one() {
    // Clocks differ and words expire in between, so that the threads choose different words for one key.
    const ROUNDS: u64 = 20_000;
    let shared = shared();
    let short = Quota::new(Rate { count: 1, per: Duration::from_micros(4) }, 1).unwrap();
    let once = quota("1/h", 1);
    let place = |round: u64| (round + 1) << 49;
    for round in 0..ROUNDS {
        for rival in 0..6 {
            check(&shared, &short, place(round) | (100 + rival), 1, Instant(rival * 512)).unwrap();
        }
    }
    let arrived = Counter::new(0);
    let thread = |clock: u64| {
        let mut allowed = Vec::new();
        for round in 0..ROUNDS {
            arrived.fetch_add(1, SeqCst);
            for spin in 0u32.. {
                if arrived.load(SeqCst) >= 2 * (round + 1) {
                    break;
                }
                if spin > 2_000 {
                    std::thread::yield_now();
                }
            }
            allowed.push(check(&shared, &once, place(round) | 7, 1, Instant(clock)).unwrap().allowed);
        }
        allowed
    };
    let (one, two) = std::thread::scope(|scope| {
        let other = scope.spawn(|| thread(5_024));
        (thread(4_000), other.join().unwrap())
    });
    let wrong = one.iter().zip(&two).filter(|(a, b)| a == b).count();
    assert_eq!(wrong, 0, "rounds in which not exactly one was allowed");
}

/// The textbook, in nanoseconds.
struct Reference {
    tat: u128,
    interval: u128,
    burst: u128,
}

impl Reference {
    fn check(&mut self, cost: u128, now: u128) -> bool {
        let next = self.tat.max(now) + self.interval * cost;
        let allowed = next - now <= self.interval * self.burst;
        if allowed {
            self.tat = next;
        }
        allowed
    }
}

proptest! {
    #[test]
    fn agrees_with_the_textbook(
        units in 4u64..200_000,
        burst in 1u64..20,
        start in 0u64..(3 << 44),
        steps in prop::collection::vec((0u64..400_000, 0usize..3, 1u32..4), 1..200),
    ) {
        let shared = shared();
        let quota = Quota { interval: units, burst, window: units * burst };
        let mut references: Vec<_> = (0..3)
            .map(|_| Reference { tat: 0, interval: (units * UNIT).into(), burst: burst.into() })
            .collect();
        let mut now = start * UNIT;
        for (step, key, cost) in steps {
            now += step * UNIT;
            let found = check(&shared, &quota, (key as u64 + 1) * 3, cost, Instant(now)).unwrap();
            prop_assert_eq!(found.allowed, references[key].check(cost.into(), now.into()));
            let debt = references[key].tat.saturating_sub(now.into());
            prop_assert_eq!(found.reset.as_nanos(), debt);
            prop_assert_eq!(u128::from(found.remaining), u128::from(burst) - debt.div_ceil(u128::from(units * UNIT)));
        }
    }
}
