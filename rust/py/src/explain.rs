//! `explain`: what a configuration would do with a request, for the command line and the dashboard.
//!
//! Rules:
//! 1. It asks the code that serves requests: the same canonicalisation, the same table, the same policies.
//! 2. Nothing is sent and no policy runs; policies are named with what they say of themselves.

use pygate_core::config::ipnet_text::canonical;
use pygate_core::config::{Config, Entrypoint};
use pygate_core::error::Code;
use pygate_core::message::fields::{is_field_name, is_field_value};
use pygate_core::message::{Method, PathOptions, Peer, RequestHead, Scheme};
use pygate_core::route::{Explanation, RouteTable};
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use serde::Serialize;
use serde_json::json;
use std::net::IpAddr;

/// What happens to the request, as JSON.
#[derive(Serialize)]
struct Told {
    entrypoint: String,
    client_ip: IpAddr,
    /// Set when the request is refused before any route is looked for.
    refused: Option<Refused>,
    #[serde(flatten)]
    explanation: Option<Explanation>,
    /// What the winning route does, in order.
    way: Option<serde_json::Value>,
}

#[derive(Serialize)]
struct Refused {
    code: &'static str,
    status: u16,
    detail: String,
}

/// Explains one request. `url` is `http[s]://host[:port]/path?query`, or a path for a request without host.
/// `entrypoint` defaults to the one whose address has the URL's port, else to the first by name.
///
/// Raises `ValueError` when the configuration does not compile or the request could not be sent at all.
#[pyfunction]
#[pyo3(signature = (config, method, url, headers, client_ip, entrypoint=None))]
pub fn explain(
    config: &[u8],
    method: &str,
    url: &str,
    headers: Vec<(String, String)>,
    client_ip: &str,
    entrypoint: Option<&str>,
) -> PyResult<String> {
    let told = tell(config, method, url, &headers, client_ip, entrypoint).map_err(PyValueError::new_err)?;
    serde_json::to_string(&told).map_err(|e| PyValueError::new_err(e.to_string()))
}

fn tell(
    config: &[u8],
    method: &str,
    url: &str,
    headers: &[(String, String)],
    client_ip: &str,
    entrypoint: Option<&str>,
) -> Result<Told, String> {
    let config: Config = serde_json::from_slice(config).map_err(|e| format!("the configuration: {e}"))?;
    let names: Vec<String> = config.entrypoints.keys().cloned().collect();
    let table = RouteTable::compile(&config.routes, &names).map_err(|problems| {
        problems.iter().map(|p| format!("{}: {}", p.path, p.message)).collect::<Vec<_>>().join("; ")
    })?;

    let (scheme, authority, target) = split(url)?;
    let (host, port) = host_and_port(authority)?;
    let mut head = RequestHead { scheme, host: host.to_ascii_lowercase().into_bytes(), port, ..RequestHead::default() };
    head.method = Method::parse(method.as_bytes()).ok_or_else(|| format!("{method:?} is not a method"))?;
    for (name, value) in headers {
        let value = value.trim();
        if !is_field_name(name.as_bytes()) || !is_field_value(value.as_bytes()) {
            return Err(format!("{name:?} with that value is not a field"));
        }
        head.fields.append(name.as_bytes(), value.as_bytes());
    }
    let ip: IpAddr = client_ip.parse().map_err(|_| format!("{client_ip:?} is not an IP address"))?;
    let number = choose(&config, entrypoint, &head)?;
    let peer = Peer { ip: canonical(ip), entrypoint: number as u16, ..Peer::default() };

    let entry: Option<&Entrypoint> = config.entrypoints.values().nth(number);
    let options = entry.map_or(PathOptions::default(), |e| PathOptions {
        merge_slashes: e.merge_slashes,
        allow_encoded_slash: e.allow_encoded_slash,
    });
    let mut told = Told {
        entrypoint: names.get(number).cloned().unwrap_or_default(),
        client_ip: peer.ip,
        refused: None,
        explanation: None,
        way: None,
    };
    if let Err(e) = head.target.parse(target.as_bytes(), options) {
        let code = Code::BadRequest;
        told.refused = Some(Refused { code: code.name(), status: code.status(), detail: e.0.to_owned() });
        return Ok(told);
    }
    let explanation = table.explain(&head, &peer);
    match &explanation.winner {
        Some(winner) => told.way = Some(way(&config, winner.index as usize)?),
        None => {
            let code = if explanation.allow.is_some() { Code::MethodNotAllowed } else { Code::NoRoute };
            told.refused = Some(Refused { code: code.name(), status: code.status(), detail: explanation.why.clone() });
        }
    }
    told.explanation = Some(explanation);
    Ok(told)
}

