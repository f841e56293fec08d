//! `basic_auth`: admit users with a password (RFC 7617).
//!
//! Rules:
//! 1. Passwords are kept as salted PBKDF2-HMAC-SHA256 (RFC 8018), written in the PHC form
//!    `$pbkdf2-sha256$i=ROUNDS$SALT$HASH` (`pygate hash password` makes one).
//! 2. A slow hash must not stall the loop. Its rounds are capped (about 2 ms here), what was verified once is
//!    remembered, and how many hashes a worker computes a second is capped; beyond, a client it does not know
//!    yet gets 429. Clients already verified are never affected.
//! 3. Unknown users take as long as known ones: one hash of the same rounds, compared in constant time. All
//!    users of a policy have the same number of rounds for that reason.
//! 4. Memory holds no password: what is remembered is a keyed digest of user and password. It is bounded and
//!    dies with the revision.

use super::credential::{is_reference, sha256};
use super::{Flow, Policy, RequestCx};
use crate::error::{Code, Problem};
use crate::message::Known;
use crate::time::Instant;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use sha2::Sha256;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, PoisonError};
use subtle::ConstantTimeEq;

/// Keeps one hash near 2 ms with SHA instructions and below 10 ms without.
const MAX_ROUNDS: u32 = 20_000;
/// Hashes one worker computes for a policy: this many a second, and as many at once.
const HASHES: u64 = 10;
const HASH_INTERVAL_NS: u64 = 1_000_000_000 / HASHES;
/// Verified credentials remembered; refused ones, to answer a client that repeats itself at no cost.
const REMEMBERED: usize = 4096;
const MAX_CREDENTIALS: usize = 1024;

/// Admit users with a password; others get 401.
#[derive(Clone, Debug, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// User → `$pbkdf2-sha256$i=ROUNDS$SALT$HASH`, or `env:NAME` or `file:PATH` that holds such a hash.
    pub users: BTreeMap<String, String>,
    /// Shown by browsers that ask for the password.
    pub realm: String,
    /// Send the password on to the upstream.
    pub forward: bool,
}

impl Default for Config {
    fn default() -> Self {
        Config { users: BTreeMap::new(), realm: "pygate".into(), forward: false }
    }
}

/// A password's hash, as the PHC form has it.
#[derive(Clone, Debug)]
struct Stored {
    rounds: u32,
    salt: Vec<u8>,
    hash: [u8; 32],
}

struct BasicAuth {
    users: BTreeMap<Box<[u8]>, Stored>,
    unresolved: usize,
    /// What unknown users are measured against.
    nobody: Stored,
    challenge: String,
    forward: bool,
    /// Key of the digests in `memory`.
    key: [u8; 32],
    memory: Mutex<Memory>,
}

#[derive(Default)]
struct Memory {
    verified: BTreeSet<[u8; 32]>,
    refused: BTreeSet<[u8; 32]>,
    /// When the next hash would be due if hashes came evenly (GCRA).
    due: Instant,
}

