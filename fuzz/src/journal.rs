//! Any bytes as the journal of an unfinished file: it vouches only for blocks that records with
//! right checks name, and what it was cut to says the same again.

use std::collections::BTreeSet;
use std::fs;
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::sync::Arc;

use ufx::io::journal::{Found, Journal, Kept, Place, Subject};
use ufx::io::metadata::{Identity, Timestamp};
use ufx::wire::{Digest, DigestAlgorithm, limits};

use crate::input::Input;

const HEADER_BYTES: usize = 80;
const RECORD_BYTES: usize = 48;
const BLOCK: u8 = 1;

/// Blocks of the file that the journal is about.
const BLOCKS: u32 = 40;

/// The number of the unfinished file.
const INODE: u64 = 9;

/// A directory in memory, removed on drop.
struct Room {
    path: PathBuf,
    journal: PathBuf,
    place: Place,
    /// A good header, and a good record of this boot and mount.
    header: Vec<u8>,
    session: Vec<u8>,
}

fn subject() -> Subject {
    let time = Timestamp::new(1, 2).unwrap_or_default();
    let size = u64::from(BLOCKS) * limits::BLOCK_BYTES;
    let source = Identity { device: 1, inode: 2, size, modified: time, changed: time };
    Subject { source, digest: DigestAlgorithm::Xxh3 }
}

impl Room {
    fn new() -> Room {
        let memory = PathBuf::from("/dev/shm");
        let parent = if memory.is_dir() { memory } else { std::env::temp_dir() };
        let path = parent.join(format!("ufx-fuzz-{}", std::process::id()));
        fs::create_dir_all(&path).expect("a directory can be made");
        let directory = fs::File::open(&path).expect("it was made");
        let place = Place {
            parent: Arc::new(OwnedFd::from(directory)),
            temporary: "part".into(),
            journal: "journal".into(),
        };
        let mut room =
            Room { journal: path.join("journal"), path, place, header: vec![], session: vec![] };
        let mut journal = Journal::new(&room.place, &subject(), INODE);
        journal.record(0, &Digest::from([7; 16]));
        assert!(journal.persist(), "a journal can be written");
        let bytes = fs::read(&room.journal).expect("it was written");
        room.header = bytes[..HEADER_BYTES].to_vec();
        room.session = bytes[HEADER_BYTES..HEADER_BYTES + RECORD_BYTES].to_vec();
        room
    }

    /// What is found in these bytes, and what the file holds then.
    fn find(&self) -> Option<(Kept, Vec<u8>)> {
        match Journal::find(&self.place, &subject(), INODE) {
            Found::Blocks(journal, kept) => {
                drop(journal);
                Some((kept, fs::read(&self.journal).expect("it is there")))
            }
            Found::Nothing | Found::OfAnother => None,
        }
    }
}

impl Drop for Room {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.path);
    }
}

/// Gives the record at `index` a right check (ARCHITECTURE.md, "The journal").
fn sign(record: &mut [u8], header: &[u8], index: u64) {
    let mut check = crc32fast::Hasher::new();
    check.update(&header[HEADER_BYTES - 4..]);
    check.update(&index.to_be_bytes());
    check.update(&record[..RECORD_BYTES - 4]);
    record[RECORD_BYTES - 4..].copy_from_slice(&check.finalize().to_be_bytes());
}

/// Runs one input.
pub fn run(bytes: &[u8]) -> u64 {
    let room = Room::new();
    let mut input = Input::new(bytes);
    let (content, named) = written(&mut input, &room);
    // A file of its own each time: what is there may have been opened by nobody else.
    fs::write(&room.journal, &content).expect("the journal can be written");
    let Some((kept, cut)) = room.find() else { return (content.len() as u64 / 48) & 7 };

    let blocks: Vec<u64> = kept.blocks.iter().flatten().collect();
    assert!(!blocks.is_empty(), "a journal that vouches for nothing is none");
    assert!(blocks.iter().all(|block| named.contains(block)), "{blocks:?} of {named:?}");
    assert!(kept.digests.keys().all(|block| blocks.contains(&u64::from(*block))));
    assert!(cut.len() >= HEADER_BYTES && (cut.len() - HEADER_BYTES).is_multiple_of(RECORD_BYTES));
    let (again, cut_again) = room.find().expect("what was trusted once is trusted again");
    assert_eq!(again.blocks.iter().collect::<Vec<_>>(), kept.blocks.iter().collect::<Vec<_>>());
    assert_eq!(again.digests, kept.digests);
    assert_eq!(cut_again, cut, "reading changes nothing more");
    8 | (blocks.len() as u64).min(63) << 4
        | (content.len().abs_diff(cut.len()).min(255) as u64) >> 3 << 10
}

/// A journal, good or bad, and the blocks that its good records name.
fn written(input: &mut Input<'_>, room: &Room) -> (Vec<u8>, BTreeSet<u64>) {
    let mut content = room.header.clone();
    let mut named = BTreeSet::new();
    for index in 0..200_u64 {
        if input.is_empty() {
            break;
        }
        let mut record = vec![0; RECORD_BYTES];
        match input.byte() % 8 {
            0 => record = room.session.clone(),
            // Another boot, or another mount.
            1 => {
                record = room.session.clone();
                record[8 + input.below(24) as usize] ^= input.byte();
            }
            2 => {
                record[0] = 3;
                record[4..8].copy_from_slice(&u32::from(input.byte()).to_be_bytes());
            }
            3..=5 => {
                record[0] = BLOCK;
                let block = input.below(u64::from(BLOCKS) + 2) as u32;
                record[4..8].copy_from_slice(&block.to_be_bytes());
                record[8..24].fill(input.byte());
            }
            _ => {
                let any = input.bytes(RECORD_BYTES);
                record[..any.len()].copy_from_slice(any);
            }
        }
        let is_good = input.byte() != 0xff;
        if is_good {
            sign(&mut record, &room.header, index);
        }
        if record[0] == BLOCK {
            named.extend(record[4..8].first_chunk().map(|one| u64::from(u32::from_be_bytes(*one))));
        }
        content.extend(record);
    }
    match input.byte() {
        0xfe => content.truncate(content.len().saturating_sub(input.below(60) as usize)),
        0xfd => {
            let at = input.below(content.len() as u64) as usize;
            content[at] ^= 1 << input.below(8);
        }
        0xfc => content.extend_from_slice(input.rest()),
        _ => {}
    }
    (content, named)
}
