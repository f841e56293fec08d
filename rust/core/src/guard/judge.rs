//! Judging one body: channels are scanned as they fill up, findings resolved when the body ends.
//!
//! Rules:
//! 1. [`Judging::feed`] does at most one scan per call (about a millisecond) and says how many bytes it took,
//!    so a large body can be judged between other work.
//! 2. Per rule, matches are those of its regex over the whole channel: leftmost-first, not overlapping. Only
//!    then come validators.
//! 3. Across rules, everything that must be masked is masked; where findings overlap, the mask of the
//!    leftmost one, then the longest, is written.
//! 4. A finding inside a match of an `allow` rule does not count. Shadow rules find, and do nothing.

use super::channel::{Batch, Kind, Piece};
use super::form::Form;
use super::json::Json;
use super::pack::Action;
use super::ruleset::{Plan, Region};
use super::{ContentKind, Unjudgeable, MAX_BODY, MAX_FINDINGS};
use regex_automata::util::primitives::NonMaxUsize;
use regex_automata::{Anchored, Input};
use smallvec::SmallVec;
use std::cmp::Reverse;

/// What is to be done with a body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Send it as it is.
    Pass,
    /// Send the masked form.
    Masked,
    /// Refuse it; `rule` is the first blocking one in the text.
    Block { rule: u16 },
}

/// One rule's match. Never the text itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Finding {
    /// Index into [`Ruleset::rules`](super::Ruleset::rules).
    pub rule: u16,
    pub action: Action,
    pub shadow: bool,
    /// Ordinal of the channel among the body's channels.
    pub channel: u32,
    /// Span in the decoded channel (of a member: in its value, or in its name if that is where it is).
    pub start: u32,
    pub end: u32,
    /// Span in the body.
    pub raw_start: u32,
    pub raw_end: u32,
}

/// The result for one body.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Judgement {
    pub verdict: Verdict,
    /// In the order of the text.
    pub findings: Vec<Finding>,
}

#[derive(Debug)]
enum Extractor {
    Json(Json),
    Form(Form),
    Text {
        open: bool,
    },
    /// Not yet known: white space only so far.
    Unknown,
}

#[derive(Clone, Copy, Debug)]
struct Hit {
    finding: Finding,
    kind: Kind,
}

/// A body being judged. Owns everything it needs; reusable through [`Judging::reset`].
#[derive(Debug)]
pub struct Judging {
    plan: Plan,
    extractor: Extractor,
    batch: Batch,
    fed: u32,
    hits: Vec<Hit>,
    regions: Vec<Region>,
    /// Ends (channel positions) of matches that reach behind what has been scanned of the open channel.
    carry: Vec<(u16, u32)>,
    /// The channel that was open after the last scan, and how far it is done (channel position): further
    /// matches begin here or later.
    scanned: Option<(u32, u32)>,
}

impl Judging {
    pub fn new(plan: &Plan, kind: ContentKind) -> Judging {
        let mut judging = Judging {
            plan: plan.clone(),
            extractor: Extractor::Unknown,
            batch: Batch::default(),
            fed: 0,
            hits: Vec::new(),
            regions: Vec::new(),
            carry: Vec::new(),
            scanned: None,
        };
        judging.reset(plan, kind);
        judging
    }

    /// Begins another body, keeping the buffers.
    pub fn reset(&mut self, plan: &Plan, kind: ContentKind) {
        self.plan = plan.clone();
        self.batch.clear();
        self.batch.shortest = plan.ruleset.shortest;
        self.fed = 0;
        self.hits.clear();
        self.carry.clear();
        self.scanned = None;
        self.extractor = match kind {
            ContentKind::Json => Extractor::Json(Json::new(false)),
            ContentKind::JsonLines => Extractor::Json(Json::new(true)),
            ContentKind::Form => Extractor::Form(Form::default()),
            ContentKind::Text => Extractor::Text { open: false },
            ContentKind::Unknown => Extractor::Unknown,
        };
    }

