//! The value of a digest and the names of the algorithms. Computing digests is left to others.

use std::fmt;

use super::DecodeError;

/// The algorithm of all digests of a transfer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum DigestAlgorithm {
    /// No digests: the checks of the packets and the identity of the source have to do.
    None,
    /// XXH3-128, seed 0, canonical form: 16 bytes.
    Xxh3,
    /// BLAKE3: 32 bytes.
    Blake3,
}

impl DigestAlgorithm {
    /// Bytes of a digest: 0, 16 or 32.
    #[must_use]
    pub const fn digest_bytes(self) -> usize {
        match self {
            Self::None => 0,
            Self::Xxh3 => 16,
            Self::Blake3 => 32,
        }
    }

    pub(super) const fn to_byte(self) -> u8 {
        match self {
            Self::None => 0,
            Self::Xxh3 => 1,
            Self::Blake3 => 2,
        }
    }

    pub(super) const fn from_byte(byte: u8) -> Result<Self, DecodeError> {
        match byte {
            0 => Ok(Self::None),
            1 => Ok(Self::Xxh3),
            2 => Ok(Self::Blake3),
            _ => Err(DecodeError::Invalid("the digest algorithm is unknown")),
        }
    }
}

impl fmt::Display for DigestAlgorithm {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.pad(match self {
            Self::None => "none",
            Self::Xxh3 => "xxh3",
            Self::Blake3 => "blake3",
        })
    }
}

const DIGEST_BYTES_MAX: usize = 32;

/// A digest of 0, 16 or 32 bytes. Shows itself in hexadecimal.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Digest {
    /// Zero from `length` on, so that equality can compare all of it.
    bytes: [u8; DIGEST_BYTES_MAX],
    /// 0, 16 or 32.
    length: u8,
}

impl Digest {
    /// The digest of the algorithm `none`: no bytes.
    pub const NONE: Self = Self { bytes: [0; DIGEST_BYTES_MAX], length: 0 };

    /// A digest of these bytes, if there are 0, 16 or 32 of them.
    #[must_use]
    pub fn from_slice(slice: &[u8]) -> Option<Self> {
        let length = match slice.len() {
            0 => 0,
            16 => 16,
            32 => 32,
            _ => return None,
        };
        let mut digest = Self { length, ..Self::NONE };
        for (to, from) in digest.bytes.iter_mut().zip(slice) {
            *to = *from;
        }
        Some(digest)
    }

    /// The bytes: 0, 16 or 32.
    #[must_use]
    pub fn as_slice(&self) -> &[u8] {
        self.bytes.get(..usize::from(self.length)).unwrap_or_default()
    }
}

impl From<[u8; 16]> for Digest {
    fn from(bytes: [u8; 16]) -> Self {
        Self::from_slice(&bytes).unwrap_or(Self::NONE)
    }
}

impl From<[u8; 32]> for Digest {
    fn from(bytes: [u8; 32]) -> Self {
        Self { bytes, length: 32 }
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.as_slice().iter().try_for_each(|byte| write!(formatter, "{byte:02x}"))
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "Digest({self})")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_digest_has_the_length_of_an_algorithm_and_no_other() {
        for length in 0..40 {
            let bytes = vec![0xa5; length];
            let digest = Digest::from_slice(&bytes);
            assert_eq!(digest.is_some(), [0, 16, 32].contains(&length), "{length} bytes");
            assert!(digest.is_none_or(|digest| digest.as_slice() == bytes));
        }
    }

    #[test]
    fn digests_of_different_length_differ() {
        assert_ne!(Digest::NONE, Digest::from([0; 16]));
        assert_ne!(Digest::from([0; 16]), Digest::from([0; 32]));
    }

    #[test]
    fn a_digest_shows_itself_in_hexadecimal() {
        let digest = Digest::from(*b"0123456789abcdef");
        assert_eq!(digest.to_string(), "30313233343536373839616263646566");
        assert_eq!(format!("{:?}", Digest::NONE), "Digest()");
    }
}
