//! Processes that die, and those that come after them: kills, restarts of receivers, and the same
//! command given again until its files are there.

use std::time::Duration;

use super::outcome::TransferOutcome;
use super::plan::TransferPlan;
use super::running::Running;
use super::sending_host::SendingHost;
use super::source::{Decision, SimFile};
use crate::proto::{SenderEvent, Time};

/// Addresses of one port and its successors: so many changes of address fit between two ports.
const ADDRESSES_PER_PORT: u64 = 1 << 16;

/// The longest pause between two attempts, unless the first one is longer.
const AFTER_MAX: Duration = Duration::from_secs(20);

/// One attempt of a transfer: a process, once it has started.
#[derive(Debug)]
pub struct Flow {
    /// What it does.
    pub plan: TransferPlan,
    /// The plan it is an attempt of, and whose files the receiver's disk holds.
    pub tree: usize,
    /// Which of the links carry it.
    pub links: usize,
    /// The process.
    pub sender: Option<SendingHost>,
    /// ICMP messages on their way: to the sender, to the receiver.
    pub refusals: [Option<Time>; 2],
    /// The last datagram that came, for a splice.
    pub before: Vec<u8>,
    /// The attempts before it.
    attempt: u32,
    /// Whether what comes after it was decided.
    followed: bool,
    /// Its address before any change.
    port: u64,
}

impl Flow {
    /// The first attempt of the transfer of this index.
    pub fn first(index: usize, plan: TransferPlan) -> Flow {
        let links = plan.shares_path_of.unwrap_or(index);
        Flow::new(index, links, plan, 0, ((index as u64 + 1) * ADDRESSES_PER_PORT) << 16)
    }

    fn new(tree: usize, links: usize, mut plan: TransferPlan, attempt: u32, port: u64) -> Flow {
        let killed_at = plan.kills.get(attempt as usize).map(|after| plan.starts_at + *after);
        plan.host.killed_at = match (plan.host.killed_at.filter(|_| attempt == 0), killed_at) {
            (Some(first), Some(second)) => Some(first.min(second)),
            (first, second) => first.or(second),
        };
        Flow {
            plan,
            tree,
            links,
            sender: None,
            refusals: [None, None],
            before: Vec::new(),
            attempt,
            followed: false,
            port,
        }
    }

    /// The address its packets come from at `now`.
    pub fn address(&self, now: Time) -> u64 {
        let start = self.plan.starts_at;
        let changes = self.plan.address_changes.iter();
        self.port + changes.filter(|&&at| at > start && at <= now).count() as u64
    }

    /// The attempt after this one, which ended at `now`.
    fn next(&self, now: Time) -> Option<Flow> {
        let again = self.plan.again.filter(|again| self.attempt + 1 < again.attempts_max)?;
        let mut plan = self.plan.clone();
        // Whoever tries again and again waits longer and longer.
        plan.starts_at = now + (again.after * (1 << self.attempt.min(14))).min(AFTER_MAX);
        plan.host.killed_at = None;
        for file in &mut plan.files {
            if file.changes_at.is_some_and(|at| plan.starts_at >= at) {
                file.changes_at = None;
                file.generation += 1;
            }
        }
        let port = match again.same_port {
            true => self.address(now),
            false => self.port + ADDRESSES_PER_PORT,
        };
        Some(Flow::new(self.tree, self.links, plan, self.attempt + 1, port))
    }

    fn is_finished(&self) -> bool {
        let events = self.sender.iter().flat_map(|sender| &sender.events);
        events.into_iter().any(|event| matches!(event, SenderEvent::Finished { .. }))
    }
}

impl Running {
    /// Receiving processes die, and others come.
    pub fn restart_receivers(&mut self) {
        for host in 0..self.receivers.len() {
            if !self.receivers[host].restart(self.now) {
                continue;
            }
            let flows = self.flows.iter().zip(&mut self.watches);
            flows
                .filter(|(flow, _)| flow.plan.receiver == host)
                .for_each(|(_, watch)| watch.on_restart());
            self.forget_strangers();
            self.trace.note(self.now, 0, format!("receiver {host} dies"));
        }
    }

    /// What ended without all its files there is tried again.
    pub fn try_again(&mut self) {
        for index in 0..self.flows.len() {
            let flow = &self.flows[index];
            let Some(sender) = &flow.sender else { continue };
            if flow.followed || !sender.is_over(self.now) {
                continue;
            }
            if sender.finished_at.is_none() {
                self.counters.count("kill of a sender");
            }
            let next = if self.is_done(index) { None } else { self.flows[index].next(self.now) };
            self.flows[index].followed = true;
            if let Some(next) = next {
                self.trace.note(self.now, index, format!("again as #{}", self.flows.len()));
                self.add(next);
            }
        }
    }

    /// Whether a transfer came to its end with all files there that can be.
    fn is_done(&self, index: usize) -> bool {
        let flow = &self.flows[index];
        if !flow.is_finished() {
            return false;
        }
        let receiver = &self.receivers[flow.plan.receiver];
        let is_there = |(entry, file): (u32, &SimFile)| {
            file.is_spoiled()
                || file.decision != Decision::Take
                || receiver.is_committed(flow.tree, entry)
        };
        let config = &flow.plan.config;
        config.dry_run || config.discard || (0..).zip(&flow.plan.files).all(is_there)
    }

    /// What became of an attempt; nothing if it never began.
    pub fn outcome_of(&mut self, index: usize) -> Option<TransferOutcome> {
        let flow = &mut self.flows[index];
        let receiver = &mut self.receivers[flow.plan.receiver];
        let stats = receiver.stats(index).unwrap_or_default();
        let (tree, plan) = (flow.tree, flow.plan.clone());
        let committed = 0..plan.files.len() as u32;
        let committed = committed.map(|entry| receiver.is_committed(tree, entry)).collect();
        let connection = receiver.connections.remove(&index)?;
        let sender = flow.sender.take()?;
        self.counters.add("late timer", sender.late_timers);
        let passed = |at: &&Time| **at > plan.starts_at && **at <= self.now;
        let changes = plan.address_changes.iter().filter(passed).count();
        self.counters.add("change of address", changes as u64);
        let links = &self.links[flow.links];
        let links = [links.forward.counters(), links.backward.counters()].map(|it| *it);
        let mut outcome = TransferOutcome::new(&plan, &sender, connection, stats, links);
        (outcome.tree, outcome.committed) = (tree, committed);
        outcome.sent = self.watches[index].sent;
        Some(outcome)
    }
}
