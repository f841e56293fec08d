//! The downstream side: a connection's requests, many at a time.

use super::convert;
use super::meter::{Allowance, Meter};
use super::outbox::{Outbox, Pumped};
use super::pipe::Pipe;
use super::ready::{Bell, Ready};
use super::{Reset, HIGH_WATER};
use crate::http1::{HeadLimits, Violation};
use crate::message::{Fields, RequestHead, ResponseHead};
use crate::time::Instant;
use bytes::Bytes;
use h2::server::{Builder, Connection, Handshake, SendResponse};
use h2::{RecvStream, SendStream};
use http::{HeaderMap, Response, StatusCode};
use slab::Slab;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};

/// What a session allows its client.
#[derive(Clone, Copy, Debug)]
pub struct ServerLimits {
    pub streams: u32,
    pub stream_window: u32,
    pub connection_window: u32,
    pub allowance: Allowance,
}

/// What happened, one thing at a time. `stream` is the session's number.
#[derive(Debug)]
pub enum ServerEvent {
    /// The head given to `next` is filled; answer with [`Server::name`].
    Request {
        stream: u32,
    },
    /// A request that breaks the rules; it may be answered.
    Malformed {
        stream: u32,
        violation: Violation,
    },
    Data {
        owner: u32,
        bytes: Bytes,
    },
    /// The request is complete; its trailers are in [`Server::trailers`].
    End {
        owner: u32,
    },
    /// The client wants no answer, or broke the rules: the stream is gone.
    Reset {
        owner: u32,
    },
    /// Enough was sent for more to be written.
    Writable {
        owner: u32,
    },
    /// Everything of the answer, its end included, was handed over.
    Sent {
        owner: u32,
    },
    /// The connection is over; what is left to send says why.
    Closed,
}

enum State {
    Greeting(Box<Handshake<Pipe, Bytes>>),
    Open(Box<Connection<Pipe, Bytes>>),
    Closed,
}

enum Sender {
    Waiting(SendResponse<Bytes>),
    Answering(SendStream<Bytes>),
}

struct Stream {
    owner: u32,
    body: Option<RecvStream>,
    sender: Sender,
    /// The answer's head, while its first byte or its end is awaited.
    head: Option<Response<()>>,
    outbox: Outbox,
    paused: bool,
    /// [`ServerEvent::Sent`] was told.
    told: bool,
    urgency: u8,
    bell: Bell,
}

/// One client's session.
pub struct Server {
    pipe: Pipe,
    state: State,
    streams: Slab<Stream>,
    ready: Ready,
    session: Bell,
    meter: Meter,
    /// Trailers of the request whose end was just told.
    pub trailers: Fields,
    /// The transport takes no more: nothing is handed to the session.
    blocked: bool,
    /// Why the session ends: the first reason given is the one told.
    ending: Option<h2::Reason>,
    limits: HeadLimits,
}

/// The session's own number among what is ready.
const SESSION: u32 = u32::MAX;

impl Server {
    pub fn new(limits: ServerLimits, heads: HeadLimits, now: Instant) -> Server {
        let pipe = Pipe::default();
        let handshake = Builder::new()
            .max_concurrent_streams(limits.streams)
            .initial_window_size(limits.stream_window)
            .initial_connection_window_size(limits.connection_window)
            .max_header_list_size(u32::try_from(heads.bytes).unwrap_or(u32::MAX))
            .max_send_buffer_size(HIGH_WATER)
            .max_concurrent_reset_streams(64)
            .max_local_error_reset_streams(Some(limits.allowance.resets as usize))
            .enable_connect_protocol()
            .handshake(pipe.clone());
        let ready = Ready::default();
        let session = ready.bell(SESSION);
        session.ring();
        Server {
            pipe,
            state: State::Greeting(Box::new(handshake)),
            streams: Slab::new(),
            ready,
            session,
            meter: Meter::new(limits.allowance, super::PREFACE.len(), now),
            trailers: Fields::default(),
            blocked: false,
            ending: None,
            limits: heads,
        }
    }

