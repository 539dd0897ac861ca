//! Contexts of the codes of a weight: what neighbours in the same filter and in others say.
//!
//! Codes are numbered by the order of their centroids, so that close numbers are close values.

use super::decisions::Coder;
use super::mixer::Mixer;
use super::tree::Tree;

/// How the codes of a weight lie.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Geometry {
    /// Codes of one filter (a slice of the first axis).
    pub row: usize,
    /// Codes of one kernel; 1 where the weight is a matrix.
    pub kernel: usize,
    /// Codes of one row of the kernel.
    pub kernel_width: usize,
}

impl Geometry {
    /// The geometry of a weight of this shape.
    pub fn of(shape: &[usize]) -> Self {
        // Without codes the product may be anything.
        let product = |dims: &[usize]| dims.iter().fold(1usize, |n, &d| n.saturating_mul(d)).max(1);
        let kernel = product(shape.get(2..).unwrap_or_default());
        let kernel_width = if shape.len() > 2 { shape[shape.len() - 1].max(1) } else { 1 };
        Self { row: product(shape.get(1..).unwrap_or_default()), kernel, kernel_width }
    }
}

/// Which contexts are mixed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ContextSet {
    /// How many codes of the same row and of the same column are not zero.
    Matrix,
    /// Position in the kernel with the neighbours there, and the same position of other kernels.
    Kernel,
}

/// Everything that both sides know before the first code of a block.
#[derive(Debug, Clone, Copy)]
pub(crate) struct CodeModel<'a> {
    pub geometry: Geometry,
    pub set: ContextSet,
    pub tree: Tree,
    /// How fast the weights of the mixer learn.
    pub rate: u8,
    /// The code next to zero, of each group of `run` codes.
    pub zeros: &'a [u8],
    /// Codes of one group.
    pub run: usize,
    /// Position of the block's first code.
    pub start: usize,
}

/// Levels of an activity.
const LEVELS: usize = 16;

/// Sum and number of distances from zero.
#[derive(Clone, Copy, Default)]
struct Activity {
    sum: u32,
    count: u32,
}

impl Activity {
    fn add(&mut self, distance: u32) {
        self.sum += distance;
        self.count += 1;
    }

    /// The mean distance, with two typical ones added, against the mean of all: three levels an octave, 8 for equal.
    #[inline(always)]
    fn level(self, all: Activity) -> usize {
        let (sum, count) = (u64::from(all.sum) + 1, u64::from(all.count) + 1);
        let above = eighths(u64::from(self.sum) * count + 2 * sum);
        let below = eighths((u64::from(self.count) + 2) * sum);
        (8 + (((above - below) * 3) >> 3)).clamp(0, LEVELS as i64 - 1) as usize
    }
}

/// log2(x) in units of 1/8, by straight lines between powers of two.
#[inline(always)]
fn eighths(x: u64) -> i64 {
    let whole = x.max(1).ilog2();
    let part = if whole >= 3 { x >> (whole - 3) } else { x << (3 - whole) };
    i64::from(whole) * 8 + (part & 7) as i64
}

