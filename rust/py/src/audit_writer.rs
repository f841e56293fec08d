//! The audit writer: a thread that brings records to disk in groups.
//!
//! The engine appends encoded records to a buffer; the thread takes the whole buffer, writes it as one frame
//! and, when a record in it must be durable, syncs once for all of them (group commit). While it waits for
//! the disk the next group gathers.
//!
//! Rules:
//! 1. `append` never waits for the disk and makes no system call, save to wake the thread when a durable
//!    record is the first of its group, when much has gathered, or when the thread slept with nothing to do.
//! 2. `durable_seq` is the only acknowledgement: a record is on disk when its sequence is not above it.
//! 3. A failed write is tried again with growing pauses; the group is kept and the log says it is broken
//!    until it succeeds. What arrives meanwhile is kept up to [`BACKLOG`], then refused and counted.
//! 4. The eventfd becomes readable when durable records were acknowledged and when the log broke or healed.
//! 5. The thread never touches Python.

use crate::audit_log::Log;
use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicI32, AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// Bytes that may wait in memory.
pub const BACKLOG: usize = 32 << 20;
/// Gathered bytes that wake the thread before the flush interval is over.
const GROUP: usize = 256 << 10;
/// Longest time a written `async` record stays without a sync.
const SYNC_INTERVAL: Duration = Duration::from_secs(1);
const SHORTEST_INTERVAL: Duration = Duration::from_millis(1);
/// Quiet time after which the thread stops ticking.
const QUIET: Duration = Duration::from_secs(2);
const FIRST_PAUSE: Duration = Duration::from_millis(20);
const LONGEST_PAUSE: Duration = Duration::from_secs(1);

/// Handle to a running writer. Dropping it stops the thread after one last attempt to write.
pub struct AuditWriter {
    shared: Arc<Shared>,
    thread: Mutex<Option<JoinHandle<()>>>,
    dir: PathBuf,
}

struct Shared {
    queue: Mutex<Queue>,
    wake: Condvar,
    eventfd: OwnedFd,
    durable: AtomicU64,
    /// errno of the failure that lasts, 0 when the log is fine.
    broken: AtomicI32,
    records: AtomicU64,
    bytes: AtomicU64,
    frames: AtomicU64,
    syncs: AtomicU64,
    retries: AtomicU64,
    dropped: AtomicU64,
}

#[derive(Default)]
struct Queue {
    bytes: Vec<u8>,
    records: u32,
    next_sequence: u64,
    urgent: bool,
    stop: bool,
    sleep: Sleep,
}

/// What the thread waits for, so that `append` knows whether to wake it.
#[derive(Default, PartialEq)]
enum Sleep {
    #[default]
    Awake,
    Timer,
    Idle,
}

/// What the writer has done since it started.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct AuditStats {
    pub records: u64,
    pub bytes: u64,
    pub frames: u64,
    pub syncs: u64,
    /// Failed attempts to write.
    pub retries: u64,
    /// Records refused because the log was broken and the backlog full, or lost at the end.
    pub dropped: u64,
}

impl AuditWriter {
    /// Opens the log of `slot` below `dir` and starts the thread.
    ///
    /// Fails when the directory cannot be made, read or locked. A full disk is no failure yet: it shows in
    /// [`AuditWriter::broken`] with the first record.
    pub fn start(dir: &Path, slot: u32, segment_size: u64, flush_interval: Duration) -> io::Result<AuditWriter> {
        let log = Log::open(dir, slot, segment_size)?;
        // SAFETY: no pointers; the descriptor is checked and owned at once.
        let eventfd = unsafe {
            match libc::eventfd(0, libc::EFD_NONBLOCK | libc::EFD_CLOEXEC) {
                -1 => return Err(io::Error::last_os_error()),
                fd => OwnedFd::from_raw_fd(fd),
            }
        };
        let next_sequence = log.next_sequence();
        let shared = Arc::new(Shared {
            queue: Mutex::new(Queue { next_sequence, ..Default::default() }),
            wake: Condvar::new(),
            eventfd,
            durable: AtomicU64::new(next_sequence - 1),
            broken: AtomicI32::new(0),
            records: AtomicU64::new(0),
            bytes: AtomicU64::new(0),
            frames: AtomicU64::new(0),
            syncs: AtomicU64::new(0),
            retries: AtomicU64::new(0),
            dropped: AtomicU64::new(0),
        });
        let dir = log.dir().to_owned();
        let flush_interval = flush_interval.max(SHORTEST_INTERVAL);
        let run = Run { shared: shared.clone(), log, flush_interval, last_sync: Instant::now(), unsynced: 0 };
        let thread = std::thread::Builder::new().name("audit-writer".into()).spawn(move || run.run())?;
        Ok(AuditWriter { shared, thread: Mutex::new(Some(thread)), dir })
    }

