//! TLS 1.2 and 1.3 as state machines: bytes ⇄ plaintext, on rustls.
//!
//! Owns what a worker needs for TLS: certificates and names ([`TlsStore`], [`ServerTls`]), options per name, client
//! certificates, session tickets ([`Tickets`]), sessions of both sides ([`Server`], [`Client`]) and a look into a
//! ClientHello that leaves it as it is ([`client_hello`]).
//!
//! Rules:
//! 1. Sans-IO: bytes go in, bytes and [`TlsFacts`](crate::message::TlsFacts) come out. The time is told
//!    ([`TlsStore::set_now`], [`Server::new`]); before it was told nothing verifies. Randomness alone is drawn here, by
//!    *ring*: TLS cannot do without, and a caller that could choose it could break it.
//! 2. A name's certificate and option set are chosen once, from its whole ClientHello, before a key is used. What is
//!    not certain is refused: an unknown name gets no certificate unless a default is configured, and a session made
//!    under one policy for client certificates is never taken up under another.
//! 3. Everything is compiled ahead into immutable values; connections share them and own only their keys.
//! 4. Private keys are wiped where we held them, are in no `Debug` and in no message; messages name the file.
//! 5. Nothing a peer sends may panic or grow without bound: handshake messages end at 64 KiB, records at 16 KiB.
//!
//! It never opens, reads or watches a file, obtains a certificate, or decides what HTTP answers.

mod client;
mod error;
mod facts;
mod hello;
mod material;
mod names;
mod options;
mod plan;
mod server;
mod session;
mod store;
mod tickets;
mod verify;

#[cfg(test)]
mod tests;

pub use client::Client;
pub use error::TlsError;
pub use hello::{client_hello, Hello};
pub use material::{describe, CertificateFacts, CertificateMaterial, Material};
pub use plan::ServerTls;
pub use server::Server;
pub use session::Fed;
pub use store::TlsStore;
pub use tickets::{rotate as rotate_ticket_keys, Tickets, KEY_BYTES as TICKET_KEY_BYTES};
pub use verify::ClientTls;