    /// Bytes of the client, preface included. False: it floods, and the session is over.
    pub fn feed(&mut self, input: &[u8], now: Instant) -> bool {
        self.pipe.feed(input);
        self.session.ring();
        let calm = self.meter.take(input, now);
        if !calm {
            self.go_away(h2::Reason::ENHANCE_YOUR_CALM);
        }
        calm
    }

    /// The next thing that happened; `head` is filled for a request.
    pub fn next(&mut self, head: &mut RequestHead) -> Option<ServerEvent> {
        loop {
            let number = self.ready.next()?;
            let event = if number == SESSION { self.session(head) } else { self.stream(number) };
            if event.is_some() {
                return event;
            }
        }
    }

    /// `stream` is called `owner` from now on.
    pub fn name(&mut self, stream: u32, owner: u32) {
        if let Some(found) = self.streams.get_mut(stream as usize) {
            found.owner = owner;
            found.bell.ring();
        }
    }

    /// Streams whose end has not come, ours and the client's.
    pub fn streams(&self) -> usize {
        self.streams.len()
    }

    /// Owners of all streams.
    pub fn owners(&self) -> Vec<u32> {
        self.streams.iter().map(|(_, s)| s.owner).collect()
    }

    /// Whether there is nothing to be done.
    pub fn at_rest(&self) -> bool {
        self.ready.is_empty()
    }

    fn session(&mut self, head: &mut RequestHead) -> Option<ServerEvent> {
        let mut cx = Context::from_waker(&self.session.waker);
        match &mut self.state {
            State::Closed => None,
            State::Greeting(handshake) => match Pin::new(handshake.as_mut()).poll(&mut cx) {
                Poll::Pending => None,
                Poll::Ready(Ok(connection)) => {
                    self.state = State::Open(Box::new(connection));
                    self.session.ring();
                    None
                }
                Poll::Ready(Err(_)) => {
                    self.state = State::Closed;
                    Some(ServerEvent::Closed)
                }
            },
            State::Open(connection) => match connection.poll_accept(&mut cx) {
                Poll::Pending => None,
                Poll::Ready(Some(Ok((request, respond)))) => {
                    self.session.ring();
                    Some(self.request(request, respond, head))
                }
                Poll::Ready(Some(Err(_)) | None) => {
                    self.state = State::Closed;
                    Some(ServerEvent::Closed)
                }
            },
        }
    }

    fn request(
        &mut self,
        request: http::Request<RecvStream>,
        respond: SendResponse<Bytes>,
        head: &mut RequestHead,
    ) -> ServerEvent {
        let (parts, body) = request.into_parts();
        let end = body.is_end_stream();
        let entry = self.streams.vacant_entry();
        let stream = entry.key() as u32;
        let read = convert::request(&parts, end, &self.limits, head);
        entry.insert(Stream {
            owner: u32::MAX,
            body: (!end).then_some(body),
            sender: Sender::Waiting(respond),
            head: None,
            outbox: Outbox::default(),
            paused: false,
            told: false,
            urgency: urgency(&parts.headers),
            bell: self.ready.bell(stream),
        });
        match read {
            Ok(()) => ServerEvent::Request { stream },
            Err(violation) => {
                self.meter.made_to_reset();
                ServerEvent::Malformed { stream, violation }
            }
        }
    }

