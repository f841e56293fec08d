//! One entrypoint's TLS: which name gets which certificate and which options.
//!
//! Rules: a name's option set depends on the name alone, so nothing a client offers moves it to another. Certificates
//! that cover the same names have one number: to a client they are one identity.

use super::material::Loaded;
use super::names::{canonical, Names};
use super::options::Options;
use super::session::Clock;
use super::tickets::{Bound, Policy, Tickets};
use crate::config::ClientAuth;
use crate::message::TlsFacts;
use rustls::server::danger::ClientCertVerifier;
use rustls::server::{ClientHello, NoServerSessionStorage, ResolvesServerCert, ServerConfig, ServerSessionMemoryCache};
use rustls::sign::CertifiedKey;
use rustls::{CipherSuite, SignatureScheme};
use sha2::{Digest, Sha256};
use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

/// Bytes of 0-RTT data taken on one connection, where it is on at all.
const EARLY_DATA: u32 = 16 << 10;
/// Single-use sessions kept by one worker for one option set with 0-RTT.
const EARLY_SESSIONS: usize = 4096;
/// Tickets given after a full TLS 1.3 handshake; a browser opens two connections at a time.
const TICKETS: usize = 2;
/// The protocol of tls-alpn-01 (RFC 8737).
pub(super) const ACME_ALPN: &[u8] = b"acme-tls/1";

/// TLS of one entrypoint.
pub struct ServerTls {
    pub(super) name: String,
    handshake_timeout: Duration,
    pub(super) clock: Arc<Clock>,
    /// Number 0 is `options`; what is equal has one number.
    sets: Vec<OptionSet>,
    by_host: Names<u32>,
    certificates: Vec<Shown>,
    by_name: Names<Vec<u32>>,
    /// For names no certificate covers, and for none; empty: refused.
    default: Vec<u32>,
    challenges: Arc<BTreeMap<String, Arc<ServerConfig>>>,
}

pub(super) struct OptionSet {
    pub(super) client: ClientAuth,
    pub(super) verifier: Option<Arc<dyn ClientCertVerifier>>,
    /// Without a certificate of its own.
    template: ServerConfig,
    /// By certificate, made when first asked for.
    configs: Vec<OnceLock<Arc<ServerConfig>>>,
}

struct Shown {
    key: Arc<CertifiedKey>,
    /// Number of the identity.
    identity: u32,
}

/// What a ClientHello was given.
pub(super) struct Chosen {
    pub(super) config: Arc<ServerConfig>,
    pub(super) options: u32,
    pub(super) certificate: u32,
    /// A tls-alpn-01 challenge: over as soon as it is done.
    pub(super) challenge: bool,
}

impl fmt::Debug for ServerTls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ServerTls({})", self.name)
    }
}

/// The parts of a plan, all checked.
pub(super) struct Parts<'a> {
    pub(super) name: &'a str,
    pub(super) handshake_timeout: Duration,
    pub(super) clock: Arc<Clock>,
    /// `options`, then what applies to the host patterns.
    pub(super) sets: Vec<Options>,
    /// Canonical pattern → number of its set.
    pub(super) hosts: Vec<(String, u32)>,
    pub(super) certificates: Vec<Arc<Loaded>>,
    pub(super) default: &'a str,
    pub(super) tickets: Option<Arc<Tickets>>,
    pub(super) challenges: Arc<BTreeMap<String, Arc<ServerConfig>>>,
}

