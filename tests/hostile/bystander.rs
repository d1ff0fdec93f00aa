//! A receiver that suffers one misdeed after another, and what must hold after each: an honest
//! transfer beside it succeeds, the directory holds whole files only, nothing appears outside,
//! and the memory of the process does not grow.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use rustix::process::Signal;
use serde_json::Value;
use tempfile::TempDir;
use ufx::wire::{CloseCode, Space};

use crate::forge;
use crate::impostor::{Impostor, Imposture, Victim};
use crate::sender::HostileSender;
use crate::support::content::{Random, names, room, same_bytes, write_random};
use crate::support::process::{Program, peak_bytes};
use crate::support::transfer::Receiver;

/// What a misdeed may add to the resident memory of the receiver.
const GROWTH_BYTES_MAX: u64 = 8 << 20;

/// Bytes of the honest file beside each misdeed, and its rate: about 0.1 s.
const HONEST_BYTES: u64 = 1_000_000;
const HONEST_RATE: &str = "80M";

/// What an impostor sends meanwhile, as fast as it can.
const IMPOSTOR_PACKETS: u32 = 5_000;

/// One way to break the rules.
pub struct Misdeed {
    /// What is done, in a few words.
    pub name: &'static str,
    /// What proto.md says about it.
    pub rule: &'static str,
    /// Does it.
    pub does: fn(&mut HostileSender),
    /// What comes of it.
    pub then: Then,
    /// What the transfer leaves below the directory: whole files, or what else has a name.
    pub leaves: &'static [&'static str],
}

/// What comes of a misdeed.
pub enum Then {
    /// The receiver ends the transfer with this code.
    Closed(CloseCode),
    /// Nothing: the peer can go on honestly, and the file `honest too` is committed.
    Ignored,
    /// Entries are settled like this, in order.
    Settled(&'static [&'static str]),
    /// Silence ends the transfer, and nothing revives it.
    Lost,
    /// The misdeed itself has looked at what came of it.
    Told,
}

/// What was there before a misdeed.
struct Before {
    outside: Vec<(PathBuf, u64)>,
    peak_bytes: u64,
}

/// What a file of that path holds if it is whole.
pub fn content_of(path: &[u8]) -> Vec<u8> {
    let seed = path.iter().fold(7, |seed: u64, byte| seed.wrapping_mul(31) + u64::from(*byte));
    Random::new(seed).bytes(3_000)
}

/// See the module's description.
pub struct Bystander {
    room: TempDir,
    dir: PathBuf,
    receiver: Receiver,
    source: PathBuf,
    baseline_bytes: u64,
    misdeeds: u8,
}

impl Bystander {
    /// A receiver that has seen one well-behaved peer beside an honest transfer.
    pub fn new(options: &[&str]) -> Bystander {
        let room = room();
        let dir = room.path().join("to");
        std::fs::create_dir(room.path().join("elsewhere")).unwrap();
        std::fs::write(room.path().join("elsewhere/precious"), "precious").unwrap();
        let source = write_random(&room.path().join("honest.bin"), HONEST_BYTES, 90);
        let options = [&["-v", "--timeout", "2s"], options].concat();
        let receiver = Receiver::start(&dir, &options);
        let mut bystander =
            Bystander { room, dir, receiver, source, baseline_bytes: u64::MAX / 2, misdeeds: 0 };
        bystander.suffers(&Misdeed {
            name: "behaves",
            rule: "Only then does a sender succeed.",
            does: |peer| {
                peer.connect();
                peer.send_file(b"behaves", &content_of(b"behaves"));
            },
            then: Then::Ignored,
            leaves: &["behaves"],
        });
        bystander.baseline_bytes = peak_bytes(bystander.receiver.program.id()).unwrap();
        bystander
    }

    /// Suffers every misdeed of a table, and ends well.
    #[track_caller]
    pub fn suffers_all(mut self, misdeeds: &[Misdeed]) {
        for misdeed in misdeeds {
            assert_rule(misdeed.name, misdeed.rule);
            self.suffers(misdeed);
        }
        self.ends_well();
    }

    /// The same of impostures.
    #[track_caller]
    pub fn suffers_impostors(mut self, impostures: &[Imposture]) {
        for imposture in impostures {
            assert_rule(imposture.name, imposture.rule);
            self.suffers_impostor(imposture);
        }
        self.ends_well();
    }

