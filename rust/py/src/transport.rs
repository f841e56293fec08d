//! One connection's transport, and the way its bytes leave.
//!
//! Rules:
//! 1. What is written goes out in order: bytes pass by the transport only while it holds none itself.
//! 2. A connection that only carries bytes ([`Handle::go_direct`]) is read through [`Poll`] and written by `sendmsg`; what the
//!    socket does not take at once goes to the transport, which buffers it and tells when it is full.
//! 3. Opening, closing and ending a connection is always the transport's.

use crate::poll::Poll;
use pygate_core::exchange::{Action, ConnId};
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyList, PyString};
use smallvec::SmallVec;
use std::io;
use std::sync::atomic::{AtomicBool, AtomicI32, Ordering::Relaxed};

const BY_TRANSPORT: i32 = -1;

/// Bytes a callback was given.
#[derive(Clone, Copy, Default)]
pub struct Input<'a, 'py> {
    pub bytes: &'a [u8],
    /// The object they are of, if they came in one.
    pub object: Option<&'a Bound<'py, PyBytes>>,
}

/// A transport and its two methods that every request needs. The flags are only touched with the GIL held.
pub struct Handle {
    pub transport: Py<PyAny>,
    write: Py<PyAny>,
    writelines: Py<PyAny>,
    /// The socket, once it is read and written directly.
    socket: AtomicI32,
    paused: AtomicBool,
    /// The peer has said its last.
    ended: AtomicBool,
    /// The transport may hold bytes that have to leave first.
    queued: AtomicBool,
}

impl Handle {
    pub fn new(py: Python<'_>, transport: &Bound<'_, PyAny>) -> PyResult<Handle> {
        Ok(Handle {
            write: transport.getattr(intern!(py, "write"))?.unbind(),
            writelines: transport.getattr(intern!(py, "writelines"))?.unbind(),
            transport: transport.clone().unbind(),
            socket: AtomicI32::new(BY_TRANSPORT),
            paused: AtomicBool::new(false),
            ended: AtomicBool::new(false),
            queued: AtomicBool::new(true),
        })
    }

    fn method(&self, py: Python<'_>, name: &Bound<'_, PyString>) -> PyResult<()> {
        self.transport.call_method0(py, name).map(drop)
    }

    /// The socket to read from now, if it is read directly.
    pub fn watched(&self) -> Option<i32> {
        self.socket().filter(|_| !self.paused.load(Relaxed) && !self.ended.load(Relaxed))
    }

    fn socket(&self) -> Option<i32> {
        Some(self.socket.load(Relaxed)).filter(|&socket| socket != BY_TRANSPORT)
    }

    /// From now on the socket is read when `poll` says so.
    pub fn go_direct(&self, py: Python<'_>, conn: ConnId, poll: &Poll) -> PyResult<()> {
        let socket = self.transport.call_method1(py, intern!(py, "get_extra_info"), (intern!(py, "socket"),))?;
        let socket: i32 = socket.call_method0(py, intern!(py, "fileno"))?.extract(py)?;
        if socket < 0 || self.socket().is_some() {
            return Ok(());
        }
        self.method(py, intern!(py, "pause_reading"))?;
        self.socket.store(socket, Relaxed);
        if !self.paused.load(Relaxed) {
            poll.watch(socket, conn)?;
        }
        Ok(())
    }

    pub fn pause(&self, py: Python<'_>, poll: &Poll) -> PyResult<()> {
        self.paused.store(true, Relaxed);
        match self.socket() {
            Some(_) if self.ended.load(Relaxed) => Ok(()),
            Some(socket) => Ok(poll.forget(socket)?),
            None => self.method(py, intern!(py, "pause_reading")),
        }
    }

    pub fn resume(&self, py: Python<'_>, conn: ConnId, poll: &Poll) -> PyResult<()> {
        self.paused.store(false, Relaxed);
        match self.socket() {
            Some(_) if self.ended.load(Relaxed) => Ok(()),
            Some(socket) => Ok(poll.watch(socket, conn)?),
            None => self.method(py, intern!(py, "resume_reading")),
        }
    }

    /// The peer has said its last: there is nothing to wait for any more.
    pub fn end(&self, poll: &Poll) {
        self.unwatch(poll);
        self.ended.store(true, Relaxed);
    }

    pub fn write_eof(&self, py: Python<'_>) -> PyResult<()> {
        self.method(py, intern!(py, "write_eof"))
    }

