//! Tens of thousands of transfers whose faults are drawn from a seed, with all of proto.md's
//! invariants checked on every event.
//!
//! `UFX_SEEDS=n` runs so many seeds, from `UFX_FIRST` on; `UFX_HOURS=h` runs seeds for so long;
//! `UFX_SEED=n` runs that one, tells its last events, and shortens it if it fails.

// Seeds to scenarios.
mod draw;
// What is a scenario, and what it means to `sim`.
mod scenario;
// What must hold at the end of a run.
mod check;
// What was met on the way.
mod coverage;
// Losses of one packet and of two, all there are.
mod losses;
// Scenarios that failed once.
mod replays;
// Bugs broken in on purpose.
#[cfg(debug_assertions)]
mod sabotage;
// From a failing scenario to its smallest form.
mod shrink;
// Many runs on all processors.
mod slice;

use std::time::Duration;

use crate::check::run;
use crate::shrink::{as_test, failure, shrink};
use crate::slice::{number, run_slice};

/// What a test run covers.
const SEEDS: u64 = 20_000;

#[test]
fn whatever_is_drawn_every_invariant_holds_on_every_event() {
    if let Some(seed) = number("UFX_SEED") {
        let scenario = draw::scenario(seed);
        println!("{}", scenario.to_text());
        if let Some(why) = failure(&scenario) {
            let least = shrink(&scenario, &|it| failure(it).is_some());
            println!("\n{}\n", as_test(&least, &why));
        }
        println!("{:#?}", run(&scenario, true));
        return;
    }
    let first = number("UFX_FIRST").unwrap_or(0);
    let time = number("UFX_HOURS").map(|hours| Duration::from_secs(3_600 * hours));
    let seeds = number("UFX_SEEDS").unwrap_or(if time.is_some() { u64::MAX / 2 } else { SEEDS });
    let slice = run_slice(first, seeds, time);
    let missing = coverage::report(&slice.counters);
    slice.report();
    assert!(slice.failed.is_empty(), "seeds failed: {:?}", slice.failed);
    if seeds < SEEDS {
        // Too few to have met everything.
        return;
    }
    assert!(slice.median >= 500, "half of the seeds have {} packets or fewer", slice.median);
    assert!(slice.large >= 0.05, "{} of the seeds have 20,000 packets", slice.large);
    assert!(slice.killed >= 0.3, "{} of the seeds have a kill", slice.killed);
    assert!(missing.is_empty(), "never met: {missing:?}");
}

#[test]
fn the_same_seed_gives_the_same_trace() {
    for seed in 0..100 {
        let scenario = draw::scenario(seed);
        let hashes = [(); 2].map(|()| run(&scenario, false).trace_hash);
        assert_eq!(hashes[0], hashes[1], "seed {seed}");
    }
}
