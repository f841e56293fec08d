//! What the engine remembers of a connection and of an exchange. No behaviour lives here.

use super::identity::Trace;
use super::websocket::Socket;
use super::wheel::Deadline;
use crate::audit::record::ExchangeId;
use crate::coding::Decoder;
use crate::error::Code;
use crate::guard::{Judging, Unjudgeable};
use crate::http1::write::Framing;
use crate::http1::{Client, Server};
use crate::http2;
use crate::message::{Peer, RequestHead, ResponseHead};
use crate::policy::Notes;
use crate::revision::Revision;
use crate::time::Instant;
use crate::tls;
use smallvec::SmallVec;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

/// Why a connection is not read from.
pub mod pause {
    /// The other leg cannot take more.
    pub const PEER: u8 = 1;
    /// Input is kept that cannot be used yet (pipelined request, body before its upstream).
    pub const KEPT: u8 = 2;
    /// A message waits for its verdict, and everything behind it.
    pub const JUDGED: u8 = 4;
}

/// What is spoken on a client's connection.
pub enum DownWire {
    /// Nothing was read yet that tells HTTP/1 from HTTP/2.
    Undecided,
    Http1,
    Http2(Box<http2::Server>),
    /// Not a connection of its own but one request of the HTTP/2 connection `parent`.
    Stream {
        parent: u32,
        stream: u32,
    },
    /// A TCP route's: no request will come of it.
    Bytes,
}

/// A client's connection, or one request's place on a connection that carries many: where one exchange at a time lives.
pub struct Down {
    pub wire: DownWire,
    /// Encrypts what is sent and decrypts what comes.
    pub tls: Option<Box<tls::Server>>,
    /// A ClientHello is due, and is looked at before anybody answers it.
    pub hello: bool,
    /// What it asked for, if TLS ends here all the same and a TCP route takes what is inside.
    pub asked: Option<Box<tls::Hello>>,
    /// The TLS session was closed by its peer, not only its connection.
    pub goodbye: bool,
    /// What comes now is 0-RTT data, which may be a replay.
    pub early: bool,
    /// Where the client connected to.
    pub local: Option<SocketAddr>,
    /// HTTP/1's reader; its trailers are those of any request.
    pub server: Server,
    /// Input that could not be used yet.
    pub kept: Vec<u8>,
    pub exchange: Option<u32>,
    /// The revision `peer.entrypoint` belongs to.
    pub revision: Arc<Revision>,
    pub peer: Peer,
    pub ip_text: SmallVec<[u8; 40]>,
    pub pauses: u8,
    pub write_blocked: bool,
    pub deadline: Deadline,
    pub served: u32,
    /// A PROXY protocol header is due before anything else.
    pub proxy_header: bool,
    /// The client sends no more.
    pub read_closed: bool,
    /// Input may still come that nobody will read: closing at once would reset the answer under way.
    pub unread: bool,
    /// Requests lie in `kept` that are left for the next tick, for the sake of other connections.
    pub deferred: bool,
    /// A close was asked for: whatever still comes is dropped.
    pub closing: bool,
    /// The first byte of the next head has come.
    pub head_begun: Option<Instant>,
    /// A stream's answer went out to its end.
    pub sent: bool,
    /// Its session is among those to be flushed.
    pub flushing: bool,
}

/// What is spoken on a connection to an endpoint.
pub enum UpWire {
    Http1,
    Http2(Box<http2::Client>),
    /// One exchange of the HTTP/2 connection `parent`.
    Stream {
        parent: u32,
        stream: u32,
    },
}

