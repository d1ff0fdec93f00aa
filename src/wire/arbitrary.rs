//! Every packet and record that proto.md allows, as strategies of proptest.

use proptest::array::uniform;
use proptest::collection::vec;
use proptest::prelude::*;

use super::*;

/// A frame that borrows nothing, as strategies have to make it.
#[derive(Clone, Debug)]
pub(super) enum OwnedFrame {
    Hello(Hello),
    Welcome(Welcome),
    Start(Start),
    Data(Space, u64, Vec<u8>),
    Ack(Ack<'static>, Vec<u64>),
    Probe(Probe),
    Close(CloseCode, String),
}

fn six_bytes() -> impl Strategy<Value = u64> {
    0..=OFFSET_MAX
}

pub(super) fn digest_algorithm() -> impl Strategy<Value = DigestAlgorithm> {
    prop_oneof![
        Just(DigestAlgorithm::None),
        Just(DigestAlgorithm::Xxh3),
        Just(DigestAlgorithm::Blake3)
    ]
}

pub(super) fn digest_of(algorithm: DigestAlgorithm) -> impl Strategy<Value = Digest> {
    vec(any::<u8>(), algorithm.digest_bytes())
        .prop_map(|bytes| Digest::from_slice(&bytes).expect("a length of an algorithm"))
}

fn digest() -> impl Strategy<Value = Digest> {
    digest_algorithm().prop_flat_map(digest_of)
}

/// The mode with the fields that only the keyed one has.
fn mode() -> impl Strategy<Value = (Mode, [u8; 32], [u8; 16])> {
    prop_oneof![
        Just((Mode::Open, [0; 32], [0; 16])),
        (uniform(any::<u8>()), uniform(any::<u8>())).prop_map(|(key_share, proof)| (
            Mode::Keyed,
            key_share,
            proof
        ))
    ]
}

fn greeting() -> impl Strategy<Value = Greeting> {
    let nonce = uniform(any::<u8>());
    (1..=255_u8, Just(1), mode(), digest_algorithm(), 0..=2_u8, 1..=u32::MAX, any::<u32>(), nonce)
        .prop_map(|(version_max, version_min, mode, digest, option, connection, seed, nonce)| {
            Greeting {
                version_max,
                version_min,
                mode: mode.0,
                digest: if option == 2 { DigestAlgorithm::None } else { digest },
                dry_run: option == 1,
                discard: option == 2,
                connection,
                seed,
                nonce,
                key_share: mode.1,
            }
        })
}

fn welcome() -> impl Strategy<Value = Welcome> {
    let numbers = (any::<u32>(), any::<u32>(), 1_200..=65_507_u32, CREDIT_MIN..=u32::MAX);
    (any::<u8>(), mode(), digest_algorithm(), uniform(any::<u8>()), 1..=u32::MAX, numbers).prop_map(
        |(version, mode, digest, nonce, connection, numbers)| Welcome {
            version,
            mode: mode.0,
            digest,
            nonce,
            connection,
            seed: numbers.0,
            socket_bytes: numbers.1,
            datagram_bytes_max: numbers.2,
            credit: numbers.3,
            key_share: mode.1,
            proof: mode.2,
        },
    )
}

pub(super) fn space() -> impl Strategy<Value = Space> {
    prop_oneof![
        Just(Space::Body),
        Just(Space::Manifest),
        Just(Space::Digests),
        Just(Space::Answers)
    ]
}

fn limit() -> impl Strategy<Value = Limit> {
    prop_oneof![Just(Limit::Nothing), Just(Limit::Socket), Just(Limit::Disk)]
}

/// An ACK without its bitmap, and the words of the bitmap.
fn ack() -> impl Strategy<Value = (Ack<'static>, Vec<u64>)> {
    let times = (any::<u64>(), any::<u32>());
    let counts = (any::<u64>(), any::<u64>(), any::<u32>(), any::<u32>(), any::<u32>());
    let credit = (any::<u64>(), six_bytes(), six_bytes(), six_bytes(), any::<u32>(), limit());
    let words = vec(any::<u64>(), 0..=BITMAP_WORDS_MAX);
    (times, counts, credit, any::<u64>(), 0..1_u64 << 57, 0..64_u64, words).prop_map(
        |(times, counts, credit, written, base_word, spare_bits, mut words)| {
            let base = base_word * 64;
            let last_bit = (words.len() as u64 * 64).saturating_sub(1 + spare_bits);
            if let Some(word) = words.last_mut() {
                *word = *word << spare_bits >> spare_bits;
            }
            let ack = Ack {
                largest: PacketNumber(base + last_bit),
                arrival_us: times.0,
                delay_us: times.1,
                received_packets: counts.0,
                received_bytes: counts.1,
                duplicates: counts.2,
                drops: counts.3,
                ecn_ce: counts.4,
                max_number: PacketNumber(credit.0),
                max_manifest: credit.1,
                max_digests: credit.2,
                max_body: credit.3,
                written,
                datagram_bytes: credit.4,
                limit: credit.5,
                base: PacketNumber(base),
                bitmap: Bitmap::EMPTY,
            };
            (ack, words)
        },
    )
}

fn close_code() -> impl Strategy<Value = CloseCode> {
    prop_oneof![
        Just(CloseCode::Done),
        Just(CloseCode::Protocol),
        Just(CloseCode::Version),
        Just(CloseCode::Forbidden),
        Just(CloseCode::Busy),
        Just(CloseCode::Cancelled),
        Just(CloseCode::Disk),
        Just(CloseCode::Integrity),
        Just(CloseCode::Timeout),
        Just(CloseCode::Internal),
        Just(CloseCode::Mode),
        Just(CloseCode::Digest)
    ]
}

/// Up to 252 bytes.
fn text() -> impl Strategy<Value = String> {
    vec(any::<char>(), 0..=63).prop_map(String::from_iter)
}

pub(super) fn frame() -> impl Strategy<Value = OwnedFrame> {
    let data =
        (space(), six_bytes(), vec(any::<u8>(), 1..=2_000)).prop_map(|(space, offset, payload)| {
            let offset = offset.min(SPACE_BYTES_MAX - payload.len() as u64);
            OwnedFrame::Data(space, offset, payload)
        });
    let probe = (any::<u32>(), any::<u32>(), six_bytes(), PROBE_BYTES_MIN..=2_000).prop_map(
        |(srtt_us, window_packets, answers, datagram_bytes)| {
            OwnedFrame::Probe(Probe { srtt_us, window_packets, answers, datagram_bytes })
        },
    );
    prop_oneof![
        greeting().prop_map(|greeting| OwnedFrame::Hello(Hello { greeting })),
        welcome().prop_map(OwnedFrame::Welcome),
        (greeting(), any::<u32>())
            .prop_map(|(greeting, srtt_us)| OwnedFrame::Start(Start { greeting, srtt_us })),
        data,
        ack().prop_map(|(ack, words)| OwnedFrame::Ack(ack, words)),
        probe,
        (close_code(), text()).prop_map(|(code, text)| OwnedFrame::Close(code, text)),
    ]
}

impl OwnedFrame {
    pub(super) fn borrow<'a>(&'a self, bitmap: &'a mut Vec<u8>) -> Frame<'a> {
        match self {
            Self::Hello(hello) => Frame::Hello(*hello),
            Self::Welcome(welcome) => Frame::Welcome(*welcome),
            Self::Start(start) => Frame::Start(*start),
            Self::Data(space, offset, payload) => {
                Frame::Data(Data { space: *space, offset: *offset, payload })
            }
            Self::Ack(ack, words) => {
                Frame::Ack(Ack { bitmap: encode_words(words, bitmap), ..*ack })
            }
            Self::Probe(probe) => Frame::Probe(*probe),
            Self::Close(code, text) => Frame::Close(Close { code: *code, text }),
        }
    }
}

fn path() -> impl Strategy<Value = Vec<u8>> {
    let byte =
        any::<u8>().prop_map(|byte| if matches!(byte, 0 | b'/' | b'.') { b'x' } else { byte });
    vec(vec(byte, 1..=100), 1..=20).prop_map(|components| components.join(&b'/'))
}

/// An entry's numbers, its path, and its target if it is a link.
pub(super) fn entry() -> impl Strategy<Value = (Entry<'static>, Vec<u8>, Vec<u8>)> {
    let kind = prop_oneof![
        Just(EntryKind::File),
        Just(EntryKind::Directory),
        Just(EntryKind::Symlink),
        Just(EntryKind::HardLink),
        Just(EntryKind::Pipe)
    ];
    let mtime = (any::<i64>(), 0..1_000_000_000_u32);
    let identity = (any::<u64>(), any::<u64>(), any::<i64>(), 0..1_000_000_000_u32);
    let target = vec(1..=255_u8, 1..=TARGET_BYTES_MAX);
    (kind, 0..=0o7777_u16, mtime, six_bytes(), identity, path(), target).prop_map(
        |(kind, mode, mtime, size, identity, path, target)| {
            let target = match kind {
                EntryKind::Symlink => target,
                EntryKind::HardLink => path.clone(),
                EntryKind::File | EntryKind::Directory | EntryKind::Pipe => Vec::new(),
            };
            let size = match kind {
                EntryKind::File | EntryKind::HardLink => size,
                EntryKind::Pipe => BLOCK_BYTES,
                EntryKind::Directory | EntryKind::Symlink => 0,
            };
            let identity = Identity {
                device: identity.0,
                inode: identity.1,
                ctime_seconds: identity.2,
                ctime_nanos: identity.3,
            };
            let entry = Entry {
                kind,
                mode,
                mtime_seconds: mtime.0,
                mtime_nanos: mtime.1,
                size,
                identity,
                path: &[],
                target: &[],
            };
            (entry, path, target)
        },
    )
}

pub(super) fn manifest_record() -> impl Strategy<Value = ManifestRecord<'static>> {
    let reason = prop_oneof![
        Just(VoidReason::Changed),
        Just(VoidReason::Vanished),
        Just(VoidReason::Unreadable)
    ];
    prop_oneof![
        (0..BODY_BYTES_MAX, 1..=BODY_BYTES_MAX).prop_map(|(offset, bytes)| ManifestRecord::Hole {
            offset,
            bytes: bytes.min(BODY_BYTES_MAX - offset)
        }),
        (0..ENTRIES_MAX, reason).prop_map(|(entry, reason)| ManifestRecord::Void { entry, reason }),
        (any::<u32>(), six_bytes(), six_bytes(), digest()).prop_map(
            |(entries, body_bytes, digests_bytes, digest)| ManifestRecord::End {
                entries,
                body_bytes,
                digests_bytes,
                digest
            }
        ),
    ]
}