impl ServerTls {
    pub(super) fn new(mut parts: Parts<'_>) -> Result<ServerTls, rustls::Error> {
        // Which of several is tried first: see `Loaded::rank`.
        parts.certificates.sort_by_key(|c| c.rank());
        let mut identities: BTreeMap<Vec<String>, u32> = BTreeMap::new();
        let mut certificates = Vec::with_capacity(parts.certificates.len());
        let mut by_name: Names<Vec<u32>> = Names::default();
        let mut default = Vec::new();
        for (number, loaded) in (0..).zip(&parts.certificates) {
            let next = identities.len() as u32;
            let identity = *identities.entry(loaded.sans.clone()).or_insert(next);
            certificates.push(Shown { key: loaded.key.clone(), identity });
            for pattern in &loaded.patterns {
                let numbers = by_name.entry(pattern);
                if !numbers.contains(&number) {
                    numbers.push(number);
                }
            }
            if !parts.default.is_empty() && loaded.name == parts.default {
                default.push(number);
            }
        }
        let mut by_host = Names::default();
        for (pattern, set) in &parts.hosts {
            *by_host.entry(pattern) = *set;
        }
        let tickets = parts.tickets.as_ref();
        let sets = parts.sets.into_iter().map(|options| {
            let template = template(&options, parts.name, &parts.clock, tickets)?;
            let configs = certificates.iter().map(|_| OnceLock::new()).collect();
            Ok(OptionSet { client: options.client, verifier: options.verifier, template, configs })
        });
        Ok(ServerTls {
            name: parts.name.to_owned(),
            handshake_timeout: parts.handshake_timeout,
            clock: parts.clock.clone(),
            sets: sets.collect::<Result<_, rustls::Error>>()?,
            by_host,
            certificates,
            by_name,
            default,
            challenges: parts.challenges,
        })
    }

    /// Which option set and which certificate a host name gets: `(options, certificate)`; None: refused. The host is
    /// without a port; None and what is no name (an IP address) count as a client that names no server.
    pub fn resolve(&self, host: Option<&[u8]>) -> Option<(u32, u32)> {
        let name = host.and_then(canonical);
        let name = name.as_deref();
        let first = self.candidates(name).next()?;
        Some((self.options(name), self.certificates.get(first as usize)?.identity))
    }

    /// Whether a request for `host` (without a port) may be answered on a connection with these facts: it is the name
    /// the connection was made for, or one that gets the same options and the same certificate. Else 421
    /// (RFC 9110 §15.5.20).
    pub fn serves(&self, facts: &TlsFacts, host: &[u8]) -> bool {
        let name = canonical(host);
        name == facts.sni || self.resolve(Some(host)) == Some((facts.options, facts.certificate))
    }

    /// Time for a complete handshake.
    pub fn handshake_timeout(&self) -> Duration {
        self.handshake_timeout
    }

    pub(super) fn set(&self, number: u32) -> Option<&OptionSet> {
        self.sets.get(number as usize)
    }

    fn options(&self, name: Option<&str>) -> u32 {
        name.and_then(|name| self.by_host.covering(name).next()).copied().unwrap_or(0)
    }

    /// Certificates for a canonical name, the best first.
    fn candidates<'a>(&'a self, name: Option<&str>) -> impl Iterator<Item = u32> + use<'a> {
        let covering: Vec<&Vec<u32>> = name.map_or_else(Vec::new, |name| self.by_name.covering(name).collect());
        let default = covering.is_empty().then_some(&self.default);
        covering.into_iter().chain(default).flatten().copied()
    }

    /// What a client gets that says this. None: nothing is shown to it.
    pub(super) fn choose(&self, hello: &ClientHello<'_>) -> Option<Chosen> {
        let name = hello.server_name().and_then(|name| canonical(name.as_bytes()));
        let name = name.as_deref();
        if hello.alpn().is_some_and(|mut offered| offered.next() == Some(ACME_ALPN) && offered.next().is_none()) {
            let config = self.challenges.get(name?)?.clone();
            return Some(Chosen { config, options: u32::MAX, certificate: u32::MAX, challenge: true });
        }
        let options = self.options(name);
        let set = self.set(options)?;
        let schemes = usable_schemes(set.template.crypto_provider(), hello);
        let fits = |number: &u32| {
            self.certificates.get(*number as usize).is_some_and(|c| c.key.key.choose_scheme(&schemes).is_some())
        };
        // One that does not fit either fails the handshake with the right alert.
        let number = self.candidates(name).find(fits).or_else(|| self.candidates(name).next())?;
        let shown = self.certificates.get(number as usize)?;
        let config =
            set.configs.get(number as usize)?.get_or_init(|| with_certificate(&set.template, shown.key.clone()));
        Some(Chosen { config: config.clone(), options, certificate: shown.identity, challenge: false })
    }
}

