//! gRPC calls in the exchange: all that tells them from other requests.
//!
//! Rules:
//! 1. A call is known by its request's head (POST, `application/grpc…`), before any policy sees it: whoever refuses
//!    it from then on, the client gets a gRPC status, with HTTP status 200.
//! 2. What an answer came to is its `grpc-status`, noted from its head or its trailers and told to records, metrics,
//!    the endpoint's health and the policies. HTTP 200 alone is no success.
//! 3. `grpc-timeout` is the caller's word on the total deadline: it may shorten the route's, never lengthen it. What
//!    is left of it goes upstream.
//! 4. An answer that cannot go on ends in trailers, if it stands between two messages and they can still be sent;
//!    else the stream is reset. A cut message is never followed by trailers.
//! 5. gRPC-Web is unwrapped where its policy says so (`policy::grpc_web`); inside it is plain gRPC. Where no policy
//!    does, only the gateway's own answers are wrapped.

use super::coder::Coder;
use super::connection::Exchange;
use super::wheel::Timer;
use super::Engine;
use crate::error::Code;
use crate::grpc::status::encode_message;
use crate::grpc::web::{NotBase64, Reader, Web};
use crate::grpc::{is_grpc, timeout, Messages, Status};
use crate::http1::write::Framing;
use crate::message::{BodyLength, Fields, Known, Method, RequestHead, ResponseHead};
use crate::policy::Retry;
use crate::time::Instant;
use std::time::Duration;

/// Longer times than this are as good as none.
const LONGEST: Duration = Duration::from_secs(365 * 86_400);

/// What an exchange that is a gRPC call remembers.
#[derive(Debug, Default)]
pub struct Call {
    /// How the client wraps it.
    web: Option<Web>,
    /// Unwraps the request's body.
    reader: Option<Reader>,
    /// The endpoint sees plain gRPC.
    plain: bool,
    /// What the answer at hand came to, as far as known.
    status: Option<Status>,
    /// Of the answer.
    messages: Messages,
    deadline: Option<Instant>,
    /// The caller gave the endpoint less time than its service has for a first byte.
    hurried: bool,
    /// Its trailers are being written instead of the endpoint's.
    ending: bool,
}

impl Call {
    /// `None`: the request is no call.
    pub fn of(head: &RequestHead) -> Option<Call> {
        let content_type = head.fields.get_known(Known::ContentType).filter(|_| head.method == Method::Post)?;
        let (plain, web) = (is_grpc(content_type), Web::of(content_type));
        (plain || web.is_some()).then(|| Call { web, plain, ..Call::default() })
    }
}

impl Exchange {
    /// A policy has unwrapped the request's head: its body and the answer follow.
    pub(super) fn unwrap_call(&mut self) {
        if let Some((web, call)) = self.notes.web.take().zip(self.grpc.as_mut()) {
            call.reader = web.text.then(|| web.reader());
            call.web = Some(web);
            call.plain = true;
        }
    }

    /// What the call came to; `None` for other requests, and for calls whose answer was not looked into.
    pub(super) fn grpc_status(&self) -> Option<Status> {
        let call = self.grpc.as_ref()?;
        match self.code {
            Some(Code::ClientClosed) => Some(Status::Cancelled),
            code => call.status.or(code.map(Status::from_code)).or(call.plain.then_some(Status::Unknown)),
        }
    }

    /// The endpoint's answer is a failure of its own, as a 5xx is. That a caller in a hurry got none in time is not:
    /// callers could close an endpoint to all others.
    pub(super) fn call_failed(&self) -> bool {
        let Some(call) = &self.grpc else { return false };
        let late = call.hurried.then_some(Status::DeadlineExceeded);
        call.status.is_some_and(|status| status.is_server_failure() && Some(status) != late)
    }

    /// The exchange's end is its upstream's failure, in the eyes of policies.
    pub(super) fn ended_badly(&self) -> bool {
        match (&self.grpc, self.code) {
            (Some(call), Some(code)) => code.status() >= 500 && !(call.hurried && code == Code::UpstreamTimeout),
            _ => self.status >= 500 || self.call_failed(),
        }
    }

    /// The answer at hand is one that `retry` wants another attempt for.
    pub(super) fn wants_again(&self, retry: &Retry) -> bool {
        let status = self.grpc.as_ref().and_then(|call| call.status);
        status.is_some_and(|status| retry.grpc_statuses.contains(&status))
    }

