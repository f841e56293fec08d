//! The expression form of a match: text to a tree of conditions.
//!
//! ```text
//! or    = and { "||" and }          and  = not { "&&" not }
//! not   = "!" not | "(" or ")" | call
//! call  = name "(" text { "," text } ")"        text = `raw` | "with \" and \\"
//! ```
//!
//! Errors carry the byte offset they were found at. Nesting and length are capped, so that no
//! configuration can exhaust the stack.

use super::condition::{Condition, MethodSet, Pattern, Test, Tree};
use super::pattern::{HostPattern, PathPattern};
use crate::error::{nearest, Problem};

const MAX_DEPTH: usize = 32;
const MAX_LENGTH: usize = 16 << 10;

/// Name and arguments of every function.
const FUNCTIONS: &[(&str, &str)] = &[
    ("Host", "one or more hosts: Host(`api.example.com`, `*.example.com`)"),
    ("Path", "one or more paths: Path(`/exact`, `/users/{id}`, `/files/**`)"),
    ("PathPrefix", "one or more prefixes: PathPrefix(`/files`)"),
    ("PathRegexp", "one regular expression: PathRegexp(`/v[0-9]+/.*`)"),
    ("Method", "one or more methods: Method(`GET`, `HEAD`)"),
    ("Header", "a name, and a value unless presence is enough: Header(`x-env`, `dev`)"),
    ("HeaderRegexp", "a name and a regular expression: HeaderRegexp(`x-env`, `dev|test`)"),
    ("Query", "a name, and a value unless presence is enough: Query(`debug`)"),
    ("QueryRegexp", "a name and a regular expression: QueryRegexp(`page`, `[0-9]+`)"),
    ("ClientIP", "one or more CIDR blocks: ClientIP(`10.0.0.0/8`)"),
    (
        "ClientCert",
        "subject, san or fingerprint, and a value unless presence is enough: ClientCert(`san`, `a.example`)",
    ),
    (
        "ClientCertRegexp",
        "subject, san or fingerprint and a regular expression: ClientCertRegexp(`subject`, `.*,O=Acme`)",
    ),
];

/// Reads an expression; the problem's path is empty.
pub fn parse(text: &str) -> Result<Tree, Problem> {
    if text.len() > MAX_LENGTH {
        return Err(Problem::new("", format!("the expression is longer than {MAX_LENGTH} bytes")));
    }
    let mut parser = Parser { text, at: 0, depth: 0 };
    let tree = parser.either()?;
    match parser.peek() {
        None => Ok(tree),
        Some(')') => Err(parser.error("`)` without `(`")),
        Some(_) => Err(parser.error("unexpected text").expected("`&&`, `||` or the end")),
    }
}

struct Parser<'t> {
    text: &'t str,
    /// Byte offset of what comes next.
    at: usize,
    depth: usize,
}

impl<'t> Parser<'t> {
    fn either(&mut self) -> Result<Tree, Problem> {
        let mut trees = vec![self.both()?];
        while self.eat("||")? {
            trees.push(self.both()?);
        }
        Ok(if trees.len() == 1 { trees.remove(0) } else { Tree::Any(trees) })
    }

    fn both(&mut self) -> Result<Tree, Problem> {
        let mut trees = vec![self.unary()?];
        while self.eat("&&")? {
            trees.push(self.unary()?);
        }
        Ok(if trees.len() == 1 { trees.remove(0) } else { Tree::All(trees) })
    }

    fn unary(&mut self) -> Result<Tree, Problem> {
        if self.depth == MAX_DEPTH {
            return Err(self.error(&format!("nested deeper than {MAX_DEPTH}")));
        }
        self.depth += 1;
        let tree = match self.peek() {
            Some('!') => {
                self.at += 1;
                Tree::Not(Box::new(self.unary()?))
            }
            Some('(') => {
                let open = self.at;
                self.at += 1;
                let tree = self.either()?;
                if self.peek() != Some(')') {
                    return Err(self.error(&format!("`(` at byte {open} is not closed")).expected("`)`, `&&` or `||`"));
                }
                self.at += 1;
                tree
            }
            Some(c) if c.is_ascii_alphabetic() => self.call()?,
            Some(_) => return Err(self.error("unexpected text").expected("a function, `!` or `(`")),
            None => return Err(self.error("the expression ends too early").expected("a function, `!` or `(`")),
        };
        self.depth -= 1;
        Ok(tree)
    }

