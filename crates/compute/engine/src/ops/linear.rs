//! Gemm and MatMul.

use slq_kernels::Store;
use slq_kernels::conv::Post;
use slq_kernels::gemm::{Factor, gemm as multiply, stack};
use slq_kernels::reduce::{self, Kind, Reduction};

use super::layer::Layer;
use super::pass::{Backward, Forward, Gradient};
use super::post;
use super::site::Site;
use crate::error::EngineError;

/// beta C of a Gemm.
#[derive(Default)]
pub(super) struct Addend {
    beta: f32,
    /// Steps of C from row to row and from column to column; 0 where it repeats.
    steps: Option<[usize; 2]>,
}

/// The addend of a Gemm: its third input, if it has one.
pub(super) fn addend(site: Site<'_>, beta: f32) -> Addend {
    let steps = site.step.operand(2).map(|c| {
        let [rows, columns] = addend_shape(&c.shape);
        [if rows == 1 { 0 } else { columns }, usize::from(columns != 1)]
    });
    Addend { beta, steps }
}

fn addend_shape(shape: &[usize]) -> [usize; 2] {
    [shape.iter().rev().nth(1).copied().unwrap_or(1), shape.last().copied().unwrap_or(1)]
}

impl Addend {
    /// Writes beta C into an output of rows of `n`, and says which factor keeps it; 0 where there is none.
    pub(super) fn fill(&self, c: Option<&[f32]>, n: usize, y: &mut [f32]) -> f32 {
        let (Some([row, column]), Some(c)) = (self.steps, c) else { return 0.0 };
        if self.beta == 0.0 {
            return 0.0;
        }
        for (i, y) in y.chunks_exact_mut(n.max(1)).enumerate() {
            match c.get(i * row..i * row + n) {
                Some(c) if column == 1 && self.beta == 1.0 => y.copy_from_slice(c),
                _ => y.iter_mut().enumerate().for_each(|(j, y)| *y = self.beta * c[i * row + j * column]),
            }
        }
        1.0
    }
}

/// alpha A' B' + beta C, with an activation.
struct GemmLayer {
    m: usize,
    n: usize,
    k: usize,
    alpha: f32,
    beta: f32,
    trans_a: bool,
    trans_b: bool,
    addend: Addend,
    /// Sums the output's gradient to the shape of C.
    addend_sum: Reduction,
    post: Post,
}

pub(super) fn gemm(
    site: Site<'_>,
    alpha: f32,
    beta: f32,
    trans_a: bool,
    trans_b: bool,
) -> Result<Box<dyn Layer>, EngineError> {
    let (&[m, n], &[a0, a1]) = (site.step.shape.as_slice(), site.shape(0)?) else {
        return Err(site.unsupported("its operands are not matrices".into()));
    };
    let k = if trans_a { a0 } else { a1 };
    let shape = site.step.operand(2).map(|c| addend_shape(&c.shape));
    let axes: Vec<usize> = (0..2).filter(|&axis| shape.is_some_and(|shape| shape[axis] == 1)).collect();
    let addend_sum = Reduction::new(&[m, n], &axes);
    Ok(Box::new(GemmLayer {
        m,
        n,
        k,
        alpha,
        beta,
        trans_a,
        trans_b,
        addend: addend(site, beta),
        addend_sum,
        post: site.step.post,
    }))
}

impl Layer for GemmLayer {
    fn reads_input(&self, i: usize) -> bool {
        i < 2
    }

    fn reads_output(&self) -> bool {
        post::is_some(self.post)
    }

    fn accumulates(&self, i: usize) -> bool {
        i < 2
    }

    fn forward(&mut self, pass: &mut Forward<'_>, y: &mut [f32]) {
        let keep = self.addend.fill(pass.optional(2), self.n, y);
        let (a, b) = (pass.input(0), pass.input(1));
        let a = Factor { values: a, transposed: self.trans_a };
        let b = Factor { values: b, transposed: self.trans_b };
        multiply(pass.isa, [self.m, self.n, self.k], self.alpha, a, b, keep, y);
        post::forward(pass.isa, self.post, y);
    }

    fn backward(&mut self, pass: &mut Backward<'_>) {
        let isa = pass.isa;
        let mut dy = pass.take_output_gradient();
        if post::is_some(self.post) {
            post::backward(isa, self.post, pass.output(), &mut dy);
        }
        let (m, n, k, alpha) = (self.m, self.n, self.k, self.alpha);
        let (ta, tb) = (self.trans_a, self.trans_b);
        let keep = |g: &Gradient| if g.store.accumulates() { 1.0 } else { 0.0 };
        if let Some(mut dc) = pass.take_gradient(2) {
            reduce::forward(isa, &self.addend_sum, Kind::Sum, &dy, &mut dc);
            if self.beta != 1.0 {
                reduce::scale(isa, self.beta, &mut dc);
            }
            pass.put_gradient(2, dc);
        }
        if let Some(mut db) = pass.take_gradient(1) {
            let (a, keep) = (pass.input(0), keep(&db));
            if tb {
                let a = Factor { values: a, transposed: ta };
                multiply(isa, [n, k, m], alpha, Factor::transposed(&dy), a, keep, &mut db);
            } else {
                let a = Factor { values: a, transposed: !ta };
                multiply(isa, [k, n, m], alpha, a, Factor::plain(&dy), keep, &mut db);
            }
            pass.put_gradient(1, db);
        }
        if let Some(mut da) = pass.take_gradient(0) {
            let (b, keep) = (pass.input(1), keep(&da));
            if ta {
                let b = Factor { values: b, transposed: tb };
                multiply(isa, [k, m, n], alpha, b, Factor::transposed(&dy), keep, &mut da);
            } else {
                let b = Factor { values: b, transposed: !tb };
                multiply(isa, [m, k, n], alpha, Factor::plain(&dy), b, keep, &mut da);
            }
            pass.put_gradient(0, da);
        }
        pass.put_output_gradient(dy);
    }
}

