//! What other transfers lose beside a hostile peer: an honest file, paced at a rate that the
//! machine has to spare, alone and beside each class of misdeeds of `tests/hostile`, which one
//! peer commits one after the other for as long as the honest transfer takes; and beside floods at
//! a rate of their own, for a flood without bound takes the processor from everybody.
//!
//! `cargo bench --bench hostile` prints a table, and fails if more than a tenth of the rate is
//! lost.

#![expect(clippy::unwrap_used, reason = "a bench that cannot set itself up fails")]

use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use ufx::wire::{CloseCode, Frame, Probe, Space};

use crate::bystander::Misdeed;
use crate::impostor::{Impostor, Imposture, Victim, noise};
use crate::sender::HostileSender;
use crate::support::content::{names, room, write_random};
use crate::support::process::Program;
use crate::support::root::is_root_with;
use crate::support::transfer::Receiver;

// The hostile peer and its misdeeds are those of the tests.
#[path = "../tests/hostile/bystander.rs"]
#[expect(dead_code, reason = "the tests look at everything that comes of a misdeed")]
mod bystander;
#[path = "../tests/hostile/contents.rs"]
#[expect(unused_imports, reason = "shared with the tests, which have a bystander")]
mod contents;
#[path = "../tests/hostile/floods.rs"]
#[expect(unused_imports, reason = "shared with the tests, which have a bystander")]
mod floods;
#[path = "../tests/hostile/forge.rs"]
mod forge;
#[path = "../tests/hostile/impostor.rs"]
#[expect(unused_imports, reason = "shared with the tests, which have a bystander")]
mod impostor;
#[path = "../tests/hostile/names.rs"]
#[expect(unused_imports, reason = "shared with the tests, which have a bystander")]
mod names;
#[path = "../tests/hostile/sender.rs"]
mod sender;
#[path = "../tests/hostile/strangers.rs"]
#[expect(unused_imports, reason = "shared with the tests, which have a bystander")]
mod strangers;
#[path = "../tests/cli/support/mod.rs"]
#[expect(dead_code, reason = "shared with the tests of the program, which use more of it")]
mod support;

/// The honest rate, in bits per second, and what it carries: a second of it.
const RATE: &str = "200M";
const BYTES: u64 = 25_000_000;

/// How often each is measured; the median counts.
const RUNS: usize = 3;

/// A row of the tables that is a flood as fast as can be.
const UNBOUNDED: &str = "20,000 half-open transfers";

/// Packets per second of a flood.
const FLOOD_RATE: u64 = 20_000;

/// What a transfer may lose at most.
const LOSS_MAX: f64 = 0.1;

/// What a hostile peer does all the time.
enum Deeds {
    /// Nothing.
    None,
    /// Rows of these tables, one after the other.
    Tables(&'static [&'static [Misdeed]]),
    /// Packets at [`FLOOD_RATE`]: gets ready, and sends the n-th.
    Flood(fn(&mut HostileSender), fn(&mut HostileSender, u64)),
    /// The same under the honest sender's own address: those of the table that it survives.
    Impostures(&'static [Imposture]),
}

const CLASSES: &[(&str, Deeds)] = &[
    ("HELLOs that are none", Deeds::Tables(&[strangers::GREETINGS])),
    ("proofs that are none, packets in others' names", Deeds::Tables(&[strangers::PROOFS])),
    ("names and links", Deeds::Tables(&[names::NAMES, names::TREES])),
    ("records that break a rule", Deeds::Tables(&[contents::RECORDS])),
    ("bytes and digests that lie", Deeds::Tables(&[contents::BYTES])),
    ("packets that make no sense", Deeds::Tables(&[floods::PACKETS])),
    ("too much of what may be sent", Deeds::Tables(&[floods::FLOODS])),
    ("what a receiver has to keep", Deeds::Tables(&[floods::HOARDS])),
    ("255 transfers at once, again and again", Deeds::Tables(&[floods::CROWD])),
    ("flood of HELLOs", Deeds::Flood(|_| {}, |peer, _| peer.send_datagram(&peer.hello()))),
    ("flood of noise", Deeds::Flood(|_| {}, |peer, n| peer.send_datagram(&noise(n as u32)))),
    ("flood of wishes for an ACK", Deeds::Flood(HostileSender::connect, |peer, _| peer.probe())),
    (
        "flood of body that nobody announced",
        Deeds::Flood(HostileSender::connect, |peer, n| {
            peer.send_data(Space::Body, n * 1_452, &[7; 1_452]);
        }),
    ),
    (
        "flood of one packet again and again",
        Deeds::Flood(HostileSender::connect, |peer, _| {
            let number = peer.number;
            let probe = Probe { srtt_us: 1, window_packets: 1, answers: 0, datagram_bytes: 1_472 };
            peer.send(&Frame::Probe(probe));
            peer.number = number.max(1);
        }),
    ),
    ("flood under its own address, of guesses", Deeds::Impostures(impostor::BLIND)),
    ("flood under its own address, of one who has seen", Deeds::Impostures(impostor::KNOWING)),
];

