//! What a configuration can get wrong, and what is said about it.

use super::world::{config, World, RSA_KEY};
use crate::error::Problem;
use crate::tls::{describe, CertificateMaterial, Material, TlsStore};

fn problems(more: &str, material: &Material) -> Vec<Problem> {
    TlsStore::compile(&config(more, material), material, None).err().unwrap_or_default()
}

/// Paths, messages and what was meant.
fn said(more: &str, material: &Material) -> Vec<(String, String, Option<String>)> {
    problems(more, material).into_iter().map(|p| (p.path, p.message, p.nearest)).collect()
}

#[test]
fn a_good_configuration_has_no_problem() {
    let world = World::new();
    let material = world.material(&[("a", &["a.example"]), ("b", &["*.b.example"])]);
    for more in [
        "",
        "[entrypoints.web.tls]\ncertificates = ['a']\ndefault_certificate = 'b'",
        "[entrypoints.web.tls.hosts.'a.example']\nmin_version = '1.3'",
        "[entrypoints.web.tls.hosts.'*.b.example']\nclient_auth = 'require'\nclient_ca = 'ca.pem'",
        "[entrypoints.web.tls.hosts.'x.b.example']\nalpn = ['h2']",
        "[entrypoints.web.tls.hosts.'*.example']\nalpn = ['h2']",
        "[entrypoints.web.tls.options]\nclient_ca = 'ca.pem'\n[entrypoints.web.tls.hosts.'a.example']\nclient_auth = 'require'",
        "[entrypoints.web]\nprotocol = 'tcp'\n[entrypoints.web.tls.options]\nalpn = ['postgresql']",
        "[entrypoints.web.tls.hosts.'new.example']\nalpn = ['h2']\n[certificates.new]\nacme = 'x'\nhosts = ['new.example']",
        "[entrypoints.web.tls.hosts.'new.example']\nalpn = ['h2']\n[certificates.new]\ndir = 'certs'",
    ] {
        assert_eq!(said(more, &material), [], "{more}");
    }
}

