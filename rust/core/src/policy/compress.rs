//! `compress`: content codings for answers, as the client asked for them (RFC 9110 §12.5.3).
//!
//! Rules:
//! 1. This policy decides ([`ResponseCx::encode`]) and says `vary`; the exchange carries the decision out when
//!    every policy has seen the head.
//! 2. Whether an answer is compressible depends on the answer alone; then, and only then, it varies by
//!    `accept-encoding`, for clients that get it plain, too.
//! 3. Never touched: what is encoded already or says `no-transform`, parts (206), answers without a body,
//!    types that are not listed, gRPC, and event streams unless the policy says that they are flushed.

use super::{Flow, Policy, RequestCx, ResponseCx};
use crate::coding::{negotiate, vary, weaken, Choice, Coding};
use crate::config::Size;
use crate::error::Problem;
use crate::grpc::is_grpc;
use crate::message::fields::is_token_byte;
use crate::message::{BodyLength, Fields, Known};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::sync::Arc;

/// Compress answers for clients that accept it. Who can put text of their own into an answer beside a secret, and watch
/// the length of many of them, can guess the secret (BREACH): leave such routes out, or see `skip_with_cookies`.
#[derive(Clone, Debug, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// Algorithms, the preferred first; among those a client likes equally well the first is taken.
    pub algorithms: Vec<Algorithm>,
    /// How hard each algorithm tries.
    pub level: Levels,
    /// Answers known to be shorter are left alone.
    pub min_size: Size,
    /// Media types that are compressed: `type/subtype`, `type/*` or `+suffix`.
    pub types: Vec<String>,
    /// Compress `text/event-stream`, too, each piece handed out at once.
    pub event_streams: bool,
    /// Leave answers alone that set a cookie, and answers to requests with one.
    pub skip_with_cookies: bool,
}

/// A compression algorithm.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Algorithm {
    /// Zstandard (RFC 8878).
    Zstd,
    /// Brotli (RFC 7932).
    Br,
    /// Gzip (RFC 1952).
    Gzip,
}

/// Levels, each in its algorithm's own scale: higher is smaller and slower.
#[derive(Clone, Debug, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Levels {
    /// 1 to 12.
    #[schemars(range(min = 1, max = 12))]
    pub zstd: u8,
    /// 0 to 6; higher ones need tens of megabytes per answer.
    #[schemars(range(min = 0, max = 6))]
    pub br: u8,
    /// 1 to 9.
    #[schemars(range(min = 1, max = 9))]
    pub gzip: u8,
}

impl Default for Levels {
    fn default() -> Self {
        Levels { zstd: 3, br: 4, gzip: 5 }
    }
}

impl Default for Config {
    fn default() -> Self {
        let types = [
            "text/*",
            "application/json",
            "application/javascript",
            "application/xml",
            "application/x-ndjson",
            "application/graphql",
            "application/yaml",
            "application/toml",
            "application/wasm",
            "application/vnd.ms-fontobject",
            "font/otf",
            "font/ttf",
            "image/bmp",
            "image/x-icon",
            "+json",
            "+xml",
            "+yaml",
        ];
        Config {
            algorithms: vec![Algorithm::Zstd, Algorithm::Br, Algorithm::Gzip],
            level: Levels::default(),
            min_size: Size(1 << 10),
            types: types.map(String::from).to_vec(),
            event_streams: false,
            skip_with_cookies: false,
        }
    }
}

struct Compress {
    order: Vec<Coding>,
    level: Levels,
    min_size: u64,
    types: Vec<Type>,
    event_streams: bool,
    skip_with_cookies: bool,
}

/// A pattern of media types, lower case.
enum Type {
    Exact(String),
    /// `text/`
    Main(String),
    /// `+json`
    Suffix(String),
}

/// Slot: the client's coding as its number, 0 for none; and this, if it sent cookies.
const COOKIES: u64 = 1 << 8;

impl From<Algorithm> for Coding {
    fn from(algorithm: Algorithm) -> Coding {
        match algorithm {
            Algorithm::Zstd => Coding::Zstd,
            Algorithm::Br => Coding::Br,
            Algorithm::Gzip => Coding::Gzip,
        }
    }
}

