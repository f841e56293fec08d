//! Everything TLS of one worker, compiled from a configuration and the contents of its certificate files.
//!
//! Rules: every problem is reported at once with the path of its key. What cannot work is refused here, so that a
//! handshake fails only for what the client does. A certificate that an ACME account has yet to obtain is no problem:
//! until it is there its names are refused.

use super::material::{CertificateMaterial, Loaded, Material};
use super::names::{canonical_pattern, covers};
use super::options::{self, bundle, versions, Place};
use super::plan::{self, ServerTls};
use super::session::Clock;
use super::tickets::Tickets;
use super::verify::{self, ClientTls};
use crate::config::{Certificate, ClientAuth, Config, Entrypoint, EntrypointTls, Service, TlsOptions, TlsVersion};
use crate::error::{nearest, Problem};
use base64::Engine;
use rustls::crypto::{ring, CryptoProvider};
use rustls::pki_types::ServerName;
use rustls::{RootCertStore, ServerConfig};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::Arc;

/// Immutable; swapped as a whole. Connections keep the plan they began with.
pub struct TlsStore {
    servers: BTreeMap<String, Arc<ServerTls>>,
    clients: BTreeMap<String, Arc<ClientTls>>,
    challenges: BTreeMap<String, String>,
    clock: Arc<Clock>,
}

impl fmt::Debug for TlsStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TlsStore")
            .field("servers", &self.servers.keys())
            .field("clients", &self.clients.keys())
            .finish()
    }
}

impl TlsStore {
    /// Compiles the TLS of `config`; without `tickets` no session is taken up again.
    pub fn compile(
        config: &Config,
        material: &Material,
        tickets: Option<Arc<Tickets>>,
    ) -> Result<TlsStore, Vec<Problem>> {
        let mut compiler = Compiler {
            config,
            material,
            tickets,
            provider: Arc::new(ring::default_provider()),
            clock: Arc::new(Clock::default()),
            certificates: Vec::new(),
            roots: BTreeMap::new(),
            problems: Vec::new(),
        };
        compiler.load();
        let challenges = compiler.challenges();
        let mut servers = BTreeMap::new();
        for (name, entrypoint) in &config.entrypoints {
            if let Some(tls) = &entrypoint.tls {
                if let Some(plan) = compiler.server(name, entrypoint, tls, &challenges) {
                    servers.insert(name.clone(), Arc::new(plan));
                }
            }
        }
        let mut clients = BTreeMap::new();
        for (name, service) in config.all_services().iter().filter(|(_, service)| has_tls(service)) {
            if let Some(plan) = compiler.client(name, service) {
                clients.insert(name.clone(), Arc::new(plan));
            }
        }
        if !compiler.problems.is_empty() {
            return Err(compiler.problems);
        }
        Ok(TlsStore { servers, clients, challenges: material.challenges.clone(), clock: compiler.clock })
    }

    /// The TLS of an entrypoint, by name; None: it has none.
    pub fn server(&self, entrypoint: &str) -> Option<&Arc<ServerTls>> {
        self.servers.get(entrypoint)
    }

    /// The TLS of a service that has `https://` endpoints, by name.
    pub fn client(&self, service: &str) -> Option<&Arc<ClientTls>> {
        self.clients.get(service)
    }

    /// The key authorization of an http-01 challenge (RFC 8555 §8.3).
    pub fn challenge(&self, token: &[u8]) -> Option<&str> {
        self.challenges.get(std::str::from_utf8(token).ok()?).map(String::as_str)
    }

    /// Tells all plans of this store the time (unix seconds). Certificates and tickets are judged by it, to the second
    /// at best; every few seconds is enough.
    pub fn set_now(&self, unix: u64) {
        self.clock.set(unix);
    }
}

/// Whether a service has endpoints that speak TLS.
fn has_tls(service: &Service) -> bool {
    let is_tls = |url: &str| url.get(..8).is_some_and(|scheme| scheme.eq_ignore_ascii_case("https://"));
    service.endpoints.iter().any(|endpoint| is_tls(endpoint.url()))
}

struct Compiler<'a> {
    config: &'a Config,
    material: &'a Material,
    tickets: Option<Arc<Tickets>>,
    provider: Arc<CryptoProvider>,
    clock: Arc<Clock>,
    certificates: Vec<Arc<Loaded>>,
    /// Bundles of services, by file: several may name the same, the system's above all.
    roots: BTreeMap<String, Option<Arc<RootCertStore>>>,
    problems: Vec<Problem>,
}

