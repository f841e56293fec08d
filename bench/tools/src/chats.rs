//! Whole calls of models: requests from files, sent in turn on kept connections, every answer read and compared.

use crate::outcome::{Failure, Outcome};
use crate::wire::{find, Wire};
use crate::Result;
use std::rc::Rc;
use std::time::{Duration, Instant};

/// Longest wait for one answer.
const PATIENCE: Duration = Duration::from_secs(30);

/// `connections` clients with one call each under way for `seconds`. Answers must be 200 and have `expected` in them.
pub async fn load(port: u16, connections: usize, seconds: f64, expected: &str, requests: Vec<Vec<u8>>) -> Result<()> {
    if requests.is_empty() {
        return Err("no requests are given".into());
    }
    let (requests, expected) = (Rc::new(requests), Rc::new(expected.as_bytes().to_vec()));
    let outcome = Outcome::new(seconds);
    let running: Vec<_> = (0..connections)
        .map(|number| {
            let (requests, expected, outcome) = (requests.clone(), expected.clone(), outcome.clone());
            tokio::task::spawn_local(async move { client(port, number, &requests, &expected, &outcome).await })
        })
        .collect();
    for task in running {
        task.await?;
    }
    outcome.tell();
    Ok(())
}

async fn client(port: u16, number: usize, requests: &[Vec<u8>], expected: &[u8], outcome: &Outcome) {
    let mut wire = None;
    let mut body = Vec::new();
    for request in requests.iter().cycle().skip(number % requests.len()) {
        if outcome.is_over() {
            return;
        }
        if wire.is_none() {
            wire = Wire::connect(port).await;
        }
        let Some(open) = wire.as_mut() else {
            outcome.failed(Failure::Connect);
            tokio::time::sleep(Duration::from_millis(50)).await;
            continue;
        };
        let since = Instant::now();
        body.clear();
        match tokio::time::timeout(PATIENCE, call(open, request, &mut body)).await.ok().flatten() {
            Some((status, keeps)) => {
                if status && find(&body, expected).is_some() {
                    outcome.answered(since);
                } else {
                    outcome.failed(Failure::Status);
                }
                if !keeps {
                    wire = None;
                }
            }
            None => {
                outcome.failed(Failure::Read);
                wire = None;
            }
        }
    }
}

/// Whether it was a 200, and whether the connection may be used again.
async fn call(wire: &mut Wire, request: &[u8], body: &mut Vec<u8>) -> Option<(bool, bool)> {
    wire.send(request).await?;
    let (head, left) = wire.head().await?;
    wire.body(left, body).await?;
    Some((head.starts_with("http/1.1 200"), !head.contains("\r\nconnection: close")))
}
