//! gRPC statuses: their names and numbers, what stands for an HTTP status, and what for an error of the gateway.

use crate::error::Code;
use crate::message::Fields;

macro_rules! statuses {
    ($($variant:ident = $number:literal, $name:literal;)*) => {
        /// A status of the gRPC core specification.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        #[repr(u8)]
        pub enum Status { $($variant = $number),* }

        impl Status {
            pub const ALL: &'static [Status] = &[$(Status::$variant),*];
            /// As the specification spells it, for records and metrics.
            pub fn name(self) -> &'static str { match self { $(Status::$variant => $name),* } }
        }
    };
}

statuses! {
    Ok = 0, "OK";
    Cancelled = 1, "CANCELLED";
    Unknown = 2, "UNKNOWN";
    InvalidArgument = 3, "INVALID_ARGUMENT";
    DeadlineExceeded = 4, "DEADLINE_EXCEEDED";
    NotFound = 5, "NOT_FOUND";
    AlreadyExists = 6, "ALREADY_EXISTS";
    PermissionDenied = 7, "PERMISSION_DENIED";
    ResourceExhausted = 8, "RESOURCE_EXHAUSTED";
    FailedPrecondition = 9, "FAILED_PRECONDITION";
    Aborted = 10, "ABORTED";
    OutOfRange = 11, "OUT_OF_RANGE";
    Unimplemented = 12, "UNIMPLEMENTED";
    Internal = 13, "INTERNAL";
    Unavailable = 14, "UNAVAILABLE";
    DataLoss = 15, "DATA_LOSS";
    Unauthenticated = 16, "UNAUTHENTICATED";
}

impl Status {
    pub fn number(self) -> u8 {
        self as u8
    }

    /// From the value of `grpc-status`. Numbers without a name are `Unknown`, as the specification has it; what
    /// is no number is `None`.
    pub fn parse(value: &[u8]) -> Option<Status> {
        if value.is_empty() || value.len() > 10 || !value.iter().all(u8::is_ascii_digit) {
            return None;
        }
        let number = value.iter().fold(0u64, |sum, digit| sum * 10 + u64::from(digit - b'0'));
        Some(usize::try_from(number).ok().and_then(|n| Status::ALL.get(n)).copied().unwrap_or(Status::Unknown))
    }

    /// `grpc-status` of trailers, or of the head of an answer without a body.
    pub fn of(fields: &Fields) -> Option<Status> {
        Status::parse(fields.get(b"grpc-status")?)
    }

    /// What a gRPC client is to understand by an HTTP status that came without `grpc-status`
    /// (`http-grpc-status-mapping.md` of gRPC).
    pub fn from_http(status: u16) -> Status {
        match status {
            400 => Status::Internal,
            401 => Status::Unauthenticated,
            403 => Status::PermissionDenied,
            404 => Status::Unimplemented,
            429 | 502 | 503 | 504 => Status::Unavailable,
            _ => Status::Unknown,
        }
    }

    /// What the gateway's own errors are to a gRPC client: where the table of HTTP statuses would lose meaning,
    /// the status that says it.
    pub fn from_code(code: Code) -> Status {
        match code {
            Code::BadRequest | Code::BadCall | Code::PromptTooLong | Code::TranslationLoss => Status::InvalidArgument,
            Code::ModelNotFound | Code::NoTarget => Status::NotFound,
            Code::BudgetExceeded | Code::BudgetSpent => Status::ResourceExhausted,
            Code::ProviderRefused => Status::Unavailable,
            Code::RequestTimeout | Code::UpstreamTimeout => Status::DeadlineExceeded,
            Code::HeadTooLarge | Code::BodyTooLarge | Code::UpstreamTooLarge => Status::ResourceExhausted,
            Code::RateLimited | Code::ConcurrencyLimited => Status::ResourceExhausted,
            Code::NotImplemented | Code::UpgradeRequired | Code::VersionNotSupported | Code::MethodNotAllowed => {
                Status::Unimplemented
            }
            Code::ExpectationFailed => Status::FailedPrecondition,
            Code::Forbidden | Code::GuardBlocked => Status::PermissionDenied,
            Code::BadUpstream | Code::PluginFailed => Status::Internal,
            Code::ClientClosed => Status::Cancelled,
            // May be sent again, over another connection or a moment later.
            Code::Misdirected | Code::TooEarly => Status::Unavailable,
            other => Status::from_http(other.status()),
        }
    }

    /// A call with this status failed on the server's side: what breakers and outlier detection count. The rest
    /// is success or the caller's own doing.
    pub fn is_server_failure(self) -> bool {
        use Status::{DataLoss, DeadlineExceeded, Internal, Unavailable, Unknown};
        matches!(self, Unknown | DeadlineExceeded | Internal | Unavailable | DataLoss)
    }
}

