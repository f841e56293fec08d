//! WebSocket (RFC 6455) text messages of at most 125 bytes: load, and an upstream that sends them back.
//!
//! Frames are whole messages with the short length form; anything else is counted as wrong, or ends the connection.

use crate::outcome::{Failure, Outcome};
use crate::Result;
use base64::Engine;
use std::time::{Duration, Instant};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

const TEXT: u8 = 0x81;
const MASKED: u8 = 0x80;
const MASK: [u8; 4] = [0x37, 0xfa, 0x21, 0x3d];
const ANSWER: &str = "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n";
const UPGRADE: &[u8] = b"GET /api-0/messages HTTP/1.1\r\nHost: svc-00.bench.test\r\nUpgrade: websocket\r\n\
    Connection: Upgrade\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";

/// `connections` clients, each with one message of `size` bytes under way, for `seconds` after all are connected.
pub async fn load(port: u16, connections: usize, seconds: f64, size: usize) -> Result<()> {
    if size > 125 {
        return Err("messages are of at most 125 bytes".into());
    }
    let refused = Outcome::new(0.0);
    let mut opened = Vec::new();
    for _ in 0..connections {
        match open(port).await {
            Ok(stream) => opened.push(stream),
            Err(why) => refused.failed(why),
        }
    }
    let outcome = Outcome::new(seconds);
    for _ in opened.len()..connections {
        outcome.failed(Failure::Connect);
    }
    let running: Vec<_> = opened
        .into_iter()
        .map(|mut stream| {
            let outcome = outcome.clone();
            tokio::task::spawn_local(async move {
                let until = tokio::time::Instant::from_std(outcome.until() + Duration::from_secs(5));
                let talk = talk(&mut stream, size, &outcome);
                let why = tokio::time::timeout_at(until, talk).await.unwrap_or(Err(Failure::Read));
                if let Err(why) = why {
                    outcome.failed(why);
                }
            })
        })
        .collect();
    for task in running {
        task.await?;
    }
    outcome.tell();
    Ok(())
}

async fn open(port: u16) -> std::result::Result<TcpStream, Failure> {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).await.map_err(|_| Failure::Connect)?;
    stream.set_nodelay(true).map_err(|_| Failure::Connect)?;
    stream.write_all(UPGRADE).await.map_err(|_| Failure::Connect)?;
    let head = tokio::time::timeout(Duration::from_secs(10), head(&mut stream)).await.map_err(|_| Failure::Connect)?;
    match head {
        Some(head) if head.starts_with("HTTP/1.1 101") => Ok(stream),
        _ => Err(Failure::Status),
    }
}

/// A message head, read to its end and not beyond: the other side says nothing more before it is answered.
async fn head(stream: &mut TcpStream) -> Option<String> {
    let mut head = Vec::with_capacity(1024);
    while !head.ends_with(b"\r\n\r\n") {
        if stream.read_buf(&mut head).await.ok()? == 0 || head.len() > 16384 {
            return None;
        }
    }
    String::from_utf8(head).ok()
}

async fn talk(stream: &mut TcpStream, size: usize, outcome: &Outcome) -> std::result::Result<(), Failure> {
    let text = vec![b'm'; size];
    let mut sent = vec![TEXT, MASKED | size as u8];
    sent.extend(MASK);
    sent.extend(text.iter().enumerate().map(|(at, byte)| byte ^ MASK[at % 4]));
    let mut expected = vec![TEXT, size as u8];
    expected.extend(text);
    let mut found = vec![0; expected.len()];
    while !outcome.is_over() {
        let since = Instant::now();
        stream.write_all(&sent).await.map_err(|_| Failure::Read)?;
        stream.read_exact(&mut found).await.map_err(|_| Failure::Read)?;
        if found != expected {
            return Err(Failure::Status);
        }
        outcome.answered(since);
    }
    Ok(())
}

/// Serves until it is killed.
pub async fn echo(port: u16) -> Result<()> {
    let listener = TcpListener::bind(("127.0.0.1", port)).await?;
    loop {
        let (stream, _) = listener.accept().await?;
        tokio::task::spawn_local(async move {
            // However it ends, there is nobody to tell.
            let _ = repeat(stream).await;
        });
    }
}

async fn repeat(mut stream: TcpStream) -> std::io::Result<()> {
    stream.set_nodelay(true)?;
    let Some(asked) = head(&mut stream).await else { return Ok(()) };
    let key = asked.lines().find_map(|line| {
        let (name, value) = line.split_once(':')?;
        name.eq_ignore_ascii_case("sec-websocket-key").then(|| value.trim())
    });
    let Some(key) = key else {
        return stream.write_all(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\nConnection: close\r\n\r\n").await;
    };
    stream.write_all(format!("{ANSWER}Sec-WebSocket-Accept: {}\r\n\r\n", accept(key)).as_bytes()).await?;
    let (mut input, mut output) = (Vec::with_capacity(4096), Vec::with_capacity(4096));
    while stream.read_buf(&mut input).await? > 0 {
        let mut at = 0;
        while let [first, second, rest @ ..] = &input[at..] {
            let size = usize::from(second & !MASKED);
            if second & MASKED == 0 || size > 125 {
                return Ok(());
            }
            let [a, b, c, d, rest @ ..] = rest else { break };
            let Some(text) = rest.get(..size) else { break };
            let mask = [a, b, c, d];
            output.extend([*first, size as u8]);
            output.extend(text.iter().enumerate().map(|(at, byte)| byte ^ mask[at % 4]));
            at += 6 + size;
        }
        input.drain(..at);
        stream.write_all(&output).await?;
        output.clear();
    }
    Ok(())
}

/// RFC 6455 §4.2.2.
fn accept(key: &str) -> String {
    let text = format!("{key}258EAFA5-E914-47DA-95CA-C5AB0DC85B11");
    let digest = ring::digest::digest(&ring::digest::SHA1_FOR_LEGACY_USE_ONLY, text.as_bytes());
    base64::engine::general_purpose::STANDARD.encode(digest)
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_key_of_the_rfc_is_accepted_as_there() {
        assert_eq!(super::accept("dGhlIHNhbXBsZSBub25jZQ=="), "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
    }
}
