//! The writing end of a transfer, of whichever kind: it stores files, or hands one on.

use std::sync::Arc;

use super::job::{Done, Job};
use super::options::SinkOptions;
use super::output::Output;
use super::sink::Sink;

/// What does the jobs of a transfer.
#[derive(Debug)]
pub enum WritingEnd {
    /// Stores files.
    Sink(Sink),
    /// Hands one file on.
    Output(Output),
}

impl WritingEnd {
    /// The one that `options` ask for.
    pub fn new(options: SinkOptions) -> WritingEnd {
        match &options.output {
            Some(out) if !options.discard => {
                let out = Arc::clone(out);
                WritingEnd::Output(Output::new(out, options.digest, options.dry_run))
            }
            _ => WritingEnd::Sink(Sink::new(options)),
        }
    }

    /// Does a job and appends what became of it.
    pub fn run(&mut self, job: &Job, done: &mut Vec<Done>) {
        match self {
            WritingEnd::Sink(sink) => sink.run(job, done),
            WritingEnd::Output(output) => output.run(job, done),
        }
    }
}
