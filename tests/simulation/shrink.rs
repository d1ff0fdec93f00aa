//! Makes a failing scenario as small as it gets while it still fails, and prints it as a test.

use std::cell::Cell;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Once;

use crate::check::run;
use crate::scenario::{Purpose, Scenario, What};

thread_local! {
    /// Whether panics of this thread are expected, and not worth a word.
    static IS_QUIET: Cell<bool> = const { Cell::new(false) };
}

/// Runs `work` without a word about its panics; what the panic said, if there was one.
pub fn quietly(work: impl FnOnce()) -> Option<String> {
    static HOOK: Once = Once::new();
    HOOK.call_once(|| {
        let before = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |info| {
            if !IS_QUIET.get() {
                before(info);
            }
        }));
    });
    IS_QUIET.set(true);
    let result = catch_unwind(AssertUnwindSafe(work));
    IS_QUIET.set(false);
    let panic = result.err()?;
    let text = panic.downcast_ref::<String>().cloned();
    Some(
        text.or_else(|| panic.downcast_ref::<&str>().map(|it| (*it).to_owned()))
            .unwrap_or_default(),
    )
}

/// What a scenario fails with.
pub fn failure(scenario: &Scenario) -> Option<String> {
    quietly(|| _ = run(scenario, false))
}

/// A smaller scenario that `fails`, too: no part of it can be left out.
pub fn shrink(scenario: &Scenario, fails: &dyn Fn(&Scenario) -> bool) -> Scenario {
    let mut least = scenario.clone();
    loop {
        let before = least.clone();
        drop_faults(&mut least, fails);
        drop_files(&mut least, fails);
        simplify(&mut least, fails);
        narrow(&mut least, fails);
        if least == before {
            return least;
        }
    }
}

/// Takes `changed` if it fails.
fn try_it(least: &mut Scenario, changed: Scenario, fails: &dyn Fn(&Scenario) -> bool) -> bool {
    let is_smaller = changed != *least && fails(&changed);
    if is_smaller {
        *least = changed;
    }
    is_smaller
}

fn drop_faults(least: &mut Scenario, fails: &dyn Fn(&Scenario) -> bool) {
    for index in (0..least.faults.len()).rev() {
        let mut changed = least.clone();
        changed.faults.remove(index);
        try_it(least, changed, fails);
    }
}

fn drop_files(least: &mut Scenario, fails: &dyn Fn(&Scenario) -> bool) {
    for tree in (1..least.transfers.len()).rev() {
        let mut changed = least.clone();
        changed.transfers.remove(tree);
        try_it(least, changed, fails);
    }
    for tree in 0..least.transfers.len() {
        // Halves, quarters, ... and at last each by itself.
        let mut part = least.transfers[tree].len().div_ceil(2);
        while part > 0 {
            let mut start = 0;
            while start < least.transfers[tree].len() {
                let mut changed = least.clone();
                let files = &mut changed.transfers[tree];
                files.drain(start..(start + part).min(files.len()));
                if !try_it(least, changed, fails) {
                    start += part;
                }
            }
            part = if part == 1 { 0 } else { part.div_ceil(2) };
        }
    }
}

fn simplify(least: &mut Scenario, fails: &dyn Fn(&Scenario) -> bool) {
    let simpler: [fn(&mut Scenario); 8] = [
        |it| it.queue_packets = None,
        |it| it.fixed_rate = None,
        |it| it.payload = false,
        |it| it.purpose = Purpose::Store,
        |it| it.ordered_window = None,
        |it| it.digest = 1,
        |it| it.mtu = 1_500,
        |it| it.delay_us = [1_000; 2],
    ];
    for simpler in simpler {
        let mut changed = least.clone();
        simpler(&mut changed);
        try_it(least, changed, fails);
    }
    for tree in 0..least.transfers.len() {
        for file in 0..least.transfers[tree].len() {
            let mut changed = least.clone();
            changed.transfers[tree][file].what = What::Plain;
            try_it(least, changed, fails);
            while least.transfers[tree][file].size > 1 {
                let mut changed = least.clone();
                changed.transfers[tree][file].size /= 2;
                if !try_it(least, changed, fails) {
                    break;
                }
            }
        }
    }
}

/// Lets faults meet fewer packets of each direction: half of them, as long as it fails.
fn narrow(least: &mut Scenario, fails: &dyn Fn(&Scenario) -> bool) {
    for way in 0..2 {
        let (mut first, mut end) = least.packets[way].unwrap_or((0, 1 << 20));
        while end - first > 1 {
            let middle = first + (end - first) / 2;
            let halves = [(first, middle), (middle, end)];
            let half = halves.into_iter().find(|half| {
                let mut changed = least.clone();
                changed.packets[way] = Some(*half);
                try_it(least, changed, fails)
            });
            let Some(half) = half else { break };
            (first, end) = half;
        }
    }
}

/// A test that replays a scenario.
pub fn as_test(scenario: &Scenario, why: &str) -> String {
    let (seed, text) = (scenario.seed, scenario.to_text());
    format!(
        "/// {why}\n#[test]\nfn seed_{seed}() {{\n    \
         replay(r#\"{text}\"#);\n}}"
    )
}

#[test]
fn a_failing_scenario_shrinks_to_the_faults_it_needs() {
    // As if a transfer could not bear a kill while there is a file of more than 1,000 bytes.
    let fails = |scenario: &Scenario| {
        let is_large = scenario.transfers.iter().flatten().any(|file| file.size > 1_000);
        scenario.has_kill() && is_large
    };
    let mut seeds = (0..1_000).map(crate::draw::scenario);
    let failing = seeds.find(|it| fails(it) && it.faults.len() > 4).expect("such a seed");
    let least = shrink(&failing, &fails);
    println!("{}", as_test(&least, "An example"));
    assert_eq!(least.faults.len(), 1);
    assert_eq!(least.transfers.iter().flatten().count(), 1);
    assert!(least.transfers.iter().flatten().all(|file| file.size <= 2_000));
    assert_eq!(Scenario::from_text(&least.to_text()), least);
    assert_eq!(failure(&least), None, "it is no failure of ufx");
}
