//! `bench-tools COMMAND …`: load and upstreams for `python -m bench.proxy` and `python -m bench.ai`, each one thread.
//!
//! - `handshake PORT NAME CONNECTIONS SECONDS`: full TLS 1.3 handshakes, one GET on each connection.
//! - `hold PORT NAME COUNT plain|tls`: connections that made one GET and then wait until standard input ends.
//! - `messages PORT CONNECTIONS SECONDS SIZE`: WebSocket text messages, each sent when the one before came back.
//! - `echo PORT`: a WebSocket upstream that sends every message back.
//! - `calls PORT`: a gRPC upstream (h2c) that answers every unary call with its own message.
//! - `models PORT COUNT MILLIS FILE`: a provider of OpenAI's dialect; streams of COUNT deltas, whole answers from FILE.
//! - `chats PORT CONNECTIONS SECONDS EXPECTED FILE…`: whole calls, requests from files, EXPECTED in every answer.
//! - `streams PORT CONNECTIONS SECONDS COUNT MILLIS FILE`: streamed calls, deltas counted and timed.
//!
//! Load commands end with one line of JSON as `bench.proxy.load` reads it: counts, seconds, and times in µs.
//! An argument that is wrong or a listener that cannot be had ends the program; what a gateway does wrong is counted.

mod calls;
mod chats;
mod handshake;
mod messages;
mod models;
mod outcome;
mod streams;
mod tls;
mod wire;

use std::error::Error;
use std::str::FromStr;

type Result<T> = std::result::Result<T, Box<dyn Error>>;

fn main() -> Result<()> {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let local = tokio::task::LocalSet::new();
    local.block_on(&runtime, async {
        match words.first().map(String::as_str) {
            Some("handshake") => {
                handshake::load(word(&words, 1)?, &text(&words, 2)?, word(&words, 3)?, word(&words, 4)?).await
            }
            Some("hold") => {
                handshake::hold(word(&words, 1)?, &text(&words, 2)?, word(&words, 3)?, text(&words, 4)? == "tls").await
            }
            Some("messages") => {
                messages::load(word(&words, 1)?, word(&words, 2)?, word(&words, 3)?, word(&words, 4)?).await
            }
            Some("echo") => messages::echo(word(&words, 1)?).await,
            Some("calls") => calls::serve(word(&words, 1)?).await,
            Some("models") => {
                models::serve(word(&words, 1)?, word(&words, 2)?, word(&words, 3)?, &file(&words, 4)?).await
            }
            Some("chats") => {
                let requests = (5..words.len()).map(|index| file(&words, index)).collect::<Result<_>>()?;
                chats::load(word(&words, 1)?, word(&words, 2)?, word(&words, 3)?, &text(&words, 4)?, requests).await
            }
            Some("streams") => {
                let pace = streams::Pace { deltas: word(&words, 4)?, millis: word(&words, 5)? };
                streams::load(word(&words, 1)?, word(&words, 2)?, word(&words, 3)?, pace, file(&words, 6)?).await
            }
            _ => Err("expected one of: handshake, hold, messages, echo, calls, models, chats, streams".into()),
        }
    })
}

fn text(words: &[String], index: usize) -> Result<String> {
    words.get(index).cloned().ok_or_else(|| format!("argument {index} is missing").into())
}

fn file(words: &[String], index: usize) -> Result<Vec<u8>> {
    let path = text(words, index)?;
    std::fs::read(&path).map_err(|why| format!("argument {index}: {path}: {why}").into())
}

fn word<T: FromStr>(words: &[String], index: usize) -> Result<T> {
    let found = text(words, index)?;
    found.parse().map_err(|_| format!("argument {index}: {found:?} is not understood").into())
}
