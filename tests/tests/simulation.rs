//! Whole committees in a deterministic simulation. A seed that fails is told, and
//! `cargo run -p tests --example simulate -- --seed N` tells its story.

use tests::simulation::{explore, run};

#[test]
fn in_ten_thousand_seeds_no_promise_is_broken() {
    let explored = explore(0, 10_000, |_| ());
    assert_eq!(explored.broken, None);
    // What did not happen was not shown.
    let counts = explored.counts;
    println!("{counts:#?}");
    for (what, count, least) in [
        ("signed", counts.signed, 25_000),
        ("refused", counts.refused, 10_000),
        ("unavailable", counts.unavailable, 10_000),
        ("ended", counts.ends, 15_000),
        ("put back", counts.put_back, 3_000),
        ("troubles of disks", counts.troubles, 25_000),
        ("signed at last", counts.signed_at_last, 8_000),
        ("raced", counts.raced, 7_000),
        ("signed without a promise", counts.led, 8_000),
        ("false partials exposed", counts.exposed, 500),
    ] {
        assert!(count >= least, "only {count} times: {what}");
    }
}

#[test]
fn a_seed_is_the_same_story_whenever_it_is_told() {
    for seed in 0..150 {
        let (first, counts) = run(seed, true);
        let (second, again) = run(seed, true);
        assert_eq!(first.story, second.story, "seed {seed}");
        assert_eq!(
            (first.digest, counts),
            (second.digest, again),
            "seed {seed}"
        );
        let (untold, _) = run(seed, false);
        assert_eq!(
            untold.digest, first.digest,
            "seed {seed}, if nobody listens"
        );
    }
}
