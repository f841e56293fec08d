use super::*;
use proptest::prelude::*;
use serde_json::json;

fn prices(value: serde_json::Value) -> Prices {
    serde_json::from_value(value).unwrap()
}

fn usage(input: u64, output: u64) -> Usage {
    Usage { input, output, complete: true, ..Usage::default() }
}

fn usd(prices: &Prices, usage: &Usage) -> Option<String> {
    prices.cost(usage).map(|cost| cost.to_string())
}

#[test]
fn rates_are_exact_decimals() {
    for (text, pico) in [("2.50", 2_500_000), ("0.0375", 37_500), ("0", 0), ("75", 75_000_000), ("0.000001", 1)] {
        let rate = Rate::parse(text).unwrap();
        assert_eq!(rate.pico(), pico);
        assert_eq!(Rate::parse(&rate.to_string()), Ok(rate));
    }
    for text in ["", ".", "1.", ".5", "-1", "+1", "1e3", "1.0000001", "1,5", " 1", "99999999999999", "1.2.3", "１"] {
        assert!(Rate::parse(text).is_err(), "{text}");
    }
    let read = |value: serde_json::Value| serde_json::from_value::<Rate>(value);
    assert_eq!(read(json!(3)).unwrap(), Rate::from_pico(3_000_000));
    assert!(read(json!(2.5)).unwrap_err().to_string().contains("in quotes"), "floats are refused");
    assert!(read(json!(-1)).is_err());
    assert_eq!(serde_json::to_value(Rate::from_pico(37_500)).unwrap(), json!("0.0375"));
}

#[test]
fn calls_cost_what_their_parts_cost() {
    let full = prices(json!({"input": "2.50", "output": "10.00", "cached_read": "1.25", "cached_write": "3.125",
        "reasoning": "12", "audio_input": "40", "audio_output": "80", "image": "30", "call": "1000"}));
    assert_eq!(usd(&full, &usage(1_000_000, 1_000_000)).unwrap(), "12.501");
    let all = Usage {
        input: 1000,
        output: 500,
        cached_read: 400,
        cached_write: 100,
        reasoning: 200,
        audio_input: 50,
        audio_output: 20,
        image: 30,
        complete: true,
    };
    // 450 × 2.5 + 400 × 1.25 + 100 × 3.125 + 50 × 40 + 250 × 10 + 200 × 12 + 20 × 80 + 30 × 30, + a thousandth
    assert_eq!(usd(&full, &all).unwrap(), "0.0123375");
    let plain = prices(json!({"input": "0.0375", "output": "0.15"}));
    assert_eq!(usd(&plain, &usage(1, 1)).unwrap(), "0.0000001875");
    assert_eq!(usd(&plain, &Usage { cached_read: 1, reasoning: 1, ..usage(1, 1) }).unwrap(), "0.0000001875");
    assert_eq!(usd(&plain, &usage(0, 0)).unwrap(), "0");
}

#[test]
fn what_has_no_price_is_unknown_and_never_free() {
    let plain = prices(json!({"input": "1", "output": "2"}));
    for parts in [
        Usage { cached_write: 1, ..usage(5, 5) },
        Usage { audio_input: 1, ..usage(5, 5) },
        Usage { audio_output: 1, ..usage(5, 5) },
        Usage { image: 1, ..usage(5, 5) },
    ] {
        assert_eq!(plain.cost(&parts), None, "{parts:?}");
    }
    let embedding = prices(json!({"input": "0.02"}));
    assert_eq!(usd(&embedding, &usage(1_000_000, 0)).unwrap(), "0.02");
    assert_eq!(embedding.cost(&usage(1, 1)), None);
    assert_eq!(Prices::default().cost(&usage(0, 0)), None);
    let dear = prices(json!({"input": "18000000", "output": "1"}));
    assert_eq!(dear.cost(&usage(u64::MAX, 0)), None);
    assert_eq!(dear.cost(&usage(1_000_001, u64::MAX)), None);
}

#[test]
fn tiers_hold_for_the_whole_call() {
    let tiered = prices(json!({"input": "1.25", "output": "10", "cached_read": "0.125", "tiers": [
        {"above": 500_000, "input": "5"}, {"above": 200_000, "input": "2.50", "output": "15"}]}));
    assert_eq!(usd(&tiered, &usage(200_000, 1000)).unwrap(), "0.26");
    assert_eq!(usd(&tiered, &usage(200_001, 1000)).unwrap(), "0.5150025");
    assert_eq!(tiered.rates(600_000).input, Rate::parse("5").ok());
    assert_eq!(tiered.rates(600_000).output, Rate::parse("10").ok());
    assert_eq!(tiered.rates(600_000).cached_read, Rate::parse("0.125").ok());
}

fn entry(provider: Option<&str>, model: &str, since: Option<&str>, input: &str) -> Entry {
    let since = since.map(str::to_owned);
    let prices = prices(json!({"input": input, "output": "1"}));
    Entry { model: model.into(), provider: provider.map(str::to_owned), since, prices }
}

