//! Arithmetic element by element: two operands with broadcasting, and simple functions of one.

use crate::isa::multiversion;
use crate::reduce::{COLUMNS, Columns, offset};
use crate::{Isa, Store};
use crate::{math, par};

/// An operation on two operands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Binary {
    /// `a + b`.
    Add,
    /// `a - b`.
    Sub,
    /// `a * b`.
    Mul,
    /// `a / b`.
    Div,
}

/// Two shapes do not broadcast.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("shapes {a:?} and {b:?} do not broadcast")]
pub struct BroadcastError {
    /// Shape of the first operand.
    pub a: Vec<usize>,
    /// Shape of the second operand.
    pub b: Vec<usize>,
}

/// How two shapes broadcast (numpy's rules), with neighbouring axes merged.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Broadcast {
    /// (length, stride in a, stride in b), fastest first; a stride is 0 where the operand repeats.
    dims: Vec<(usize, usize, usize)>,
    shape: Vec<usize>,
    lens: [usize; 2],
}

impl Broadcast {
    /// # Errors
    /// [`BroadcastError`] when aligned dimensions differ and neither is 1.
    pub fn new(a: &[usize], b: &[usize]) -> Result<Self, BroadcastError> {
        let rank = a.len().max(b.len());
        let at = |s: &[usize], axis: usize| (axis + s.len()).checked_sub(rank).map_or(1, |i| s[i]);
        let mut dims: Vec<(usize, usize, usize)> = Vec::new();
        let mut shape = vec![0; rank];
        let (mut stride_a, mut stride_b) = (1, 1);
        for axis in (0..rank).rev() {
            let (la, lb) = (at(a, axis), at(b, axis));
            if la != lb && la != 1 && lb != 1 {
                return Err(BroadcastError { a: a.to_vec(), b: b.to_vec() });
            }
            let len = if la == 1 { lb } else { la };
            shape[axis] = len;
            let step = (if la == 1 { 0 } else { stride_a }, if lb == 1 { 0 } else { stride_b });
            stride_a *= la;
            stride_b *= lb;
            if len == 1 {
                continue;
            }
            match dims.last_mut() {
                Some(d)
                    if d.1 * d.0 == step.0
                        && d.2 * d.0 == step.1
                        && (d.1 == 0) == (step.0 == 0)
                        && (d.2 == 0) == (step.1 == 0) =>
                {
                    d.0 *= len
                }
                _ => dims.push((len, step.0, step.1)),
            }
        }
        if dims.is_empty() {
            dims.push((1, 0, 0));
        }
        Ok(Broadcast { dims, shape, lens: [stride_a, stride_b] })
    }

    /// Shape of the result.
    pub fn shape(&self) -> &[usize] {
        &self.shape
    }

    /// Elements of the result.
    pub fn len(&self) -> usize {
        self.shape.iter().product()
    }

