//! Pooling. Output extents that are rounded up are written as padding at the end, so that Core ML's own rule for them, which
//! wants equal padding on both sides, is not needed.

use std::io::Write;

use slq_graph::Node;
use slq_graph::op::Window;

use super::node::{Lowered, Refusal, part, unsupported};
use crate::builder::{Builder, Val};
use crate::mil::Argument;

/// The padding (top, left, bottom, right) with which an extent that is rounded down has as many windows as `output`.
fn padding(window: &Window, input: [usize; 2], output: [usize; 2]) -> [usize; 4] {
    let mut pads = window.resolve_pads(input);
    for i in 0..2 {
        let needed = (output[i] - 1) * window.strides[i] + window.kernel[i];
        let there = input[i] + pads[i];
        pads[i + 2] = pads[i + 2].max(needed.saturating_sub(there));
        // The other way round nothing is to do: what is left over at the end is dropped, unless it holds a whole stride.
        while there + pads[i + 2] >= needed + window.strides[i] && pads[i + 2] > 0 {
            pads[i + 2] -= 1;
        }
    }
    pads
}

struct Pool {
    x: Val,
    output: [usize; 2],
}

fn start<W: Write>(b: &mut Builder<'_, W>, node: &Node, window: &Window) -> Result<Pool, Refusal> {
    if window.dilations != [1, 1] {
        return unsupported(format!("a pooling window with dilations {:?}", window.dilations));
    }
    let x = b.float_input(node, 0)?;
    let shape = b.like(&node.outputs[0]).shape;
    Ok(Pool { x, output: [shape[2], shape[3]] })
}

fn settings<W: Write>(
    b: &mut Builder<'_, W>,
    window: &Window,
    [top, left, bottom, right]: [usize; 4],
) -> [(&'static str, Argument); 5] {
    [
        ("kernel_sizes", b.sizes(&window.kernel)),
        ("strides", b.sizes(&window.strides)),
        ("pad_type", b.text("custom")),
        ("pad", b.sizes(&[top, bottom, left, right])),
        ("ceil_mode", b.flag(false)),
    ]
}

pub fn max<W: Write>(b: &mut Builder<'_, W>, node: &Node, window: &Window, _ceil: bool) -> Lowered {
    let pool = start(b, node, window)?;
    let pads = padding(window, [pool.x.shape[2], pool.x.shape[3]], pool.output);
    let mut inputs = vec![("x", pool.x.arg())];
    inputs.extend(settings(b, window, pads));
    b.result(node, "max_pool", &inputs);
    Ok(())
}

/// The mean over each window. Padding that counts becomes zeros around the data; what is beyond it, from rounding up, never
/// counts.
pub fn average<W: Write>(
    b: &mut Builder<'_, W>,
    node: &Node,
    window: &Window,
    _ceil: bool,
    count_include_pad: bool,
) -> Lowered {
    let mut pool = start(b, node, window)?;
    let mut pads = padding(window, [pool.x.shape[2], pool.x.shape[3]], pool.output);
    let own = window.resolve_pads([pool.x.shape[2], pool.x.shape[3]]);
    if count_include_pad && own != [0; 4] {
        let shape = [
            pool.x.shape[0],
            pool.x.shape[1],
            pool.x.shape[2] + own[0] + own[2],
            pool.x.shape[3] + own[1] + own[3],
        ];
        let around = b.sizes(&[own[0], own[2], own[1], own[3]]);
        let (mode, zero) = (b.text("constant"), b.float(0.0));
        let inputs = [("x", pool.x.arg()), ("pad", around), ("mode", mode), ("constant_val", zero)];
        pool.x = b.op("pad", &inputs, &part(node, "padded"), &pool.x.with_shape(&shape));
        pads = [0, 0, pads[2].saturating_sub(own[2]), pads[3].saturating_sub(own[3])];
    }
    let mut inputs = vec![("x", pool.x.arg()), ("exclude_padding_from_average", b.flag(true))];
    inputs.extend(settings(b, window, pads));
    b.result(node, "avg_pool", &inputs);
    Ok(())
}

/// A statistic over all positions of each channel.
pub fn global<W: Write>(b: &mut Builder<'_, W>, node: &Node, kind: &str) -> Lowered {
    let x = b.float_input(node, 0)?;
    let axes: Vec<usize> = (2..x.shape.len()).collect();
    let (axes, keep) = (b.sizes(&axes), b.flag(true));
    b.result(node, kind, &[("x", x.arg()), ("axes", axes), ("keep_dims", keep)]);
    Ok(())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use slq_graph::op::Padding;

    use super::*;

    proptest! {
        #[test]
        fn rounded_down_the_padding_gives_the_wanted_extent(
            n in 1usize..40, k in 1usize..8, s in 1usize..6, p in 0usize..8, e in 0usize..8, ceil in any::<bool>(),
        ) {
            let (p, e) = (p % k, e % k);
            let window = Window { kernel: [k; 2], strides: [s; 2], dilations: [1; 2], padding: Padding::Explicit([p, p, e, e]) };
            if let Some(output) = window.output_extent([n; 2], ceil) {
                let pads = padding(&window, [n; 2], output);
                prop_assert_eq!(pads[0], p);
                let extent = (n + p + pads[2]).checked_sub(k).map(|room| room / s + 1);
                prop_assert_eq!(extent, Some(output[0]), "{:?}", pads);
                prop_assert!(ceil || pads[2] <= e);
            }
        }
    }
}
