//! The upstream side: a connection to an endpoint that carries many exchanges.

use super::convert;
use super::meter::{Allowance, Meter};
use super::outbox::{Outbox, Pumped};
use super::pipe::Pipe;
use super::ready::{Bell, Ready};
use super::server::trailer_map;
use super::{Reset, HIGH_WATER};
use crate::message::{Fields, RequestHead, ResponseHead, Scheme};
use crate::time::Instant;
use bytes::Bytes;
use h2::client::{Builder, Connection, ResponseFuture, SendRequest};
use h2::{RecvStream, SendStream};
use http::uri::PathAndQuery;
use http::{Method, Request, Uri, Version};
use slab::Slab;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll, Waker};

/// What a session grants its endpoint, and how much it asks of it.
#[derive(Clone, Copy, Debug)]
pub struct ClientLimits {
    /// Requests under way at the same time; the endpoint may allow fewer.
    pub streams: u32,
    pub stream_window: u32,
    pub connection_window: u32,
    /// Bytes of the longest answer head.
    pub max_head: usize,
    pub allowance: Allowance,
}

/// What happened, one thing at a time.
#[derive(Debug)]
pub enum ClientEvent {
    /// An interim head (1xx) is filled; the final one is still to come.
    Interim {
        owner: u32,
    },
    /// The final head is filled.
    Head {
        owner: u32,
    },
    Data {
        owner: u32,
        bytes: Bytes,
    },
    /// The answer is complete; its trailers are in [`Client::trailers`].
    End {
        owner: u32,
    },
    /// The stream is gone. `unprocessed`: the endpoint says that it did not work on the request.
    Reset {
        owner: u32,
        unprocessed: bool,
    },
    /// The answer breaks the rules.
    Malformed {
        owner: u32,
    },
    /// Enough was sent for more to be written.
    Writable {
        owner: u32,
    },
    /// Requests may be sent. The endpoint's own limits may come later: what is beyond them is refused, and said to be
    /// unprocessed.
    Ready,
    /// The endpoint has said what it takes: [`Client::extended`] is known.
    Settled,
    /// The connection is over.
    Closed,
}

type Handshake = Pin<Box<dyn Future<Output = Result<(SendRequest<Bytes>, Connection<Pipe, Bytes>), h2::Error>> + Send>>;

enum State {
    Greeting(Handshake),
    Open { connection: Box<Connection<Pipe, Bytes>>, sender: SendRequest<Bytes> },
    Closed,
}

enum Answer {
    Awaited(ResponseFuture),
    Body(RecvStream),
    Complete,
}

struct Stream {
    owner: u32,
    to_head: bool,
    answer: Answer,
    sender: SendStream<Bytes>,
    outbox: Outbox,
    paused: bool,
    bell: Bell,
}

/// One connection's session.
pub struct Client {
    pipe: Pipe,
    state: State,
    streams: Slab<Stream>,
    ready: Ready,
    session: Bell,
    meter: Meter,
    pub trailers: Fields,
    blocked: bool,
    most: u32,
    /// The endpoint takes no new requests.
    draining: bool,
    /// [`ClientEvent::Settled`] was told.
    settled: bool,
    /// The connection has ended; what streams had got before is still to be told.
    over: bool,
}

const SESSION: u32 = u32::MAX;

impl Client {
    pub fn new(limits: ClientLimits, now: Instant) -> Client {
        let pipe = Pipe::default();
        let mut builder = Builder::new();
        builder
            .enable_push(false)
            .initial_window_size(limits.stream_window)
            .initial_connection_window_size(limits.connection_window)
            .max_header_list_size(u32::try_from(limits.max_head).unwrap_or(u32::MAX))
            .max_send_buffer_size(HIGH_WATER)
            .initial_max_send_streams(limits.streams as usize)
            .max_concurrent_reset_streams(64)
            .max_local_error_reset_streams(Some(limits.allowance.resets as usize));
        let io = pipe.clone();
        let handshake: Handshake = Box::pin(async move { builder.handshake(io).await });
        let ready = Ready::default();
        let session = ready.bell(SESSION);
        session.ring();
        Client {
            pipe,
            state: State::Greeting(handshake),
            streams: Slab::new(),
            ready,
            session,
            meter: Meter::new(limits.allowance, 0, now),
            trailers: Fields::default(),
            blocked: false,
            most: limits.streams,
            draining: false,
            settled: false,
            over: false,
        }
    }

