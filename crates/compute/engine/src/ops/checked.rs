//! Integers that a layer computes in 32-bit floats: every one that a float or its own type does not hold is an error.

use slq_graph::op::{BinaryOp, Op, UnaryOp};
use slq_graph::{DType, Graph};

use super::layer::Layer;
use super::pass::{Backward, Forward};
use super::place::Place;
use super::site::Site;
use crate::error::EngineError;

/// Floats hold every integer up to here.
const EXACT: f64 = (1u32 << 24) as f64;

struct CheckedLayer {
    layer: Box<dyn Layer>,
    node: String,
    dtype: DType,
    lowest: f64,
    highest: f64,
    /// Results of a power are rounded to the integers that they are close to.
    rounds: bool,
    bad: Option<f32>,
}

/// The range of an integer type.
fn range(dtype: DType) -> (f64, f64) {
    match dtype {
        DType::U8 => (0.0, 255.0),
        DType::I8 => (-128.0, 127.0),
        DType::U16 => (0.0, 65535.0),
        DType::I16 => (-32768.0, 32767.0),
        DType::U32 => (0.0, f64::from(u32::MAX)),
        DType::I32 => (f64::from(i32::MIN), f64::from(i32::MAX)),
        DType::U64 => (0.0, u64::MAX as f64),
        _ => (i64::MIN as f64, i64::MAX as f64),
    }
}

/// `layer` with a check of what it writes.
pub(super) fn checked(site: Site<'_>, layer: Box<dyn Layer>, dtype: DType) -> Box<dyn Layer> {
    let (lowest, highest) = range(dtype);
    // What a cast leaves of a float is what the float holds, however large.
    let cast = matches!(site.step.op, Op::Unary(UnaryOp::Truncate)) && site.node.op.starts_with("Cast");
    let (lowest, highest) = if cast { (lowest, highest) } else { (lowest.max(-EXACT), highest.min(EXACT)) };
    Box::new(CheckedLayer {
        layer,
        node: site.node.name.clone(),
        dtype,
        lowest,
        highest,
        rounds: matches!(site.step.op, Op::Binary(BinaryOp::Pow)),
        bad: None,
    })
}

impl Layer for CheckedLayer {
    fn reads_input(&self, i: usize) -> bool {
        self.layer.reads_input(i)
    }

    fn reads_output(&self) -> bool {
        self.layer.reads_output()
    }

    fn in_place(&self) -> Option<usize> {
        self.layer.in_place()
    }

    fn gradient_in_place(&self) -> bool {
        self.layer.gradient_in_place()
    }

    fn accumulates(&self, i: usize) -> bool {
        self.layer.accumulates(i)
    }

    fn refresh(&mut self, weights: &Graph) {
        self.layer.refresh(weights);
    }

    fn forward(&mut self, pass: &mut Forward<'_>, y: &mut [f32]) {
        self.layer.forward(pass, y);
        self.bad = None;
        for y in y.iter_mut() {
            if self.rounds && (*y - y.round()).abs() < 0.01 {
                *y = y.round();
            }
            let inside = (self.lowest..=self.highest).contains(&f64::from(*y)) && y.fract() == 0.0;
            if !inside {
                self.bad.get_or_insert(*y);
            }
        }
    }

    fn backward(&mut self, pass: &mut Backward<'_>) {
        self.layer.backward(pass);
    }

    fn fault(&self) -> Option<EngineError> {
        let own = self.bad.map(|value| EngineError::Data {
            node: self.node.clone(),
            reason: format!(
                "computes {value}, which is no {:?} that a 32-bit float holds exactly",
                self.dtype
            ),
        });
        self.layer.fault().or(own)
    }

    fn commit(&mut self, inputs: &[Place], weights: &mut Graph) {
        self.layer.commit(inputs, weights);
    }

    fn scratch_bytes(&self) -> usize {
        self.layer.scratch_bytes()
    }
}
