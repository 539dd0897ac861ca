//! Normal equations of a codebook: sum over rows of s_r P_r^T H P_r and s_r P_r^T H e_r, P_r the one-hot codes.

use std::ops::Range;

use super::chunk::Chunk;
use super::curvature::{Curvature, Parts};

/// Columns and rows that are handled together, so that sums stay in the caches.
const STRIP: usize = 128;
const ROWS: usize = 4;

/// The equations of one codebook of K values.
#[derive(Debug, Clone)]
pub(crate) struct Normal {
    pub size: usize,
    /// K x K, symmetric.
    pub matrix: Vec<f64>,
    /// By how much the objective falls as each value moves, halved.
    pub gradient: Vec<f64>,
    /// Weights that each value has.
    pub counts: Vec<u64>,
}

impl Normal {
    pub fn new(size: usize) -> Self {
        Self { size, matrix: vec![0.0; size * size], gradient: vec![0.0; size], counts: vec![0; size] }
    }

    pub fn add(&mut self, other: &Normal) {
        self.matrix.iter_mut().zip(&other.matrix).for_each(|(a, b)| *a += b);
        self.gradient.iter_mut().zip(&other.gradient).for_each(|(a, b)| *a += b);
        self.counts.iter_mut().zip(&other.counts).for_each(|(a, b)| *a += b);
    }
}

/// The equations of the codebooks over columns `range` of a chunk, row r of the chunk belonging to codebook `books[r]`.
/// `products` holds H E over the range, range x width.
pub(crate) fn normal_equations(
    curvature: &Curvature,
    chunk: &Chunk,
    range: Range<usize>,
    products: &[f32],
    (books, size): (&[usize], usize),
) -> Vec<Normal> {
    let width = chunk.width();
    let count = books.iter().max().map_or(0, |b| b + 1);
    let mut found = vec![Normal::new(size); count];
    for (codes, products) in chunk.codes[range.start * width..range.end * width]
        .chunks_exact(width)
        .zip(products.chunks_exact(width))
    {
        for (r, (&code, &product)) in codes.iter().zip(products).enumerate() {
            let normal = &mut found[books[r]];
            normal.counts[usize::from(code)] += 1;
            normal.gradient[usize::from(code)] += f64::from(chunk.weights[r]) * f64::from(product);
        }
    }
    match curvature.parts() {
        Parts::Dense(h) => dense(h, curvature.columns(), chunk, range, books, &mut found),
        Parts::Span { x, samples } => {
            span((x, samples, curvature.damping()), chunk, range, books, &mut found)
        }
    }
    found
}

/// For each row: the rows of H summed by code, then the columns of those sums. H is symmetric, so what lies left of a
/// strip counts twice.
fn dense(h: &[f32], n: usize, chunk: &Chunk, range: Range<usize>, books: &[usize], found: &mut [Normal]) {
    let (width, size) = (chunk.width(), found[0].size);
    let code = |j: usize, r: usize| usize::from(chunk.codes[j * width + r]);
    let mut sums = vec![0.0f32; ROWS * size * STRIP];
    for start in range.clone().step_by(STRIP) {
        let strip = start..range.end.min(start + STRIP);
        let wide = strip.len();
        for first in (0..width).step_by(ROWS) {
            let rows = first..width.min(first + ROWS);
            for (part, twice) in [(range.start..start, true), (strip.clone(), false)] {
                if part.is_empty() {
                    continue;
                }
                let sums = &mut sums[..rows.len() * size * wide];
                sums.fill(0.0);
                for j in part {
                    let line = &h[j * n + strip.start..j * n + strip.end];
                    for (r, sums) in rows.clone().zip(sums.chunks_exact_mut(size * wide)) {
                        let sum = &mut sums[code(j, r) * wide..][..wide];
                        sum.iter_mut().zip(line).for_each(|(s, h)| *s += h);
                    }
                }
                for (r, sums) in rows.clone().zip(sums.chunks_exact(size * wide)) {
                    let weight = f64::from(chunk.weights[r]);
                    scatter(&mut found[books[r]], sums, |i| code(strip.start + i, r), weight, twice);
                }
            }
        }
    }
}

