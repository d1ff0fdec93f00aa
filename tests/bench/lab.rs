//! The lab itself: delay and rate by the clock, and processes that end with their host.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path as FilePath;
use std::time::Duration;

use ufx::compare::check;
use ufx::compare::lab::Lab;
use ufx::compare::process::Running;
use ufx::sim::Path;

use super::has_rights;

/// A busy machine may miss the clock, so a measurement may be repeated; a link that is wrong is
/// wrong each time.
const TRIES: usize = 5;

#[test]
fn loss_delay_and_rate_are_what_was_asked_for() {
    if !has_rights() {
        return;
    }
    let path = Path::new(Some(50_000_000), Duration::from_millis(8))
        .loss(0.02)
        .both(|link| link.overhead_bytes = 0);
    let mut complaints = Vec::new();
    for seed in 0..TRIES as u64 {
        let measured = check::measure(&path, seed).unwrap();
        println!("seed {seed}: {measured:?}");
        match measured.complaint() {
            None => return,
            Some(complaint) => complaints.push(complaint),
        }
    }
    panic!("{complaints:?}");
}

/// Processes that have `mark` among their words.
pub fn processes_with(mark: &str) -> BTreeSet<String> {
    let processes = fs::read_dir("/proc").unwrap().flatten();
    processes
        .filter(|process| {
            let words = fs::read(process.path().join("cmdline")).unwrap_or_default();
            String::from_utf8_lossy(&words).contains(mark)
        })
        .map(|process| process.file_name().to_string_lossy().into_owned())
        .collect()
}

/// Waits until a condition holds.
#[track_caller]
pub fn until(what: &str, condition: impl Fn() -> bool) {
    let deadline = std::time::Instant::now() + Duration::from_secs(30);
    while !condition() {
        assert!(std::time::Instant::now() < deadline, "{what} did not happen");
        std::thread::yield_now();
    }
}

fn shell(directory: &FilePath, lab: &Lab, script: &str) -> Running {
    let file = |name: &str| fs::File::create(directory.join(name)).unwrap();
    let words = ["sh", "-c", script].map(str::to_owned);
    Running::start(&lab.sender, &words, file("out"), file("err")).unwrap()
}

#[test]
fn a_program_takes_all_it_started_with_it_even_what_left_its_session() {
    if !has_rights() {
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let lab = Lab::loopback().unwrap();
    // The mark is in the words of all three.
    let mark = format!("31{}", std::process::id());
    let script = format!("setsid sleep {mark} & setsid sleep {mark} & wait");
    let running = shell(directory.path(), &lab, &script);
    until("the start of three processes", || processes_with(&mark).len() == 3);
    drop(running);
    until("the end of them", || processes_with(&mark).is_empty());
}

#[test]
fn the_end_of_a_program_is_told_with_what_it_cost() {
    if !has_rights() {
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let lab = Lab::loopback().unwrap();
    let end = shell(directory.path(), &lab, "exit 7").finish().unwrap();
    assert_eq!(end.exit_code, Some(7));
    assert!(end.resident_bytes_max > 0);
    let killed = shell(directory.path(), &lab, "kill -9 $$; sleep 1000");
    // A shell that is the first of its process namespace cannot kill itself, so we do.
    killed.kill();
    assert_eq!(killed.finish().unwrap().exit_code, None);
}
