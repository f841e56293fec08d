//! The contents of certificate files as the control process ships them, read and checked.
//!
//! Rules: what is wrong is named by its file, never by its content. Keys are wiped when a [`Material`] is dropped.

use super::facts::{self, alternative_names, distinguished_name, dns_names};
use super::names::canonical_pattern;
use crate::error::Problem;
use base64::Engine;
use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::sign::CertifiedKey;
use rustls::{RootCertStore, SignatureAlgorithm};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use x509_parser::prelude::{FromDer, X509Certificate};
use x509_parser::public_key::PublicKey;
use zeroize::Zeroize;

/// Files' contents.
#[derive(Debug, Default, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct Material {
    /// One per leaf; several may carry the same configured name (`dir`).
    pub certificates: Vec<CertificateMaterial>,
    /// PEM bundles by the path written in the configuration; `""`: the system's roots.
    pub roots: BTreeMap<String, String>,
    /// http-01: token → key authorization.
    pub challenges: BTreeMap<String, String>,
    /// tls-alpn-01: certificates with the acmeIdentifier extension; `name` is the host.
    pub alpn_challenges: Vec<CertificateMaterial>,
}

/// A certificate with its key.
#[derive(Default, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct CertificateMaterial {
    /// Configured name.
    pub name: String,
    /// File, for messages.
    pub source: String,
    /// PEM, leaf first.
    pub cert: String,
    /// PEM.
    pub key: String,
    /// OCSP response, base64 of the DER; or empty.
    #[serde(default)]
    pub ocsp: String,
}

impl fmt::Debug for CertificateMaterial {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let shown =
            f.debug_struct("CertificateMaterial").field("name", &self.name).field("source", &self.source).finish();
        shown
    }
}

impl Drop for CertificateMaterial {
    fn drop(&mut self) {
        self.key.zeroize();
    }
}

/// A certificate ready to be shown.
#[derive(Debug)]
pub(super) struct Loaded {
    /// Configured name.
    pub(super) name: String,
    pub(super) key: Arc<CertifiedKey>,
    /// DNS names and one-label wildcards, canonical.
    pub(super) patterns: Vec<String>,
    /// All alternative names, sorted: certificates that share these are alike to a client.
    pub(super) sans: Vec<String>,
    pub(super) not_after: i64,
}

impl Loaded {
    /// Elliptic curves first: their signatures cost a tenth. Then the one that lasts longest.
    pub(super) fn rank(&self) -> (u8, i64) {
        let kind = match self.key.key.algorithm() {
            SignatureAlgorithm::ECDSA => 0,
            SignatureAlgorithm::ED25519 => 1,
            _ => 2,
        };
        (kind, -self.not_after)
    }
}

impl CertificateMaterial {
    /// Reads and checks it. Problems stand at `path`.
    pub(super) fn load(&self, path: &str, provider: &CryptoProvider) -> Result<Loaded, Problem> {
        self.read(path, |chain, key| CertifiedKey::from_der(chain, key, provider))
    }

    /// The same for a certificate that answers tls-alpn-01. Its critical extension (RFC 8737 §3) is one the library
    /// does not know, so it cannot be asked whether the key fits; both were made together.
    pub(super) fn load_challenge(&self, path: &str, provider: &CryptoProvider) -> Result<Loaded, Problem> {
        self.read(path, |chain, key| Ok(CertifiedKey::new(chain, provider.key_provider.load_private_key(key)?)))
    }

