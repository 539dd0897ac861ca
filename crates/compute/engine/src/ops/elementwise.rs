//! Operators of two tensors, with broadcasting.

use slq_graph::op::BinaryOp;
use slq_kernels::Store;
use slq_kernels::conv::Post;
use slq_kernels::elementwise::{Binary, Broadcast, binary_backward, binary_forward};
use slq_kernels::reduce::{self, Kind, Reduction, axpy};

use super::layer::Layer;
use super::pass::{Backward, Forward};
use super::post;
use super::site::Site;
use crate::error::EngineError;

pub(super) fn binary(site: Site<'_>, op: BinaryOp) -> Result<Box<dyn Layer>, EngineError> {
    let (a, b) = (site.shape(0)?, site.shape(1)?);
    let kernel = match op {
        BinaryOp::Add => Binary::Add,
        BinaryOp::Sub => Binary::Sub,
        BinaryOp::Mul => Binary::Mul,
        BinaryOp::Div => Binary::Div,
        BinaryOp::Max => return general(&site, General::Max),
        BinaryOp::Min => return general(&site, General::Min),
        BinaryOp::Pow => return general(&site, General::Pow),
        BinaryOp::Mod | BinaryOp::Remainder => return general(&site, General::Rest(op == BinaryOp::Mod)),
        BinaryOp::BitAnd | BinaryOp::BitOr | BinaryOp::BitXor => return general(&site, General::Bits(op)),
        BinaryOp::ShiftLeft | BinaryOp::ShiftRight => return general(&site, General::Bits(op)),
        other => return general(&site, General::Test(other)),
    };
    let shapes = Broadcast::new(a, b).map_err(|e| site.unsupported(e.to_string()))?;
    let first_is_full = a.iter().product::<usize>() == site.step.shape.iter().product::<usize>();
    let equal = first_is_full && b.iter().product::<usize>() == site.step.shape.iter().product::<usize>();
    let sums = [a, b].map(|operand| sum_to(operand, &site.step.shape));
    Ok(Box::new(BinaryLayer { op: kernel, shapes, sums, first_is_full, equal, post: site.step.post }))
}

/// The reduction of a tensor of `shape` to an operand that was broadcast to it.
pub(super) fn sum_to(operand: &[usize], shape: &[usize]) -> Reduction {
    let lead = shape.len() - operand.len();
    let repeats = |&axis: &usize| axis < lead || (operand[axis - lead] == 1 && shape[axis] != 1);
    Reduction::new(shape, &(0..shape.len()).filter(repeats).collect::<Vec<_>>())
}

/// Sum, difference, product or quotient.
struct BinaryLayer {
    op: Binary,
    shapes: Broadcast,
    /// Sums a gradient of the output's shape to each operand.
    sums: [Reduction; 2],
    /// Operand 0 has as many elements as the output.
    first_is_full: bool,
    /// Both have.
    equal: bool,
    post: Post,
}

impl Layer for BinaryLayer {
    fn reads_input(&self, _i: usize) -> bool {
        matches!(self.op, Binary::Mul | Binary::Div)
    }

    fn reads_output(&self) -> bool {
        post::is_some(self.post)
    }

    fn in_place(&self) -> Option<usize> {
        (self.op == Binary::Add && self.equal).then_some(0)
    }

    fn gradient_in_place(&self) -> bool {
        matches!(self.op, Binary::Add | Binary::Sub) && self.first_is_full
    }

    fn forward(&mut self, pass: &mut Forward<'_>, y: &mut [f32]) {
        if pass.in_place {
            axpy(pass.isa, 1.0, pass.input(1), y);
        } else {
            binary_forward(pass.isa, self.op, &self.shapes, pass.input(0), pass.input(1), y);
        }
        post::forward(pass.isa, self.post, y);
    }