fn scatter(normal: &mut Normal, sums: &[f32], code: impl Fn(usize) -> usize, weight: f64, twice: bool) {
    let size = normal.size;
    let wide = sums.len() / size;
    for (k, line) in sums.chunks_exact(wide).enumerate() {
        for (i, &sum) in line.iter().enumerate() {
            let (l, value) = (code(i), weight * f64::from(sum));
            normal.matrix[k * size + l] += value;
            if twice {
                normal.matrix[l * size + k] += value;
            }
        }
    }
}

/// With Z the samples summed by code: Z Z^T, and the damping summed by code on the diagonal.
fn span(
    (x, samples, damping): (&[f32], usize, &[f32]),
    chunk: &Chunk,
    range: Range<usize>,
    books: &[usize],
    found: &mut [Normal],
) {
    let (width, size) = (chunk.width(), found[0].size);
    let mut z = vec![0.0f32; size * samples];
    for (r, &book) in books.iter().enumerate() {
        let (normal, weight) = (&mut found[book], f64::from(chunk.weights[r]));
        z.fill(0.0);
        for j in range.clone() {
            let code = usize::from(chunk.codes[j * width + r]);
            normal.matrix[code * size + code] += weight * f64::from(damping[j]);
            let sum = &mut z[code * samples..][..samples];
            sum.iter_mut().zip(&x[j * samples..][..samples]).for_each(|(s, x)| *s += x);
        }
        for k in 0..size {
            for l in 0..=k {
                let rows = z[k * samples..][..samples].iter().zip(&z[l * samples..][..samples]);
                let dot = weight * rows.map(|(&a, &b)| f64::from(a) * f64::from(b)).sum::<f64>();
                normal.matrix[k * size + l] += dot;
                if l < k {
                    normal.matrix[l * size + k] += dot;
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::chunk::chunks;
    use super::super::layout::{Books, Layout};
    use super::super::testing::{both, noise};
    use super::*;
    use slq_engine::Isa;

    #[test]
    fn equations_are_those_of_the_definition_in_both_forms() {
        let isa = Isa::detect();
        let (rows, n, size) = (7, 150, 5);
        let layout = Layout::new(rows, n, Books::Rows(7)).unwrap();
        let weights = [0.5f32, 1.0, 2.0, 0.1, 1.5, 3.0, 1.0];
        let mut chunk = chunks(&layout, rows, &noise(rows * n, 1), &weights, None).remove(0);
        let codes: Vec<u8> = (0..rows * n).map(|i| ((i * 7919) % 31 % size) as u8).collect();
        let values = noise(size, 2);
        chunk.assign(&layout, &values, size, &codes);
        let (dense, span) = both(n, 40, 0.1, 3);
        for range in [0..n, 20..149] {
            for curvature in [&dense, &span] {
                let mut products = vec![0.0; range.len() * rows];
                let carry = curvature.carry(isa, &chunk.errors, rows);
                curvature.products(isa, range.clone(), (&chunk.errors, &carry), rows, &mut products);
                let found = normal_equations(curvature, &chunk, range.clone(), &products, (&[0; 7], size));
                let h = dense.block(isa, range.clone());
                let mut want = Normal::new(size);
                for r in 0..rows {
                    let code = |j: usize| usize::from(codes[r * n + range.start + j]);
                    for i in 0..range.len() {
                        want.counts[code(i)] += 1;
                        want.gradient[code(i)] += f64::from(weights[r] * products[i * rows + r]);
                        for j in 0..range.len() {
                            want.matrix[code(i) * size + code(j)] +=
                                f64::from(weights[r]) * f64::from(h[i * range.len() + j]);
                        }
                    }
                }
                assert_eq!(found[0].counts, want.counts);
                let pairs = found[0].matrix.iter().zip(&want.matrix);
                for (got, want) in pairs.chain(found[0].gradient.iter().zip(&want.gradient)) {
                    assert!((got - want).abs() < 1e-3 * want.abs().max(1.0), "{got} {want}");
                }
            }
        }
    }
}
