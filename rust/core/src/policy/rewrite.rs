//! What the policies that rewrite paths share: reading them, replacing by regular expression, rechecking.
//!
//! Rules:
//! 1. Rewrites work on the canonical path and their result passes the same checks as a client's path
//!    (design §4 "Canonical target"). A result that fails them refuses the request; it is never sent.

use super::{Flow, RequestCx};
use crate::error::{Code, Problem};
use crate::message::{PathOptions, Target};
use regex::bytes::{Regex, RegexBuilder};

/// A path of the configuration in canonical form; the problem's path is empty.
pub fn literal(text: &str) -> Result<String, Problem> {
    let bad = |why: &str| Problem::new("", format!("{text:?}: {why}")).expected("a path such as `/v1`");
    if text.contains(['?', '#']) {
        return Err(bad("query and fragment are not part of the path"));
    }
    let mut target = Target::default();
    let options = PathOptions { merge_slashes: true, allow_encoded_slash: true };
    target.parse(escaped(text.as_bytes()).as_slice(), options).map_err(|e| bad(e.0))?;
    let path = String::from_utf8_lossy(target.path()).into_owned();
    if path == "*" {
        return Err(bad("the path must begin with /"));
    }
    Ok(path)
}

/// Percent-escapes what may not stand in a path as it is.
pub fn escaped(path: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(path.len());
    for &b in path {
        if b <= 0x20 || b >= 0x7f || matches!(b, b'?' | b'#' | b'\\') {
            out.extend_from_slice(format!("%{b:02X}").as_bytes());
        } else {
            out.push(b);
        }
    }
    out
}

/// A path, or the replacement for what an expression matches in one.
pub struct Replacement {
    regex: Option<Regex>,
    template: Vec<u8>,
}

impl Replacement {
    /// With `regex`, `path` may use `$1` and `${name}`. Problems are paired with the key they are about.
    pub fn parse(path: &str, regex: Option<&str>) -> Result<Replacement, (&'static str, Problem)> {
        let Some(pattern) = regex else {
            return Ok(Replacement { regex: None, template: literal(path).map_err(|p| ("path", p))?.into_bytes() });
        };
        let regex = RegexBuilder::new(pattern).size_limit(1 << 20).build().map_err(|e| {
            let text = e.to_string();
            let reason = text.lines().last().unwrap_or_default().trim_start_matches("error: ").to_owned();
            let expected = "the syntax of Rust's `regex` crate (no look-around, no back-references)";
            ("regex", Problem::new("", format!("bad regular expression {pattern:?}: {reason}")).expected(expected))
        })?;
        for wanted in references(path) {
            let known = match wanted.parse::<usize>() {
                Ok(number) => number < regex.captures_len(),
                Err(_) => regex.capture_names().flatten().any(|name| name == wanted),
            };
            if !known {
                let message = format!("`${wanted}` is no group of the expression");
                let expected = "`$0`, `$1`… or `${name}`; a letter right behind it needs `${1}x`, a dollar `$$`";
                return Err(("path", Problem::new("", message).expected(expected)));
            }
        }
        Ok(Replacement { regex: Some(regex), template: path.as_bytes().to_vec() })
    }

    /// The new path, not yet checked; `None` when the expression does not match.
    pub fn apply(&self, path: &[u8]) -> Option<Vec<u8>> {
        let Some(regex) = &self.regex else {
            return Some(self.template.clone());
        };
        let captures = regex.captures(path)?;
        let whole = captures.get(0)?;
        let mut out = path[..whole.start()].to_vec();
        captures.expand(&self.template, &mut out);
        out.extend_from_slice(&path[whole.end()..]);
        Some(escaped(&out))
    }

    pub fn describe(&self) -> String {
        let template = String::from_utf8_lossy(&self.template);
        match &self.regex {
            Some(regex) => format!("{:?} replaced by {template:?}", regex.as_str()),
            None => template.into_owned(),
        }
    }
}

/// Names used in a replacement template, as the `regex` crate reads it.
fn references(template: &str) -> Vec<String> {
    let mut found = Vec::new();
    let mut rest = template;
    while let Some(at) = rest.find('$') {
        rest = &rest[at + 1..];
        if let Some(after) = rest.strip_prefix('$') {
            rest = after;
        } else if let Some((name, after)) = rest.strip_prefix('{').and_then(|r| r.split_once('}')) {
            found.push(name.to_owned());
            rest = after;
        } else {
            let end = rest.find(|c: char| !c.is_ascii_alphanumeric() && c != '_').unwrap_or(rest.len());
            found.push(rest[..end].to_owned());
            rest = &rest[end..];
        }
    }
    found
}

/// Makes `path` the request's path, or refuses the request.
pub fn set(cx: &mut RequestCx<'_>, path: &[u8]) -> Flow {
    match cx.head.target.set_path(path, cx.path_options) {
        Ok(()) => Flow::Next,
        Err(e) => Flow::Refuse(Code::BadRequest, Some(format!("after a path rewrite: {}", e.0).into())),
    }
}
