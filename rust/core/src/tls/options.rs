//! What is negotiated, compiled from [`TlsOptions`]: versions, suites, application protocols, client certificates.

use super::material::{self, Material};
use crate::config::{ClientAuth, Entrypoint, EntrypointProtocol, TlsOptions, TlsVersion};
use crate::error::{nearest, Problem};
use rustls::crypto::ring::cipher_suite as suite;
use rustls::crypto::CryptoProvider;
use rustls::pki_types::TrustAnchor;
use rustls::server::danger::ClientCertVerifier;
use rustls::server::WebPkiClientVerifier;
use rustls::{SupportedCipherSuite, SupportedProtocolVersion};
use sha2::{Digest, Sha256};
use std::sync::Arc;

/// Suites by their IANA names, in the library's order.
pub(super) const SUITES: &[(&str, SupportedCipherSuite)] = &[
    ("TLS_AES_256_GCM_SHA384", suite::TLS13_AES_256_GCM_SHA384),
    ("TLS_AES_128_GCM_SHA256", suite::TLS13_AES_128_GCM_SHA256),
    ("TLS_CHACHA20_POLY1305_SHA256", suite::TLS13_CHACHA20_POLY1305_SHA256),
    ("TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384", suite::TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384),
    ("TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256", suite::TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256),
    ("TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256", suite::TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256),
    ("TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384", suite::TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384),
    ("TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256", suite::TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256),
    ("TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256", suite::TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256),
];

/// IANA name of a suite in use.
pub(super) fn suite_name(suite: Option<SupportedCipherSuite>) -> &'static str {
    SUITES.iter().find(|(_, known)| suite.is_some_and(|s| s.suite() == known.suite())).map_or("", |s| s.0)
}

/// Versions from `min` to `max`.
pub(super) fn versions(min: TlsVersion, max: TlsVersion) -> Vec<&'static SupportedProtocolVersion> {
    let all = [(TlsVersion::V12, &rustls::version::TLS12), (TlsVersion::V13, &rustls::version::TLS13)];
    all.into_iter().filter(|(v, _)| (min..=max).contains(v)).map(|v| v.1).collect()
}

/// `over`, and what it leaves out as in `base`.
pub(super) fn merged(base: &TlsOptions, over: &TlsOptions) -> TlsOptions {
    TlsOptions {
        min_version: over.min_version.or(base.min_version),
        max_version: over.max_version.or(base.max_version),
        suites: over.suites.clone().or_else(|| base.suites.clone()),
        alpn: over.alpn.clone().or_else(|| base.alpn.clone()),
        client_auth: over.client_auth.or(base.client_auth),
        client_ca: over.client_ca.clone().or_else(|| base.client_ca.clone()),
        early_data: over.early_data.or(base.early_data),
    }
}

/// One option set, checked.
#[derive(Clone, Debug)]
pub(super) struct Options {
    pub(super) versions: Vec<&'static SupportedProtocolVersion>,
    pub(super) provider: Arc<CryptoProvider>,
    /// The order of suites was chosen here, so it is ours that counts.
    pub(super) own_order: bool,
    pub(super) alpn: Vec<Vec<u8>>,
    pub(super) client: ClientAuth,
    /// None: no client certificates.
    pub(super) verifier: Option<Arc<dyn ClientCertVerifier>>,
    /// Hash of whatever decides about client certificates.
    pub(super) trust: [u8; 32],
    pub(super) early_data: bool,
}

/// Where problems with an option set are shown: the keys of the set itself, or those it has from `options`.
pub(super) struct Place<'a> {
    pub(super) own: (String, &'a TlsOptions),
    pub(super) base: (String, &'a TlsOptions),
}

impl Place<'_> {
    /// The path of `key`, where it is set (`set` says whether); where it is nowhere, in the set itself.
    fn of(&self, key: &str, set: impl Fn(&TlsOptions) -> bool) -> String {
        let prefix = if !set(self.own.1) && set(self.base.1) { &self.base.0 } else { &self.own.0 };
        format!("{prefix}.{key}")
    }
}

