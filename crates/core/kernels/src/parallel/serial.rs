//! One item after the other, by the names of rayon.

/// Threads that work is split over: this one.
pub fn current_num_threads() -> usize {
    1
}

/// Runs `f(0..items)`.
pub fn each(items: usize, f: impl Fn(usize)) {
    (0..items).for_each(f);
}

/// Runs `a`, then `b`.
pub fn join<A, B>(a: impl FnOnce() -> A, b: impl FnOnce() -> B) -> (A, B) {
    (a(), b())
}

/// Runs `work`.
pub fn enter<R>(work: impl FnOnce() -> R) -> R {
    work()
}

/// The traits that give slices and ranges their methods; those of iterators are the standard library's.
pub mod prelude {
    use std::slice::{Chunks, ChunksMut, Iter};

    /// Slices in turn.
    pub trait ParallelSlice<T> {
        /// The elements.
        fn par_iter(&self) -> Iter<'_, T>;
        /// Chunks of `size` elements, the last one perhaps shorter.
        fn par_chunks(&self, size: usize) -> Chunks<'_, T>;
    }

    impl<T> ParallelSlice<T> for [T] {
        fn par_iter(&self) -> Iter<'_, T> {
            self.iter()
        }

        fn par_chunks(&self, size: usize) -> Chunks<'_, T> {
            self.chunks(size)
        }
    }

    /// Slices in turn, to be written.
    pub trait ParallelSliceMut<T> {
        /// Chunks of `size` elements, the last one perhaps shorter.
        fn par_chunks_mut(&mut self, size: usize) -> ChunksMut<'_, T>;
    }

    impl<T> ParallelSliceMut<T> for [T] {
        fn par_chunks_mut(&mut self, size: usize) -> ChunksMut<'_, T> {
            self.chunks_mut(size)
        }
    }

    /// What can be iterated over.
    pub trait IntoParallelIterator: IntoIterator + Sized {
        /// Its items in order.
        fn into_par_iter(self) -> Self::IntoIter {
            self.into_iter()
        }
    }

    impl<I: IntoIterator> IntoParallelIterator for I {}

    /// What rayon's iterators have and the standard library's lack.
    pub trait IndexedParallelIterator: Iterator + Sized {
        /// Nothing is split: the iterator itself.
        fn with_min_len(self, _least: usize) -> Self {
            self
        }

        /// Nothing is split: the iterator itself.
        fn with_max_len(self, _most: usize) -> Self {
            self
        }

        /// The index of the first item for which `holds`.
        fn position_first(mut self, holds: impl FnMut(Self::Item) -> bool) -> Option<usize> {
            self.position(holds)
        }
    }

    impl<I: Iterator> IndexedParallelIterator for I {}
}

#[cfg(test)]
mod tests {
    use super::prelude::*;

    #[test]
    fn names_of_rayon_mean_the_same_in_turn() {
        let (x, mut y) = ([1, 2, 3, 4, 5], [0; 5]);
        y.par_chunks_mut(2).with_min_len(3).zip(x.par_chunks(2)).enumerate().for_each(|(i, (y, x))| {
            y.iter_mut().zip(x).for_each(|(y, x)| *y = 10 * i + x);
        });
        assert_eq!(y, [1, 2, 13, 14, 25]);
        assert_eq!((0..4).into_par_iter().with_max_len(1).map(|i| i * i).collect::<Vec<_>>(), [0, 1, 4, 9]);
        assert_eq!(x.par_iter().position_first(|&v| v > 2), Some(2));
        assert_eq!(super::join(|| 1, || "b"), (1, "b"));
        let sum = std::cell::Cell::new(0);
        super::each(5, |i| sum.set(sum.get() + i));
        assert_eq!(sum.get(), 10);
        assert_eq!((super::current_num_threads(), super::enter(|| 3)), (1, 3));
    }
}