    /// Takes the next bytes of the body and returns how many were taken; call again with the rest. After an
    /// error the body is unjudgeable, whatever follows.
    pub fn feed(&mut self, bytes: &[u8]) -> Result<usize, Unjudgeable> {
        if self.fed as usize + bytes.len() > MAX_BODY {
            return Err(Unjudgeable::TooLong);
        }
        if self.plan.is_empty() {
            return Ok(bytes.len());
        }
        if matches!(self.extractor, Extractor::Unknown) {
            // White space in front belongs to no channel, whether it comes alone or with what follows.
            let blank = bytes.iter().take_while(|byte| byte.is_ascii_whitespace()).count();
            if blank > 0 || bytes.is_empty() {
                self.fed += blank as u32;
                return Ok(blank);
            }
            self.extractor = match bytes[0] {
                b'{' | b'[' => Extractor::Json(Json::new(false)),
                _ => Extractor::Text { open: false },
            };
        }
        let taken = match &mut self.extractor {
            Extractor::Json(json) => json.feed(bytes, self.fed, &mut self.batch)?,
            Extractor::Form(form) => form.feed(bytes, self.fed, &mut self.batch),
            Extractor::Text { open } => {
                if !*open {
                    self.batch.open(Kind::Text, self.fed);
                    *open = true;
                }
                let taken = bytes.len().min(self.batch.room());
                self.batch.push(&bytes[..taken]);
                taken
            }
            Extractor::Unknown => bytes.len(),
        };
        self.fed += taken as u32;
        if self.batch.room() == 0 {
            self.scan()?;
        }
        Ok(taken)
    }

    /// The body is complete. `body` is all that was fed; with [`Verdict::Masked`], `masked` (emptied first)
    /// becomes the body to send instead.
    pub fn finish(&mut self, body: &[u8], masked: &mut Vec<u8>) -> Result<Judgement, Unjudgeable> {
        masked.clear();
        if self.plan.is_empty() {
            return Ok(Judgement { verdict: Verdict::Pass, findings: Vec::new() });
        }
        match &mut self.extractor {
            Extractor::Json(json) => json.finish(self.fed, &mut self.batch)?,
            Extractor::Form(form) => form.finish(&mut self.batch),
            Extractor::Text { open: true } => self.batch.close(),
            Extractor::Text { open: false } | Extractor::Unknown => {}
        }
        self.scan()?;
        self.exempt();
        self.hits.sort_by_key(|hit| {
            let f = &hit.finding;
            (f.channel, f.raw_start, Reverse(f.raw_end), f.shadow, Reverse(f.action), f.rule)
        });
        let findings: Vec<Finding> = self.hits.iter().map(|hit| hit.finding).collect();
        let block = findings.iter().find(|finding| finding.action == Action::Block && !finding.shadow);
        let verdict = match block {
            Some(finding) => Verdict::Block { rule: finding.rule },
            None if self.mask(body, masked) => Verdict::Masked,
            None => Verdict::Pass,
        };
        Ok(Judgement { verdict, findings })
    }

    /// Scans the batch and keeps of it what a match could still need.
    fn scan(&mut self) -> Result<(), Unjudgeable> {
        if self.batch.text.is_empty() {
            return Ok(());
        }
        self.batch.seal();
        self.regions.clear();
        let ruleset = &self.plan.ruleset;
        ruleset.scanner().propose(&self.batch.text, &self.plan.wanted, &mut self.regions)?;
        self.regions.sort_unstable();
        merge(&mut self.regions);
        let length = self.batch.text.len() as u32;
        // Matches of an open channel that begin before `settled` cannot change with what is still to come:
        // they end, and the byte behind them is, inside the batch.
        let open = self.batch.pieces.last().copied().filter(|piece| !piece.complete);
        let settled = match open {
            Some(piece) => length.saturating_sub(ruleset.width as u32 + 1).max(piece.start),
            None => length,
        };
        let regions = std::mem::take(&mut self.regions);
        let result = self.confirm(&regions, settled);
        self.regions = regions;
        result?;
        match open {
            Some(piece) => {
                let scanned = piece.origin + (settled - piece.start);
                self.scanned = Some((piece.channel, scanned));
                self.carry.retain(|&(_, end)| end > scanned);
                // One byte before it, for the word boundary.
                self.batch.advance(settled.saturating_sub(1));
            }
            None => {
                self.scanned = None;
                self.carry.clear();
                self.batch.advance(length);
            }
        }
        Ok(())
    }

