//! One service's TLS: how its endpoints are checked.
//!
//! Rules: endpoints are verified unless the configuration says otherwise; pins are checked beside that, and even then.

use super::material::Loaded;
use super::session::Clock;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{Resumption, WebPkiServerVerifier};
use rustls::crypto::{verify_tls12_signature, verify_tls13_signature, CryptoProvider};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, Error, RootCertStore, SignatureScheme,
    SupportedProtocolVersion,
};
use sha2::{Digest, Sha256};
use std::fmt;
use std::sync::Arc;
use x509_parser::prelude::{FromDer, X509Certificate};

/// Sessions remembered for resumption, over all endpoints of a service.
const SESSIONS: usize = 256;

/// TLS towards one service's endpoints.
pub struct ClientTls {
    pub(super) config: Arc<ClientConfig>,
    /// Name for SNI and verification; None: the endpoint's host.
    pub(super) server_name: Option<ServerName<'static>>,
}

impl fmt::Debug for ClientTls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ClientTls")
    }
}

/// The parts of a plan, all checked.
pub(super) struct Parts {
    pub(super) versions: Vec<&'static SupportedProtocolVersion>,
    /// None: endpoints are not verified.
    pub(super) roots: Option<Arc<RootCertStore>>,
    pub(super) pins: Vec<[u8; 32]>,
    pub(super) certificate: Option<Arc<Loaded>>,
    pub(super) server_name: Option<ServerName<'static>>,
}

impl ClientTls {
    pub(super) fn new(parts: Parts, provider: &Arc<CryptoProvider>, clock: &Arc<Clock>) -> Result<ClientTls, Error> {
        let chain = match parts.roots {
            Some(roots) => {
                let builder = WebPkiServerVerifier::builder_with_provider(roots, provider.clone());
                Some(builder.build().map_err(|e| Error::General(e.to_string()))?)
            }
            None => None,
        };
        let verifier = Arc::new(Verifier { chain, pins: parts.pins, provider: provider.clone() });
        let builder = ClientConfig::builder_with_details(provider.clone(), clock.clone())
            .with_protocol_versions(&parts.versions)?
            .dangerous()
            .with_custom_certificate_verifier(verifier);
        let mut config = match parts.certificate {
            Some(loaded) => {
                builder.with_client_cert_resolver(Arc::new(rustls::sign::SingleCertAndKey::from(loaded.key.clone())))
            }
            None => builder.with_no_client_auth(),
        };
        config.resumption = Resumption::in_memory_sessions(SESSIONS);
        Ok(ClientTls { config: Arc::new(config), server_name: parts.server_name })
    }
}

/// Chain and name, then pins.
struct Verifier {
    chain: Option<Arc<WebPkiServerVerifier>>,
    pins: Vec<[u8; 32]>,
    provider: Arc<CryptoProvider>,
}

impl fmt::Debug for Verifier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Verifier")
    }
}

impl ServerCertVerifier for Verifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        if let Some(chain) = &self.chain {
            chain.verify_server_cert(end_entity, intermediates, server_name, ocsp_response, now)?;
        }
        if !self.pins.is_empty() {
            let (_, leaf) = X509Certificate::from_der(end_entity)
                .map_err(|_| Error::InvalidCertificate(CertificateError::BadEncoding))?;
            let key: [u8; 32] = Sha256::digest(leaf.public_key().raw).into();
            if !self.pins.contains(&key) {
                return Err(Error::InvalidCertificate(CertificateError::ApplicationVerificationFailure));
            }
        }
        Ok(ServerCertVerified::assertion())
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