impl Config {
    pub fn compile(&self, name: &str) -> Result<Arc<dyn Policy>, Vec<Problem>> {
        let at = |key: &str| format!("policies.{name}.basic_auth.{key}");
        let (mut problems, mut users, mut unresolved) = (Vec::new(), BTreeMap::new(), 0);
        if self.users.is_empty() {
            let problem = Problem::new(at("users"), "there is no user: nobody could come in");
            problems.push(problem.expected("a table of names and hashes"));
        }
        let mut rounds: Option<u32> = None;
        for (user, text) in &self.users {
            let path = at(&format!("users.{user}"));
            if user.contains(':') || user.bytes().any(|b| b < 0x20 || b == 0x7f) {
                problems.push(Problem::new(&path, "a user's name has neither colons nor control characters"));
            }
            match Stored::parse(text) {
                _ if is_reference(text) => unresolved += 1,
                Ok(stored) => {
                    if stored.rounds != *rounds.get_or_insert(stored.rounds) {
                        let message = "other rounds than the users before: the time would tell who exists";
                        problems.push(Problem::new(&path, message).expected("the same `i=` for all users"));
                    }
                    users.insert(user.as_bytes().into(), stored);
                }
                Err(problem) => problems.push(Problem { path, ..problem }),
            }
        }
        if self.realm.bytes().any(|b| !(0x20..0x7f).contains(&b) || b == b'"' || b == b'\\') {
            problems
                .push(Problem::new(at("realm"), "the realm has quotes or control characters").expected("plain text"));
        }
        if !problems.is_empty() {
            return Err(problems);
        }
        // Nobody outside knows the hashes, so that nobody can aim digests at the memory.
        let secrets: Vec<&[u8]> = users.values().flat_map(|s: &Stored| [&s.hash[..], &s.salt[..]]).collect();
        let key = sha256(&secrets);
        let nobody = Stored { rounds: rounds.unwrap_or(1), salt: key[..16].to_vec(), hash: [0; 32] };
        let challenge = format!("Basic realm=\"{}\", charset=\"UTF-8\"", self.realm);
        let memory = Mutex::default();
        Ok(Arc::new(BasicAuth { users, unresolved, nobody, challenge, forward: self.forward, key, memory }))
    }
}

impl Stored {
    fn parse(text: &str) -> Result<Stored, Problem> {
        let bad = |why: &str| {
            let expected = "`$pbkdf2-sha256$i=ROUNDS$SALT$HASH` (`pygate hash password`), `env:NAME` or `file:PATH`";
            Problem::new("", why).expected(expected)
        };
        let parts: Vec<&str> = text.split('$').collect();
        let ["", "pbkdf2-sha256", parameters, salt, hash] = parts[..] else {
            // The text is not shown: it may be the password itself.
            return Err(bad("this is neither a password hash nor a reference"));
        };
        let rounds = parameters.strip_prefix("i=").and_then(|n| n.parse().ok()).unwrap_or(0);
        if !(1..=MAX_ROUNDS).contains(&rounds) {
            return Err(bad(&format!("rounds must be from 1 to {MAX_ROUNDS}: more would stall a worker")));
        }
        let salt =
            base64(salt).filter(|s| s.len() >= 8).ok_or_else(|| bad("the salt is not base64 of 8 bytes or more"))?;
        let hash =
            base64(hash).and_then(|h| h.try_into().ok()).ok_or_else(|| bad("the hash is not base64 of 32 bytes"))?;
        Ok(Stored { rounds, salt, hash })
    }

    fn verify(&self, password: &[u8]) -> bool {
        let mut out = [0; 32];
        pbkdf2::pbkdf2_hmac::<Sha256>(password, &self.salt, self.rounds, &mut out);
        out.ct_eq(&self.hash).into()
    }
}

/// RFC 4648 §4, with or without padding.
fn base64(text: &str) -> Option<Vec<u8>> {
    let digits = text.trim_end_matches('=').as_bytes();
    if digits.len() % 4 == 1 || text.len() - digits.len() > 2 {
        return None;
    }
    let (mut out, mut bits, mut count) = (Vec::with_capacity(digits.len() * 3 / 4), 0u32, 0);
    for &digit in digits {
        let value = match digit {
            b'A'..=b'Z' => digit - b'A',
            b'a'..=b'z' => digit - b'a' + 26,
            b'0'..=b'9' => digit - b'0' + 52,
            b'+' => 62,
            b'/' => 63,
            _ => return None,
        };
        bits = bits << 6 | u32::from(value);
        count += 6;
        if count >= 8 {
            count -= 8;
            out.push((bits >> count) as u8);
        }
    }
    Some(out)
}

/// What is known about credentials.
enum Judged {
    Good,
    Bad,
    /// Too many hashes lately.
    Later,
}