    #[track_caller]
    fn ends_well(self) {
        self.receiver.program.signal(Signal::TERM);
        let ended = self.receiver.program.wait().expect_code(0);
        let strange = |letter: char| letter.is_control() && letter != '\n';
        assert!(!ended.stderr.contains(strange), "foreign bytes on stderr: {}", ended.stderr);
    }

    #[track_caller]
    fn suffers(&mut self, misdeed: &Misdeed) {
        let name = misdeed.name;
        let before = self.before();
        self.misdeeds += 1;
        let mut peer = HostileSender::new(self.receiver.port, self.misdeeds);
        let honest = self.honest(&[]);
        self.receiver.program.stderr_line("begins to send");

        (misdeed.does)(&mut peer);
        expect(name, &mut peer, &misdeed.then);
        let is_lost = matches!(misdeed.then, Then::Lost);
        if peer.opened > 0 && peer.closed.is_none() && !is_lost {
            peer.close(CloseCode::Cancelled);
            peer.close(CloseCode::Cancelled);
        }

        let sent = honest.wait();
        assert_eq!(sent.code, Some(0), "{name}: the honest transfer: {sent:#?}");
        let reports: Vec<Value> = (0..=peer.opened).map(|_| self.receiver.next_report()).collect();
        if is_lost {
            let address = peer.socket.local_addr().unwrap().to_string();
            let report = reports.iter().find(|report| report["peer"] == address.as_str());
            assert_eq!(report.unwrap()["result"], "unreachable", "{name}: {report:?}");
            while peer.receive().is_some() {}
            peer.send_data(Space::Body, 0, b"again");
            peer.probe();
            assert_eq!(peer.receive(), None, "{name}: what is over was answered");
        }
        let mut leaves = misdeed.leaves.to_vec();
        leaves.extend(matches!(misdeed.then, Then::Ignored).then_some("honest too"));
        self.check(name, &before, &leaves);
    }

    /// An impostor speaks while the honest sender does.
    #[track_caller]
    fn suffers_impostor(&mut self, imposture: &Imposture) {
        let name = imposture.name;
        let before = self.before();
        let mut impostor = Impostor::new(self.receiver.port);
        let honest = self.honest(&["--timeout", "2s"]);
        impostor.overhear();
        self.receiver.program.stderr_line("begins to send");
        (1..=IMPOSTOR_PACKETS).for_each(|number| (imposture.says)(&impostor, number));
        let sent = honest.wait();
        if matches!(imposture.then, Victim::DeliversAgain) {
            assert!(matches!(sent.code, Some(0 | 3)), "{name}: {sent:#?}");
            let again = self.receiver.send(&[&self.source], &[]);
            assert_eq!(again.code, Some(0), "{name}: again: {again:#?}");
            self.receiver.next_report();
        } else {
            assert_eq!(sent.code, Some(0), "{name}: {sent:#?}");
        }
        self.receiver.next_report();
        self.check(name, &before, &[]);
    }

    /// Starts the honest sender.
    fn honest(&self, options: &[&str]) -> Program {
        let options = [&["--rate", HONEST_RATE], options].concat();
        Program::start(&mut self.receiver.sender(&[&self.source], &options))
    }

    fn before(&self) -> Before {
        // The kernel's peak starts again from what is resident now (proc(5), clear_refs).
        let process = self.receiver.program.id();
        std::fs::write(format!("/proc/{process}/clear_refs"), "5").unwrap();
        let peak_bytes = peak_bytes(process).unwrap().max(self.baseline_bytes);
        Before { outside: outside(self.room.path()), peak_bytes }
    }

    /// Looks at what a misdeed has left, when the honest transfer has ended well.
    #[track_caller]
    fn check(&self, name: &str, before: &Before, leaves: &[&str]) {
        assert!(same_bytes(&self.source, &self.dir.join("honest.bin")), "{name}");
        assert_eq!(before.outside, outside(self.room.path()), "{name}: outside of --dir");
        self.check_directory(name, leaves);
        let peak = peak_bytes(self.receiver.program.id());
        let peak = peak.unwrap_or_else(|| panic!("{name}: the receiver is gone"));
        let growth = peak.saturating_sub(before.peak_bytes);
        println!("{name}: {} KiB", growth >> 10);
        assert!(growth <= GROWTH_BYTES_MAX, "{name}: memory grew by {growth} bytes");
    }

