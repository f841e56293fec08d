//! Bodies of the fuzz targets: each takes arbitrary bytes and panics when a promise is broken.
//!
//! Rules:
//! 1. A target is a plain function of its input: no clock, no randomness, nothing kept between calls. How input is
//!    cut into reads follows from the bytes themselves ([`split`]), so that a corpus file is plain protocol text.
//! 2. What is held against the parsers is written anew in [`reference`], naively and over the whole input.
//! 3. `rust/core/tests/fuzz_corpus.rs` includes this file and replays the corpus in the ordinary tests.

mod codings;
mod exchange;
mod llm;
mod reference;
mod split;
mod streams;
mod texts;
mod tls;
mod websocket;
mod world;

/// A target's name and what it does with its input.
pub type Target = (&'static str, fn(&[u8]));

/// Every target; `fuzz_targets/NAME.rs` runs it, `corpus/NAME/` holds its seeds.
pub const TARGETS: &[Target] = &[
    ("chunked", streams::chunked),
    ("client_hello", tls::client_hello),
    ("coding_decode", codings::coding_decode),
    ("config_toml", texts::config_toml),
    ("exchange_h1", exchange::exchange_h1),
    ("grpc_web", codings::grpc_web),
    ("h2_frames", exchange::h2_frames),
    ("json_reader", texts::json_reader),
    ("llm_request", llm::llm_request),
    ("llm_stream", llm::llm_stream),
    ("proxy_protocol", texts::proxy_protocol),
    ("request_head", streams::request_head),
    ("response_head", streams::response_head),
    ("route_expression", texts::route_expression),
    ("target", texts::target),
    ("websocket_frames", websocket::websocket_frames),
];

/// Runs the target called `name`.
pub fn run(name: &str, data: &[u8]) {
    match TARGETS.iter().find(|(known, _)| *known == name) {
        Some((_, target)) => target(data),
        None => panic!("there is no target {name:?}"),
    }
}
