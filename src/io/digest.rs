//! Digests of blocks, and of whole files from those of their blocks (proto.md, "Digest records").

use blake3::hazmat::{self, ChainingValue, HasherExt};
use twox_hash::XxHash3_128;

use crate::wire::{Digest, DigestAlgorithm, limits};

/// The digest of one block while its bytes come.
pub enum BlockHasher {
    /// Nothing is computed.
    None,
    /// XXH3-128. The state is made with the first bytes: most blocks come at once.
    Xxh3(Option<Box<XxHash3_128>>),
    /// The digest of a block that came at once.
    Whole(Digest),
    /// BLAKE3: the ordinary hash of a file of one block, a chaining value otherwise.
    Blake3 {
        /// The running hash.
        hasher: Box<blake3::Hasher>,
        /// Whether the file has no other block.
        is_only_block: bool,
    },
}

impl std::fmt::Debug for BlockHasher {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str("BlockHasher")
    }
}

impl BlockHasher {
    /// A hasher for block `block` of a file of `file_bytes`.
    pub fn new(algorithm: DigestAlgorithm, block: u64, file_bytes: u64) -> BlockHasher {
        match algorithm {
            DigestAlgorithm::None => BlockHasher::None,
            DigestAlgorithm::Xxh3 => BlockHasher::Xxh3(None),
            DigestAlgorithm::Blake3 => {
                let mut hasher = Box::new(blake3::Hasher::new());
                let is_only_block = file_bytes <= limits::BLOCK_BYTES;
                if !is_only_block {
                    hasher.set_input_offset(block * limits::BLOCK_BYTES);
                }
                BlockHasher::Blake3 { hasher, is_only_block }
            }
        }
    }

    /// All bytes of the block, instead of [`BlockHasher::update`] for each part: without a state.
    pub fn update_whole(&mut self, bytes: &[u8]) {
        match self {
            BlockHasher::Xxh3(None) => {
                *self = BlockHasher::Whole(canonical(XxHash3_128::oneshot(bytes)));
            }
            _ => self.update(bytes),
        }
    }

    /// The next bytes of the block.
    pub fn update(&mut self, bytes: &[u8]) {
        match self {
            BlockHasher::None | BlockHasher::Whole(_) => {}
            BlockHasher::Xxh3(hasher) => hasher.get_or_insert_default().write(bytes),
            BlockHasher::Blake3 { hasher, .. } => {
                hasher.update(bytes);
            }
        }
    }

    /// So many zeros come next: a hole.
    pub fn update_zeros(&mut self, mut bytes: u64) {
        const ZEROS: [u8; 4_096] = [0; 4_096];
        while bytes > 0 {
            let part = bytes.min(ZEROS.len() as u64);
            self.update(ZEROS.get(..part as usize).unwrap_or_default());
            bytes -= part;
        }
    }

    /// The block's digest.
    pub fn finish(&self) -> Digest {
        match self {
            BlockHasher::None => Digest::NONE,
            BlockHasher::Xxh3(None) => canonical(XxHash3_128::oneshot(b"")),
            BlockHasher::Xxh3(Some(hasher)) => canonical(hasher.finish_128()),
            BlockHasher::Whole(digest) => *digest,
            BlockHasher::Blake3 { hasher, is_only_block: true } => {
                from_bytes(hasher.finalize().as_bytes())
            }
            BlockHasher::Blake3 { hasher, is_only_block: false } => {
                from_bytes(&hasher.finalize_non_root())
            }
        }
    }
}

/// XXH3's canonical form has the high half first.
fn canonical(hash: u128) -> Digest {
    from_bytes(&hash.to_be_bytes())
}

fn from_bytes(bytes: &[u8]) -> Digest {
    Digest::from_slice(bytes).unwrap_or(Digest::NONE)
}

/// The digest of a whole file, from its blocks' digests in order.
#[derive(Debug)]
pub enum FileHasher {
    /// Nothing is computed.
    None,
    /// One block: its own digest; several: XXH3-128 of theirs.
    Xxh3 {
        /// The first block's digest.
        first: Option<Digest>,
        /// How many blocks came.
        blocks: u64,
        /// Over all blocks' digests, from the second one on.
        list: Option<Box<Xxh3State>>,
    },
    /// BLAKE3's tree above the blocks.
    Blake3(Box<Tree>),
}

/// Wraps a hash state that has no `Debug` of its own.
#[derive(Default)]
pub struct Xxh3State(XxHash3_128);

impl std::fmt::Debug for Xxh3State {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str("Xxh3")
    }
}

/// BLAKE3's tree: chaining values of complete subtrees, the largest first, as in a binary
/// counter of blocks; the last block is kept apart because the root must be merged last.
#[derive(Debug, Default)]
pub struct Tree {
    stack: Vec<ChainingValue>,
    blocks: u64,
    last: Option<ChainingValue>,
}

impl Tree {
    fn push(&mut self, value: ChainingValue) {
        if let Some(last) = self.last.replace(value) {
            self.add(last);
        }
        // What is kept apart is not counted.
    }

    fn add(&mut self, mut value: ChainingValue) {
        self.blocks += 1;
        let mut level = self.blocks;
        while level & 1 == 0 {
            let Some(left) = self.stack.pop() else { break };
            value = hazmat::merge_subtrees_non_root(&left, &value, hazmat::Mode::Hash);
            level >>= 1;
        }
        self.stack.push(value);
    }

    fn root(&self) -> Option<Digest> {
        let mut value = self.last?;
        let (first, rest) = self.stack.split_first()?;
        for left in rest.iter().rev() {
            value = hazmat::merge_subtrees_non_root(left, &value, hazmat::Mode::Hash);
        }
        let root = hazmat::merge_subtrees_root(first, &value, hazmat::Mode::Hash);
        Some(from_bytes(root.as_bytes()))
    }
}

