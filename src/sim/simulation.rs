//! Senders and receivers over simulated paths, in virtual time, from one seed.
//!
//! [`Simulation`] is a builder; [`Simulation::run`] drives everything to its end and checks the
//! invariants of proto.md on the way. The same seed gives the same run, event by event. When a
//! check fails, seed and last events are printed.

use std::time::Duration;

use super::outcome::{Outcome, TransferOutcome};
use super::plan::{ReceiverPlan, TransferPlan};
use super::preset::Path;
use super::running::Running;
use super::source::{Decision, SimFile};
use super::storage::Stored;
use crate::proto::{Receiver, Sender, Time};

/// Virtual time after which a run that does not end counts as hung.
const DEADLINE: Duration = Duration::from_secs(3_600);

/// What is to be simulated. Fields may be changed freely before the run.
#[derive(Clone, Debug)]
pub struct Simulation {
    /// All chance comes from it.
    pub seed: u64,
    /// The transfers; the first one is what most tests are about.
    pub transfers: Vec<TransferPlan>,
    /// The receivers.
    pub receivers: Vec<ReceiverPlan>,
    /// Whether file bytes are simulated. Without, only places and versions are, and a damaged
    /// body packet is one that fails its check.
    pub payload: bool,
    /// Whether hosts report closed ports (ICMP).
    pub icmp: bool,
    /// The run ends then, whatever is still under way. Default never.
    pub ends_at: Option<Time>,
    /// A run that takes longer counts as hung. Default an hour.
    pub deadline: Duration,
    /// Whether the last events are printed when a check fails. Default true.
    pub tells: bool,
}

impl Simulation {
    /// One sender and one receiver on `path`.
    pub fn new(path: Path) -> Simulation {
        let transfer = TransferPlan { path, ..TransferPlan::default() };
        Simulation {
            seed: 1,
            transfers: vec![transfer],
            receivers: vec![ReceiverPlan::default()],
            payload: false,
            icmp: true,
            ends_at: None,
            deadline: DEADLINE,
            tells: true,
        }
    }

    /// Another seed than 1.
    #[must_use]
    pub fn seed(mut self, seed: u64) -> Simulation {
        self.seed = seed;
        self
    }

    /// Simulates file bytes.
    #[must_use]
    pub fn payload(mut self) -> Simulation {
        self.payload = true;
        self
    }

    /// What the first sender sends.
    #[must_use]
    pub fn files(mut self, files: Vec<SimFile>) -> Simulation {
        self.transfers[0].files = files;
        self
    }

    /// Changes the first transfer.
    #[must_use]
    pub fn sender(mut self, change: impl FnOnce(&mut TransferPlan)) -> Simulation {
        change(&mut self.transfers[0]);
        self
    }

    /// Changes the first receiver.
    #[must_use]
    pub fn receiver(mut self, change: impl FnOnce(&mut ReceiverPlan)) -> Simulation {
        change(&mut self.receivers[0]);
        self
    }

    /// The same command again, after `outcome` of the first transfer was cut: with the same files,
    /// of which the receiver has what it has verified, and nobody is killed.
    #[must_use]
    pub fn again_after(mut self, outcome: &TransferOutcome) -> Simulation {
        let transfer = &mut self.transfers[0];
        transfer.host.killed_at = None;
        self.receivers[transfer.receiver].host.killed_at = None;
        let results = outcome.stored.iter().zip(&outcome.verified);
        for (file, (stored, verified)) in transfer.files.iter_mut().zip(results) {
            file.kept = verified.clone();
            if *stored == Some(Stored::Committed) && file.decision == Decision::Take {
                file.decision = Decision::Present;
            }
        }
        self
    }

    /// Runs with one file of so many bytes.
    pub fn transfer(self, bytes: u64) -> Outcome {
        self.files(vec![SimFile::new(bytes)]).run()
    }

    /// Runs to the end: every machine that lives is closed.
    ///
    /// # Panics
    ///
    /// If an invariant is broken or nothing comes to an end; seed and last events are printed.
    pub fn run(self) -> Outcome {
        let mut running = Running::new(self);
        while let Some(at) = running.next() {
            if running.simulation.ends_at.is_some_and(|end| at > end) {
                break;
            }
            let deadline = running.simulation.deadline;
            assert!(at < Time::ZERO + deadline, "the transfer does not end within {deadline:?}");
            running.step(at);
        }
        running.outcome()
    }

    /// Runs until then, and hands out the machines that there are: those that send, and those that
    /// receive.
    pub fn machines_at(self, end: Time) -> (Vec<Sender>, Vec<Receiver>) {
        let mut running = Running::new(self);
        while let Some(at) = running.next().filter(|at| *at <= end) {
            running.step(at);
        }
        running.into_machines()
    }
}
