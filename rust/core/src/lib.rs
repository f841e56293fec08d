//! pygate-core: the data plane as pure state machines.
//!
//! Rules of this crate:
//!
//! 1. Sans-IO. No sockets, files, threads, clock or randomness: bytes, the time ([`time::Now`]) and
//!    entropy are arguments; what has to happen in the world comes back as values. [`tls`] alone draws its
//!    own keys.
//! 2. Arrows point down only. `exchange` knows every other module, the others know only what stands
//!    above them in this list. HTTP/1 (later HTTP/2 and TLS) meets `exchange` through `message` alone.
//! 3. Nothing a peer sends may panic. `unsafe` lives in [`shared`] (the memory map) and in
//!    `guard::hyperscan` (the foreign engine), nowhere else.
#![deny(unsafe_code)]

pub mod ai;
pub mod audit;
pub mod balance;
pub mod coding;
pub mod config;
pub mod error;
pub mod exchange;
pub mod grpc;
pub mod guard;
pub mod http1;
pub mod http2;
pub mod limit;
pub mod llm;
pub mod message;
pub mod observe;
pub mod policy;
pub mod proxy_protocol;
pub mod revision;
pub mod route;
pub mod shared;
pub mod time;
pub mod tls;
pub mod websocket;
