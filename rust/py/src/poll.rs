//! Which of the directly read sockets have something to say: an epoll of our own that the loop watches as one descriptor.
//!
//! A transport makes a Python object and several calls of every read. For a tunnel, whose messages are nothing but
//! reads and writes, that would be more work than the gateway's own. Here one callback of the loop serves every tunnel
//! that is readable.
//!
//! Rules:
//! 1. Edge-triggered: a socket that may have more to say than was read, bytes or the peer's end, is told of again by
//!    [`Poll::again`].
//! 2. Nothing here ever waits.

use pygate_core::exchange::ConnId;
use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::time::Duration;

/// Time after which a callback asks no more.
pub const TURN: Duration = Duration::from_micros(800);

/// Sockets told of at a time.
const BATCH: usize = 64;

const EVENTS: i32 = libc::EPOLLIN | libc::EPOLLRDHUP | libc::EPOLLET;

/// Bytes read by one callback before others get their turn.
pub const BUDGET: usize = 1 << 20;

/// Bytes one read may return.
pub const READ: usize = 64 << 10;

pub struct Poll(OwnedFd);

impl Poll {
    pub fn new() -> io::Result<Poll> {
        // SAFETY: takes no pointers.
        let epoll = checked(unsafe { libc::epoll_create1(libc::EPOLL_CLOEXEC) })?;
        // SAFETY: just opened, and nobody else's.
        Ok(Poll(unsafe { OwnedFd::from_raw_fd(epoll) }))
    }

    /// Readable when a watched socket is.
    pub fn descriptor(&self) -> RawFd {
        self.0.as_raw_fd()
    }

    /// Tells of `socket`, as `conn`, from now on.
    pub fn watch(&self, socket: RawFd, conn: ConnId) -> io::Result<()> {
        match self.control(libc::EPOLL_CTL_ADD, socket, conn) {
            Err(error) if error.raw_os_error() == Some(libc::EEXIST) => self.again(socket, conn),
            done => done,
        }
    }

    /// Tells of `socket` again if there is anything to read.
    pub fn again(&self, socket: RawFd, conn: ConnId) -> io::Result<()> {
        self.control(libc::EPOLL_CTL_MOD, socket, conn)
    }

    /// Tells no more of `socket`.
    pub fn forget(&self, socket: RawFd) -> io::Result<()> {
        match self.control(libc::EPOLL_CTL_DEL, socket, ConnId::Down(0)) {
            Err(error) if error.raw_os_error() == Some(libc::ENOENT) => Ok(()),
            done => done,
        }
    }

    fn control(&self, what: i32, socket: RawFd, conn: ConnId) -> io::Result<()> {
        let token = match conn {
            ConnId::Down(id) => u64::from(id) << 1,
            ConnId::Up(id) => u64::from(id) << 1 | 1,
        };
        let mut event = libc::epoll_event { events: EVENTS as u32, u64: token };
        // SAFETY: `event` is valid for the call.
        checked(unsafe { libc::epoll_ctl(self.0.as_raw_fd(), what, socket, &mut event) }).map(drop)
    }

    /// The connections whose sockets can be read now.
    pub fn ready(&self) -> impl Iterator<Item = Ready> {
        let mut events = [libc::epoll_event { events: 0, u64: 0 }; BATCH];
        // SAFETY: `events` has room for as many as are asked for.
        let found = unsafe { libc::epoll_wait(self.0.as_raw_fd(), events.as_mut_ptr(), BATCH as i32, 0) };
        events.into_iter().take(usize::try_from(found).unwrap_or(0)).map(|event| {
            let (token, flags) = (event.u64, event.events as i32);
            let id = (token >> 1) as u32;
            let conn = if token & 1 == 0 { ConnId::Down(id) } else { ConnId::Up(id) };
            Ready { conn, ending: flags & (libc::EPOLLRDHUP | libc::EPOLLHUP | libc::EPOLLERR) != 0 }
        })
    }
}

/// A socket that can be read.
pub struct Ready {
    pub conn: ConnId,
    /// Behind its bytes is the end.
    pub ending: bool,
}

/// Reads what `socket` has now; `None`: nothing, 0: the peer has ended.
pub fn read(socket: RawFd, into: &mut [u8]) -> io::Result<Option<usize>> {
    // SAFETY: `into` is valid for writing as many bytes.
    let read = unsafe { libc::recv(socket, into.as_mut_ptr().cast(), into.len(), libc::MSG_DONTWAIT) };
    match usize::try_from(read) {
        Ok(read) => Ok(Some(read)),
        Err(_) => match io::Error::last_os_error() {
            error if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted) => Ok(None),
            error => Err(error),
        },
    }
}

fn checked(result: i32) -> io::Result<i32> {
    if result < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(result)
}