    /// Bytes of the endpoint. False: it floods.
    pub fn feed(&mut self, input: &[u8], now: Instant) -> bool {
        self.pipe.feed(input);
        self.session.ring();
        self.meter.take(input, now)
    }

    /// Whether another request may be sent now.
    pub fn has_room(&mut self) -> bool {
        let active = self.streams.len();
        match &mut self.state {
            State::Open { sender, .. } if !self.draining => {
                let most = (self.most as usize).min(sender.current_max_send_streams());
                match sender.poll_ready(&mut Context::from_waker(Waker::noop())) {
                    Poll::Ready(Ok(())) => active < most,
                    Poll::Ready(Err(_)) => {
                        self.draining = true;
                        false
                    }
                    Poll::Pending => false,
                }
            }
            _ => false,
        }
    }

    /// No request may be sent on it any more, whatever the endpoint says.
    pub fn abandon(&mut self) {
        self.draining = true;
    }

    /// Whether the endpoint takes extended CONNECT (RFC 8441 §3); `None` while it has not said.
    pub fn extended(&self) -> Option<bool> {
        match &self.state {
            State::Open { sender, .. } if self.settled => Some(sender.is_extended_connect_protocol_enabled()),
            _ => None,
        }
    }

    /// No request will be sent on it any more.
    pub fn is_draining(&self) -> bool {
        self.draining || matches!(self.state, State::Closed)
    }

    pub fn streams(&self) -> usize {
        self.streams.len()
    }

    pub fn owners(&self) -> Vec<u32> {
        self.streams.iter().map(|(_, s)| s.owner).collect()
    }

    pub fn at_rest(&self) -> bool {
        self.ready.is_empty()
    }

    /// Sends a request's head: `authority` as `:authority`, then the fields and the lines that `extra` adds. An upgrade
    /// is asked for as RFC 8441 has it, where [`Client::extended`] says so. Returns the stream's number; `None`: it
    /// cannot be sent here.
    pub fn open(
        &mut self,
        owner: u32,
        head: &RequestHead,
        authority: &[u8],
        end: bool,
        extra: impl FnOnce(&mut dyn FnMut(&[u8], &[u8])),
    ) -> Option<u32> {
        let State::Open { sender, .. } = &mut self.state else { return None };
        let mut request = Request::new(());
        *request.version_mut() = Version::HTTP_2;
        if head.upgrade {
            *request.method_mut() = Method::CONNECT;
            request.extensions_mut().insert(h2::ext::Protocol::from_static("websocket"));
        } else {
            *request.method_mut() = Method::from_bytes(head.method.as_bytes()).ok()?;
        }
        let scheme = if head.scheme == Scheme::Https { "https" } else { "http" };
        *request.uri_mut() = Uri::builder()
            .scheme(scheme)
            .authority(authority)
            .path_and_query(path(head.target.as_bytes())?)
            .build()
            .ok()?;
        convert::append_all(request.headers_mut(), &head.fields);
        request.headers_mut().remove(http::header::HOST);
        if head.upgrade {
            request.headers_mut().remove(http::header::SEC_WEBSOCKET_KEY);
        }
        extra(&mut |name, value| convert::append(request.headers_mut(), name, value));
        let (answer, stream) = sender.send_request(request, end).ok()?;
        let entry = self.streams.vacant_entry();
        let number = entry.key() as u32;
        let bell = self.ready.bell(number);
        bell.ring();
        self.session.ring();
        let mut outbox = Outbox::default();
        outbox.sent = end;
        entry.insert(Stream {
            owner,
            to_head: head.method == crate::message::Method::Head,
            answer: Answer::Awaited(answer),
            sender: stream,
            outbox,
            paused: false,
            bell,
        });
        Some(number)
    }

