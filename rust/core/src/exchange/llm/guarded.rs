//! The guard on streams: what a model says is judged as the text it is, not only as the events it comes in.

use super::super::Engine;
use super::Answering;
use crate::guard::{ContentKind, Judging, Verdict};
use crate::llm::{event_stream, sse, Dialect};
use crate::revision::GuardPlan;
use serde_json::Value;
use std::collections::BTreeMap;

/// Longest place of a text that is told apart from others.
const MAX_PLACE: usize = 256;

impl Engine {
    /// Whether what a judged stream says in its deltas passes the guard. A match that spans deltas cannot be masked in
    /// them: it blocks.
    pub(in super::super) fn stream_passes(&mut self, ex: u32, guard: &GuardPlan, body: &[u8]) -> bool {
        let exchange = &self.exchanges[ex as usize];
        let Some(call) = exchange.llm.as_deref() else { return true };
        let streamed = call.stream || matches!(call.answering, Answering::Stream(_));
        let (Some(plan), true) = (&guard.response, streamed) else { return true };
        for text in texts(call.dialect, body) {
            let mut judging = Judging::new(plan, ContentKind::Unknown);
            let mut rest = text.as_bytes();
            while !rest.is_empty() {
                match judging.feed(rest) {
                    Ok(taken) => rest = &rest[taken..],
                    Err(_) => return false,
                }
            }
            match judging.finish(text.as_bytes(), &mut Vec::new()) {
                Ok(judged) => {
                    if judged.verdict != Verdict::Pass {
                        self.note_findings(ex, Some(plan.ruleset().clone()), &judged.findings, true);
                        return false;
                    }
                }
                Err(_) => return false,
            }
        }
        true
    }
}

/// The texts of a stream: strings that stand at the same place of one event after the other, joined.
fn texts(dialect: Dialect, body: &[u8]) -> Vec<String> {
    let mut found = BTreeMap::new();
    let mut rest = body;
    if dialect == Dialect::Bedrock {
        let mut reader = event_stream::Reader::default();
        while let Ok(Some(frame)) = reader.next(&mut rest) {
            join(frame.payload, &mut found);
        }
    } else {
        let mut reader = sse::Reader::default();
        while let Ok(Some(event)) = reader.next(&mut rest) {
            join(event.data, &mut found);
        }
    }
    found.into_values().collect()
}

fn join(data: &[u8], found: &mut BTreeMap<String, String>) {
    if let Ok(value) = serde_json::from_slice::<Value>(data) {
        walk(&value, &mut String::new(), found);
    }
}

fn walk(value: &Value, place: &mut String, found: &mut BTreeMap<String, String>) {
    let length = place.len();
    match value {
        Value::String(text) if place.len() <= MAX_PLACE => found.entry(place.clone()).or_default().push_str(text),
        Value::Array(items) => {
            for item in items {
                walk(item, place, found);
            }
        }
        Value::Object(members) => {
            // Choices, blocks and calls say which they are.
            for name in ["index", "output_index", "content_index", "contentBlockIndex"] {
                if let Some(number) = members.get(name).and_then(Value::as_u64) {
                    place.push_str(&format!("#{number}"));
                }
            }
            let numbered = place.len();
            for (name, member) in members {
                place.push('.');
                place.push_str(name);
                walk(member, place, found);
                place.truncate(numbered);
            }
        }
        _ => {}
    }
    place.truncate(length);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn deltas_of_one_choice_are_one_text() {
        let chunk = |index: u8, text: &str| {
            format!("data: {{\"choices\":[{{\"index\":{index},\"delta\":{{\"content\":{text:?}}}}}]}}\n\n")
        };
        let stream = chunk(0, "41") + &chunk(1, "no") + &chunk(0, "11") + "data: [DONE]\n\n";
        let found = texts(Dialect::OpenAiChat, stream.as_bytes());
        assert!(found.contains(&"4111".to_owned()) && found.contains(&"no".to_owned()), "{found:?}");
        let events = "event: content_block_delta\ndata: {\"type\":\"content_block_delta\",\"index\":0,\"delta\":{\"text\":\"se\"}}\n\n\
            event: content_block_delta\ndata: {\"type\":\"content_block_delta\",\"index\":0,\"delta\":{\"text\":\"cret\"}}\n\n";
        assert!(texts(Dialect::Anthropic, events.as_bytes()).contains(&"secret".to_owned()));
    }
}
