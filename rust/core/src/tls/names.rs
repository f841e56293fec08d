//! Host names and what is filed under them.
//!
//! Rules: names are compared in lower case without a final dot. A wildcard stands for exactly one whole label
//! (RFC 9525 §6.3); an exact name wins over it.

use ahash::AHashMap;
use rustls::pki_types::DnsName;

/// The one spelling of a host name; None when it is none (an IP address, for example).
pub(super) fn canonical(host: &[u8]) -> Option<String> {
    let name = DnsName::try_from(host).ok()?;
    let mut name = name.as_ref().to_ascii_lowercase();
    if name.ends_with('.') {
        name.pop();
    }
    (!name.is_empty()).then_some(name)
}

/// The one spelling of a name or `*.name`; None when it is neither.
pub(super) fn canonical_pattern(pattern: &str) -> Option<String> {
    match pattern.strip_prefix("*.") {
        Some(rest) => canonical(rest.as_bytes()).map(|rest| format!("*.{rest}")),
        None => canonical(pattern.as_bytes()),
    }
}

/// Whether `pattern` covers `name`, which may be a pattern itself; both canonical.
pub(super) fn covers(pattern: &str, name: &str) -> bool {
    if pattern == name {
        return true;
    }
    match (pattern.strip_prefix("*."), name.split_once('.')) {
        (Some(rest), Some((label, parent))) => label != "*" && rest == parent,
        _ => false,
    }
}

/// Values filed under names and one-label wildcards.
#[derive(Debug)]
pub(super) struct Names<T> {
    exact: AHashMap<String, T>,
    /// By what follows `*.`.
    wild: AHashMap<String, T>,
}

impl<T> Default for Names<T> {
    fn default() -> Self {
        Names { exact: AHashMap::new(), wild: AHashMap::new() }
    }
}

impl<T> Names<T> {
    /// What is filed under a canonical pattern, made anew if need be.
    pub(super) fn entry(&mut self, pattern: &str) -> &mut T
    where
        T: Default,
    {
        match pattern.strip_prefix("*.") {
            Some(rest) => self.wild.entry(rest.to_owned()).or_default(),
            None => self.exact.entry(pattern.to_owned()).or_default(),
        }
    }

    /// What covers a canonical name: by itself, then by wildcard.
    pub(super) fn covering<'n>(&'n self, name: &str) -> impl Iterator<Item = &'n T> {
        let wild = name.split_once('.').and_then(|(_, parent)| self.wild.get(parent));
        self.exact.get(name).into_iter().chain(wild)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_have_one_spelling() {
        for (given, wanted) in [
            ("A.Example.COM", Some("a.example.com")),
            ("a.example.com.", Some("a.example.com")),
            ("a_b.example", Some("a_b.example")),
            ("a..b", None),
            ("10.0.0.1", None),
            ("::1", None),
            ("", None),
            (".", None),
            ("a b", None),
            ("*.example.com", None),
        ] {
            assert_eq!(canonical(given.as_bytes()).as_deref(), wanted, "{given}");
        }
        assert_eq!(canonical(b"a\xff.example"), None);
        assert_eq!(canonical_pattern("*.Example.COM.").as_deref(), Some("*.example.com"));
        assert_eq!(canonical_pattern("*.*.example.com"), None);
        assert_eq!(canonical_pattern("a*.example.com"), None);
        assert_eq!(canonical_pattern("*"), None);
    }

    #[test]
    fn a_wildcard_stands_for_one_label() {
        for (pattern, name, wanted) in [
            ("a.b", "a.b", true),
            ("*.b", "a.b", true),
            ("*.b", "*.b", true),
            ("*.b", "b", false),
            ("*.b", "x.a.b", false),
            ("*.b.c", "*.c", false),
            ("*.c", "*.b.c", false),
            ("a.b", "*.b", false),
        ] {
            assert_eq!(covers(pattern, name), wanted, "{pattern} {name}");
        }
        let mut names: Names<u32> = Names::default();
        *names.entry("*.b.c") = 1;
        *names.entry("a.b.c") = 2;
        let of = |name: &str| names.covering(name).copied().collect::<Vec<_>>();
        assert_eq!(of("a.b.c"), [2, 1]);
        assert_eq!(of("x.b.c"), [1]);
        assert_eq!(of("b.c"), [0; 0]);
        assert_eq!(of("y.x.b.c"), [0; 0]);
    }
}