    /// Appends `records` encoded records and returns the sequence of the last one; `None` when the log is
    /// broken and the backlog full (nothing was taken). `durable`: bring it to disk at once, with a signal on
    /// the eventfd.
    pub fn append(&self, encoded: &[u8], records: u32, durable: bool) -> Option<u64> {
        let mut queue = self.shared.lock();
        if queue.bytes.len() + encoded.len() > BACKLOG || queue.stop {
            drop(queue);
            self.shared.dropped.fetch_add(records.into(), Ordering::Relaxed);
            return None;
        }
        queue.bytes.extend_from_slice(encoded);
        queue.records += records;
        queue.next_sequence += u64::from(records);
        queue.urgent |= durable;
        let wake = match queue.sleep {
            Sleep::Awake => false,
            Sleep::Timer => durable || queue.bytes.len() >= GROUP,
            Sleep::Idle => true,
        };
        if wake {
            queue.sleep = Sleep::Awake;
        }
        let last = queue.next_sequence - 1;
        drop(queue);
        if wake {
            self.shared.wake.notify_one();
        }
        Some(last)
    }

    /// Highest sequence known to be on disk.
    pub fn durable_seq(&self) -> u64 {
        self.shared.durable.load(Ordering::Acquire)
    }

    pub fn is_broken(&self) -> bool {
        self.broken().is_some()
    }

    /// errno of the last attempt to write, while it has not succeeded again.
    pub fn broken(&self) -> Option<i32> {
        match self.shared.broken.load(Ordering::Acquire) {
            0 => None,
            errno => Some(errno),
        }
    }

    /// Watch it for reading; see rule 4. Owned by the writer.
    pub fn eventfd(&self) -> RawFd {
        self.shared.eventfd.as_raw_fd()
    }

    /// Makes the eventfd unreadable again; call it first when it became readable.
    pub fn clear_eventfd(&self) {
        let mut count = [0u8; 8];
        // SAFETY: an eventfd is read by eight bytes, into a buffer of eight.
        unsafe { libc::read(self.eventfd(), count.as_mut_ptr().cast(), count.len()) };
    }

    /// Directory this writer's segments lie in.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    pub fn stats(&self) -> AuditStats {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let s = &self.shared;
        AuditStats {
            records: read(&s.records),
            bytes: read(&s.bytes),
            frames: read(&s.frames),
            syncs: read(&s.syncs),
            retries: read(&s.retries),
            dropped: read(&s.dropped),
        }
    }

    /// Writes and syncs what is left, seals the segment and ends the thread. A broken log gets one more
    /// attempt; if that fails too, the error says so and [`AuditStats::dropped`] counts what was lost.
    /// Blocks: never call it on the event loop while it serves.
    pub fn flush_and_stop(&self) -> io::Result<()> {
        self.shared.lock().stop = true;
        self.shared.wake.notify_one();
        let thread = self.thread.lock().unwrap_or_else(PoisonError::into_inner).take();
        if thread.is_some_and(|thread| thread.join().is_err()) {
            return Err(io::Error::other("the audit writer thread panicked"));
        }
        self.broken().map_or(Ok(()), |errno| Err(io::Error::from_raw_os_error(errno)))
    }
}

