//! Streamed calls of models: many at once, each delta's arrival noted.
//!
//! A delta is an event with text in it; it arrived when the read that completed its line returned. A stream counts when
//! it has as many deltas as it should and then `[DONE]`. A stall is a gap of more than 100 ms between two deltas.

use crate::outcome::{at, Failure, Outcome};
use crate::wire::{find, Wire};
use crate::Result;
use std::cell::RefCell;
use std::rc::Rc;
use std::time::{Duration, Instant};

const STALL: Duration = Duration::from_millis(100);
/// Longest wait for a stream beyond its own length.
const PATIENCE: Duration = Duration::from_secs(30);

/// What is asked of the streams.
#[derive(Clone, Copy)]
pub struct Pace {
    pub deltas: usize,
    pub millis: u64,
}

/// Times in µs.
#[derive(Default)]
struct Arrivals {
    first: Vec<u32>,
    gaps: Vec<u32>,
    deltas: u64,
    stalls: u64,
}

/// `connections` clients, begun evenly over a stream's length, each with one stream after the other for `seconds` from
/// then on. Streams that have begun are read to their end.
pub async fn load(port: u16, connections: usize, seconds: f64, pace: Pace, request: Vec<u8>) -> Result<()> {
    let length = Duration::from_millis(pace.millis * pace.deltas as u64);
    let outcome = Outcome::new(seconds + length.as_secs_f64());
    let arrivals: Rc<RefCell<Arrivals>> = Rc::default();
    let request = Rc::new(request);
    let running: Vec<_> = (0..connections)
        .map(|number| {
            let (request, outcome, arrivals) = (request.clone(), outcome.clone(), arrivals.clone());
            tokio::task::spawn_local(async move {
                tokio::time::sleep(length.mul_f64(number as f64 / connections as f64)).await;
                client(port, length + PATIENCE, pace.deltas, &request, &outcome, &arrivals).await;
            })
        })
        .collect();
    for task in running {
        task.await?;
    }
    let mut seen = arrivals.borrow_mut();
    seen.first.sort_unstable();
    seen.gaps.sort_unstable();
    outcome.tell_with(&format!(
        "\"deltas\":{},\"stalls\":{},\"ttft_p50\":{},\"ttft_p99\":{},\"ttft_max\":{},\"gap_p99\":{},\"gap_max\":{}",
        seen.deltas,
        seen.stalls,
        at(&seen.first, 0.5),
        at(&seen.first, 0.99),
        at(&seen.first, 1.0),
        at(&seen.gaps, 0.99),
        at(&seen.gaps, 1.0)
    ));
    Ok(())
}

async fn client(
    port: u16,
    patience: Duration,
    deltas: usize,
    request: &[u8],
    outcome: &Outcome,
    arrivals: &RefCell<Arrivals>,
) {
    let mut wire = None;
    while !outcome.is_over() {
        if wire.is_none() {
            wire = Wire::connect(port).await;
        }
        let Some(open) = wire.as_mut() else {
            outcome.failed(Failure::Connect);
            tokio::time::sleep(Duration::from_millis(50)).await;
            continue;
        };
        let since = Instant::now();
        let stream = stream(open, deltas, request, arrivals);
        match tokio::time::timeout(patience, stream).await.unwrap_or(Err(Failure::Read)) {
            Ok(keeps) => {
                outcome.answered(since);
                if !keeps {
                    wire = None;
                }
            }
            Err(why) => {
                outcome.failed(why);
                wire = None;
            }
        }
    }
}

/// One stream to its end; whether the connection may be used again.
async fn stream(
    wire: &mut Wire,
    deltas: usize,
    request: &[u8],
    arrivals: &RefCell<Arrivals>,
) -> std::result::Result<bool, Failure> {
    let begun = Instant::now();
    wire.send(request).await.ok_or(Failure::Read)?;
    let (head, mut left) = wire.head().await.ok_or(Failure::Read)?;
    let (mut text, mut last, mut count, mut done) = (Vec::new(), None, 0, false);
    loop {
        let whole = wire.piece(&mut left, &mut text).await.ok_or(Failure::Read)?;
        let now = Instant::now();
        let mut used = 0;
        for line in text.split_inclusive(|byte| *byte == b'\n').take_while(|line| line.ends_with(b"\n")) {
            used += line.len();
            done |= line.starts_with(b"data: [DONE]");
            if !is_delta(line) {
                continue;
            }
            count += 1;
            let mut seen = arrivals.borrow_mut();
            seen.deltas += 1;
            match last {
                None => seen.first.push(micros(now - begun)),
                Some(before) => {
                    seen.gaps.push(micros(now - before));
                    seen.stalls += u64::from(now - before > STALL);
                }
            }
            last = Some(now);
        }
        text.drain(..used);
        if whole {
            break;
        }
    }
    if !head.starts_with("http/1.1 200") || count != deltas || !done {
        return Err(Failure::Status);
    }
    Ok(!head.contains("\r\nconnection: close"))
}

/// An event with text: `"content"` and a string that is not empty, with or without spaces around the colon.
fn is_delta(line: &[u8]) -> bool {
    const NAME: &[u8] = b"\"content\"";
    let Some(found) = find(line, NAME) else { return false };
    let mut value = line.iter().skip(found + NAME.len()).filter(|byte| **byte != b' ');
    line.starts_with(b"data:")
        && value.next() == Some(&b':')
        && value.next() == Some(&b'"')
        && !matches!(value.next(), None | Some(b'"'))
}

fn micros(time: Duration) -> u32 {
    time.as_micros().min(u128::from(u32::MAX)) as u32
}

#[cfg(test)]
mod tests {
    use super::is_delta;

    #[test]
    fn deltas_are_events_with_text() {
        assert!(is_delta(b"data: {\"delta\":{\"content\":\"a\"}}\n"));
        assert!(is_delta(b"data: {\"delta\": {\"content\": \"a\"}}\n"));
        assert!(!is_delta(b"data: {\"delta\":{\"content\":\"\"}}\n"));
        assert!(!is_delta(b"data: {\"delta\":{\"content\":null}}\n"));
        assert!(!is_delta(b"data: {\"delta\":{}}\n"));
        assert!(!is_delta(b": \"content\":\"a\"\n"));
    }
}
