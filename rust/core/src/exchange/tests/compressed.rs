//! Answers compressed on their way out.

use super::world::World;
use crate::coding::{Coding, Decoder};
use crate::exchange::ConnId;

fn world(more: &str) -> World {
    let more = format!("\n[policies.zip.compress]\nmin_size = \"10B\"\n{more}");
    World::with("service = \"app\"\n", "service = \"app\"\npolicies = [\"zip\"]\n", &more)
}

const ASK: &str = "GET /a HTTP/1.1\r\nhost: h\r\naccept-encoding: gzip\r\n\r\n";

/// A head if one is due, and what the chunks behind it carry.
fn read(world: &mut World, client: ConnId) -> (String, Vec<u8>) {
    let got = world.take_bytes(client);
    let due = got.starts_with(b"HTTP/");
    let end = got.windows(4).position(|w| w == b"\r\n\r\n").filter(|_| due).map_or(0, |at| at + 4);
    let (mut rest, mut body) = (&got[end..], Vec::new());
    while let Some(at) = rest.windows(2).position(|w| w == b"\r\n") {
        let size = usize::from_str_radix(std::str::from_utf8(&rest[..at]).expect("a size"), 16).expect("a size");
        body.extend_from_slice(&rest[at + 2..at + 2 + size]);
        rest = &rest[at + 4 + size..];
    }
    (String::from_utf8_lossy(&got[..end]).into_owned(), body)
}

fn text(body: &[u8]) -> String {
    let mut out = Vec::new();
    Decoder::new(&[Coding::Gzip]).expect("a decoder").write(body, &mut out, 1 << 20).expect("sound");
    String::from_utf8(out).expect("text")
}

#[test]
fn a_whole_answer_is_compressed_and_said_to_be() {
    let mut world = world("");
    let client = world.client();
    world.send(client, ASK);
    let up = world.connected();
    let long = "all the same ".repeat(1000);
    let head = "HTTP/1.1 200 OK\r\ncontent-type: text/plain\r\netag: \"1\"\r\ncontent-length";
    world.send(up, format!("{head}: {}\r\n\r\n{long}", long.len()));
    let (head, body) = read(&mut world, client);
    assert!(head.contains("content-encoding: gzip\r\n") && head.contains("etag: W/\"1\""), "{head}");
    assert!(head.contains("transfer-encoding: chunked") && !head.contains("content-length"), "{head}");
    assert!(body.len() < 1000);
    assert_eq!(text(&body), long);
    world.assert_at_rest();
    // To HEAD there is nothing to compress.
    world.send(client, ASK.replace("GET", "HEAD"));
    world.send(up, "HTTP/1.1 200 OK\r\ncontent-type: text/plain\r\ncontent-length: 9000\r\n\r\n");
    assert!(world.take(client).ends_with("\r\n\r\n"));
    world.assert_at_rest();
}

#[test]
fn what_has_come_of_a_stream_is_seen_at_once() {
    let mut world = world("event_streams = true\n");
    let client = world.client();
    world.send(client, ASK);
    let up = world.connected();
    world.send(up, "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n");
    let mut all = Vec::new();
    for n in 0..5 {
        world.send(up, format!("b\r\ndata: {n:03}\n\n\r\n"));
        all.extend(read(&mut world, client).1);
        assert!(text(&all).ends_with(&format!("data: {n:03}\n\n")), "{n}");
    }
    world.send(up, "0\r\n\r\n");
    assert!(world.take(client).ends_with("0\r\n\r\n"));
    world.assert_at_rest();
}

#[test]
fn a_client_that_leaves_takes_its_coder_along() {
    let mut world = world("");
    let client = world.client();
    world.send(client, ASK);
    let up = world.connected();
    world.send(up, "HTTP/1.1 200 OK\r\ncontent-type: text/plain\r\ncontent-length: 5000\r\n\r\nabc");
    world.reset(client);
    let client = world.client();
    world.send(client, "GET /b HTTP/1.1\r\nhost: h\r\n\r\n");
    let up = world.connected();
    world.send(up, "HTTP/1.1 200 OK\r\ncontent-type: text/plain\r\ncontent-length: 11\r\n\r\nall is well");
    assert!(world.take(client).ends_with("all is well"));
    world.assert_at_rest();
}
