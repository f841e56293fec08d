//! What calls cost: a catalogue of prices, and exact arithmetic over them.
//!
//! Rules:
//! 1. Money is whole pico-dollars (10⁻¹² USD). A price of a dollar per million tokens is a million of them per token,
//!    so that six decimals of what providers publish are exact, and a sum of costs is exact, too. No float, no rounding.
//! 2. What has no price costs `None`, never nothing. A part is priced as the whole it belongs to only where that cannot
//!    be too little (cached input, reasoning); for the rest (cache writes, sound, images) its rate must be there.
//! 3. A tier holds for the whole call as soon as its prompt is longer than the tier's bound.

mod catalogue;
mod rate;

pub use catalogue::{Catalogue, Entry};
pub use rate::{Cost, Rate};

use super::Usage;

/// Rates of a model. Those of parts are instead of their whole's.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Deserialize, serde::Serialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Rates {
    /// Prompt, in USD per million tokens, as all others.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub input: Option<Rate>,
    /// Answer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub output: Option<Rate>,
    /// Prompt that came from the provider's cache; as `input` if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cached_read: Option<Rate>,
    /// Prompt that went into the provider's cache.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cached_write: Option<Rate>,
    /// Reasoning within the answer; as `output` if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reasoning: Option<Rate>,
    /// Sound within the prompt.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub audio_input: Option<Rate>,
    /// Sound within the answer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub audio_output: Option<Rate>,
    /// Images within the answer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub image: Option<Rate>,
    /// Every call, in USD per million calls.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub call: Option<Rate>,
}

/// Other rates for prompts of more than `above` tokens; what is absent stays.
#[derive(Clone, Debug, PartialEq, Eq, serde::Deserialize, serde::Serialize, schemars::JsonSchema)]
#[schemars(extend("additionalProperties" = false))]
pub struct Tier {
    /// Holds for prompts of more tokens than this.
    pub above: u64,
    #[serde(flatten)]
    pub rates: Rates,
}

/// Prices of a model.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Deserialize, serde::Serialize, schemars::JsonSchema)]
#[schemars(extend("additionalProperties" = false))]
pub struct Prices {
    #[serde(flatten)]
    pub rates: Rates,
    /// In any order; the highest bound that is exceeded counts.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tiers: Vec<Tier>,
}

impl Prices {
    /// What a call costs; `None` if something it used has no price, or the sum does not fit.
    pub fn cost(&self, usage: &Usage) -> Option<Cost> {
        self.rates(usage.input).cost(usage)
    }

    /// The rates that hold for a prompt of `input` tokens.
    pub fn rates(&self, input: u64) -> Rates {
        let exceeded = self.tiers.iter().filter(|tier| input > tier.above).max_by_key(|tier| tier.above);
        exceeded.map_or(self.rates, |tier| tier.rates.or(&self.rates))
    }
}

impl Rates {
    fn or(&self, base: &Rates) -> Rates {
        Rates {
            input: self.input.or(base.input),
            output: self.output.or(base.output),
            cached_read: self.cached_read.or(base.cached_read),
            cached_write: self.cached_write.or(base.cached_write),
            reasoning: self.reasoning.or(base.reasoning),
            audio_input: self.audio_input.or(base.audio_input),
            audio_output: self.audio_output.or(base.audio_output),
            image: self.image.or(base.image),
            call: self.call.or(base.call),
        }
    }

    fn cost(&self, usage: &Usage) -> Option<Cost> {
        // Parts are taken off their whole one after the other, so that each token is paid once even where a provider's
        // parts add up to more.
        let (mut input, mut output) = (usage.input, usage.output);
        let part = |whole: &mut u64, count: u64| {
            let taken = count.min(*whole);
            *whole -= taken;
            taken
        };
        let written = part(&mut input, usage.cached_write);
        let read = part(&mut input, usage.cached_read);
        let heard = part(&mut input, usage.audio_input);
        let said = part(&mut output, usage.audio_output);
        let drawn = part(&mut output, usage.image);
        let reasoned = part(&mut output, usage.reasoning);
        let parts = [
            (written, self.cached_write),
            (read, self.cached_read.or(self.input)),
            (heard, self.audio_input),
            (input, self.input),
            (said, self.audio_output),
            (drawn, self.image),
            (reasoned, self.reasoning.or(self.output)),
            (output, self.output),
        ];
        let mut sum = self.call.map_or(Some(Cost::ZERO), |rate| rate.times(1))?;
        for (count, rate) in parts {
            if count > 0 {
                sum = sum.plus(rate?.times(count)?)?;
            }
        }
        // A model without a single price is unknown, even if the call used nothing.
        (*self != Rates::default()).then_some(sum)
    }
}

#[cfg(test)]
mod tests;
