//! A service as a revision fixes it.

use super::{Address, Spoken};
use crate::config::{Health, Outlier, Service, Strategy, UpstreamProtocol};
use crate::error::Problem;
use crate::http2::{Allowance, ClientLimits};
use crate::shared::stable_hash;
use std::collections::HashSet;
use std::time::Duration;

/// Unread bytes of one answer that an endpoint may send ahead over HTTP/2.
const STREAM_WINDOW: u32 = 128 << 10;

/// A compiled service. Immutable; shared by all exchanges of a revision.
#[derive(Clone, Debug)]
pub struct ServicePlan {
    pub name: String,
    /// Stable hash of the name: what the service's changing state is kept under.
    pub key: u64,
    pub strategy: Strategy,
    pub protocol: UpstreamProtocol,
    /// Requests under way at the same time on one HTTP/2 connection.
    pub max_streams: u32,
    /// At least one, of which at least one has a weight.
    pub endpoints: Vec<EndpointPlan>,
    pub connect_timeout: Duration,
    pub first_byte_timeout: Duration,
    pub body_timeout: Duration,
    pub idle_timeout: Duration,
    /// Connections per endpoint over all workers; 0: no limit. See [`share_of`].
    pub max_connections: u32,
    /// Idle connections per endpoint over all workers. See [`share_of`].
    pub max_idle: u32,
    /// Send the client's Host (true) or the endpoint's `host_header`.
    pub pass_host: bool,
    /// Bytes of the longest answer head accepted.
    pub max_head: usize,
    pub outlier: Option<Outlier>,
    pub health: Option<Health>,
    /// Identifies the list of endpoints and weights.
    pub(super) shape: u64,
    /// Running sums of the weights.
    pub(super) weight_sums: Vec<u64>,
    /// Every endpoint has the same weight.
    pub(super) even: bool,
}

/// One endpoint of a service.
#[derive(Clone, Debug)]
pub struct EndpointPlan {
    pub address: Address,
    pub spoken: Spoken,
    pub weight: u32,
    /// [`endpoint_key`]: names this endpoint's connections, counts and shared state.
    pub key: u64,
    /// `host:port` or `unix:/path`, for logs and metrics.
    pub label: String,
    /// Host field for requests when `pass_host` is off.
    pub host_header: Vec<u8>,
}

/// Key of a service's endpoint, equal in all processes.
pub fn endpoint_key(service: &str, url: &str) -> u64 {
    stable_hash(&[b"endpoint", service.as_bytes(), url.as_bytes()])
}

/// One worker's share of a cap that is meant for all of them (rounded up; 0 stays 0).
pub fn share_of(total: u32, workers: usize) -> u32 {
    total.div_ceil(u32::try_from(workers.max(1)).unwrap_or(u32::MAX))
}

impl ServicePlan {
    /// Whether requests to `endpoint` go over HTTP/2 whatever is negotiated.
    pub fn speaks_http2(&self, endpoint: &EndpointPlan) -> bool {
        self.protocol == UpstreamProtocol::Http2 && endpoint.spoken != Spoken::Bytes
    }

    /// What an HTTP/2 connection to an endpoint may do.
    pub fn http2_limits(&self) -> ClientLimits {
        ClientLimits {
            streams: self.max_streams,
            stream_window: STREAM_WINDOW,
            // Nobody who does not read may stop the others: there is room for all streams at their limit.
            connection_window: STREAM_WINDOW.saturating_mul(self.max_streams).clamp(65_535, 0x7fff_ffff),
            max_head: self.max_head,
            allowance: Allowance { resets: 1000, idle_frames: 10_000 },
        }
    }