    fn call(&mut self) -> Result<Tree, Problem> {
        let start = self.at;
        let rest = &self.text[start..];
        let name = &rest[..rest.find(|c: char| !c.is_ascii_alphanumeric() && c != '_').unwrap_or(rest.len())];
        let names = || FUNCTIONS.iter().map(|f| f.0);
        let Some(&(_, usage)) = FUNCTIONS.iter().find(|f| f.0 == name) else {
            let mut problem = self
                .error(&format!("there is no function {name:?}"))
                .expected(format!("one of {}", names().collect::<Vec<_>>().join(", ")));
            problem.nearest = nearest(name, names()).map(str::to_owned);
            return Err(problem);
        };
        self.at += name.len();
        if self.peek() != Some('(') {
            return Err(self.error(&format!("{name} needs `(`")).expected(usage));
        }
        self.at += 1;
        let mut arguments = Vec::new();
        loop {
            arguments.push(self.quoted(usage)?);
            match self.peek() {
                Some(',') => self.at += 1,
                Some(')') => break self.at += 1,
                _ => return Err(self.error("the list of arguments is not closed").expected("`,` or `)`")),
            }
        }
        build(name, usage, &arguments).map_err(|mut problem| {
            problem.message = format!("at byte {start}: {}", problem.message);
            problem
        })
    }

    fn quoted(&mut self, usage: &str) -> Result<String, Problem> {
        let quote = match self.peek() {
            Some(c @ ('`' | '"')) => c,
            _ => return Err(self.error("expected a quoted text").expected(usage)),
        };
        let open = self.at;
        let mut out = String::new();
        let mut chars = self.text[open + 1..].char_indices();
        while let Some((i, c)) = chars.next() {
            match c {
                c if c == quote => {
                    self.at = open + 1 + i + 1;
                    return Ok(out);
                }
                '\\' if quote == '"' => match chars.next() {
                    Some((_, c @ ('"' | '\\'))) => out.push(c),
                    _ => {
                        self.at = open + 1 + i;
                        return Err(self.error("unknown escape").expected("`\\\"` or `\\\\`; or a text in backticks"));
                    }
                },
                c => out.push(c),
            }
        }
        Err(self.error("the quoted text is not closed").expected(format!("a closing {quote}")))
    }

    /// Next character that is not white space.
    fn peek(&mut self) -> Option<char> {
        let rest = &self.text[self.at..];
        self.at += rest.len() - rest.trim_start().len();
        self.text[self.at..].chars().next()
    }

    fn eat(&mut self, operator: &'static str) -> Result<bool, Problem> {
        let first = operator.chars().next();
        if self.peek() != first {
            return Ok(false);
        }
        if !self.text[self.at..].starts_with(operator) {
            return Err(self.error(&format!("a single `{}`", &operator[..1])).nearest(operator));
        }
        self.at += operator.len();
        Ok(true)
    }

    fn error(&self, message: &str) -> Problem {
        Problem::new("", format!("at byte {}: {message}", self.at))
    }
}

