//! Pooling and reductions.

use slq_graph::Node;
use slq_graph::op::Window;

use super::context::{Lowering, Lowers, output, refuse};
use super::windows::pair;
use crate::arrange::axis_in_file;
use crate::padding::Placement;
use crate::schema::{Code, Options};

impl Lowering<'_> {
    pub(super) fn max_pool(&mut self, node: &Node, window: &Window) -> Lowers {
        if window.dilations != [1, 1] {
            return refuse("its window is dilated");
        }
        if node.outputs.iter().skip(1).any(|o| !o.is_empty()) {
            return refuse("the positions of the maxima are asked for");
        }
        let (value, shape) = self.image(node)?;
        let placement = self.placement(node, window, shape)?;
        let (tensor, same) = self.placed(node, value.tensor, placement, f32::MIN)?;
        let options = Options::pool(same, pair(window.strides), pair(window.kernel));
        self.result(node, Code::MaxPool2d, options, vec![tensor])
    }

    pub(super) fn average_pool(&mut self, node: &Node, window: &Window, include_pad: bool) -> Lowers {
        if window.dilations != [1, 1] {
            return refuse("its window is dilated");
        }
        let (value, shape) = self.image(node)?;
        let placement = self.placement(node, window, shape)?;
        let pads = window.resolve_pads([shape[2], shape[3]]);
        // SAME divides by the elements that lie inside; so does ONNX unless padding counts.
        let as_same = placement == Placement::Same && (!include_pad || pads == [0; 4]);
        let placement = match placement {
            Placement::Same if !as_same => self.explicit(node, window, shape)?,
            other => other,
        };
        let (tensor, same) = self.placed(node, value.tensor, placement, 0.0)?;
        let options = Options::pool(same, pair(window.strides), pair(window.kernel));
        let out = self.output_shape(node)?;
        let corrections = match placement {
            Placement::Explicit(_) => corrections(window, shape, pads, [out[2], out[3]], include_pad),
            _ => None,
        };
        let Some(corrections) = corrections else {
            return self.result(node, Code::AveragePool2d, options, vec![tensor]);
        };
        let name = output(node)?;
        let file_shape = vec![out[0], out[2], out[3], out[1]];
        let mean = self.emit(Code::AveragePool2d, options, vec![tensor], file_shape, &format!("{name}.mean"));
        let factor = self.float_constant(&format!("{name}.area"), vec![1, out[2], out[3], 1], &corrections);
        self.result(node, Code::Mul, Options::of(Code::Mul), vec![mean, factor])
    }

    /// The placement with its padding spelled out.
    fn explicit(&self, node: &Node, window: &Window, shape: [usize; 4]) -> Lowers<Placement> {
        let (out, pads) = (self.output_shape(node)?, window.resolve_pads([shape[2], shape[3]]));
        let added = [0, 1].map(|i| {
            let end = (out[2 + i].saturating_sub(1)) * window.strides[i] + window.kernel[i];
            (pads[i], end.saturating_sub(shape[2 + i] + pads[i]))
        });
        Ok(Placement::Explicit(added))
    }

    pub(super) fn global_average(&mut self, node: &Node) -> Lowers {
        let rank = self.input(node, 0)?.shape.len();
        let axes: Vec<usize> = (2..rank).collect();
        self.reduce(node, Code::Mean, &axes, true)
    }

    pub(super) fn global_max(&mut self, node: &Node) -> Lowers {
        let (value, [_, _, h, w]) = self.image(node)?;
        let options = Options::pool(false, [1, 1], pair([h, w]));
        self.result(node, Code::MaxPool2d, options, vec![value.tensor])
    }

    pub(super) fn reduce(&mut self, node: &Node, code: Code, axes: &[usize], keep_dims: bool) -> Lowers {
        let value = self.input(node, 0)?;
        let rank = value.shape.len();
        let in_file: Vec<usize> = axes.iter().map(|&a| axis_in_file(a, rank)).collect();
        // Without its channels in second place a smaller value would have its axes in another order.
        let rest: Vec<usize> =
            (0..rank).filter(|a| !axes.contains(a)).map(|a| axis_in_file(a, rank)).collect();
        if !keep_dims && !rest.is_sorted() {
            return refuse("the axes that are left lie in another order in the file");
        }
        let mut sorted: Vec<i32> = in_file.iter().map(|&a| a as i32).collect();
        sorted.sort_unstable();
        let list = self.int_constant(vec![sorted.len()], sorted);
        self.result(node, code, Options::reducer(keep_dims), vec![value.tensor, list])
    }
}

/// For each output position, the window's area over the number of elements that ONNX divides by; `None` where that is 1
/// everywhere.
fn corrections(
    window: &Window,
    shape: [usize; 4],
    pads: [usize; 4],
    out: [usize; 2],
    include_pad: bool,
) -> Option<Vec<f32>> {
    let counts = [0, 1].map(|i| {
        let (input, before, after) = (shape[2 + i], pads[i], pads[i + 2]);
        let (low, high) = if include_pad { (0, before + input + after) } else { (before, before + input) };
        let inside = |o: usize| {
            let from = o * window.strides[i];
            (from + window.kernel[i]).min(high).saturating_sub(from.max(low)).max(1)
        };
        (0..out[i]).map(inside).collect::<Vec<usize>>()
    });
    let area = window.kernel[0] * window.kernel[1];
    let [rows, columns] = &counts;
    let factors: Vec<f32> = rows
        .iter()
        .flat_map(|r| columns.iter().map(move |c| (area as f64 / (r * c) as f64) as f32))
        .collect();
    factors.iter().any(|&f| f != 1.0).then_some(factors)
}