    /// What a stream has to tell, or sends on.
    fn stream(&mut self, number: u32) -> Option<ServerEvent> {
        let Server { streams, trailers, blocked, .. } = self;
        let stream = streams.get_mut(number as usize)?;
        let owner = stream.owner;
        let Stream { body, sender, paused, bell, .. } = stream;
        let mut cx = Context::from_waker(&bell.waker);
        let reset = match sender {
            Sender::Waiting(respond) => respond.poll_reset(&mut cx),
            Sender::Answering(answer) => answer.poll_reset(&mut cx),
        };
        if reset.is_ready() && !stream.outbox.sent {
            return Some(ServerEvent::Reset { owner });
        }
        if let Some(receive) = body.as_mut().filter(|_| !*paused) {
            match receive.poll_data(&mut cx) {
                Poll::Pending => {}
                Poll::Ready(Some(Ok(bytes))) => {
                    bell.ring();
                    // The window opens again as the bytes are taken: who takes none pauses the stream.
                    let _ = receive.flow_control().release_capacity(bytes.len());
                    return Some(ServerEvent::Data { owner, bytes });
                }
                Poll::Ready(Some(Err(_))) => return Some(ServerEvent::Reset { owner }),
                Poll::Ready(None) => match receive.poll_trailers(&mut cx) {
                    Poll::Pending => {}
                    Poll::Ready(Ok(map)) => {
                        trailers.clear();
                        let sound = map.is_none_or(|map| convert::trailers(&map, trailers).is_ok());
                        *body = None;
                        bell.ring();
                        return Some(if sound { ServerEvent::End { owner } } else { ServerEvent::Reset { owner } });
                    }
                    Poll::Ready(Err(_)) => return Some(ServerEvent::Reset { owner }),
                },
            }
        }
        if !*blocked && pump(stream) == Pumped::Gone {
            return Some(ServerEvent::Reset { owner });
        }
        if stream.outbox.sent && !std::mem::replace(&mut stream.told, true) {
            self.meter.finished();
            return Some(ServerEvent::Sent { owner });
        }
        stream.outbox.relieved().then_some(ServerEvent::Writable { owner })
    }

    /// An interim answer (1xx).
    pub fn interim(&mut self, stream: u32, head: &ResponseHead) {
        let Some(found) = self.streams.get_mut(stream as usize) else { return };
        if let (Sender::Waiting(respond), Some(response)) = (&mut found.sender, response(head)) {
            let _ = respond.send_informational(response);
            self.session.ring();
        }
    }

    /// The answer's head, with the lines that `extra` adds; it goes out with the first byte or the end.
    pub fn head(&mut self, stream: u32, head: &ResponseHead, extra: impl FnOnce(&mut dyn FnMut(&[u8], &[u8]))) {
        let Some(found) = self.streams.get_mut(stream as usize) else { return };
        if let Some(mut response) = response(head) {
            extra(&mut |name, value| convert::append(response.headers_mut(), name, value));
            found.head = Some(response);
        }
    }

    /// Whether nothing of the answer has gone out yet.
    pub fn unanswered(&self, stream: u32) -> bool {
        let found = self.streams.get(stream as usize);
        found.is_some_and(|s| matches!(s.sender, Sender::Waiting(_)))
    }

    /// Body bytes; true when the stream has more than it can send.
    pub fn data(&mut self, stream: u32, data: &[u8]) -> bool {
        let Some(found) = self.streams.get_mut(stream as usize) else { return false };
        found.outbox.push(data);
        found.bell.ring();
        found.outbox.full
    }

    /// The answer is complete.
    pub fn end(&mut self, stream: u32, trailers: &Fields) {
        let Some(found) = self.streams.get_mut(stream as usize) else { return };
        found.outbox.finish(trailer_map(trailers));
        found.bell.ring();
    }

    /// Nothing more goes out, or may again.
    pub fn hold(&mut self, stream: u32, hold: bool) {
        if let Some(found) = self.streams.get_mut(stream as usize) {
            found.outbox.hold = hold;
            found.bell.ring();
        }
    }

    /// Forgets what was not sent yet of the answer, its head included.
    pub fn discard(&mut self, stream: u32) {
        if let Some(found) = self.streams.get_mut(stream as usize) {
            found.head = None;
            found.outbox.clear();
        }
    }

    /// The request's body is not read, or is again.
    pub fn pause(&mut self, stream: u32, paused: bool) {
        if let Some(found) = self.streams.get_mut(stream as usize) {
            found.paused = paused;
            if !paused {
                found.bell.ring();
            }
        }
    }

