//! The memory that stands in for a socket.
//!
//! Reads take what was fed; writes gather up to [`MOST_OUT`] and then wait until they were taken.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// Bytes that may wait to be taken before frames wait in the session.
pub const MOST_OUT: usize = 64 << 10;

#[derive(Debug, Default)]
struct Bytes {
    fed: Vec<u8>,
    read: usize,
    out: Vec<u8>,
    /// A write found no room since `out` was last taken.
    full: bool,
}

/// One end is the session's, the other its owner's.
#[derive(Clone, Debug, Default)]
pub struct Pipe(Arc<Mutex<Bytes>>);

impl Pipe {
    fn lock(&self) -> MutexGuard<'_, Bytes> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn feed(&self, input: &[u8]) {
        let mut bytes = self.lock();
        if bytes.read == bytes.fed.len() {
            bytes.fed.clear();
            bytes.read = 0;
            if bytes.fed.capacity() > 16 << 10 {
                bytes.fed = Vec::new();
            }
        }
        bytes.fed.extend_from_slice(input);
    }

    /// Moves what was written to the end of `out`; true when more waits for the room.
    pub fn take(&self, out: &mut Vec<u8>) -> bool {
        let mut bytes = self.lock();
        out.append(&mut bytes.out);
        if bytes.out.capacity() > 16 << 10 {
            bytes.out = Vec::new();
        }
        std::mem::take(&mut bytes.full)
    }
}

impl AsyncRead for Pipe {
    fn poll_read(self: Pin<&mut Self>, _: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let mut bytes = self.lock();
        let rest = bytes.fed.len() - bytes.read;
        if rest == 0 {
            return Poll::Pending;
        }
        let take = rest.min(buf.remaining());
        buf.put_slice(&bytes.fed[bytes.read..bytes.read + take]);
        bytes.read += take;
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Pipe {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, data: &[u8]) -> Poll<io::Result<usize>> {
        self.poll_write_vectored(cx, &[IoSlice::new(data)])
    }

    fn poll_write_vectored(self: Pin<&mut Self>, _: &mut Context<'_>, data: &[IoSlice<'_>]) -> Poll<io::Result<usize>> {
        let mut bytes = self.lock();
        if bytes.out.len() >= MOST_OUT {
            bytes.full = true;
            return Poll::Pending;
        }
        let before = bytes.out.len();
        for slice in data {
            bytes.out.extend_from_slice(slice);
        }
        Poll::Ready(Ok(bytes.out.len() - before))
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}