impl Drop for AuditWriter {
    fn drop(&mut self) {
        let _ = self.flush_and_stop();
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Queue> {
        // Nothing in the queue can be left half-done by a panic: every step keeps it consistent.
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn signal(&self) {
        let one = 1u64.to_ne_bytes();
        // SAFETY: eight bytes from a buffer of eight. A full counter (EAGAIN) is readable already.
        unsafe { libc::write(self.eventfd.as_raw_fd(), one.as_ptr().cast(), one.len()) };
    }
}

/// A group on its way to disk.
#[derive(Default)]
struct Group {
    bytes: Vec<u8>,
    records: u32,
    urgent: bool,
}

/// The thread's side.
struct Run {
    shared: Arc<Shared>,
    log: Log,
    flush_interval: Duration,
    last_sync: Instant,
    /// Last sequence written but not synced, 0 when there is none.
    unsynced: u64,
}

impl Run {
    fn run(mut self) {
        block_signals();
        let mut group = Group::default();
        loop {
            let stop = self.gather(&mut group);
            let mut pause = FIRST_PAUSE;
            while let Err(error) = self.write(&group, stop) {
                self.broke(&error);
                if self.pause(pause) {
                    // Asked to stop: one last attempt, then what could not be written is lost and counted.
                    if let Err(error) = self.write(&group, true) {
                        self.broke(&error);
                        let waiting = self.shared.lock().records;
                        self.shared.dropped.fetch_add(u64::from(group.records + waiting), Ordering::Relaxed);
                        return;
                    }
                    break;
                }
                pause = (pause * 2).min(LONGEST_PAUSE);
            }
            if self.shared.broken.swap(0, Ordering::AcqRel) != 0 {
                self.shared.signal();
            }
            group.bytes.clear();
            group.records = 0;
            group.urgent = false;
            // A backlog left a large buffer behind; give it back.
            group.bytes.shrink_to(4 * GROUP);
            if stop && self.shared.lock().records == 0 {
                if let Err(error) = self.log.end_segment() {
                    self.broke(&error);
                }
                return;
            }
        }
    }

    /// Waits for something to do and takes what has gathered; true when the writer is asked to stop.
    fn gather(&self, group: &mut Group) -> bool {
        let mut queue = self.shared.lock();
        let mut waited = Duration::ZERO;
        while !queue.stop && !queue.urgent && queue.bytes.len() < GROUP {
            if waited >= self.flush_interval && (queue.records > 0 || self.sync_due()) {
                break;
            }
            let idle = waited >= QUIET && self.unsynced == 0;
            if idle {
                queue.sleep = Sleep::Idle;
                queue = self.shared.wake.wait(queue).unwrap_or_else(PoisonError::into_inner);
                waited = Duration::ZERO;
            } else {
                queue.sleep = Sleep::Timer;
                let (woken, timeout) = self
                    .shared
                    .wake
                    .wait_timeout(queue, self.flush_interval)
                    .unwrap_or_else(PoisonError::into_inner);
                queue = woken;
                if timeout.timed_out() {
                    waited += self.flush_interval;
                }
            }
        }
        queue.sleep = Sleep::Awake;
        std::mem::swap(&mut group.bytes, &mut queue.bytes);
        group.records = std::mem::take(&mut queue.records);
        group.urgent = std::mem::take(&mut queue.urgent);
        queue.stop
    }

    fn sync_due(&self) -> bool {
        self.unsynced != 0 && self.last_sync.elapsed() >= SYNC_INTERVAL
    }

    fn write(&mut self, group: &Group, stop: bool) -> io::Result<()> {
        let sync = group.urgent || stop || self.sync_due();
        if group.records > 0 {
            self.log.append(group.records, &group.bytes, sync)?;
            self.unsynced = self.log.next_sequence() - 1;
            let s = &self.shared;
            s.records.fetch_add(group.records.into(), Ordering::Relaxed);
            s.bytes.fetch_add(group.bytes.len() as u64, Ordering::Relaxed);
            s.frames.fetch_add(1, Ordering::Relaxed);
        } else if sync && self.unsynced != 0 {
            self.log.sync()?;
        }
        if sync {
            self.last_sync = Instant::now();
            if self.unsynced != 0 {
                self.shared.syncs.fetch_add(1, Ordering::Relaxed);
                self.shared.durable.store(self.unsynced, Ordering::Release);
                self.unsynced = 0;
            }
        }
        if group.urgent {
            self.shared.signal();
        }
        Ok(())
    }

    fn broke(&self, error: &io::Error) {
        self.shared.retries.fetch_add(1, Ordering::Relaxed);
        let errno = error.raw_os_error().unwrap_or(libc::EIO);
        if self.shared.broken.swap(errno, Ordering::AcqRel) == 0 {
            self.shared.signal();
        }
    }

    /// Sleeps between two attempts; true when asked to stop.
    fn pause(&self, pause: Duration) -> bool {
        let until = Instant::now() + pause;
        let mut queue = self.shared.lock();
        while !queue.stop {
            let Some(left) = until.checked_duration_since(Instant::now()).filter(|left| !left.is_zero()) else { break };
            queue = self.shared.wake.wait_timeout(queue, left).unwrap_or_else(PoisonError::into_inner).0;
        }
        queue.stop
    }
}

/// Signals are for the main thread, which Python runs its handlers on.
fn block_signals() {
    // SAFETY: the set is a local, filled before it is used.
    unsafe {
        let mut all = std::mem::zeroed::<libc::sigset_t>();
        libc::sigfillset(&mut all);
        libc::pthread_sigmask(libc::SIG_BLOCK, &all, std::ptr::null_mut());
    }
}