#[test]
fn every_mistake_has_its_place_and_the_nearest_name() {
    let world = World::new();
    let mut material = world.material(&[("api", &["api.example.com"]), ("wild", &["*.b.example"])]);
    material.roots.insert("empty.pem".into(), String::new());
    material.roots.insert("bad.pem".into(), "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n".into());
    let host = "entrypoints.web.tls.hosts.api.example.com";
    for (more, path, message, near) in [
        ("[entrypoints.web.tls]\ncertificates = ['apo']", "entrypoints.web.tls.certificates[0]", "no certificate \"apo\"", Some("api")),
        ("[entrypoints.web.tls]\ndefault_certificate = 'wilt'", "entrypoints.web.tls.default_certificate", "no certificate \"wilt\"", Some("wild")),
        ("[entrypoints.web.tls.options]\nmin_version = '1.3'\nmax_version = '1.2'", "entrypoints.web.tls.options.min_version", "no version is left", None),
        ("[entrypoints.web.tls.options]\nmin_version = '1.3'\n[entrypoints.web.tls.hosts.'api.example.com']\nmax_version = '1.2'", "entrypoints.web.tls.options.min_version", "no version is left", None),
        ("[entrypoints.web.tls.options]\nsuites = ['TLS_AES_256_GCM_SHA383']", "entrypoints.web.tls.options.suites[0]", "no cipher suite", Some("TLS_AES_256_GCM_SHA384")),
        ("[entrypoints.web.tls.options]\nsuites = []", "entrypoints.web.tls.options.suites", "empty", None),
        ("[entrypoints.web.tls.options]\nmax_version = '1.2'\nsuites = ['TLS_AES_256_GCM_SHA384']", "entrypoints.web.tls.options.suites", "none of these suites", None),
        ("[entrypoints.web.tls.options]\nalpn = ['h3']", "entrypoints.web.tls.options.alpn[0]", "does not speak \"h3\"", Some("h2")),
        ("[entrypoints.web.http2]\nenabled = false\n[entrypoints.web.tls.options]\nalpn = ['http/1.1', 'h2']", "entrypoints.web.tls.options.alpn[1]", "HTTP/2 is off", None),
        ("[entrypoints.web.tls.options]\nclient_auth = 'require'", "entrypoints.web.tls.options.client_ca", "client_auth needs client_ca", None),
        ("[entrypoints.web.tls.hosts.'api.example.com']\nclient_auth = 'verify-if-given'", &format!("{host}.client_ca"), "client_auth needs client_ca", None),
        ("[entrypoints.web.tls.hosts.'api.example.com']\nclient_auth = 'require'\nclient_ca = 'no.pem'", &format!("{host}.client_ca"), "no.pem: was not read", None),
        ("[entrypoints.web.tls.options]\nclient_ca = 'empty.pem'\nclient_auth = 'require'", "entrypoints.web.tls.options.client_ca", "empty.pem: no certificate in it", None),
        ("[entrypoints.web.tls.options]\nclient_ca = 'bad.pem'\nclient_auth = 'require'", "entrypoints.web.tls.options.client_ca", "bad.pem: a certificate in it is malformed", None),
        ("[entrypoints.web.tls.options]\nclient_ca = 'ca.pem'", "entrypoints.web.tls.options.client_ca", "no effect", None),
        ("[entrypoints.web.tls.options]\nmax_version = '1.2'\nearly_data = true", "entrypoints.web.tls.options.early_data", "needs TLS 1.3", None),
        ("[entrypoints.web.tls.hosts.'apo.example.com']\nalpn = ['h2']", "entrypoints.web.tls.hosts.apo.example.com", "no certificate of this entrypoint covers", Some("api.example.com")),
        ("[entrypoints.web.tls.hosts.'x.y.b.example']\nalpn = ['h2']", "entrypoints.web.tls.hosts.x.y.b.example", "no certificate of this entrypoint covers", Some("*.b.example")),
        ("[entrypoints.web.tls.hosts.'a b']\nalpn = ['h2']", "entrypoints.web.tls.hosts.a b", "not a host name", None),
        ("[entrypoints.web.tls.hosts.'api.*.com']\nalpn = ['h2']", "entrypoints.web.tls.hosts.api.*.com", "not a host name", None),
        ("[entrypoints.web.tls.hosts.'API.example.com']\nalpn = ['h2']\n[entrypoints.web.tls.hosts.'api.example.com']\nmin_version='1.3'", host, "given twice", None),
        ("[services.up]\nendpoints = ['https://a']", "services.up.tls.ca", "the system's roots: was not read", None),
        ("[services.up]\nendpoints = ['HTTPS://a']\n[services.up.tls]\nca = 'empty.pem'", "services.up.tls.ca", "empty.pem: no certificate in it", None),
        ("[services.up]\nendpoints = ['https://a']\n[services.up.tls]\nca = 'ca.pem'\npins = ['sha256/xx']", "services.up.tls.pins[0]", "not a pin", None),
        ("[services.up]\nendpoints = ['https://a']\n[services.up.tls]\nca = 'ca.pem'\nserver_name = 'a b'", "services.up.tls.server_name", "not a host name", None),
        ("[services.up]\nendpoints = ['https://a']\n[services.up.tls]\nca = 'ca.pem'\ncertificate = 'apj'", "services.up.tls.certificate", "no certificate \"apj\"", Some("api")),
        ("[certificates.late]\ncert = 'late.pem'\nkey = 'late.key'", "certificates.late.cert", "late.pem: was not read", None),
    ] {
        let found = said(more, &material);
        let [(at, text, meant)] = &found[..] else { panic!("{more}: {found:?}") };
        assert_eq!(at, path, "{more}");
        assert!(text.contains(message), "{more}: {text}");
        assert_eq!(meant.as_deref(), near, "{more}");
    }
    // All at once.
    let more = "[entrypoints.web.tls]\ncertificates = ['x']\n[entrypoints.web.tls.options]\nsuites = ['y']\nclient_auth = 'require'";
    assert_eq!(problems(more, &material).len(), 3);
}

