//! Limits across real processes: the test binary starts itself again, and kills some of what it started.

use super::{concurrency, gcra, Quota};
use crate::config::Rate;
use crate::shared::{Layout, Shared};
use crate::time::Instant;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

const FILE: &str = "PYGATE_TEST_SHARED_FILE";
const WORKER: &str = "PYGATE_TEST_WORKER";
const KEY: u64 = 0xabcd_0123_4567_89ef;

fn spread(n: u64) -> u64 {
    (n + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15)
}

/// Starts this test once more as worker number `worker`.
fn again(test: &str, file: &Path, worker: usize) -> Child {
    Command::new(std::env::current_exe().unwrap())
        .args(["--exact", test, "--nocapture", "--test-threads=1"])
        .env(FILE, file)
        .env(WORKER, worker.to_string())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap()
}

/// Set in a process started by [`again`].
fn worker() -> Option<(Shared, usize)> {
    let file = std::env::var_os(FILE)?;
    let worker = std::env::var(WORKER).ok()?.parse().ok()?;
    Some((Shared::open(Path::new(&file)).unwrap(), worker))
}

/// The number a child printed behind `count=`.
fn count(child: Child) -> u64 {
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success(), "{output:?}");
    let text = String::from_utf8(output.stdout).unwrap();
    let rest = text.split("count=").nth(1).unwrap();
    rest.split_whitespace().next().unwrap().parse().unwrap()
}

#[test]
fn processes_share_one_quota_exactly() {
    let quota = Quota::new(Rate::parse("1/h").unwrap(), 300).unwrap();
    if let Some((shared, _)) = worker() {
        let tries = (0..2_000).filter(|_| gcra::check(&shared, &quota, KEY, 1, Instant(0)).unwrap().allowed);
        println!("count={} ", tries.count());
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("shared");
    Shared::create(&file, Layout::for_workers(4)).unwrap();
    let test = "limit::process_tests::processes_share_one_quota_exactly";
    let children: Vec<_> = (0..4).map(|worker| again(test, &file, worker)).collect();
    assert_eq!(children.into_iter().map(count).sum::<u64>(), 300);
}

#[test]
fn killed_processes_leave_limits_working() {
    if let Some((shared, worker)) = worker() {
        let quota = Quota::new(Rate::parse("1/h").unwrap(), 4).unwrap();
        // Until killed: fresh keys, old keys, places taken and given back.
        for n in 0u64.. {
            gcra::check(&shared, &quota, spread(n % 50_000), 1, Instant(n << 12));
            let hold = concurrency::acquire(&shared, worker, KEY, 2);
            if let (Ok(hold), true) = (hold, n % 7 > 0) {
                concurrency::release(&shared, worker, hold);
            }
        }
    }
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("shared");
    let shared = Shared::create(&file, Layout::for_workers(3)).unwrap();
    for round in 0..8 {
        let test = "limit::process_tests::killed_processes_leave_limits_working";
        let children: Vec<_> = (0..2).map(|worker| again(test, &file, worker)).collect();
        std::thread::sleep(Duration::from_millis(40 + 11 * round));
        for (worker, mut child) in children.into_iter().enumerate() {
            child.kill().unwrap();
            assert!(!child.wait().unwrap().success());
            concurrency::clear_worker(&shared, worker);
        }
        assert_eq!(concurrency::in_flight(&shared, KEY), 0);
        let holds: Vec<_> = (0..2).map(|_| concurrency::acquire(&shared, 2, KEY, 2).unwrap()).collect();
        assert_eq!(concurrency::acquire(&shared, 2, KEY, 2), Err(concurrency::Refusal::Full));
        holds.into_iter().for_each(|hold| concurrency::release(&shared, 2, hold));
        // Long after everything is paid off, every key has its whole burst, once.
        let quota = Quota::new(Rate::parse("1/m").unwrap(), 3).unwrap();
        let now = Instant((round + 1) * 86_400_000_000_000);
        for key in 0..2_000u64 {
            let key = spread(key);
            let allowed = (0..5).filter(|_| gcra::check(&shared, &quota, key, 1, now).unwrap().allowed);
            assert_eq!(allowed.count(), 3);
        }
    }
}