    /// Runs the rules' expressions over the regions.
    fn confirm(&mut self, regions: &[Region], settled: u32) -> Result<(), Unjudgeable> {
        let carry = std::mem::take(&mut self.carry);
        let mut current = None;
        let mut done = 0;
        for region in regions {
            if current != Some(region.rule) {
                current = Some(region.rule);
                done = 0;
            }
            let first = self.batch.pieces.partition_point(|piece| piece.end <= region.from);
            for index in first..self.batch.pieces.len() {
                let piece = self.batch.pieces[index];
                if piece.start >= region.to {
                    break;
                }
                let mut from = region.from.max(done).max(piece.start);
                if let Some((_, scanned)) = self.scanned.filter(|resumed| resumed.0 == piece.channel) {
                    let matched = carry.iter().find(|entry| entry.0 == region.rule).map_or(0, |entry| entry.1);
                    from = from.max(piece.start + matched.max(scanned).saturating_sub(piece.origin));
                }
                if region.anchored && from != region.from {
                    continue;
                }
                let limit = if piece.complete { piece.end } else { settled };
                if let Some(end) = self.confirm_piece(region, &piece, from, limit)? {
                    done = end;
                }
            }
        }
        if let [only] = self.batch.pieces.as_slice() {
            if !only.complete {
                // Behind the new ones: the first entry of a rule is the farthest.
                self.carry.extend(carry);
            }
        }
        Ok(())
    }

    /// Finds the rule's matches in one piece that begin at or behind `from` and before `limit`. Returns the
    /// end of the last one.
    fn confirm_piece(
        &mut self,
        region: &Region,
        piece: &Piece,
        mut from: u32,
        limit: u32,
    ) -> Result<Option<u32>, Unjudgeable> {
        let rule = &self.plan.ruleset.rules()[usize::from(region.rule)];
        let (start, end) = (piece.start as usize, piece.end.min(region.to) as usize);
        let hay = &self.batch.text[start..piece.end as usize];
        let anchored = if region.anchored { Anchored::Yes } else { Anchored::No };
        let mut last = None;
        while (from as usize) < end {
            let input = Input::new(hay).span(from as usize - start..end - start).anchored(anchored);
            let (whole, secret) = match rule.secret {
                None => match rule.regex.search(&input) {
                    Some(found) => (found.range(), found.range()),
                    None => break,
                },
                Some(group) => {
                    let mut slots = SmallVec::<[Option<NonMaxUsize>; 16]>::new();
                    slots.resize(rule.regex.group_info().slot_len(), None);
                    if rule.regex.search_slots(&input, &mut slots).is_none() {
                        break;
                    }
                    let range = |group: usize| {
                        Some(slots.get(2 * group)?.as_ref()?.get()..slots.get(2 * group + 1)?.as_ref()?.get())
                    };
                    match (range(0), range(group)) {
                        (Some(whole), Some(secret)) => (whole, secret),
                        (Some(whole), None) => (whole.clone(), whole),
                        (None, _) => break,
                    }
                }
            };
            let whole_start = (whole.start + start) as u32;
            if whole_start >= limit {
                break;
            }
            from = (whole.end + start) as u32;
            last = Some(from);
            if !piece.complete {
                let end = piece.origin + (from - piece.start);
                match self.carry.iter_mut().find(|entry| entry.0 == region.rule) {
                    Some(entry) => entry.1 = end,
                    None => self.carry.push((region.rule, end)),
                }
            }
            if !secret.is_empty() && rule.validator.accepts(&hay[secret.clone()]) {
                let hit = place(
                    &self.batch,
                    piece,
                    region.rule,
                    (rule.action, rule.shadow),
                    (secret.start + start) as u32..(secret.end + start) as u32,
                );
                if let Some(hit) = hit {
                    if self.hits.len() == MAX_FINDINGS {
                        return Err(Unjudgeable::TooManyFindings);
                    }
                    self.hits.push(hit);
                }
            }
            if region.anchored {
                break;
            }
        }
        Ok(last)
    }

