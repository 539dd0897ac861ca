//! Reads the bytes of a model back, by field numbers and with every position checked.

/// A table of the FlatBuffer.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Table<'a> {
    bytes: &'a [u8],
    at: usize,
}

fn array<const N: usize>(bytes: &[u8], at: usize) -> Option<[u8; N]> {
    bytes.get(at..at.checked_add(N)?)?.try_into().ok()
}

fn u32_at(bytes: &[u8], at: usize) -> Option<usize> {
    array(bytes, at).map(u32::from_le_bytes).and_then(|v| usize::try_from(v).ok())
}

fn u16_at(bytes: &[u8], at: usize) -> Option<usize> {
    array(bytes, at).map(u16::from_le_bytes).map(usize::from)
}

impl<'a> Table<'a> {
    /// The root table.
    pub(crate) fn root(bytes: &'a [u8]) -> Option<Self> {
        Some(Self { bytes, at: u32_at(bytes, 0)? })
    }

    /// Position of field `index`; `None` where it is left out.
    fn field(&self, index: usize) -> Option<usize> {
        let back = i32::from_le_bytes(array(self.bytes, self.at)?);
        let vtable = usize::try_from(i64::try_from(self.at).ok()? - i64::from(back)).ok()?;
        let slot = 4 + 2 * index;
        if slot + 2 > u16_at(self.bytes, vtable)? {
            return None;
        }
        match u16_at(self.bytes, vtable + slot)? {
            0 => None,
            offset => Some(self.at + offset),
        }
    }

    /// What field `index` points to.
    fn target(&self, index: usize) -> Option<usize> {
        let at = self.field(index)?;
        at.checked_add(u32_at(self.bytes, at)?)
    }

    pub(crate) fn byte(&self, index: usize) -> Option<i8> {
        array(self.bytes, self.field(index)?).map(i8::from_le_bytes)
    }

    pub(crate) fn int(&self, index: usize) -> Option<i32> {
        array(self.bytes, self.field(index)?).map(i32::from_le_bytes)
    }

    pub(crate) fn float(&self, index: usize) -> Option<f32> {
        array(self.bytes, self.field(index)?).map(f32::from_le_bytes)
    }

    pub(crate) fn table(&self, index: usize) -> Option<Table<'a>> {
        Some(Table { bytes: self.bytes, at: self.target(index)? })
    }

    /// A vector of bytes and where it begins.
    pub(crate) fn data(&self, index: usize) -> Option<(usize, &'a [u8])> {
        self.elements(index, 1)
    }

    fn elements(&self, index: usize, size: usize) -> Option<(usize, &'a [u8])> {
        let at = self.target(index)?;
        let length = u32_at(self.bytes, at)?.checked_mul(size)?;
        let from = at.checked_add(4)?;
        Some((from, self.bytes.get(from..from.checked_add(length)?)?))
    }

    pub(crate) fn text(&self, index: usize) -> Option<&'a str> {
        self.data(index).and_then(|(_, bytes)| std::str::from_utf8(bytes).ok())
    }

    /// A vector of 32-bit integers that are not negative.
    pub(crate) fn numbers(&self, index: usize) -> Option<Vec<usize>> {
        let (_, bytes) = self.elements(index, 4)?;
        bytes.as_chunks::<4>().0.iter().map(|b| usize::try_from(i32::from_le_bytes(*b)).ok()).collect()
    }

    /// A vector of 32-bit floats.
    pub(crate) fn floats(&self, index: usize) -> Option<Vec<f32>> {
        let (_, bytes) = self.elements(index, 4)?;
        Some(bytes.as_chunks::<4>().0.iter().map(|b| f32::from_le_bytes(*b)).collect())
    }

    /// A vector of 64-bit integers.
    pub(crate) fn longs(&self, index: usize) -> Option<Vec<i64>> {
        let (_, bytes) = self.elements(index, 8)?;
        Some(bytes.as_chunks::<8>().0.iter().map(|b| i64::from_le_bytes(*b)).collect())
    }

    pub(crate) fn tables(&self, index: usize) -> Option<Vec<Table<'a>>> {
        let (from, bytes) = self.elements(index, 4)?;
        let at = |i: usize| from + 4 * i;
        let table =
            |i: usize| Some(Table { bytes: self.bytes, at: at(i).checked_add(u32_at(self.bytes, at(i))?)? });
        (0..bytes.len() / 4).map(table).collect()
    }
}