/// The rate of the honest transfer of `source` to a new receiver in Mbit/s, and how many misdeeds
/// there were beside it.
fn measure(source: &Path, deeds: &Deeds) -> (f64, u64) {
    let room = room();
    let dir = room.path().join("to");
    let mut receiver = Receiver::start(&dir, &["-v", "--timeout", "2s"]);
    let is_over = AtomicBool::new(false);
    let mut impostor = matches!(deeds, Deeds::Impostures(_)).then(|| Impostor::new(receiver.port));
    std::thread::scope(|scope| {
        let started = Instant::now();
        let honest = Program::start(&mut receiver.sender(&[source], &["--rate", RATE]));
        impostor.iter_mut().for_each(Impostor::overhear);
        // A crowd must not keep it out.
        receiver.program.stderr_line("begins to send");
        let hostile = scope.spawn(|| match (deeds, &impostor) {
            (Deeds::Impostures(table), Some(impostor)) => pretend(table, impostor, &is_over),
            _ => misbehave(deeds, &mut receiver, &dir, &is_over),
        });
        let ended = honest.wait();
        let took = started.elapsed();
        is_over.store(true, Ordering::Relaxed);
        let misdeeds = hostile.join().unwrap();
        assert_eq!(ended.code, Some(0), "the honest transfer: {ended:#?}");
        let bytes = source.metadata().unwrap().len();
        (bytes as f64 * 8e-6 / took.as_secs_f64(), misdeeds)
    })
}

/// Misbehaves until it is over; how often.
fn misbehave(deeds: &Deeds, receiver: &mut Receiver, dir: &Path, is_over: &AtomicBool) -> u64 {
    let mut done = 0;
    match deeds {
        Deeds::None | Deeds::Impostures(_) => {}
        Deeds::Tables(tables) => {
            let misdeeds = tables.iter().copied().flatten().filter(|it| it.name != UNBOUNDED);
            for misdeed in misdeeds.cycle().take_while(|_| !is_over.load(Ordering::Relaxed)) {
                let mut peer = HostileSender::new(receiver.port, done as u8);
                (misdeed.does)(&mut peer);
                leave(&mut peer);
                // What it has begun must be over before the same can be done again.
                (0..peer.opened).for_each(|_| _ = receiver.next_report());
                tidy(dir);
                done += 1;
            }
        }
        Deeds::Flood(prepare, send) => {
            let mut peer = HostileSender::new(receiver.port, 1);
            prepare(&mut peer);
            peer.socket.set_nonblocking(true).unwrap();
            done = flood(is_over, |number| {
                send(&mut peer, number);
                // What comes back would fill its socket.
                _ = peer.socket.recv(&mut [0; 2_048]);
            });
        }
    }
    done
}

/// Speaks as the honest sender until it is over; how often.
fn pretend(table: &[Imposture], impostor: &Impostor, is_over: &AtomicBool) -> u64 {
    let survived: Vec<&Imposture> =
        table.iter().filter(|one| matches!(one.then, Victim::Delivers)).collect();
    flood(is_over, |number| {
        let imposture = survived[number as usize % survived.len()];
        (imposture.says)(impostor, 1 + number as u32);
    })
}

/// Sends at [`FLOOD_RATE`] until it is over; how many.
fn flood(is_over: &AtomicBool, mut send: impl FnMut(u64)) -> u64 {
    let (started, mut done) = (Instant::now(), 0);
    while !is_over.load(Ordering::Relaxed) {
        let due = started.elapsed().as_micros() as u64 * FLOOD_RATE / 1_000_000;
        (done..due).for_each(&mut send);
        done = due;
        std::thread::sleep(Duration::from_millis(1));
    }
    done
}

/// Ends a transfer, if there is one.
fn leave(peer: &mut HostileSender) {
    if peer.opened > 0 && peer.closed.is_none() {
        peer.close(CloseCode::Cancelled);
        peer.close(CloseCode::Cancelled);
    }
}

/// Removes what misdeeds have left, so that they can be committed again.
fn tidy(dir: &Path) {
    for name in names(dir).iter().filter(|name| !name.starts_with(".ufx-")) {
        let path = dir.join(name);
        if name != "honest.bin" {
            _ = std::fs::remove_file(&path).or_else(|_| std::fs::remove_dir_all(&path));
        }
    }
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

fn main() {
    // `cargo bench` says so to its benches; `cargo test` runs them once, to see that they do.
    let is_bench = std::env::args().any(|word| word == "--bench");
    let (bytes, runs) = if is_bench { (BYTES, RUNS) } else { (1 << 20, 1) };
    let room = room();
    let source = write_random(&room.path().join("honest.bin"), bytes, 1);
    println!(
        "| beside the honest transfer | misdeeds or packets | Mbit/s | share |\n|---|---|---|---|"
    );
    let alone = median((0..runs).map(|_| measure(&source, &Deeds::None).0).collect());
    println!("| nothing | 0 | {alone:.1} | 1 |");
    let mut least = (1.0, "nothing");
    for (name, deeds) in CLASSES {
        if matches!(deeds, Deeds::Impostures(_)) && !is_root_with(&[]) {
            continue;
        }
        let results: Vec<(f64, u64)> = (0..runs).map(|_| measure(&source, deeds)).collect();
        let rate = median(results.iter().map(|result| result.0).collect());
        let misdeeds = results.iter().map(|result| result.1).sum::<u64>() / runs as u64;
        println!("| {name} | {misdeeds} | {rate:.1} | {:.3} |", rate / alone);
        if rate / alone < least.0 {
            least = (rate / alone, name);
        }
    }
    let (share, name) = least;
    assert!(!is_bench || share > 1.0 - LOSS_MAX, "beside {name} only {share:.3} are left");
}