    /// Takes out what lies inside a match of an `allow` rule.
    fn exempt(&mut self) {
        let is_allow = |hit: &Hit| hit.finding.action == Action::Allow && !hit.finding.shadow;
        let mut allowed: Vec<Finding> = self.hits.iter().filter(|hit| is_allow(hit)).map(|hit| hit.finding).collect();
        if allowed.is_empty() {
            return;
        }
        // Sorted by beginning, with the farthest end so far: one search per finding.
        allowed.sort_by_key(|f| f.raw_start);
        let mut farthest = 0;
        let reach: Vec<(u32, u32)> = allowed
            .iter()
            .map(|f| {
                farthest = farthest.max(f.raw_end);
                (f.raw_start, farthest)
            })
            .collect();
        self.hits.retain(|hit| {
            let before = reach.partition_point(|entry| entry.0 <= hit.finding.raw_start);
            let inside = before.checked_sub(1).is_some_and(|i| reach[i].1 >= hit.finding.raw_end);
            is_allow(hit) || !inside
        });
    }

    /// Writes the body with everything masked that must be; false when nothing must.
    fn mask(&self, body: &[u8], masked: &mut Vec<u8>) -> bool {
        let mut copied = 0;
        let mut any = false;
        for Hit { finding, kind } in &self.hits {
            if finding.action != Action::Mask || finding.shadow {
                continue;
            }
            let (start, end) = (finding.raw_start as usize, finding.raw_end as usize);
            let (Some(between), true) = (body.get(copied.min(start)..start), end <= body.len()) else { continue };
            any = true;
            if start >= copied {
                masked.extend_from_slice(between);
                let rule = &self.plan.ruleset.rules()[usize::from(finding.rule)];
                write_mask(*kind, &rule.mask, masked);
            }
            copied = copied.max(end);
        }
        if any {
            masked.extend_from_slice(&body[copied..]);
        }
        any
    }
}

/// Makes sorted regions of each rule disjoint. Anchored ones stay as they are.
fn merge(regions: &mut Vec<Region>) {
    regions.dedup_by(|next, last| {
        let join = next.rule == last.rule && !next.anchored && !last.anchored && next.from <= last.to;
        if join {
            last.to = last.to.max(next.to);
        }
        join || next == last
    });
}

/// A match's place in channel and body. In a member, a match that reaches into the value means the value's
/// part; the name and the syntax between them are never touched by it.
fn place(
    batch: &Batch,
    piece: &Piece,
    rule: u16,
    (action, shadow): (Action, bool),
    span: std::ops::Range<u32>,
) -> Option<Hit> {
    let origin = |at: u32| piece.origin + (at - piece.start);
    let (mut start, mut end) = (span.start, span.end);
    let mut base = 0;
    let mut kind = piece.kind;
    if let Some(value) = piece.value {
        if origin(end) > value {
            start = start.max((piece.start + value).saturating_sub(piece.origin));
            base = value;
        } else {
            end = end.min((piece.start + piece.name_end).saturating_sub(piece.origin));
            if kind == Kind::JsonNumber {
                kind = Kind::JsonString;
            }
        }
    }
    if start >= end {
        return None;
    }
    let (raw_start, raw_end) = match kind {
        Kind::JsonNumber => piece.token,
        _ => (batch.to_raw(piece, start, false), batch.to_raw(piece, end, true)),
    };
    let (start, end) = (origin(start) - base, origin(end) - base);
    let finding = Finding { rule, action, shadow, channel: piece.channel, start, end, raw_start, raw_end };
    Some(Hit { finding, kind })
}

fn write_mask(kind: Kind, mask: &str, out: &mut Vec<u8>) {
    match kind {
        Kind::Text => out.extend_from_slice(mask.as_bytes()),
        Kind::JsonString => write_json(mask, out),
        Kind::JsonNumber => {
            out.push(b'"');
            write_json(mask, out);
            out.push(b'"');
        }
        Kind::Form => {
            for &byte in mask.as_bytes() {
                match byte {
                    b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'*' => out.push(byte),
                    b' ' => out.push(b'+'),
                    _ => {
                        out.push(b'%');
                        out.extend_from_slice(hex::encode_upper([byte]).as_bytes());
                    }
                }
            }
        }
    }
}

/// The inside of a JSON string.
fn write_json(text: &str, out: &mut Vec<u8>) {
    let quoted = serde_json::Value::from(text).to_string();
    out.extend_from_slice(&quoted.as_bytes()[1..quoted.len() - 1]);
}
