//! One timer wheel for every deadline of a worker.
//!
//! Rules:
//! 1. The wheel only wakes; whoever is woken compares its own deadline with the clock. Moving a deadline
//!    later is therefore free, and stale entries are harmless.
//! 2. An entry is kept per earliest wake-up ([`Deadline`] remembers it), so a busy connection adds none.
//! 3. Resolution is [`SLOT`]; deadlines beyond the wheel's span wake once on the way.

use crate::time::Instant;

const SLOT: u64 = 20_000_000;
const SLOTS: usize = 1024;

/// A deadline and the wake-up it is sure of.
#[derive(Clone, Copy, Debug, Default)]
pub struct Deadline {
    /// When; `None` for never.
    at: Option<Instant>,
    armed: Option<Instant>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Timer {
    Down(u32),
    Up(u32),
    Exchange(u32),
}

impl Deadline {
    /// Its wake-up without its time: for whoever gets the number of an owner that is gone.
    pub fn left(self) -> Deadline {
        Deadline { at: None, armed: self.armed }
    }
}

/// Wake-ups that owners left behind, by their numbers: the next one with the number counts on them, so that owners
/// which come and go by the thousand do not fill the wheel.
#[derive(Debug, Default)]
pub struct Left(Vec<Deadline>);

impl Left {
    pub fn keep(&mut self, number: u32, deadline: Deadline) {
        let number = number as usize;
        if self.0.len() <= number {
            self.0.resize(number + 1, Deadline::default());
        }
        self.0[number] = deadline.left();
    }

    /// What is still to come at `now`; a wake-up that found nobody is spent.
    pub fn take(&mut self, number: u32, now: Instant) -> Deadline {
        let left = self.0.get_mut(number as usize).map(std::mem::take).unwrap_or_default();
        if left.armed.is_some_and(|armed| armed > now) {
            left
        } else {
            Deadline::default()
        }
    }
}

#[derive(Debug)]
pub struct Wheel {
    slots: Vec<Vec<(Instant, Timer)>>,
    /// The slot number (time / SLOT) up to which everything was fired.
    done: u64,
}

impl Wheel {
    pub fn new(now: Instant) -> Wheel {
        Wheel { slots: vec![Vec::new(); SLOTS], done: now.0 / SLOT }
    }

    /// Sets `deadline` to `at` and makes sure its owner is woken by then.
    pub fn set(&mut self, deadline: &mut Deadline, at: Instant, timer: Timer) {
        deadline.at = Some(at);
        if deadline.armed.is_none_or(|armed| at < armed) {
            deadline.armed = Some(self.insert(at, timer));
        }
    }

    pub fn clear(&mut self, deadline: &mut Deadline) {
        deadline.at = None;
    }

    /// Called for a woken owner: true when its deadline has passed; otherwise it is armed again.
    pub fn woken(&mut self, deadline: &mut Deadline, now: Instant, timer: Timer) -> bool {
        if deadline.armed.is_some_and(|armed| armed > now) {
            // An older wake-up; the one this deadline counts on is still to come.
            return false;
        }
        deadline.armed = None;
        match deadline.at {
            Some(at) if at <= now => {
                deadline.at = None;
                true
            }
            Some(at) => {
                deadline.armed = Some(self.insert(at, timer));
                false
            }
            None => false,
        }
    }

    fn insert(&mut self, at: Instant, timer: Timer) -> Instant {
        let slot = (at.0.div_ceil(SLOT)).clamp(self.done + 1, self.done + SLOTS as u64 - 1);
        self.slots[slot as usize % SLOTS].push((at, timer));
        Instant(slot * SLOT)
    }

