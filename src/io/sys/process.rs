//! Child processes that end with the thread that started them, and what they cost.

use std::io;
use std::mem::zeroed;
use std::os::unix::process::CommandExt;
use std::process::Command;
use std::time::Duration;

use rustix::io::Errno;
use rustix::process::{Pid, Signal, set_parent_process_death_signal};

use super::last_errno;

/// How a process ended and what it used, its awaited descendants included.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ProcessEnd {
    /// What it returned; none after a signal.
    pub exit_code: Option<i32>,
    /// Processor time in user space.
    pub user: Duration,
    /// Processor time in the kernel on its behalf.
    pub system: Duration,
    /// The most memory it had resident, in bytes.
    pub resident_bytes_max: u64,
}

/// Lets the process that `command` starts be killed when the thread that starts it ends.
pub fn die_with_parent(command: &mut Command) {
    // SAFETY: between fork and exec the closure makes one system call, prctl, and neither
    // allocates nor takes a lock.
    unsafe {
        command.pre_exec(|| Ok(set_parent_process_death_signal(Some(Signal::KILL))?));
    }
}

/// Lets the calling thread run whenever it can, before all normal ones, as a network card does.
/// Needs root; without it, or where it is forbidden, the thread stays as it is.
pub fn run_before_others() {
    let priority = libc::sched_param { sched_priority: 1 };
    // SAFETY: the pointer refers to `priority`, which outlives the call; 0 is this thread.
    unsafe { libc::sched_setscheduler(0, libc::SCHED_FIFO, &raw const priority) };
}

/// Waits for a child to end. It must not be waited for elsewhere.
pub fn wait_with_usage(child: Pid) -> io::Result<ProcessEnd> {
    let mut status = 0;
    // SAFETY: all-zero bytes are a valid `rusage`.
    let mut usage: libc::rusage = unsafe { zeroed() };
    loop {
        // SAFETY: wait4 writes one int and one `rusage`; both outlive the call.
        let result = unsafe {
            libc::wait4(child.as_raw_nonzero().get(), &raw mut status, 0, &raw mut usage)
        };
        if result >= 0 {
            break;
        }
        match last_errno() {
            Errno::INTR => {}
            errno => return Err(errno.into()),
        }
    }
    let exit_code = libc::WIFEXITED(status).then(|| libc::WEXITSTATUS(status));
    Ok(ProcessEnd {
        exit_code,
        user: duration(usage.ru_utime),
        system: duration(usage.ru_stime),
        // Linux counts in KiB: getrusage(2).
        resident_bytes_max: u64::try_from(usage.ru_maxrss).unwrap_or(0) * 1_024,
    })
}

fn duration(time: libc::timeval) -> Duration {
    // Neither is negative, and there are fewer than a million microseconds.
    Duration::new(time.tv_sec as u64, time.tv_usec as u32 * 1_000)
}
