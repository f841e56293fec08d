//! Which TCP route takes a connection.
//!
//! Rules: every condition of a route must hold. Of those that hold, the highest priority wins, then an exact name over
//! a wildcard over none, then ALPN over none, then an address over none, then the order of the configuration. A name is
//! that of the ClientHello; a route that names one never takes a connection without.

use crate::config::ipnet_text::Net;
use crate::config::{Config, EntrypointProtocol, TcpRoute, TcpTls};
use crate::error::Problem;
use std::cmp::Reverse;
use std::collections::HashMap;
use std::net::IpAddr;

/// What is known of a connection before a byte of it is passed on.
#[derive(Debug)]
pub struct Seen<'s> {
    pub entrypoint: u16,
    pub ip: IpAddr,
    /// Lower case, no final dot.
    pub sni: Option<&'s str>,
    pub alpn: Vec<&'s [u8]>,
}

/// The TCP routes of a revision.
#[derive(Debug, Default)]
pub struct TcpTable {
    /// Best first.
    entries: Vec<Entry>,
    /// Positions in `entries` of those that name this host exactly, best first.
    exact: HashMap<String, Vec<u32>>,
    /// Positions of those without an exact name, best first.
    others: Vec<u32>,
    /// Entrypoints (by number) where a ClientHello is looked at.
    hello: Vec<bool>,
}

#[derive(Debug)]
struct Entry {
    route: u32,
    tls: TcpTls,
    /// By number of the entrypoint.
    entrypoints: Vec<bool>,
    /// Suffixes with their leading dot; used when the route is not found by an exact name.
    suffixes: Vec<String>,
    names: bool,
    alpn: Vec<Vec<u8>>,
    nets: Vec<Net>,
}

impl TcpTable {
    /// `first` is the number of the first TCP route among the revision's; `names` are its entrypoints in order.
    pub fn compile(config: &Config, first: u32, names: &[String]) -> Result<TcpTable, Vec<Problem>> {
        let mut problems = Vec::new();
        let mut ranked = Vec::new();
        let mut hello = vec![false; names.len()];
        for (index, route) in config.tcp_routes.iter().enumerate() {
            let at = |key: &str| format!("tcp_routes[{index}].{key}");
            let mut exact = Vec::new();
            let mut suffixes = Vec::new();
            for (i, name) in route.matches.sni.as_slice().iter().enumerate() {
                let lower = name.to_ascii_lowercase();
                let lower = lower.strip_suffix('.').unwrap_or(&lower);
                let bare = lower.strip_prefix("*.").unwrap_or(lower);
                let sound = !bare.is_empty() && bare.bytes().all(|b| b.is_ascii_alphanumeric() || b"-._".contains(&b));
                if !sound {
                    let problem = Problem::new(at(&format!("match.sni[{i}]")), format!("{name:?} is not a host name"));
                    problems.push(problem.expected("`db.example.com` or `*.example.com`"));
                } else if lower.starts_with("*.") {
                    suffixes.push(lower[1..].to_owned());
                } else {
                    exact.push(lower.to_owned());
                }
            }
            let mut nets = Vec::new();
            for (i, text) in route.matches.client_ip.as_slice().iter().enumerate() {
                match Net::parse(text) {
                    Some(net) => nets.push(net),
                    None => problems.push(
                        Problem::new(at(&format!("match.client_ip[{i}]")), format!("{text:?} is not a CIDR block"))
                            .expected("a block such as `10.0.0.0/8`"),
                    ),
                }
            }
            let names_host = !exact.is_empty() || !suffixes.is_empty();
            let speaks_tls = names_host || !route.matches.alpn.as_slice().is_empty();
            let entrypoints = entrypoints(config, route, names, speaks_tls, &at, &mut problems);
            for (number, on) in entrypoints.iter().enumerate() {
                let ends = config.entrypoints.get(&names[number]).is_some_and(|e| e.tls.is_some());
                hello[number] |= *on && (speaks_tls || ends);
            }
            for (number, name) in names.iter().enumerate().filter(|(number, _)| entrypoints[*number]) {
                let ends = config.entrypoints.get(name).is_some_and(|e| e.tls.is_some());
                if route.tls == TcpTls::Terminate && (!ends || !is_tcp(config, &names[number])) {
                    let text = format!("TLS does not end for bytes on entrypoint {name:?}");
                    let problem = Problem::new(at("tls"), text);
                    problems.push(problem.expected("`tls` and `protocol = \"tcp\"` there, or `tls = \"passthrough\"`"));
                }
            }
            let rank = (
                Reverse(route.priority),
                if !exact.is_empty() { 0 } else { 1 + u8::from(suffixes.is_empty()) },
                route.matches.alpn.as_slice().is_empty(),
                nets.is_empty(),
                index,
            );
            let entry = Entry {
                route: first + index as u32,
                tls: route.tls,
                entrypoints,
                suffixes,
                names: names_host,
                alpn: route.matches.alpn.as_slice().iter().map(|a| a.clone().into_bytes()).collect(),
                nets,
            };
            ranked.push((rank, exact, entry));
        }
        if !problems.is_empty() {
            return Err(problems);
        }
        ranked.sort_by_key(|ranked| ranked.0);
        let mut table = TcpTable { hello, ..TcpTable::default() };
        for (position, (_, exact, entry)) in ranked.into_iter().enumerate() {
            let position = position as u32;
            if !entry.names || !entry.suffixes.is_empty() {
                table.others.push(position);
            }
            for name in exact {
                table.exact.entry(name).or_default().push(position);
            }
            table.entries.push(entry);
        }
        Ok(table)
    }