/// Compiles a merged option set; what is wrong is added to `problems`.
pub(super) fn compile(
    options: &TlsOptions,
    entrypoint: &Entrypoint,
    place: &Place<'_>,
    material: &Material,
    provider: &Arc<CryptoProvider>,
    problems: &mut Vec<Problem>,
) -> Option<Options> {
    let before = problems.len();
    let min = options.min_version.unwrap_or(TlsVersion::V12);
    let max = options.max_version.unwrap_or(TlsVersion::V13);
    if min > max {
        let path = place.of("min_version", |o| o.min_version.is_some());
        let problem = Problem::new(path, "no version is left: min_version is newer than max_version");
        problems.push(problem.expected("min_version at most max_version"));
    }
    let versions = versions(min, max);
    let mut provider = provider.clone();
    if let Some(names) = &options.suites {
        let path = place.of("suites", |o| o.suites.is_some());
        let mut own = CryptoProvider::clone(&provider);
        own.cipher_suites = suites(names, &path, problems);
        let usable = own.cipher_suites.iter().any(|s| versions.contains(&s.version()));
        if problems.len() == before && !usable {
            let problem = Problem::new(path, "none of these suites is of an allowed version");
            problems.push(problem.expected("at least one suite of a version from min_version to max_version"));
        }
        provider = Arc::new(own);
    }
    let alpn = alpn(options, entrypoint, place, problems);
    let client = options.client_auth.unwrap_or_default();
    let (verifier, trust) = verifier(client, options, place, material, &provider, problems);
    let early_data = options.early_data == Some(true);
    if early_data && max < TlsVersion::V13 {
        let path = place.of("early_data", |o| o.early_data.is_some());
        problems.push(Problem::new(path, "0-RTT data needs TLS 1.3").expected("max_version = \"1.3\""));
    }
    (problems.len() == before).then_some(Options {
        versions,
        provider,
        own_order: options.suites.is_some(),
        alpn,
        client,
        verifier,
        trust,
        early_data,
    })
}

fn suites(names: &[String], path: &str, problems: &mut Vec<Problem>) -> Vec<SupportedCipherSuite> {
    let mut found = Vec::with_capacity(names.len());
    for (i, name) in names.iter().enumerate() {
        match SUITES.iter().find(|(known, _)| known == name) {
            Some((_, suite)) => found.push(*suite),
            None => {
                let known = || SUITES.iter().map(|s| s.0);
                let problem = Problem::new(format!("{path}[{i}]"), format!("there is no cipher suite {name:?}"))
                    .expected(format!("one of {}", known().collect::<Vec<_>>().join(", ")));
                problems.push(match nearest(name, known()) {
                    Some(near) => problem.nearest(near),
                    None => problem,
                });
            }
        }
    }
    if names.is_empty() {
        problems.push(Problem::new(path, "the list of suites is empty").expected("at least one suite, or no list"));
    }
    found
}

/// What an HTTP entrypoint can speak.
const HTTP_PROTOCOLS: [&str; 2] = ["h2", "http/1.1"];

