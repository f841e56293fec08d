//! What goes wrong in a TLS session, in few words.

use rustls::{CertificateError, Error};
use std::borrow::Cow;
use std::fmt;

/// Why a session ended. The text is short, fixed or made of fixed parts: safe to log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TlsError(Cow<'static, str>);

impl TlsError {
    pub(super) const fn new(text: &'static str) -> TlsError {
        TlsError(Cow::Borrowed(text))
    }

    pub fn text(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for TlsError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for TlsError {}

impl From<Error> for TlsError {
    /// Never the library's own text where that could quote the peer's names or bytes.
    fn from(error: Error) -> TlsError {
        let text = match error {
            Error::InvalidCertificate(why) => return TlsError::new(certificate(&why)),
            Error::NoCertificatesPresented => "the peer showed no certificate",
            Error::AlertReceived(alert) => return TlsError(format!("the peer sent the alert {alert:?}").into()),
            Error::InvalidMessage(why) => return TlsError(format!("not a valid TLS message: {why:?}").into()),
            Error::PeerMisbehaved(why) => return TlsError(format!("the peer broke the protocol: {why:?}").into()),
            Error::PeerIncompatible(why) => return TlsError(format!("nothing in common: {why:?}").into()),
            Error::NoApplicationProtocol => "no application protocol in common",
            Error::DecryptError => "a record does not decrypt",
            Error::PeerSentOversizedRecord => "a record is too long",
            Error::InappropriateMessage { .. } | Error::InappropriateHandshakeMessage { .. } => {
                "a message at the wrong time"
            }
            Error::FailedToGetCurrentTime => "the time was not told yet",
            Error::FailedToGetRandomBytes => "no randomness",
            _ => "TLS failed",
        };
        TlsError::new(text)
    }
}

fn certificate(why: &CertificateError) -> &'static str {
    use CertificateError::*;
    match why {
        BadEncoding => "the peer's certificate is malformed",
        Expired | ExpiredContext { .. } => "the peer's certificate has expired",
        NotValidYet | NotValidYetContext { .. } => "the peer's certificate is not valid yet",
        Revoked => "the peer's certificate is revoked",
        UnknownIssuer => "the peer's certificate has an unknown issuer",
        BadSignature => "the peer's certificate or signature does not verify",
        NotValidForName | NotValidForNameContext { .. } => "the peer's certificate is for another name",
        InvalidPurpose | InvalidPurposeContext { .. } => "the peer's certificate is not for this purpose",
        ApplicationVerificationFailure => "the peer's certificate has none of the pinned keys",
        _ => "the peer's certificate does not verify",
    }
}
