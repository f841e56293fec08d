//! HTTP/1 once more, as simply as it can be written: what the parsers and the engine are held against.
//!
//! Reads whole inputs only, by searching for line ends and adding up lengths; shares no code with the core. It is
//! no judge of what is well formed: where the core reads a message, this must read the same one.

/// One message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message {
    /// Request or status line.
    pub line: Vec<u8>,
    /// Lower-case names, trimmed values.
    pub fields: Vec<(Vec<u8>, Vec<u8>)>,
    /// Decoded.
    pub body: Vec<u8>,
    /// All of it was there.
    pub complete: bool,
}

impl Message {
    pub fn all<'m>(&'m self, name: &str) -> Vec<&'m [u8]> {
        self.fields.iter().filter(|(n, _)| n == name.as_bytes()).map(|(_, v)| v.as_slice()).collect()
    }

    /// First word of the first line.
    pub fn method(&self) -> &[u8] {
        self.word(0)
    }

    pub fn target(&self) -> &[u8] {
        self.word(1)
    }

    pub fn status(&self) -> u16 {
        std::str::from_utf8(self.word(1)).ok().and_then(|t| t.parse().ok()).unwrap_or(0)
    }

    fn word(&self, n: usize) -> &[u8] {
        self.line.split(|&b| b == b' ').nth(n).unwrap_or_default()
    }
}

/// Every request in a client's bytes, until something makes no sense; the last may be incomplete.
pub fn requests(bytes: &[u8]) -> Vec<Message> {
    let (mut found, mut at) = (Vec::new(), 0);
    while let Some((message, used)) = message(&bytes[at..], |head| framing(head).unwrap_or(Framing::Length(0))) {
        at += used;
        let on = message.complete;
        found.push(message);
        if !on {
            break;
        }
    }
    found
}

/// Every answer in a server's bytes. `methods` are those of the requests in order; `closed`: no more follows.
pub fn responses(bytes: &[u8], methods: &[Vec<u8>], closed: bool) -> Vec<Message> {
    let (mut found, mut at, mut next): (Vec<Message>, _, _) = (Vec::new(), 0, 0);
    while at < bytes.len() {
        let to_head = methods.get(next).is_some_and(|m| m == b"HEAD");
        let read = message(&bytes[at..], |head| match head.status() {
            100..=199 | 204 | 304 => Framing::Length(0),
            _ if to_head => Framing::Length(0),
            _ => framing(head).unwrap_or(Framing::Close),
        });
        let Some((mut message, used)) = read else { break };
        at += used;
        message.complete |= closed && framing(&message).is_none();
        let (status, complete) = (message.status(), message.complete);
        found.push(message);
        if status == 101 || !complete {
            break;
        }
        next += usize::from(status >= 200);
    }
    found
}

enum Framing {
    Length(usize),
    Chunked,
    Close,
}

fn framing(head: &Message) -> Option<Framing> {
    if !head.all("transfer-encoding").is_empty() {
        return Some(Framing::Chunked);
    }
    let length = *head.all("content-length").first()?;
    Some(Framing::Length(std::str::from_utf8(length).ok()?.parse().ok()?))
}

/// One message at the start of `bytes` and how long it is; `None` without a complete head.
fn message(bytes: &[u8], framing: impl Fn(&Message) -> Framing) -> Option<(Message, usize)> {
    let skip = if bytes.starts_with(b"\r\n") { 2 } else { 0 };
    let bytes = &bytes[skip..];
    let end = find(bytes, b"\r\n\r\n")?;
    let mut lines = split_lines(&bytes[..end]).into_iter();
    let line = lines.next()?.to_vec();
    let fields = lines.filter_map(|line| {
        let colon = line.iter().position(|&b| b == b':')?;
        Some((line[..colon].to_ascii_lowercase(), line[colon + 1..].trim_ascii().to_vec()))
    });
    let mut message = Message { line, fields: fields.collect(), body: Vec::new(), complete: true };
    let rest = &bytes[end + 4..];
    let used = match framing(&message) {
        Framing::Length(n) => {
            message.body = rest[..n.min(rest.len())].to_vec();
            message.complete = rest.len() >= n;
            message.body.len()
        }
        Framing::Close => {
            message.body = rest.to_vec();
            message.complete = false;
            rest.len()
        }
        Framing::Chunked => {
            let (body, used, complete) = unchunk(rest);
            message.body = body;
            message.complete = complete;
            used
        }
    };
    Some((message, skip + end + 4 + used))
}

/// Body, length of the coded form, and whether its end was there.
pub fn unchunk(bytes: &[u8]) -> (Vec<u8>, usize, bool) {
    let (mut body, mut at) = (Vec::new(), 0);
    loop {
        let Some(line) = find(&bytes[at..], b"\r\n") else { return (body, bytes.len(), false) };
        let text = String::from_utf8_lossy(&bytes[at..at + line]).into_owned();
        let digits = text.split(';').next().unwrap_or_default();
        let Ok(size) = usize::from_str_radix(digits, 16) else { return (body, bytes.len(), false) };
        at += line + 2;
        if size == 0 {
            // Trailers, then an empty line.
            if bytes[at..].starts_with(b"\r\n") {
                return (body, at + 2, true);
            }
            return match find(&bytes[at..], b"\r\n\r\n") {
                Some(end) => (body, at + end + 4, true),
                None => (body, bytes.len(), false),
            };
        }
        let left = bytes.len() - at;
        body.extend_from_slice(&bytes[at..at + size.min(left)]);
        if left < size || !bytes[at + size..].starts_with(b"\r\n") {
            return (body, bytes.len(), false);
        }
        at += size + 2;
    }
}

pub fn find(bytes: &[u8], wanted: &[u8]) -> Option<usize> {
    bytes.windows(wanted.len()).position(|window| window == wanted)
}

pub fn split_lines(bytes: &[u8]) -> Vec<&[u8]> {
    let (mut lines, mut rest) = (Vec::new(), bytes);
    while let Some(end) = find(rest, b"\r\n") {
        lines.push(&rest[..end]);
        rest = &rest[end + 2..];
    }
    lines.push(rest);
    lines
}