impl Compiler<'_> {
    /// Reads all certificates.
    fn load(&mut self) {
        for certificate in &self.material.certificates {
            match certificate.load(&format!("certificates.{}", certificate.name), &self.provider) {
                Ok(loaded) => self.certificates.push(Arc::new(loaded)),
                Err(problem) => self.problems.push(problem),
            }
        }
        for (name, certificate) in &self.config.certificates {
            let there = self.material.certificates.iter().any(|c| c.name == *name);
            if !there && !certificate.cert.is_empty() {
                let message = format!("{}: was not read", certificate.cert);
                self.problems.push(Problem::new(format!("certificates.{name}.cert"), message));
            }
        }
    }

    fn challenges(&mut self) -> Arc<BTreeMap<String, Arc<ServerConfig>>> {
        let mut found = BTreeMap::new();
        for certificate in &self.material.alpn_challenges {
            if let Some((host, config)) = self.challenge(certificate) {
                found.insert(host, config);
            }
        }
        Arc::new(found)
    }

    fn challenge(&mut self, certificate: &CertificateMaterial) -> Option<(String, Arc<ServerConfig>)> {
        let loaded = match certificate.load_challenge("acme", &self.provider) {
            Ok(loaded) => loaded,
            Err(problem) => {
                self.problems.push(problem);
                return None;
            }
        };
        let host = canonical_pattern(&certificate.name)?;
        self.checked("acme", plan::challenge(&loaded, &self.provider, &self.clock)).map(|config| (host, config))
    }

    fn server(
        &mut self,
        name: &str,
        entrypoint: &Entrypoint,
        tls: &EntrypointTls,
        challenges: &Arc<BTreeMap<String, Arc<ServerConfig>>>,
    ) -> Option<ServerTls> {
        let before = self.problems.len();
        let at = |key: &str| format!("entrypoints.{name}.tls.{key}");
        for (i, wanted) in tls.certificates.iter().enumerate() {
            self.known_certificate(&at(&format!("certificates[{i}]")), wanted);
        }
        if !tls.default_certificate.is_empty() {
            self.known_certificate(&at("default_certificate"), &tls.default_certificate);
        }
        let shown = |certificate: &str| {
            let listed = tls.certificates.is_empty() || tls.certificates.iter().any(|c| c == certificate);
            listed || certificate == tls.default_certificate
        };
        let certificates: Vec<_> = self.certificates.iter().filter(|c| shown(&c.name)).cloned().collect();

        let base = (at("options"), &tls.options);
        let place = Place { own: base.clone(), base: base.clone() };
        let mut sets = Vec::new();
        let mut merged: Vec<TlsOptions> = Vec::new();
        let mut add = |options: TlsOptions, place: &Place<'_>, problems: &mut Vec<Problem>| {
            if let Some(number) = merged.iter().position(|known| *known == options) {
                return number as u32;
            }
            let compiled = options::compile(&options, entrypoint, place, self.material, &self.provider, problems);
            sets.extend(compiled);
            merged.push(options);
            merged.len() as u32 - 1
        };
        add(tls.options.clone(), &place, &mut self.problems);
        let mut hosts: Vec<(String, u32)> = Vec::new();
        for (host, over) in &tls.hosts {
            let path = at(&format!("hosts.{host}"));
            let Some(pattern) = canonical_pattern(host) else {
                let problem = Problem::new(path, format!("{host:?} is not a host name"));
                self.problems.push(problem.expected("`admin.example.com` or `*.example.com`"));
                continue;
            };
            if hosts.iter().any(|(known, _)| *known == pattern) {
                let problem = Problem::new(path, format!("options for {pattern} are given twice"));
                self.problems.push(problem.expected("one entry"));
                continue;
            }
            let place = Place { own: (path, over), base: base.clone() };
            hosts.push((pattern, add(options::merged(&tls.options, over), &place, &mut self.problems)));
        }
        let uses_ca = merged.iter().any(|o| o.client_auth.unwrap_or_default() != ClientAuth::None);
        if !uses_ca && merged.iter().any(|o| o.client_ca.is_some()) {
            let problem = Problem::new(at("options.client_ca"), "client_ca has no effect without client_auth");
            self.problems.push(problem.expected("client_auth = \"require\" or \"verify-if-given\""));
        }
        if tls.default_certificate.is_empty() {
            self.covered(name, &hosts, &certificates, shown);
        }
        if self.problems.len() > before {
            return None;
        }
        let plan = ServerTls::new(plan::Parts {
            name,
            handshake_timeout: tls.handshake_timeout.0,
            clock: self.clock.clone(),
            sets,
            hosts,
            certificates,
            default: &tls.default_certificate,
            tickets: self.tickets.clone(),
            challenges: challenges.clone(),
        });
        self.checked(&at("options"), plan)
    }

    /// Options for a host that no certificate is shown to are a mistake. Certificates that are yet to be obtained, or
    /// may appear in a directory, count by what they are meant for.
    fn covered(
        &mut self,
        entrypoint: &str,
        hosts: &[(String, u32)],
        certificates: &[Arc<Loaded>],
        shown: impl Fn(&str) -> bool,
    ) {
        let there: BTreeSet<&str> = certificates.iter().flat_map(|c| &c.patterns).map(String::as_str).collect();
        let meant: Vec<&Certificate> =
            self.config.certificates.iter().filter(|(name, _)| shown(name)).map(|(_, c)| c).collect();
        if meant.iter().any(|c| !c.dir.is_empty()) {
            return;
        }
        let to_come: Vec<String> = meant.iter().flat_map(|c| &c.hosts).filter_map(|h| canonical_pattern(h)).collect();
        let patterns: BTreeSet<&str> = there.into_iter().chain(to_come.iter().map(String::as_str)).collect();
        for (host, _) in hosts {
            // Options for `*.a` are of use where one name below it has a certificate.
            if patterns.iter().any(|pattern| covers(pattern, host) || covers(host, pattern)) {
                continue;
            }
            let path = format!("entrypoints.{entrypoint}.tls.hosts.{host}");
            let problem = Problem::new(path, format!("no certificate of this entrypoint covers {host}"))
                .expected("a certificate for it, or default_certificate");
            self.problems.push(match nearest(host, patterns.iter().copied()) {
                Some(near) => problem.nearest(near),
                None => problem,
            });
        }
    }

    fn client(&mut self, name: &str, service: &Service) -> Option<ClientTls> {
        let before = self.problems.len();
        let tls = &service.tls;
        let at = |key: &str| format!("services.{name}.tls.{key}");
        let roots = if tls.insecure_skip_verify { None } else { Some(self.roots(&tls.ca, &at("ca"))) };
        let mut pins = Vec::with_capacity(tls.pins.len());
        for (i, pin) in tls.pins.iter().enumerate() {
            match read_pin(pin) {
                Some(read) => pins.push(read),
                None => {
                    let problem = Problem::new(at(&format!("pins[{i}]")), format!("{pin:?} is not a pin"));
                    self.problems.push(problem.expected("`sha256/` and 32 bytes in base64"));
                }
            }
        }
        let server_name = match tls.server_name.as_str() {
            "" => None,
            given => match ServerName::try_from(given.to_owned()) {
                Ok(name) => Some(name),
                Err(_) => {
                    let problem = Problem::new(at("server_name"), format!("{given:?} is not a host name"));
                    self.problems.push(problem.expected("a host name or an IP address"));
                    None
                }
            },
        };
        let mut certificate = None;
        if !tls.certificate.is_empty() && self.known_certificate(&at("certificate"), &tls.certificate) {
            let mut named: Vec<_> = self.certificates.iter().filter(|c| c.name == tls.certificate).collect();
            named.sort_by_key(|c| c.rank());
            match named.first() {
                Some(loaded) => certificate = Some((*loaded).clone()),
                None => {
                    let message = format!("the certificate {:?} is not there yet", tls.certificate);
                    self.problems.push(Problem::new(at("certificate"), message));
                }
            }
        }
        if self.problems.len() > before {
            return None;
        }
        let parts = verify::Parts {
            versions: versions(tls.min_version.unwrap_or(TlsVersion::V12), TlsVersion::V13),
            roots: roots.flatten(),
            pins,
            certificate,
            server_name,
        };
        self.checked(&format!("services.{name}.tls"), ClientTls::new(parts, &self.provider, &self.clock))
    }

    /// The roots of a service; a problem is reported once per bundle.
    fn roots(&mut self, file: &str, path: &str) -> Option<Arc<RootCertStore>> {
        if let Some(known) = self.roots.get(file) {
            return known.clone();
        }
        let read = bundle(self.material, file, path, &mut self.problems).map(Arc::new);
        self.roots.insert(file.to_owned(), read.clone());
        read
    }

    /// Whether the configuration has a certificate of this name; if not that is a problem.
    fn known_certificate(&mut self, path: &str, name: &str) -> bool {
        if self.config.certificates.contains_key(name) {
            return true;
        }
        let known = || self.config.certificates.keys().map(String::as_str);
        let problem = Problem::new(path, format!("there is no certificate {name:?}"));
        let problem = match known().collect::<Vec<_>>().as_slice() {
            [] => problem.expected("a certificate that is configured (there are none)"),
            some => problem.expected(format!("one of {}", some.join(", "))),
        };
        self.problems.push(match nearest(name, known()) {
            Some(near) => problem.nearest(near),
            None => problem,
        });
        false
    }

    /// What the library refuses though it passed all checks.
    fn checked<T>(&mut self, path: &str, made: Result<T, rustls::Error>) -> Option<T> {
        made.map_err(|error| self.problems.push(Problem::new(path, super::TlsError::from(error).to_string()))).ok()
    }
}

fn read_pin(pin: &str) -> Option<[u8; 32]> {
    let hash = pin.strip_prefix("sha256/")?;
    base64::engine::general_purpose::STANDARD.decode(hash).ok()?.try_into().ok()
}
