//! Field lines (headers and trailers) in one arena.
//!
//! Rules:
//! 1. Names and values are stored as they came; lookups ignore ASCII case.
//! 2. Every entry carries the [`Known`] number of its name, found once at insertion, so that the hot
//!    path compares bytes of names it does not know only.
//! 3. `clear` keeps the allocations: one `Fields` serves a connection's whole life.
//! 4. Nothing here validates a peer's bytes; parsers do ([`is_field_name`], [`is_field_value`]).

macro_rules! known {
    ($($variant:ident = $name:literal),* $(,)?) => {
        /// Field names the gateway itself acts on.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        #[repr(u8)]
        pub enum Known { Other, $($variant),* }

        impl Known {
            pub fn of(name: &[u8]) -> Known {
                const ALL: &[(&[u8], Known)] = &[$(($name.as_bytes(), Known::$variant)),*];
                static BUCKETS: [[u8; BUCKET]; 256] = buckets(ALL);
                if name.len() < 2 || name.len() > LONGEST {
                    return Known::Other;
                }
                for &at in &BUCKETS[bucket(name)] {
                    if at == 0 {
                        break;
                    }
                    let (text, known) = ALL[at as usize - 1];
                    if is_name(name, text) {
                        return known;
                    }
                }
                Known::Other
            }

            /// Lower-case name; empty for `Other`.
            pub fn name(self) -> &'static str {
                match self { Known::Other => "", $(Known::$variant => $name),* }
            }
        }
    };
}

/// Whether the token `name` is `lower` in any case, eight bytes at a time.
///
/// Setting bit 5 folds the case of letters; of all bytes a token may hold it changes nothing else that could
/// then equal a byte of a known name (letters, digits and `-`).
fn is_name(name: &[u8], lower: &[u8]) -> bool {
    const FOLD: u64 = 0x2020_2020_2020_2020;
    let word = |bytes: &[u8]| u64::from_le_bytes(*bytes.first_chunk::<8>().unwrap_or(&[0; 8]));
    if name.len() != lower.len() {
        return false;
    }
    if name.len() < 8 {
        return name.iter().zip(lower).all(|(a, b)| a | 0x20 == *b);
    }
    let last = name.len() - 8;
    (0..last).step_by(8).all(|at| word(&name[at..]) | FOLD == word(&lower[at..]))
        && word(&name[last..]) | FOLD == word(&lower[last..])
}

const LONGEST: usize = 25;
const BUCKET: usize = 4;

/// Length, first and last letter tell nearly all known names apart.
const fn bucket(name: &[u8]) -> usize {
    let first = (name[0] | 0x20) as usize;
    let last = (name[name.len() - 1] | 0x20) as usize;
    (name.len() * 31 + first * 5 + last) & 255
}

/// 1-based positions in `all`, filled at compile time; a fifth name in one bucket fails the build.
const fn buckets(all: &[(&[u8], Known)]) -> [[u8; BUCKET]; 256] {
    let mut table = [[0; BUCKET]; 256];
    let mut i = 0;
    while i < all.len() {
        assert!(all[i].0.len() <= LONGEST);
        let b = bucket(all[i].0);
        let mut free = 0;
        while table[b][free] != 0 {
            free += 1;
        }
        table[b][free] = i as u8 + 1;
        i += 1;
    }
    table
}

