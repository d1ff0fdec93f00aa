//! Bytes as a source of choices. Behind their end every choice is the first one.

/// Steps that a target of a whole machine takes from one input at most.
pub const STEPS_MAX: usize = 600;

/// What is left of the bytes.
#[derive(Debug)]
pub struct Input<'a> {
    bytes: &'a [u8],
}

impl<'a> Input<'a> {
    /// All of `bytes`.
    pub fn new(bytes: &'a [u8]) -> Input<'a> {
        Input { bytes }
    }

    /// Whether no choice is left.
    pub fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    /// Everything that is left.
    pub fn rest(&mut self) -> &'a [u8] {
        std::mem::take(&mut self.bytes)
    }

    /// At most `count` bytes.
    pub fn bytes(&mut self, count: usize) -> &'a [u8] {
        let (front, back) = self.bytes.split_at(count.min(self.bytes.len()));
        self.bytes = back;
        front
    }

    /// A number of `N` bytes.
    fn number<const N: usize>(&mut self) -> u64 {
        let taken = self.bytes(N);
        taken.iter().fold(0, |number, byte| number << 8 | u64::from(*byte))
    }

    /// Any byte.
    pub fn byte(&mut self) -> u8 {
        self.number::<1>() as u8
    }

    /// Yes or no.
    pub fn flag(&mut self) -> bool {
        self.byte() & 1 == 1
    }

    /// Any number of 32 bits.
    pub fn u32(&mut self) -> u32 {
        self.number::<4>() as u32
    }

    /// Any number of 64 bits.
    pub fn u64(&mut self) -> u64 {
        self.number::<8>()
    }

    /// A number below `bound`, which is at most 65,536.
    pub fn below(&mut self, bound: u64) -> u64 {
        let drawn = if bound <= 256 { self.number::<1>() } else { self.number::<2>() };
        drawn % bound.max(1)
    }

    /// A number as protocols break on: small, near a power of two, or any.
    pub fn odd_u64(&mut self) -> u64 {
        match self.byte() % 4 {
            0 => u64::from(self.byte()),
            1 => self.number::<2>(),
            2 => {
                let power = 1_u64 << self.below(64);
                power.wrapping_add(self.below(5)).wrapping_sub(2)
            }
            _ => self.u64(),
        }
    }

    /// The same in 32 bits.
    pub fn odd_u32(&mut self) -> u32 {
        self.odd_u64() as u32
    }

    /// One of these.
    pub fn one_of<T: Copy>(&mut self, choices: &[T]) -> T {
        let index = self.below(choices.len() as u64) as usize;
        choices[index]
    }
}