    fn read(
        &self,
        path: &str,
        certify: impl FnOnce(Vec<CertificateDer<'static>>, PrivateKeyDer<'static>) -> Result<CertifiedKey, rustls::Error>,
    ) -> Result<Loaded, Problem> {
        let wrong = |what: &str| Problem::new(path, format!("{}: {what}", self.source));
        let chain = certificates(&self.cert)
            .map_err(|()| wrong("not a readable PEM file").expected("PEM certificates, the leaf first"))?;
        let Some(leaf) = chain.first() else {
            return Err(wrong("no certificate in it").expected("PEM certificates, the leaf first"));
        };
        let Ok((_, parsed)) = X509Certificate::from_der(leaf) else {
            return Err(wrong("the first certificate is malformed"));
        };
        let patterns = dns_names(&parsed).into_iter().filter_map(canonical_pattern).collect();
        let mut sans = alternative_names(&parsed);
        sans.sort_unstable();
        let not_after = parsed.validity().not_after.timestamp();
        let key = PrivateKeyDer::from_pem_slice(self.key.as_bytes())
            .map_err(|_| wrong("no private key that can be read").expected("a PEM key: PKCS#8, PKCS#1 or SEC1"))?;
        let mut certified = certify(chain, key).map_err(|error| match error {
            rustls::Error::InconsistentKeys(_) => wrong("the private key belongs to another certificate"),
            _ => wrong("a private key of a kind that is not supported")
                .expected("RSA of 2048 to 8192 bits, ECDSA P-256 or P-384, or Ed25519"),
        })?;
        if !self.ocsp.is_empty() {
            let der = base64::engine::general_purpose::STANDARD.decode(&self.ocsp);
            certified.ocsp = Some(der.map_err(|_| wrong("its OCSP response is not base64"))?);
        }
        Ok(Loaded { name: self.name.clone(), key: Arc::new(certified), patterns, sans, not_after })
    }
}

/// All certificates of a PEM text.
fn certificates(pem: &str) -> Result<Vec<CertificateDer<'static>>, ()> {
    CertificateDer::pem_slice_iter(pem.as_bytes()).collect::<Result<_, _>>().map_err(|_| ())
}

/// Trust anchors of a PEM bundle. `strict`: one that cannot be used is refused instead of left out (a system's bundle
/// may hold what this library does not know).
pub(super) fn roots(pem: &str, strict: bool) -> Result<RootCertStore, &'static str> {
    let found = certificates(pem).map_err(|()| "not a readable PEM file")?;
    let mut store = RootCertStore::empty();
    let (_, ignored) = store.add_parsable_certificates(found);
    match () {
        () if strict && ignored > 0 => Err("a certificate in it is malformed"),
        () if store.is_empty() => Err("no certificate in it"),
        () => Ok(store),
    }
}

/// What `pygate cert list` shows of a certificate.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct CertificateFacts {
    pub name: String,
    pub source: String,
    pub sans: Vec<String>,
    /// RFC 4514.
    pub subject: String,
    /// RFC 4514.
    pub issuer: String,
    /// Lower hex.
    pub serial: String,
    /// Unix seconds.
    pub not_before: i64,
    pub not_after: i64,
    /// SHA-256 of the DER, lower hex.
    pub fingerprint: String,
    /// `rsa-2048`, `ecdsa-p256`, `ed25519`.
    pub key: String,
    /// A response is stapled.
    pub ocsp: bool,
}

/// The leaf of every certificate in `material`, in its order; one that cannot be read is left out.
pub fn describe(material: &Material) -> Vec<CertificateFacts> {
    material.certificates.iter().filter_map(describe_one).collect()
}

fn describe_one(material: &CertificateMaterial) -> Option<CertificateFacts> {
    let chain = certificates(&material.cert).ok()?;
    let leaf = chain.first()?;
    let (_, parsed) = X509Certificate::from_der(leaf).ok()?;
    Some(CertificateFacts {
        name: material.name.clone(),
        source: material.source.clone(),
        sans: alternative_names(&parsed),
        subject: distinguished_name(parsed.subject()),
        issuer: distinguished_name(parsed.issuer()),
        serial: hex::encode(parsed.raw_serial()),
        not_before: parsed.validity().not_before.timestamp(),
        not_after: parsed.validity().not_after.timestamp(),
        fingerprint: facts::fingerprint(leaf),
        key: key_kind(&parsed),
        ocsp: !material.ocsp.is_empty(),
    })
}

fn key_kind(certificate: &X509Certificate<'_>) -> String {
    let spki = certificate.public_key();
    if spki.algorithm.algorithm.to_id_string() == "1.3.101.112" {
        return "ed25519".into();
    }
    match spki.parsed() {
        Ok(PublicKey::RSA(key)) => format!("rsa-{}", key.key_size()),
        Ok(PublicKey::EC(point)) => format!("ecdsa-p{}", point.key_size()),
        _ => spki.algorithm.algorithm.to_id_string(),
    }
}
