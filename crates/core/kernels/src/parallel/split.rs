//! Slices that are cut up, one part to an item.

use std::marker::PhantomData;

/// What has parts, each of which is taken once.
pub trait Split: Sync {
    /// A part.
    type Part;
    /// Number of parts.
    fn count(&self) -> usize;
    /// Part `i`.
    ///
    /// # Safety
    /// `i` is below the number of parts, and no other call takes it.
    unsafe fn part(&self, i: usize) -> Self::Part;
}

/// See [`chunks`].
#[derive(Clone, Copy, Debug)]
pub struct Chunks<'a, T>(&'a [T], usize);

/// See [`chunks_mut`].
#[derive(Debug)]
pub struct ChunksMut<'a, T> {
    data: *mut T,
    len: usize,
    size: usize,
    of: PhantomData<&'a mut [T]>,
}

// SAFETY: a part is handed out once, to one thread, which may then write it.
unsafe impl<T: Send> Sync for ChunksMut<'_, T> {}

/// Chunks of `size` elements (at least one), the last one perhaps shorter.
pub fn chunks<T: Sync>(data: &[T], size: usize) -> Chunks<'_, T> {
    Chunks(data, size.max(1))
}

/// Chunks of `size` elements (at least one) that may be written, the last one perhaps shorter.
pub fn chunks_mut<T: Send>(data: &mut [T], size: usize) -> ChunksMut<'_, T> {
    let (len, size) = (data.len(), size.max(1));
    ChunksMut { data: data.as_mut_ptr(), len, size, of: PhantomData }
}

impl<'a, T: Sync> Split for Chunks<'a, T> {
    type Part = &'a [T];

    fn count(&self) -> usize {
        self.0.len().div_ceil(self.1)
    }

    unsafe fn part(&self, i: usize) -> &'a [T] {
        &self.0[i * self.1..self.0.len().min((i + 1) * self.1)]
    }
}

impl<'a, T: Send> Split for ChunksMut<'a, T> {
    type Part = &'a mut [T];

    fn count(&self) -> usize {
        self.len.div_ceil(self.size)
    }

    unsafe fn part(&self, i: usize) -> &'a mut [T] {
        let (from, to) = (i * self.size, self.len.min((i + 1) * self.size));
        assert!(from < to);
        // SAFETY: in bounds by the assertion; parts do not overlap, and each is taken once, by the caller's promise.
        unsafe { std::slice::from_raw_parts_mut(self.data.add(from), to - from) }
    }
}

/// As many parts as the shortest has.
macro_rules! tuple {
    ($($name:ident $at:tt),*) => {
        impl<$($name: Split),*> Split for ($($name,)*) {
            type Part = ($($name::Part,)*);

            fn count(&self) -> usize {
                [$(self.$at.count()),*].into_iter().min().unwrap_or(0)
            }

            unsafe fn part(&self, i: usize) -> Self::Part {
                // SAFETY: passed on.
                unsafe { ($(self.$at.part(i),)*) }
            }
        }
    };
}

tuple!(A 0, B 1);
tuple!(A 0, B 1, C 2);
tuple!(A 0, B 1, C 2, D 3);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_cover_the_slice_and_the_shortest_counts() {
        let mut to = [0; 7];
        let from = [1, 2, 3, 4, 5, 6, 7, 8];
        let both = (chunks_mut(&mut to, 3), chunks(&from, 3));
        assert_eq!(both.count(), 3);
        for i in 0..3 {
            // SAFETY: each part is taken once.
            let (to, from) = unsafe { both.part(i) };
            to.iter_mut().zip(from).for_each(|(to, from)| *to += from);
        }
        assert_eq!(to, [1, 2, 3, 4, 5, 6, 7]);
        assert_eq!((chunks_mut(&mut to[..0], 3), chunks(&from, 0)).count(), 0);
        assert_eq!((chunks(&from, 8), chunks(&from, 1), chunks(&from, 2)).count(), 1);
    }
}
