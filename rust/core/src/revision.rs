//! A revision: everything that decides an answer, compiled, immutable and named.
//!
//! Rules:
//! 1. Compiling reports every problem at once, each with the path of the key it is about.
//! 2. Nothing in here changes after `compile`; what changes while serving is keyed by names (services,
//!    policies) and lives elsewhere, so that it survives the next revision.
//! 3. Numbers (of routes, services, entrypoints) mean something within one revision only.

use crate::ai;
use crate::balance::{share_of, ServicePlan, Spoken};
use crate::config::ipnet_text::Net;
use crate::config::{Audit, Config, EntrypointProtocol, Fail, ProxyProtocol, RouteAudit, TcpTls, WebSocket};
use crate::error::Problem;
use crate::guard::{Direction, Plan, Ruleset};
use crate::http1::HeadLimits;
use crate::http2::{Allowance, ServerLimits};
use crate::message::PathOptions;
use crate::observe::{EndpointLabel, RouteLabel};
use crate::policy::{Policy, RouteShape};
use crate::route::tcp::TcpTable;
use crate::route::RouteTable;
use crate::shared::stable_hash;
use ahash::AHashMap;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

/// Longest body held for the guard unless the route says otherwise.
const GUARD_BODY: u64 = 1 << 20;

pub struct Revision {
    /// The name as bytes.
    pub id: [u8; 6],
    /// First 12 hex digits of the SHA-256 of the canonical configuration.
    pub name: String,
    /// Sorted by name.
    pub entrypoints: Vec<EntrypointPlan>,
    pub table: RouteTable,
    pub tcp: TcpTable,
    /// In the order of the configuration; those of connections behind those of requests.
    pub routes: Vec<RoutePlan>,
    pub services: Vec<ServicePlan>,
    /// Providers and virtual models.
    pub ai: ai::Plan,
    /// By service, by endpoint.
    pub endpoint_labels: Vec<Vec<EndpointLabel>>,
    /// The label of requests that matched nothing.
    pub no_route: RouteLabel,
    /// Traces begun here are sampled with this probability over 2^64.
    pub sample: u64,
    pub max_connections: usize,
    pub workers: usize,
    pub audit: Audit,
    /// Endpoint key → idle connections kept by one worker, and for how long.
    pooling: AHashMap<u64, (u32, Duration)>,
}

pub struct EntrypointPlan {
    pub name: String,
    pub limits: HeadLimits,
    /// TLS ends here.
    pub tls: bool,
    /// Connections, not requests.
    pub tcp: bool,
    pub http2_enabled: bool,
    pub http2: ServerLimits,
    pub head_timeout: Duration,
    pub idle_timeout: Duration,
    pub body_timeout: Duration,
    pub tunnel_timeout: Duration,
    pub max_requests: u32,
    pub trusted_peers: Vec<Net>,
    pub proxy_protocol: Vec<Net>,
}

pub struct RoutePlan {
    pub name: String,
    /// Stable hash of the name: what is counted per route is kept under it.
    pub key: u64,
    pub label: RouteLabel,
    pub service: Option<u32>,
    /// It serves models: which service is called is decided by the call.
    pub llm: Option<ai::RoutePlan>,
    pub policies: Vec<Arc<dyn Policy>>,
    pub shape: RouteShape,
    pub guard: GuardPlan,
    pub audit: RouteAudit,
    /// Names of plugins, in order.
    pub plugins: Vec<String>,
    pub expose_revision: bool,
    /// Messages of upgraded connections are read.
    pub websocket: Option<WebSocket>,
    /// It takes connections, not requests.
    pub tcp: Option<TcpPlan>,
}

/// What a TCP route does with its connections.
pub struct TcpPlan {
    pub tls: TcpTls,
    pub proxy_protocol: ProxyProtocol,
    pub idle_timeout: Duration,
    /// Zero: no limit.
    pub max_lifetime: Duration,
}

/// What of a route's bodies is judged.
pub struct GuardPlan {
    pub request: Option<Plan>,
    pub response: Option<Plan>,
    pub max_body: usize,
    pub fail: Fail,
}

