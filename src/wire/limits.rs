//! Every size and count of proto.md, and the relations between them.
//!
//! Lengths of things in memory are `usize`; lengths and offsets of spaces and files are `u64`.

/// The version of the protocol that this crate speaks.
pub const VERSION: u8 = 1;

/// Bytes of a header, the check included.
pub const HEADER_BYTES: usize = 14;
/// Bytes in front of the payload of a DATA packet: the header and the offset.
pub const DATA_HEADER_BYTES: usize = HEADER_BYTES + 6;
/// Fewest bytes of padding: its own length.
pub const PADDING_BYTES_MIN: usize = 2;

/// Every path must carry datagrams of this size; HELLO has it, packets to the sender never more.
pub const DATAGRAM_BYTES_MIN: usize = 1_200;
/// The largest UDP payload over IPv4: 65,535 - 20 (IPv4) - 8 (UDP).
pub const DATAGRAM_BYTES_MAX: usize = 65_507;
/// The UDP payload at an MTU of 1,500 over IPv4: 1,500 - 20 - 8. Larger ones need permission.
pub const BASE_DATAGRAM_BYTES: usize = 1_472;

/// Bytes of START's and HELLO's common part, from the magic to the key share.
pub const GREETING_BYTES: usize = 66;
/// Bytes of a WELCOME packet.
pub const WELCOME_BYTES: usize = 102;
/// Bytes of an ACK packet without its bitmap.
pub const ACK_BYTES_MIN: usize = 112;
/// Bytes of a PROBE packet that tests no size.
pub const PROBE_BYTES_MIN: usize = 28;
/// Most 64-bit words of an ACK's bitmap.
pub const BITMAP_WORDS_MAX: usize = 136;
/// Most packets that one ACK speaks of.
pub const BITMAP_BITS_MAX: usize = BITMAP_WORDS_MAX * 64;
/// Fewest packets that WELCOME allows before the first ACK.
pub const CREDIT_MIN: u32 = 2;
/// Most bytes of the text of a CLOSE or of an answer.
pub const TEXT_BYTES_MAX: usize = 255;

/// Bytes of a block; the last one of a file may be shorter.
pub const BLOCK_BYTES: u64 = 1 << 20;
/// Bytes of a space: the end of the last chunk that has an offset.
pub const SPACE_BYTES_MAX: u64 = 1 << 48;
/// The largest value of a 6-byte field; larger ones are written as this one.
pub const OFFSET_MAX: u64 = SPACE_BYTES_MAX - 1;
/// Most bytes of a body, and so of a file: as many as a 6-byte field can state.
pub const BODY_BYTES_MAX: u64 = OFFSET_MAX;
/// Most entries of a transfer; every entry number is smaller.
pub const ENTRIES_MAX: u32 = u32::MAX;
/// Most blocks of a file; every block number is smaller.
pub const BLOCKS_MAX: u32 = 1 << 28;
/// The largest epoch of a block: so often may a receiver ask for it again.
pub const EPOCH_MAX: u8 = 3;

/// Bytes in front of a record's content: kind and length.
pub const RECORD_HEADER_BYTES: usize = 3;
/// Most bytes of the content of a manifest or an answer record.
pub const RECORD_CONTENT_BYTES_MAX: usize = 8_300;
/// Most bytes of a manifest or an answer record.
pub const RECORD_BYTES_MAX: usize = RECORD_HEADER_BYTES + RECORD_CONTENT_BYTES_MAX;
/// Most bytes of the content of an ATTRIBUTE record: all that its length can state.
pub const ATTRIBUTE_CONTENT_BYTES_MAX: usize = u16::MAX as usize;
/// Most bytes of the name of an extended attribute: Linux's XATTR_NAME_MAX, limits.h.
pub const ATTRIBUTE_NAME_BYTES_MAX: usize = 255;
/// Most bytes of the value of one. Linux takes 256 more (XATTR_SIZE_MAX).
pub const ATTRIBUTE_VALUE_BYTES_MAX: usize =
    ATTRIBUTE_CONTENT_BYTES_MAX - 1 - ATTRIBUTE_NAME_BYTES_MAX;
/// Most bytes of names and values of the extended attributes of an entry.
pub const ATTRIBUTES_BYTES_MAX: usize = 1 << 17;
/// Most extended attributes of an entry.
pub const ATTRIBUTES_MAX: usize = 256;
/// So many bytes of attributes, begun, and each attribute, count as one hole of an entry that is
/// not settled.
pub const ATTRIBUTE_BYTES_A_HOLE: usize = 256;
/// Bytes of an ENTRY's content without path and target.
pub const ENTRY_FIXED_BYTES: usize = 51;
/// Most bytes of a path: Linux's PATH_MAX, limits.h.
pub const PATH_BYTES_MAX: usize = 4_096;
/// Most bytes of a component of a path: Linux's NAME_MAX, limits.h.
pub const COMPONENT_BYTES_MAX: usize = 255;
/// Most components of a path.
pub const COMPONENTS_MAX: usize = 256;
/// Most bytes of a symbolic link's text: PATH_MAX less the final NUL byte.
pub const TARGET_BYTES_MAX: usize = 4_095;
/// Bytes of a digest record without the digest.
pub const DIGEST_RECORD_FIXED_BYTES: usize = 9;

