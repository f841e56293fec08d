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
                let (woken, timeout) =
                    self.shared.wake.wait_timeout(queue, self.flush_interval).unwrap_or_else(PoisonError::into_inner);
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::audit_log::segments;
    use pygate_core::audit::read::{Position, Segment, Step};
    use std::fs;

    /// A directory of its own, removed at the end.
    struct Dir(PathBuf);

    impl Dir {
        fn new(name: &str) -> Dir {
            let dir = std::env::temp_dir().join(format!("pygate-audit-{}-{name}", std::process::id()));
            let _ = fs::remove_dir_all(&dir);
            Dir(dir)
        }
        fn start(&self) -> AuditWriter {
            AuditWriter::start(&self.0, 0, 4096, Duration::from_millis(5)).unwrap()
        }
        fn log(&self) -> PathBuf {
            self.0.join("worker-0")
        }
    }

    impl Drop for Dir {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.0);
        }
    }

    fn record(size: usize) -> Vec<u8> {
        let mut out = (size as u32 + 1).to_le_bytes().to_vec();
        out.push(200);
        // One field of later versions: tag 40 << 2 | fixed 8, over and over.
        out.extend((0..size).map(|n| if n % 9 == 0 { 40 << 2 | 2 } else { 7 }));
        out.truncate(5 + size / 9 * 9);
        let len = (out.len() - 4) as u32;
        out[..4].copy_from_slice(&len.to_le_bytes());
        out
    }

    fn wait(what: &str, mut done: impl FnMut() -> bool) {
        let until = Instant::now() + Duration::from_secs(10);
        while !done() {
            assert!(Instant::now() < until, "waited too long for {what}");
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    /// Every record of the log, verified through all segments; panics on damage. Returns records, whether the
    /// last segment is sealed, and how many segments tell of a torn tail.
    fn verify(log: &Path) -> (u64, bool, usize) {
        let mut at = Position::start();
        let (mut sealed, mut recovered) = (true, 0);
        for (_, path) in segments(log).unwrap() {
            let bytes = fs::read(&path).unwrap();
            let mut segment = Segment::open(&bytes).unwrap().expect("whole segment header");
            segment.follows(&at).unwrap();
            recovered += usize::from(segment.header.recovered.is_some());
            loop {
                match segment.step() {
                    Step::Frame(_) => {}
                    Step::End => break,
                    other => panic!("{path:?}: {other:?}"),
                }
            }
            at = segment.position;
            sealed = segment.sealed;
        }
        (at.next_sequence - 1, sealed, recovered)
    }

    #[test]
    fn durable_records_are_acknowledged_and_the_eventfd_says_so() {
        let dir = Dir::new("durable");
        let writer = dir.start();
        let readable = |timeout| {
            let mut poll = libc::pollfd { fd: writer.eventfd(), events: libc::POLLIN, revents: 0 };
            // SAFETY: one pollfd, counted as one.
            unsafe { libc::poll(&mut poll, 1, timeout) == 1 }
        };
        assert!(!readable(0));
        for expected in 1..=20 {
            assert_eq!(writer.append(&record(90), 1, true), Some(expected));
            assert!(readable(5000));
            writer.clear_eventfd();
            wait("acknowledgement", || writer.durable_seq() >= expected);
        }
        assert_eq!(writer.append(&record(90), 1, false), Some(21));
        wait("the sync interval", || writer.durable_seq() >= 21);
        writer.flush_and_stop().unwrap();
        assert_eq!(writer.append(&record(90), 1, false), None, "stopped");
        assert_eq!(verify(&dir.log()), (21, true, 0));
        use std::os::unix::fs::MetadataExt;
        assert_eq!(fs::metadata(dir.log()).unwrap().mode() & 0o777, 0o700);
        assert_eq!(fs::metadata(dir.log().join("00000001.wal")).unwrap().mode() & 0o777, 0o600);
    }

    #[test]
    fn segments_rotate_and_the_chain_goes_on_over_restarts() {
        let dir = Dir::new("rotate");
        for round in 1..=3 {
            let writer = dir.start();
            for _ in 0..200 {
                writer.append(&record(180), 1, false).unwrap();
                if round == 2 {
                    std::thread::sleep(Duration::from_micros(200));
                }
            }
            wait("the flush interval", || writer.stats().records == 200);
            writer.flush_and_stop().unwrap();
            assert_eq!(verify(&dir.log()), (round * 200, true, 0));
        }
        assert!(segments(&dir.log()).unwrap().len() > 3);
    }

    #[test]
    fn one_writer_per_directory() {
        let dir = Dir::new("lanes");
        let (first, second) = (dir.start(), dir.start());
        assert_eq!(first.dir(), dir.log());
        assert_eq!(second.dir(), dir.0.join("worker-0.1"));
        drop(first);
        assert_eq!(dir.start().dir(), dir.log());
    }

    #[test]
    fn a_torn_tail_is_set_aside_wherever_it_is_torn() {
        let dir = Dir::new("torn");
        let writer = dir.start();
        for n in 1..=3 {
            writer.append(&record(90), 1, true).unwrap();
            wait("acknowledgement", || writer.durable_seq() == n);
        }
        writer.flush_and_stop().unwrap();
        let path = dir.log().join("00000001.wal");
        let whole = fs::read(&path).unwrap();
        let frame = 64 + record(90).len();
        let third = whole.len() - 64 - frame;
        for cut in (third - frame..whole.len()).step_by(7).chain([0, 5, 11, 100]) {
            let _ = fs::remove_dir_all(&dir.0);
            fs::create_dir_all(dir.log()).unwrap();
            fs::write(&path, &whole[..cut]).unwrap();
            let writer = dir.start();
            let kept = [0, 1, 2, 3][match cut {
                c if c < third - frame => 0,
                c if c < third => 1,
                c if c < third + frame => 2,
                _ => 3,
            }];
            assert_eq!(writer.append(&record(90), 1, true), Some(kept + 1), "cut at {cut}");
            wait("acknowledgement", || writer.durable_seq() == kept + 1);
            writer.flush_and_stop().unwrap();
            let clean = cut >= third - frame && (cut - (third - frame)).is_multiple_of(frame) && cut <= third + frame;
            assert_eq!(verify(&dir.log()), (kept + 1, true, usize::from(!clean)), "cut at {cut}");
        }
    }

    #[test]
    fn a_damaged_log_is_left_alone() {
        let dir = Dir::new("damaged");
        let writer = dir.start();
        for n in 1..=3 {
            writer.append(&record(90), 1, true).unwrap();
            wait("acknowledgement", || writer.durable_seq() == n);
        }
        drop(writer);
        let path = dir.log().join("00000001.wal");
        let mut bytes = fs::read(&path).unwrap();
        let middle = bytes.len() / 2;
        bytes[middle] ^= 1;
        fs::write(&path, &bytes).unwrap();
        let writer = dir.start();
        assert_eq!(writer.dir(), dir.0.join("worker-0.1"));
        assert_eq!(fs::read(&path).unwrap(), bytes);
    }

    /// A file system of its own that can be full. `None` without the right to mount.
    fn small_disk(dir: &Dir, size: &str) -> Option<Unmount> {
        fs::create_dir_all(&dir.0).unwrap();
        let target = std::ffi::CString::new(dir.0.to_str()?).ok()?;
        let options = std::ffi::CString::new(format!("size={size}")).ok()?;
        // SAFETY: every pointer is a C string that outlives the call.
        let mounted = unsafe {
            libc::mount(c"tmpfs".as_ptr(), target.as_ptr(), c"tmpfs".as_ptr(), 0, options.as_ptr().cast()) == 0
        };
        mounted.then_some(Unmount(target))
    }

    struct Unmount(std::ffi::CString);

    impl Drop for Unmount {
        fn drop(&mut self) {
            // SAFETY: a C string that outlives the call.
            unsafe { libc::umount2(self.0.as_ptr(), libc::MNT_DETACH) };
        }
    }

    /// Fills the disk, watches the log break, makes room, watches it heal with nothing lost.
    fn breaks_and_heals(dir: &Dir, fill: impl FnOnce(), room: impl FnOnce(), errno: i32) {
        let writer = dir.start();
        let first = writer.append(&record(900), 1, true).unwrap();
        wait("acknowledgement", || writer.durable_seq() >= first);
        fill();
        let mut appended = first;
        wait("the log to break", || {
            appended = writer.append(&record(9000), 1, true).unwrap();
            writer.is_broken()
        });
        assert_eq!(writer.broken(), Some(errno));
        let acknowledged = writer.durable_seq();
        assert!(acknowledged < appended);
        wait("retries", || writer.stats().retries >= 3);
        assert_eq!(writer.durable_seq(), acknowledged, "nothing is acknowledged while broken");
        room();
        wait("the log to heal", || !writer.is_broken() && writer.durable_seq() >= appended);
        let last = writer.append(&record(90), 1, true).unwrap();
        wait("acknowledgement", || writer.durable_seq() >= last);
        writer.flush_and_stop().unwrap();
        assert_eq!(writer.stats().dropped, 0);
        assert_eq!(verify(&dir.log()), (last, true, 0));
    }

    #[test]
    fn a_full_disk_breaks_the_log_and_room_heals_it() {
        let dir = Dir::new("full");
        let ballast = dir.0.join("ballast");
        let Some(_mounted) = small_disk(&dir, "1m") else {
            // Not root: the file size limit of the process is the next best full disk.
            return file_size_limit(&dir);
        };
        breaks_and_heals(
            &dir,
            || {
                let mut file = fs::File::create(&ballast).unwrap();
                while io::Write::write(&mut file, &[1; 4096]).is_ok_and(|n| n > 0) {}
            },
            || fs::remove_file(&ballast).unwrap(),
            libc::ENOSPC,
        );
    }

    #[test]
    fn a_file_size_limit_breaks_the_log_too() {
        file_size_limit(&Dir::new("limit"));
    }

    /// In a process of its own, for the limit is the process's.
    fn file_size_limit(dir: &Dir) {
        const CHILD: &str = "PYGATE_TEST_FILE_SIZE_LIMIT";
        let limit = |bytes| {
            let limit = libc::rlimit { rlim_cur: bytes, rlim_max: libc::RLIM_INFINITY };
            // SAFETY: a local that outlives the call; the signal is ignored so that the write returns EFBIG.
            unsafe {
                libc::signal(libc::SIGXFSZ, libc::SIG_IGN);
                assert_eq!(libc::setrlimit(libc::RLIMIT_FSIZE, &limit), 0);
            }
        };
        if std::env::var_os(CHILD).is_some() {
            return breaks_and_heals(dir, || limit(3000), || limit(libc::RLIM_INFINITY), libc::EFBIG);
        }
        let status = std::process::Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "audit_writer::tests::a_file_size_limit_breaks_the_log_too"])
            .env(CHILD, "1")
            .status()
            .unwrap();
        assert!(status.success());
    }

    #[test]
    fn a_writer_stopped_while_broken_says_so_and_counts_the_loss() {
        let dir = Dir::new("lost");
        let writer = dir.start();
        // The directory is gone: no segment can be begun. (Works for root, too.)
        fs::remove_dir_all(dir.log()).unwrap();
        writer.append(&record(90), 1, true).unwrap();
        wait("the log to break", || writer.is_broken());
        assert_eq!(writer.flush_and_stop().unwrap_err().raw_os_error(), Some(libc::ENOENT));
        assert_eq!((writer.stats().dropped, writer.durable_seq()), (1, 0));
    }

    #[test]
    fn a_backlog_is_bounded() {
        let dir = Dir::new("backlog");
        let writer = dir.start();
        fs::remove_dir_all(dir.log()).unwrap();
        let big = vec![0; 4 << 20];
        let mut taken = 0;
        while writer.append(&big, 1, false).is_some() {
            taken += 1;
            assert!(taken <= 2 * BACKLOG / big.len());
        }
        assert_eq!(writer.stats().dropped, 1);
        let _ = writer.flush_and_stop();
        assert_eq!(writer.stats().dropped, 1 + taken as u64);
    }

    #[test]
    fn many_threads_append_and_every_sequence_is_there_once() {
        let dir = Dir::new("threads");
        let writer = dir.start();
        std::thread::scope(|scope| {
            for n in 0..4 {
                let writer = &writer;
                scope.spawn(move || {
                    for i in 0..250 {
                        let sequence = writer.append(&record(45), 1, (i + n) % 3 == 0).unwrap();
                        if i % 50 == 0 && (i + n) % 3 == 0 {
                            wait("acknowledgement", || writer.durable_seq() >= sequence);
                        }
                    }
                });
            }
        });
        writer.flush_and_stop().unwrap();
        assert_eq!(writer.durable_seq(), 1000);
        assert_eq!(verify(&dir.log()), (1000, true, 0));
    }
}