    /// The caller's own deadline, if it gave one; `Some(None)`: one that cannot be read.
    fn asked_time(&self) -> Option<Option<Duration>> {
        let mut asked = self.head.fields.all(b"grpc-timeout");
        let first = asked.next().filter(|_| self.grpc.is_some())?;
        Some(timeout::parse(first).filter(|_| asked.next().is_none()).map(|own| own.min(LONGEST)))
    }

    /// Another endpoint is tried: what the last one said no longer counts.
    pub(super) fn forget_status(&mut self) {
        if let Some(call) = &mut self.grpc {
            call.status = None;
        }
    }

    /// The head is about to go to an endpoint, which speaks HTTP/2 or does not.
    pub(super) fn send_call(&mut self, http2: bool, now: Instant) {
        let Some(call) = &self.grpc else { return };
        let fields = &mut self.head.fields;
        if let Some(deadline) = call.deadline {
            let mut left = Vec::with_capacity(10);
            timeout::write(deadline.since(now), &mut left);
            fields.set(b"grpc-timeout", &left);
        }
        fields.remove_known(Known::Te);
        if http2 && call.plain {
            fields.set_known(Known::Te, b"trailers");
        }
    }

    /// A piece of the request's body as the endpoint is to see it; `None`: as it is.
    pub(super) fn unwrapped(&mut self, input: &[u8]) -> Option<Result<Vec<u8>, NotBase64>> {
        let reader = self.grpc.as_mut()?.reader.as_mut()?;
        let mut out = Vec::with_capacity(input.len());
        Some(reader.write(input, &mut out).map(|()| out))
    }

    /// The request's body is whole.
    pub(super) fn unwrapped_whole(&self) -> bool {
        let reader = self.grpc.as_ref().and_then(|call| call.reader.as_ref());
        reader.is_none_or(|reader| reader.finish().is_ok())
    }

    /// Gives the answer's head the client's form; the coder is for its body, if one may come.
    pub(super) fn wrap(&self, head: &mut ResponseHead, length: BodyLength) -> Option<Coder> {
        let web = self.grpc.as_ref()?.web.as_ref()?;
        let complete = matches!(length, BodyLength::None | BodyLength::Exact(0)) && Status::of(&head.fields).is_some();
        (web.answer(head) && !complete).then(|| Coder::web(web))
    }

    /// Follows the answer's messages.
    pub(super) fn note_messages(&mut self, piece: &[u8]) {
        if let Some(call) = &mut self.grpc {
            call.messages.take(piece);
        }
    }
}

impl Engine {
    /// Sets the deadline of the whole exchange; false when it was refused.
    pub(super) fn begin_total(&mut self, ex: u32, route: Option<Duration>) -> bool {
        let own = self.exchanges[ex as usize].asked_time();
        let (mut total, mut hurried) = (route, false);
        match own {
            None => {}
            Some(None) => {
                self.refuse(ex, Code::BadRequest, Some("malformed grpc-timeout"));
                return false;
            }
            Some(Some(Duration::ZERO)) => {
                self.refuse(ex, Code::UpstreamTimeout, Some("the call came with no time left"));
                return false;
            }
            Some(Some(own)) if route.is_none_or(|route| own < route) => {
                hurried = own < self.first_byte_timeout(ex);
                total = Some(own);
            }
            Some(Some(_)) => {}
        }
        let Some(total) = total else { return true };
        let exchange = &mut self.exchanges[ex as usize];
        let at = exchange.started + total;
        if let Some(call) = &mut exchange.grpc {
            (call.deadline, call.hurried) = (Some(at), hurried);
        }
        self.wheel.set(&mut self.deadlines[ex as usize].total, at, Timer::Exchange(ex));
        true
    }

    /// The head in `self.response` is an endpoint's: what it says of the call.
    pub(super) fn note_head(&mut self, ex: u32) {
        let Some(call) = &mut self.exchanges[ex as usize].grpc else { return };
        let head = &self.response;
        let foreign = !head.fields.get_known(Known::ContentType).is_some_and(is_grpc);
        call.status = match Status::of(&head.fields) {
            None if head.status != 200 => Some(Status::from_http(head.status)),
            None if call.plain && foreign => Some(Status::Unknown),
            told => told,
        };
    }