impl FileHasher {
    /// Nothing came yet.
    pub fn new(algorithm: DigestAlgorithm) -> FileHasher {
        match algorithm {
            DigestAlgorithm::None => FileHasher::None,
            DigestAlgorithm::Xxh3 => FileHasher::Xxh3 { first: None, blocks: 0, list: None },
            DigestAlgorithm::Blake3 => FileHasher::Blake3(Box::default()),
        }
    }

    /// The digest of the next block.
    pub fn push(&mut self, digest: &Digest) {
        match self {
            FileHasher::None => {}
            FileHasher::Xxh3 { first, blocks, list } => {
                let first = *first.get_or_insert(*digest);
                *blocks += 1;
                match list {
                    Some(list) => list.0.write(digest.as_slice()),
                    None if *blocks == 1 => {}
                    None => {
                        let list = list.get_or_insert_default();
                        list.0.write(first.as_slice());
                        list.0.write(digest.as_slice());
                    }
                }
            }
            FileHasher::Blake3(tree) => {
                if let Ok(value) = digest.as_slice().try_into() {
                    tree.push(value);
                }
            }
        }
    }

    /// The file's digest.
    pub fn finish(&self) -> Digest {
        match self {
            FileHasher::None => Digest::NONE,
            FileHasher::Xxh3 { list: Some(list), .. } => canonical(list.0.finish_128()),
            FileHasher::Xxh3 { first: Some(only), .. } => *only,
            FileHasher::Xxh3 { first: None, .. } => canonical(XxHash3_128::oneshot(b"")),
            FileHasher::Blake3(tree) => match (&tree.last, tree.blocks) {
                (None, _) => from_bytes(blake3::hash(b"").as_bytes()),
                // A file of one block: its digest is the root already.
                (Some(only), 0) => from_bytes(only),
                (Some(_), _) => tree.root().unwrap_or(Digest::NONE),
            },
        }
    }
}

/// The digest of several files: over theirs in manifest order; of a single one: its own.
#[derive(Debug)]
pub struct ListHasher {
    files: u64,
    first: Option<Digest>,
    hasher: BlockHasher,
}

impl ListHasher {
    /// Nothing came yet.
    pub fn new(algorithm: DigestAlgorithm) -> ListHasher {
        ListHasher { files: 0, first: None, hasher: BlockHasher::new(algorithm, 0, 0) }
    }

    /// The digest of the next file.
    pub fn push(&mut self, digest: &Digest) {
        self.files += 1;
        self.first.get_or_insert(*digest);
        self.hasher.update(digest.as_slice());
    }

    /// The list's digest; none if there was no file, or nothing is computed.
    pub fn finish(&self) -> Option<Digest> {
        let digest = match self.files {
            0 => return None,
            1 => self.first?,
            _ => self.hasher.finish(),
        };
        (!digest.as_slice().is_empty()).then_some(digest)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file_digest(algorithm: DigestAlgorithm, content: &[u8]) -> Digest {
        let mut file = FileHasher::new(algorithm);
        for (block, bytes) in content.chunks(limits::BLOCK_BYTES as usize).enumerate() {
            let mut hasher = BlockHasher::new(algorithm, block as u64, content.len() as u64);
            for part in bytes.chunks(1_452) {
                hasher.update(part);
            }
            file.push(&hasher.finish());
        }
        file.finish()
    }

    #[test]
    fn blake3_of_a_file_from_its_blocks_is_what_b3sum_prints() {
        let content: Vec<u8> = (0..9_000_001_u32).map(|i| (i * 7 / 3) as u8).collect();
        let block = limits::BLOCK_BYTES as usize;
        for length in [0, 1, block - 1, block, block + 1, 2 * block, 3 * block + 5, 9_000_001] {
            let part = &content[..length];
            let digest = file_digest(DigestAlgorithm::Blake3, part);
            assert_eq!(digest.as_slice(), blake3::hash(part).as_bytes(), "{length} bytes");
        }
    }

    #[test]
    fn xxh3_of_a_file_of_one_block_is_that_of_its_bytes() {
        let content = [7; 100_000];
        let digest = file_digest(DigestAlgorithm::Xxh3, &content);
        assert_eq!(digest.as_slice(), XxHash3_128::oneshot(&content).to_be_bytes());
        let empty = file_digest(DigestAlgorithm::Xxh3, &[]);
        assert_eq!(empty.to_string(), "99aa06d3014798d86001c324468d497f");
    }

    #[test]
    fn a_block_that_comes_at_once_has_the_digest_of_one_that_comes_in_parts() {
        let content = [9; 5_000];
        for algorithm in [DigestAlgorithm::None, DigestAlgorithm::Xxh3, DigestAlgorithm::Blake3] {
            for bytes in [0, 1, 5_000] {
                let part = &content[..bytes];
                let mut whole = BlockHasher::new(algorithm, 0, bytes as u64);
                whole.update_whole(part);
                assert_eq!(whole.finish(), file_digest(algorithm, part), "{bytes} bytes");
            }
        }
    }

    #[test]
    fn a_hole_counts_as_zeros() {
        let mut with_hole = BlockHasher::new(DigestAlgorithm::Xxh3, 0, 10_000);
        with_hole.update(b"x");
        with_hole.update_zeros(9_999);
        let mut content = vec![0; 10_000];
        content[0] = b'x';
        assert_eq!(with_hole.finish().as_slice(), XxHash3_128::oneshot(&content).to_be_bytes());
    }
}
