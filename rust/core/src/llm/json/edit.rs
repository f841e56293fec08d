//! Changes to a JSON text that leave every other byte as it was: order, white space, unknown members.
//!
//! Rules:
//! 1. A name that stands several times is changed wherever it stands: which one a provider takes is not known.
//! 2. The text is checked on the way; what is no JSON is refused and stays as it was.

use super::{Cursor, Fault, Kind, Text};
use std::ops::Range;

/// One step of a path into a text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step<'p> {
    Name(&'p str),
    Index(usize),
}

impl<'p> From<&'p str> for Step<'p> {
    fn from(name: &'p str) -> Step<'p> {
        Step::Name(name)
    }
}

impl From<usize> for Step<'_> {
    fn from(index: usize) -> Self {
        Step::Index(index)
    }
}

/// What to do at the end of a path.
#[derive(Clone, Copy)]
enum Change<'v> {
    Set(&'v [u8]),
    Insert(&'v [u8]),
    Remove,
}

type Cuts = Vec<(Range<usize>, Vec<u8>)>;

/// Makes the value at `path` be `value` (JSON). Members that are missing are added behind their siblings, with
/// objects around them where the path asks for names; what stands in their way and is no object is replaced. An
/// index that is not there changes nothing. True if something changed.
pub fn set(body: &mut Vec<u8>, path: &[Step<'_>], value: &[u8]) -> Result<bool, Fault> {
    apply(body, path, Change::Set(value))
}

/// Puts `value` (JSON) into the array that `path` without its last step leads to, so that it stands at the index the
/// last step is; at the end, if the array is shorter. True if there was such an array.
pub fn insert(body: &mut Vec<u8>, path: &[Step<'_>], value: &[u8]) -> Result<bool, Fault> {
    apply(body, path, Change::Insert(value))
}

/// Takes out the member or element at `path`. True if there was one.
pub fn remove(body: &mut Vec<u8>, path: &[Step<'_>]) -> Result<bool, Fault> {
    apply(body, path, Change::Remove)
}

fn apply(body: &mut Vec<u8>, path: &[Step<'_>], change: Change<'_>) -> Result<bool, Fault> {
    let mut cuts = Cuts::new();
    super::utf8(body)?;
    let mut cursor = Cursor::new(body);
    walk(&mut cursor, path, change, &mut cuts)?;
    cursor.end()?;
    // From behind, so that the ranges in front stay right.
    cuts.sort_by_key(|(range, _)| range.start);
    for (range, bytes) in cuts.iter().rev() {
        body.splice(range.clone(), bytes.iter().copied());
    }
    Ok(!cuts.is_empty())
}

fn walk(cursor: &mut Cursor<'_>, path: &[Step<'_>], change: Change<'_>, cuts: &mut Cuts) -> Result<(), Fault> {
    let kind = cursor.peek()?;
    match (path, kind) {
        ([], _) => {
            let range = cursor.skip()?;
            if let Change::Set(value) = change {
                cuts.push((range, value.to_vec()));
            }
            Ok(())
        }
        ([Step::Name(name), rest @ ..], Kind::Object) => in_object(cursor, name, rest, change, cuts),
        ([Step::Index(index), rest @ ..], Kind::Array) => in_array(cursor, *index, rest, change, cuts),
        _ => {
            let range = cursor.skip()?;
            cuts.extend(built(path, change).map(|value| (range, value)));
            Ok(())
        }
    }
}

fn in_object(
    cursor: &mut Cursor<'_>,
    name: &str,
    rest: &[Step<'_>],
    change: Change<'_>,
    cuts: &mut Cuts,
) -> Result<(), Fault> {
    let begin = cursor.at();
    let mut children = Vec::new();
    cursor.members(|seen: Text<'_>, cursor| {
        let meant = seen.is(name);
        let from = seen.range().start;
        if meant && !(rest.is_empty() && matches!(change, Change::Remove)) {
            walk(cursor, rest, change, cuts)?;
        } else {
            cursor.skip()?;
        }
        children.push(Child { range: from..cursor.at(), meant });
        Ok(())
    })?;
    if rest.is_empty() && matches!(change, Change::Remove) {
        take_out(&children, cuts);
    }
    if !children.iter().any(|child| child.meant) {
        if let Some(value) = built(rest, change) {
            let mut added = Vec::with_capacity(value.len() + name.len() + 4);
            let at = match children.last() {
                Some(last) => {
                    added.push(b',');
                    last.range.end
                }
                None => begin + 1,
            };
            super::write_string(&mut added, name);
            added.push(b':');
            added.extend_from_slice(&value);
            cuts.push((at..at, added));
        }
    }
    Ok(())
}

fn in_array(
    cursor: &mut Cursor<'_>,
    index: usize,
    rest: &[Step<'_>],
    change: Change<'_>,
    cuts: &mut Cuts,
) -> Result<(), Fault> {
    let begin = cursor.at();
    let here = rest.is_empty() && !matches!(change, Change::Set(_));
    let mut children: Vec<Child> = Vec::new();
    cursor.elements(|cursor| {
        let (from, meant) = (cursor.at(), children.len() == index);
        if meant && !here {
            walk(cursor, rest, change, cuts)?;
        } else {
            cursor.skip()?;
        }
        children.push(Child { range: from..cursor.at(), meant });
        Ok(())
    })?;
    match change {
        Change::Remove if here => take_out(&children, cuts),
        Change::Insert(value) if here => match (children.get(index), children.last()) {
            (Some(child), _) => cuts.push((child.range.start..child.range.start, [value, b","].concat())),
            (None, Some(last)) => cuts.push((last.range.end..last.range.end, [b",", value].concat())),
            (None, None) => cuts.push((begin + 1..begin + 1, value.to_vec())),
        },
        _ => {}
    }
    Ok(())
}

/// A member or an element; `meant` if the path leads to it.
struct Child {
    range: Range<usize>,
    meant: bool,
}

/// Cuts the meant out, each with one comma, so that the rest is a list again.
fn take_out(children: &[Child], cuts: &mut Cuts) {
    let kept = children.iter().rposition(|child| !child.meant);
    // Those that others follow go with the comma behind them; the last ones go with the comma in front.
    for (child, next) in children.iter().zip(children.iter().skip(1)).take(kept.unwrap_or(0)) {
        if child.meant {
            cuts.push((child.range.start..next.range.start, Vec::new()));
        }
    }
    let from = kept.and_then(|kept| children.get(kept)).map(|child| child.range.end);
    if let (Some(first), Some(last)) = (children.first(), children.last()) {
        let from = from.unwrap_or(first.range.start);
        if last.meant {
            cuts.push((from..last.range.end, Vec::new()));
        }
    }
}

/// `change`'s value with the objects around it that `path` asks for; `None` where nothing is to be made.
fn built(path: &[Step<'_>], change: Change<'_>) -> Option<Vec<u8>> {
    let Change::Set(value) = change else { return None };
    let mut out = Vec::new();
    for step in path {
        let Step::Name(name) = step else { return None };
        out.push(b'{');
        super::write_string(&mut out, name);
        out.push(b':');
    }
    out.extend_from_slice(value);
    out.extend(std::iter::repeat_n(b'}', path.len()));
    Some(out)
}
