//! Amazon's Signature Version 4 of a request whose body is at hand.
//!
//! Rules:
//! 1. What is signed is what goes on the wire: path and query are taken as they are sent. The path is encoded once
//!    more, as all services but S3 ask for, and must hold no dot segments.
//! 2. Credentials and time are arguments; nothing is kept, and nothing of the secret can be printed.

use ring::{digest, hmac};
use std::borrow::Cow;
use std::fmt::Write;

const ALGORITHM: &str = "AWS4-HMAC-SHA256";

#[derive(Clone, Copy)]
pub struct Credentials<'a> {
    pub key_id: &'a str,
    pub secret: &'a str,
    /// Of temporary credentials.
    pub session_token: Option<&'a str>,
}

#[derive(Clone, Copy, Debug)]
pub struct Scope<'a> {
    pub region: &'a str,
    /// `bedrock`, for Bedrock's runtime, too.
    pub service: &'a str,
}

#[derive(Clone, Copy, Debug)]
pub struct Request<'a> {
    pub method: &'a str,
    /// Encoded, as it is sent.
    pub path: &'a str,
    /// Encoded, without the question mark.
    pub query: &'a str,
    /// As the `host` field says.
    pub host: &'a str,
    /// Further fields to sign, in any order and case. Neither `host` nor those [`sign`] returns.
    pub fields: &'a [(&'a str, &'a str)],
    pub body: &'a [u8],
}

/// Fields to send with a request, names in lower case: `x-amz-date`, `authorization`, and `x-amz-security-token` with
/// temporary credentials. `at` is in seconds since the epoch.
pub fn sign(
    request: &Request<'_>,
    credentials: &Credentials<'_>,
    scope: &Scope<'_>,
    at: u64,
) -> Vec<(&'static str, String)> {
    let time = timestamp(at);
    let day = time.get(..8).unwrap_or_default();
    let mut fields: Vec<(String, String)> =
        request.fields.iter().map(|(name, value)| (name.to_ascii_lowercase(), collapsed(value))).collect();
    fields.push(("host".into(), request.host.trim().to_owned()));
    fields.push(("x-amz-date".into(), time.clone()));
    if let Some(token) = credentials.session_token {
        fields.push(("x-amz-security-token".into(), token.to_owned()));
    }
    // Stable, so that values of one name stay in their order.
    fields.sort_by(|a, b| a.0.cmp(&b.0));
    fields.dedup_by(|next, kept| {
        let same = next.0 == kept.0;
        if same {
            kept.1.push(',');
            kept.1.push_str(&next.1);
        }
        same
    });
    let names = fields.iter().map(|(name, _)| name.as_str()).collect::<Vec<_>>().join(";");

    let mut canonical = format!("{}\n{}\n{}\n", request.method, encoded(request.path), sorted(request.query));
    for (name, value) in &fields {
        let _ = writeln!(canonical, "{name}:{value}");
    }
    let _ = write!(canonical, "\n{names}\n{}", sha256(request.body));

    let scoped = format!("{day}/{}/{}/aws4_request", scope.region, scope.service);
    let text = format!("{ALGORITHM}\n{time}\n{scoped}\n{}", sha256(canonical.as_bytes()));
    let signature = hex::encode(hmac(&key(credentials.secret, day, scope), text.as_bytes()));
    let authorization =
        format!("{ALGORITHM} Credential={}/{scoped}, SignedHeaders={names}, Signature={signature}", credentials.key_id);
    let mut out = vec![("x-amz-date", time), ("authorization", authorization)];
    if let Some(token) = credentials.session_token {
        out.push(("x-amz-security-token", token.to_owned()));
    }
    out
}

fn key(secret: &str, day: &str, scope: &Scope<'_>) -> hmac::Tag {
    let first = hmac::Key::new(hmac::HMAC_SHA256, format!("AWS4{secret}").as_bytes());
    [scope.region, scope.service, "aws4_request"]
        .into_iter()
        .fold(hmac::sign(&first, day.as_bytes()), |tag, part| hmac(&tag, part.as_bytes()))
}

fn hmac(key: &hmac::Tag, text: &[u8]) -> hmac::Tag {
    hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, key.as_ref()), text)
}

fn sha256(bytes: &[u8]) -> String {
    hex::encode(digest::digest(&digest::SHA256, bytes))
}

