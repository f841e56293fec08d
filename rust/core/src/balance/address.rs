//! Where an endpoint listens, as its URL says.

/// A place to connect to. Names are resolved by whoever connects.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Address {
    /// `host` is a name, an IPv4 address or an IPv6 address without brackets.
    Tcp {
        host: String,
        port: u16,
    },
    Unix(String),
}

/// What an endpoint's URL says is spoken there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Spoken {
    Http,
    Https,
    Bytes,
}

/// Longest path a Unix socket address holds, without its final NUL.
const MAX_UNIX_PATH: usize = 107;

impl Address {
    /// Parses `http://host[:port]`, `https://…`, `tcp://host:port`, with `[v6]` for a host, or `unix:/path`. Errors say
    /// what is wrong, for people.
    pub fn parse(url: &str) -> Result<(Spoken, Address), String> {
        if let Some(path) = url.strip_prefix("unix:") {
            return match path {
                p if !p.starts_with('/') => Err("the socket path must be absolute".into()),
                p if p.len() > MAX_UNIX_PATH => Err(format!("the socket path is longer than {MAX_UNIX_PATH} bytes")),
                p if p.contains('\0') => Err("the socket path contains NUL".into()),
                p => Ok((Spoken::Http, Address::Unix(p.into()))),
            };
        }
        let Some((scheme, rest)) = url.split_once("://") else {
            return Err("the scheme is missing".into());
        };
        let (spoken, default) = match scheme.to_ascii_lowercase().as_str() {
            "http" => (Spoken::Http, Some(80)),
            "https" => (Spoken::Https, Some(443)),
            "tcp" => (Spoken::Bytes, None),
            other => return Err(format!("scheme {other:?} is not supported")),
        };
        let authority = rest.strip_suffix('/').unwrap_or(rest);
        if authority.contains(['/', '?', '#']) {
            return Err("an endpoint has no path or query; rewrite paths with a policy".into());
        }
        if authority.contains('@') {
            return Err("credentials do not belong into an endpoint".into());
        }
        let (host, port) = split_port(authority)?;
        let port = port.or(default).ok_or("a port is missing")?;
        Ok((spoken, Address::Tcp { host, port }))
    }

    /// `host:port`, `[v6]:port` or `unix:/path`, for people.
    pub fn label(&self) -> String {
        match self {
            Address::Tcp { host, port } => format!("{}:{port}", bracketed(host)),
            Address::Unix(path) => format!("unix:{path}"),
        }
    }

    /// The Host field (RFC 9110 §7.2) for requests made in the endpoint's own name.
    pub fn host_header(&self, spoken: Spoken) -> Vec<u8> {
        let default = if spoken == Spoken::Https { 443 } else { 80 };
        match self {
            Address::Tcp { host, port } if *port == default => bracketed(host).into_bytes(),
            Address::Tcp { .. } => self.label().into_bytes(),
            Address::Unix(_) => b"localhost".to_vec(),
        }
    }
}

fn bracketed(host: &str) -> String {
    if host.contains(':') {
        format!("[{host}]")
    } else {
        host.to_owned()
    }
}

fn split_port(authority: &str) -> Result<(String, Option<u16>), String> {
    let (host, port) = if let Some(rest) = authority.strip_prefix('[') {
        let (v6, after) = rest.split_once(']').ok_or("the bracket of the IPv6 address is not closed")?;
        let ip: std::net::Ipv6Addr = v6.parse().map_err(|_| format!("{v6:?} is not an IPv6 address"))?;
        let port = match after {
            "" => None,
            after => Some(after.strip_prefix(':').ok_or("only a port may follow the IPv6 address")?),
        };
        (ip.to_string(), port)
    } else {
        let (host, port) = match authority.split_once(':') {
            Some((host, port)) if !port.contains(':') => (host, Some(port)),
            Some(_) => return Err("an IPv6 address needs brackets".into()),
            None => (authority, None),
        };
        let is_name = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '.' | '_');
        if host.is_empty() || host.len() > 253 || !host.chars().all(is_name) {
            return Err(format!("{host:?} is not a host name or address"));
        }
        (host.to_ascii_lowercase(), port)
    };
    match port {
        None => Ok((host, None)),
        Some(port) => match port.parse::<u16>() {
            Ok(number) if number > 0 && port.bytes().all(|b| b.is_ascii_digit()) => Ok((host, Some(number))),
            _ => Err(format!("{port:?} is not a port (1 to 65535)")),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_read_print_and_name_their_host() {
        for (url, label, host) in [
            ("http://10.0.0.1:9000", "10.0.0.1:9000", "10.0.0.1:9000"),
            ("http://Orders.Internal", "orders.internal:80", "orders.internal"),
            ("HTTP://a/", "a:80", "a"),
            ("http://[::1]:81", "[::1]:81", "[::1]:81"),
            ("http://[fe80::0:1]", "[fe80::1]:80", "[fe80::1]"),
            ("https://a", "a:443", "a"),
            ("https://a:80", "a:80", "a:80"),
            ("tcp://db:5432", "db:5432", "db:5432"),
            ("unix:/run/app.sock", "unix:/run/app.sock", "localhost"),
        ] {
            let (spoken, address) = Address::parse(url).unwrap();
            assert_eq!(address.label(), label, "{url}");
            assert_eq!(address.host_header(spoken), host.as_bytes(), "{url}");
        }
        let v6 = Address::parse("http://[::1]:81").unwrap();
        assert_eq!(v6, (Spoken::Http, Address::Tcp { host: "::1".into(), port: 81 }));
    }

    #[test]
    fn what_is_no_endpoint_is_refused_with_a_reason() {
        for (url, reason) in [
            ("tcp://a", "port is missing"),
            ("ftp://a", "not supported"),
            ("a:80", "scheme is missing"),
            ("http://", "not a host"),
            ("http://a/path", "no path"),
            ("http://a?x", "no path"),
            ("http://u:p@a", "credentials"),
            ("http://::1:80", "brackets"),
            ("http://[::1", "not closed"),
            ("http://[::1]80", "only a port"),
            ("http://[zz]", "not an IPv6"),
            ("http://a:0", "not a port"),
            ("http://a:65536", "not a port"),
            ("http://a:+8", "not a port"),
            ("http://a b", "not a host"),
            ("unix:run/x", "absolute"),
        ] {
            let why = Address::parse(url).unwrap_err();
            assert!(why.contains(reason), "{url}: {why}");
        }
        assert!(Address::parse(&format!("unix:/{}", "x".repeat(107))).is_err());
    }
}
