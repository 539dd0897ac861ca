//! The arithmetic of sliding windows: padding and output extents.

use crate::op::{Padding, Window};

impl Window {
    /// Extent of the kernel with its dilation, (height, width): `(k - 1) * d + 1`.
    pub fn reach(&self) -> [usize; 2] {
        [0, 1].map(|i| self.kernel[i].saturating_sub(1).saturating_mul(self.dilations[i]).saturating_add(1))
    }

    /// The padding (top, left, bottom, right) for an input of `input_hw` (height, width).
    pub fn resolve_pads(&self, input_hw: [usize; 2]) -> [usize; 4] {
        let odd_first = match self.padding {
            Padding::Explicit(pads) => return pads,
            Padding::SameUpper => false,
            Padding::SameLower => true,
        };
        let reach = self.reach();
        let mut pads = [0; 4];
        for i in 0..2 {
            let stride = self.strides[i].max(1);
            let steps = input_hw[i].div_ceil(stride).saturating_sub(1);
            let total = steps.saturating_mul(stride).saturating_add(reach[i]).saturating_sub(input_hw[i]);
            let (small, large) = (total / 2, total - total / 2);
            (pads[i], pads[i + 2]) = if odd_first { (large, small) } else { (small, large) };
        }
        pads
    }

    /// Number of positions of the window, (height, width), over an input of `input_hw`; `None` where the window
    /// does not fit into the padded input.
    ///
    /// Rounded down, or up for `ceil` (ONNX's `ceil_mode`): then a last window that would start in the end padding is
    /// dropped, as PyTorch and onnxruntime do. If the padding is smaller than the window's extent, every window begins
    /// before the end of the input.
    pub fn output_extent(&self, input_hw: [usize; 2], ceil: bool) -> Option<[usize; 2]> {
        let (reach, pads) = (self.reach(), self.resolve_pads(input_hw));
        let mut out = [0; 2];
        for i in 0..2 {
            let stride = self.strides[i].max(1);
            if !matches!(self.padding, Padding::Explicit(_)) {
                out[i] = input_hw[i].div_ceil(stride);
                continue;
            }
            let leading = input_hw[i].checked_add(pads[i])?;
            let room = leading.checked_add(pads[i + 2])?.checked_sub(reach[i])?;
            let mut steps = if ceil { room.div_ceil(stride) } else { room / stride };
            if ceil && steps.checked_mul(stride)? >= leading {
                steps = steps.saturating_sub(1);
            }
            out[i] = steps + 1;
        }
        Some(out)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn window(k: usize, s: usize, d: usize, padding: Padding) -> Window {
        Window { kernel: [k; 2], strides: [s; 2], dilations: [d; 2], padding }
    }

    #[test]
    fn known_extents() {
        // (input, kernel, stride, dilation, pad begin, pad end, ceil, output)
        let table = [
            (28, 5, 1, 1, 0, 0, false, 24),
            (227, 11, 4, 1, 0, 0, false, 55),
            (55, 3, 2, 1, 0, 0, true, 27),
            (112, 3, 2, 1, 0, 0, true, 56),
            (112, 3, 2, 1, 0, 0, false, 55),
            (7, 3, 1, 2, 1, 1, false, 5),
            // The fourth window would start at 6 = input + leading padding: dropped.
            (5, 2, 2, 1, 1, 1, true, 3),
            (4, 3, 2, 1, 1, 1, true, 3),
            (3, 1, 2, 1, 0, 0, true, 2),
            (5, 1, 3, 1, 0, 0, true, 2),
        ];
        for (n, k, s, d, p0, p1, ceil, want) in table {
            let w = window(k, s, d, Padding::Explicit([p0, p0, p1, p1]));
            assert_eq!(w.output_extent([n, n], ceil), Some([want, want]), "{n} {k} {s} {d} {p0} {p1} {ceil}");
        }
    }

    #[test]
    fn same_padding_puts_the_odd_element_where_it_belongs() {
        let upper = window(3, 2, 1, Padding::SameUpper);
        let lower = window(3, 2, 1, Padding::SameLower);
        assert_eq!(upper.resolve_pads([32, 33]), [0, 1, 1, 1]);
        assert_eq!(lower.resolve_pads([32, 33]), [1, 1, 0, 1]);
        assert_eq!(upper.output_extent([32, 33], false), Some([16, 17]));
    }

    #[test]
    fn a_window_larger_than_its_input_has_no_positions() {
        let w = window(5, 1, 1, Padding::Explicit([0; 4]));
        assert_eq!(w.output_extent([4, 9], false), None);
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(200))]
        #[test]
        fn same_padding_gives_exactly_the_extent_it_promises(
            n in 1usize..40, k in 1usize..8, s in 1usize..5, d in 1usize..4,
        ) {
            for padding in [Padding::SameUpper, Padding::SameLower] {
                let w = window(k, s, d, padding);
                let explicit = window(k, s, d, Padding::Explicit(w.resolve_pads([n, n])));
                prop_assert_eq!(w.output_extent([n, n], false), explicit.output_extent([n, n], false));
            }
        }

        #[test]
        fn no_window_starts_past_the_input(
            n in 1usize..40, k in 1usize..8, s in 1usize..9, p in 0usize..4, e in 0usize..8,
        ) {
            let e = e % k; // pools whose padding reaches their kernel are refused earlier
            let w = window(k, s, 1, Padding::Explicit([p, p, e, e]));
            if let Some([out, _]) = w.output_extent([n, n], true) {
                prop_assert!((out - 1) * s < n + p);
            }
        }

        #[test]
        fn hostile_extents_do_not_panic(n: usize, k: usize, s: usize, d: usize, p: usize, ceil: bool) {
            for padding in [Padding::Explicit([p; 4]), Padding::SameUpper, Padding::SameLower] {
                let _ = window(k, s, d, padding).output_extent([n, n], ceil);
            }
        }
    }
}