/// Percent-encodes all but unreserved characters and slashes.
fn encoded(path: &str) -> Cow<'_, str> {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.' | b'~' | b'/');
    if path.is_empty() {
        return Cow::Borrowed("/");
    }
    if path.bytes().all(plain) {
        return Cow::Borrowed(path);
    }
    let mut out = String::with_capacity(path.len() + 16);
    for byte in path.bytes() {
        if plain(byte) {
            out.push(char::from(byte));
        } else {
            let _ = write!(out, "%{byte:02X}");
        }
    }
    Cow::Owned(out)
}

/// Parameters by name, then value; those without a value get an empty one.
fn sorted(query: &str) -> String {
    let split = |pair| str::split_once(pair, '=').unwrap_or((pair, ""));
    let mut pairs: Vec<(&str, &str)> = query.split('&').filter(|pair| !pair.is_empty()).map(split).collect();
    pairs.sort_unstable();
    pairs.iter().map(|(name, value)| format!("{name}={value}")).collect::<Vec<_>>().join("&")
}

/// Without white space at the ends, and with one space where there was more.
fn collapsed(value: &str) -> String {
    value.split_ascii_whitespace().collect::<Vec<_>>().join(" ")
}

/// `20150830T123600Z`.
fn timestamp(at: u64) -> String {
    let (days, second) = (at / 86_400, at % 86_400);
    // Days to a civil date, in years that begin in March (Hinnant, "chrono-Compatible Low-Level Date Algorithms").
    let shifted = days + 719_468;
    let (era, of_era) = (shifted / 146_097, shifted % 146_097);
    let year = (of_era - of_era / 1_460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year + year / 4 - year / 100);
    let month = (5 * of_year + 2) / 153;
    let day = of_year - (153 * month + 2) / 5 + 1;
    let month = if month < 10 { month + 3 } else { month - 9 };
    let year = era * 400 + year + u64::from(month <= 2);
    let (hour, minute, second) = (second / 3_600, second / 60 % 60, second % 60);
    format!("{year:04}{month:02}{day:02}T{hour:02}{minute:02}{second:02}Z")
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const EXAMPLE: Credentials<'_> =
        Credentials { key_id: "AKIDEXAMPLE", secret: "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY", session_token: None };
    const ROOT: Request<'_> =
        Request { method: "GET", path: "/", query: "", host: "example.amazonaws.com", fields: &[], body: b"" };
    const SERVICE: Scope<'_> = Scope { region: "us-east-1", service: "service" };
    const AT: u64 = 1_440_938_160;

    fn authorization(request: &Request<'_>, credentials: &Credentials<'_>, scope: &Scope<'_>, at: u64) -> String {
        let fields = sign(request, credentials, scope, at);
        fields.into_iter().find(|(name, _)| *name == "authorization").unwrap().1
    }

    /// Amazon's published suite (`get-vanilla` and others) and the example of its general reference.
    #[test]
    fn published_requests_are_signed_alike() {
        let post = Request { method: "POST", ..ROOT };
        let form = Request {
            fields: &[("Content-Type", "application/x-www-form-urlencoded")],
            body: b"Param1=value1",
            ..post
        };
        let users = Request {
            host: "iam.amazonaws.com",
            query: "Version=2010-05-08&Action=ListUsers",
            fields: &[("content-type", " application/x-www-form-urlencoded;  charset=utf-8 ")],
            ..ROOT
        };
        let duplicate = Request { fields: &[("My-Header1", "value2"), ("my-header1", "value2,value1")], ..ROOT };
        for (request, service, names, signature) in [
            (ROOT, "service", "", "5fa00fa31553b73ebf1942676e86291e8372ff2a2260956d9b8aae1d763fbf31"),
            (post, "service", "", "5da7c1a2acd57cee7505fc6676e4e544621c30862966e37dddb68e92efbe5d6b"),
            (
                Request { query: "Param2=value2&Param1=value1", ..ROOT },
                "service",
                "",
                "b97d918cfa904a5beff61c982a1b6f458b799221646efd99d3219ec94cdf2500",
            ),
            (form, "service", "content-type;", "ff11897932ad3f4e8b18135d722051e5ac45fc38421b1da7b9d196a0fe09473a"),
            (users, "iam", "content-type;", "5d672d79c15b13162d9279b0855cfba6789a8edb4c82c400e06b5924a6f2b5d7"),
            (duplicate, "service", "my-", "c9d5ea9f3f72853aea855b47ea873832890dbdd183b4468f858259531a5138ea"),
        ] {
            let names = match names {
                "my-" => "host;my-header1;x-amz-date".to_owned(),
                names => format!("{names}host;x-amz-date"),
            };
            let expected = format!(
                "AWS4-HMAC-SHA256 Credential=AKIDEXAMPLE/20150830/us-east-1/{service}/aws4_request, \
                 SignedHeaders={names}, Signature={signature}"
            );
            assert_eq!(authorization(&request, &EXAMPLE, &Scope { service, ..SERVICE }, AT), expected);
        }
    }

    /// Signatures that botocore makes of the same requests.
    #[test]
    fn botocore_agrees_on_paths_tokens_and_queries() {
        let converse = Request {
            method: "POST",
            path: "/model/anthropic.claude-3-5-sonnet-20240620-v1%3A0/converse-stream",
            query: "",
            host: "bedrock-runtime.eu-central-1.amazonaws.com",
            fields: &[("Content-Type", "application/json"), ("accept", "application/vnd.amazon.eventstream")],
            body: b"{\"messages\":[]}",
        };
        let temporary = Credentials { session_token: Some("AQoDYXdzEPT//EXAMPLE=="), ..EXAMPLE };
        let scope = Scope { region: "eu-central-1", service: "bedrock" };
        let fields = sign(&converse, &temporary, &scope, 1_772_323_199);
        assert_eq!(fields[0], ("x-amz-date", "20260228T235959Z".to_owned()));
        assert_eq!(fields[2], ("x-amz-security-token", "AQoDYXdzEPT//EXAMPLE==".to_owned()));
        let expected = "AWS4-HMAC-SHA256 Credential=AKIDEXAMPLE/20260228/eu-central-1/bedrock/aws4_request, \
                        SignedHeaders=accept;content-type;host;x-amz-date;x-amz-security-token, \
                        Signature=c2bf7f86fdccf12e6e8fc526c9a27d3d5fafc84918b8830fa89709cef2f01fb6";
        assert_eq!(fields[1].1, expected);
        let odd = Request {
            method: "POST",
            path: "/model/arn%3Aaws%3Abedrock%3Ap%2Fx/converse",
            query: "b=2&a=1&a=%20&c",
            host: "h.example:8443",
            fields: &[("X-Two", "  a   b  ")],
            body: b"x",
        };
        let scope = Scope { region: "us-west-2", service: "bedrock" };
        let signed = authorization(&odd, &EXAMPLE, &scope, 1_709_164_801);
        let expected = "20b0b9690ba774ea0ce9bcddbf995f18e0ce0f0e138ee2ad4bb148ad7f09d2f1";
        assert!(signed.ends_with(expected) && signed.contains("/20240229/"), "{signed}");
    }

    #[test]
    fn time_is_told_in_the_civil_calendar() {
        for (at, expected) in [
            (0, "19700101T000000Z"),
            (951_827_696, "20000229T123456Z"),
            (1_709_251_199, "20240229T235959Z"),
            (1_709_251_200, "20240301T000000Z"),
            (4_107_542_400, "21000301T000000Z"),
        ] {
            assert_eq!(timestamp(at), expected);
        }
    }

    proptest! {
        #[test]
        fn anything_that_is_signed_changes_the_signature(
            path in "(/[a-z%:é ]{0,6}){1,3}", query in "([a-c]=?[x-z]?&?){0,4}", body in ".{0,9}", at in 0u64..1 << 36,
        ) {
            let request = Request { path: &path, query: &query, body: body.as_bytes(), ..ROOT };
            let signed = authorization(&request, &EXAMPLE, &SERVICE, at);
            let longer = format!("{body}!");
            for other in [
                Request { path: &format!("{path}x"), ..request },
                Request { query: &format!("{query}&d=e"), ..request },
                Request { body: longer.as_bytes(), ..request },
                Request { method: "POST", ..request },
                Request { host: "other", ..request },
            ] {
                prop_assert_ne!(&authorization(&other, &EXAMPLE, &SERVICE, at), &signed);
            }
            prop_assert_eq!(authorization(&request, &EXAMPLE, &SERVICE, at), signed);
        }
    }
}
