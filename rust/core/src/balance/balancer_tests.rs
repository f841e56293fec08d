//! Virtual time, real shared memory.

use super::super::plan::plan;
use super::*;
use crate::shared::{Layout, Shared};
use proptest::prelude::*;

fn shared() -> Shared {
    let file = tempfile::tempfile().unwrap();
    Shared::format(&file, Layout::for_workers(2)).unwrap()
}

fn at(seconds: u64) -> Instant {
    Instant(seconds * 1_000_000_000)
}

fn down(shared: &Shared, plan: &ServicePlan, index: usize, word: u64) {
    state::claim(shared, plan.endpoints[index].key, at(0)).unwrap().set(Word::Main, word);
}

const THREE: &str = r#"endpoints = ["http://a", "http://b", "http://c"]"#;

#[test]
fn round_robin_takes_turns_and_keeps_them_over_a_reload() {
    let shared = shared();
    let old = plan("s", THREE);
    let new = plan("s", r#"endpoints = ["http://a", "http://b", "http://c", "http://d"]"#);
    let mut b = Balancer::new();
    let pick = |b: &mut Balancer, plan: &ServicePlan| b.pick(plan, &shared, at(1), 0, &[]).unwrap();
    assert_eq!([0; 4].map(|_| pick(&mut b, &old)), [0, 1, 2, 0]);
    b.started(&old, 1);
    assert_eq!([0; 4].map(|_| pick(&mut b, &new)), [1, 2, 3, 0]);
    b.retain([&new]);
    assert_eq!(pick(&mut b, &new), 1);
    assert_eq!(b.in_flight(old.endpoints[1].key), 1);
    b.finished(&old, 1, &shared, at(2), false);
    assert_eq!(b.in_flight(new.endpoints[1].key), 0);
}

#[test]
fn services_are_told_apart_before_and_after_one_is_dropped() {
    let shared = shared();
    let (one, two) = (plan("one", THREE), plan("two", THREE));
    let mut b = Balancer::new();
    let pick = |b: &mut Balancer, plan: &ServicePlan| b.pick(plan, &shared, at(1), 0, &[]).unwrap();
    let turns = [&one, &one, &two, &one, &two].map(|plan| pick(&mut b, plan));
    assert_eq!(turns, [0, 1, 0, 2, 1]);
    b.retain([&two]);
    assert_eq!([&two, &one, &two].map(|plan| pick(&mut b, plan)), [2, 0, 0]);
}

#[test]
fn weights_are_spread_smoothly() {
    let shared = shared();
    let plan = plan(
        "s",
        r#"endpoints = [{ url = "http://a", weight = 5 }, "http://b", "http://c", { url = "http://d", weight = 0 }]"#,
    );
    let mut b = Balancer::new();
    let order: Vec<_> = (0..7).map(|_| b.pick(&plan, &shared, at(1), 0, &[]).unwrap()).collect();
    assert_eq!(order, [0, 0, 1, 0, 2, 0, 0]);
}

#[test]
fn down_endpoints_are_never_used_and_tried_ones_last() {
    let shared = shared();
    for strategy in ["round-robin", "least-in-flight"] {
        let plan = plan("s", &format!("{THREE}\nstrategy = \"{strategy}\"\nhealth = {{ path = \"/\" }}"));
        let mut b = Balancer::new();
        let mut pick = |entropy, tried: &[u32]| b.pick(&plan, &shared, at(1), entropy, tried);
        down(&shared, &plan, 1, DOWN);
        for entropy in 0..20 {
            assert_ne!(pick(entropy << 30, &[]), Ok(1));
            assert_eq!(pick(entropy << 30, &[0]), Ok(2));
            assert_ne!(pick(entropy << 30, &[0, 2]), Ok(1));
        }
        down(&shared, &plan, 0, DOWN);
        down(&shared, &plan, 2, DOWN);
        assert_eq!(pick(3, &[]), Err(Code::NoEndpoint));
        down(&shared, &plan, 1, state::UP);
        assert_eq!(pick(3, &[]), Ok(1));
        down(&shared, &plan, 0, 0);
        down(&shared, &plan, 2, 0);
    }
    // Without a health check the word of a former configuration means nothing.
    let unchecked = plan("s", r#"endpoints = ["http://a"]"#);
    down(&shared, &unchecked, 0, DOWN);
    assert_eq!(Balancer::new().pick(&unchecked, &shared, at(1), 0, &[]), Ok(0));
}

const OUTLIER: &str = r#"
endpoints = ["http://a", "http://b", "http://c", "http://d"]
outlier = { consecutive_failures = 3, base_ejection = "10s", max_ejection = "25s" }
"#;

fn fail(b: &mut Balancer, plan: &ServicePlan, index: u32, shared: &Shared, now: Instant, times: u32) -> bool {
    (0..times).fold(false, |_, _| {
        b.started(plan, index);
        b.finished(plan, index, shared, now, true)
    })
}

#[test]
fn failures_in_a_row_eject_for_longer_and_longer_and_calm_forgives() {
    let shared = shared();
    let plan = plan("s", OUTLIER);
    // Two workers see the same state.
    let (mut one, mut two) = (Balancer::new(), Balancer::new());
    let uses = |b: &mut Balancer, now| (0..8).any(|_| b.pick(&plan, &shared, now, 0, &[]) == Ok(2));
    assert!(uses(&mut one, at(0)) && uses(&mut two, at(0)));
    assert!(!fail(&mut one, &plan, 2, &shared, at(0), 2));
    two.finished(&plan, 2, &shared, at(0), false);
    assert!(!fail(&mut one, &plan, 2, &shared, at(0), 2), "a success ends the run");
    assert!(fail(&mut two, &plan, 2, &shared, at(0), 1));
    assert!(!uses(&mut one, at(9)) && !uses(&mut two, at(9)));
    assert!(uses(&mut one, at(10)) && uses(&mut two, at(10)));
    assert!(fail(&mut one, &plan, 2, &shared, at(11), 3));
    assert!(!uses(&mut one, at(30)) && uses(&mut one, at(31)), "second ejection: 20 s");
    assert!(fail(&mut one, &plan, 2, &shared, at(32), 3));
    assert!(!uses(&mut one, at(56)) && uses(&mut one, at(57)), "third ejection: capped at 25 s");
    assert!(fail(&mut one, &plan, 2, &shared, at(90), 3));
    assert!(!uses(&mut one, at(99)) && uses(&mut one, at(100)), "after 25 s of calm it starts over");
}

#[test]
fn no_more_than_the_share_is_ejected_and_nothing_left_means_panic() {
    let shared = shared();
    let plan = plan("s", OUTLIER);
    let mut b = Balancer::new();
    b.pick(&plan, &shared, at(0), 0, &[]).unwrap();
    let ejected: Vec<_> = (0..4).map(|i| fail(&mut b, &plan, i, &shared, at(0), 3)).collect();
    assert_eq!(ejected, [true, true, false, false]);
    let all = plan_all();
    let ejected: Vec<_> = (0..2)
        .map(|i| {
            b.pick(&all, &shared, at(0), 0, &[]).unwrap();
            fail(&mut b, &all, i, &shared, at(0), 3)
        })
        .collect();
    assert_eq!(ejected, [true, true]);
    let mut picks: Vec<_> = (0..2).map(|_| b.pick(&all, &shared, at(1), 0, &[]).unwrap()).collect();
    picks.sort();
    assert_eq!(picks, [0, 1]);
    assert_eq!(b.pick(&all, &shared, at(1), 0, &[0]), Ok(1));
    // A healthy endpoint that was tried goes before an ejected one that was not.
    let mixed = plan_mixed();
    let mut b = Balancer::new();
    b.pick(&mixed, &shared, at(0), 0, &[]).unwrap();
    assert!(fail(&mut b, &mixed, 0, &shared, at(0), 3));
    assert_eq!(b.pick(&mixed, &shared, at(1), 0, &[1]), Ok(1));
}

fn plan_all() -> ServicePlan {
    plan(
        "all",
        "endpoints = [\"http://a\", \"http://b\"]\noutlier = { consecutive_failures = 3, max_ejected_percent = 100 }",
    )
}

fn plan_mixed() -> ServicePlan {
    plan("mixed", "endpoints = [\"http://a\", \"http://b\"]\noutlier = { consecutive_failures = 3 }")
}

#[test]
fn the_less_loaded_of_two_is_taken() {
    let shared = shared();
    let plan = plan("s", &format!("{THREE}\nstrategy = \"least-in-flight\""));
    let mut b = Balancer::new();
    let mut random = 1u64;
    for _ in 0..3000 {
        random = random.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        let picked = b.pick(&plan, &shared, at(1), random ^ (random >> 29), &[]).unwrap();
        b.started(&plan, picked);
    }
    let loads: Vec<_> = plan.endpoints.iter().map(|e| b.in_flight(e.key)).collect();
    assert!(loads.iter().all(|l| l.abs_diff(1000) <= 3), "{loads:?}");
    // The busier one of a pair never wins.
    (0..500).for_each(|_| b.started(&plan, 0));
    assert!((0..64u64).all(|e| b.pick(&plan, &shared, at(1), e << 58 | e << 26, &[]).unwrap() != 0));
}

#[test]
fn retries_have_a_budget() {
    let shared = shared();
    let plan = plan("s", THREE);
    let mut b = Balancer::new();
    assert_eq!((0..5).filter(|_| b.retry_allowed(&plan, 20)).count(), 3);
    (0..30).for_each(|_| b.started(&plan, 0));
    assert_eq!((0..9).filter(|_| b.retry_allowed(&plan, 20)).count(), 3);
    b.retry_end(&plan);
    assert!(b.retry_allowed(&plan, 20));
    assert!(!b.retry_allowed(&plan, 20));
    (0..30).for_each(|_| _ = b.finished(&plan, 0, &shared, at(0), false));
    assert_eq!(b.in_flight(plan.endpoints[0].key), 0);
}

#[test]
fn a_taken_over_entry_is_found_again() {
    let shared = shared();
    let plan = plan("s", "endpoints = [\"http://a\"]\nhealth = { path = \"/\" }");
    let key = plan.endpoints[0].key;
    let mut b = Balancer::new();
    assert_eq!(b.pick(&plan, &shared, at(0), 0, &[]), Ok(0));
    // Strangers with the same home fill the window, stay, and an hour later one takes over.
    let rival = |n: u64| (key & 0xff_ffff_ffff) | (n << 40);
    for n in 1..16 {
        assert!(state::claim(&shared, rival(n), at(3000)).is_some());
    }
    assert!(state::claim(&shared, rival(16), at(3600)).is_none(), "nothing is stale yet");
    assert!(state::claim(&shared, rival(16), at(3700)).is_some());
    assert!(state::find(&shared, key).is_none());
    assert_eq!(b.pick(&plan, &shared, at(3701), 0, &[]), Ok(0));
    assert_eq!(b.pick(&plan, &shared, at(7000), 0, &[]), Ok(0), "no room: served without shared state");
}

#[test]
fn what_a_former_owner_left_reads_as_nothing() {
    let shared = shared();
    let (old, new) = (0x0000_0100_0000_0001u64, 0x0000_0200_0000_0001u64);
    let late = state::claim(&shared, old, at(0)).unwrap();
    late.set(Word::Main, DOWN);
    for n in 3..18 {
        state::claim(&shared, n << 40 | 1, at(9000)).unwrap();
    }
    let entry = state::claim(&shared, new, at(9000)).unwrap();
    assert_eq!(entry.get(Word::Main), 0);
    late.set(Word::Second, 77);
    assert_eq!(entry.get(Word::Second), 0);
    assert_eq!(entry.update(Word::Second, |v| Some(v + 1)), Some((0, 1)));
}

proptest! {
    #[test]
    fn any_weights_are_met_exactly_over_a_round(weights in prop::collection::vec(0u32..9, 1..8)) {
        prop_assume!(weights.iter().any(|&w| w > 0));
        let list: Vec<_> = weights
            .iter()
            .enumerate()
            .map(|(i, w)| format!("{{ url = \"http://h{i}\", weight = {w} }}"))
            .collect();
        let plan = plan("s", &format!("endpoints = [{}]", list.join(",")));
        let shared = shared();
        let mut b = Balancer::new();
        let mut counts = vec![0u32; weights.len()];
        let round: u32 = if plan.even { weights.len() as u32 } else { weights.iter().sum() };
        for _ in 0..round {
            counts[b.pick(&plan, &shared, at(0), 0, &[]).unwrap() as usize] += 1;
        }
        prop_assert_eq!(counts, if plan.even { vec![1; weights.len()] } else { weights });
    }

    #[test]
    fn two_draws_differ_and_have_weight(weights in prop::collection::vec(0u32..9, 2..8), entropy: u64) {
        prop_assume!(weights.iter().filter(|&&w| w > 0).count() > 1);
        let list: Vec<_> = weights
            .iter()
            .enumerate()
            .map(|(i, w)| format!("{{ url = \"http://h{i}\", weight = {w} }}"))
            .collect();
        let plan = plan("s", &format!("endpoints = [{}]", list.join(",")));
        let (a, b) = two_by_weight(&plan, entropy);
        prop_assert!(a != b && weights[a] > 0 && weights[b] > 0);
    }
}