/// A range of entry or block numbers: first and count.
fn range(end: u32) -> impl Strategy<Value = (u32, u32)> {
    (0..end).prop_flat_map(move |first| (Just(first), 1..=end - first))
}

pub(super) fn answer_record() -> impl Strategy<Value = AnswerRecord<'static>> {
    let code = prop_oneof![
        Just(RefuseCode::Exists),
        Just(RefuseCode::Name),
        Just(RefuseCode::Busy),
        Just(RefuseCode::Space),
        Just(RefuseCode::Disk),
        Just(RefuseCode::Source),
        Just(RefuseCode::Changed),
        Just(RefuseCode::Link)
    ];
    let text = prop_oneof![Just(""), Just("no room"), Just("Gerät ist voll")];
    let outcome = (0..ENTRIES_MAX, code, text, any::<bool>());
    prop_oneof![
        (0..ENTRIES_MAX, range(BLOCKS_MAX)).prop_map(|(entry, (first_block, blocks))| {
            AnswerRecord::Have { entry, first_block, blocks }
        }),
        range(ENTRIES_MAX)
            .prop_map(|(first_entry, entries)| AnswerRecord::Present { first_entry, entries }),
        range(ENTRIES_MAX)
            .prop_map(|(first_entry, entries)| AnswerRecord::Committed { first_entry, entries }),
        range(ENTRIES_MAX)
            .prop_map(|(first_entry, entries)| AnswerRecord::Take { first_entry, entries }),
        range(ENTRIES_MAX)
            .prop_map(|(first_entry, entries)| AnswerRecord::Kept { first_entry, entries }),
        outcome.prop_map(|(entry, code, text, refused)| if refused {
            AnswerRecord::Refused { entry, code, text }
        } else {
            AnswerRecord::Failed { entry, code, text }
        }),
        (0..ENTRIES_MAX, 0..BLOCKS_MAX, 1..=EPOCH_MAX)
            .prop_map(|(entry, block, epoch)| { AnswerRecord::Again { entry, block, epoch } }),
        any::<[u32; 3]>().prop_map(|[committed, present, failed]| AnswerRecord::End {
            committed,
            present,
            failed
        }),
    ]
}