impl BasicAuth {
    fn judge(&self, user: &[u8], password: &[u8], now: Instant) -> Judged {
        let digest = sha256(&[&self.key, &(user.len() as u64).to_le_bytes(), user, password]);
        // A panic elsewhere cannot leave the memory half-written: every change is one call.
        let mut memory = self.memory.lock().unwrap_or_else(PoisonError::into_inner);
        if memory.verified.contains(&digest) {
            return Judged::Good;
        }
        if memory.refused.contains(&digest) {
            return Judged::Bad;
        }
        let due = memory.due.max(now);
        if due.0 > now.0 + (HASHES - 1) * HASH_INTERVAL_NS {
            return Judged::Later;
        }
        memory.due = Instant(due.0 + HASH_INTERVAL_NS);
        let stored = self.users.get(user);
        let good = stored.unwrap_or(&self.nobody).verify(password) && stored.is_some();
        let known = if good { &mut memory.verified } else { &mut memory.refused };
        if known.len() == REMEMBERED {
            known.clear();
        }
        known.insert(digest);
        if good {
            Judged::Good
        } else {
            Judged::Bad
        }
    }
}

/// User and password of `Basic BASE64`.
fn credentials(cx: &RequestCx<'_>) -> Option<(Vec<u8>, Vec<u8>)> {
    let mut values = cx.head.fields.all(b"authorization");
    let value = values.next().filter(|v| v.len() <= MAX_CREDENTIALS)?;
    let (scheme, token) = value.split_at_checked(6)?;
    if values.next().is_some() || !scheme.eq_ignore_ascii_case(b"basic ") {
        return None;
    }
    let mut user = base64(std::str::from_utf8(token.trim_ascii()).ok()?)?;
    let colon = user.iter().position(|&b| b == b':')?;
    let password = user.split_off(colon + 1);
    user.pop();
    Some((user, password))
}

impl Policy for BasicAuth {
    fn on_request(&self, cx: &mut RequestCx<'_>, _: &mut u64) -> Flow {
        let Some((user, password)) = credentials(cx) else {
            cx.notes.response_fields.append(b"www-authenticate", self.challenge.as_bytes());
            return Flow::Refuse(Code::Unauthenticated, None);
        };
        match self.judge(&user, &password, cx.now.mono) {
            Judged::Good => {
                cx.notes.identity = Some(format!("user:{}", String::from_utf8_lossy(&user)).into());
                if !self.forward {
                    cx.head.fields.remove_known(Known::Authorization);
                }
                Flow::Next
            }
            Judged::Bad => {
                cx.notes.response_fields.append(b"www-authenticate", self.challenge.as_bytes());
                Flow::Refuse(Code::Unauthenticated, None)
            }
            Judged::Later => {
                cx.notes.response_fields.append(b"retry-after", b"1");
                Flow::Refuse(Code::RateLimited, Some("too many new logins; try again".into()))
            }
        }
    }

