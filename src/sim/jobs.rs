//! What a simulated receiver's disk has to do, in order.

use super::disk::{DiskCompletion, DiskOutcome};
use super::receiving_host::ReceivingHost;
use super::storage::{Write, split_off};
use crate::proto::{ReceiverEvent, Time};
use crate::wire::RefuseCode;

/// Something that ends when the disk has done what was before it.
#[derive(Debug)]
pub enum Job {
    /// Writes, and the buffers they hold.
    Write { writes: Vec<Write>, bytes: u64, packets: u64, outcome: DiskOutcome },
    /// What reads what was written.
    Event(ReceiverEvent),
}

impl ReceivingHost {
    /// Hands writes to the disk, the rest again where it took a part.
    pub(super) fn write(
        &mut self,
        now: Time,
        transfer: usize,
        writes: Vec<Write>,
        bytes: u64,
        packets: u64,
    ) {
        let (mut writes, mut bytes) = (writes, bytes);
        loop {
            let DiskCompletion { at, outcome } = self.disk.submit(now, bytes);
            match outcome {
                DiskOutcome::Written => {}
                DiskOutcome::Short => self.counters.count("short write"),
                DiskOutcome::Full => self.counters.count("full disk"),
                DiskOutcome::Failed => self.counters.count("error of a disk"),
            }
            if outcome != DiskOutcome::Short {
                let job = Job::Write { writes, bytes, packets, outcome };
                return self.do_by(now, at, transfer, job);
            }
            let part = bytes.div_ceil(2);
            let rest = split_off(&mut writes, part);
            let outcome = DiskOutcome::Written;
            self.do_by(now, at, transfer, Job::Write { writes, bytes: part, packets: 0, outcome });
            (writes, bytes) = (rest, bytes - part);
        }
    }

    /// Does a job at its time, which may be now.
    pub(super) fn do_by(&mut self, now: Time, at: Time, transfer: usize, job: Job) {
        if at <= now && self.jobs.is_empty() {
            return self.finish_job(now, transfer, job);
        }
        self.job_count += 1;
        self.jobs.insert((at, self.job_count), (transfer, job));
        self.wake.by(at);
    }

    /// Does what is due.
    pub(super) fn finish_jobs(&mut self, now: Time) {
        while let Some(entry) = self.jobs.first_entry() {
            if entry.key().0 > now {
                break;
            }
            let (transfer, job) = entry.remove();
            self.finish_job(now, transfer, job);
        }
    }

    fn finish_job(&mut self, now: Time, transfer: usize, job: Job) {
        let Some(connection) = self.connections.get_mut(&transfer) else { return };
        let Some(journal) = self.journals.get_mut(&connection.tree) else { return };
        let Some(machine) = connection.machine.as_mut() else { return };
        match job {
            Job::Write { writes, bytes, packets, outcome } => {
                connection.held_packets -= packets;
                let code = match outcome {
                    DiskOutcome::Written | DiskOutcome::Short => {
                        writes.iter().for_each(|write| connection.storage.write(write, journal));
                        return machine.on_written(bytes);
                    }
                    DiskOutcome::Full => RefuseCode::Space,
                    DiskOutcome::Failed => RefuseCode::Disk,
                };
                for write in writes {
                    connection.storage.fail(write.entry, journal);
                    machine.entry_failed(write.entry, code, "the disk said no");
                }
            }
            Job::Event(event) => connection.storage.act(now, &event, machine, journal),
        }
    }
}