#[test]
fn broken_files_are_named_and_never_quoted() {
    let world = World::new();
    let good = || world.issue("a", &["a.example"]);
    let with = |change: fn(&mut CertificateMaterial)| {
        let mut certificate = good();
        change(&mut certificate);
        Material { certificates: vec![certificate], ..Material::default() }
    };
    for (change, wanted) in [
        ((|c| c.cert = "rubbish".into()) as fn(&mut CertificateMaterial), "no certificate in it"),
        (|c| c.cert = "-----BEGIN CERTIFICATE-----\n!!\n-----END CERTIFICATE-----".into(), "not a readable PEM file"),
        (|c| c.cert = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----".into(), "malformed"),
        (|c| c.key = "secret rubbish".into(), "no private key that can be read"),
        (|c| c.key = "-----BEGIN PRIVATE KEY-----\nc2VjcmV0\n-----END PRIVATE KEY-----".into(), "not supported"),
        (|c| c.key = RSA_KEY.into(), "belongs to another certificate"),
        (|c| c.ocsp = "!".into(), "not base64"),
    ] {
        let material = with(change);
        let found = problems("", &material);
        assert_eq!(found.len(), 1, "{found:?}");
        assert_eq!(found[0].path, "certificates.a");
        assert!(found[0].message.starts_with("/etc/tls/a.pem: ") && found[0].message.contains(wanted), "{found:?}");
        let shown = format!("{found:?} {material:?}");
        assert!(!shown.contains("secret") && !shown.contains("c2VjcmV0") && !shown.contains("PRIVATE"), "{shown}");
    }
}

#[test]
fn nothing_shows_a_key() {
    let world = World::new();
    let material = world.material(&[("a", &["a.example"])]);
    let store = world.store("[services.up]\nendpoints=['https://a']\n[services.up.tls]\nca='ca.pem'", &material);
    let shown = format!("{material:?} {store:?} {:?} {:?}", store.server("web"), store.client("up"));
    assert!(!shown.contains("PRIVATE KEY") && !shown.contains(material.certificates[0].key.lines().nth(1).unwrap()));
}

#[test]
fn certificates_are_described() {
    let world = World::new();
    let mut material = Material::default();
    material.certificates.push(world.issue("ec", &["a.example", "10.0.0.1"]));
    material.certificates.push(world.issue_rsa("rsa", &["*.b.example"]));
    let ed25519 = rcgen::KeyPair::generate_for(&rcgen::PKCS_ED25519).unwrap();
    material.certificates.push(world.issue_for("ed", super::world::params(&["c.example"]), &ed25519));
    let mut bad = CertificateMaterial::default();
    bad.name.push_str("bad");
    material.certificates.push(bad);
    material.certificates[1].ocsp = "AAAA".into();
    let seen = describe(&material);
    let of = |i: usize| (seen[i].name.as_str(), seen[i].key.as_str(), seen[i].ocsp);
    assert_eq!(
        [of(0), of(1), of(2)],
        [("ec", "ecdsa-p256", false), ("rsa", "rsa-2048", true), ("ed", "ed25519", false)]
    );
    assert_eq!(seen.len(), 3);
    assert_eq!(seen[0].sans, ["a.example", "10.0.0.1"]);
    assert_eq!((seen[0].issuer.as_str(), seen[0].subject.as_str()), ("CN=test authority", "CN=rcgen self signed cert"));
    assert!(seen[0].not_before < seen[0].not_after && seen[0].fingerprint.len() == 64 && !seen[0].serial.is_empty());
    let mut one = String::new();
    for certificate in &seen {
        one += &serde_json::to_string(certificate).unwrap();
    }
    assert!(!one.contains("PRIVATE"));
}

#[test]
fn material_is_read_from_json() {
    let world = World::new();
    let material = world.material(&[("a", &["a.example"])]);
    let text = serde_json::to_string(&material).unwrap();
    let back: Material = serde_json::from_str(&text).unwrap();
    assert_eq!(serde_json::to_string(&back).unwrap(), text);
    assert!(serde_json::from_str::<Material>("{}").unwrap().certificates.is_empty());
    assert!(serde_json::from_str::<Material>("{\"certs\": []}").is_err());
}