/// Appends a `grpc-message` value: UTF-8 with everything but printable ASCII, and `%`, percent-encoded.
pub fn encode_message(text: &str, out: &mut Vec<u8>) {
    const DIGITS: &[u8; 16] = b"0123456789ABCDEF";
    for &byte in text.as_bytes() {
        match byte {
            b' '..=b'~' if byte != b'%' => out.push(byte),
            _ => out.extend_from_slice(&[b'%', DIGITS[usize::from(byte >> 4)], DIGITS[usize::from(byte & 15)]]),
        }
    }
}

/// The text of a `grpc-message` value. As the specification asks, nothing is refused: what is not an escape
/// stays as it is, what is not UTF-8 is replaced.
pub fn decode_message(value: &[u8]) -> String {
    let mut bytes = Vec::with_capacity(value.len());
    let mut rest = value;
    let digit = |byte: u8| (byte as char).to_digit(16).and_then(|d| u8::try_from(d).ok());
    while let Some((&byte, after)) = rest.split_first() {
        rest = after;
        let escaped = match after {
            [high, low, ..] if byte == b'%' => digit(*high).zip(digit(*low)),
            _ => None,
        };
        match escaped {
            Some((high, low)) => {
                bytes.push(high << 4 | low);
                rest = &after[2..];
            }
            None => bytes.push(byte),
        }
    }
    String::from_utf8(bytes).unwrap_or_else(|e| String::from_utf8_lossy(e.as_bytes()).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_and_names() {
        for (number, status) in Status::ALL.iter().enumerate() {
            assert_eq!(usize::from(status.number()), number);
            assert_eq!(Status::parse(number.to_string().as_bytes()), Some(*status));
        }
        assert_eq!(Status::ALL.len(), 17);
        assert_eq!(Status::Unauthenticated.name(), "UNAUTHENTICATED");
        for (text, expected) in [
            ("17", Some(Status::Unknown)),
            ("00", Some(Status::Ok)),
            ("4294967296", Some(Status::Unknown)),
            ("99999999999", None),
            ("", None),
            ("-1", None),
            ("+1", None),
            ("1 ", None),
            ("OK", None),
        ] {
            assert_eq!(Status::parse(text.as_bytes()), expected, "{text:?}");
        }
        let mut fields = Fields::default();
        assert_eq!(Status::of(&fields), None);
        fields.append(b"Grpc-Status", b"14");
        assert_eq!(Status::of(&fields), Some(Status::Unavailable));
    }

    #[test]
    fn http_statuses_as_the_specification_maps_them() {
        let table = [(400, 13), (401, 16), (403, 7), (404, 12), (429, 14), (502, 14), (503, 14), (504, 14)];
        for (http, grpc) in table {
            assert_eq!(Status::from_http(http).number(), grpc, "{http}");
        }
        for other in [0, 200, 302, 409, 418, 431, 500, 501, 599] {
            assert_eq!(Status::from_http(other), Status::Unknown, "{other}");
        }
    }

    #[test]
    fn no_error_of_the_gateway_is_vague() {
        for &code in Code::ALL {
            let status = Status::from_code(code);
            assert!(!matches!(status, Status::Ok | Status::Unknown), "{}", code.name());
        }
        assert_eq!(Status::from_code(Code::NoEndpoint), Status::Unavailable);
        assert_eq!(Status::from_code(Code::NoRoute), Status::Unimplemented);
        assert_eq!(Status::from_code(Code::Unauthenticated), Status::Unauthenticated);
        assert!(Status::Unavailable.is_server_failure() && !Status::ResourceExhausted.is_server_failure());
    }

    #[test]
    fn messages_go_there_and_back() {
        for (text, encoded) in [
            ("", ""),
            ("plain words, 100", "plain words, 100"),
            ("100%", "100%25"),
            ("a\r\nb\0", "a%0D%0Ab%00"),
            ("h\u{e9}\u{1f600}\x7f", "h%C3%A9%F0%9F%98%80%7F"),
        ] {
            let mut out = Vec::new();
            encode_message(text, &mut out);
            assert_eq!(std::str::from_utf8(&out).unwrap(), encoded);
            assert_eq!(decode_message(&out), text);
        }
        for (value, text) in [("%", "%"), ("%4", "%4"), ("%zz%41", "%zzA"), ("%+1", "%+1"), ("%FF", "\u{fffd}")] {
            assert_eq!(decode_message(value.as_bytes()), text, "{value}");
        }
    }
}
