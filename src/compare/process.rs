//! A contestant's program on one host of a lab: started there, killed with all it started when
//! it is dropped, and measured. When ufx itself is killed, the kernel kills the program.

use std::fs::{self, File};
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::process::{Command, Stdio};
use std::sync::mpsc;
use std::thread::{self, JoinHandle};

use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

use super::lab::Host;
use crate::io::sys::{namespace, process};

pub use crate::io::sys::process::ProcessEnd;

/// A program that runs, and the thread that waits for it.
#[derive(Debug)]
pub struct Running {
    /// Becomes readable when the program has ended.
    handle: OwnedFd,
    id: Pid,
    waiter: Option<JoinHandle<io::Result<ProcessEnd>>>,
}

impl Running {
    /// Starts a program with its arguments on a host, its output in files.
    ///
    /// # Errors
    /// There is no such program, or no process to be had.
    pub fn start(host: &Host, words: &[String], output: File, errors: File) -> io::Result<Running> {
        let network = host.as_fd().try_clone_to_owned()?;
        let (program, arguments) =
            words.split_first().ok_or_else(|| io::Error::other("the command is empty"))?;
        let mut command = Command::new(program);
        command.args(arguments).stdin(Stdio::null()).stdout(output).stderr(errors);
        process::die_with_parent(&mut command);
        let (told, started) = mpsc::sync_channel(1);
        // The thread stays until the program has ended: a program dies with the thread that
        // started it, and what it leaves behind dies with its process namespace.
        let waiter = thread::Builder::new().name("contestant".into()).spawn(move || {
            let began = begin(&network, &mut command);
            let id = began.as_ref().ok().map(|(id, _)| *id);
            // The other end waits for exactly this message.
            let _ = told.send(began);
            id.map_or(Ok(ProcessEnd::default()), process::wait_with_usage)
        })?;
        let (id, handle) =
            started.recv().map_err(|_| io::Error::other("the thread ended by itself"))??;
        Ok(Running { handle, id, waiter: Some(waiter) })
    }

    /// Whether a socket on the program's host waits for somebody: a TCP listener, or any UDP
    /// socket. New namespaces have none, so it is the program's.
    pub fn listens(&self) -> bool {
        let table = |protocol: &str| {
            let path = format!("/proc/{}/net/{protocol}", self.id.as_raw_nonzero());
            fs::read_to_string(path).unwrap_or_default()
        };
        // The fourth column is the state; 0A is TCP_LISTEN in include/net/tcp_states.h.
        let listener = |line: &str| line.split_whitespace().nth(3) == Some("0A");
        ["tcp", "tcp6"].into_iter().any(|protocol| table(protocol).lines().any(listener))
            || ["udp", "udp6"].into_iter().any(|protocol| table(protocol).lines().nth(1).is_some())
    }

    /// Kills the program and everything it started.
    pub fn kill(&self) {
        // The one error is that it has ended already.
        let _ = pidfd_send_signal(&self.handle, Signal::KILL);
    }

    /// Waits for its end.
    pub fn finish(mut self) -> io::Result<ProcessEnd> {
        self.join()
    }

    fn join(&mut self) -> io::Result<ProcessEnd> {
        match self.waiter.take().map(JoinHandle::join) {
            Some(Ok(end)) => end,
            Some(Err(_)) | None => Err(io::Error::other("the thread ended by itself")),
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if self.waiter.is_some() {
            self.kill();
            let _ = self.join();
        }
    }
}

impl AsFd for Running {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.handle.as_fd()
    }
}

/// Starts the command from the calling thread, in the namespaces it is to have.
fn begin(network: &OwnedFd, command: &mut Command) -> io::Result<(Pid, OwnedFd)> {
    move_into_link_name_space(network.as_fd(), Some(LinkNameSpaceType::Network))?;
    namespace::isolate_next_process()?;
    let child = command.spawn()?;
    let id = Pid::from_child(&child);
    let handle = pidfd_open(id, PidfdFlags::empty())?;
    Ok((id, handle))
}