    /// Looks at everything that is in the directory now, and empties it.
    #[track_caller]
    fn check_directory(&self, name: &str, leaves: &[&str]) {
        let mut found = BTreeSet::new();
        for path in below(&self.dir) {
            let shown = path.strip_prefix(&self.dir).unwrap().to_string_lossy().into_owned();
            let is_unfinished =
                shown.rsplit('/').next().is_some_and(|leaf| leaf.starts_with(".ufx-"));
            if shown == "honest.bin" || is_unfinished {
                continue;
            }
            let metadata = path.symlink_metadata().unwrap();
            if metadata.is_file() && metadata.len() > 0 {
                let whole = content_of(shown.as_bytes());
                assert!(std::fs::read(&path).unwrap() == whole, "{name}: {shown}");
            }
            assert_eq!(std::os::unix::fs::MetadataExt::mode(&metadata) & 0o6000, 0, "{shown}");
            found.insert(shown);
        }
        let leaves: BTreeSet<String> = leaves.iter().map(|&leaf| leaf.to_owned()).collect();
        assert_eq!(found, leaves, "{name}: below --dir");
        for name in names(&self.dir) {
            let path = self.dir.join(name);
            match path.symlink_metadata().unwrap().is_dir() {
                true => std::fs::remove_dir_all(path).unwrap(),
                false => std::fs::remove_file(path).unwrap(),
            }
        }
    }
}

/// Waits for what must come of a misdeed.
#[track_caller]
fn expect(name: &str, peer: &mut HostileSender, then: &Then) {
    match then {
        Then::Closed(code) => {
            peer.wait(name, |_| false);
            assert_eq!(peer.closed, Some(*code), "{name}");
        }
        Then::Ignored => {
            if peer.opened == 0 {
                peer.connect();
            }
            peer.send_file(b"honest too", &content_of(b"honest too"));
            peer.finish();
            assert_eq!(peer.closed, None, "{name}");
            let last = peer.outcomes.values().next_back().map(String::as_str);
            assert_eq!(last, Some("committed"), "{name}: {:?}", peer.outcomes);
            assert_eq!(peer.ended.map(|[_, _, failed]| failed), Some(0), "{name}");
        }
        Then::Settled(expected) => {
            peer.wait(name, |peer| peer.outcomes.len() >= expected.len());
            // An empty file whose directory is none is refused at once, or fails with its commit.
            let found =
                peer.outcomes.values().map(|one| one.replace("failed Disk", "refused Disk"));
            let found: Vec<String> = found.collect();
            assert_eq!(found, *expected, "{name}: closed {:?}", peer.closed);
        }
        Then::Lost | Then::Told => {}
    }
}

/// Everything below a directory; links are not followed.
fn below(directory: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for name in std::fs::read_dir(directory).unwrap() {
        let path = name.unwrap().path();
        if path.symlink_metadata().unwrap().is_dir() {
            found.extend(below(&path));
        }
        found.push(path);
    }
    found
}

/// All that is not the receiver's business, with its bytes.
fn outside(room: &Path) -> Vec<(PathBuf, u64)> {
    let to = room.join("to");
    let mut paths: Vec<PathBuf> =
        below(room).into_iter().filter(|path| !path.starts_with(&to)).collect();
    paths.extend(["/tmp/ufx-hostile", "/ufx-hostile"].map(PathBuf::from));
    paths.sort_unstable();
    let bytes = |path: &Path| path.symlink_metadata().map_or(0, |metadata| metadata.len());
    paths.into_iter().map(|path| (path.clone(), bytes(&path))).collect()
}

/// Asserts that proto.md holds the sentence.
#[track_caller]
fn assert_rule(name: &str, rule: &str) {
    let spec = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/proto.md"));
    assert!(words(&spec.unwrap()).contains(&words(rule)), "{name}: not in proto.md");
}

/// A text with one space between its words.
pub fn words(text: &str) -> String {
    text.split_whitespace().collect::<Vec<&str>>().join(" ")
}

/// Announces entries and ends, as if they were honest.
pub fn announce_and_end(peer: &mut HostileSender, records: &[Vec<u8>]) {
    peer.connect();
    peer.announce(records);
    let end = peer.end_record();
    peer.manifest(&[end]);
}

/// Connects and sends one raw record.
pub fn connect_and_say(peer: &mut HostileSender, record: Vec<u8>) {
    peer.connect();
    peer.manifest(&[record]);
}

/// Connects and announces an entry under any name.
pub fn connect_and_name(peer: &mut HostileSender, path: &[u8]) {
    connect_and_say(peer, forge::file(path, 0));
}