    /// Ends the stream and forgets it; one that was sent whole ends quietly, with `reset` where its request goes on.
    pub fn close(&mut self, stream: u32, reset: Reset) {
        let Some(mut found) = self.streams.try_remove(stream as usize) else { return };
        // Of one sent whole the session itself takes the rest back, behind what is still on its way.
        if !found.outbox.sent {
            match &mut found.sender {
                Sender::Waiting(respond) => respond.send_reset(reset.reason()),
                Sender::Answering(answer) => answer.send_reset(reset.reason()),
            }
        }
        self.session.ring();
    }

    /// The transport takes no more bytes, or does again.
    pub fn set_blocked(&mut self, blocked: bool) {
        self.blocked = blocked;
        if !blocked {
            self.session.ring();
            let mut waiting: Vec<(u8, usize)> =
                self.streams.iter().filter(|(_, s)| s.outbox.queued() > 0).map(|(n, s)| (s.urgency, n)).collect();
            // RFC 9218: the more urgent first.
            waiting.sort_unstable();
            for (_, number) in waiting {
                self.streams[number].bell.ring();
            }
        }
    }

    /// No new requests; the session ends with those it has.
    pub fn drain(&mut self) {
        if let State::Open(connection) = &mut self.state {
            connection.graceful_shutdown();
            self.session.ring();
        }
    }

    /// The session ends now.
    pub fn go_away(&mut self, reason: h2::Reason) {
        if let State::Open(connection) = &mut self.state {
            let reason = *self.ending.get_or_insert(reason);
            connection.abrupt_shutdown(reason);
            self.session.ring();
        }
    }

    /// Appends what is to be sent. Call when `next` has nothing more; true: there may be more to tell again.
    pub fn output(&mut self, out: &mut Vec<u8>) -> bool {
        if self.blocked {
            return false;
        }
        let more = self.pipe.take(out);
        if more {
            self.session.ring();
        }
        more
    }
}

/// Hands over what the stream has, its head first.
fn pump(stream: &mut Stream) -> Pumped {
    if stream.outbox.hold {
        return Pumped::Fine;
    }
    if let Sender::Waiting(respond) = &mut stream.sender {
        let Some(mut head) = stream.head.take() else { return Pumped::Fine };
        let mut end = stream.outbox.ends_at_once();
        if let Some(trailers) = stream.outbox.take_trailers_only() {
            // An answer without a body says everything in one head (gRPC's trailers-only form).
            head.headers_mut().extend(trailers);
            end = true;
        }
        match respond.send_response(head, end) {
            Ok(answer) => stream.sender = Sender::Answering(answer),
            Err(_) => return Pumped::Gone,
        }
        if end {
            stream.outbox.sent = true;
            return Pumped::Fine;
        }
    }
    let mut cx = Context::from_waker(&stream.bell.waker);
    match &mut stream.sender {
        Sender::Answering(answer) => stream.outbox.pump(answer, &mut cx),
        Sender::Waiting(_) => Pumped::Fine,
    }
}

fn response(head: &ResponseHead) -> Option<Response<()>> {
    let mut response = Response::new(());
    *response.status_mut() = StatusCode::from_u16(head.status).ok()?;
    convert::append_all(response.headers_mut(), &head.fields);
    Some(response)
}

pub fn trailer_map(trailers: &Fields) -> Option<HeaderMap> {
    if trailers.is_empty() {
        return None;
    }
    let mut map = HeaderMap::with_capacity(trailers.len());
    convert::append_all(&mut map, trailers);
    Some(map)
}

/// RFC 9218 §4.1: 0 is the most urgent, 3 what nobody named.
fn urgency(headers: &HeaderMap) -> u8 {
    let text = headers.get("priority").map_or(&b""[..], |v| v.as_bytes());
    let mut items = text.split(|&b| b == b',').map(|item| item.trim_ascii());
    items
        .find_map(|item| match item {
            [b'u', b'=', digit @ b'0'..=b'7'] => Some(digit - b'0'),
            _ => None,
        })
        .unwrap_or(3)
}