    fn backward(&mut self, pass: &mut Backward<'_>) {
        let isa = pass.isa;
        let mut dy = pass.take_output_gradient();
        if post::is_some(self.post) {
            post::backward(isa, self.post, pass.output(), &mut dy);
        }
        let mut da = if pass.in_place { None } else { pass.take_gradient(0) };
        let mut db = pass.take_gradient(1);
        if matches!(self.op, Binary::Add | Binary::Sub) {
            // The gradients do not depend on the operands, whose buffers may have been reused.
            for (sum, gradient) in self.sums.iter().zip([&mut da, &mut db]) {
                match gradient {
                    Some(gradient) if gradient.len() == dy.len() => gradient.copy_from_slice(&dy),
                    Some(gradient) => reduce::forward(isa, sum, Kind::Sum, &dy, gradient),
                    None => {}
                }
            }
            if let (Some(db), Binary::Sub) = (&mut db, self.op) {
                reduce::scale(isa, -1.0, db);
            }
        } else {
            let (da, db) = (da.as_deref_mut(), db.as_deref_mut());
            binary_backward(
                isa,
                self.op,
                &self.shapes,
                pass.input(0),
                pass.input(1),
                &dy,
                da,
                db,
                Store::Overwrite,
            );
        }
        for (i, gradient) in [da, db].into_iter().enumerate() {
            if let Some(gradient) = gradient {
                pass.put_gradient(i, gradient);
            }
        }
        pass.put_output_gradient(dy);
    }
}

/// Functions of two elements that are rare enough for one loop over all layouts.
#[derive(Clone, Copy)]
pub(super) enum General {
    Max,
    Min,
    Pow,
    /// a where it is positive, else a b (PReLU with a slope of any shape).
    Slope,
    /// A comparison or logic: 1 or 0.
    Test(BinaryOp),
    /// The remainder, with the sign of the divisor or of the dividend.
    Rest(bool),
    /// An operation on the bits of integers.
    Bits(BinaryOp),
}

impl General {
    fn value(self, a: f32, b: f32) -> f32 {
        match self {
            General::Pow if b == 2.0 => a * a,
            General::Pow => a.powf(b),
            General::Slope if a < 0.0 => a * b,
            General::Slope => a,
            General::Test(op) => f32::from(u8::from(holds(op, a, b))),
            General::Bits(op) => bits(op, a as i64, b as i64).map_or(f32::NAN, |v| v as f32),
            // A remainder of integers by 0 is none.
            General::Rest(floored) => {
                let rest = a % b;
                if floored && rest != 0.0 && (rest < 0.0) != (b < 0.0) { rest + b } else { rest }
            }
            _ if a.is_nan() || b.is_nan() => f32::NAN,
            General::Max => a.max(b),
            General::Min => a.min(b),
        }
    }

    /// Slope with respect to operand `which`; equal operands of a maximum share it, as in PyTorch.
    fn slope(self, which: usize, a: f32, b: f32) -> f32 {
        match (self, which) {
            (General::Pow, 0) if b == 0.0 => 0.0,
            (General::Pow, 0) => b * a.powf(b - 1.0),
            (General::Pow, _) if a == 0.0 => 0.0,
            (General::Pow, _) => a.powf(b) * a.ln(),
            (General::Slope, 0) => {
                if a > 0.0 {
                    1.0
                } else {
                    b
                }
            }
            (General::Slope, _) => a.min(0.0),
            (General::Test(_) | General::Bits(_), _) => 0.0,
            (General::Rest(_), 0) => 1.0,
            (General::Rest(true), _) => -(a / b).floor(),
            (General::Rest(false), _) => -(a / b).trunc(),
            _ if a == b => 0.5,
            (General::Max, 0) | (General::Min, 1) => f32::from(u8::from(a > b)),
            _ => f32::from(u8::from(b > a)),
        }
    }
}

/// An operation on bits; none for other operators.
fn bits(op: BinaryOp, a: i64, b: i64) -> Option<i64> {
    match op {
        BinaryOp::BitAnd => Some(a & b),
        BinaryOp::BitOr => Some(a | b),
        BinaryOp::BitXor => Some(a ^ b),
        BinaryOp::ShiftLeft => u32::try_from(b).ok().filter(|b| *b < 38).map(|b| a << b),
        BinaryOp::ShiftRight => u32::try_from(b).ok().map(|b| a >> b.min(63)),
        _ => None,
    }
}