    /// Compiles the service called `name`; problems carry paths below `services.NAME`.
    pub fn compile(name: &str, config: &Service) -> Result<ServicePlan, Vec<Problem>> {
        let mut problems = Vec::new();
        let path = |rest: &str| format!("services.{name}.{rest}");
        let mut endpoints = Vec::with_capacity(config.endpoints.len());
        let mut seen = HashSet::new();
        for (index, endpoint) in config.endpoints.iter().enumerate() {
            let at = || path(&format!("endpoints[{index}]"));
            let url = endpoint.url();
            match Address::parse(url) {
                Ok((_, address)) if !seen.insert(address.clone()) => {
                    let twice = format!("endpoint {} is listed twice", address.label());
                    problems.push(Problem::new(at(), twice).expected("one entry with a weight"));
                }
                Ok((spoken, address)) => endpoints.push(EndpointPlan {
                    spoken,
                    weight: endpoint.weight(),
                    key: endpoint_key(name, url),
                    label: address.label(),
                    host_header: address.host_header(spoken),
                    address,
                }),
                Err(why) => problems
                    .push(Problem::new(at(), format!("endpoint {url:?}: {why}")).expected(
                        "\"http://host:port\", \"https://host:port\", \"tcp://host:port\" or \"unix:/path\"",
                    )),
            }
        }
        if config.endpoints.is_empty() {
            let none = format!("service {name:?} has no endpoint");
            problems.push(Problem::new(path("endpoints"), none).expected("at least one endpoint"));
        } else if config.endpoints.iter().all(|e| e.weight() == 0) {
            let none = format!("every endpoint of service {name:?} has weight 0");
            problems.push(Problem::new(path("endpoints"), none).expected("at least one weight above 0"));
        }
        if let Some(health) = &config.health {
            check_health(health, &path, &mut problems);
        }
        if let Some(outlier) = &config.outlier {
            check_outlier(outlier, &path, &mut problems);
        }
        if !problems.is_empty() {
            return Err(problems);
        }
        let weight_sums: Vec<u64> = endpoints
            .iter()
            .scan(0u64, |sum, e| {
                *sum += u64::from(e.weight);
                Some(*sum)
            })
            .collect();
        let described: Vec<[u8; 12]> = endpoints
            .iter()
            .map(|e| {
                let mut bytes = [0; 12];
                bytes[..8].copy_from_slice(&e.key.to_le_bytes());
                bytes[8..].copy_from_slice(&e.weight.to_le_bytes());
                bytes
            })
            .collect();
        Ok(ServicePlan {
            name: name.to_owned(),
            key: stable_hash(&[b"service", name.as_bytes()]),
            strategy: config.strategy,
            protocol: config.protocol,
            max_streams: config.max_streams,
            shape: stable_hash(&[&described.concat()]),
            even: endpoints.iter().all(|e| e.weight == endpoints[0].weight),
            weight_sums,
            endpoints,
            connect_timeout: config.connect_timeout.0,
            first_byte_timeout: config.first_byte_timeout.0,
            body_timeout: config.body_timeout.0,
            idle_timeout: config.idle_timeout.0,
            max_connections: config.max_connections,
            max_idle: config.max_idle,
            pass_host: config.pass_host,
            max_head: usize::try_from(config.max_head.0).unwrap_or(usize::MAX),
            outlier: config.outlier.clone(),
            health: config.health.clone(),
        })
    }
}

fn check_health(health: &Health, path: &dyn Fn(&str) -> String, problems: &mut Vec<Problem>) {
    match (&health.path, &health.grpc) {
        (Some(asked), None) => {
            let plain = asked.bytes().all(|b| b > 0x20 && b < 0x7f && b != b'#');
            if !asked.starts_with('/') || !plain {
                let what = format!("{asked:?} is not a request path");
                problems.push(Problem::new(path("health.path"), what).expected("a path such as \"/healthz\""));
            }
        }
        (None, Some(service)) => {
            let longest = 255;
            if service.len() > longest || service.bytes().any(|b| b <= 0x20 || b == 0x7f) {
                let what = format!("{service:?} is not the name of a gRPC service");
                let expected = "a name such as \"shop.v1.Orders\", or \"\" for the whole server";
                problems.push(Problem::new(path("health.grpc"), what).expected(expected));
            }
        }
        (given, _) => {
            let what = if given.is_some() { "both `path` and `grpc` are given" } else { "what to check is not given" };
            let expected = "`path` for HTTP or `grpc` for the gRPC health protocol";
            problems.push(Problem::new(path("health"), what).expected(expected));
        }
    }
    for (key, value) in [("interval", health.interval), ("timeout", health.timeout)] {
        if value.0.is_zero() {
            problems.push(Problem::new(path(&format!("health.{key}")), "must be longer than zero"));
        }
    }
    for (key, value) in [("healthy_after", health.healthy_after), ("unhealthy_after", health.unhealthy_after)] {
        if value == 0 {
            problems.push(Problem::new(path(&format!("health.{key}")), "must be at least 1"));
        }
    }
    if health.host.as_ref().is_some_and(|h| h.is_empty() || !h.bytes().all(|b| b > 0x20 && b < 0x7f)) {
        problems.push(Problem::new(path("health.host"), "not a host name"));
    }
}

