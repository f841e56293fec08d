//! HTTP/1.1 messages of either side: a head, and a body by Content-Length or in chunks.
//!
//! Anything else – no length, a broken chunk, an end before the end – is `None`: for load a failed call, for an upstream
//! the end of the connection.

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

const LONGEST_HEAD: usize = 64 << 10;
const LONGEST_LINE: usize = 1024;

/// One connection, and what has come over it and is not used yet.
pub struct Wire {
    stream: TcpStream,
    input: Vec<u8>,
    at: usize,
}

/// What is still to come of a body.
pub enum Left {
    Bytes(usize),
    Chunk(Chunk),
}

/// Where in a chunked body we are.
pub enum Chunk {
    Size,
    Data(usize),
    End,
    Trailers,
}

impl Wire {
    pub async fn connect(port: u16) -> Option<Wire> {
        Wire::over(TcpStream::connect(("127.0.0.1", port)).await.ok()?)
    }

    pub fn over(stream: TcpStream) -> Option<Wire> {
        stream.set_nodelay(true).ok()?;
        Some(Wire { stream, input: Vec::with_capacity(16 << 10), at: 0 })
    }

    pub async fn send(&mut self, bytes: &[u8]) -> Option<()> {
        self.stream.write_all(bytes).await.ok()
    }

    /// The next message's head, in lower case but for its values' meaning to us: none of those we read has any.
    pub async fn head(&mut self) -> Option<(String, Left)> {
        let end = loop {
            let waiting = self.input.get(self.at..)?;
            if let Some(found) = find(waiting, b"\r\n\r\n") {
                break self.at + found + 4;
            }
            if waiting.len() > LONGEST_HEAD {
                return None;
            }
            self.more().await?;
        };
        let head = String::from_utf8_lossy(self.input.get(self.at..end)?).to_ascii_lowercase();
        self.at = end;
        let field = |name: &str| {
            head.lines()
                .find_map(|line| line.split_once(':').filter(|(n, _)| *n == name).map(|(_, value)| value.trim()))
        };
        let left = match (field("transfer-encoding"), field("content-length")) {
            (Some("chunked"), _) => Left::Chunk(Chunk::Size),
            (None, Some(length)) => Left::Bytes(length.parse().ok()?),
            _ => return None,
        };
        Some((head, left))
    }

    /// Appends to `body` what has come of it, waiting for the first byte; true: the body is whole.
    pub async fn piece(&mut self, left: &mut Left, body: &mut Vec<u8>) -> Option<bool> {
        loop {
            let before = body.len();
            let whole = match left {
                Left::Bytes(count) => {
                    *count -= self.take(*count, body);
                    *count == 0
                }
                Left::Chunk(chunk) => self.chunks(chunk, body)?,
            };
            if whole || body.len() > before {
                return Some(whole);
            }
            self.more().await?;
        }
    }

    /// The whole rest of a body.
    pub async fn body(&mut self, mut left: Left, body: &mut Vec<u8>) -> Option<()> {
        while !self.piece(&mut left, body).await? {}
        Some(())
    }

    fn chunks(&mut self, chunk: &mut Chunk, body: &mut Vec<u8>) -> Option<bool> {
        loop {
            match chunk {
                Chunk::Size => {
                    let Some(line) = self.line()? else { return Some(false) };
                    let size = line.split(|byte| *byte == b';').next()?;
                    match usize::from_str_radix(std::str::from_utf8(size).ok()?.trim(), 16).ok()? {
                        0 => *chunk = Chunk::Trailers,
                        size => *chunk = Chunk::Data(size),
                    }
                }
                Chunk::Data(count) => {
                    *count -= self.take(*count, body);
                    if *count > 0 {
                        return Some(false);
                    }
                    *chunk = Chunk::End;
                }
                Chunk::End => {
                    match self.line()? {
                        None => return Some(false),
                        Some([]) => *chunk = Chunk::Size,
                        Some(_) => return None,
                    };
                }
                Chunk::Trailers => match self.line()? {
                    None => return Some(false),
                    Some([]) => return Some(true),
                    Some(_) => {}
                },
            }
        }
    }

    /// A line without its end, if it is whole.
    fn line(&mut self) -> Option<Option<&[u8]>> {
        let waiting = self.input.get(self.at..)?;
        let Some(found) = find(waiting, b"\r\n") else {
            return (waiting.len() <= LONGEST_LINE).then_some(None);
        };
        self.at += found + 2;
        self.input.get(self.at - found - 2..self.at - 2).map(Some)
    }

    fn take(&mut self, most: usize, body: &mut Vec<u8>) -> usize {
        let count = most.min(self.input.len() - self.at);
        body.extend_from_slice(&self.input[self.at..self.at + count]);
        self.at += count;
        count
    }

    async fn more(&mut self) -> Option<()> {
        self.input.drain(..self.at);
        self.at = 0;
        (self.stream.read_buf(&mut self.input).await.ok()? > 0).then_some(())
    }
}

pub fn find(text: &[u8], wanted: &[u8]) -> Option<usize> {
    text.windows(wanted.len()).position(|part| part == wanted)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    /// What is read when `sent` comes byte by byte.
    fn run(sent: &'static [u8]) -> Option<Vec<u8>> {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let talk = std::thread::spawn(move || {
            let mut stream = listener.accept().unwrap().0;
            stream.set_nodelay(true).unwrap();
            for byte in sent {
                stream.write_all(&[*byte]).unwrap();
            }
        });
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let read = runtime.block_on(async {
            let mut wire = Wire::connect(port).await?;
            let (_, left) = wire.head().await?;
            let mut body = Vec::new();
            wire.body(left, &mut body).await?;
            // Keeps the connection open until all is sent.
            Some((wire, body))
        });
        talk.join().unwrap();
        read.map(|(_, body)| body)
    }

    #[test]
    fn bodies_are_read_to_their_end() {
        assert_eq!(run(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello").unwrap(), b"hello");
        let chunked =
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nhel\r\n2;x=y\r\nlo\r\n0\r\na: b\r\n\r\n";
        assert_eq!(run(chunked).unwrap(), b"hello");
    }

    #[test]
    fn what_is_cut_or_broken_is_none() {
        assert_eq!(run(b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nhello"), None);
        assert_eq!(run(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nhello"), None);
        assert_eq!(run(b"HTTP/1.1 200 OK\r\n\r\nhello"), None);
    }
}