    fn describe(&self) -> String {
        let count = self.users.len() + self.unresolved;
        format!("basic_auth: {count} user(s){}", if self.forward { "" } else { ", password not sent upstream" })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::stage::{compile, problem_paths, refused, Stage};
    use serde_json::json;
    use std::time::Duration;

    /// `ann` / `secret`, salt `saltsalt`, 1000 rounds (made with Python's `hashlib.pbkdf2_hmac`).
    const ANN: &str = "$pbkdf2-sha256$i=1000$c2FsdHNhbHQ$hgR9HsqtKupWxpnv8y99TrPDajTT/9PcSTlNafpdLXQ";

    fn policy() -> Arc<dyn Policy> {
        compile(json!({"basic_auth": {"users": {"ann": ANN, "bob": "file:/bob"}, "realm": "x"}})).unwrap()
    }

    fn encode(text: &str) -> String {
        const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
        let mut out = String::new();
        for chunk in text.as_bytes().chunks(3) {
            let word = chunk.iter().fold(0u32, |w, &b| w << 8 | u32::from(b)) << (8 * (3 - chunk.len()));
            for i in 0..4 {
                let digit = DIGITS[(word >> (18 - 6 * i)) as usize & 63] as char;
                out.push(if i <= chunk.len() { digit } else { '=' });
            }
        }
        out
    }

    fn asked(credentials: &str) -> Stage {
        Stage::new("a", "/").field("authorization", &format!("Basic {}", encode(credentials)))
    }

    #[test]
    fn a_user_comes_in_and_the_password_stays_here() {
        let policy = policy();
        for _ in 0..100 {
            let mut stage = asked("ann:secret");
            assert!(matches!(stage.request(&policy), Flow::Next), "what was verified once costs no further hash");
            assert_eq!(stage.notes.identity.as_deref(), Some("user:ann"));
            assert!(stage.head.fields.is_empty());
        }
    }

    #[test]
    fn others_do_not() {
        for stage in [
            asked("ann:Secret"),
            asked("ann:"),
            asked("bob:secret"),
            asked(":secret"),
            asked("annsecret"),
            Stage::new("a", "/"),
            Stage::new("a", "/").field("authorization", "Basic !"),
            Stage::new("a", "/").field("authorization", "Bas"),
            asked("ann:secret").field("authorization", "Basic YW5uOnNlY3JldA=="),
            asked(&format!("ann:{}", "x".repeat(2000))),
        ] {
            let mut stage = stage;
            assert_eq!(refused(stage.request(&policy())), Code::Unauthenticated);
            let challenge = stage.notes.response_fields.get(b"www-authenticate");
            assert_eq!(challenge, Some(&b"Basic realm=\"x\", charset=\"UTF-8\""[..]));
            assert_eq!(stage.notes.identity, None);
        }
    }

    #[test]
    fn guesses_use_up_their_own_budget_only() {
        let policy = policy();
        assert!(matches!(asked("ann:secret").request(&policy), Flow::Next));
        let codes: Vec<Code> = (0..20).map(|i| refused(asked(&format!("ann:{i}")).request(&policy))).collect();
        assert_eq!(codes.iter().filter(|c| **c == Code::Unauthenticated).count(), HASHES as usize - 1);
        assert_eq!(codes[19], Code::RateLimited);
        assert!(matches!(asked("ann:secret").request(&policy), Flow::Next), "a verified client is not affected");
        assert_eq!(refused(asked("ann:0").request(&policy)), Code::Unauthenticated, "a repeated guess costs nothing");
        let mut later = asked("ann:99");
        later.now.mono = later.now.mono + Duration::from_millis(150);
        assert_eq!(refused(later.request(&policy)), Code::Unauthenticated);
    }

    #[test]
    fn mistakes_name_their_key_and_show_no_secret() {
        let config = json!({"basic_auth": {"realm": "a\"b", "users": {
            "a": "hunter2", "b": "$pbkdf2-sha256$i=999999$c2FsdHNhbHQ$AAAA", "c": "$pbkdf2-sha256$i=10$c2E$AAAA",
            "d": "$pbkdf2-sha256$i=10$c2FsdHNhbHQ$AAAA", "e": ANN, "f": ANN.replace("1000", "1001"), "g:h": ANN,
        }}});
        let expected = ["users.a", "users.b", "users.c", "users.d", "users.f", "users.g:h", "realm"];
        assert_eq!(problem_paths(config.clone()), expected.map(|k| format!("policies.p.basic_auth.{k}")));
        assert!(!format!("{:?}", compile(config).err()).contains("hunter2"));
        assert_eq!(problem_paths(json!({"basic_auth": {}})), ["policies.p.basic_auth.users"]);
    }

    #[test]
    fn base64_is_read_strictly() {
        assert_eq!(base64("YW5uOnNlY3JldA==").as_deref(), Some(&b"ann:secret"[..]));
        assert_eq!(base64("").as_deref(), Some(&b""[..]));
        for bad in ["A", "A===", "AA===", "A A=", "_-__", "\u{e9}"] {
            assert_eq!(base64(bad), None, "{bad}");
        }
    }
}