/// A connection to an endpoint, or one exchange's place on one that carries many.
pub struct Up {
    pub wire: UpWire,
    pub tls: Option<Box<tls::Client>>,
    /// Time for its handshake.
    pub greeting: Duration,
    /// The TLS session was closed by its peer, not only its connection.
    pub goodbye: bool,
    /// Counted among the connections of its endpoint that will carry many exchanges.
    pub opening: bool,
    pub client: Client,
    pub kept: Vec<u8>,
    pub exchange: Option<u32>,
    pub endpoint: u64,
    pub max_head: usize,
    pub pauses: u8,
    pub write_blocked: bool,
    pub deadline: Deadline,
    pub connected: bool,
    pub closing: bool,
    /// The peer sends no more: set in a tunnel, and while its last bytes are not yet read.
    pub read_closed: bool,
    /// Requests sent so far.
    pub served: u32,
    /// What HTTP/2 on it may do, if it is to be spoken.
    pub http2: Option<http2::ClientLimits>,
    /// Its session is among those to be flushed.
    pub flushing: bool,
}

impl Down {
    /// A place where nothing has happened yet.
    pub fn new(wire: DownWire, revision: Arc<Revision>, peer: Peer, deadline: Deadline) -> Down {
        Down {
            wire,
            tls: None,
            hello: false,
            asked: None,
            goodbye: false,
            early: false,
            local: None,
            server: Server::default(),
            kept: Vec::new(),
            exchange: None,
            revision,
            ip_text: text_of(peer.ip),
            peer,
            pauses: 0,
            write_blocked: false,
            deadline,
            served: 0,
            proxy_header: false,
            read_closed: false,
            deferred: false,
            unread: false,
            closing: false,
            head_begun: None,
            sent: false,
            flushing: false,
        }
    }
}

impl Up {
    /// A place for `exchange` at an endpoint, on which nothing was sent yet.
    pub fn new(wire: UpWire, exchange: u32, endpoint: u64, max_head: usize, deadline: Deadline) -> Up {
        Up {
            wire,
            tls: None,
            greeting: Duration::ZERO,
            goodbye: false,
            opening: false,
            client: Client::default(),
            kept: Vec::new(),
            exchange: Some(exchange),
            endpoint,
            max_head,
            pauses: 0,
            write_blocked: false,
            deadline,
            connected: false,
            closing: false,
            read_closed: false,
            served: 0,
            http2: None,
            flushing: false,
        }
    }
}

