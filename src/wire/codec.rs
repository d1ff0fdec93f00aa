//! Bounded reading and writing of numbers in network byte order. Knows no layout.

use super::DecodeError;
use super::limits::OFFSET_MAX;

/// Takes values from the front of borrowed bytes.
#[derive(Clone, Copy)]
pub(super) struct Reader<'a> {
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    pub(super) const fn new(bytes: &'a [u8]) -> Self {
        Self { rest: bytes }
    }

    pub(super) fn array<const N: usize>(&mut self) -> Result<[u8; N], DecodeError> {
        let (head, rest) = self.rest.split_first_chunk().ok_or(DecodeError::Short)?;
        self.rest = rest;
        Ok(*head)
    }

    pub(super) fn bytes(&mut self, count: usize) -> Result<&'a [u8], DecodeError> {
        let (head, rest) = self.rest.split_at_checked(count).ok_or(DecodeError::Short)?;
        self.rest = rest;
        Ok(head)
    }

    pub(super) fn u8(&mut self) -> Result<u8, DecodeError> {
        self.array().map(u8::from_be_bytes)
    }

    pub(super) fn u16(&mut self) -> Result<u16, DecodeError> {
        self.array().map(u16::from_be_bytes)
    }

    pub(super) fn u32(&mut self) -> Result<u32, DecodeError> {
        self.array().map(u32::from_be_bytes)
    }

    pub(super) fn u48(&mut self) -> Result<u64, DecodeError> {
        let [a, b, c, d, e, f] = self.array()?;
        Ok(u64::from_be_bytes([0, 0, a, b, c, d, e, f]))
    }

    pub(super) fn u64(&mut self) -> Result<u64, DecodeError> {
        self.array().map(u64::from_be_bytes)
    }

    pub(super) fn i64(&mut self) -> Result<i64, DecodeError> {
        self.array().map(i64::from_be_bytes)
    }

    /// All that is left.
    pub(super) fn rest(&mut self) -> &'a [u8] {
        std::mem::take(&mut self.rest)
    }

    /// Demands that nothing is left.
    pub(super) const fn finish(self) -> Result<(), DecodeError> {
        if self.rest.is_empty() { Ok(()) } else { Err(DecodeError::Long) }
    }
}

/// Puts values into a buffer of exactly their size, front to back.
pub(super) struct Writer<'a> {
    rest: &'a mut [u8],
}

impl<'a> Writer<'a> {
    pub(super) const fn new(buffer: &'a mut [u8]) -> Self {
        Self { rest: buffer }
    }

    pub(super) fn array<const N: usize>(&mut self, value: [u8; N]) {
        let Some((head, rest)) = std::mem::take(&mut self.rest).split_first_chunk_mut() else {
            debug_assert!(false, "the buffer is smaller than its layout");
            return;
        };
        *head = value;
        self.rest = rest;
    }

    pub(super) fn u8(&mut self, value: u8) {
        self.array([value]);
    }

    pub(super) fn u16(&mut self, value: u16) {
        self.array(value.to_be_bytes());
    }

    pub(super) fn u32(&mut self, value: u32) {
        self.array(value.to_be_bytes());
    }

    pub(super) fn u48(&mut self, value: u64) {
        self.array(u48_bytes(value));
    }

    pub(super) fn u64(&mut self, value: u64) {
        self.array(value.to_be_bytes());
    }

    pub(super) fn i64(&mut self, value: i64) {
        self.array(value.to_be_bytes());
    }

    /// The layout has ended, and with it the buffer.
    pub(super) fn finish(self) {
        debug_assert!(self.rest.is_empty(), "the buffer is larger than its layout");
    }
}

/// A 6-byte number; a larger one becomes the largest, so that a limit never turns into a small one.
pub(super) fn u48_bytes(value: u64) -> [u8; 6] {
    let [_, _, a, b, c, d, e, f] = value.min(OFFSET_MAX).to_be_bytes();
    [a, b, c, d, e, f]
}

/// The longest beginning of `text` that has at most `bytes_max` bytes and ends with a character.
pub(super) fn shortened(text: &str, bytes_max: usize) -> &str {
    text.get(..text.floor_char_boundary(bytes_max)).unwrap_or_default()
}

/// Text from a peer: UTF-8, at most `bytes_max` bytes.
pub(super) fn text(bytes: &[u8], bytes_max: usize) -> Result<&str, DecodeError> {
    if bytes.len() > bytes_max {
        return Err(DecodeError::Long);
    }
    str::from_utf8(bytes).map_err(|_| DecodeError::Invalid("a text is not UTF-8"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_too_short_is_an_error_and_takes_nothing() {
        let mut reader = Reader::new(&[1, 2, 3]);
        assert_eq!(reader.u32(), Err(DecodeError::Short));
        assert_eq!(reader.bytes(4), Err(DecodeError::Short));
        assert_eq!(reader.u16(), Ok(0x0102));
        assert_eq!(reader.finish(), Err(DecodeError::Long));
        assert_eq!(reader.rest(), [3]);
        assert_eq!(reader.finish(), Ok(()));
    }

    #[test]
    fn a_number_above_six_bytes_becomes_the_largest() {
        assert_eq!(u48_bytes(0x0102_0304_0506), [1, 2, 3, 4, 5, 6]);
        assert_eq!(u48_bytes(1 << 48), [0xff; 6]);
        assert_eq!(u48_bytes(u64::MAX), [0xff; 6]);
    }

    #[test]
    fn text_is_cut_between_characters() {
        assert_eq!(shortened("abcä", 5), "abcä");
        assert_eq!(shortened("abcä", 4), "abc");
        assert_eq!(shortened("", 4), "");
    }
}
