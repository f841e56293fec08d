//! Connections of one worker to its endpoints: the idle ones, how many are open, and who waits for one.
//!
//! Rules:
//! 1. Idle connections are taken last in, first out: the warmest is the least likely to be closing, and
//!    the others get old enough to expire.
//! 2. Every connection that [`Pool::open`] admitted is accounted for until [`Pool::closed`], idle or not.
//!    Taking and putting do not change the count.
//! 3. Waiting exchanges are served first come, first served, each once or never (cancelled).
//! 4. The pool closes nothing: it hands back what its owner has to close.

use super::balancer::KeyMap;
use crate::time::Instant;
use std::collections::VecDeque;

/// `C` names a connection, `T` a waiting exchange; both are the owner's handles.
pub struct Pool<C: Copy + PartialEq, T: Copy = u64> {
    places: KeyMap<Place<C, T>>,
}

struct Place<C, T> {
    /// Oldest first, each with the time it expires.
    idle: VecDeque<(C, Instant)>,
    open: u32,
    waiting: VecDeque<Option<T>>,
    /// Number of `waiting[0]`, counted from the first that ever waited.
    first: u64,
}

/// A waiting exchange's place in the queue of one endpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ticket {
    key: u64,
    number: u64,
}

impl<C: Copy + PartialEq, T: Copy> Default for Pool<C, T> {
    fn default() -> Self {
        Pool { places: KeyMap::default() }
    }
}

impl<C, T> Default for Place<C, T> {
    fn default() -> Self {
        Place { idle: VecDeque::new(), open: 0, waiting: VecDeque::new(), first: 0 }
    }
}

impl<C: Copy + PartialEq, T: Copy> Pool<C, T> {
    pub fn new() -> Self {
        Self::default()
    }

    /// The connection to endpoint `key` that was put back last.
    pub fn take(&mut self, key: u64) -> Option<C> {
        self.places.get_mut(&key)?.idle.pop_back().map(|(conn, _)| conn)
    }

    /// Keeps a connection whose last message ended cleanly until it expires. With more than `max_idle` kept,
    /// the oldest is returned, to be closed (by `max_idle` 0 the connection itself).
    pub fn put(&mut self, key: u64, conn: C, expires: Instant, max_idle: u32) -> Option<C> {
        let idle = &mut self.places.entry(key).or_default().idle;
        idle.push_back((conn, expires));
        if idle.len() > max_idle as usize {
            return idle.pop_front().map(|(oldest, _)| oldest);
        }
        None
    }

    /// Forgets an idle connection that its peer closed; false if it was not idle. Searched from the newest.
    pub fn remove(&mut self, key: u64, conn: C) -> bool {
        let Some(place) = self.places.get_mut(&key) else { return false };
        match place.idle.iter().rposition(|(c, _)| *c == conn) {
            Some(index) => place.idle.remove(index).is_some(),
            None => false,
        }
    }

    /// Moves idle connections that expired by `now` into `expired`, to be closed.
    pub fn expire(&mut self, now: Instant, expired: &mut Vec<C>) {
        self.places.retain(|_, place| {
            // Expiry times follow the order but for a changed timeout, and then only until the next turn.
            while let Some(&(conn, _)) = place.idle.front().filter(|(_, expires)| *expires <= now) {
                expired.push(conn);
                place.idle.pop_front();
            }
            place.open > 0 || !place.idle.is_empty() || !place.waiting.is_empty()
        });
    }

    /// Takes every idle connection out, to be closed (drain, endpoint gone).
    pub fn drain(&mut self, mut gone: impl FnMut(u64) -> bool, drained: &mut Vec<C>) {
        for (_, place) in self.places.iter_mut().filter(|(key, _)| gone(**key)) {
            drained.extend(place.idle.drain(..).map(|(conn, _)| conn));
        }
    }

    /// Counts a connection about to be opened; false when `cap` (0: none) of them are open already.
    pub fn open(&mut self, key: u64, cap: u32) -> bool {
        let place = self.places.entry(key).or_default();
        let allowed = cap == 0 || place.open < cap;
        place.open += u32::from(allowed);
        allowed
    }

    /// A connection counted by [`Pool::open`] is gone (or never came to be).
    pub fn closed(&mut self, key: u64) {
        if let Some(place) = self.places.get_mut(&key) {
            place.open = place.open.saturating_sub(1);
        }
    }

    /// Connections open to an endpoint, idle ones included.
    pub fn open_count(&self, key: u64) -> u32 {
        self.places.get(&key).map_or(0, |place| place.open)
    }