    /// Moves everything due by `now` into `woken`.
    pub fn advance(&mut self, now: Instant, woken: &mut Vec<Timer>) {
        let target = now.0 / SLOT;
        if target >= self.done + SLOTS as u64 {
            // A long stall (or a suspended machine): one full turn covers every slot.
            self.done = target - SLOTS as u64;
        }
        while self.done < target {
            self.done += 1;
            woken.extend(self.slots[self.done as usize % SLOTS].drain(..).map(|(_, timer)| timer));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn wakes_in_time_and_never_early() {
        let start = Instant(7_000_000_000);
        let mut wheel = Wheel::new(start);
        let mut deadlines: Vec<Deadline> = vec![Deadline::default(); 200];
        let due = |i: usize| start + Duration::from_millis(i as u64 * 313);
        for (i, d) in deadlines.iter_mut().enumerate() {
            wheel.set(d, due(i), Timer::Down(i as u32));
        }
        let mut fired = vec![None; deadlines.len()];
        let mut woken = Vec::new();
        for step in 0..8000u64 {
            let now = start + Duration::from_millis(step * 10);
            wheel.advance(now, &mut woken);
            for timer in woken.drain(..) {
                let Timer::Down(i) = timer else { unreachable!() };
                if wheel.woken(&mut deadlines[i as usize], now, timer) {
                    fired[i as usize] = Some(now);
                }
            }
        }
        for (i, at) in fired.iter().enumerate() {
            let at = at.expect("every deadline fires");
            assert!(at >= due(i) && at.since(due(i)) <= Duration::from_millis(40), "{i}");
        }
    }

    #[test]
    fn a_busy_connection_does_not_gather_wake_ups() {
        let start = Instant(0);
        let mut wheel = Wheel::new(start);
        let mut deadline = Deadline::default();
        let (mut woken, mut wakes) = (Vec::new(), 0);
        for ms in (0..3_600_000u64).step_by(20) {
            let now = start + Duration::from_millis(ms);
            if ms % 5_000 == 0 {
                wheel.set(&mut deadline, now + Duration::from_secs(10), Timer::Down(1));
                wheel.set(&mut deadline, now + Duration::from_secs(75), Timer::Down(1));
            }
            wheel.advance(now, &mut woken);
            for timer in woken.drain(..) {
                wakes += 1;
                assert!(!wheel.woken(&mut deadline, now, timer));
            }
        }
        assert!(wakes < 1_500, "{wakes} wake-ups in an hour of one request every five seconds");
    }

    #[test]
    fn what_an_owner_left_behind_serves_the_next_or_is_spent() {
        let second = Duration::from_secs(1);
        for (taken, wakes) in [(second / 2, 1), (second * 2, 1)] {
            let mut wheel = Wheel::new(Instant(0));
            let (mut left, mut woken) = (Left::default(), Vec::new());
            let mut first = Deadline::default();
            wheel.set(&mut first, Instant(0) + second, Timer::Up(3));
            left.keep(3, first);
            wheel.advance(Instant(0) + taken, &mut woken);
            woken.clear();
            let now = Instant(0) + taken;
            let mut next = left.take(3, now);
            wheel.set(&mut next, now + second, Timer::Up(3));
            let mut fired = 0;
            for step in 1..200u64 {
                let now = now + Duration::from_millis(20 * step);
                wheel.advance(now, &mut woken);
                fired += woken.drain(..).filter(|timer| wheel.woken(&mut next, now, *timer)).count();
            }
            assert_eq!(fired, wakes, "taken at {taken:?}");
        }
    }

    #[test]
    fn a_deadline_moved_later_fires_once_and_one_moved_earlier_in_time() {
        let start = Instant(0);
        let mut wheel = Wheel::new(start);
        let mut d = Deadline::default();
        wheel.set(&mut d, start + Duration::from_secs(1), Timer::Up(1));
        wheel.set(&mut d, start + Duration::from_secs(3), Timer::Up(1));
        wheel.set(&mut d, start + Duration::from_secs(2), Timer::Up(1));
        let (mut fired, mut woken) = (Vec::new(), Vec::new());
        for ms in (0..5000u64).step_by(10) {
            let now = start + Duration::from_millis(ms);
            wheel.advance(now, &mut woken);
            for timer in woken.drain(..) {
                if wheel.woken(&mut d, now, timer) {
                    fired.push(ms);
                }
            }
        }
        assert_eq!(fired, [2000]);
    }
}
