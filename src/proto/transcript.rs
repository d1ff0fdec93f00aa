//! The digest of what a transfer announced: H(H(manifest) ‖ H(digests)), see proto.md,
//! "Manifest records". Blocks are digested by the shell; this one is over bytes the core holds.

use twox_hash::XxHash3_128;

use crate::wire::{Digest, DigestAlgorithm};

/// A running hash with one of the transfer's algorithms.
#[derive(Clone)]
enum Hasher {
    None,
    Xxh3(Box<XxHash3_128>),
    Blake3(Box<blake3::Hasher>),
}

impl Hasher {
    fn new(algorithm: DigestAlgorithm) -> Hasher {
        match algorithm {
            DigestAlgorithm::None => Hasher::None,
            DigestAlgorithm::Xxh3 => Hasher::Xxh3(Box::new(XxHash3_128::new())),
            DigestAlgorithm::Blake3 => Hasher::Blake3(Box::new(blake3::Hasher::new())),
        }
    }

    fn memory_bytes(&self) -> usize {
        match self {
            Hasher::None => 0,
            Hasher::Xxh3(hasher) => size_of_val(&**hasher),
            Hasher::Blake3(hasher) => size_of_val(&**hasher),
        }
    }

    fn update(&mut self, bytes: &[u8]) {
        match self {
            Hasher::None => {}
            Hasher::Xxh3(hasher) => hasher.write(bytes),
            Hasher::Blake3(hasher) => {
                hasher.update(bytes);
            }
        }
    }
}

/// The running digest of both announcing spaces.
pub struct Transcript {
    manifest: Hasher,
    digests: Hasher,
}

impl std::fmt::Debug for Transcript {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str("Transcript")
    }
}

impl Transcript {
    /// Nothing announced yet.
    pub fn new(algorithm: DigestAlgorithm) -> Transcript {
        Transcript { manifest: Hasher::new(algorithm), digests: Hasher::new(algorithm) }
    }

    /// Bytes of memory held, roughly.
    pub fn memory_bytes(&self) -> usize {
        self.manifest.memory_bytes() + self.digests.memory_bytes()
    }

    /// More bytes of the manifest, in order.
    pub fn update_manifest(&mut self, bytes: &[u8]) {
        self.manifest.update(bytes);
    }

    /// More bytes of the digests, in order.
    pub fn update_digests(&mut self, bytes: &[u8]) {
        self.digests.update(bytes);
    }

    /// The digest of all so far.
    pub fn digest(&self) -> Digest {
        match (&self.manifest, &self.digests) {
            (Hasher::Xxh3(manifest), Hasher::Xxh3(digests)) => {
                let mut both = [0; 32];
                let (first, second) = both.split_at_mut(16);
                first.copy_from_slice(&manifest.finish_128().to_be_bytes());
                second.copy_from_slice(&digests.finish_128().to_be_bytes());
                Digest::from_slice(&XxHash3_128::oneshot(&both).to_be_bytes())
                    .unwrap_or(Digest::NONE)
            }
            (Hasher::Blake3(manifest), Hasher::Blake3(digests)) => {
                let mut outer = blake3::Hasher::new();
                outer.update(manifest.finalize().as_bytes());
                outer.update(digests.finalize().as_bytes());
                Digest::from_slice(outer.finalize().as_bytes()).unwrap_or(Digest::NONE)
            }
            _ => Digest::NONE,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    //= proto.md#manifest-records
    //= type=test
    //# digest is H(H(m) ‖ H(d)) with the transfer's algorithm
    #[test]
    fn the_digest_is_that_of_the_digests_of_both_spaces() {
        let of = |algorithm| {
            let mut transcript = Transcript::new(algorithm);
            transcript.update_manifest(b"mani");
            transcript.update_digests(b"dig");
            transcript.update_manifest(b"fest");
            transcript.digest()
        };
        let xxh3 = |bytes: &[u8]| XxHash3_128::oneshot(bytes).to_be_bytes();
        let both = [xxh3(b"manifest"), xxh3(b"dig")].concat();
        assert_eq!(of(DigestAlgorithm::Xxh3), Digest::from(xxh3(&both)));
        let blake3 = |bytes: &[u8]| *blake3::hash(bytes).as_bytes();
        let both = [blake3(b"manifest"), blake3(b"dig")].concat();
        assert_eq!(of(DigestAlgorithm::Blake3), Digest::from(blake3(&both)));
        assert_eq!(of(DigestAlgorithm::None), Digest::NONE);
    }
}
