//! What the machines say that they hold (`memory_bytes`), against an allocator that counts: after
//! so many steps of a life they say what they hold, and are dropped; what is free then, they held.
//! Lives are those that the simulation draws, those of the fuzzers' hostile peers, and those in
//! which one thing is kept as often as can be.

use std::fmt::Debug;
use std::ops::RangeInclusive;
use std::time::Duration;

use rand::rngs::StdRng;
use rand::{Rng, RngExt, SeedableRng};
use ufx::proto::{Receiver, Sender, Time};
use ufx::sim::{Path, SimFile, Simulation};

// The allocator.
mod counting;
// Receivers that keep one thing as often as can be.
mod hoards;

// Whole runs drawn from seeds, as the simulation's tests draw them.
#[path = "../simulation/draw.rs"]
mod draw;
#[path = "../simulation/scenario.rs"]
#[expect(dead_code, reason = "shared with the simulation's tests, which print and replay it")]
mod scenario;

// The hostile peers of the fuzzers.
#[path = "../../fuzz/src/answers.rs"]
mod answers;
#[path = "../../fuzz/src/forge.rs"]
mod forge;
#[path = "../../fuzz/src/input.rs"]
#[expect(dead_code, reason = "shared with the fuzzers, which make more choices")]
mod input;
#[path = "../../fuzz/src/receiver.rs"]
#[expect(dead_code, reason = "shared with the fuzzers, which live to the end")]
mod receiver;
#[path = "../../fuzz/src/sender.rs"]
#[expect(dead_code, reason = "shared with the fuzzers, which live to the end")]
mod sender;

#[global_allocator]
static ALLOCATOR: counting::Counting = counting::Counting;

/// Below this nothing is asked: what is rounded and what is left out may be more than what is held.
const SMALL_BYTES: usize = 16 << 10;

/// What may be said of what is held. Found are 0.87 to 1.05; left out are a node that an emptied
/// tree keeps, and what a controller keeps beside itself.
const SHARES: RangeInclusive<f64> = 0.8..=1.2;

/// Bytes that decide what a fuzzer's hostile peer does.
const INPUT_BYTES: usize = 4_096;

/// What many machines said and held.
#[derive(Default)]
struct Weighed {
    machines: usize,
    /// Those that held enough to be looked at.
    large: usize,
    /// The least and the largest share that was said of what was held.
    extremes: Option<[f64; 2]>,
    wrong: Vec<String>,
}

impl Weighed {
    /// Drops a machine and compares what it held with what it said.
    fn weigh<M>(&mut self, life: impl Debug, machine: M, said: impl Fn(&M) -> usize) {
        let said = said(&machine);
        let before = counting::held_bytes();
        drop(machine);
        let held = size_of::<M>() + (before - counting::held_bytes()) as usize;
        self.machines += 1;
        if said.max(held) < SMALL_BYTES {
            return;
        }
        self.large += 1;
        let share = said as f64 / held as f64;
        let [least, most] = self.extremes.unwrap_or([share; 2]);
        self.extremes = Some([least.min(share), most.max(share)]);
        if !SHARES.contains(&share) {
            self.wrong.push(format!("{life:?}: {held} bytes were held, {said} said"));
        }
    }

    #[track_caller]
    fn assert_right(&self, large_min: usize) {
        let Weighed { machines, large, extremes, wrong } = self;
        println!("{machines} machines, {large} of them large; said / held: {extremes:?}");
        assert!(
            wrong.is_empty(),
            "{} are wrong: {:#?}",
            wrong.len(),
            &wrong[..wrong.len().min(20)]
        );
        assert!(*large >= large_min, "only {large} held anything to speak of");
    }
}

/// Runs a simulation until then, and weighs all its machines.
fn weigh_all(
    simulation: Simulation,
    at: Time,
    life: &impl Debug,
    [senders, receivers]: &mut [Weighed; 2],
) {
    let (sending, receiving) = simulation.machines_at(at);
    for machine in sending {
        senders.weigh(life, machine, Sender::memory_bytes);
    }
    for machine in receiving {
        receivers.weigh(life, machine, Receiver::memory_bytes);
    }
}

#[test]
fn machines_hold_what_they_say_in_lives_that_are_drawn() {
    let mut weighed = <[Weighed; 2]>::default();
    for seed in 0..600 {
        let random = &mut StdRng::seed_from_u64(seed);
        let at = Duration::from_secs_f64(random.random_range(-6.0_f64..4.0).exp());
        let simulation = draw::scenario(seed).simulation();
        weigh_all(simulation, Time::ZERO + at, &(seed, at), &mut weighed);
    }
    weighed.iter().for_each(|one| one.assert_right(40));
}

#[test]
fn machines_hold_what_they_say_in_large_lives() {
    let mut weighed = <[Weighed; 2]>::default();
    let fast = |loss: f64| {
        Path::new(Some(1_000_000_000), Duration::from_millis(100)).both(|link| {
            link.impairments.loss = loss;
        })
    };
    let trees = [
        vec![SimFile::new(200 << 20)],
        vec![SimFile::new(3_000); 6_000],
        vec![SimFile::directory(); 6_000],
        vec![SimFile::sparse(
            100 << 20,
            (0..8_000).map(|at| at << 13..(at << 13) + 4_096).collect(),
        )],
    ];
    for (tree, files) in trees.iter().enumerate() {
        for loss in [0.0, 0.02, 0.3] {
            for milliseconds in [150, 300, 600, 1_200, 5_000] {
                let simulation = Simulation::new(fast(loss)).files(files.clone());
                let at = Time::ZERO + Duration::from_millis(milliseconds);
                weigh_all(simulation, at, &(tree, loss, milliseconds), &mut weighed);
            }
        }
    }
    weighed.iter().for_each(|one| one.assert_right(30));
}

#[test]
fn machines_hold_what_they_say_under_hostile_peers() {
    let [mut senders, mut receivers] = <[Weighed; 2]>::default();
    for seed in 0..4_000 {
        let random = &mut StdRng::seed_from_u64(seed);
        let steps = random.random_range(1..=input::STEPS_MAX);
        let mut bytes = vec![0; INPUT_BYTES];
        random.fill_bytes(&mut bytes);
        senders.weigh(seed, sender::Hostile::after(&bytes, steps).sender, Sender::memory_bytes);
        receivers.weigh(
            seed,
            receiver::Hostile::after(&bytes, steps).receiver,
            Receiver::memory_bytes,
        );
    }
    senders.assert_right(400);
    receivers.assert_right(5);
}

#[test]
fn receivers_hold_what_they_say_when_one_thing_is_kept_as_often_as_can_be() {
    let mut receivers = Weighed::default();
    for (name, hoard) in hoards::HOARDS {
        receivers.weigh(name, hoard(), Receiver::memory_bytes);
    }
    receivers.assert_right(hoards::HOARDS.len());
}