    /// The answer's end, with what it says in `self.trailers`. One that says nothing is given a status.
    pub(super) fn note_trailers(&mut self, ex: u32) {
        let Some(call) = self.exchanges[ex as usize].grpc.as_mut().filter(|call| call.plain) else { return };
        let told = Status::of(&self.trailers);
        if told.is_none() && call.status.is_none() {
            self.trailers.remove(b"grpc-message");
            append_status(&mut self.trailers, Status::Unknown, "the upstream ended the call without a status");
        }
        call.status = told.or(call.status).or(Some(Status::Unknown));
    }

    /// An endpoint's answer to a call that is not gRPC's (a proxy's error page) becomes a status; true when it did.
    pub(super) fn answer_foreign(&mut self, ex: u32) -> bool {
        let call = self.exchanges[ex as usize].grpc.as_ref().filter(|call| call.plain);
        let Some(status) = call.and_then(|call| call.status) else { return false };
        if Status::of(&self.response.fields).is_some() {
            return false;
        }
        let http = self.response.status;
        self.end_attempt(ex, http, None);
        self.drop_upstream(ex);
        let mut fields = std::mem::take(&mut self.response.fields);
        fields.retain(|known, name, _| {
            let of_body = name.get(..8).is_some_and(|start| start.eq_ignore_ascii_case(b"content-"));
            !of_body && !matches!(known, Known::Etag | Known::Trailer)
        });
        let message = match http {
            200 => "the upstream's answer is not gRPC".to_owned(),
            _ => format!("the upstream answered with HTTP status {http}"),
        };
        self.status_head(ex, fields, status, &message);
        self.start_answer(ex, BodyLength::None, None);
        self.end_answer(ex);
        true
    }

    /// Answers a call with an error of the table.
    pub(super) fn refuse_call(&mut self, ex: u32, code: Code, detail: Option<&str>) {
        self.drop_upstream(ex);
        self.write_intent_of_refused(ex);
        self.error_head(ex, code, detail);
        self.start_answer(ex, BodyLength::None, Some(code));
        self.end_answer(ex);
    }

    /// Makes `self.response` the whole answer to a call that failed here.
    pub(super) fn error_head(&mut self, ex: u32, code: Code, detail: Option<&str>) {
        let message = match detail {
            Some(detail) => format!("{}: {detail}", code.title()),
            None => code.title().to_owned(),
        };
        self.status_head(ex, Fields::default(), Status::from_code(code), &message);
    }

    fn status_head(&mut self, ex: u32, mut fields: Fields, status: Status, message: &str) {
        fields.set_known(Known::ContentType, b"application/grpc");
        fields.remove(b"grpc-message");
        append_status(&mut fields, status, message);
        self.response.clear();
        self.response.status = 200;
        self.response.fields = fields;
        self.trailers.clear();
        if let Some(call) = &mut self.exchanges[ex as usize].grpc {
            call.status = Some(status);
            if let Some(web) = &call.web {
                web.answer(&mut self.response);
            }
        }
    }

    /// An answer that has begun cannot go on: it ends in trailers, if they can be sent. False when they cannot.
    pub(super) fn end_call(&mut self, ex: u32, code: Code) -> bool {
        let waits = self.waits_for_outcome(ex);
        let exchange = &mut self.exchanges[ex as usize];
        let open = exchange.framing == Framing::Chunked && !waits && !exchange.orphan;
        let Some(call) = &mut exchange.grpc else { return false };
        let useless = matches!(code, Code::ClientClosed | Code::AuditFailed);
        if !open || useless || !call.plain || !call.messages.between() || call.ending {
            return false;
        }
        let status = Status::from_code(code);
        (call.ending, call.status) = (true, Some(status));
        exchange.truncated = true;
        exchange.code = Some(code);
        exchange.close_after = true;
        self.drop_upstream(ex);
        self.end_attempt(ex, 0, Some(code));
        self.trailers.clear();
        append_status(&mut self.trailers, status, code.title());
        self.end_answer(ex);
        true
    }
}

fn append_status(fields: &mut Fields, status: Status, message: &str) {
    fields.set(b"grpc-status", itoa::Buffer::new().format(status.number()).as_bytes());
    let mut encoded = Vec::with_capacity(message.len());
    encode_message(message, &mut encoded);
    fields.append(b"grpc-message", &encoded);
}
