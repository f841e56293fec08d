//! Certificates, TLS on entrypoints and towards endpoints, as their reader writes them.

use super::units::Duration;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Where a certificate comes from: `cert` and `key`, or `dir`, or `acme` and `hosts`.
#[derive(Clone, Debug, Default, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Certificate {
    /// PEM file with the certificate and its chain, leaf first.
    pub cert: String,
    /// PEM file with the private key (PKCS#8, PKCS#1 or SEC1).
    pub key: String,
    /// DER file with an OCSP response to staple; `"fetch"`: asked of the responder that the certificate names.
    pub ocsp: String,
    /// Directory of certificates: every `NAME.crt` or `NAME.pem` with a `NAME.key` beside it.
    pub dir: String,
    /// Name of the ACME account that obtains and renews it.
    pub acme: String,
    /// Host names to obtain it for (with `acme`).
    pub hosts: Vec<String>,
}

/// An ACME account (RFC 8555).
#[derive(Clone, Debug, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Acme {
    /// URL of the server's directory.
    pub directory: String,
    /// Contact address given to the authority.
    #[serde(default)]
    pub email: String,
    /// How control over a host name is shown.
    #[serde(default)]
    pub challenge: Challenge,
    /// Directory of the account key and the certificates; made with mode 0700.
    #[serde(default = "acme_dir")]
    pub dir: String,
    /// PEM file with the roots that the server's own certificate is checked against; empty: the system's.
    #[serde(default)]
    pub ca: String,
    /// A certificate is renewed this long before it expires, or at two thirds of its life if that comes later; a
    /// random part spreads renewals in time.
    #[serde(default = "renew_before")]
    pub renew_before: Duration,
    /// The authority's terms of service are agreed to. Nothing is asked of it before.
    #[serde(default)]
    pub agree_to_terms: bool,
    /// External account binding: key identifier.
    #[serde(default)]
    pub eab_key_id: String,
    /// External account binding: HMAC key (base64url) as `env:NAME` or `file:PATH`.
    #[serde(default)]
    pub eab_hmac_key: String,
}

fn acme_dir() -> String {
    "run/acme".into()
}

fn renew_before() -> Duration {
    Duration::secs(30 * 24 * 3600)
}

/// ACME challenge types.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Challenge {
    /// A file below `/.well-known/acme-challenge/`, answered on every HTTP entrypoint (RFC 8555 §8.3).
    #[default]
    #[serde(rename = "http-01")]
    Http01,
    /// A special certificate, shown on every TLS entrypoint (RFC 8737).
    #[serde(rename = "tls-alpn-01")]
    TlsAlpn01,
}

/// TLS on an entrypoint.
#[derive(Clone, Debug, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct EntrypointTls {
    /// Certificates that may be shown, by name; empty: all.
    pub certificates: Vec<String>,
    /// Certificate shown when no other covers the name asked for, or none was asked for; empty: refuse.
    pub default_certificate: String,
    /// Time for a complete handshake.
    pub handshake_timeout: Duration,
    /// Options for every name.
    pub options: TlsOptions,
    /// Options for single names, `admin.example.com` or `*.example.com` (one label); what they leave out is as in
    /// `options`.
    pub hosts: BTreeMap<String, TlsOptions>,
}

impl Default for EntrypointTls {
    fn default() -> Self {
        EntrypointTls {
            certificates: Vec::new(),
            default_certificate: String::new(),
            handshake_timeout: Duration::secs(10),
            options: TlsOptions::default(),
            hosts: BTreeMap::new(),
        }
    }
}

/// What is negotiated.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct TlsOptions {
    /// Oldest version; default `"1.2"`.
    pub min_version: Option<TlsVersion>,
    /// Newest version; default `"1.3"`.
    pub max_version: Option<TlsVersion>,
    /// Cipher suites by their IANA names, in order of preference; default: those of rustls.
    pub suites: Option<Vec<String>>,
    /// Application protocols, in order of preference; default `["h2", "http/1.1"]`, on TCP entrypoints none.
    pub alpn: Option<Vec<String>>,
    /// Client certificates; default `"none"`.
    pub client_auth: Option<ClientAuth>,
    /// PEM file with the roots that client certificates are checked against.
    pub client_ca: Option<String>,
    /// Accept 0-RTT data; requests in it that are not safe are answered 425 (RFC 8470). Sessions are then kept per
    /// worker, for single use. Default: no.
    pub early_data: Option<bool>,
}

/// A TLS version.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Deserialize, Serialize, JsonSchema)]
pub enum TlsVersion {
    #[serde(rename = "1.2")]
    V12,
    #[serde(rename = "1.3")]
    V13,
}

/// Whether clients show a certificate.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum ClientAuth {
    /// Not asked for.
    #[default]
    None,
    /// Asked for; a handshake with one that does not verify fails, one without goes on.
    VerifyIfGiven,
    /// A handshake without one that verifies fails.
    Require,
}

/// TLS towards a service's `https://` endpoints.
#[derive(Clone, Debug, Default, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct ServiceTls {
    /// PEM file with the roots that endpoints are checked against; empty: the system's.
    pub ca: String,
    /// Name sent as SNI and checked against the certificate; empty: the endpoint's host.
    pub server_name: String,
    /// Certificate shown to endpoints that ask for one, by name.
    pub certificate: String,
    /// The endpoint's leaf must have one of these keys: `"sha256/BASE64"` of the SubjectPublicKeyInfo. Empty: any.
    pub pins: Vec<String>,
    /// Oldest version; default `"1.2"`.
    pub min_version: Option<TlsVersion>,
    /// Do not check endpoints at all. Pins are still checked.
    pub insecure_skip_verify: bool,
}