    /// Whether connections of this entrypoint show their ClientHello before anybody answers it.
    pub fn looks_at_hello(&self, entrypoint: u16) -> bool {
        self.hello.get(entrypoint as usize).copied().unwrap_or(false)
    }

    /// The number of the route that takes the connection; with `tls` only of those that do this with it.
    pub fn find(&self, seen: &Seen<'_>, tls: Option<TcpTls>) -> Option<u32> {
        let by_name = seen.sni.and_then(|name| self.exact.get(name));
        let holds = |position: &u32, named: bool| {
            let entry = &self.entries[*position as usize];
            tls.is_none_or(|tls| entry.tls == tls) && entry.holds(seen, named)
        };
        let exact = by_name.into_iter().flatten().find(|p| holds(p, true));
        let other = self.others.iter().find(|p| holds(p, false));
        let best = exact.into_iter().chain(other).min()?;
        Some(self.entries[*best as usize].route)
    }
}

impl Entry {
    fn holds(&self, seen: &Seen<'_>, named: bool) -> bool {
        let below = |name: &str| self.suffixes.iter().any(|s| name.len() > s.len() && name.ends_with(s.as_str()));
        self.entrypoints.get(seen.entrypoint as usize).copied().unwrap_or(false)
            && (named || !self.names || seen.sni.is_some_and(below))
            && (self.alpn.is_empty() || self.alpn.iter().any(|a| seen.alpn.contains(&a.as_slice())))
            && (self.nets.is_empty() || self.nets.iter().any(|net| net.contains(seen.ip)))
    }
}

fn is_tcp(config: &Config, name: &str) -> bool {
    config.entrypoints.get(name).is_some_and(|e| e.protocol == EntrypointProtocol::Tcp)
}

/// The entrypoints a route listens on, by number.
fn entrypoints(
    config: &Config,
    route: &TcpRoute,
    names: &[String],
    speaks_tls: bool,
    at: &dyn Fn(&str) -> String,
    problems: &mut Vec<Problem>,
) -> Vec<bool> {
    let is_tcp = |name: &str| is_tcp(config, name);
    for (i, name) in route.entrypoints.iter().enumerate() {
        let path = at(&format!("entrypoints[{i}]"));
        match config.entrypoints.get(name) {
            None => {
                let problem = Problem::new(path, format!("there is no entrypoint {name:?}"));
                let near = crate::error::nearest(name, names.iter().map(String::as_str));
                problems.push(match near {
                    Some(near) => problem.nearest(near),
                    None => problem.expected("the name of an entrypoint"),
                });
            }
            Some(entrypoint) if !is_tcp(name) && (entrypoint.tls.is_none() || !speaks_tls) => problems.push(
                Problem::new(
                    path,
                    format!("entrypoint {name:?} speaks HTTP, and nothing tells this route's connections apart"),
                )
                .expected("`protocol = \"tcp\"` there, or TLS there and a name in `match.sni` here"),
            ),
            Some(_) => {}
        }
    }
    let chosen: Vec<bool> = names
        .iter()
        .map(|name| if route.entrypoints.is_empty() { is_tcp(name) } else { route.entrypoints.contains(name) })
        .collect();
    if route.entrypoints.is_empty() && !chosen.contains(&true) {
        let problem = Problem::new(at("entrypoints"), format!("tcp route {:?} listens nowhere", route.name));
        problems.push(problem.expected("an entrypoint with `protocol = \"tcp\"`, or names of entrypoints"));
    }
    chosen
}

