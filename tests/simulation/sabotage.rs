//! Bugs that are broken into the machines on purpose: each has to be found, or the checks are
//! worth nothing.

use ufx::proto::{Bug, Sabotage};

use crate::check::run_as;
use crate::draw;
use crate::shrink::quietly;

/// Seeds after which a bug counts as overlooked: a twentieth of what a test run covers.
const SEEDS: u64 = 1_000;

#[test]
fn every_bug_that_is_broken_in_is_found() {
    let mut overlooked = Vec::new();
    for bug in Bug::ALL {
        let found = (0..SEEDS).find_map(|seed| fails(seed, bug).map(|how| (seed, how)));
        match found {
            Some((seed, how)) => {
                let how = how.lines().next().unwrap_or_default().to_owned();
                println!("{bug:?}: found by seed {seed}: {how}");
            }
            None => overlooked.push(bug),
        }
    }
    assert!(overlooked.is_empty(), "nothing noticed {overlooked:?}");
}

/// What a seed fails with when a bug is in.
fn fails(seed: u64, bug: Bug) -> Option<String> {
    let scenario = draw::scenario(seed);
    let mut simulation = scenario.simulation();
    simulation.tells = false;
    for transfer in &mut simulation.transfers {
        transfer.config.sabotage = Sabotage::of(bug);
    }
    for receiver in &mut simulation.receivers {
        receiver.config.sabotage = Sabotage::of(bug);
    }
    quietly(|| _ = run_as(&scenario, simulation))
}
