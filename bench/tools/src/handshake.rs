//! New connections: as many full handshakes as go, or many connections that are held.

use crate::outcome::{Failure, Outcome};
use crate::{tls, Result};
use std::time::{Duration, Instant};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::rustls::pki_types::ServerName;
use tokio_rustls::TlsConnector;

/// Longest wait for one connection and its answer.
const PATIENCE: Duration = Duration::from_secs(10);
/// Handshakes under way at once while connections to hold are made.
const AT_ONCE: usize = 16;

/// Connect, handshake, one GET, close; `connections` of these at the same time for `seconds`.
pub async fn load(port: u16, name: &str, connections: usize, seconds: f64) -> Result<()> {
    let (connector, request) = (tls::connector()?, request(name));
    let server = ServerName::try_from(name.to_owned())?;
    let outcome = Outcome::new(seconds);
    let running: Vec<_> = (0..connections)
        .map(|_| {
            let (connector, request, server, outcome) =
                (connector.clone(), request.clone(), server.clone(), outcome.clone());
            tokio::task::spawn_local(async move {
                while !outcome.is_over() {
                    let since = Instant::now();
                    let once = once(&connector, port, server.clone(), &request);
                    match tokio::time::timeout(PATIENCE, once).await.unwrap_or(Err(Failure::Read)) {
                        Ok(()) => outcome.answered(since),
                        Err(why) => outcome.failed(why),
                    }
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

async fn once(
    connector: &TlsConnector,
    port: u16,
    server: ServerName<'static>,
    request: &[u8],
) -> std::result::Result<(), Failure> {
    let tcp = connect(port).await?;
    let mut stream = connector.connect(server, tcp).await.map_err(|_| Failure::Connect)?;
    ask(&mut stream, request).await?;
    // The answer is whole; whether the farewell arrives is not what is measured.
    let _ = stream.shutdown().await;
    Ok(())
}

async fn connect(port: u16) -> std::result::Result<TcpStream, Failure> {
    let tcp = TcpStream::connect(("127.0.0.1", port)).await.map_err(|_| Failure::Connect)?;
    tcp.set_nodelay(true).map_err(|_| Failure::Connect)?;
    Ok(tcp)
}

fn request(name: &str) -> Vec<u8> {
    format!("GET /api-0/small HTTP/1.1\r\nHost: {name}\r\nUser-Agent: bench\r\nAccept: */*\r\n\r\n").into_bytes()
}

/// One request and its whole answer, which must be a 200 with a Content-Length.
async fn ask<S: AsyncRead + AsyncWrite + Unpin>(stream: &mut S, request: &[u8]) -> std::result::Result<(), Failure> {
    stream.write_all(request).await.map_err(|_| Failure::Read)?;
    stream.flush().await.map_err(|_| Failure::Read)?;
    let mut answer = Vec::with_capacity(4096);
    let end = loop {
        if stream.read_buf(&mut answer).await.map_err(|_| Failure::Read)? == 0 {
            return Err(Failure::Read);
        }
        if let Some(at) = answer.windows(4).position(|four| four == b"\r\n\r\n") {
            break at + 4;
        }
    };
    let head = String::from_utf8_lossy(&answer[..end]).to_ascii_lowercase();
    let length = head
        .lines()
        .find_map(|line| line.strip_prefix("content-length:"))
        .and_then(|value| value.trim().parse::<usize>().ok())
        .ok_or(Failure::Status)?;
    while answer.len() < end + length {
        if stream.read_buf(&mut answer).await.map_err(|_| Failure::Read)? == 0 {
            return Err(Failure::Read);
        }
    }
    if head.starts_with("http/1.1 200") && answer.len() == end + length {
        Ok(())
    } else {
        Err(Failure::Status)
    }
}

trait Held: AsyncRead + AsyncWrite + Unpin {}
impl<S: AsyncRead + AsyncWrite + Unpin> Held for S {}

/// Makes `count` connections, prints how many stand and how many failed, and keeps them until standard input ends.
pub async fn hold(port: u16, name: &str, count: usize, secure: bool) -> Result<()> {
    let (connector, request) = (tls::connector()?, request(name));
    let server = ServerName::try_from(name.to_owned())?;
    let mut makers = Vec::new();
    for number in 0..AT_ONCE.min(count) {
        let share = count / AT_ONCE + usize::from(number < count % AT_ONCE);
        let (connector, request, server) = (connector.clone(), request.clone(), server.clone());
        makers.push(tokio::task::spawn_local(async move {
            let mut held: Vec<Box<dyn Held>> = Vec::with_capacity(share);
            for _ in 0..share {
                let made = async {
                    let tcp = connect(port).await?;
                    let mut stream: Box<dyn Held> = if secure {
                        let made = connector.connect(server.clone(), tcp).await;
                        Box::new(made.map_err(|_| Failure::Connect)?)
                    } else {
                        Box::new(tcp)
                    };
                    ask(&mut stream, &request).await?;
                    Ok::<_, Failure>(stream)
                };
                if let Ok(Ok(stream)) = tokio::time::timeout(PATIENCE, made).await {
                    held.push(stream);
                }
            }
            held
        }));
    }
    let mut all = Vec::with_capacity(count);
    for maker in makers {
        all.extend(maker.await?);
    }
    println!("{{\"held\":{},\"failed\":{}}}", all.len(), count - all.len());
    std::io::copy(&mut std::io::stdin(), &mut std::io::sink())?;
    Ok(())
}