/// An address as forwarding fields carry it.
pub fn text_of(ip: IpAddr) -> SmallVec<[u8; 40]> {
    SmallVec::from_slice(ip.to_string().as_bytes())
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Stage {
    /// Collecting the request body for the guard.
    #[default]
    Judging,
    /// A plugin was called and has not answered.
    Plugin,
    /// The intent must be on disk first.
    AwaitIntent,
    /// Waiting for a connection to an endpoint.
    Connecting,
    /// Waiting a moment before the next attempt.
    Backoff,
    /// The request goes upstream; no final answer yet.
    Sending,
    /// A plugin was shown the answer's head and has not answered; nothing more is read.
    PluginAnswer,
    /// The answer goes downstream.
    Answering,
    /// The answer's end waits for the outcome to be on disk.
    AwaitOutcome,
    /// Bytes pass both ways untouched.
    Tunnel,
}

/// A rule that matched, as kept until the outcome is written.
#[derive(Clone, Debug)]
pub struct Found {
    pub rule: Arc<str>,
    pub action: &'static str,
    pub shadow: bool,
    pub response: bool,
    pub start: u32,
    pub end: u32,
}

/// A body that the guard sees before anyone else does.
pub struct Judged {
    pub judging: Judging,
    /// The text that is judged.
    pub body: Vec<u8>,
    /// What came, where that is encoded text: it is passed on as it was if the verdict is to pass.
    pub encoded: Option<Encoded>,
    /// The answer's head; empty for requests.
    pub head: ResponseHead,
    /// Why it cannot be judged, once that is known.
    pub failed: Option<Unjudgeable>,
}

/// An encoded body on its way to being judged.
pub struct Encoded {
    pub decoder: Decoder,
    pub bytes: Vec<u8>,
}

/// Deadlines of whichever exchange has a number. They outlive it, so that a wake-up already in the wheel
/// serves the next one.
#[derive(Clone, Copy, Debug, Default)]
pub struct Deadlines {
    /// For the whole exchange.
    pub total: Deadline,
    /// For the step it is in: a connection slot, a pause before a retry, the audit log.
    pub step: Deadline,
}

/// One request and its answer.
#[derive(Default)]
pub struct Exchange {
    /// Tells this exchange from later ones with the same number.
    pub serial: u64,
    pub id: ExchangeId,
    pub trace: Trace,
    pub revision: Option<Arc<Revision>>,
    pub route: Option<u32>,
    /// Number of the service that is called: the route's, or that of the provider chosen.
    pub service: Option<u32>,
    pub down: u32,
    /// The client's connection is gone.
    pub orphan: bool,
    pub up: Option<u32>,
    pub head: RequestHead,
    /// An upgrade to WebSocket.
    pub socket: Option<Box<Socket>>,
    /// A connection of a TCP route, not a request.
    pub raw: bool,
    /// The request came as 0-RTT data.
    pub early: bool,
    /// The head was complete and well formed: this is a request, whatever becomes of it.
    pub parsed: bool,
    pub peer: Peer,
    pub notes: Notes,
    pub slots: SmallVec<[u64; 8]>,
    /// Policies whose `on_request` said `Next`.
    pub passed: usize,
    pub stage: Stage,

    pub started: Instant,
    /// The whole request was written to the current upstream.
    pub sent: Option<Instant>,
    pub upstream_ns: u64,
    pub attempts: u8,
    pub tried: SmallVec<[u32; 4]>,
    pub endpoint: Option<u32>,
    /// The current endpoint was counted as started and not yet as finished.
    pub counted: bool,
    /// The current attempt is a retry within the budget.
    pub retrying: bool,
    pub upstream_failed: bool,

    pub request_complete: bool,
    pub request_bytes: u64,
    /// Request body not yet sent, or kept to be sent again.
    pub body: Vec<u8>,
    /// How much of `body` the current upstream has.
    pub body_sent: usize,
    /// `body` holds the request body from its first byte on.
    pub replayable: bool,
    pub continue_sent: bool,

    /// Interim answers the upstream sent.
    pub interims: u8,
    pub status: u16,
    pub code: Option<Code>,
    pub answer_begun: bool,
    pub framing: Framing,
    /// Bytes of an `Exact` answer still to be passed on.
    pub left: u64,
    pub close_after: bool,
    pub response_bytes: u64,
    /// What the answer's body goes through on its way out.
    pub answer_coder: Option<Box<super::coder::Coder>>,
    /// An answer head and body collected for the guard.
    pub judged: Option<Box<Judged>>,
    /// The answer's head while plugins look at it.
    pub shown: Option<Box<ResponseHead>>,
    /// Bytes for the client that wait for the outcome.
    pub held: Vec<u8>,
    /// What would complete the answer is among what is held.
    pub last_held: bool,
    pub truncated: bool,
    /// The request is a call of a model.
    pub llm: Option<Box<super::llm::Call>>,
    /// The request is a gRPC call.
    pub grpc: Option<super::grpc::Call>,
    pub findings: Vec<Found>,
    pub intent_written: bool,
    pub outcome_written: bool,
}

impl Exchange {
    /// Makes it ready for the next request, keeping allocations of ordinary size.
    pub fn reset(&mut self) {
        let mut kept = std::mem::take(self);
        kept.head.clear();
        kept.notes.clear();
        kept.slots.clear();
        kept.findings.clear();
        self.head = kept.head;
        self.notes = kept.notes;
        self.slots = kept.slots;
        self.findings = kept.findings;
        for (mut from, to) in [(kept.body, &mut self.body), (kept.held, &mut self.held)] {
            if from.capacity() <= 16 << 10 {
                from.clear();
                *to = from;
            }
        }
    }
}