fn alpn(options: &TlsOptions, entrypoint: &Entrypoint, place: &Place<'_>, problems: &mut Vec<Problem>) -> Vec<Vec<u8>> {
    let http = entrypoint.protocol == EntrypointProtocol::Http;
    let Some(names) = &options.alpn else {
        let spoken = HTTP_PROTOCOLS.iter().skip(usize::from(!entrypoint.http2.enabled));
        return spoken.filter(|_| http).map(|p| p.as_bytes().to_vec()).collect();
    };
    let path = place.of("alpn", |o| o.alpn.is_some());
    for (i, name) in names.iter().enumerate() {
        let at = format!("{path}[{i}]");
        if http && name == "h2" && !entrypoint.http2.enabled {
            let problem = Problem::new(at, "HTTP/2 is off on this entrypoint");
            problems.push(problem.expected("http2.enabled = true, or no \"h2\" here"));
        } else if http && !HTTP_PROTOCOLS.contains(&name.as_str()) {
            let problem = Problem::new(at, format!("an HTTP entrypoint does not speak {name:?}"));
            let problem = problem.expected("\"h2\" or \"http/1.1\"");
            problems.push(match nearest(name, HTTP_PROTOCOLS) {
                Some(near) => problem.nearest(near),
                None => problem,
            });
        } else if name.is_empty() || name.len() > 255 {
            let problem = Problem::new(at, "an application protocol has 1 to 255 bytes");
            problems.push(problem.expected("a name such as \"http/1.1\""));
        }
    }
    names.iter().map(|name| name.as_bytes().to_vec()).collect()
}

fn verifier(
    client: ClientAuth,
    options: &TlsOptions,
    place: &Place<'_>,
    material: &Material,
    provider: &Arc<CryptoProvider>,
    problems: &mut Vec<Problem>,
) -> (Option<Arc<dyn ClientCertVerifier>>, [u8; 32]) {
    let mut trust = Sha256::new();
    trust.update([client as u8]);
    if client == ClientAuth::None {
        return (None, trust.finalize().into());
    }
    let nobody = (None, [0; 32]);
    let Some(ca) = options.client_ca.as_ref().filter(|ca| !ca.is_empty()) else {
        let problem = Problem::new(place.of("client_ca", |o| o.client_ca.is_some()), "client_auth needs client_ca");
        problems.push(problem.expected("a PEM file with the roots that client certificates are checked against"));
        return nobody;
    };
    let path = place.of("client_ca", |o| o.client_ca.is_some());
    let Some(roots) = bundle(material, ca, &path, problems) else { return nobody };
    let mut anchors: Vec<[&[u8]; 3]> = roots.roots.iter().map(anchor).collect();
    anchors.sort_unstable();
    for part in anchors.into_iter().flatten() {
        trust.update((part.len() as u64).to_be_bytes());
        trust.update(part);
    }
    let builder = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider.clone());
    let builder = if client == ClientAuth::VerifyIfGiven { builder.allow_unauthenticated() } else { builder };
    match builder.build() {
        Ok(verifier) => (Some(verifier), trust.finalize().into()),
        Err(_) => {
            problems.push(Problem::new(path, format!("{ca}: no roots that can be used")));
            nobody
        }
    }
}

/// All that a trust anchor decides by.
fn anchor<'a>(anchor: &'a TrustAnchor<'_>) -> [&'a [u8]; 3] {
    let constraints = anchor.name_constraints.as_ref().map_or(&[][..], |c| c.as_ref());
    [anchor.subject.as_ref(), anchor.subject_public_key_info.as_ref(), constraints]
}

/// The roots of a bundle named in the configuration.
pub(super) fn bundle(
    material: &Material,
    file: &str,
    path: &str,
    problems: &mut Vec<Problem>,
) -> Option<rustls::RootCertStore> {
    let found = match material.roots.get(file) {
        None => Err("was not read"),
        Some(pem) => material::roots(pem, !file.is_empty()),
    };
    let shown = if file.is_empty() { "the system's roots" } else { file };
    found
        .map_err(|why| {
            let problem = Problem::new(path, format!("{shown}: {why}"));
            problems.push(problem.expected("a PEM file with root certificates"));
        })
        .ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_suite_is_the_librarys_and_has_its_iana_name() {
        let provider = rustls::crypto::ring::default_provider();
        let known: Vec<_> = SUITES.iter().map(|s| s.1.suite()).collect();
        let theirs: Vec<_> = provider.cipher_suites.iter().map(|s| s.suite()).collect();
        assert_eq!(known, theirs);
        for (name, suite) in SUITES {
            assert_eq!(*name, format!("{:?}", suite.suite()).replace("TLS13_", "TLS_"));
        }
    }
}