#[test]
fn the_most_exact_entry_in_force_counts() {
    let catalogue = Catalogue::new(&[
        entry(None, "gpt-*", None, "1"),
        entry(None, "gpt-4o-*", None, "2"),
        entry(None, "gpt-4o", None, "3"),
        entry(Some("azure"), "gpt-4o", None, "4"),
        entry(Some("azure"), "gpt-4o-*", None, "5"),
        entry(None, "new", Some("2026-06-01"), "6"),
        entry(None, "new", Some("2026-01-01"), "7"),
        entry(None, "own", None, "8"),
        entry(None, "own", None, "9"),
        entry(Some("late"), "gpt-5", Some("2026-12-01"), "10"),
    ])
    .unwrap();
    for (provider, model, day, input) in [
        ("openai", "gpt-5", "2026-05-01", Some("1")),
        ("openai", "gpt-4o-2024-08-06", "2026-05-01", Some("2")),
        ("openai", "gpt-4o", "2026-05-01", Some("3")),
        ("azure", "gpt-4o", "2026-05-01", Some("4")),
        ("azure", "gpt-4o-x", "2026-05-01", Some("5")),
        ("x", "new", "2025-12-31", None),
        ("x", "new", "2026-01-01", Some("7")),
        ("x", "new", "2026-06-01", Some("6")),
        ("x", "own", "2026-06-01", Some("9")),
        ("late", "gpt-5", "2026-11-30", Some("1")),
        ("late", "gpt-5", "2026-12-01", Some("10")),
        ("x", "unheard-of", "2026-06-01", None),
    ] {
        let found = catalogue.find(provider, model, day).and_then(|prices| prices.rates.input);
        assert_eq!(found, input.map(|input| Rate::parse(input).unwrap()), "{provider} {model} {day}");
    }
}

#[test]
fn entries_that_mean_nothing_are_refused() {
    let good = entry(None, "a", Some("2026-01-31"), "1");
    assert!(Catalogue::new(std::slice::from_ref(&good)).is_ok());
    for (bad, expected) in [
        (Entry { model: "a*b".into(), ..good.clone() }, "`*` only at the end of `model`"),
        (Entry { since: Some("2026-13-01".into()), ..good.clone() }, "`since` as a day: `2026-01-31`"),
        (Entry { since: Some("2026-1-1".into()), ..good.clone() }, "`since` as a day: `2026-01-31`"),
        (Entry { prices: Prices::default(), ..good.clone() }, "at least one price"),
    ] {
        assert_eq!(Catalogue::new(&[good.clone(), bad]).unwrap_err(), (1, expected));
    }
    let text = json!({"model": "m", "input": "1", "tiers": [{"above": 5, "input": "2"}]});
    let read: Entry = serde_json::from_value(text.clone()).unwrap();
    assert_eq!(serde_json::to_value(&read).unwrap(), text);
}

proptest! {
    #[test]
    fn sums_are_exact(
        rates in proptest::collection::vec(0u64..100_000_000, 8), counts in proptest::collection::vec(0u64..1_000_000, 8),
    ) {
        let rate = |at: usize| Some(Rate::from_pico(rates[at]));
        let prices = Prices {
            rates: Rates {
                input: rate(0), output: rate(1), cached_read: rate(2), cached_write: rate(3), reasoning: rate(4),
                audio_input: rate(5), audio_output: rate(6), image: rate(7), call: None,
            },
            tiers: Vec::new(),
        };
        let usage = Usage {
            input: counts[0] + counts[2] + counts[3] + counts[5],
            output: counts[1] + counts[4] + counts[6] + counts[7],
            cached_read: counts[2], cached_write: counts[3], reasoning: counts[4], audio_input: counts[5],
            audio_output: counts[6], image: counts[7], complete: true,
        };
        let expected: u64 = rates.iter().zip(&counts).map(|(rate, count)| rate * count).sum();
        prop_assert_eq!(prices.cost(&usage), Some(Cost::from_pico(expected)));
    }

    #[test]
    fn any_usage_costs_something_or_is_unknown(counts in proptest::collection::vec(any::<u64>(), 8)) {
        let usage = Usage {
            input: counts[0], output: counts[1], cached_read: counts[2], cached_write: counts[3],
            reasoning: counts[4], audio_input: counts[5], audio_output: counts[6], image: counts[7], complete: false,
        };
        let rates = Rates { input: Rate::parse("1").ok(), output: Rate::parse("1").ok(), ..Rates::default() };
        let cost = Prices { rates, tiers: Vec::new() }.cost(&usage);
        prop_assert!(cost != Some(Cost::ZERO) || (usage.input == 0 && usage.output == 0));
    }

    #[test]
    fn texts_of_rates_are_read_or_refused(text in "[0-9]{0,22}(\\.[0-9]{0,8})?|.{0,6}") {
        if let Ok(rate) = Rate::parse(&text) {
            prop_assert_eq!(Rate::parse(&rate.to_string()), Ok(rate));
        }
    }
}
