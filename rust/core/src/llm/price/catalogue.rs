//! The prices in force: which entry a model of a provider on a given day is.
//!
//! An entry names a model, or models by a prefix that ends in `*`, of one provider or of any. The more exact entry
//! wins: a whole name before a prefix, with the provider before without, a longer prefix before a shorter. Among
//! entries that are equally exact the latest `since` that has come counts, then the later in the list, so that a
//! file of one's own overrides the one that is shipped.

use super::Prices;
use std::collections::HashMap;

#[derive(Clone, Debug, PartialEq, Eq, serde::Deserialize, serde::Serialize, schemars::JsonSchema)]
pub struct Entry {
    /// The model as its provider names it; `*` at the end stands for anything.
    pub model: String,
    /// Name of the provider; any if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub provider: Option<String>,
    /// First day it holds, as `2026-01-31`; always if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub since: Option<String>,
    #[serde(flatten)]
    pub prices: Prices,
}

#[derive(Clone, Debug, Default)]
pub struct Catalogue {
    names: HashMap<String, Vec<Offer>>,
    /// By prefix without `*`, longest first.
    prefixes: Vec<(String, Vec<Offer>)>,
}

/// What a provider (any, if none) asks for a name.
#[derive(Clone, Debug)]
struct Offer {
    provider: Option<String>,
    dated: Dated,
}

/// Prices by the first day they hold, earliest first; of one day the last counts.
type Dated = Vec<(Option<String>, Prices)>;

impl Catalogue {
    /// Refused is an entry without any price, with `*` elsewhere than at the end, or a day that is none; told is its
    /// index.
    pub fn new(entries: &[Entry]) -> Result<Catalogue, (usize, &'static str)> {
        let mut catalogue = Catalogue::default();
        for (index, entry) in entries.iter().enumerate() {
            let refused = |expected| Err((index, expected));
            let bare = entry.model.strip_suffix('*').unwrap_or(&entry.model);
            if bare.contains('*') {
                return refused("`*` only at the end of `model`");
            }
            if entry.since.as_deref().is_some_and(|since| !is_day(since)) {
                return refused("`since` as a day: `2026-01-31`");
            }
            if entry.prices.rates == super::Rates::default() {
                return refused("at least one price");
            }
            let offers = if bare.len() == entry.model.len() {
                catalogue.names.entry(entry.model.clone()).or_default()
            } else {
                let at = catalogue.prefixes.iter().position(|(prefix, _)| prefix == bare).unwrap_or_else(|| {
                    catalogue.prefixes.push((bare.to_owned(), Vec::new()));
                    catalogue.prefixes.len() - 1
                });
                &mut catalogue.prefixes[at].1
            };
            let at = offers.iter().position(|offer| offer.provider == entry.provider).unwrap_or_else(|| {
                offers.push(Offer { provider: entry.provider.clone(), dated: Dated::new() });
                offers.len() - 1
            });
            let dated = &mut offers[at].dated;
            dated.push((entry.since.clone(), entry.prices.clone()));
            dated.sort_by(|a, b| a.0.cmp(&b.0));
        }
        catalogue.prefixes.sort_by_key(|(prefix, _)| std::cmp::Reverse(prefix.len()));
        Ok(catalogue)
    }

    /// Prices of a provider's model on a day (`2026-01-31`).
    pub fn find<'c>(&'c self, provider: &str, model: &str, day: &str) -> Option<&'c Prices> {
        let by = |wanted: Option<&str>, offers: &'c [Offer]| {
            let mut offers = offers.iter().filter(|offer| offer.provider.as_deref() == wanted);
            offers.find_map(|offer| in_force(&offer.dated, day))
        };
        let exact = self.names.get(model).map(Vec::as_slice).unwrap_or_default();
        let prefixes = || self.prefixes.iter().filter(|(prefix, _)| model.starts_with(prefix.as_str()));
        by(Some(provider), exact)
            .or_else(|| by(None, exact))
            .or_else(|| prefixes().find_map(|(_, offers)| by(Some(provider), offers)))
            .or_else(|| prefixes().find_map(|(_, offers)| by(None, offers)))
    }
}

fn in_force<'d>(dated: &'d Dated, day: &str) -> Option<&'d Prices> {
    let begun = |(since, _): &&(Option<String>, Prices)| since.as_deref().is_none_or(|since| since <= day);
    dated.iter().rev().find(begun).map(|(_, prices)| prices)
}

fn is_day(text: &str) -> bool {
    let bytes = text.as_bytes();
    let number = |range: std::ops::Range<usize>| text.get(range).and_then(|part| part.parse::<u8>().ok());
    bytes.len() == 10
        && bytes
            .iter()
            .enumerate()
            .all(|(at, byte)| if at == 4 || at == 7 { *byte == b'-' } else { byte.is_ascii_digit() })
        && number(5..7).is_some_and(|month| (1..=12).contains(&month))
        && number(8..10).is_some_and(|day| (1..=31).contains(&day))
}