impl CodeModel<'_> {
    /// Codes the block's codes, in place.
    pub fn run<C: Coder>(&self, codes: &mut [u8], coder: &mut C) {
        match self.set {
            ContextSet::Matrix => self.matrix(codes, coder),
            ContextSet::Kernel => self.kernel(codes, coder),
        }
    }

    /// Distance of a code from zero, at most half the alphabet.
    #[inline(always)]
    fn distance(&self, code: u8, zero: u8) -> u32 {
        u32::from(code.abs_diff(zero)).min(1 << (self.tree.bits - 1))
    }

    #[inline(always)]
    fn zero(&self, position: usize) -> u8 {
        self.zeros.get(position / self.run.max(1)).copied().unwrap_or_default()
    }

    fn matrix<C: Coder>(&self, codes: &mut [u8], coder: &mut C) {
        let row = self.geometry.row;
        let counters = |values| self.tree.counters(values, codes.len());
        let rows = codes.len() / row + 2;
        let sizes = [counters(1), counters(rows), counters(row), counters(LEVELS * LEVELS)];
        let mut mixer = Mixer::new(sizes, self.tree.nodes(), self.rate);
        let mut by_column = vec![Activity::default(); row];
        let (mut by_row, mut all) = (Activity::default(), Activity::default());
        let (mut column, mut line) = (self.start % row, 0);
        for (i, code) in codes.iter_mut().enumerate() {
            let zero = self.zero(self.start + i);
            let levels = by_row.level(all) * LEVELS + by_column[column].level(all);
            let contexts = [0, line, column, levels];
            *code = self.tree.code(&contexts, &sizes, zero, *code, (&mut mixer, coder));
            let distance = self.distance(*code, zero);
            by_row.add(distance);
            by_column[column].add(distance);
            all.add(distance);
            column += 1;
            if column == row {
                (column, line, by_row) = (0, line + 1, Activity::default());
            }
        }
    }

    fn kernel<C: Coder>(&self, codes: &mut [u8], coder: &mut C) {
        let Geometry { row, kernel, kernel_width } = self.geometry;
        // Codes as contexts: 32 classes and one for none.
        let coarse = self.tree.bits.saturating_sub(5);
        let none = 1usize << (self.tree.bits - coarse);
        let near = none + 1;
        let values = [kernel, near * kernel, near * kernel, 2 * near * kernel, near, near, LEVELS * LEVELS];
        let sizes = values.map(|values| self.tree.counters(values, codes.len()));
        let mut mixer = Mixer::new(sizes, self.tree.nodes(), self.rate);
        let mut by_channel = vec![Activity::default(); row.div_ceil(kernel)];
        let (mut by_row, mut all) = (Activity::default(), Activity::default());
        let mut column = self.start % row;
        let (mut channel, mut place) = (column / kernel, column % kernel);
        for i in 0..codes.len() {
            let zero = self.zero(self.start + i);
            let before = |distance: usize, known: bool| {
                let code = i.checked_sub(distance).filter(|_| known).map(|at| codes[at]);
                code.map_or(none, |code| usize::from(code) >> coarse)
            };
            let left = before(1, column >= 1);
            let up = before(kernel_width, column >= kernel_width);
            let contexts = [
                place,
                left * kernel + place,
                up * kernel + place,
                (left + up) * kernel + place,
                before(row, true),
                before(kernel, column >= kernel),
                by_row.level(all) * LEVELS + by_channel[channel].level(all),
            ];
            let code = self.tree.code(&contexts, &sizes, zero, codes[i], (&mut mixer, coder));
            codes[i] = code;
            let distance = self.distance(code, zero);
            by_row.add(distance);
            by_channel[channel].add(distance);
            all.add(distance);
            (column, place) = (column + 1, place + 1);
            if place == kernel {
                (place, channel) = (0, channel + 1);
            }
            if column == row {
                (column, channel, by_row) = (0, 0, Activity::default());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::entropy::decisions::{Player, Recorder};
    use proptest::prelude::*;

    #[test]
    fn geometries_of_shapes() {
        let of = |shape: &[usize]| {
            let Geometry { row, kernel, kernel_width } = Geometry::of(shape);
            (row, kernel, kernel_width)
        };
        assert_eq!(of(&[50, 20, 5, 3]), (300, 15, 3));
        assert_eq!(of(&[8, 4, 7]), (28, 7, 7));
        assert_eq!(of(&[10, 500]), (500, 1, 1));
        assert_eq!(of(&[9]), (1, 1, 1));
        assert_eq!(of(&[]), (1, 1, 1));
        assert_eq!(of(&[3, 0, 3, 3]), (1, 9, 3), "no division by zero where there are no codes");
        assert_eq!(of(&[0, usize::MAX, 2]), (usize::MAX, 2, 2), "nor an overflow");
    }

    proptest! {
        #[test]
        fn codes_come_back(
            codes in proptest::collection::vec(0u8..=255, 0..400),
            bits in 1u32..=8,
            (channels, kernel_width, kernel_height) in (1usize..9, 1usize..4, 1usize..4),
            (start, run) in (0usize..100, 1usize..60),
            zeros in proptest::collection::vec(0u8..=255, 1..9),
            (likely_first, kernel_set) in any::<(bool, bool)>(),
        ) {
            let codes: Vec<u8> = codes.iter().map(|c| c >> (8 - bits)).collect();
            let zeros: Vec<u8> = zeros.iter().map(|c| c >> (8 - bits)).collect();
            let kernel = kernel_width * kernel_height;
            let model = CodeModel {
                geometry: Geometry { row: channels * kernel, kernel, kernel_width },
                set: if kernel_set { ContextSet::Kernel } else { ContextSet::Matrix },
                tree: Tree { bits, likely_first },
                rate: 5,
                zeros: &zeros,
                run,
                start,
            };
            let mut recorder = Recorder::default();
            let mut kept = codes.clone();
            model.run(&mut kept, &mut recorder);
            prop_assert_eq!(&kept, &codes);
            let bytes = recorder.finish();
            let mut player = Player::new(&bytes).unwrap();
            let mut back = vec![0; codes.len()];
            model.run(&mut back, &mut player);
            prop_assert!(player.is_done());
            prop_assert_eq!(back, codes);
        }
    }
}