impl Config {
    pub fn compile(&self, name: &str) -> Result<Arc<dyn Policy>, Vec<Problem>> {
        let at = |key: String| format!("policies.{name}.compress.{key}");
        let mut problems = Vec::new();
        let mut order: Vec<Coding> = Vec::new();
        if self.algorithms.is_empty() {
            let none = Problem::new(at("algorithms".into()), "no algorithm is given");
            problems.push(none.expected("some of \"zstd\", \"br\" and \"gzip\""));
        }
        for (index, &algorithm) in self.algorithms.iter().enumerate() {
            let coding = Coding::from(algorithm);
            if order.contains(&coding) {
                let twice = format!("{:?} is listed twice", coding.name());
                problems.push(Problem::new(at(format!("algorithms[{index}]")), twice));
            }
            order.push(coding);
        }
        for (key, value, range) in
            [("zstd", self.level.zstd, 1..=12), ("br", self.level.br, 0..=6), ("gzip", self.level.gzip, 1..=9)]
        {
            if !range.contains(&value) {
                let expected = format!("{} to {}", range.start(), range.end());
                let problem = Problem::new(at(format!("level.{key}")), format!("there is no level {value}"));
                problems.push(problem.expected(expected));
            }
        }
        if self.types.is_empty() {
            problems.push(Problem::new(at("types".into()), "no type is given").expected("types such as \"text/*\""));
        }
        let mut types = Vec::new();
        for (index, text) in self.types.iter().enumerate() {
            match Type::parse(text) {
                Some(pattern) => types.push(pattern),
                None => problems.push(
                    Problem::new(at(format!("types[{index}]")), format!("{text:?} is not a media type"))
                        .expected("\"type/subtype\", \"type/*\" or \"+suffix\""),
                ),
            }
        }
        if !problems.is_empty() {
            return Err(problems);
        }
        Ok(Arc::new(Compress {
            order,
            level: self.level.clone(),
            min_size: self.min_size.0,
            types,
            event_streams: self.event_streams,
            skip_with_cookies: self.skip_with_cookies,
        }))
    }
}

impl Type {
    fn parse(text: &str) -> Option<Type> {
        let text = text.trim().to_ascii_lowercase();
        let token = |part: &str| !part.is_empty() && part != "*" && part.bytes().all(is_token_byte);
        if let Some(suffix) = text.strip_prefix('+') {
            return token(suffix).then(|| Type::Suffix(text.clone()));
        }
        let (main, sub) = text.split_once('/')?;
        match sub {
            "*" => token(main).then(|| Type::Main(format!("{main}/"))),
            sub => (token(main) && token(sub)).then(|| Type::Exact(text.clone())),
        }
    }

    /// `essence`: the media type without parameters.
    fn matches(&self, essence: &[u8]) -> bool {
        match self {
            Type::Exact(text) => essence.eq_ignore_ascii_case(text.as_bytes()),
            Type::Main(start) => {
                essence.get(..start.len()).is_some_and(|head| head.eq_ignore_ascii_case(start.as_bytes()))
            }
            Type::Suffix(end) => {
                let from = essence.len().saturating_sub(end.len());
                essence.contains(&b'/') && essence[from..].eq_ignore_ascii_case(end.as_bytes())
            }
        }
    }
}

impl Compress {
    /// How an answer with this head would be encoded, whoever asks: `None` for not at all, else whether it is
    /// handed out piece by piece.
    fn fits(&self, fields: &Fields, length: BodyLength) -> Option<bool> {
        if matches!(length, BodyLength::Exact(n) if n < self.min_size) || fields.has(Known::ContentEncoding) {
            return None;
        }
        if no_transform(fields) {
            return None;
        }
        let content_type = fields.get_known(Known::ContentType)?;
        let essence = content_type.split(|&b| b == b';').next().unwrap_or_default().trim_ascii();
        if essence.eq_ignore_ascii_case(b"text/event-stream") {
            return self.event_streams.then_some(true);
        }
        if is_grpc(essence) || crate::grpc::web::Web::of(essence).is_some() {
            return None;
        }
        self.types.iter().any(|pattern| pattern.matches(essence)).then_some(false)
    }

    fn level(&self, coding: Coding) -> u8 {
        match coding {
            Coding::Zstd => self.level.zstd,
            Coding::Br => self.level.br,
            Coding::Gzip | Coding::Deflate => self.level.gzip,
        }
    }
}

/// RFC 9111 §5.2.1.6 and §5.2.2.6: either side may forbid it.
fn no_transform(fields: &Fields) -> bool {
    let mut directives = fields.all(b"cache-control").flat_map(|line| line.split(|&b| b == b','));
    fields.has(Known::CacheControl) && directives.any(|one| one.trim_ascii().eq_ignore_ascii_case(b"no-transform"))
}

