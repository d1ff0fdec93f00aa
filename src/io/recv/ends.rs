//! How transfers leave the receiver: each by itself, or all at a signal.

use std::os::fd::AsFd;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use super::transfer::{CLOSE_PATIENCE, Transfer};
use super::{Ended, Server, Watcher, outcome};
use crate::io::wait::{Interest, wait};
use crate::proto::Time;
use crate::wire::CloseCode;

/// A transfer is reported so long after all was settled, confirmed or not: nobody who watches
/// waits for a sender that is gone.
const REPORT_AFTER: Duration = Duration::from_secs(2);

impl Server<'_> {
    /// Reports transfers that only wait for their senders to hear of the result.
    pub(super) fn report_settled(&mut self, now: Time, watcher: &mut dyn Watcher) {
        if self.request.once {
            return;
        }
        for transfer in &mut self.transfers {
            let is_due = transfer.settled_since(now) >= Some(REPORT_AFTER);
            if is_due && !transfer.is_reported {
                report(transfer, now, false, watcher);
            }
        }
    }

    /// Reports transfers that are over. Returns whether `--once` is used up.
    pub(super) fn remove_ended(&mut self, now: Time, watcher: &mut dyn Watcher) -> bool {
        let mut once_over = false;
        let mut index = 0;
        while let Some(transfer) = self.transfers.get_mut(index) {
            if !transfer.is_over() || !transfer.has_closed(now) {
                index += 1;
                continue;
            }
            let mut transfer = self.transfers.swap_remove(index);
            transfer.take_done(now);
            self.counters.transfers.fetch_sub(1, Relaxed);
            self.finished_bytes += transfer.stats().written;
            once_over |= self.request.once && transfer.stores();
            report(&mut transfer, now, false, watcher);
            drop(transfer);
            // What this one needed in a bad moment would else be held for good.
            self.shared.release();
        }
        once_over
    }

    /// A signal came: tells every sender, and reports.
    pub(super) fn stop(&mut self, now: Time, watcher: &mut dyn Watcher) -> Ended {
        let cut = self.transfers.iter().any(|one| one.ended.is_none());
        for transfer in &mut self.transfers {
            transfer.receiver.cancel(CloseCode::Cancelled);
            transfer.transmit(now, &self.reserve, 1);
        }
        self.wait_for_writers(now + CLOSE_PATIENCE);
        let now = self.clock.now();
        for mut transfer in self.transfers.drain(..) {
            transfer.take_done(now);
            let was_settled = transfer.error.is_none() && transfer.ended.is_some();
            report(&mut transfer, now, !was_settled, watcher);
        }
        if cut { Ended::Cut } else { Ended::Idle }
    }

    /// Waits until the writing threads have cleaned up, but no longer than to `until`: a disk
    /// that hangs must not keep the program from its end.
    fn wait_for_writers(&mut self, until: Time) {
        loop {
            self.doorbell.before_sleep();
            let now = self.clock.now();
            let closed: Vec<bool> =
                self.transfers.iter_mut().map(|transfer| transfer.has_closed(now)).collect();
            let is_over = now >= until || closed.iter().all(|&closed| closed);
            if !is_over {
                let interests = [Interest::Read(self.doorbell.waker().as_fd())];
                // Failing, it would only make this loop spin until then.
                let _ = wait(&interests, Some(until.saturating_since(now)), &mut Vec::new());
            }
            self.doorbell.after_sleep();
            if is_over {
                return;
            }
        }
    }
}

/// Reports a transfer, unless that was done before.
fn report(transfer: &mut Transfer, now: Time, interrupted: bool, watcher: &mut dyn Watcher) {
    if !std::mem::replace(&mut transfer.is_reported, true) {
        let (report, result) = outcome::report_of(transfer, now, interrupted);
        watcher.ended(report, result);
    }
}
