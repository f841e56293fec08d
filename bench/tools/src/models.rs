//! A provider in OpenAI's dialect: whole answers, and streams of deltas at a pace. It knows no keys and reads of a request
//! only whether it wants a stream.
//!
//! A stream is `COUNT` deltas of some 300 bytes, the first at once and then one every `MILLIS` by the clock, however long
//! a write took; its finish reason, usage and `[DONE]` follow the last one. Every event is a chunk and a write of its own.

use crate::wire::{find, Wire};
use crate::Result;
use std::fmt::Write;
use std::rc::Rc;
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::time::Instant;

const STREAM: &str = "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n";
const WORDS: [&str; 16] = [
    "the ", "river ", "was ", "slow ", "and ", "wide ", "when ", "they ", "came ", "down ", "from ", "green ",
    "hills ", "after ", "a ", "night. ",
];

struct Answers {
    whole: Vec<u8>,
    /// Bytes of each delta, framed.
    deltas: Vec<Vec<u8>>,
    end: Vec<u8>,
    pace: Duration,
}

/// Serves until it is killed. `whole` is the JSON of whole answers.
pub async fn serve(port: u16, count: usize, millis: u64, whole: &[u8]) -> Result<()> {
    let mut answer =
        format!("HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n", whole.len())
            .into_bytes();
    answer.extend_from_slice(whole);
    let mut end = event("\"choices\":[{\"index\":0,\"delta\":{},\"logprobs\":null,\"finish_reason\":\"stop\"}]");
    end.extend(event(&format!(
        "\"choices\":[],\"usage\":{{\"prompt_tokens\":400,\"completion_tokens\":{count},\"total_tokens\":{}}}",
        400 + count
    )));
    end.extend(framed("data: [DONE]\n\n"));
    end.extend_from_slice(b"0\r\n\r\n");
    let answers = Rc::new(Answers {
        whole: answer,
        deltas: (0..count).map(delta).collect(),
        end,
        pace: Duration::from_millis(millis),
    });
    let listener = TcpListener::bind(("127.0.0.1", port)).await?;
    loop {
        let (stream, _) = listener.accept().await?;
        let answers = answers.clone();
        tokio::task::spawn_local(async move {
            // However it ends, there is nobody to tell.
            if let Some(mut wire) = Wire::over(stream) {
                while one(&mut wire, &answers).await.is_some() {}
            }
        });
    }
}

async fn one(wire: &mut Wire, answers: &Answers) -> Option<()> {
    let (_, left) = wire.head().await?;
    let mut body = Vec::new();
    wire.body(left, &mut body).await?;
    if find(&body, b"\"stream\":true").or_else(|| find(&body, b"\"stream\": true")).is_none() {
        return wire.send(&answers.whole).await;
    }
    wire.send(STREAM.as_bytes()).await?;
    let mut due = Instant::now();
    for delta in &answers.deltas {
        tokio::time::sleep_until(due).await;
        wire.send(delta).await?;
        due += answers.pace;
    }
    wire.send(&answers.end).await
}

fn delta(number: usize) -> Vec<u8> {
    let word = WORDS[number % WORDS.len()];
    event(&format!(
        "\"choices\":[{{\"index\":0,\"delta\":{{\"role\":\"assistant\",\"content\":\"{word}\"}},\"logprobs\":null,\
         \"finish_reason\":null}}],\"usage\":null"
    ))
}

fn event(members: &str) -> Vec<u8> {
    framed(&format!(
        "data: {{\"id\":\"chatcmpl-CkQm1vT0bLJq2w8s6YxZr4nDfHu9a\",\"object\":\"chat.completion.chunk\",\
         \"created\":1795644596,\"model\":\"gpt-4.1-mini-2025-04-14\",\"service_tier\":\"default\",\
         \"system_fingerprint\":\"fp_3502f4eb73\",{members}}}\n\n"
    ))
}

fn framed(text: &str) -> Vec<u8> {
    let mut chunk = String::new();
    // Writing to a string cannot fail.
    let _ = write!(chunk, "{:x}\r\n{text}\r\n", text.len());
    chunk.into_bytes()
}
