//! The writing thread of one transfer, as the network thread sees it: jobs go in, what became of
//! them comes out, and nobody ever waits for it. A disk that hangs keeps its thread, not the
//! program.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc;

use super::job::{Done, Job};
use crate::io::wait::Doorbell;

/// Stack of a writing thread: it recurses nowhere and keeps its buffers on the heap.
const STACK_BYTES: usize = 256 << 10;

/// Says that what is queued is not wanted any more.
#[derive(Clone, Debug, Default)]
pub struct Abandoned(Arc<AtomicBool>);

impl Abandoned {
    /// Says so.
    pub fn say(&self) {
        self.0.store(true, Ordering::Relaxed);
    }

    /// Whether it was said.
    pub fn is_said(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}

/// The thread, detached from the beginning.
#[derive(Debug)]
pub struct Writer {
    /// None once nothing more will be put.
    jobs: Option<mpsc::Sender<Job>>,
    done: mpsc::Receiver<Vec<Done>>,
    abandoned: Abandoned,
    ended: Arc<AtomicBool>,
}

/// The thread broke off in the middle of a job.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Died;

impl Writer {
    /// Starts a thread that does `work` on each job and tells what became of it, in order; it
    /// ends, and drops `work`, when the writer is closed and the queue is done, or `abandoned`
    /// says so. `doorbell` rings for each job and at the end.
    ///
    /// # Errors
    /// The operating system gave no thread.
    pub fn start<W>(
        doorbell: Arc<Doorbell>,
        abandoned: Abandoned,
        work: W,
    ) -> std::io::Result<Writer>
    where
        W: FnMut(&Job) -> Vec<Done> + Send + 'static,
    {
        let (jobs, job_queue) = mpsc::channel::<Job>();
        let (done_queue, done) = mpsc::channel();
        let ended = Arc::new(AtomicBool::new(false));
        let farewell = Farewell { ended: Arc::clone(&ended), doorbell };
        let told = abandoned.clone();
        std::thread::Builder::new().name("write".into()).stack_size(STACK_BYTES).spawn(
            move || {
                // Dropped in reverse order: unfinished files are cleaned up before anybody is
                // told that this is over.
                let (farewell, done_queue, mut work) = (farewell, done_queue, work);
                for job in job_queue {
                    if told.is_said() {
                        break;
                    }
                    let outcome = work(&job);
                    // The buffer is free before the machine hears of it.
                    drop(job);
                    if done_queue.send(outcome).is_err() {
                        break;
                    }
                    farewell.doorbell.ring();
                }
            },
        )?;
        Ok(Writer { jobs: Some(jobs), done, abandoned, ended })
    }

    /// Queues a job. One that comes after the end is dropped: that the thread is gone shows where
    /// its answers are taken.
    pub fn put(&self, job: Job) {
        if let Some(jobs) = &self.jobs {
            let _ = jobs.send(job);
        }
    }

    /// What became of the next job, if one is done.
    ///
    /// # Errors
    /// [`Died`], once, if the thread broke off before it was closed.
    pub fn take(&mut self) -> Result<Option<Vec<Done>>, Died> {
        match self.done.try_recv() {
            Ok(done) => Ok(Some(done)),
            Err(mpsc::TryRecvError::Disconnected) if self.jobs.take().is_some() => Err(Died),
            Err(_) => Ok(None),
        }
    }

    /// Nothing more will be put, and what is queued is not done any more.
    pub fn abandon(&mut self) {
        self.abandoned.say();
        self.jobs = None;
    }

    /// Whether the thread has done its last.
    pub fn has_ended(&self) -> bool {
        self.ended.load(Ordering::Acquire)
    }
}

/// Tells the end of the thread, by whatever way it comes.
struct Farewell {
    ended: Arc<AtomicBool>,
    doorbell: Arc<Doorbell>,
}

impl Drop for Farewell {
    fn drop(&mut self) {
        self.ended.store(true, Ordering::Release);
        self.doorbell.ring();
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::io::buffer::BufferPool;
    use crate::io::wait::{Interest, wait};
    use std::os::fd::AsFd;

    fn job() -> Job {
        let buffer = Arc::new(BufferPool::new(1, 0).take().unwrap());
        Job { buffer, pieces: Vec::new(), actions: Vec::new() }
    }

    /// Waits until the writer has ended.
    fn wait_for_end(writer: &Writer, doorbell: &Doorbell) {
        while !writer.has_ended() {
            doorbell.before_sleep();
            if !writer.has_ended() {
                let interests = [Interest::Read(doorbell.waker().as_fd())];
                wait(&interests, Some(Duration::from_secs(10)), &mut Vec::new()).unwrap();
            }
            doorbell.after_sleep();
        }
    }

    #[test]
    fn nobody_waits_for_a_disk_that_hangs_and_what_was_queued_behind_is_not_begun() {
        let doorbell = Arc::new(Doorbell::new().unwrap());
        let (begun, beginnings) = mpsc::channel();
        let (disk, disk_answers) = mpsc::channel::<()>();
        let mut writer = Writer::start(Arc::clone(&doorbell), Abandoned::default(), move |_| {
            begun.send(()).unwrap();
            disk_answers.recv().unwrap();
            vec![Done::Written(1)]
        })
        .unwrap();
        writer.put(job());
        writer.put(job());
        beginnings.recv().unwrap();
        writer.abandon();
        assert!(!writer.has_ended());
        assert!(matches!(writer.take(), Ok(None)));
        disk.send(()).unwrap();
        wait_for_end(&writer, &doorbell);
        assert!(matches!(writer.take(), Ok(Some(_))), "what was under way is told");
        assert!(matches!(writer.take(), Ok(None)));
        assert!(beginnings.recv().is_err(), "the second job was begun");
    }

    #[test]
    fn a_thread_that_breaks_off_is_told_of_once() {
        let doorbell = Arc::new(Doorbell::new().unwrap());
        let mut writer = Writer::start(Arc::clone(&doorbell), Abandoned::default(), |_| {
            std::panic::resume_unwind(Box::new("a fault"))
        })
        .unwrap();
        writer.put(job());
        wait_for_end(&writer, &doorbell);
        assert_eq!(writer.take().unwrap_err(), Died);
        assert!(matches!(writer.take(), Ok(None)));
    }
}