fn build(name: &str, usage: &str, arguments: &[String]) -> Result<Tree, Problem> {
    let each = |make: &dyn Fn(&str) -> Result<Condition, Problem>| -> Result<Tree, Problem> {
        let mut trees = arguments.iter().map(|a| make(a).map(Tree::Leaf)).collect::<Result<Vec<_>, _>>()?;
        Ok(if trees.len() == 1 { trees.remove(0) } else { Tree::Any(trees) })
    };
    let count = || Problem::new("", format!("{name} does not take {} argument(s)", arguments.len())).expected(usage);
    let condition = match (name, arguments) {
        ("Host", _) => return each(&|a| HostPattern::parse(a).map(Condition::Host)),
        ("Path", _) => return each(&|a| PathPattern::parse(a).map(Condition::Path)),
        ("PathPrefix", _) => return each(&|a| PathPattern::prefix(a).map(Condition::Path)),
        ("PathRegexp", [pattern]) => Condition::PathRegexp(Pattern::parse(pattern)?),
        ("Method", _) => {
            let mut set = MethodSet::default();
            arguments.iter().try_for_each(|a| set.insert(a))?;
            Condition::Method(set)
        }
        ("Header", [name]) => Condition::header(name, Test::Present)?,
        ("Header", [name, value]) => Condition::header(name, Test::Is(value.as_str().into()))?,
        ("HeaderRegexp", [name, pattern]) => Condition::header(name, Test::Like(Pattern::parse(pattern)?))?,
        ("Query", [name]) => Condition::Query { name: name.as_str().into(), test: Test::Present },
        ("Query", [name, value]) => {
            Condition::Query { name: name.as_str().into(), test: Test::Is(value.as_str().into()) }
        }
        ("QueryRegexp", [name, pattern]) => {
            Condition::Query { name: name.as_str().into(), test: Test::Like(Pattern::parse(pattern)?) }
        }
        ("ClientCert", [part]) => Condition::client_cert(part, Test::Present)?,
        ("ClientCert", [part, value]) => Condition::client_cert(part, Test::Is(value.as_str().into()))?,
        ("ClientCertRegexp", [part, pattern]) => Condition::client_cert(part, Test::Like(Pattern::parse(pattern)?))?,
        ("ClientIP", _) => Condition::client_ip(arguments.iter().map(String::as_str))?,
        _ => return Err(count()),
    };
    Ok(Tree::Leaf(condition))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_and_prints() {
        for (text, printed) in [
            ("Host(`a.x`)", "Host(`a.x`)"),
            ("Host(`a.x`) && PathPrefix(`/x`) && !Query(`debug`)", "(Host(`a.x`) && Path(`/x/**`) && !Query(`debug`))"),
            ("Host(`a`)||Host(`b`)&&Path(`/`)", "(Host(`a`) || (Host(`b`) && Path(`/`)))"),
            ("(Host(`a`)||Host(`b`))&&Path(`/`)", "((Host(`a`) || Host(`b`)) && Path(`/`))"),
            ("! ( Method(`GET`,\"POST\") )", "!Method(`GET`, `POST`)"),
            ("!!Query(`a`, `b`)", "!!Query(`a`, `b`)"),
            (r#"Header("X-A", "a \"b\" \\ `c`")"#, r#"Header(`x-a`, "a \"b\" \\ `c`")"#),
            (
                "HeaderRegexp(`x`, `a|b`) && QueryRegexp(`p`, `\\d`)",
                "(HeaderRegexp(`x`, `a|b`) && QueryRegexp(`p`, `\\d`))",
            ),
            ("ClientIP(`10.1.2.3/8`, `::1`)", "ClientIP(`10.0.0.0/8`, `::1/128`)"),
            ("Path(`/a`, `/b/{id}`)", "(Path(`/a`) || Path(`/b/{id}`))"),
            ("PathRegexp(`/v[0-9]`)", "PathRegexp(`/v[0-9]`)"),
        ] {
            let tree = parse(text).unwrap_or_else(|e| panic!("{text}: {e:?}"));
            assert_eq!(tree.to_string(), printed);
            assert_eq!(parse(printed).unwrap(), tree, "{text}");
        }
    }

    #[test]
    fn errors_say_where() {
        for (text, start) in [
            ("", "at byte 0: the expression ends too early"),
            ("Host(`a`) &&", "at byte 12: the expression ends too early"),
            ("Host(`a`) & Host(`b`)", "at byte 10: a single `&`"),
            ("Host(`a`) | Host(`b`)", "at byte 10: a single `|`"),
            ("Host(`a`) Host(`b`)", "at byte 10: unexpected text"),
            ("Host(`a`))", "at byte 9: `)` without `(`"),
            ("(Host(`a`)", "at byte 10: `(` at byte 0 is not closed"),
            ("Hots(`a`)", "at byte 0: there is no function \"Hots\""),
            ("Path `/`", "at byte 5: Path needs `(`"),
            ("Path(/)", "at byte 5: expected a quoted text"),
            ("Path()", "at byte 5: expected a quoted text"),
            ("Path(`/`", "at byte 8: the list of arguments is not closed"),
            ("Path(`/", "at byte 5: the quoted text is not closed"),
            ("Path(\"\\n\")", "at byte 6: unknown escape"),
            ("é", "at byte 0: unexpected text"),
            ("Path(`/`) && Path(`x`)", "at byte 13: \"x\" does not begin with `/`"),
            ("Query(`a`,`b`,`c`)", "at byte 0: Query does not take 3 argument(s)"),
            ("PathRegexp(`a`,`b`)", "at byte 0: PathRegexp does not take 2 argument(s)"),
            ("Method(`get`)", "at byte 0: \"get\" is not a method"),
            ("HeaderRegexp(`a`,`(`)", "at byte 0: bad regular expression"),
        ] {
            let problem = parse(text).unwrap_err();
            assert!(problem.message.starts_with(start), "{text}: {problem:?}");
        }
        assert_eq!(parse("PathPrefx(`/`)").unwrap_err().nearest.as_deref(), Some("PathPrefix"));
        let deep = format!("{}Path(`/`){}", "(".repeat(40), ")".repeat(40));
        assert!(parse(&deep).unwrap_err().message.contains("nested deeper"));
        assert!(parse(&"!".repeat(MAX_LENGTH)).unwrap_err().message.contains("nested deeper"));
        assert!(parse(&" ".repeat(MAX_LENGTH + 1)).unwrap_err().message.contains("longer"));
    }
}
