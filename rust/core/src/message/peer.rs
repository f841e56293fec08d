//! Who is at the other end of a downstream connection.

use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

/// The client, after PROXY protocol and trusted forwarding fields were taken into account.
#[derive(Clone, Debug)]
pub struct Peer {
    /// Address of the client for matching, limits and records; IPv4-mapped addresses are unwrapped.
    pub ip: IpAddr,
    pub port: u16,
    /// Index of the entrypoint in the revision's (sorted) entrypoint list.
    pub entrypoint: u16,
    /// The direct peer's forwarding and tracing fields are believed.
    pub trusted: bool,
    /// What the TLS handshake said; None without TLS.
    pub tls: Option<Arc<TlsFacts>>,
}

impl Default for Peer {
    fn default() -> Self {
        Peer { ip: IpAddr::V4(Ipv4Addr::UNSPECIFIED), port: 0, entrypoint: 0, trusted: false, tls: None }
    }
}

/// What a finished TLS handshake says of a connection.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TlsFacts {
    /// Name asked for: lower case, no final dot. None: none, or an IP address.
    pub sni: Option<String>,
    /// `"1.2"` or `"1.3"`.
    pub version: &'static str,
    /// Cipher suite by its IANA name.
    pub cipher: &'static str,
    /// Application protocol agreed on.
    pub alpn: Option<Vec<u8>>,
    /// Number of the option set the name resolved to; means something within one server plan.
    pub options: u32,
    /// Number of the certificate shown; certificates that cover the same names share one. Means something within one
    /// server plan.
    pub certificate: u32,
    /// The client's certificate, verified.
    pub client: Option<ClientCertificate>,
    /// An earlier session was taken up again.
    pub resumed: bool,
}

/// A client's verified certificate.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ClientCertificate {
    /// Distinguished name (RFC 4514).
    pub subject: String,
    /// Subject alternative names as text: DNS names, IP addresses, URIs and mail addresses, in the certificate's order.
    pub sans: Vec<String>,
    /// SHA-256 of the DER, lower hex.
    pub fingerprint: String,
    /// The leaf.
    pub der: Vec<u8>,
}
