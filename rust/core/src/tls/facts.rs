//! What a certificate says, as text: distinguished names (RFC 4514), alternative names, fingerprints.

use crate::message::ClientCertificate;
use sha2::{Digest, Sha256};
use std::fmt::Write;
use std::net::{Ipv4Addr, Ipv6Addr};
use x509_parser::der_parser::asn1_rs::{Any, Tag, ToDer};
use x509_parser::prelude::{FromDer, GeneralName, X509Certificate, X509Name};

/// Facts of a certificate that was verified; None when it cannot be read again.
pub(super) fn client_certificate(der: &[u8]) -> Option<ClientCertificate> {
    let (_, certificate) = X509Certificate::from_der(der).ok()?;
    Some(ClientCertificate {
        subject: distinguished_name(certificate.subject()),
        sans: alternative_names(&certificate),
        fingerprint: fingerprint(der),
        der: der.to_vec(),
    })
}

pub(super) fn fingerprint(der: &[u8]) -> String {
    hex::encode(Sha256::digest(der))
}

/// DNS names, IP addresses, URIs and mail addresses in their order; other kinds have no text.
pub(super) fn alternative_names(certificate: &X509Certificate<'_>) -> Vec<String> {
    let Ok(Some(extension)) = certificate.subject_alternative_name() else { return Vec::new() };
    let text = |name: &GeneralName<'_>| match name {
        GeneralName::DNSName(text) | GeneralName::URI(text) | GeneralName::RFC822Name(text) => Some((*text).to_owned()),
        GeneralName::IPAddress(bytes) => match bytes.len() {
            4 => <[u8; 4]>::try_from(*bytes).ok().map(|b| Ipv4Addr::from(b).to_string()),
            16 => <[u8; 16]>::try_from(*bytes).ok().map(|b| Ipv6Addr::from(b).to_string()),
            _ => None,
        },
        _ => None,
    };
    extension.value.general_names.iter().filter_map(text).collect()
}

/// The DNS names among the alternative names.
pub(super) fn dns_names<'c>(certificate: &'c X509Certificate<'_>) -> Vec<&'c str> {
    let Ok(Some(extension)) = certificate.subject_alternative_name() else { return Vec::new() };
    let names = extension.value.general_names.iter();
    names.filter_map(|name| if let GeneralName::DNSName(text) = name { Some(*text) } else { None }).collect()
}

/// Short names of RFC 4514 §3.
const SHORT: &[(&str, &str)] = &[
    ("2.5.4.3", "CN"),
    ("2.5.4.7", "L"),
    ("2.5.4.8", "ST"),
    ("2.5.4.10", "O"),
    ("2.5.4.11", "OU"),
    ("2.5.4.6", "C"),
    ("2.5.4.9", "STREET"),
    ("0.9.2342.19200300.100.1.25", "DC"),
    ("0.9.2342.19200300.100.1.1", "UID"),
];

/// RFC 4514 §2: the last relative name first; a value that is no text, or of a type without a short name, as `#hex`.
pub(super) fn distinguished_name(name: &X509Name<'_>) -> String {
    let mut relative: Vec<_> = name.iter_rdn().collect();
    relative.reverse();
    let mut out = String::new();
    for (i, rdn) in relative.into_iter().enumerate() {
        for (j, attribute) in rdn.iter().enumerate() {
            if i + j > 0 {
                out.push(if j > 0 { '+' } else { ',' });
            }
            let oid = attribute.attr_type().to_id_string();
            let short = SHORT.iter().find(|(known, _)| *known == oid).map(|s| s.1);
            out.push_str(short.unwrap_or(&oid));
            out.push('=');
            match (short, text(attribute.attr_value())) {
                (Some(_), Some(text)) => escape(&text, &mut out),
                _ => {
                    let der = attribute.attr_value().to_der_vec().unwrap_or_default();
                    let _ = write!(out, "#{}", hex::encode(der));
                }
            }
        }
    }
    out
}

/// The text of a directory string; None for other types and broken encodings.
fn text(value: &Any<'_>) -> Option<String> {
    match value.tag() {
        Tag::Utf8String | Tag::PrintableString | Tag::NumericString | Tag::Ia5String => {
            std::str::from_utf8(value.data).ok().map(str::to_owned)
        }
        Tag::TeletexString => Some(value.data.iter().map(|&b| char::from(b)).collect()),
        Tag::BmpString => {
            let units: Vec<u16> =
                value.data.chunks(2).map(|c| c.iter().fold(0, |u, &b| u << 8 | u16::from(b))).collect();
            value.data.len().is_multiple_of(2).then(|| String::from_utf16(&units).ok()).flatten()
        }
        _ => None,
    }
}

/// RFC 4514 §2.4; control characters are written as `\hex` too, so that a name is always one line.
fn escape(text: &str, out: &mut String) {
    let last = text.chars().count().saturating_sub(1);
    for (i, c) in text.chars().enumerate() {
        match c {
            '"' | '+' | ',' | ';' | '<' | '>' | '\\' => out.extend(['\\', c]),
            '#' | ' ' if i == 0 => out.extend(['\\', c]),
            ' ' if i == last => out.push_str("\\ "),
            c if c.is_control() => {
                for byte in c.encode_utf8(&mut [0; 4]).bytes() {
                    let _ = write!(out, "\\{byte:02x}");
                }
            }
            c => out.push(c),
        }
    }
}
