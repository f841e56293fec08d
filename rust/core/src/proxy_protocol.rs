//! The PROXY protocol header, versions 1 and 2, as a trusted load balancer puts it before the first byte.
//!
//! Rules: only the formats of the specification, to the letter; a header longer than [`MAX`] is refused;
//! TLVs are skipped. Whether a peer may send one at all is the entrypoint's decision.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

/// Longest header accepted.
const MAX: usize = 1024;
const SIGNATURE: &[u8; 12] = b"\r\n\r\n\x00\r\nQUIT\n";
/// Longest version 1 line, CRLF included.
const LINE: usize = 107;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Header {
    /// The connection is the load balancer's own (health checks).
    Local,
    Proxied {
        ip: IpAddr,
        port: u16,
    },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Malformed;

/// Reads a header at the start of `input`; returns its length, or `None` when more bytes are needed.
pub fn parse(input: &[u8]) -> Result<Option<(usize, Header)>, Malformed> {
    let common = input.len().min(SIGNATURE.len());
    if input[..common] == SIGNATURE[..common] {
        return if common < SIGNATURE.len() { Ok(None) } else { version_2(input) };
    }
    let common = input.len().min(6);
    if input[..common] != b"PROXY "[..common] {
        return Err(Malformed);
    }
    match memchr::memchr(b'\n', &input[..input.len().min(LINE)]) {
        Some(end) => version_1(&input[..=end]).map(|header| Some((end + 1, header))),
        None if input.len() >= LINE => Err(Malformed),
        None => Ok(None),
    }
}

fn version_1(line: &[u8]) -> Result<Header, Malformed> {
    let text = line.strip_suffix(b"\r\n").and_then(|l| std::str::from_utf8(l).ok()).ok_or(Malformed)?;
    let words: Vec<&str> = text.split(' ').collect();
    match words.as_slice() {
        ["PROXY", "UNKNOWN", ..] => Ok(Header::Local),
        ["PROXY", family @ ("TCP4" | "TCP6"), source, destination, from, to] => {
            let ip: IpAddr = source.parse().map_err(|_| Malformed)?;
            let other: IpAddr = destination.parse().map_err(|_| Malformed)?;
            if ip.is_ipv4() != (*family == "TCP4") || other.is_ipv4() != ip.is_ipv4() {
                return Err(Malformed);
            }
            let port = |text: &str| match text.bytes().all(|b| b.is_ascii_digit()) {
                true => text.parse::<u16>().map_err(|_| Malformed),
                false => Err(Malformed),
            };
            port(to)?;
            Ok(Header::Proxied { ip, port: port(from)? })
        }
        _ => Err(Malformed),
    }
}

fn version_2(input: &[u8]) -> Result<Option<(usize, Header)>, Malformed> {
    let Some(fixed) = input.get(12..16) else { return Ok(None) };
    let length = usize::from(u16::from_be_bytes([fixed[2], fixed[3]]));
    if fixed[0] >> 4 != 2 || 16 + length > MAX {
        return Err(Malformed);
    }
    let Some(rest) = input.get(16..16 + length) else { return Ok(None) };
    let header = match (fixed[0] & 15, fixed[1]) {
        (0, _) => Header::Local,
        (1, 0x11) => {
            let b = rest.first_chunk::<12>().ok_or(Malformed)?;
            let ip = Ipv4Addr::new(b[0], b[1], b[2], b[3]);
            Header::Proxied { ip: ip.into(), port: u16::from_be_bytes([b[8], b[9]]) }
        }
        (1, 0x21) => {
            let b = rest.first_chunk::<36>().ok_or(Malformed)?;
            let mut ip = [0; 16];
            ip.copy_from_slice(&b[..16]);
            Header::Proxied { ip: Ipv6Addr::from(ip).into(), port: u16::from_be_bytes([b[32], b[33]]) }
        }
        (1, 0x00 | 0x31 | 0x32) => Header::Local,
        _ => return Err(Malformed),
    };
    Ok(Some((16 + length, header)))
}

/// A version 1 line for a connection from `client` to `to`.
pub fn write_v1(out: &mut Vec<u8>, client: SocketAddr, to: SocketAddr) {
    let family = if client.is_ipv4() { "TCP4" } else { "TCP6" };
    let to_ip = same_family(client, to);
    let line = format!("PROXY {family} {} {to_ip} {} {}\r\n", client.ip(), client.port(), to.port());
    out.extend_from_slice(line.as_bytes());
}

/// A version 2 header for a connection from `client` to `to`.
pub fn write_v2(out: &mut Vec<u8>, client: SocketAddr, to: SocketAddr) {
    out.extend_from_slice(SIGNATURE);
    out.push(0x21);
    match (client.ip(), same_family(client, to)) {
        (IpAddr::V4(from), IpAddr::V4(to)) => {
            out.extend_from_slice(&[0x11, 0, 12]);
            out.extend_from_slice(&from.octets());
            out.extend_from_slice(&to.octets());
        }
        (from, to) => {
            out.extend_from_slice(&[0x21, 0, 36]);
            out.extend_from_slice(&six(from));
            out.extend_from_slice(&six(to));
        }
    }
    out.extend_from_slice(&client.port().to_be_bytes());
    out.extend_from_slice(&to.port().to_be_bytes());
}

/// The address connected to, in the client's family: both must be of one.
fn same_family(client: SocketAddr, to: SocketAddr) -> IpAddr {
    match (client.ip(), to.ip()) {
        (IpAddr::V4(_), IpAddr::V6(v6)) => v6.to_ipv4_mapped().unwrap_or(Ipv4Addr::UNSPECIFIED).into(),
        (IpAddr::V6(_), IpAddr::V4(v4)) => v4.to_ipv6_mapped().into(),
        (_, ip) => ip,
    }
}

fn six(ip: IpAddr) -> [u8; 16] {
    match ip {
        IpAddr::V4(v4) => v4.to_ipv6_mapped().octets(),
        IpAddr::V6(v6) => v6.octets(),
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn what_is_written_reads_back() {
        for (client, to) in
            [("192.0.2.1:7", "10.0.0.1:443"), ("[2001:db8::1]:65535", "[::1]:1"), ("1.2.3.4:5", "[::1]:9")]
        {
            let (client, to): (SocketAddr, SocketAddr) = (client.parse().unwrap(), to.parse().unwrap());
            for write in [write_v1, write_v2] {
                let mut out = Vec::new();
                write(&mut out, client, to);
                let header = Header::Proxied { ip: client.ip(), port: client.port() };
                assert_eq!(parse(&out), Ok(Some((out.len(), header))));
            }
        }
    }

    use super::*;

    fn v2(command: u8, family: u8, body: &[u8]) -> Vec<u8> {
        let mut out = SIGNATURE.to_vec();
        out.extend([0x20 | command, family]);
        out.extend((body.len() as u16).to_be_bytes());
        out.extend(body);
        out
    }

    #[test]
    fn reads_both_versions_at_every_split() {
        let four = [192, 0, 2, 1, 10, 0, 0, 1, 0xdc, 4, 0, 80];
        let with_tlv = [&four[..], &[3, 0, 1, 9]].concat();
        for (raw, ip) in [
            (b"PROXY TCP4 192.0.2.1 10.0.0.1 56324 80\r\n".to_vec(), "192.0.2.1"),
            (b"PROXY TCP6 2001:db8::1 ::1 56324 80\r\n".to_vec(), "2001:db8::1"),
            (v2(1, 0x11, &four), "192.0.2.1"),
            (v2(1, 0x11, &with_tlv), "192.0.2.1"),
        ] {
            let whole = [&raw[..], b"GET / HTTP/1.1\r\n"].concat();
            let expected = Header::Proxied { ip: ip.parse().unwrap(), port: 56324 };
            assert_eq!(parse(&whole), Ok(Some((raw.len(), expected))));
            for cut in 0..raw.len() {
                assert_eq!(parse(&raw[..cut]), Ok(None), "{cut}");
            }
        }
        assert_eq!(parse(&v2(0, 0, &[])), Ok(Some((16, Header::Local))));
    }

    #[test]
    fn refuses_everything_else() {
        for raw in [
            b"GET / HTTP/1.1\r\n\r\n".to_vec(),
            b"PROXY TCP4 192.0.2.1 10.0.0.1 56324 80\n".to_vec(),
            b"PROXY TCP4 ::1 ::1 1 2\r\n".to_vec(),
            b"PROXY TCP4 1.2.3.4 1.2.3.4 99999 2\r\n".to_vec(),
            b"PROXY TCP4 1.2.3.4 1.2.3.4 +1 2\r\n".to_vec(),
            b"PROXY TCP4 1.2.3.4\r\n".to_vec(),
            vec![b'P'; 200],
            v2(1, 0x11, &[0; 4]),
            v2(2, 0x11, &[0; 12]),
        ] {
            assert_eq!(parse(&raw), Err(Malformed), "{}", raw.escape_ascii());
        }
    }
}