impl GuardPlan {
    /// Whether anything is judged.
    pub fn any(&self) -> bool {
        self.request.is_some() || self.response.is_some()
    }
}

impl Revision {
    /// Compiles `config` under `name` (12 hex digits). `ruleset` holds the packs that routes may name.
    pub fn compile(
        config: &Config,
        name: &str,
        workers: usize,
        ruleset: Option<&Arc<Ruleset>>,
    ) -> Result<Revision, Vec<Problem>> {
        let mut problems = Vec::new();
        let mut id = [0; 6];
        if hex::decode_to_slice(name, &mut id).is_err() {
            problems.push(Problem::new("", format!("{name:?} is not a revision name")).expected("12 hex digits"));
        }
        let names: Vec<String> = config.entrypoints.keys().cloned().collect();
        let entrypoints = config.entrypoints.iter().map(|(name, e)| entrypoint(name, e)).collect();

        let mut services = Vec::new();
        let mut service_numbers: BTreeMap<&str, u32> = BTreeMap::new();
        let all_services = config.all_services();
        for (name, service) in &all_services {
            match ServicePlan::compile(name, service) {
                Ok(plan) => {
                    service_numbers.insert(name, services.len() as u32);
                    services.push(plan);
                }
                Err(found) => problems.extend(found),
            }
        }
        let ai = ai::Plan::compile(config, |name| service_numbers.get(name).copied());
        let ai = ai.map_err(|found| problems.extend(found)).unwrap_or_default();
        let mut policies: BTreeMap<&str, Arc<dyn Policy>> = BTreeMap::new();
        for (name, spec) in &config.policies {
            match spec.compile(name) {
                Ok(policy) => {
                    policies.insert(name, policy);
                }
                Err(found) => problems.extend(found),
            }
        }
        let mut routes = Vec::with_capacity(config.routes.len());
        for (index, route) in config.routes.iter().enumerate() {
            let at = |key: &str| format!("routes[{index}].{key}");
            let service = route.service.as_deref().and_then(|name| {
                if !config.services.contains_key(name) {
                    problems.push(unknown(at("service"), "service", name, config.services.keys()));
                }
                service_numbers.get(name).copied()
            });
            let mut chain = Vec::with_capacity(route.policies.len());
            let mut shape = RouteShape::default();
            for (i, name) in route.policies.iter().enumerate() {
                if !config.policies.contains_key(name) {
                    problems.push(unknown(at(&format!("policies[{i}]")), "policy", name, config.policies.keys()));
                } else if let Some(policy) = policies.get(name.as_str()) {
                    policy.shape(&mut shape);
                    chain.push(policy.clone());
                }
            }
            for (i, name) in route.plugins.iter().enumerate().filter(|(_, n)| !config.plugins.contains_key(*n)) {
                problems.push(unknown(at(&format!("plugins[{i}]")), "plugin", name, config.plugins.keys()));
            }
            let mut plan = |key: &str, packs: &[String], direction| {
                if packs.is_empty() {
                    return None;
                }
                let Some(ruleset) = ruleset else {
                    problems.push(Problem::new(at(key), "no rule packs were loaded"));
                    return None;
                };
                match ruleset.plan(packs, direction) {
                    Ok(plan) => Some(plan),
                    Err(problem) => {
                        problems.push(Problem { path: at(key), ..problem });
                        None
                    }
                }
            };
            let guard = GuardPlan {
                request: plan("guard.request", &route.guard.request, Direction::Request),
                response: plan("guard.response", &route.guard.response, Direction::Response),
                max_body: route.guard.max_body.map_or(GUARD_BODY, |s| s.0) as usize,
                fail: route.guard.fail,
            };
            let llm = route.llm.as_ref().and_then(|llm| match ai.route(llm, &at("llm")) {
                Ok(plan) => Some(plan),
                Err(found) => {
                    problems.extend(found);
                    None
                }
            });
            if route.llm.is_some() && route.service.is_some() {
                let text = format!("route {:?} serves models, which have services of their own", route.name);
                problems.push(Problem::new(at("service"), text).expected("`llm` or `service`"));
            }
            let answers = route.llm.is_some() || !route.policies.is_empty() || !route.plugins.is_empty();
            if route.service.is_none() && !answers {
                let message = format!("route {:?} has no service and no policy that could answer", route.name);
                problems.push(Problem::new(at("service"), message).expected("the name of a service"));
            }
            routes.push(RoutePlan {
                name: route.name.clone(),
                key: stable_hash(&[b"route", route.name.as_bytes()]),
                label: RouteLabel::new(&route.name),
                service,
                llm,
                policies: chain,
                shape,
                // What is guarded must be read.
                websocket: route.websocket.clone().or_else(|| guard.any().then(WebSocket::default)),
                guard,
                audit: route.audit.clone(),
                plugins: route.plugins.clone(),
                expose_revision: route.expose_revision,
                tcp: None,
            });
            if let Some(service) = service.map(|s| &services[s as usize]) {
                if service.endpoints.iter().any(|e| e.spoken == Spoken::Bytes) {
                    let text = format!("service {:?} has tcp:// endpoints", service.name);
                    problems.push(
                        Problem::new(at("service"), text).expected("a service with http:// or https:// endpoints"),
                    );
                }
            }
        }
        let first_tcp = routes.len() as u32;
        for (index, route) in config.tcp_routes.iter().enumerate() {
            let at = |key: &str| format!("tcp_routes[{index}].{key}");
            if !config.services.contains_key(&route.service) {
                problems.push(unknown(at("service"), "service", &route.service, config.services.keys()));
            }
            if routes.iter().any(|other: &RoutePlan| other.name == route.name) {
                let text = format!("another route is called {:?}", route.name);
                problems.push(Problem::new(at("name"), text).expected("a name of its own"));
            }
            let service = service_numbers.get(route.service.as_str()).copied();
            if let Some(service) = service.map(|s| &services[s as usize]) {
                let other = service.endpoints.iter().find(|e| e.spoken == Spoken::Https);
                if other.is_some() {
                    let text = format!("service {:?} has https:// endpoints", service.name);
                    problems.push(Problem::new(at("service"), text).expected("a service with tcp:// endpoints"));
                }
            }
            routes.push(RoutePlan {
                name: route.name.clone(),
                key: stable_hash(&[b"route", route.name.as_bytes()]),
                label: RouteLabel::new(&route.name),
                service,
                llm: None,
                policies: Vec::new(),
                shape: RouteShape::default(),
                guard: GuardPlan { request: None, response: None, max_body: 0, fail: Fail::Closed },
                audit: route.audit.clone(),
                plugins: Vec::new(),
                expose_revision: false,
                websocket: None,
                tcp: Some(TcpPlan {
                    tls: route.tls,
                    proxy_protocol: route.proxy_protocol,
                    idle_timeout: route.idle_timeout.0,
                    max_lifetime: route.max_lifetime.0,
                }),
            });
        }
        for (name, e) in config.entrypoints.iter().filter(|(_, e)| e.protocol == EntrypointProtocol::Tcp) {
            let Some(tls) = &e.tls else { continue };
            if std::iter::once(&tls.options).chain(tls.hosts.values()).any(|o| o.early_data == Some(true)) {
                // Nobody could tell a replay: there is no request to be answered 425.
                let text = format!("entrypoint {name:?} passes bytes on, and early data may be a replay");
                problems.push(Problem::new(format!("entrypoints.{name}.tls"), text).expected("`early_data = false`"));
            }
        }
        let tcp =
            TcpTable::compile(config, first_tcp, &names).map_err(|found| problems.extend(found)).unwrap_or_default();
        if !(0.0..=1.0).contains(&config.telemetry.sample) {
            let text = format!("{} is not a share", config.telemetry.sample);
            problems.push(Problem::new("telemetry.sample", text).expected("a number from 0 to 1"));
        }
        let otlp = config.telemetry.otlp.as_str();
        if !(otlp.is_empty() || otlp.starts_with("http://") || otlp.starts_with("https://")) {
            let problem = Problem::new("telemetry.otlp", format!("{otlp:?} is not a URL"));
            problems.push(problem.expected("a URL such as `http://collector:4318`, or nothing"));
        }
        let table = RouteTable::compile(&config.routes, &names).map_err(|found| problems.extend(found));
        let Ok(table) = table else { return Err(problems) };
        if !problems.is_empty() {
            return Err(problems);
        }
        let pooling = services
            .iter()
            .flat_map(|s| s.endpoints.iter().map(move |e| (e.key, (share_of(s.max_idle, workers), s.idle_timeout))))
            .collect();
        let endpoint_labels = services
            .iter()
            .map(|s| s.endpoints.iter().map(|e| EndpointLabel::new(&s.name, &e.label)).collect())
            .collect();
        Ok(Revision {
            id,
            name: name.to_owned(),
            entrypoints,
            table,
            tcp,
            routes,
            services,
            ai,
            endpoint_labels,
            no_route: RouteLabel::new(""),
            sample: (config.telemetry.sample * u64::MAX as f64) as u64,
            max_connections: config.workers.max_connections as usize,
            workers: workers.max(1),
            audit: config.audit.clone(),
            pooling,
        })
    }

