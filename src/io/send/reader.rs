//! Reads what is not in memory yet, on a thread of its own: a disk that spins up or a network file
//! system that hangs keeps nobody from telling the receiver that this end is there.

use std::ops::Range;
use std::sync::Arc;
use std::sync::mpsc::{self, Receiver, Sender};

use crate::io::source_file::SourceFile;
use crate::io::wait::Doorbell;

/// Stack of the thread: its buffer is on the heap.
const STACK_BYTES: usize = 256 << 10;

/// The thread, detached from the beginning: nobody waits for one that hangs.
#[derive(Debug)]
pub struct Reader {
    wanted: Sender<(Arc<SourceFile>, Range<u64>)>,
    done: Receiver<()>,
    /// Requests that are not done.
    under_way: usize,
}

impl Reader {
    /// Starts the thread; `doorbell` rings when a request is done.
    ///
    /// # Errors
    /// The operating system gave no thread.
    pub fn start(doorbell: Arc<Doorbell>) -> std::io::Result<Reader> {
        let (wanted, requests) = mpsc::channel::<(Arc<SourceFile>, Range<u64>)>();
        let (tell, done) = mpsc::channel();
        let thread = std::thread::Builder::new().name("read".into());
        thread.stack_size(STACK_BYTES).spawn(move || {
            let mut scratch = Vec::new();
            for (file, range) in requests {
                scratch.resize((range.end - range.start) as usize, 0);
                file.read_ahead(&mut scratch, range.start);
                if tell.send(()).is_err() {
                    return;
                }
                doorbell.ring();
            }
        })?;
        Ok(Reader { wanted, done, under_way: 0 })
    }

    /// Asks for a range of a file.
    pub fn ask(&mut self, file: Arc<SourceFile>, range: Range<u64>) {
        if self.wanted.send((file, range)).is_ok() {
            self.under_way += 1;
        }
    }

    /// Whether all that was asked for is in memory, or cannot be read.
    pub fn is_done(&mut self) -> bool {
        loop {
            match self.done.try_recv() {
                Ok(()) => self.under_way = self.under_way.saturating_sub(1),
                Err(mpsc::TryRecvError::Empty) => return self.under_way == 0,
                // It died: the bytes are read where they are wanted.
                Err(mpsc::TryRecvError::Disconnected) => return true,
            }
        }
    }
}