/// The client's signature schemes that its cipher suites and ours leave of use: with TLS 1.2 a suite fixes the kind of
/// key.
fn usable_schemes(provider: &rustls::crypto::CryptoProvider, hello: &ClientHello<'_>) -> Vec<SignatureScheme> {
    let offered: &[CipherSuite] = hello.cipher_suites();
    let ours = provider.cipher_suites.iter().filter(|suite| offered.contains(&suite.suite()));
    let mut kinds = Vec::new();
    for suite in ours {
        match suite {
            rustls::SupportedCipherSuite::Tls13(_) => return hello.signature_schemes().to_vec(),
            rustls::SupportedCipherSuite::Tls12(suite) => kinds.extend_from_slice(suite.sign),
        }
    }
    hello.signature_schemes().iter().copied().filter(|scheme| kinds.contains(scheme)).collect()
}

/// A configuration that lacks nothing but a certificate.
fn template(
    options: &Options,
    entrypoint: &str,
    clock: &Arc<Clock>,
    tickets: Option<&Arc<Tickets>>,
) -> Result<ServerConfig, rustls::Error> {
    let builder = ServerConfig::builder_with_details(options.provider.clone(), clock.clone());
    let builder = builder.with_protocol_versions(&options.versions)?;
    let builder = match &options.verifier {
        Some(verifier) => builder.with_client_cert_verifier(verifier.clone()),
        None => builder.with_no_client_auth(),
    };
    let mut config = builder.with_cert_resolver(Arc::new(Shows(None)));
    config.alpn_protocols.clone_from(&options.alpn);
    config.ignore_client_order = options.own_order;
    config.send_tls13_tickets = TICKETS;
    config.session_storage = Arc::new(NoServerSessionStorage {});
    if options.early_data {
        // RFC 8446 §8.1: a session that may carry 0-RTT data is kept here and good for one use.
        config.max_early_data_size = EARLY_DATA;
        config.session_storage = ServerSessionMemoryCache::new(EARLY_SESSIONS);
    } else if let Some(tickets) = tickets {
        let policy = policy(options, entrypoint);
        config.ticketer = Arc::new(Bound { tickets: tickets.clone(), policy, clock: clock.clone() });
    }
    Ok(config)
}

/// What sessions are bound to: the entrypoint and all that decides about client certificates. That the host is the
/// same the library checks itself (RFC 6066 §3), and a host has one option set.
fn policy(options: &Options, entrypoint: &str) -> Policy {
    let mut hash = Sha256::new();
    hash.update(b"pygate ticket policy 1");
    hash.update(options.trust);
    hash.update(entrypoint.as_bytes());
    hash.finalize().into()
}

pub(super) fn with_certificate(template: &ServerConfig, key: Arc<CertifiedKey>) -> Arc<ServerConfig> {
    let mut config = template.clone();
    config.cert_resolver = Arc::new(Shows(Some(key)));
    Arc::new(config)
}

/// The answer to a tls-alpn-01 challenge (RFC 8737 §3).
pub(super) fn challenge(
    loaded: &Loaded,
    provider: &Arc<rustls::crypto::CryptoProvider>,
    clock: &Arc<Clock>,
) -> Result<Arc<ServerConfig>, rustls::Error> {
    let builder = ServerConfig::builder_with_details(provider.clone(), clock.clone());
    let builder = builder.with_safe_default_protocol_versions()?.with_no_client_auth();
    let mut config = builder.with_cert_resolver(Arc::new(Shows(Some(loaded.key.clone()))));
    config.alpn_protocols = vec![ACME_ALPN.to_vec()];
    config.send_tls13_tickets = 0;
    config.session_storage = Arc::new(NoServerSessionStorage {});
    Ok(Arc::new(config))
}

/// Shows the certificate that was chosen, whatever else the client says.
#[derive(Debug)]
struct Shows(Option<Arc<CertifiedKey>>);

impl ResolvesServerCert for Shows {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        self.0.clone()
    }
}