/// Whether a comparison holds; of other operators, none does.
fn holds(op: BinaryOp, a: f32, b: f32) -> bool {
    match op {
        BinaryOp::Equal => a == b,
        BinaryOp::Greater => a > b,
        BinaryOp::GreaterOrEqual => a >= b,
        BinaryOp::Less => a < b,
        BinaryOp::LessOrEqual => a <= b,
        BinaryOp::And => a != 0.0 && b != 0.0,
        BinaryOp::Or => a != 0.0 || b != 0.0,
        BinaryOp::Xor => (a != 0.0) != (b != 0.0),
        _ => false,
    }
}

/// A [`General`] function of two tensors.
struct GeneralLayer {
    op: General,
    shape: Vec<usize>,
    /// Step of each operand along each axis of the output; 0 where it repeats.
    strides: [Vec<usize>; 2],
    /// Sums a gradient of the output's shape to each operand.
    sums: [Reduction; 2],
    scratch: Vec<f32>,
}

/// Step of an operand of shape `operand` along each axis of `shape`, which it is broadcast to; 0 where it repeats.
pub(super) fn broadcast_strides(shape: &[usize], operand: &[usize]) -> Vec<usize> {
    let mut strides = vec![0; shape.len()];
    let mut step = 1;
    for (i, &d) in operand.iter().enumerate().rev() {
        strides[shape.len() - operand.len() + i] = if d == 1 { 0 } else { step };
        step *= d;
    }
    strides
}

/// Applies `op` to inputs 0 and 1, broadcast to the step's shape.
pub(super) fn general(site: &Site<'_>, op: General) -> Result<Box<dyn Layer>, EngineError> {
    let (a, b) = (site.shape(0)?, site.shape(1)?);
    let shape = site.step.shape.clone();
    let strides = [a, b].map(|operand| broadcast_strides(&shape, operand));
    let sums = [a, b].map(|operand| sum_to(operand, &shape));
    let len = if site.differentiates() { shape.iter().product() } else { 0 };
    Ok(Box::new(GeneralLayer { op, shape, strides, sums, scratch: vec![0.0; len] }))
}

impl GeneralLayer {
    /// Calls `f` with each element of the output and its two operands.
    fn each(&self, a: &[f32], b: &[f32], mut f: impl FnMut(usize, f32, f32)) {
        let mut index = vec![0; self.shape.len()];
        let (mut at_a, mut at_b) = (0, 0);
        for i in 0..self.shape.iter().product() {
            f(i, a[at_a], b[at_b]);
            for axis in (0..self.shape.len()).rev() {
                index[axis] += 1;
                at_a += self.strides[0][axis];
                at_b += self.strides[1][axis];
                if index[axis] < self.shape[axis] {
                    break;
                }
                at_a -= self.strides[0][axis] * index[axis];
                at_b -= self.strides[1][axis] * index[axis];
                index[axis] = 0;
            }
        }
    }
}

impl Layer for GeneralLayer {
    fn reads_input(&self, _i: usize) -> bool {
        true
    }

    fn forward(&mut self, pass: &mut Forward<'_>, y: &mut [f32]) {
        let op = self.op;
        self.each(pass.input(0), pass.input(1), |i, a, b| y[i] = op.value(a, b));
    }

    fn backward(&mut self, pass: &mut Backward<'_>) {
        let dy = pass.take_output_gradient();
        for which in 0..2 {
            let Some(mut gradient) = pass.take_gradient(which) else { continue };
            let mut scratch = std::mem::take(&mut self.scratch);
            self.each(pass.input(0), pass.input(1), |i, a, b| {
                scratch[i] = dy[i] * self.op.slope(which, a, b);
            });
            reduce::forward(pass.isa, &self.sums[which], Kind::Sum, &scratch, &mut gradient);
            self.scratch = scratch;
            pass.put_gradient(which, gradient);
        }
        pass.put_output_gradient(dy);
    }

    fn scratch_bytes(&self) -> usize {
        4 * self.scratch.len()
    }
}