known! {
    Accept = "accept",
    AcceptEncoding = "accept-encoding",
    Allow = "allow",
    Authorization = "authorization",
    CacheControl = "cache-control",
    ClientCert = "client-cert",
    ClientCertChain = "client-cert-chain",
    Connection = "connection",
    ContentEncoding = "content-encoding",
    ContentLength = "content-length",
    ContentType = "content-type",
    Cookie = "cookie",
    Date = "date",
    EarlyData = "early-data",
    Etag = "etag",
    Expect = "expect",
    Forwarded = "forwarded",
    Host = "host",
    Http2Settings = "http2-settings",
    KeepAlive = "keep-alive",
    Location = "location",
    Origin = "origin",
    ProxyAuthenticate = "proxy-authenticate",
    ProxyAuthorization = "proxy-authorization",
    ProxyConnection = "proxy-connection",
    RetryAfter = "retry-after",
    Server = "server",
    SetCookie = "set-cookie",
    Te = "te",
    Traceparent = "traceparent",
    Tracestate = "tracestate",
    Trailer = "trailer",
    TransferEncoding = "transfer-encoding",
    Upgrade = "upgrade",
    UserAgent = "user-agent",
    Vary = "vary",
    Via = "via",
    XApiKey = "x-api-key",
    XForwardedFor = "x-forwarded-for",
    XForwardedHost = "x-forwarded-host",
    XForwardedPort = "x-forwarded-port",
    XForwardedPrefix = "x-forwarded-prefix",
    XForwardedProto = "x-forwarded-proto",
    XRealIp = "x-real-ip",
    XRequestId = "x-request-id",
    XPygateError = "x-pygate-error",
}

#[derive(Clone, Copy, Debug)]
struct Entry {
    known: Known,
    name_len: u16,
    start: u32,
    value_len: u32,
}

/// An ordered list of field lines.
#[derive(Clone, Default)]
pub struct Fields {
    arena: Vec<u8>,
    entries: Vec<Entry>,
    /// One bit per [`Known`] that may be present: absent names cost one test.
    present: u64,
}

impl Fields {
    pub fn clear(&mut self) {
        self.arena.clear();
        self.entries.clear();
        self.present = 0;
    }

    pub fn len(&self) -> usize {
        self.entries.len()
    }

    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Appends a line. Panics never; names beyond 65,535 bytes cannot pass a parser's caps.
    pub fn append(&mut self, name: &[u8], value: &[u8]) {
        self.append_known(Known::of(name), name, value);
    }

    /// Appends a line whose name's number the caller already knows.
    pub fn append_known(&mut self, known: Known, name: &[u8], value: &[u8]) {
        self.present |= 1 << known as u8;
        let start = self.arena.len() as u32;
        self.arena.extend_from_slice(name);
        self.arena.extend_from_slice(value);
        self.entries.push(Entry { known, name_len: name.len() as u16, start, value_len: value.len() as u32 });
    }

    /// Replaces every line called `name` by one.
    pub fn set(&mut self, name: &[u8], value: &[u8]) {
        self.remove(name);
        self.append(name, value);
    }

    pub fn set_known(&mut self, known: Known, value: &[u8]) {
        self.remove_known(known);
        self.append_known(known, known.name().as_bytes(), value);
    }

    pub fn remove(&mut self, name: &[u8]) -> bool {
        match Known::of(name) {
            Known::Other => {
                let arena = &self.arena;
                let before = self.entries.len();
                self.entries.retain(|e| e.known != Known::Other || !name_of(arena, e).eq_ignore_ascii_case(name));
                before != self.entries.len()
            }
            known => self.remove_known(known),
        }
    }

    pub fn remove_known(&mut self, known: Known) -> bool {
        if !self.has(known) {
            return false;
        }
        if known != Known::Other {
            self.present &= !(1 << known as u8);
        }
        let before = self.entries.len();
        self.entries.retain(|e| e.known != known);
        before != self.entries.len()
    }

    /// Keeps the lines for which `keep(known, name, value)` holds.
    pub fn retain(&mut self, mut keep: impl FnMut(Known, &[u8], &[u8]) -> bool) {
        let arena = &self.arena;
        self.entries.retain(|e| keep(e.known, name_of(arena, e), value_of(arena, e)));
    }

    /// Whether a line of this name may be there; exact for every name but `Other`.
    pub fn has(&self, known: Known) -> bool {
        self.present & (1 << known as u8) != 0
    }

