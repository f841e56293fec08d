//! The canonical target: one path that routing, policy, audit and upstream all see.
//!
//! Rules (design §4 "Canonical target"):
//! 1. Percent-escapes of unreserved bytes are decoded, all others upper-cased (RFC 3986 §6.2.2).
//! 2. Dot segments, written plainly or escaped, are removed (§5.2.4); leaving the root is an error.
//! 3. Empty segments (`//`) are merged unless the entrypoint says otherwise.
//! 4. Escaped `/`, `\` and NUL are refused unless allowed by name; raw `\`, `#`, controls and bytes
//!    ≥ 0x80 always are, and so is UTF-8 that is longer than need be (`%C0%AE`): some decoders make a dot of it.
//! 5. The query keeps its bytes, save that raw controls, spaces and `#` are refused.

/// What real applications may need loosened; the defaults are the strict ones.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PathOptions {
    pub merge_slashes: bool,
    /// Accept `%2F` and `%5C` and pass them on escaped (GitLab, Nextcloud need `%2F`).
    pub allow_encoded_slash: bool,
}

impl Default for PathOptions {
    fn default() -> Self {
        PathOptions { merge_slashes: true, allow_encoded_slash: false }
    }
}

/// Why a target was refused; the text is safe to show a client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TargetError(pub &'static str);

/// Canonical path plus query, stored as they are sent upstream (`/a/b?x=1`).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Target {
    bytes: Vec<u8>,
    path_len: usize,
}

impl Target {
    pub fn clear(&mut self) {
        self.bytes.clear();
        self.path_len = 0;
    }

    /// Path and query as one, ready for a request line or `:path`.
    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes
    }

    pub fn path(&self) -> &[u8] {
        &self.bytes[..self.path_len]
    }

    /// Without the `?`; `None` when there is none.
    pub fn query(&self) -> Option<&[u8]> {
        self.bytes.get(self.path_len + 1..)
    }

    /// Sets the target from `path?query` as a client wrote it.
    ///
    /// `*` (OPTIONS) is taken as it is.
    pub fn parse(&mut self, raw: &[u8], options: PathOptions) -> Result<(), TargetError> {
        self.clear();
        if raw == b"*" {
            self.bytes.push(b'*');
            self.path_len = 1;
            return Ok(());
        }
        let (path, query) = match memchr::memchr(b'?', raw) {
            Some(at) => (&raw[..at], Some(&raw[at + 1..])),
            None => (raw, None),
        };
        canonical_path(path, options, &mut self.bytes)?;
        self.path_len = self.bytes.len();
        if let Some(query) = query {
            if let Some(&bad) = query.iter().find(|&&b| b <= 0x20 || b >= 0x7f || b == b'#') {
                return Err(TargetError(if bad == b'#' {
                    "a fragment may not be sent"
                } else {
                    "control or non-ASCII byte in query"
                }));
            }
            self.bytes.push(b'?');
            self.bytes.extend_from_slice(query);
        }
        Ok(())
    }

    /// Replaces the path after a rewrite, through the same checks; the query stays.
    pub fn set_path(&mut self, path: &[u8], options: PathOptions) -> Result<(), TargetError> {
        let mut fresh = Vec::with_capacity(path.len() + self.bytes.len() - self.path_len);
        canonical_path(path, options, &mut fresh)?;
        let path_len = fresh.len();
        fresh.extend_from_slice(&self.bytes[self.path_len..]);
        self.bytes = fresh;
        self.path_len = path_len;
        Ok(())
    }

    /// Takes every parameter called `name` (compared decoded) out of the query.
    pub fn remove_parameter(&mut self, name: &[u8]) {
        let Some(query) = self.query() else { return };
        let keeps = |pair: &&[u8]| !parameter(pair).is_some_and(|(key, _)| form_decoded(key).eq(name.iter().copied()));
        let kept: Vec<&[u8]> = query.split(|&b| b == b'&').filter(keeps).collect();
        let rest = kept.join(&b'&');
        self.bytes.truncate(self.path_len);
        if !rest.is_empty() {
            self.bytes.push(b'?');
            self.bytes.extend_from_slice(&rest);
        }
    }

    /// Raw values of every query parameter whose decoded name is `name`.
    pub fn parameters<'t>(&'t self, name: &'t [u8]) -> impl Iterator<Item = &'t [u8]> {
        let pairs = self.query().unwrap_or_default().split(|&b| b == b'&').filter_map(parameter);
        pairs.filter(move |(key, _)| form_decoded(key).eq(name.iter().copied())).map(|(_, value)| value)
    }
}