impl Policy for Compress {
    fn on_request(&self, cx: &mut RequestCx<'_>, slot: &mut u64) -> Flow {
        let fields = &cx.head.fields;
        if fields.has(Known::AcceptEncoding) && !no_transform(fields) {
            *slot = negotiate(fields.all(b"accept-encoding"), &self.order).map_or(0, |coding| coding as u64);
        }
        if self.skip_with_cookies && fields.has(Known::Cookie) {
            *slot |= COOKIES;
        }
        Flow::Next
    }

    fn on_response(&self, cx: &mut ResponseCx<'_>, slot: &mut u64) {
        let chosen = self.order.iter().copied().find(|&coding| coding as u64 == *slot & !COOKIES);
        let status = cx.head.status;
        if status == 304 {
            // The client's copy carries the weak validator (RFC 9111 §4.3.4 matches it with this one).
            if chosen.is_some() {
                weaken(&mut cx.head.fields);
            }
            if cx.head.fields.has(Known::Etag) {
                vary(&mut cx.head.fields);
            }
            return;
        }
        if matches!(status, 204..=206) || status < 200 || cx.encode.is_some() {
            return;
        }
        if self.skip_with_cookies && (*slot & COOKIES != 0 || cx.head.fields.has(Known::SetCookie)) {
            return;
        }
        let Some(flush) = self.fits(&cx.head.fields, cx.length) else { return };
        if cx.length == BodyLength::None {
            return;
        }
        vary(&mut cx.head.fields);
        *cx.encode = chosen.map(|coding| Choice { coding, level: self.level(coding), flush });
    }

