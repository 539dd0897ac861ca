//! How windows are placed: TensorFlow Lite knows VALID and SAME, everything else needs a `PAD` before.

/// Where the windows along one axis lie.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Axis {
    /// Extent of the input.
    pub(crate) input: usize,
    /// Number of windows.
    pub(crate) output: usize,
    /// Extent of a window with its dilation.
    pub(crate) reach: usize,
    pub(crate) stride: usize,
    /// Elements before the input at which the first window begins.
    pub(crate) before: usize,
}

impl Axis {
    /// Elements past the input that the last window reaches.
    pub(crate) fn after(&self) -> usize {
        (self.output.saturating_sub(1) * self.stride + self.reach).saturating_sub(self.input + self.before)
    }

    fn is_valid(&self) -> bool {
        self.before == 0 && self.after() == 0 && self.input >= self.reach && {
            (self.input - self.reach) / self.stride + 1 == self.output
        }
    }

    fn is_same(&self) -> bool {
        let total = (self.output.saturating_sub(1) * self.stride + self.reach).saturating_sub(self.input);
        self.output == self.input.div_ceil(self.stride) && self.before == total / 2
    }
}

/// Padding that gives exactly these windows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Placement {
    Valid,
    Same,
    /// `VALID` on an input with elements added: (before, after) of rows and columns.
    Explicit([(usize, usize); 2]),
}

impl Placement {
    /// The placement of windows over rows and columns.
    pub(crate) fn of(axes: [Axis; 2]) -> Self {
        if axes.iter().all(Axis::is_valid) {
            Self::Valid
        } else if axes.iter().all(Axis::is_same) {
            Self::Same
        } else {
            Self::Explicit(axes.map(|a| (a.before, a.after())))
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use slq_graph::op::{Padding, Window};

    use super::*;

    fn axis(input: usize, output: usize, reach: usize, stride: usize, before: usize) -> Axis {
        Axis { input, output, reach, stride, before }
    }

    fn placed(a: Axis) -> Placement {
        Placement::of([a, a])
    }

    #[test]
    fn same_is_used_only_where_it_means_the_same() {
        assert_eq!(placed(axis(28, 24, 5, 1, 0)), Placement::Valid);
        assert_eq!(placed(axis(32, 32, 3, 1, 1)), Placement::Same);
        // An even extent and stride 2: SAME would begin at the first element.
        assert_eq!(placed(axis(32, 16, 3, 2, 1)), Placement::Explicit([(1, 0); 2]));
        assert_eq!(placed(axis(33, 17, 3, 2, 1)), Placement::Same);
        // Rounded up without padding, as Caffe's pooling.
        assert_eq!(placed(axis(32, 16, 3, 2, 0)), Placement::Same);
        assert_eq!(placed(axis(32, 32, 1, 1, 0)), Placement::Valid);
    }

    proptest! {
        #[test]
        fn windows_lie_where_they_did(
            n in 1usize..40, k in 1usize..8, s in 1usize..5, d in 1usize..3, b in 0usize..4, e in 0usize..4, ceil: bool,
        ) {
            let window = Window {
                kernel: [k; 2], strides: [s; 2], dilations: [d; 2], padding: Padding::Explicit([b, b, e, e]),
            };
            let reach = window.reach()[0];
            let Some([output, _]) = window.output_extent([n, n], ceil) else { return Ok(()) };
            let (begin, count) = match placed(axis(n, output, reach, s, b)) {
                Placement::Valid => (0, (n - reach) / s + 1),
                Placement::Same => {
                    let count = n.div_ceil(s);
                    (((count - 1) * s + reach).saturating_sub(n) / 2, count)
                }
                Placement::Explicit([(before, after), _]) => (before, (n + before + after - reach) / s + 1),
            };
            prop_assert_eq!((begin, count), (b, output));
        }
    }
}