    /// Whether the result has none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

#[inline(always)]
fn apply(op: Binary, a: f32, b: f32) -> f32 {
    match op {
        Binary::Add => a + b,
        Binary::Sub => a - b,
        Binary::Mul => a * b,
        Binary::Div => a / b,
    }
}

/// One operand of a run: an element for each place, or one for all.
#[derive(Clone, Copy)]
enum Run<'a> {
    Many(&'a [f32]),
    One(f32),
}

#[inline(always)]
fn run_op(op: Binary, a: Run<'_>, b: Run<'_>, y: &mut [f32]) {
    match (a, b) {
        (Run::Many(a), Run::Many(b)) => {
            for ((y, &a), &b) in y.iter_mut().zip(a).zip(b) {
                *y = apply(op, a, b);
            }
        }
        (Run::Many(a), Run::One(b)) => {
            for (y, &a) in y.iter_mut().zip(a) {
                *y = apply(op, a, b);
            }
        }
        (Run::One(a), Run::Many(b)) => {
            for (y, &b) in y.iter_mut().zip(b) {
                *y = apply(op, a, b);
            }
        }
        (Run::One(a), Run::One(b)) => y.fill(apply(op, a, b)),
    }
}

#[inline(always)]
fn binary_body<const FMA: bool>(op: Binary, a: Run<'_>, b: Run<'_>, y: &mut [f32]) {
    match op {
        Binary::Add => run_op(Binary::Add, a, b, y),
        Binary::Sub => run_op(Binary::Sub, a, b, y),
        Binary::Mul => run_op(Binary::Mul, a, b, y),
        Binary::Div => run_op(Binary::Div, a, b, y),
    }
}

/// Simple functions of one operand.
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub enum Unary {
    /// `e^x`.
    Exp,
    /// Natural logarithm.
    Log,
    /// Square root.
    Sqrt,
    /// `1 / x`.
    Reciprocal,
    /// `-x`.
    Neg,
    /// Magnitude; its derivative at zero is 0.
    Abs,
    /// `x^p` for a constant `p`.
    Pow(f32),
}

#[inline(always)]
fn unary_body<const FMA: bool>(op: Unary, x: &[f32], y: &mut [f32]) {
    let pairs = y.iter_mut().zip(x);
    match op {
        Unary::Exp => pairs.for_each(|(y, &x)| *y = math::exp::<FMA>(x)),
        Unary::Log => pairs.for_each(|(y, &x)| *y = x.ln()),
        Unary::Sqrt => pairs.for_each(|(y, &x)| *y = x.sqrt()),
        Unary::Reciprocal => pairs.for_each(|(y, &x)| *y = 1.0 / x),
        Unary::Neg => pairs.for_each(|(y, &x)| *y = -x),
        Unary::Abs => pairs.for_each(|(y, &x)| *y = x.abs()),
        Unary::Pow(p) => {
            if p == 2.0 {
                pairs.for_each(|(y, &x)| *y = x * x);
            } else {
                pairs.for_each(|(y, &x)| *y = x.powf(p));
            }
        }
    }
}

#[inline(always)]
fn unary_slope(op: Unary, x: f32) -> f32 {
    match op {
        Unary::Exp => x.exp(),
        Unary::Log => 1.0 / x,
        Unary::Sqrt => 0.5 / x.sqrt(),
        Unary::Reciprocal => -1.0 / (x * x),
        Unary::Neg => -1.0,
        Unary::Abs => {
            if x > 0.0 {
                1.0
            } else if x < 0.0 {
                -1.0
            } else {
                0.0
            }
        }
        Unary::Pow(p) => {
            if p == 2.0 {
                2.0 * x
            } else {
                p * x.powf(p - 1.0)
            }
        }
    }
}

multiversion! {
    fn binary_run(op: Binary, a: Run<'_>, b: Run<'_>, y: &mut [f32]) = binary_body;
    fn unary_run(op: Unary, x: &[f32], y: &mut [f32]) = unary_body;
}

/// `y = a op b`, broadcast.
pub fn binary_forward(isa: Isa, op: Binary, shapes: &Broadcast, a: &[f32], b: &[f32], y: &mut [f32]) {
    assert!([a.len(), b.len()] == shapes.lens && y.len() == shapes.len());
    let (&(run, step_a, step_b), outer) = shapes.dims.split_first().expect("one at least");
    if outer.is_empty() && step_a == 1 && step_b == 1 {
        return par::map2(a, b, y, |a, b, y| binary_run(isa, op, Run::Many(a), Run::Many(b), y));
    }
    let dims_a: Vec<_> = outer.iter().map(|d| (d.0, d.1)).collect();
    let dims_b: Vec<_> = outer.iter().map(|d| (d.0, d.2)).collect();
    let pick = |x, at: usize, step| match step {
        0 => Run::One(slice_at(x, at)),
        _ => Run::Many(&x[at..at + run]),
    };
    par::planes(y, run, |i, y| {
        let a = pick(a, offset(&dims_a, i), step_a);
        let b = pick(b, offset(&dims_b, i), step_b);
        binary_run(isa, op, a, b, y);
    });
}

fn slice_at(x: &[f32], at: usize) -> f32 {
    x[at]
}

/// Gradients of [`binary_forward`]; an operand that was repeated gets the sum over its repeats (in `f64`, in a fixed
/// order). Both are stored as `store` says.
#[allow(clippy::too_many_arguments)]
pub fn binary_backward(
    isa: Isa,
    op: Binary,
    shapes: &Broadcast,
    a: &[f32],
    b: &[f32],
    dy: &[f32],
    da: Option<&mut [f32]>,
    db: Option<&mut [f32]>,
    store: Store,
) {
    assert!([a.len(), b.len()] == shapes.lens && dy.len() == shapes.len());
    // An operand that was not repeated is laid out as the result: its gradient is a product or a quotient like it.
    let whole = |gradient: &[f32]| store == Store::Overwrite && gradient.len() == dy.len();
    if let Some(da) = da {
        match op {
            Binary::Mul | Binary::Div if whole(da) => binary_forward(isa, op, shapes, dy, b, da),
            Binary::Add | Binary::Sub => gather(shapes, |d| d.1, da, store, |o, _, _| dy[o] as f64),
            Binary::Mul => gather(shapes, |d| d.1, da, store, |o, _, j| dy[o] as f64 * b[j] as f64),
            Binary::Div => gather(shapes, |d| d.1, da, store, |o, _, j| dy[o] as f64 / b[j] as f64),
        }
    }
    if let Some(db) = db {
        match op {
            Binary::Mul if whole(db) => binary_forward(isa, op, shapes, a, dy, db),
            Binary::Add => gather(shapes, |d| d.2, db, store, |o, _, _| dy[o] as f64),
            Binary::Sub => gather(shapes, |d| d.2, db, store, |o, _, _| -dy[o] as f64),
            Binary::Mul => gather(shapes, |d| d.2, db, store, |o, i, _| dy[o] as f64 * a[i] as f64),
            Binary::Div => gather(
                shapes,
                |d| d.2,
                db,
                store,
                |o, i, j| {
                    let b = b[j] as f64;
                    -(dy[o] as f64) * a[i] as f64 / (b * b)
                },
            ),
        }
    }
}

/// One sum for each element of an operand, over the results that used it. `value(result, index in a, index in b)`.
fn gather(
    shapes: &Broadcast,
    stride: impl Fn(&(usize, usize, usize)) -> usize,
    out: &mut [f32],
    store: Store,
    value: impl Fn(usize, usize, usize) -> f64 + Sync + Send,
) {
    // (length, stride in the result, in a, in b): those the operand has, and those it was repeated over.
    let (mut kept, mut repeated) = (Vec::new(), Vec::new());
    let mut result = 1;
    for d in &shapes.dims {
        let list = if stride(d) == 0 { &mut repeated } else { &mut kept };
        list.push((d.0, result, d.1, d.2));
        result *= d.0;
    }
    let place = |dims: &[(usize, usize, usize, usize)], mut i: usize| {
        let mut at = [0usize; 3];
        for d in dims {
            let k = i % d.0;
            i /= d.0;
            at[0] += k * d.1;
            at[1] += k * d.2;
            at[2] += k * d.3;
        }
        at
    };
    let count: usize = repeated.iter().map(|d| d.0).product();
    if let Some(columns) = Columns::of(kept.first().map(|d| (d.0, d.1)), count) {
        let (step_a, step_b) = (kept[0].2, kept[0].3);
        return columns.each(out, |at, out| {
            let (base, mut sums) = (place(&kept, at), [0.0f64; COLUMNS]);
            let sums = &mut sums[..out.len()];
            for k in 0..count {
                let far = place(&repeated, k);
                let [o, a, b] = [base[0] + far[0], base[1] + far[1], base[2] + far[2]];
                for (j, sum) in sums.iter_mut().enumerate() {
                    *sum += value(o + j, a + j * step_a, b + j * step_b);
                }
            }
            out.iter_mut().zip(sums).for_each(|(out, sum)| store.put(out, *sum as f32));
        });
    }
    let inner = repeated.first().copied().unwrap_or((1, 0, 0, 0));
    let block = (par::CHUNK / count.max(1)).max(1);
    par::planes(out, block, |chunk, out| {
        for (j, out) in out.iter_mut().enumerate() {
            let base = place(&kept, chunk * block + j);
            let mut sum = 0.0f64;
            for outer in 0..count / inner.0.max(1) {
                let far = place(repeated.get(1..).unwrap_or(&[]), outer);
                for k in 0..inner.0 {
                    sum += value(
                        base[0] + far[0] + k * inner.1,
                        base[1] + far[1] + k * inner.2,
                        base[2] + far[2] + k * inner.3,
                    );
                }
            }
            store.put(out, sum as f32);
        }
    });
}

/// `y = op(x)`.
pub fn unary_forward(isa: Isa, op: Unary, x: &[f32], y: &mut [f32]) {
    par::map1(x, y, |x, y| unary_run(isa, op, x, y));
}

/// `dx = op'(x) dy`, stored as `store` says.
pub fn unary_backward(_isa: Isa, op: Unary, x: &[f32], dy: &[f32], dx: &mut [f32], store: Store) {
    par::map2(x, dy, dx, |x, dy, dx| {
        for ((dx, &x), &dy) in dx.iter_mut().zip(x).zip(dy) {
            let d = unary_slope(op, x) * dy;
            store.put(dx, d);
        }
    });
}

#[cfg(test)]
mod tests {
    use super::super::testing::*;
    use super::*;