    /// The next thing that happened; `head` is filled where the event says so.
    pub fn next(&mut self, head: &mut ResponseHead) -> Option<ClientEvent> {
        loop {
            let number = self.ready.next()?;
            let event = if number == SESSION { self.session() } else { self.stream(number, head) };
            if event.is_some() {
                return event;
            }
        }
    }

    fn session(&mut self) -> Option<ClientEvent> {
        let mut cx = Context::from_waker(&self.session.waker);
        match &mut self.state {
            State::Closed => None,
            State::Greeting(handshake) => match handshake.as_mut().poll(&mut cx) {
                Poll::Pending => None,
                Poll::Ready(Ok((sender, connection))) => {
                    self.state = State::Open { connection: Box::new(connection), sender };
                    self.session.ring();
                    Some(ClientEvent::Ready)
                }
                Poll::Ready(Err(_)) => {
                    self.state = State::Closed;
                    Some(ClientEvent::Closed)
                }
            },
            State::Open { .. } if self.over => {
                if !self.ready.is_empty() {
                    self.session.ring();
                    return None;
                }
                self.state = State::Closed;
                Some(ClientEvent::Closed)
            }
            State::Open { connection, .. } => match Pin::new(connection.as_mut()).poll(&mut cx) {
                Poll::Pending => {
                    let news = self.meter.settled && !std::mem::replace(&mut self.settled, true);
                    news.then_some(ClientEvent::Settled)
                }
                Poll::Ready(_) => {
                    // An answer may have come whole right before.
                    (self.over, self.draining) = (true, true);
                    self.streams.iter().for_each(|(_, stream)| stream.bell.ring());
                    self.session.ring();
                    None
                }
            },
        }
    }

    fn stream(&mut self, number: u32, head: &mut ResponseHead) -> Option<ClientEvent> {
        let stream = self.streams.get_mut(number as usize)?;
        let owner = stream.owner;
        let mut cx = Context::from_waker(&stream.bell.waker);
        if !self.blocked && stream.outbox.pump(&mut stream.sender, &mut cx) == Pumped::Gone {
            // Why it is gone is what the answer's side says; an answer may have come before the request's end.
            stream.outbox.clear();
            stream.outbox.sent = true;
        }
        if stream.outbox.relieved() {
            stream.bell.ring();
            return Some(ClientEvent::Writable { owner });
        }
        if stream.paused {
            return None;
        }
        match &mut stream.answer {
            Answer::Complete => None,
            Answer::Awaited(answer) => {
                if let Poll::Ready(Some(Ok(interim))) = answer.poll_informational(&mut cx) {
                    stream.bell.ring();
                    let (parts, ()) = interim.into_parts();
                    let read = convert::response(&parts, true, false, head);
                    return Some(if read.is_ok() {
                        ClientEvent::Interim { owner }
                    } else {
                        ClientEvent::Malformed { owner }
                    });
                }
                match Pin::new(answer).poll(&mut cx) {
                    Poll::Pending => None,
                    Poll::Ready(Ok(response)) => {
                        let (parts, body) = response.into_parts();
                        let end = body.is_end_stream();
                        let read = convert::response(&parts, end, stream.to_head, head);
                        stream.answer = Answer::Body(body);
                        stream.bell.ring();
                        Some(match read {
                            Ok(()) => ClientEvent::Head { owner },
                            Err(_) => ClientEvent::Malformed { owner },
                        })
                    }
                    Poll::Ready(Err(error)) => {
                        stream.answer = Answer::Complete;
                        Some(ended(owner, &error))
                    }
                }
            }
            Answer::Body(body) => match body.poll_data(&mut cx) {
                Poll::Pending => None,
                Poll::Ready(Some(Ok(bytes))) => {
                    stream.bell.ring();
                    let _ = body.flow_control().release_capacity(bytes.len());
                    Some(ClientEvent::Data { owner, bytes })
                }
                Poll::Ready(Some(Err(error))) => {
                    stream.answer = Answer::Complete;
                    Some(ended(owner, &error))
                }
                Poll::Ready(None) => match body.poll_trailers(&mut cx) {
                    Poll::Pending => None,
                    Poll::Ready(Ok(map)) => {
                        self.trailers.clear();
                        let sound = map.is_none_or(|map| convert::trailers(&map, &mut self.trailers).is_ok());
                        stream.answer = Answer::Complete;
                        self.meter.finished();
                        Some(if sound { ClientEvent::End { owner } } else { ClientEvent::Malformed { owner } })
                    }
                    Poll::Ready(Err(error)) => {
                        stream.answer = Answer::Complete;
                        Some(ended(owner, &error))
                    }
                },
            },
        }
    }

