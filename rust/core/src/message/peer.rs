//! Who is at the other end of a downstream connection.

use std::net::{IpAddr, Ipv4Addr};

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
}

impl Default for Peer {
    fn default() -> Self {
        Peer { ip: IpAddr::V4(Ipv4Addr::UNSPECIFIED), port: 0, entrypoint: 0, trusted: false }
    }
}
