//! A call as its records tell it, borrowed from them.
//!
//! Rules:
//! 1. Nothing is copied and, up to two findings, nothing allocated: this runs once per call in the control process.
//! 2. Read the intent first, then the outcome: what both tell is the outcome's word, flags of both count.
//! 3. What a record leaves out is empty or zero; what this version does not know is passed over.

use super::codec::{self, id, Encoded, Malformed, Value, HTTPS, OUTCOME, SAMPLED, TRUNCATED};
use super::record::Finding;
use crate::grpc::Status;
use smallvec::SmallVec;
use std::net::IpAddr;

/// What is known of a call. Names and units are those of [`super::Intent`] and [`super::Outcome`]; texts are the
/// bytes that came, in no sure encoding. Ids are empty when no record told them.
#[derive(Debug, Default)]
pub struct Facts<'a> {
    /// An outcome was read.
    pub complete: bool,
    pub exchange: &'a [u8],
    pub revision: &'a [u8],
    pub trace_id: &'a [u8],
    pub span_id: Option<[u8; 8]>,
    /// When the intent was written; 0 without one.
    pub intent_ns: u64,
    /// When the outcome was written; 0 without one.
    pub end_ns: u64,
    pub duration_ns: u64,
    pub upstream_ns: u64,
    pub status: u64,
    pub grpc_status: Option<Status>,
    pub attempts: u64,
    pub request_bytes: u64,
    pub response_bytes: u64,
    pub client_ip: Option<IpAddr>,
    pub entrypoint: &'a [u8],
    pub route: &'a [u8],
    pub service: &'a [u8],
    pub endpoint: &'a [u8],
    pub identity: &'a [u8],
    pub method: &'a [u8],
    pub host: &'a [u8],
    pub path: &'a [u8],
    pub code: &'a [u8],
    pub user_agent: &'a [u8],
    pub findings: SmallVec<[Finding<'a>; 2]>,
    flags: u64,
}

impl<'a> Facts<'a> {
    /// Adds what `record` tells.
    pub fn read(&mut self, record: &Encoded<'a>) -> Result<(), Malformed> {
        let outcome = record.kind == OUTCOME;
        self.complete |= outcome;
        for field in record.fields() {
            match field? {
                (id::WALL, Value::Int(ns)) if outcome => self.end_ns = ns,
                (id::WALL, Value::Int(ns)) => self.intent_ns = ns,
                (id::SPAN, Value::Int(span)) => self.span_id = Some(span.to_le_bytes()),
                (id::FLAGS, Value::Int(flags)) => self.flags |= flags,
                (id::DURATION, Value::Int(ns)) => self.duration_ns = ns,
                (id::UPSTREAM, Value::Int(ns)) => self.upstream_ns = ns,
                (id::STATUS, Value::Int(status)) => self.status = status,
                (id::GRPC_STATUS, Value::Int(number)) => self.grpc_status = codec::grpc_status(number),
                (id::ATTEMPTS, Value::Int(attempts)) => self.attempts = attempts,
                (id::REQUEST_BYTES, Value::Int(bytes)) => self.request_bytes = bytes,
                (id::RESPONSE_BYTES, Value::Int(bytes)) => self.response_bytes = bytes,
                (id::EXCHANGE, Value::Bytes(id)) => self.exchange = id,
                (id::REVISION, Value::Bytes(id)) => self.revision = id,
                (id::TRACE, Value::Bytes(id)) => self.trace_id = id,
                (id::CLIENT, Value::Bytes(client)) => {
                    let (ip, _) = codec::client(client).ok_or(Malformed("client address of the wrong size"))?;
                    self.client_ip = Some(ip);
                }
                (id::ENTRYPOINT, Value::Bytes(text)) => self.entrypoint = text,
                (id::ROUTE, Value::Bytes(text)) => self.route = text,
                (id::SERVICE, Value::Bytes(text)) => self.service = text,
                (id::ENDPOINT, Value::Bytes(text)) => self.endpoint = text,
                (id::IDENTITY, Value::Bytes(text)) => self.identity = text,
                (id::METHOD, Value::Bytes(text)) => self.method = text,
                (id::HOST, Value::Bytes(text)) => self.host = text,
                (id::PATH, Value::Bytes(text)) => self.path = text,
                (id::CODE, Value::Bytes(text)) => self.code = text,
                (id::USER_AGENT, Value::Bytes(text)) => self.user_agent = text,
                (id::FINDING, Value::Bytes(finding)) => self.findings.push(codec::decode_finding(finding)?),
                _ => {}
            }
        }
        Ok(())
    }