    fn describe(&self) -> String {
        let names: Vec<_> = self.order.iter().map(|coding| coding.name()).collect();
        let streams = if self.event_streams { ", event streams too" } else { "" };
        format!("compress: {} from {} bytes{streams}", names.join(", "), self.min_size)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::message::ResponseHead;
    use crate::policy::stage::{compile, problem_paths, Stage};
    use serde_json::json;

    /// Runs one exchange; returns the decision and the answer's `vary`.
    fn played(
        config: serde_json::Value,
        accepts: Option<&str>,
        cookie: bool,
        status: u16,
        lines: &[(&str, &str)],
        length: BodyLength,
    ) -> (Option<Choice>, Option<String>) {
        let policy = compile(json!({ "compress": config })).unwrap();
        let mut stage = Stage::new("a", "/");
        if let Some(accepts) = accepts {
            stage = stage.field("Accept-Encoding", accepts);
        }
        if cookie {
            stage = stage.field("Cookie", "sid=1");
        }
        assert!(matches!(stage.request(&policy), Flow::Next));
        let mut head = ResponseHead { status, length, ..ResponseHead::default() };
        lines.iter().for_each(|(name, value)| head.fields.append(name.as_bytes(), value.as_bytes()));
        let choice = stage.response(&policy, &mut head);
        (choice, head.fields.get(b"vary").map(|v| String::from_utf8(v.to_vec()).unwrap()))
    }

    const BIG: BodyLength = BodyLength::Exact(5000);
    const HTML: &[(&str, &str)] = &[("content-type", "text/html; charset=utf-8")];

    #[test]
    fn what_the_client_likes_best_is_taken() {
        for (config, accepts, expected) in [
            (json!({}), "gzip, br, zstd", Some((Coding::Zstd, 3))),
            (json!({}), "gzip, br", Some((Coding::Br, 4))),
            (json!({}), "gzip", Some((Coding::Gzip, 5))),
            (json!({}), "br;q=0.1, gzip", Some((Coding::Gzip, 5))),
            (json!({"algorithms": ["gzip"], "level": {"gzip": 9}}), "*", Some((Coding::Gzip, 9))),
            (json!({"algorithms": ["br"]}), "gzip", None),
            (json!({}), "gzip;q=broken", None),
        ] {
            let (choice, vary) = played(config, Some(accepts), false, 200, HTML, BIG);
            let expected = expected.map(|(coding, level)| Choice { coding, level, flush: false });
            assert_eq!(choice, expected, "{accepts}");
            assert_eq!(vary.as_deref(), Some("accept-encoding"), "{accepts}");
        }
        let (choice, vary) = played(json!({}), None, false, 200, HTML, BIG);
        assert_eq!((choice, vary.as_deref()), (None, Some("accept-encoding")), "caches must know all the same");
    }

    #[test]
    fn answers_that_are_left_alone() {
        let json = ("content-type", "application/json");
        for (status, lines, length, touched) in [
            (200, vec![json], BIG, true),
            (404, vec![json], BIG, true),
            (200, vec![json], BodyLength::Streamed, true),
            (200, vec![json], BodyLength::UntilClose, true),
            (200, vec![json], BodyLength::Exact(1024), true),
            (200, vec![json], BodyLength::Exact(1023), false),
            (200, vec![json], BodyLength::None, false),
            (206, vec![json], BIG, false),
            (204, vec![json], BIG, false),
            (200, vec![json, ("content-encoding", "identity")], BIG, false),
            (200, vec![json, ("Cache-Control", "public"), ("cache-control", "max-age=1, No-Transform")], BIG, false),
            (200, vec![json, ("cache-control", "max-age=1")], BIG, true),
            (200, vec![], BIG, false),
            (200, vec![("content-type", "APPLICATION/Problem+JSON ; x=y")], BIG, true),
            (200, vec![("content-type", "image/svg+xml")], BIG, true),
            (200, vec![("content-type", "application/wasm")], BIG, true),
            (200, vec![("content-type", "image/png")], BIG, false),
            (200, vec![("content-type", "application/octet-stream")], BIG, false),
            (200, vec![("content-type", "text")], BIG, false),
            (200, vec![("content-type", "+json")], BIG, false),
            (200, vec![("content-type", "application/grpc+json")], BIG, false),
            (200, vec![("content-type", "application/grpc-web+json")], BIG, false),
            (200, vec![("content-type", "text/event-stream;charset=utf-8")], BodyLength::Streamed, false),
        ] {
            let (choice, vary) = played(json!({}), Some("gzip"), false, status, &lines, length);
            assert_eq!(choice.is_some(), touched, "{status} {lines:?} {length:?}");
            assert_eq!(vary.is_some(), touched, "{status} {lines:?} {length:?}");
        }
    }

    #[test]
    fn a_client_can_forbid_it() {
        let policy = compile(json!({"compress": {}})).unwrap();
        let mut stage = Stage::new("a", "/").field("accept-encoding", "br").field("cache-control", "no-transform");
        assert!(matches!(stage.request(&policy), Flow::Next));
        let mut head = ResponseHead { status: 200, length: BIG, ..ResponseHead::default() };
        head.fields.append(b"content-type", b"text/html");
        assert_eq!(stage.response(&policy, &mut head), None);
    }

    #[test]
    fn event_streams_are_flushed_or_left_alone() {
        let lines = [("content-type", "text/event-stream")];
        let (choice, _) =
            played(json!({"event_streams": true}), Some("gzip"), false, 200, &lines, BodyLength::Streamed);
        assert!(choice.unwrap().flush);
    }

    #[test]
    fn cookies_can_be_kept_out() {
        let set = [HTML[0], ("set-cookie", "a=b")];
        for (config, cookie, lines, touched) in [
            (json!({}), true, &set[..], true),
            (json!({"skip_with_cookies": true}), true, HTML, false),
            (json!({"skip_with_cookies": true}), false, &set[..], false),
            (json!({"skip_with_cookies": true}), false, HTML, true),
        ] {
            assert_eq!(played(config, Some("gzip"), cookie, 200, lines, BIG).0.is_some(), touched);
        }
    }

    #[test]
    fn not_modified_names_the_copy_the_client_has() {
        let policy = compile(json!({"compress": {}})).unwrap();
        let mut stage = Stage::new("a", "/").field("accept-encoding", "br");
        assert!(matches!(stage.request(&policy), Flow::Next));
        let mut head = ResponseHead { status: 304, ..ResponseHead::default() };
        head.fields.append(b"etag", b"\"x\"");
        assert_eq!(stage.response(&policy, &mut head), None);
        assert_eq!(head.fields.get(b"etag"), Some(&b"W/\"x\""[..]));
        assert_eq!(head.fields.get(b"vary"), Some(&b"accept-encoding"[..]));
    }

    #[test]
    fn mistakes_name_their_key() {
        for (config, keys) in [
            (json!({"algorithms": []}), vec!["algorithms"]),
            (json!({"algorithms": ["br", "gzip", "br"]}), vec!["algorithms[2]"]),
            (json!({"types": []}), vec!["types"]),
            (
                json!({"types": ["text/*", "text", "*/*", "+", "text/ html"]}),
                vec!["types[1]", "types[2]", "types[3]", "types[4]"],
            ),
            (json!({"level": {"zstd": 13, "br": 7, "gzip": 0}}), vec!["level.zstd", "level.br", "level.gzip"]),
        ] {
            let paths: Vec<_> = keys.iter().map(|key| format!("policies.p.compress.{key}")).collect();
            assert_eq!(problem_paths(json!({"compress": config})), paths, "{config}");
        }
        let policy = compile(json!({"compress": {"event_streams": true}})).unwrap();
        assert_eq!(policy.describe(), "compress: zstd, br, gzip from 1024 bytes, event streams too");
    }
}
