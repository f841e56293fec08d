//! What a call came to: usage, money, budgets, and its part of the record.

use super::super::Engine;
use super::answer::is_measured;
use crate::ai::keys::Kind as Counted;
use crate::error::Code;
use crate::limit::budget;
use crate::llm::usage::Ending;
use crate::llm::Usage;

/// Pico-dollars of a unit of a money counter: a millionth of a dollar.
pub(super) const PICO: u64 = 1_000_000;
/// Nano-dollars of one.
pub(super) const NANO: u64 = 1_000;

/// How a call was settled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Settled {
    pub usage: Usage,
    /// The provider did not say all of it.
    pub estimated: bool,
    /// None: something of it has no price.
    pub nano_usd: Option<u64>,
    pub end: &'static str,
}

impl Engine {
    /// Settles the call, once, and appends its part to the record that begins at `start` of the ledger.
    pub(in super::super) fn settle_call(&mut self, ex: u32) -> Option<Vec<u8>> {
        let unix = self.now.wall_ns / 1_000_000_000;
        self.land(ex);
        let exchange = &mut self.exchanges[ex as usize];
        let revision = exchange.revision.clone()?;
        let orphan = exchange.code == Some(Code::ClientClosed);
        let (truncated, status, asked_provider) = (exchange.truncated, exchange.status, exchange.sent.is_some());
        let call = exchange.llm.as_deref_mut()?;
        if call.settled.is_some() {
            return None;
        }
        let model = &revision.ai.models.get(call.model as usize);
        let target = call.target.and_then(|t| model.and_then(|m| m.targets.get(t as usize)));
        let meter = call.answering.meter();
        let good = status == 0 || (200..300).contains(&status);
        let mut usage = match meter {
            _ if !is_measured(call.kind) || !asked_provider => Usage { complete: true, ..Usage::default() },
            Some(meter) if good => meter.settle(call.prompt),
            // The provider had the prompt, and the client did not wait for its answer.
            None if orphan => Usage { input: call.prompt, ..Usage::default() },
            _ => Usage { complete: true, ..Usage::default() },
        };
        if let Some(meter) = meter.filter(|meter| meter.is_lost() && !usage.complete) {
            let held = call.held.iter().filter(|h| h.kind == Counted::OutputTokens).map(|h| h.amount).max();
            usage.output = usage.output.max(held.unwrap_or(0)).max(meter.spoken().tokens());
        }
        let cost = match target {
            None => Some(0),
            Some(_) if usage.total() == 0 => Some(0),
            Some(target) => target.prices.as_ref().and_then(|prices| prices.cost(&usage)).map(|cost| cost.pico()),
        };
        for held in &call.held {
            let actual = match held.kind {
                Counted::Requests => 1,
                Counted::InputTokens => usage.input,
                Counted::OutputTokens => usage.output,
                Counted::TotalTokens => usage.total(),
                // What cannot be priced keeps what was held for it.
                Counted::NanoUsd => cost.map_or(held.amount, |pico| pico.div_ceil(PICO)),
            };
            budget::settle(&self.shared, held.budget, held.amount, actual, unix);
        }
        let end = match meter.map(|meter| meter.ending()) {
            _ if orphan => "client",
            Some(Ending::Failed) => "error",
            Some(Ending::Open) if truncated => "cut",
            _ if truncated => "cut",
            _ if !good => "error",
            _ => "clean",
        };
        let settled =
            Settled { usage, estimated: !usage.complete, nano_usd: cost.map(|pico| pico.div_ceil(1000)), end };
        call.settled = Some(settled);
        let provider = target.map(|t| &revision.ai.providers[t.provider as usize]);
        let credential = provider.zip(call.credential).and_then(|(p, c)| p.credentials.get(c as usize));
        let key = call.key.as_deref();
        let ttft = call.first_token.map(|first| first.since(exchange.started).as_nanos() as u64);
        let losses: Vec<&str> = call.losses.iter().take(16).map(|loss| cut(loss)).collect();
        let record = serde_json::json!({
            "dialect": call.dialect.name(),
            "operation": call.kind.name(),
            "model": cut(&call.asked),
            "target": target.map_or("", |t| &t.model),
            "provider": provider.map_or("", |p| &p.name),
            "credential": credential.map_or("", |c| &c.name),
            "key": key.map_or("", |k| &k.id),
            "team": key.map_or("", |k| &k.team),
            "project": key.map_or("", |k| &k.project),
            "stream": call.stream,
            "input": usage.input,
            "output": usage.output,
            "cached_read": usage.cached_read,
            "cached_write": usage.cached_write,
            "reasoning": usage.reasoning,
            "audio_input": usage.audio_input,
            "audio_output": usage.audio_output,
            "estimated": settled.estimated,
            "nano_usd": settled.nano_usd,
            "ttft_ns": ttft,
            "end": end,
            "cache": if call.cached { "hit" } else { "" },
            "loss": losses,
        });
        serde_json::to_vec(&record).ok()
    }
}

/// At most 256 bytes of a text that a client chose.
fn cut(text: &str) -> &str {
    let mut end = text.len().min(256);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    &text[..end]
}
