//! The integer type that numbers the entries of a codebook.

/// An unsigned integer that can index a codebook.
///
/// `u8` serves codebooks of up to 256 entries, `u16` up to 65 536.
pub trait Code: sealed::Sealed + Copy + Default + Eq + Ord + Send + Sync + std::fmt::Debug + 'static {
    /// Number of codes of the type.
    const LIMIT: usize;

    /// The code of entry `index`, which must be below [`Code::LIMIT`]; higher bits are dropped.
    fn from_index(index: usize) -> Self;

    /// The entry this code stands for.
    fn index(self) -> usize;
}

mod sealed {
    pub trait Sealed {}
    impl Sealed for u8 {}
    impl Sealed for u16 {}
}

impl Code for u8 {
    const LIMIT: usize = 1 << 8;

    #[inline(always)]
    fn from_index(index: usize) -> Self {
        index as u8
    }

    #[inline(always)]
    fn index(self) -> usize {
        self.into()
    }
}

impl Code for u16 {
    const LIMIT: usize = 1 << 16;

    #[inline(always)]
    fn from_index(index: usize) -> Self {
        index as u16
    }

    #[inline(always)]
    fn index(self) -> usize {
        self.into()
    }
}
