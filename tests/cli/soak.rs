//! One receiver that serves for long: sizes, losses, kills, stops and other ports of senders are
//! drawn, and everything must arrive, while memory and descriptors of the receiver stay as they
//! are.
//!
//! ```sh
//! UFX_SOAK=1h cargo test --release --test cli soak -- --nocapture
//! ```

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rustix::process::Signal;
use tempfile::TempDir;

use crate::support::content::{Random, names, room_for, write_random};
use crate::support::process::{Program, resident_bytes, wait_until};
use crate::support::relay::Relay;
use crate::support::transfer::{Receiver, send_command};
use crate::support::tree::assert_same_trees;

/// How long without UFX_SOAK.
const SHORT: Duration = Duration::from_secs(4);

/// Senders at the same time at most.
const SENDERS_MAX: u64 = 4;

/// What the receiver may hold of a quarter more than of an earlier one, by the median of each:
/// an allocator cuts what it has into ever different pieces.
const GROWTH_BYTES_MAX: u64 = 1 << 20;

/// What it may hold at its end, without transfers, more than at its beginning: what an allocator
/// keeps, and the pages of the program that it has run through meanwhile.
const KEPT_BYTES_MAX: u64 = 8 << 20;

/// Directories that it keeps open (src/io/confine.rs).
const DIRECTORIES_MAX: usize = 64;

/// A run of the same command over and over until it succeeds takes no more than this.
const TRIES_MAX: u32 = 6;

/// What happens to a sender.
#[derive(Clone, Copy, Debug)]
enum Event {
    Nothing,
    Kill,
    Interrupt,
    Pause,
    Rebind,
}

/// What was done.
#[derive(Debug, Default)]
struct Tally {
    rounds: u64,
    transfers: u64,
    bytes: u64,
    kills: u64,
    pauses: u64,
    reruns: u64,
}

/// The receiver at one moment without transfers.
#[derive(Clone, Copy, Debug)]
struct Size {
    resident_bytes: u64,
    /// Sockets, files, pipes.
    descriptors: usize,
    /// Directories, which it keeps open for a while.
    directories: usize,
}

impl Size {
    fn of(process: u32) -> Size {
        let descriptors = fs::read_dir(format!("/proc/{process}/fd")).unwrap();
        let is_directory = |path: PathBuf| fs::metadata(path).is_ok_and(|what| what.is_dir());
        let (directories, others): (Vec<_>, Vec<_>) = descriptors
            .map(|entry| entry.unwrap().path())
            .partition(|path| is_directory(path.clone()));
        Size {
            resident_bytes: resident_bytes(process),
            descriptors: others.len(),
            directories: directories.len(),
        }
    }
}

struct Soak {
    room: TempDir,
    receiver: Receiver,
    relay: Relay,
    tally: Tally,
}

impl Soak {
    fn new(seed: u64) -> Soak {
        let room = room_for(0);
        let receiver = Receiver::start(&room.path().join("to"), &["--timeout", "5s"]);
        let relay = Relay::start(receiver.port, seed);
        Soak { room, receiver, relay, tally: Tally::default() }
    }

    fn dir(&self) -> PathBuf {
        self.room.path().join("to")
    }

    /// A tree of a few files, or of many small ones, or with a large one.
    fn make_tree(&mut self, name: &str, random: &mut Random) -> PathBuf {
        let root = self.room.path().join("from").join(name);
        let (files, most) = [(3, 1 << 20), (200, 9_000), (1, 30 << 20)][random.below(3) as usize];
        for file in 0..=random.below(files) {
            let directory = root.join(random.below(8).to_string());
            fs::create_dir_all(&directory).unwrap();
            let bytes = random.below(most);
            write_random(&directory.join(file.to_string()), bytes, random.next_u64());
            self.tally.bytes += bytes;
        }
        root
    }

    /// Sends `tree` until it has arrived. `event` happens to the first try.
    fn start(&self, tree: &Path) -> Program {
        let options = ["--rate", "100M", "--timeout", "5s"];
        Program::start(&mut send_command(&[tree], &options, "127.0.0.1", self.relay.port))
    }

    /// Some senders at once, each until it has succeeded.
    fn round(&mut self, random: &mut Random) {
        let per_mille = [0, 1, 10, 100][random.below(4) as usize];
        self.relay.lose(per_mille);
        let trees: Vec<PathBuf> = (0..=random.below(SENDERS_MAX))
            .map(|number| self.make_tree(&number.to_string(), random))
            .collect();
        let senders: Vec<Program> = trees.iter().map(|tree| self.start(tree)).collect();
        senders.iter().for_each(|sender| self.disturb(sender, random));
        for (tree, mut sender) in trees.iter().zip(senders) {
            let mut tries = 1;
            loop {
                let finished = sender.wait();
                if finished.code == Some(0) {
                    break;
                }
                // A killed sender says nothing, and one that was interrupted only that.
                if !matches!(finished.code, None | Some(130)) {
                    println!("try {tries} ended with {:?}: {}", finished.code, finished.stderr);
                }
                assert!(tries < TRIES_MAX, "{tree:?} does not arrive");
                tries += 1;
                self.tally.reruns += 1;
                sender = self.start(tree);
            }
            assert_same_trees(tree, &self.dir().join(tree.file_name().unwrap()));
            self.tally.transfers += 1;
        }
        assert_eq!(names(&self.dir()).len(), trees.len(), "{:?}", names(&self.dir()));
        self.relay.forget();
        for directory in [self.room.path().join("from"), self.dir()] {
            for name in names(&directory) {
                fs::remove_dir_all(directory.join(name)).unwrap();
            }
        }
        self.tally.rounds += 1;
    }