#[cfg(test)]
mod tests {
    use super::*;

    const CONFIG: &str = r#"
        [entrypoints.a]
        address = "127.0.0.1:1"
        protocol = "tcp"
        [entrypoints.web]
        address = "127.0.0.1:2"
        tls = {}
        [[tcp_routes]]
        name = "rest"
        service = "s"
        [[tcp_routes]]
        name = "wild"
        match = { sni = "*.Example.com" }
        service = "s"
        [[tcp_routes]]
        name = "exact"
        match = { sni = ["db.example.com", "other.test."] }
        service = "s"
        [[tcp_routes]]
        name = "alpn"
        match = { alpn = "postgresql" }
        service = "s"
        [[tcp_routes]]
        name = "inside"
        match = { client_ip = "10.0.0.0/8" }
        service = "s"
        [[tcp_routes]]
        name = "web"
        entrypoints = ["web"]
        match = { sni = "pass.test" }
        service = "s"
        [[tcp_routes]]
        name = "first"
        priority = 9
        match = { sni = "db.example.com", client_ip = "192.0.2.9" }
        service = "s"
    "#;

    #[test]
    fn the_most_specific_route_takes_the_connection() {
        let config: Config = toml::from_str(CONFIG).expect("a configuration");
        let names: Vec<String> = config.entrypoints.keys().cloned().collect();
        let table = TcpTable::compile(&config, 0, &names).expect("sound");
        assert!(table.looks_at_hello(0) && table.looks_at_hello(1));
        for (entrypoint, ip, sni, alpn, route) in [
            (0, "192.0.2.1", None, None, Some("rest")),
            (0, "10.1.1.1", None, None, Some("inside")),
            (0, "::ffff:10.1.1.1", None, None, Some("inside")),
            (0, "192.0.2.1", Some("db.example.com"), None, Some("exact")),
            (0, "192.0.2.9", Some("db.example.com"), None, Some("first")),
            (0, "192.0.2.1", Some("other.test"), None, Some("exact")),
            (0, "192.0.2.1", Some("x.y.example.com"), None, Some("wild")),
            (0, "192.0.2.1", Some("example.com"), None, Some("rest")),
            (0, "10.1.1.1", Some("q"), Some("postgresql"), Some("alpn")),
            (0, "192.0.2.1", Some("pass.test"), None, Some("rest")),
            (1, "192.0.2.1", Some("pass.test"), None, Some("web")),
            (1, "192.0.2.1", Some("db.example.com"), None, None),
            (1, "192.0.2.1", None, None, None),
        ] {
            let seen = Seen {
                entrypoint,
                ip: ip.parse().expect("an address"),
                sni,
                alpn: alpn.iter().map(|a: &&str| a.as_bytes()).collect(),
            };
            let found = table.find(&seen, None).map(|r| config.tcp_routes[r as usize].name.as_str());
            assert_eq!(found, route, "{seen:?}");
        }
    }

    #[test]
    fn what_cannot_be_told_apart_is_refused() {
        let text = CONFIG.replace("tls = {}", "").replace("10.0.0.0/8", "10.0.0/8").replace("\"*.Example", "\"*.*.Ex");
        let config: Config = toml::from_str(&text).expect("a configuration");
        let names: Vec<String> = config.entrypoints.keys().cloned().collect();
        let problems = TcpTable::compile(&config, 0, &names).expect_err("three problems");
        let paths: Vec<&str> = problems.iter().map(|p| p.path.as_str()).collect();
        assert_eq!(
            paths,
            ["tcp_routes[1].match.sni[0]", "tcp_routes[4].match.client_ip[0]", "tcp_routes[5].entrypoints[0]"]
        );
    }
}