    fn reference(op: Binary, sa: &[usize], sb: &[usize], shape: &[usize], a: &[f64], b: &[f64]) -> Vec<f64> {
        let len: usize = shape.iter().product();
        let index = |s: &[usize], mut i: usize| {
            let (mut at, mut stride) = (0, 1);
            for axis in (0..shape.len()).rev() {
                let k = i % shape[axis];
                i /= shape[axis];
                if let Some(own) = (axis + s.len()).checked_sub(shape.len()) {
                    at += if s[own] == 1 { 0 } else { k * stride };
                    stride *= s[own];
                }
            }
            at
        };
        (0..len)
            .map(|i| {
                let (a, b) = (a[index(sa, i)], b[index(sb, i)]);
                match op {
                    Binary::Add => a + b,
                    Binary::Sub => a - b,
                    Binary::Mul => a * b,
                    Binary::Div => a / b,
                }
            })
            .collect()
    }

    #[test]
    fn broadcasting_and_gradients() {
        let shapes: [(&[usize], &[usize], &[usize]); 8] = [
            (&[2, 3, 4, 5], &[2, 3, 4, 5], &[2, 3, 4, 5]),
            (&[2, 3, 4, 5], &[3, 1, 1], &[2, 3, 4, 5]),
            (&[1], &[2, 7], &[2, 7]),
            (&[], &[3], &[3]),
            (&[4, 1, 3], &[5, 1], &[4, 5, 3]),
            (&[2, 1, 4], &[2, 3, 1], &[2, 3, 4]),
            (&[6, 10], &[10], &[6, 10]),
            (&[2, 3, 1, 1], &[2, 3, 4, 5], &[2, 3, 4, 5]),
        ];
        for (sa, sb, shape) in shapes {
            let bc = Broadcast::new(sa, sb).expect("broadcast");
            assert_eq!(bc.shape(), shape);
            let a = values(sa.iter().product(), 1);
            let b: Vec<f32> = values(sb.iter().product(), 2).iter().map(|v| v + v.signum() * 0.5).collect();
            let dy = values(bc.len(), 3);
            for op in [Binary::Add, Binary::Sub, Binary::Mul, Binary::Div] {
                let f = |a: &[f64], b: &[f64]| -> f64 {
                    reference(op, sa, sb, shape, a, b).iter().zip(&dy).map(|(y, &d)| y * d as f64).sum()
                };
                let (a64, b64) = (wide(&a), wide(&b));
                let want = [
                    reference(op, sa, sb, shape, &a64, &b64),
                    differences(&a, |a| f(a, &b64)),
                    differences(&b, |b| f(&a64, b)),
                ]
                .concat();
                for (isa, got) in on_all(|isa| {
                    let (mut y, mut da, mut db) =
                        (vec![0.0; bc.len()], vec![0.0; a.len()], vec![0.0; b.len()]);
                    binary_forward(isa, op, &bc, &a, &b, &mut y);
                    binary_backward(
                        isa,
                        op,
                        &bc,
                        &a,
                        &b,
                        &dy,
                        Some(&mut da),
                        Some(&mut db),
                        Store::Overwrite,
                    );
                    [y, da, db].concat()
                }) {
                    assert_close(&got, &want, 1e-6, &format!("{op:?} {sa:?} {sb:?} {isa}"));
                }
            }
        }
        assert!(Broadcast::new(&[2, 3], &[2]).is_err());
    }