/// Products of stacks of matrices, leading dimensions broadcast.
struct MatMulLayer {
    m: usize,
    n: usize,
    k: usize,
    /// Where the operands of each product start: A, B, output.
    products: Vec<[usize; 3]>,
}

pub(super) fn matmul(site: Site<'_>) -> Result<Box<dyn Layer>, EngineError> {
    // A vector stands for a row on the left and for a column on the right.
    let mut a = site.shape(0)?.to_vec();
    let mut b = site.shape(1)?.to_vec();
    if a.len() == 1 {
        a.insert(0, 1);
    }
    if b.len() == 1 {
        b.push(1);
    }
    let (ra, rb) = (a.len(), b.len());
    if ra < 2 || rb < 2 {
        return Err(site.unsupported("its operands are not matrices".into()));
    }
    let (mut m, k, n) = (a[ra - 2], a[ra - 1], b[rb - 1]);
    let rank = ra.max(rb) - 2;
    if rb == 2 {
        // One matrix on the right: the stack on the left is one tall matrix.
        m = a[..ra - 1].iter().product();
        return Ok(Box::new(MatMulLayer { m, n, k, products: vec![[0; 3]] }));
    }
    let dim =
        |shape: &[usize], axis: usize| (axis + shape.len() - 2).checked_sub(rank).map_or(1, |i| shape[i]);
    let mut products = vec![[0; 3]];
    for axis in 0..rank {
        let (da, db) = (dim(&a, axis), dim(&b, axis));
        let each = |p: &[usize; 3]| {
            let p = *p;
            let step = move |i: usize| {
                let index = |p: usize, d: usize| p * d + if d == 1 { 0 } else { i };
                [index(p[0], da), index(p[1], db), p[2] * da.max(db) + i]
            };
            (0..da.max(db)).map(step).collect::<Vec<_>>()
        };
        products = products.iter().flat_map(each).collect();
    }
    let products = products.into_iter().map(|[x, y, z]| [x * m * k, y * k * n, z * m * n]).collect();
    Ok(Box::new(MatMulLayer { m, n, k, products }))
}

impl MatMulLayer {
    /// Which part of a gradient of matrices of `len` the products keep; where several add to one matrix and nothing is there yet,
    /// zeros are.
    fn keep(&self, gradient: &mut Gradient, len: usize) -> f32 {
        let once = gradient.len() == self.products.len() * len;
        match gradient.store {
            Store::Overwrite if once => 0.0,
            Store::Overwrite => {
                gradient.fill(0.0);
                1.0
            }
            Store::Accumulate => 1.0,
        }
    }
}

impl Layer for MatMulLayer {
    fn reads_input(&self, _i: usize) -> bool {
        true
    }

    fn accumulates(&self, _i: usize) -> bool {
        true
    }

    fn forward(&mut self, pass: &mut Forward<'_>, y: &mut [f32]) {
        let factors = [Factor::plain(pass.input(0)), Factor::plain(pass.input(1))];
        stack(pass.isa, [self.m, self.n, self.k], factors, 0.0, y, self.products.len(), |i| self.products[i]);
    }

    fn backward(&mut self, pass: &mut Backward<'_>) {
        let (m, n, k, isa) = (self.m, self.n, self.k, pass.isa);
        let dy = pass.take_output_gradient();
        if let Some(mut da) = pass.take_gradient(0) {
            let (beta, factors) =
                (self.keep(&mut da, m * k), [Factor::plain(&dy), Factor::transposed(pass.input(1))]);
            let starts = |i: usize| {
                let [a, b, y] = self.products[i];
                [y, b, a]
            };
            stack(isa, [m, k, n], factors, beta, &mut da, self.products.len(), starts);
            pass.put_gradient(0, da);
        }
        if let Some(mut db) = pass.take_gradient(1) {
            let (beta, factors) =
                (self.keep(&mut db, k * n), [Factor::transposed(pass.input(0)), Factor::plain(&dy)]);
            let starts = |i: usize| {
                let [a, b, y] = self.products[i];
                [a, y, b]
            };
            stack(isa, [k, n, m], factors, beta, &mut db, self.products.len(), starts);
            pass.put_gradient(1, db);
        }
        pass.put_output_gradient(dy);
    }
}