    /// First byte of the request as far as known, ns since the Unix epoch.
    pub fn start_ns(&self) -> u64 {
        match self.end_ns {
            0 => self.intent_ns,
            end => end.saturating_sub(self.duration_ns),
        }
    }

    pub fn https(&self) -> bool {
        self.flags & HTTPS != 0
    }
    pub fn sampled(&self) -> bool {
        self.flags & SAMPLED != 0
    }
    pub fn truncated(&self) -> bool {
        self.flags & TRUNCATED != 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::audit::{encode_intent, encode_outcome, Intent, Outcome};
    use std::net::Ipv4Addr;

    fn both() -> (Vec<u8>, Vec<u8>) {
        let (mut intent, mut outcome) = (Vec::new(), Vec::new());
        encode_intent(
            &Intent {
                exchange: [1; 16],
                wall_ns: 1_000,
                mono_ns: 0,
                revision: [2; 6],
                entrypoint: "web",
                route: "orders",
                service: "shop",
                method: b"GET",
                https: true,
                host: b"h\xff",
                path: b"/",
                client_ip: Ipv4Addr::LOCALHOST.into(),
                client_port: 9,
                identity: "",
                trace_id: [3; 16],
                span_id: *b"12345678",
                parent_span_id: [0; 8],
                sampled: true,
                user_agent: b"",
                tls: "",
                client_cert: "",
            },
            &mut intent,
        );
        let finding = Finding { rule: "pii/iban", action: "mask", shadow: false, response: true, start: 1, end: 2 };
        encode_outcome(
            &Outcome {
                exchange: [1; 16],
                wall_ns: 5_000,
                duration_ns: 4_500,
                status: 502,
                code: "connect-failed",
                endpoint: "",
                attempts: 2,
                upstream_ns: 0,
                request_bytes: 7,
                response_bytes: 8,
                truncated: true,
                grpc_status: Some(Status::Ok),
                findings: &[finding],
                client_ip: None,
                entrypoint: "",
                revision: [0; 6],
            },
            &mut outcome,
        );
        (intent, outcome)
    }

    fn record(mut bytes: &[u8]) -> Encoded<'_> {
        codec::split(&mut bytes).unwrap().unwrap()
    }

    #[test]
    fn both_records_make_one_call() {
        let (intent, outcome) = both();
        let mut facts = Facts::default();
        facts.read(&record(&intent)).unwrap();
        assert!(!facts.complete && facts.sampled() && facts.https() && !facts.truncated());
        assert_eq!(facts.start_ns(), 1_000);
        facts.read(&record(&outcome)).unwrap();
        assert!(facts.complete && facts.sampled() && facts.https() && facts.truncated());
        assert_eq!(
            (facts.start_ns(), facts.end_ns, facts.status, facts.grpc_status),
            (500, 5_000, 502, Some(Status::Ok))
        );
        assert_eq!((facts.host, facts.code, facts.entrypoint), (&b"h\xff"[..], &b"connect-failed"[..], &b"web"[..]));
        assert_eq!((facts.span_id, facts.revision), (Some(*b"12345678"), &[2; 6][..]));
        assert_eq!(facts.findings[0].rule, "pii/iban");
    }

    #[test]
    fn a_record_cut_anywhere_is_malformed_or_tells_less() {
        let (intent, outcome) = both();
        for bytes in [&intent, &outcome] {
            let whole = record(bytes);
            for end in 0..whole.raw_fields.len() {
                let _ = Facts::default().read(&Encoded { kind: whole.kind, raw_fields: &whole.raw_fields[..end] });
            }
            let cut = &whole.raw_fields[..10];
            assert!(Facts::default().read(&Encoded { kind: whole.kind, raw_fields: cut }).is_err());
        }
    }
}
