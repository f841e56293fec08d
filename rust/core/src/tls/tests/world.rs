//! An authority, its certificates, a store compiled from text, and a client of the library's own.

use crate::config::Config;
use crate::message::TlsFacts;
use crate::tls::session::Clock;
use crate::tls::{CertificateMaterial, Fed, Material, Server, ServerTls, Tickets, TlsError, TlsStore};
use rcgen::{
    BasicConstraints, Certificate, CertificateParams, DnType, IsCa, Issuer, KeyPair, KeyUsagePurpose,
    PKCS_ECDSA_P256_SHA256,
};
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{Resumption, WebPkiServerVerifier};
use rustls::crypto::{ring, verify_tls12_signature, verify_tls13_signature, CryptoProvider};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, SignatureVerificationAlgorithm, UnixTime};
use rustls::{
    CertificateError, ClientConfig, ClientConnection, DigitallySignedStruct, Error, RootCertStore, SignatureScheme,
};
use std::io::{Read, Write};
use std::sync::{Arc, Mutex, OnceLock};

/// 2027-01-15.
pub const NOW: u64 = 1_800_000_000;

/// A key made for these tests alone: *ring* draws no RSA keys.
pub const RSA_KEY: &str = include_str!("rsa.pem");

pub struct World {
    pub ca: Certificate,
    pub issuer: Issuer<'static, KeyPair>,
}

impl World {
    pub fn new() -> World {
        World::named("test authority")
    }

    /// Another authority.
    pub fn named(name: &str) -> World {
        let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).unwrap();
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::DigitalSignature];
        let ca = params.self_signed(&key).unwrap();
        World { ca, issuer: Issuer::new(params, key) }
    }

    pub fn roots(&self) -> RootCertStore {
        let mut roots = RootCertStore::empty();
        roots.add(self.ca.der().clone()).unwrap();
        roots
    }

    /// A certificate for these names, with an elliptic key.
    pub fn issue(&self, name: &str, sans: &[&str]) -> CertificateMaterial {
        self.issue_for(name, params(sans), &KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).unwrap())
    }

    pub fn issue_rsa(&self, name: &str, sans: &[&str]) -> CertificateMaterial {
        self.issue_for(name, params(sans), &KeyPair::from_pem(RSA_KEY).unwrap())
    }

    pub fn issue_for(&self, name: &str, params: CertificateParams, key: &KeyPair) -> CertificateMaterial {
        let cert = params.signed_by(key, &self.issuer).unwrap();
        CertificateMaterial {
            name: name.into(),
            source: format!("/etc/tls/{name}.pem"),
            cert: cert.pem(),
            key: key.serialize_pem(),
            ocsp: String::new(),
        }
    }

    /// Certificates with their names, and the authority as `ca.pem`.
    pub fn material(&self, certificates: &[(&str, &[&str])]) -> Material {
        Material {
            certificates: certificates.iter().map(|(name, sans)| self.issue(name, sans)).collect(),
            roots: [("ca.pem".to_owned(), self.ca.pem())].into(),
            ..Material::default()
        }
    }

    pub fn store(&self, more: &str, material: &Material) -> TlsStore {
        self.store_with(more, material, None)
    }

    pub fn store_with(&self, more: &str, material: &Material, tickets: Option<Arc<Tickets>>) -> TlsStore {
        let store = TlsStore::compile(&config(more, material), material, tickets).unwrap();
        store.set_now(NOW);
        store
    }
}

pub fn params(sans: &[&str]) -> CertificateParams {
    let sans: Vec<String> = sans.iter().map(|s| (*s).to_owned()).collect();
    CertificateParams::new(sans).unwrap()
}

/// One TLS entrypoint `web` and all certificates of `material` as files; `more` is added.
pub fn config(more: &str, material: &Material) -> Config {
    let mut value: toml::Table = toml::from_str(more).unwrap();
    let table = |value: &mut toml::Table, key: &str| -> toml::Table {
        value.remove(key).map_or_else(toml::Table::new, |v| v.try_into().unwrap())
    };
    let mut entrypoints = table(&mut value, "entrypoints");
    let mut web = table(&mut entrypoints, "web");
    web.entry("address").or_insert("127.0.0.1:0".into());
    web.entry("tls").or_insert(toml::Table::new().into());
    entrypoints.insert("web".into(), web.into());
    value.insert("entrypoints".into(), entrypoints.into());
    let mut certificates = table(&mut value, "certificates");
    for certificate in &material.certificates {
        let file: toml::Table =
            [("cert".to_owned(), "x.pem".into()), ("key".to_owned(), "x.key".into())].into_iter().collect();
        certificates.entry(&certificate.name).or_insert(file.into());
    }
    value.insert("certificates".into(), certificates.into());
    value.try_into().unwrap()
}