    /// Lets something happen to a sender at a drawn moment.
    fn disturb(&mut self, sender: &Program, random: &mut Random) {
        use Event::{Interrupt, Kill, Nothing, Pause, Rebind};
        let event = [Nothing, Nothing, Kill, Interrupt, Pause, Rebind][random.below(6) as usize];
        // The moment is what is drawn; whatever has happened by then, all must be well.
        std::thread::sleep(Duration::from_micros(random.below(100_000)));
        match event {
            Nothing => {}
            Kill => sender.signal(Signal::KILL),
            Interrupt => sender.signal(Signal::INT),
            Pause => {
                sender.signal(Signal::STOP);
                std::thread::sleep(Duration::from_micros(random.below(2_000_000)));
                sender.signal(Signal::CONT);
            }
            Rebind => self.relay.rebind(),
        }
        self.tally.kills += u64::from(matches!(event, Kill | Interrupt));
        self.tally.pauses += u64::from(matches!(event, Pause));
    }
}

/// How long to go on: UFX_SOAK, as in 1h, 20m or 30s.
fn span() -> Duration {
    let Ok(text) = std::env::var("UFX_SOAK") else { return SHORT };
    let units = [('h', 3_600), ('m', 60), ('s', 1)];
    let seconds = units
        .into_iter()
        .find_map(|(unit, seconds)| Some(text.strip_suffix(unit)?.parse::<u64>().ok()? * seconds));
    Duration::from_secs(seconds.unwrap_or_else(|| panic!("UFX_SOAK={text}: say 1h, 20m or 30s")))
}

#[test]
fn a_receiver_that_serves_for_long_neither_grows_nor_loses_anything() {
    let seed = std::env::var("UFX_SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or(1);
    println!("UFX_SEED={seed}");
    let mut random = Random::new(seed);
    let mut soak = Soak::new(seed);
    let process = soak.receiver.program.id();
    let idle = Size::of(process);
    let (start, span) = (Instant::now(), span());
    let mut sizes = Vec::new();
    let mut shown = Duration::ZERO;
    while start.elapsed() < span {
        soak.round(&mut random);
        let size = Size::of(process);
        sizes.push((start.elapsed(), size));
        if start.elapsed() >= shown {
            shown += Duration::from_secs(60);
            println!("{:4} s  {size:?}  {:?}", start.elapsed().as_secs(), soak.tally);
        }
    }
    // Transfers of senders that were killed are given up by and by.
    wait_until("every descriptor is given back", || {
        Size::of(process).descriptors <= idle.descriptors
    });
    let last = Size::of(process);
    assert!(last.directories <= idle.directories + DIRECTORIES_MAX, "{last:?}");
    assert!(last.resident_bytes <= idle.resident_bytes + KEPT_BYTES_MAX, "{idle:?}, {last:?}");
    let [lost, rebound] = soak.relay.counts();
    println!("{:?}, {lost} datagrams lost, {rebound} other ports", soak.tally);
    let quarters = [0, 1, 2, 3].map(|quarter| {
        let (from, to) = (span * quarter / 4, span * (quarter + 1) / 4);
        // The last round ends after the span.
        let within = sizes.iter().filter(|(at, _)| *at >= from && (*at < to || quarter == 3));
        let mut bytes: Vec<u64> = within.map(|(_, size)| size.resident_bytes).collect();
        bytes.sort_unstable();
        (bytes.get(bytes.len() / 2).copied(), bytes.last().copied())
    });
    println!("receiver: {idle:?} at first, {last:?} at last");
    println!("median and most of its resident bytes by quarters: {quarters:?}");
    // The first quarter has seen everything only if it was long.
    if span > Duration::from_secs(300) {
        let [first, .., fourth] = quarters.map(|(median, _)| median.unwrap());
        assert!(fourth <= first + GROWTH_BYTES_MAX, "the receiver grows: {quarters:?}");
    }
    soak.receiver.program.signal(Signal::TERM);
    let peak_bytes = soak.receiver.program.wait().expect_code(0).peak_bytes;
    assert!(peak_bytes < 64 << 20, "the receiver held {peak_bytes} bytes");
}