    /// Body bytes; true when the stream has more than it can send.
    pub fn data(&mut self, stream: u32, data: &[u8]) -> bool {
        let Some(found) = self.streams.get_mut(stream as usize) else { return false };
        if found.outbox.sent {
            return false;
        }
        found.outbox.push(data);
        found.bell.ring();
        found.outbox.full
    }

    /// The request is complete.
    pub fn end(&mut self, stream: u32, trailers: &Fields) {
        if let Some(found) = self.streams.get_mut(stream as usize) {
            found.outbox.finish(trailer_map(trailers));
            found.bell.ring();
        }
    }

    pub fn pause(&mut self, stream: u32, paused: bool) {
        if let Some(found) = self.streams.get_mut(stream as usize) {
            found.paused = paused;
            if !paused {
                found.bell.ring();
            }
        }
    }

    /// Forgets a stream; one that is not complete both ways is reset.
    pub fn close(&mut self, stream: u32) {
        let Some(mut found) = self.streams.try_remove(stream as usize) else { return };
        if !found.outbox.sent || !matches!(found.answer, Answer::Complete) {
            found.sender.send_reset(Reset::Cancel.reason());
        }
        self.session.ring();
    }

    pub fn set_blocked(&mut self, blocked: bool) {
        self.blocked = blocked;
        if !blocked {
            self.session.ring();
            for (_, stream) in self.streams.iter().filter(|(_, s)| s.outbox.queued() > 0) {
                stream.bell.ring();
            }
        }
    }

    /// Appends what is to be sent; true: there may be more to tell again.
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

/// `:path`. Bytes that our reader lets into a query and the `http` crate does not are escaped; they mean the same.
fn path(target: &[u8]) -> Option<PathAndQuery> {
    if let Ok(path) = PathAndQuery::try_from(target) {
        return Some(path);
    }
    let mut escaped = Vec::with_capacity(target.len() + 16);
    for &b in target {
        match b {
            b'"' | b'<' | b'>' | b'\\' | b'^' | b'`' | b'{' | b'|' | b'}' => {
                escaped.extend_from_slice(format!("%{b:02X}").as_bytes());
            }
            b => escaped.push(b),
        }
    }
    PathAndQuery::try_from(escaped).ok()
}

/// REFUSED_STREAM, or a GOAWAY that left this stream out (RFC 9113 §8.7): sending it again is safe.
fn ended(owner: u32, error: &h2::Error) -> ClientEvent {
    let refused = error.reason() == Some(h2::Reason::REFUSED_STREAM);
    let left_out = error.is_go_away() && error.is_remote() && error.reason() == Some(h2::Reason::NO_ERROR);
    ClientEvent::Reset { owner, unprocessed: error.is_remote() && (refused || left_out) }
}