fn check_outlier(outlier: &Outlier, path: &dyn Fn(&str) -> String, problems: &mut Vec<Problem>) {
    if outlier.consecutive_failures == 0 {
        problems.push(Problem::new(path("outlier.consecutive_failures"), "must be at least 1"));
    }
    if outlier.max_ejected_percent > 100 {
        problems.push(Problem::new(path("outlier.max_ejected_percent"), "must be 0 to 100"));
    }
    if outlier.base_ejection.0.is_zero() {
        problems.push(Problem::new(path("outlier.base_ejection"), "must be longer than zero"));
    }
    if outlier.max_ejection < outlier.base_ejection {
        let short = "must not be shorter than base_ejection";
        problems.push(Problem::new(path("outlier.max_ejection"), short));
    }
}

#[cfg(test)]
pub(super) fn plan(name: &str, toml: &str) -> ServicePlan {
    ServicePlan::compile(name, &toml::from_str(toml).unwrap()).unwrap()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_problem_is_told_at_once() {
        let config = toml::from_str(
            r#"
            endpoints = ["ftp://a", "http://b", "http://B:80/", { url = "http://c", weight = 0 }]
            health = { path = "healthz", interval = "0s", unhealthy_after = 0 }
            outlier = { max_ejected_percent = 101, max_ejection = "1s" }
            "#,
        )
        .unwrap();
        let paths: Vec<_> = ServicePlan::compile("s", &config).unwrap_err().into_iter().map(|p| p.path).collect();
        assert_eq!(
            paths,
            [
                "services.s.endpoints[0]",
                "services.s.endpoints[2]",
                "services.s.health.path",
                "services.s.health.interval",
                "services.s.health.unhealthy_after",
                "services.s.outlier.max_ejected_percent",
                "services.s.outlier.max_ejection",
            ]
        );
        for empty in ["endpoints = []", "endpoints = [{ url = \"http://a\", weight = 0 }]"] {
            let config = toml::from_str(empty).unwrap();
            assert_eq!(ServicePlan::compile("s", &config).unwrap_err()[0].path, "services.s.endpoints");
        }
    }

    #[test]
    fn health_checks_ask_one_thing() {
        for (health, expected) in [
            (r#"{ path = "/h" }"#, None),
            (r#"{ grpc = "" }"#, None),
            (r#"{ grpc = "shop.v1.Orders" }"#, None),
            (r#"{}"#, Some("services.s.health")),
            (r#"{ path = "/h", grpc = "" }"#, Some("services.s.health")),
            (r#"{ grpc = "a b" }"#, Some("services.s.health.grpc")),
            (r#"{ path = "" }"#, Some("services.s.health.path")),
        ] {
            let config = toml::from_str(&format!("endpoints = [\"http://a\"]\nhealth = {health}")).unwrap();
            let problems = ServicePlan::compile("s", &config).err().unwrap_or_default();
            let paths: Vec<_> = problems.iter().map(|p| p.path.as_str()).collect();
            assert_eq!(paths, expected.into_iter().collect::<Vec<_>>(), "{health}");
        }
    }

    #[test]
    fn keys_name_service_and_endpoint() {
        let a = plan("a", r#"endpoints = ["http://x", "http://y"]"#);
        let b = plan("b", r#"endpoints = ["http://x"]"#);
        let again = plan("a", "endpoints = [\"http://y\"]\nbody_timeout = \"3s\"");
        assert_ne!(a.endpoints[0].key, b.endpoints[0].key);
        assert_eq!(a.endpoints[1].key, again.endpoints[0].key);
        assert_eq!(a.key, again.key);
        assert_ne!(a.shape, again.shape);
        assert_eq!(a.endpoints[0].key, endpoint_key("a", "http://x"));
    }

    #[test]
    fn shares_round_up_and_keep_no_limit() {
        assert_eq!(share_of(10, 4), 3);
        assert_eq!(share_of(1, 4), 1);
        assert_eq!(share_of(0, 4), 0);
        assert_eq!(share_of(7, 0), 7);
    }
}