/// How the test's client is set up. Sessions are remembered over its connections.
pub struct ClientSide {
    roots: RootCertStore,
    version: &'static str,
    identity: Option<(Vec<CertificateDer<'static>>, PrivateKeyDer<'static>)>,
    provider: CryptoProvider,
    alpn: Vec<Vec<u8>>,
    sni: bool,
    early: bool,
    built: OnceLock<Arc<ClientConfig>>,
    notes: Arc<Notes>,
    clock: Arc<Clock>,
}

/// What the client saw.
#[derive(Debug, Default)]
pub struct Notes {
    pub stapled: Mutex<Vec<Vec<u8>>>,
    pub leaves: Mutex<Vec<Vec<u8>>>,
}

impl ClientSide {
    pub fn new(world: &World) -> ClientSide {
        let clock = Arc::new(Clock::default());
        clock.set(NOW);
        ClientSide {
            roots: world.roots(),
            version: "both",
            identity: None,
            provider: ring::default_provider(),
            alpn: Vec::new(),
            sni: true,
            early: false,
            built: OnceLock::new(),
            notes: Arc::default(),
            clock,
        }
    }

    /// `"1.2"`, `"1.3"` or `"both"`.
    pub fn version(mut self, version: &'static str) -> ClientSide {
        self.version = version;
        self
    }

    /// Shows this when asked for a certificate.
    pub fn identity(mut self, identity: &CertificateMaterial) -> ClientSide {
        let chain = CertificateDer::pem_slice_iter(identity.cert.as_bytes()).map(Result::unwrap).collect();
        self.identity = Some((chain, PrivateKeyDer::from_pem_slice(identity.key.as_bytes()).unwrap()));
        self
    }

    pub fn alpn(mut self, protocols: &[&str]) -> ClientSide {
        self.alpn = protocols.iter().map(|p| p.as_bytes().to_vec()).collect();
        self
    }

    pub fn without_sni(mut self) -> ClientSide {
        self.sni = false;
        self
    }

    pub fn early_data(mut self) -> ClientSide {
        self.early = true;
        self
    }

    /// Offers only suites, and takes only signatures, of RSA.
    pub fn rsa_only(mut self) -> ClientSide {
        self.provider.cipher_suites.retain(|s| format!("{:?}", s.suite()).contains("_RSA_") || s.tls13().is_some());
        let rsa: Vec<_> =
            self.provider.signature_verification_algorithms.mapping.iter().copied().filter(is_rsa).collect();
        // The authority signs with an elliptic key; what may be used for the handshake is `mapping`.
        self.provider.signature_verification_algorithms.mapping = Vec::leak(rsa);
        self
    }

    pub fn set_now(&self, unix: u64) {
        self.clock.set(unix);
    }

    pub fn leaf(&self) -> Vec<u8> {
        self.notes.leaves.lock().unwrap().last().unwrap().clone()
    }

    pub fn stapled(&self) -> Vec<u8> {
        self.notes.stapled.lock().unwrap().last().unwrap().clone()
    }

    fn config(&self) -> Arc<ClientConfig> {
        self.built.get_or_init(|| Arc::new(self.build())).clone()
    }

    fn build(&self) -> ClientConfig {
        let provider = Arc::new(self.provider.clone());
        let all = Arc::new(ring::default_provider());
        let chain = WebPkiServerVerifier::builder_with_provider(Arc::new(self.roots.clone()), all).build().unwrap();
        let verifier = Watching { chain, notes: self.notes.clone(), provider: provider.clone() };
        let versions: &[_] = match self.version {
            "1.2" => &[&rustls::version::TLS12],
            "1.3" => &[&rustls::version::TLS13],
            _ => rustls::ALL_VERSIONS,
        };
        let builder = ClientConfig::builder_with_details(provider, self.clock.clone())
            .with_protocol_versions(versions)
            .unwrap()
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(verifier));
        let mut config = match &self.identity {
            Some((chain, key)) => builder.with_client_auth_cert(chain.clone(), key.clone_key()).unwrap(),
            None => builder.with_no_client_auth(),
        };
        config.alpn_protocols.clone_from(&self.alpn);
        config.resumption = Resumption::in_memory_sessions(32);
        config.enable_sni = self.sni;
        config.enable_early_data = self.early;
        config
    }
}

type Mapping = (SignatureScheme, &'static [&'static dyn SignatureVerificationAlgorithm]);

fn is_rsa(mapping: &Mapping) -> bool {
    format!("{:?}", mapping.0).starts_with("RSA")
}

/// Verifies, and notes what it was shown.
#[derive(Debug)]
struct Watching {
    chain: Arc<WebPkiServerVerifier>,
    notes: Arc<Notes>,
    provider: Arc<CryptoProvider>,
}