    /// Closes behind what was written.
    pub fn close(&self, py: Python<'_>, poll: &Poll) -> PyResult<()> {
        self.unwatch(poll);
        self.socket.store(BY_TRANSPORT, Relaxed);
        self.method(py, intern!(py, "close"))
    }

    pub fn abort(&self, py: Python<'_>, poll: &Poll) -> PyResult<()> {
        self.unwatch(poll);
        self.socket.store(BY_TRANSPORT, Relaxed);
        self.method(py, intern!(py, "abort"))
    }

    /// Must come before the transport closes the socket: its number may be another connection's then.
    fn unwatch(&self, poll: &Poll) {
        if let Some(socket) = self.watched() {
            // Not being watched is what was wanted.
            let _ = poll.forget(socket);
        }
    }

    /// Sends the bytes of `pieces`, all of them writes to this connection.
    pub fn send(&self, py: Python<'_>, poll: &Poll, pieces: &[Action], input: Input<'_, '_>) -> PyResult<()> {
        let Some(socket) = self.socket() else { return self.hand_over(py, pieces, input, 0) };
        if self.queued.load(Relaxed) {
            let held = self.transport.call_method0(py, intern!(py, "get_write_buffer_size"))?;
            if held.extract::<usize>(py)? > 0 {
                return self.hand_over(py, pieces, input, 0);
            }
            self.queued.store(false, Relaxed);
        }
        let bytes: SmallVec<[&[u8]; 4]> = pieces.iter().map(|piece| bytes_of(piece, input)).collect();
        let length: usize = bytes.iter().map(|piece| piece.len()).sum();
        match send(socket, &bytes) {
            Ok(sent) if sent == length => Ok(()),
            Ok(sent) => {
                self.queued.store(true, Relaxed);
                self.hand_over(py, pieces, input, sent)
            }
            Err(_) => self.abort(py, poll),
        }
    }

    /// Gives the transport all but the first `skip` bytes: one `write` for one piece, one `writelines` for several.
    fn hand_over(&self, py: Python<'_>, pieces: &[Action], input: Input<'_, '_>, skip: usize) -> PyResult<()> {
        let mut skip = skip;
        let mut objects: SmallVec<[Bound<'_, PyBytes>; 4]> = SmallVec::new();
        for piece in pieces {
            let bytes = bytes_of(piece, input);
            let rest = &bytes[skip.min(bytes.len())..];
            skip -= bytes.len() - rest.len();
            let whole = input.object.filter(|_| matches!(piece, Action::WriteInput { .. }));
            match whole.filter(|object| object.as_bytes().len() == rest.len()) {
                _ if rest.is_empty() => {}
                Some(object) => objects.push(object.as_unbound().bind(py).clone()),
                None => objects.push(PyBytes::new(py, rest)),
            }
        }
        match &objects[..] {
            [] => Ok(()),
            [one] => self.write.call1(py, (one,)).map(drop),
            several => self.writelines.call1(py, (PyList::new(py, several)?,)).map(drop),
        }
    }
}

fn bytes_of<'a>(action: &'a Action, input: Input<'a, '_>) -> &'a [u8] {
    match action {
        Action::Write { data, .. } | Action::Sealed { data, .. } => data,
        Action::WriteInput { start, end, .. } => input.bytes.get(*start..*end).unwrap_or_default(),
        _ => &[],
    }
}

/// Sends what the socket takes now; returns how many bytes that was.
fn send(socket: i32, pieces: &[&[u8]]) -> io::Result<usize> {
    let flags = libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL;
    let sent = if let [one] = pieces {
        // SAFETY: the slice is valid for the call.
        unsafe { libc::send(socket, one.as_ptr().cast(), one.len(), flags) }
    } else {
        let mut parts: SmallVec<[libc::iovec; 4]> = pieces
            .iter()
            .map(|piece| libc::iovec { iov_base: piece.as_ptr().cast_mut().cast(), iov_len: piece.len() })
            .collect();
        // SAFETY: zero is a valid value of every field.
        let mut message: libc::msghdr = unsafe { std::mem::zeroed() };
        (message.msg_iov, message.msg_iovlen) = (parts.as_mut_ptr(), parts.len().min(libc::UIO_MAXIOV as usize));
        // SAFETY: `message` points at slices that are valid for the call and only read.
        unsafe { libc::sendmsg(socket, &message, flags) }
    };
    match usize::try_from(sent) {
        Ok(sent) => Ok(sent),
        Err(_) => match io::Error::last_os_error() {
            error if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted) => Ok(0),
            error => Err(error),
        },
    }
}