/// Scheme, authority and target of a URL.
fn split(url: &str) -> Result<(Scheme, &str, &str), String> {
    let (scheme, rest) = match url.split_once("://") {
        Some(("http", rest)) => (Scheme::Http, rest),
        Some(("https", rest)) => (Scheme::Https, rest),
        Some((other, _)) if !other.contains(['/', '?']) => return Err(format!("{other:?} is neither http nor https")),
        _ if url.starts_with('/') || url == "*" => return Ok((Scheme::Http, "", url)),
        _ => return Err(format!("{url:?} is not a URL: expected `https://host/path` or `/path`")),
    };
    let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
    let (authority, target) = rest.split_at(end);
    match target {
        "" => Ok((scheme, authority, "/")),
        t if t.starts_with('/') => Ok((scheme, authority, t)),
        t => Err(format!("{t:?}: the path must begin with /")),
    }
}

fn host_and_port(authority: &str) -> Result<(&str, Option<u16>), String> {
    if authority.contains('@') {
        return Err("a URL with user and password cannot be sent; use -H 'authorization: …'".into());
    }
    match authority.rsplit_once(':') {
        Some((host, port)) if !port.contains(']') => {
            let number = port.parse().map_err(|_| format!("{port:?} is not a port"))?;
            Ok((host, Some(number)))
        }
        _ => Ok((authority, None)),
    }
}

fn choose(config: &Config, wanted: Option<&str>, head: &RequestHead) -> Result<usize, String> {
    let mut names = config.entrypoints.keys();
    if let Some(wanted) = wanted {
        return names.position(|name| name == wanted).ok_or_else(|| {
            let known: Vec<&str> = config.entrypoints.keys().map(String::as_str).collect();
            format!("there is no entrypoint {wanted:?}: expected one of {}", known.join(", "))
        });
    }
    let port = head.port.unwrap_or(if head.scheme == Scheme::Https { 443 } else { 80 });
    let suffix = format!(":{port}");
    Ok(config.entrypoints.values().position(|e| e.address.ends_with(&suffix)).unwrap_or(0))
}

fn way(config: &Config, index: usize) -> Result<serde_json::Value, String> {
    let route = config.routes.get(index).ok_or("the winner is no route")?;
    let mut policies = Vec::new();
    for name in &route.policies {
        let spec = config.policies.get(name).ok_or_else(|| format!("there is no policy {name:?}"))?;
        let policy = spec.compile(name).map_err(|problems| {
            problems.iter().map(|p| format!("{}: {}", p.path, p.message)).collect::<Vec<_>>().join("; ")
        })?;
        policies.push(json!({"name": name, "kind": spec.kind(), "does": policy.describe()}));
    }
    let service = route.service.as_ref().map(|name| {
        let endpoints: Vec<&str> =
            config.services.get(name).map_or(Vec::new(), |s| s.endpoints.iter().map(|e| e.url()).collect());
        json!({"name": name, "endpoints": endpoints})
    });
    Ok(json!({
        "policies": policies,
        "plugins": route.plugins,
        "guard": {"request": route.guard.request, "response": route.guard.response, "fail": route.guard.fail},
        "audit": {"durability": route.audit.durability, "fail": route.audit.fail},
        "service": service,
    }))
}
