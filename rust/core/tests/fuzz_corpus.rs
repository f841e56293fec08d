//! Replays the fuzz corpora in the tree: what a fuzzer once found interesting stays right.

#[path = "../../fuzz/src/lib.rs"]
mod fuzz;

use std::path::Path;

#[test]
fn every_seed_of_every_target_holds() {
    let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("../fuzz/corpus");
    for (name, _) in fuzz::TARGETS {
        let mut seeds = 0;
        for entry in std::fs::read_dir(corpus.join(name)).expect("a corpus for every target") {
            let path = entry.expect("an entry").path();
            let data = std::fs::read(&path).expect("a seed");
            // The name stands above a panic's message, should one come.
            println!("{}", path.display());
            fuzz::run(name, &data);
            seeds += 1;
        }
        assert!(seeds >= 5, "{name} has {seeds} seeds only");
    }
}

#[test]
fn every_corpus_has_its_target() {
    let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("../fuzz/corpus");
    for entry in std::fs::read_dir(corpus).expect("corpora") {
        let name = entry.expect("an entry").file_name().into_string().expect("a name");
        assert!(fuzz::TARGETS.iter().any(|(known, _)| *known == name), "no target is called {name}");
        assert!(Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("../fuzz/fuzz_targets/{name}.rs")).exists());
    }
}