    /// The first value, if any.
    pub fn get_known(&self, known: Known) -> Option<&[u8]> {
        if !self.has(known) {
            return None;
        }
        self.entries.iter().find(|e| e.known == known).map(|e| value_of(&self.arena, e))
    }

    pub fn get(&self, name: &[u8]) -> Option<&[u8]> {
        let known = Known::of(name);
        let is_it = |e: &&Entry| {
            e.known == known && (known != Known::Other || name_of(&self.arena, e).eq_ignore_ascii_case(name))
        };
        self.entries.iter().find(is_it).map(|e| value_of(&self.arena, e))
    }

    /// Every value of `name`, in order.
    pub fn all<'a>(&'a self, name: &'a [u8]) -> impl Iterator<Item = &'a [u8]> + 'a {
        let known = Known::of(name);
        self.entries
            .iter()
            .filter(move |e| {
                e.known == known && (known != Known::Other || name_of(&self.arena, e).eq_ignore_ascii_case(name))
            })
            .map(|e| value_of(&self.arena, e))
    }

    pub fn iter(&self) -> impl Iterator<Item = (Known, &[u8], &[u8])> + '_ {
        self.entries.iter().map(|e| (e.known, name_of(&self.arena, e), value_of(&self.arena, e)))
    }
}

fn name_of<'a>(arena: &'a [u8], e: &Entry) -> &'a [u8] {
    let start = e.start as usize;
    &arena[start..start + e.name_len as usize]
}

fn value_of<'a>(arena: &'a [u8], e: &Entry) -> &'a [u8] {
    let start = e.start as usize + e.name_len as usize;
    &arena[start..start + e.value_len as usize]
}

impl std::fmt::Debug for Fields {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_map()
            .entries(self.iter().map(|(_, n, v)| (String::from_utf8_lossy(n), String::from_utf8_lossy(v))))
            .finish()
    }
}

/// RFC 9110 §5.6.2 `tchar`.
pub fn is_token_byte(b: u8) -> bool {
    TOKEN[b as usize]
}

/// RFC 9110 §5.1: a non-empty token.
pub fn is_field_name(name: &[u8]) -> bool {
    !name.is_empty() && name.iter().all(|&b| is_token_byte(b))
}

/// RFC 9110 §5.5: no NUL, CR, LF or other control byte save HTAB.
pub fn is_field_value(value: &[u8]) -> bool {
    value.iter().all(|&b| b == b'\t' || (b >= 0x20 && b != 0x7f))
}

static TOKEN: [bool; 256] = {
    let mut table = [false; 256];
    let mut i = 0;
    while i < 256 {
        let b = i as u8;
        table[i] = b.is_ascii_alphanumeric()
            || matches!(
                b,
                b'!' | b'#' | b'$' | b'%' | b'&' | b'\'' | b'*' | b'+' | b'-' | b'.' | b'^' | b'_' | b'`' | b'|' | b'~'
            );
        i += 1;
    }
    table
};

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lookups_ignore_case_and_keep_order() {
        let mut f = Fields::default();
        f.append(b"Set-Cookie", b"a=1");
        f.append(b"X-Thing", b"t");
        f.append(b"set-cookie", b"b=2");
        assert_eq!(f.all(b"SET-COOKIE").collect::<Vec<_>>(), [b"a=1", b"b=2"]);
        assert_eq!(f.get(b"x-thing"), Some(&b"t"[..]));
        assert!(f.remove(b"x-THING"));
        assert_eq!(f.len(), 2);
        f.set(b"set-cookie", b"c=3");
        assert_eq!(f.all(b"set-cookie").collect::<Vec<_>>(), [b"c=3"]);
    }

    #[test]
    fn every_known_name_is_found_in_any_case() {
        let mut f = Fields::default();
        f.append(b"TRANSFER-Encoding", b"chunked");
        assert_eq!(f.get_known(Known::TransferEncoding), Some(&b"chunked"[..]));
        assert_eq!(Known::of(b"transfer_encoding"), Known::Other);
    }
}