/// Name and value of one piece of a query; `None` for an empty piece.
fn parameter(pair: &[u8]) -> Option<(&[u8], &[u8])> {
    match memchr::memchr(b'=', pair) {
        Some(at) => Some((&pair[..at], &pair[at + 1..])),
        None => (!pair.is_empty()).then_some((pair, b"")),
    }
}

/// `application/x-www-form-urlencoded` text, decoded byte by byte; broken escapes stand for themselves.
pub fn form_decoded(text: &[u8]) -> impl Iterator<Item = u8> + '_ {
    let mut rest = text;
    std::iter::from_fn(move || {
        let (&first, after) = rest.split_first()?;
        rest = after;
        match first {
            b'+' => Some(b' '),
            b'%' => match (after.first().copied().and_then(hex), after.get(1).copied().and_then(hex)) {
                (Some(high), Some(low)) => {
                    rest = &after[2..];
                    Some(high << 4 | low)
                }
                _ => Some(b'%'),
            },
            plain => Some(plain),
        }
    })
}

fn canonical_path(path: &[u8], options: PathOptions, out: &mut Vec<u8>) -> Result<(), TargetError> {
    if path.first() != Some(&b'/') {
        return Err(TargetError("the path must begin with /"));
    }
    // Plain paths, the great majority, need one pass and a copy.
    if path.iter().all(|&b| PLAIN[b as usize]) && !needs_normalising(path) {
        out.extend_from_slice(path);
        return Ok(());
    }
    let base = out.len();
    let mut i = 0;
    while i < path.len() {
        let b = path[i];
        match b {
            b'%' => {
                let (Some(hi), Some(lo)) =
                    (path.get(i + 1).copied().and_then(hex), path.get(i + 2).copied().and_then(hex))
                else {
                    return Err(TargetError("bad percent-escape in path"));
                };
                let value = hi << 4 | lo;
                match value {
                    0 => return Err(TargetError("escaped NUL in path")),
                    b'/' | b'\\' if !options.allow_encoded_slash => {
                        return Err(TargetError("escaped slash in path (allow_encoded_slash = false)"))
                    }
                    _ if value < 0x20 || value == 0x7f => return Err(TargetError("escaped control byte in path")),
                    _ if is_unreserved(value) => push(out, base, value, options),
                    _ if is_overlong(value, &path[i + 3..]) => return Err(TargetError("overlong UTF-8 in path")),
                    _ => {
                        out.push(b'%');
                        out.push(HEX[hi as usize]);
                        out.push(HEX[lo as usize]);
                    }
                }
                i += 3;
                continue;
            }
            b'#' => return Err(TargetError("a fragment may not be sent")),
            b'\\' => return Err(TargetError("backslash in path")),
            _ if b <= 0x20 || b >= 0x7f => return Err(TargetError("control or non-ASCII byte in path")),
            _ => push(out, base, b, options),
        }
        i += 1;
    }
    remove_dot_segments(out, base)
}

fn push(out: &mut Vec<u8>, base: usize, b: u8, options: PathOptions) {
    if b == b'/' && options.merge_slashes && out.len() > base && out.last() == Some(&b'/') {
        return;
    }
    out.push(b);
}

/// RFC 3986 §5.2.4 on `out[base..]`, in place.
fn remove_dot_segments(out: &mut Vec<u8>, base: usize) -> Result<(), TargetError> {
    if !needs_dots_removed(&out[base..]) {
        return Ok(());
    }
    let path = out.split_off(base);
    let mut segments = path[1..].split(|&b| b == b'/').peekable();
    let mut starts = Vec::new();
    while let Some(segment) = segments.next() {
        let last = segments.peek().is_none();
        match segment {
            b"." | b".." => {
                if segment == b".." {
                    let Some(start) = starts.pop() else {
                        return Err(TargetError("the path leaves the root"));
                    };
                    out.truncate(start);
                }
                if last {
                    out.push(b'/');
                }
            }
            _ => {
                starts.push(out.len());
                out.push(b'/');
                out.extend_from_slice(segment);
            }
        }
    }
    if out.len() == base {
        out.push(b'/');
    }
    Ok(())
}

/// RFC 3629 §3: a lead byte with an escaped second byte that together say no more than a shorter form would.
fn is_overlong(lead: u8, rest: &[u8]) -> bool {
    let [b'%', high, low, ..] = rest else { return false };
    let (Some(high), Some(low)) = (hex(*high), hex(*low)) else { return false };
    let least = match lead {
        0xc0 | 0xc1 => 0xc0,
        0xe0 => 0xa0,
        0xf0 => 0x90,
        _ => return false,
    };
    (0x80..least).contains(&(high << 4 | low))
}