    pub fn idle_count(&self, key: u64) -> usize {
        self.places.get(&key).map_or(0, |place| place.idle.len())
    }

    /// Queues an exchange for the next free connection of `key`.
    pub fn wait(&mut self, key: u64, token: T) -> Ticket {
        let place = self.places.entry(key).or_default();
        place.waiting.push_back(Some(token));
        Ticket { key, number: place.first + place.waiting.len() as u64 - 1 }
    }

    /// Gives up waiting; false when the exchange was served already.
    pub fn cancel(&mut self, ticket: Ticket) -> bool {
        let Some(place) = self.places.get_mut(&ticket.key) else { return false };
        let Some(index) = ticket.number.checked_sub(place.first) else { return false };
        let cancelled = place.waiting.get_mut(index as usize).is_some_and(|token| token.take().is_some());
        place.trim();
        cancelled
    }

    /// The exchange to serve next when a connection of `key` was put back or closed.
    pub fn next_waiter(&mut self, key: u64) -> Option<T> {
        let place = self.places.get_mut(&key)?;
        place.trim();
        let token = place.waiting.pop_front().flatten();
        place.first += u64::from(token.is_some());
        token
    }

    /// Places in the queue of `key`, those of exchanges that gave up included.
    pub fn queued(&self, key: u64) -> usize {
        self.places.get(&key).map_or(0, |place| place.waiting.len())
    }

    /// Exchanges waiting for a connection of `key`.
    pub fn waiting_count(&self, key: u64) -> usize {
        self.places.get(&key).map_or(0, |place| place.waiting.iter().flatten().count())
    }
}

impl<C, T> Place<C, T> {
    /// Drops cancelled exchanges from the head of the queue.
    fn trim(&mut self) {
        while let Some(None) = self.waiting.front() {
            self.waiting.pop_front();
            self.first += 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: u64 = 7;

    #[test]
    fn idle_connections_are_taken_newest_first_and_expire_oldest_first() {
        let mut pool: Pool<u32> = Pool::new();
        for conn in 1..=4 {
            assert_eq!(pool.put(KEY, conn, Instant(u64::from(conn) * 10), 3), (conn == 4).then_some(1));
        }
        assert_eq!(pool.take(KEY), Some(4));
        let mut expired = Vec::new();
        pool.expire(Instant(20), &mut expired);
        assert_eq!(expired, [2]);
        assert!(pool.remove(KEY, 3));
        assert!(!pool.remove(KEY, 3));
        assert_eq!(pool.take(KEY), None);
        assert_eq!(pool.put(KEY, 5, Instant(50), 0), Some(5));
        pool.put(KEY, 6, Instant(60), 9);
        let mut drained = Vec::new();
        pool.drain(|key| key != KEY, &mut drained);
        assert!(drained.is_empty());
        pool.drain(|_| true, &mut drained);
        assert_eq!(drained, [6]);
    }

    #[test]
    fn open_connections_are_capped_until_closed() {
        let mut pool: Pool<u32> = Pool::new();
        assert!(pool.open(KEY, 2) && pool.open(KEY, 2) && !pool.open(KEY, 2));
        pool.put(KEY, 1, Instant(9), 9);
        assert_eq!(pool.open_count(KEY), 2);
        pool.closed(KEY);
        assert!(pool.open(KEY, 2));
        assert!(pool.open(KEY, 0), "0 is no limit");
        // An empty place is forgotten, one with open connections is not.
        pool.expire(Instant(99), &mut Vec::new());
        assert_eq!(pool.open_count(KEY), 3);
    }

    #[test]
    fn waiters_are_served_in_order_and_cancelled_anywhere() {
        let mut pool: Pool<u32, char> = Pool::new();
        let tickets: Vec<_> = "abcde".chars().map(|t| pool.wait(KEY, t)).collect();
        assert!(pool.cancel(tickets[0]));
        assert!(pool.cancel(tickets[2]));
        assert!(!pool.cancel(tickets[2]));
        assert_eq!(pool.next_waiter(KEY), Some('b'));
        assert!(!pool.cancel(tickets[1]));
        assert_eq!(pool.next_waiter(KEY), Some('d'));
        assert_eq!(pool.waiting_count(KEY), 1);
        let late = pool.wait(KEY, 'f');
        assert_eq!(pool.next_waiter(KEY), Some('e'));
        assert!(pool.cancel(late));
        assert_eq!(pool.next_waiter(KEY), None);
        assert_eq!(pool.next_waiter(KEY), None);
        pool.wait(KEY, 'g');
        assert_eq!(pool.next_waiter(KEY), Some('g'));
    }
}