/// Bytes of the manifest or the digests that a receiver takes beyond what it has consumed.
pub const STREAM_WINDOW_BYTES: u64 = 1 << 20;
/// Most bytes of the answers space that may be unacknowledged.
pub const ANSWERS_OUTSTANDING_MAX: u64 = 256 << 10;
/// Bytes of the body that may be sent before the first ACK.
pub const FIRST_BODY_BYTES: u64 = 1 << 24;
/// Bytes of the body that a receiver takes beyond what it has handed on, where it must hand them on
/// in order: 1 Gbit/s over 250 ms.
pub const ORDERED_WINDOW_BYTES: u64 = 32 << 20;
/// Most separate stored ranges of a space that a receiver remembers.
pub const STORED_RANGES_MAX: usize = 65_536;
/// Most pieces of a record space that are held behind a gap: each is memory of its own. A full
/// window of the smallest datagrams is under 900.
pub const PIECES_AHEAD_MAX: usize = STORED_RANGES_MAX / 16;
/// Most ranges of one file that HOLE records may name. Files with more exist (images of disks);
/// their smallest holes are sent as zeros.
pub const HOLES_MAX: usize = 16_384;
/// Holes of entries that are not settled at which a receiver reads no further ENTRY: each is
/// memory until then. A sender keeps to a quarter of it before it announces another file.
pub const UNSETTLED_HOLES_MAX: usize = 2 * HOLES_MAX;
/// Bytes of the paths and targets of entries that are not settled at which a receiver reads no
/// further ENTRY: each is kept until then, several times over. Paths of 128 bytes do not come to
/// it before [`UNSETTLED_MAX`] does. A sender keeps to half of it.
pub const UNSETTLED_NAME_BYTES_MAX: usize = 1 << 20;
/// Digest records that wait for the bytes of their blocks, at which a receiver reads no further:
/// those blocks are sent without it.
pub const WAITING_DIGESTS_MAX: usize = 65_536;
/// So many of the latest packet numbers a receiver remembers at least.
pub const SEEN_NUMBERS_MIN: u64 = 65_536;

// The largest ACK fits the smallest datagram that every path carries.
const _: () = assert!(ACK_BYTES_MIN + BITMAP_WORDS_MAX * 8 == DATAGRAM_BYTES_MIN);
// A receiver never answers a HELLO with more bytes than it got.
const _: () = assert!(WELCOME_BYTES <= DATAGRAM_BYTES_MIN);
const _: () = assert!(HEADER_BYTES + 1 + TEXT_BYTES_MAX <= DATAGRAM_BYTES_MIN);
const _: () = assert!(HEADER_BYTES + GREETING_BYTES + 4 <= DATAGRAM_BYTES_MIN);
// The length of padding is a 16-bit number.
const _: () = assert!(DATAGRAM_BYTES_MAX <= u16::MAX as usize);
const _: () = assert!(DATAGRAM_BYTES_MIN < BASE_DATAGRAM_BYTES);
const _: () = assert!(BASE_DATAGRAM_BYTES < DATAGRAM_BYTES_MAX);
// The largest file has its blocks numbered.
const _: () = assert!(BLOCKS_MAX as u64 * BLOCK_BYTES == SPACE_BYTES_MAX);
// The largest ENTRY is a record.
const _: () =
    assert!(ENTRY_FIXED_BYTES + PATH_BYTES_MAX + TARGET_BYTES_MAX <= RECORD_CONTENT_BYTES_MAX);
const _: () = assert!(RECORD_CONTENT_BYTES_MAX <= u16::MAX as usize);
// A sender that keeps to a quarter never makes the receiver wait, whatever its next file has; and
// holes alone never use up the stored ranges.
const _: () = assert!(UNSETTLED_HOLES_MAX / 4 + HOLES_MAX < UNSETTLED_HOLES_MAX);
const _: () = assert!(UNSETTLED_HOLES_MAX + HOLES_MAX < STORED_RANGES_MAX);
// One reported window is well within what a receiver remembers.
const _: () = assert!((BITMAP_BITS_MAX as u64) < SEEN_NUMBERS_MIN);

// Credit that was given before the first ACK is not taken back.
const _: () = assert!(FIRST_BODY_BYTES <= ORDERED_WINDOW_BYTES);

/// Entries that are not settled at which a receiver reads no further ENTRY. A sender keeps to half
/// of it.
pub const UNSETTLED_MAX: u32 = 8_192;