    #[test]
    fn unary_and_gradients() {
        let x: Vec<f32> = values(1000, 1).iter().map(|v| v.abs() + 0.1).collect();
        let f = |op: Unary, x: f64| match op {
            Unary::Exp => x.exp(),
            Unary::Log => x.ln(),
            Unary::Sqrt => x.sqrt(),
            Unary::Reciprocal => 1.0 / x,
            Unary::Neg => -x,
            Unary::Abs => x.abs(),
            Unary::Pow(p) => x.powf(p as f64),
        };
        let all = [Unary::Exp, Unary::Log, Unary::Sqrt, Unary::Reciprocal, Unary::Neg, Unary::Abs];
        for op in all.into_iter().chain([Unary::Pow(2.0), Unary::Pow(-1.5)]) {
            let want: Vec<f64> = x.iter().map(|&x| f(op, x as f64)).collect();
            let slope: Vec<f64> =
                x.iter().map(|&x| (f(op, x as f64 + 1e-6) - f(op, x as f64 - 1e-6)) / 2e-6).collect();
            for isa in Isa::supported() {
                let (mut y, mut dx) = (vec![0.0; x.len()], vec![0.0; x.len()]);
                unary_forward(isa, op, &x, &mut y);
                unary_backward(isa, op, &x, &vec![1.0; x.len()], &mut dx, Store::Overwrite);
                assert_close(&y, &want, 1e-6, &format!("{op:?}"));
                assert_close(&dx, &slope, 1e-6, &format!("{op:?} slope"));
            }
        }
    }
}