    /// Number of the entrypoint called `name`.
    pub fn entrypoint(&self, name: &str) -> Option<u16> {
        self.entrypoints.iter().position(|e| e.name == name).map(|i| i as u16)
    }

    /// Idle connections one worker keeps to an endpoint, and for how long; none when it is configured no more.
    pub fn pooling(&self, endpoint: u64) -> (u32, Duration) {
        self.pooling.get(&endpoint).copied().unwrap_or((0, Duration::ZERO))
    }
}

/// RFC 9113 §6.5.2 and §6.9.2: no smaller than what every connection begins with, no larger than 31 bits.
fn window(bytes: u64) -> u32 {
    bytes.clamp(65_535, 0x7fff_ffff) as u32
}

fn entrypoint(name: &str, config: &crate::config::Entrypoint) -> EntrypointPlan {
    EntrypointPlan {
        name: name.to_owned(),
        limits: HeadLimits {
            bytes: config.max_head.0 as usize,
            fields: config.max_fields as usize,
            path: PathOptions { merge_slashes: config.merge_slashes, allow_encoded_slash: config.allow_encoded_slash },
            underscores: config.underscores,
        },
        tls: config.tls.is_some(),
        tcp: config.protocol == EntrypointProtocol::Tcp,
        http2_enabled: config.http2.enabled && config.protocol == EntrypointProtocol::Http,
        http2: ServerLimits {
            streams: config.http2.max_streams,
            stream_window: window(config.http2.stream_window.0),
            connection_window: window(config.http2.connection_window.0),
            allowance: Allowance { resets: config.http2.max_resets, idle_frames: config.http2.max_idle_frames },
        },
        head_timeout: config.head_timeout.0,
        idle_timeout: config.idle_timeout.0,
        body_timeout: config.body_timeout.0,
        tunnel_timeout: config.tunnel_timeout.0,
        max_requests: config.max_requests,
        trusted_peers: config.trusted_peers.clone(),
        proxy_protocol: config.proxy_protocol.clone(),
    }
}

fn unknown<'a>(path: String, kind: &str, name: &str, known: impl Iterator<Item = &'a String>) -> Problem {
    let known: Vec<&str> = known.map(String::as_str).collect();
    let problem = Problem::new(path, format!("there is no {kind} {name:?}"));
    let problem = match known.as_slice() {
        [] => problem.expected(format!("a {kind} that is configured (there are none)")),
        some => problem.expected(format!("one of {}", some.join(", "))),
    };
    match crate::error::nearest(name, known.iter().copied()) {
        Some(near) => problem.nearest(near),
        None => problem,
    }
}