impl ServerCertVerifier for Watching {
    fn verify_server_cert(
        &self,
        leaf: &CertificateDer<'_>,
        rest: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        ocsp: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        self.notes.stapled.lock().unwrap().push(ocsp.to_vec());
        self.notes.leaves.lock().unwrap().push(leaf.to_vec());
        match self.chain.verify_server_cert(leaf, rest, name, ocsp, now) {
            // Tests of the default certificate look at what was shown, not at its name.
            Err(Error::InvalidCertificate(CertificateError::NotValidForNameContext { .. })) => {
                Ok(ServerCertVerified::assertion())
            }
            other => other,
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls12_signature(message, cert, signed, &self.provider.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, cert, signed, &self.provider.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}

/// A server of ours and a client of the library's, connected in memory.
pub struct Pair {
    pub server: Server,
    pub client: ClientConnection,
    /// Bytes the server gets at a time.
    pub piece: usize,
    pub at_server: Vec<u8>,
    pub at_client: Vec<u8>,
    /// How often the handshake became done.
    pub done: usize,
    /// Bytes of 0-RTT data the server reported.
    pub early: usize,
    pub client_closed: bool,
    /// What the server sent last.
    pub last: Vec<u8>,
}

impl Pair {
    pub fn new(plan: &Arc<ServerTls>, client: &ClientSide, host: &str) -> Pair {
        Self::at(plan, client, host, NOW)
    }

    pub fn at(plan: &Arc<ServerTls>, client: &ClientSide, host: &str, now: u64) -> Pair {
        let name = ServerName::try_from(host.to_owned()).unwrap();
        Pair {
            server: Server::new(plan.clone(), now),
            client: ClientConnection::new(client.config(), name).unwrap(),
            piece: usize::MAX,
            at_server: Vec::new(),
            at_client: Vec::new(),
            done: 0,
            early: 0,
            client_closed: false,
            last: Vec::new(),
        }
    }

    /// What the client has to say.
    pub fn hello(&mut self) -> Vec<u8> {
        let mut out = Vec::new();
        while self.client.wants_write() {
            self.client.write_tls(&mut out).unwrap();
        }
        out
    }

    /// Gives the server bytes in pieces.
    pub fn feed(&mut self, bytes: &[u8]) -> Result<Fed, TlsError> {
        let mut all = Fed::default();
        for piece in bytes.chunks(self.piece) {
            let fed = self.server.feed(piece, &mut self.at_server)?;
            self.done += usize::from(fed.handshake_done);
            self.early += fed.early;
            all.handshake_done |= fed.handshake_done;
            all.peer_closed |= fed.peer_closed;
            all.early += fed.early;
        }
        Ok(all)
    }

    pub fn flush(&mut self) -> Result<Fed, TlsError> {
        let bytes = self.hello();
        self.feed(&bytes)
    }

    pub fn deliver(&mut self, mut bytes: &[u8]) -> Result<(), Error> {
        self.last = bytes.to_vec();
        while !bytes.is_empty() {
            let n = self.client.read_tls(&mut bytes).unwrap();
            let state = self.client.process_new_packets()?;
            self.client_closed |= state.peer_has_closed();
            let _ = self.client.reader().read_to_end(&mut self.at_client);
            if n == 0 {
                break;
            }
        }
        Ok(())
    }

    /// Passes bytes both ways until both are silent. The server's error, or the client's as text.
    pub fn handshake(&mut self) -> Result<(), TlsError> {
        let mut refused = None;
        loop {
            let up = self.hello();
            let fed = self.feed(&up);
            let mut down = Vec::new();
            self.server.output(&mut down);
            let quiet = up.is_empty() && down.is_empty();
            if let Err(error) = self.deliver(&down) {
                refused.get_or_insert(TlsError::from(error));
            }
            fed?;
            if quiet {
                return refused.map_or(Ok(()), Err);
            }
        }
    }

    pub fn facts(&self) -> TlsFacts {
        TlsFacts::clone(self.server.facts().unwrap())
    }

    /// Sends from client to server; what arrived.
    pub fn up(&mut self, bytes: &[u8]) -> Vec<u8> {
        for part in bytes.chunks(16_000) {
            self.client.writer().write_all(part).unwrap();
            self.flush().unwrap();
        }
        std::mem::take(&mut self.at_server)
    }

    /// Sends from server to client; what arrived.
    pub fn down(&mut self, bytes: &[u8]) -> Vec<u8> {
        let mut out = Vec::new();
        self.server.send(bytes, &mut out);
        self.deliver(&out).unwrap();
        std::mem::take(&mut self.at_client)
    }

    /// The alert in the clear that the server sent last.
    pub fn alert(&self) -> Option<u8> {
        match self.last[..] {
            [21, 3, _, 0, 2, 2, description] => Some(description),
            _ => None,
        }
    }
}

/// Cuts the first record of `bytes` into records of `size` bytes.
pub fn fragmented(bytes: &[u8], size: usize) -> Vec<u8> {
    let length = usize::from(u16::from_be_bytes([bytes[3], bytes[4]]));
    let mut out = Vec::new();
    for part in bytes[5..5 + length].chunks(size) {
        out.extend_from_slice(&bytes[..3]);
        out.extend_from_slice(&(part.len() as u16).to_be_bytes());
        out.extend_from_slice(part);
    }
    out.extend_from_slice(&bytes[5 + length..]);
    out
}