fn needs_normalising(path: &[u8]) -> bool {
    // A dot or a second slash right behind a slash.
    path.windows(2).any(|w| w[0] == b'/' && (w[1] == b'/' || w[1] == b'.'))
}

fn needs_dots_removed(path: &[u8]) -> bool {
    path.split(|&b| b == b'/').any(|s| s == b"." || s == b"..")
}

fn hex(b: u8) -> Option<u8> {
    (b as char).to_digit(16).map(|d| d as u8)
}

const HEX: &[u8; 16] = b"0123456789ABCDEF";

fn is_unreserved(b: u8) -> bool {
    b.is_ascii_alphanumeric() || matches!(b, b'-' | b'.' | b'_' | b'~')
}

/// Bytes of a path that need no second look.
static PLAIN: [bool; 256] = {
    let mut table = [false; 256];
    let mut i = 0x21;
    while i < 0x7f {
        let b = i as u8;
        table[i] = !matches!(b, b'%' | b'#' | b'\\' | b'?');
        i += 1;
    }
    table
};

#[cfg(test)]
mod tests {
    use super::*;

    fn canonical(raw: &str) -> Result<String, &'static str> {
        let mut t = Target::default();
        t.parse(raw.as_bytes(), PathOptions::default()).map_err(|e| e.0)?;
        Ok(String::from_utf8(t.as_bytes().to_vec()).unwrap())
    }

    #[test]
    fn table() {
        for (raw, expected) in [
            ("/", "/"),
            ("/a/b?x=/../y", "/a/b?x=/../y"),
            ("/a//b", "/a/b"),
            ("//a", "/a"),
            ("/a/./b/../c", "/a/c"),
            ("/a/%2e%2E/c", "/c"),
            ("/a/..", "/"),
            ("/a/b/.", "/a/b/"),
            ("/%7euser/%e2%82%ac", "/~user/%E2%82%AC"),
            ("/a/.hidden/..b", "/a/.hidden/..b"),
            ("/%c0", "/%C0"),
            ("/%C0x%80", "/%C0x%80"),
            ("/%e0%a4%b9", "/%E0%A4%B9"),
            ("/%f0%9f%98%80", "/%F0%9F%98%80"),
            ("/caf%e9", "/caf%E9"),
            ("/a?", "/a?"),
            ("*", "*"),
        ] {
            assert_eq!(canonical(raw).as_deref(), Ok(expected), "{raw}");
        }
        for raw in [
            "",
            "a",
            "/a#b",
            "/a\\b",
            "/%2f",
            "/%5C",
            "/%00",
            "/%0d%0a",
            "/%zz",
            "/%4",
            "/\u{e9}",
            "/..",
            "/a/../..",
            "/a?b#c",
            "/a?b c",
            "/%c0%ae",
            "/a/%C1%9c/b",
            "/%e0%80%af",
            "/%E0%9f%bf",
            "/%f0%80%80%af",
            "/%F0%8f%bf%bf",
        ] {
            assert!(canonical(raw).is_err(), "{raw}");
        }
    }

    #[test]
    fn parameters_are_found_and_removed_by_their_decoded_name() {
        for (raw, values, without) in [
            ("/?key=a", &["a"][..], "/"),
            ("/?x=1&%6bey=a%20b&key&y", &["a%20b", ""], "/?x=1&y"),
            ("/?keys=1&&x", &[], "/?keys=1&&x"),
            ("/", &[], "/"),
            ("/?", &[], "/"),
        ] {
            let mut t = Target::default();
            t.parse(raw.as_bytes(), PathOptions::default()).unwrap();
            assert_eq!(
                t.parameters(b"key").collect::<Vec<_>>(),
                values.iter().map(|v| v.as_bytes()).collect::<Vec<_>>()
            );
            t.remove_parameter(b"key");
            assert_eq!(t.as_bytes(), without.as_bytes());
        }
    }

    #[test]
    fn canonical_form_is_a_fixed_point() {
        for raw in ["/a/%2e%2E/c%2", "/%25%32%66", "/a%252e%252e/b", "/..;/x", "/a/%3b/b"] {
            if let Ok(once) = canonical(raw) {
                assert_eq!(canonical(&once).as_deref(), Ok(once.as_str()), "{raw}");
            }
        }
    }
}
