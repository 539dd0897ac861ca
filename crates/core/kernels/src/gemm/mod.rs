//! General matrix product, packed and tiled (Goto and van de Geijn, "Anatomy of High-Performance Matrix
//! Multiplication", ACM TOMS 2008).
//!
//! A work item owns a block of the result and runs over the whole inner dimension in a fixed order, so the result does
//! not depend on the number of threads.

pub(crate) mod micro;
pub(crate) mod pack;
#[cfg(target_arch = "x86_64")]
mod transpose;

use crate::Isa;
use crate::isa::{madd, multiversion};
use crate::{par, scratch};
use micro::{Kernels, MAX_COLS, MAX_ROWS, cut};

/// Products of an item, about: a few microseconds.
const ITEM: usize = 1 << 17;
/// Depth of a block: a panel of B of this depth stays in the first-level cache.
const DEPTH: usize = 320;

/// A factor of a product: row-major and contiguous.
#[derive(Clone, Copy, Debug)]
pub struct Factor<'a> {
    /// The elements as they lie in memory.
    pub values: &'a [f32],
    /// Whether the product uses the transposed matrix.
    pub transposed: bool,
}

impl<'a> Factor<'a> {
    /// The matrix as it lies in memory.
    pub fn plain(values: &'a [f32]) -> Self {
        Factor { values, transposed: false }
    }

    /// The transpose of what lies in memory.
    pub fn transposed(values: &'a [f32]) -> Self {
        Factor { values, transposed: true }
    }

    /// As a matrix of `rows` x `cols` in the product.
    fn view(self, rows: usize, cols: usize) -> Matrix<'a> {
        let (rs, cs) = if self.transposed { (1, rows) } else { (cols, 1) };
        Matrix { data: self.values, rs, cs }
    }
}

/// A matrix in memory: element (i, j) is at `i * rs + j * cs`.
#[derive(Clone, Copy)]
struct Matrix<'a> {
    data: &'a [f32],
    rs: usize,
    cs: usize,
}

impl Matrix<'_> {
    fn transpose(self) -> Self {
        Matrix { rs: self.cs, cs: self.rs, ..self }
    }
}

/// `c = alpha a b + beta c`, where `a` is `m x k`, `b` is `k x n` and `c` is `m x n` (each after its transposition), for
/// `[m, n, k]`. With `beta` 0, `c` is not read.
///
/// # Panics
/// Where a slice has another length.
pub fn gemm(
    isa: Isa,
    [m, n, k]: [usize; 3],
    alpha: f32,
    a: Factor<'_>,
    b: Factor<'_>,
    beta: f32,
    c: &mut [f32],
) {
    assert!(a.values.len() == m * k && b.values.len() == k * n && c.len() == m * n, "matrix sizes");
    // Packing a transposed B is a transposition; computing the transposed product transposes the smaller A instead.
    let flip = b.transposed && (a.transposed || m <= n);
    let (a, b) = (a.view(m, k), b.view(k, n));
    if flip {
        product(isa, [n, m, k], alpha, b.transpose(), a.transpose(), beta, c, (1, n));
    } else {
        product(isa, [m, n, k], alpha, a, b, beta, c, (n, 1));
    }
}

/// `c = a b + beta c` for each of `count` products of matrices that lie in stacks: `starts` gives where A, B and C of a product begin in
/// `a.values`, `b.values` and `c`. Products whose results lie behind one another are computed in parallel; others, of which some
/// may be one and the same, in turn.
///
/// # Panics
/// Where a matrix does not lie within its slice.
pub fn stack(
    isa: Isa,
    sizes: [usize; 3],
    [a, b]: [Factor<'_>; 2],
    beta: f32,
    c: &mut [f32],
    count: usize,
    starts: impl Fn(usize) -> [usize; 3] + Sync + Send,
) {
    let [m, n, k] = sizes;
    let one = |starts: [usize; 3], c: &mut [f32]| {
        let a = Factor { values: &a.values[starts[0]..][..m * k], ..a };
        let b = Factor { values: &b.values[starts[1]..][..k * n], ..b };
        gemm(isa, sizes, 1.0, a, b, beta, c);
    };
    if (1..count).any(|i| starts(i)[2] < starts(i - 1)[2] + m * n) {
        return (0..count).for_each(|i| one(starts(i), &mut c[starts(i)[2]..][..m * n]));
    }
    let (out, each) = (par::Shared::new(c), (ITEM / (m * n * k).max(1)).max(1));
    par::each(count.div_ceil(each), |item| {
        for starts in (item * each..count.min((item + 1) * each)).map(&starts) {
            // SAFETY: the results do not overlap, as was checked above.
            one(starts, unsafe { out.slice(starts[2], m * n) });
        }
    });
}

/// Rows and columns of a block: enough items to share, each of them large enough to reuse what was packed and to be worth a task.
fn blocks(kernels: &Kernels, m: usize, n: usize, k: usize) -> (usize, usize) {
    let tiles = n.div_ceil(kernels.cols);
    let panels = kernels.panels(m);
    let wide = tiles.div_ceil((256 / kernels.cols).max(1));
    let high = m.div_ceil(240);
    // At least eight items where the matrix is large enough to have them.
    let least = 8.min(m * n * k / ITEM);
    let across = wide.max(least.div_ceil(high)).min(tiles.div_ceil(2)).max(1);
    let down = high.max(least.div_ceil(across)).min(panels.div_ceil(2)).max(1);
    (down, across)
}

#[allow(clippy::too_many_arguments)]
fn product(
    isa: Isa,
    [m, n, k]: [usize; 3],
    alpha: f32,
    a: Matrix<'_>,
    b: Matrix<'_>,
    beta: f32,
    c: &mut [f32],
    c_strides: (usize, usize),
) {
    if m == 0 || n == 0 {
        return;
    }
    let kernels = Kernels::of(isa);
    let cols = kernels.cols;
    let (down, across) = blocks(kernels, m, n, k);
    let tiles = n.div_ceil(cols);
    let out = par::Shared::new(c);
    let depth_blocks = k.div_ceil(DEPTH).max(1);
    par::each(down * across, |item| {
        let (i, j) = (item % down, item / down);
        let (m0, m1) = (cut(m, down, i), cut(m, down, i + 1));
        let (t0, t1) = (cut(tiles, across, j), cut(tiles, across, j + 1));
        let panels = kernels.panels(m1 - m0);
        let deepest = (0..depth_blocks).map(|d| cut(k, depth_blocks, d + 1) - cut(k, depth_blocks, d)).max();
        let depth = deepest.unwrap_or(0);
        // Few columns do not pay for packing A.
        let pack_a = t1 - t0 > 2;
        let a_len = if pack_a { depth * (m1 - m0) } else { 0 };
        let b_len = (t1 - t0) * depth * cols;
        let mut tile = [0.0f32; MAX_ROWS * MAX_COLS];
        scratch::with(b_len + a_len.next_multiple_of(16) + 16, |buffer| {
            let (packed_b, packed_a) = buffer.split_at_mut(b_len);
            for d in 0..depth_blocks {
                let (k0, k1) = (cut(k, depth_blocks, d), cut(k, depth_blocks, d + 1));
                let kd = k1 - k0;
                for t in t0..t1 {
                    let to = &mut packed_b[(t - t0) * kd * cols..][..kd * cols];
                    let width = n.min((t + 1) * cols) - t * cols;
                    pack::columns(
                        isa,
                        b.data,
                        k0 * b.rs + t * cols * b.cs,
                        (b.rs, b.cs),
                        kd,
                        width,
                        cols,
                        to,
                    );
                }
                for p in 0..panels {
                    let (r0, r1) = (m0 + cut(m1 - m0, panels, p), m0 + cut(m1 - m0, panels, p + 1));
                    let rows = r1 - r0;
                    let start = r0 * a.rs + k0 * a.cs;
                    let (from, rs, cs): (&[f32], _, _) = if pack_a {
                        let to = &mut packed_a[..kd * rows];
                        pack::rows(isa, a.data, start, (a.rs, a.cs), rows, kd, to);
                        (to, 1, rows)
                    } else {
                        (&a.data[start.min(a.data.len())..], a.rs, a.cs)
                    };
                    assert!(kd == 0 || (rows - 1) * rs + (kd - 1) * cs < from.len());
                    for t in t0..t1 {
                        let panel_b = &packed_b[(t - t0) * kd * cols..][..kd * cols];
                        // SAFETY: the assertion above bounds A, the slice B; the tile holds the largest kernel's.
                        unsafe {
                            kernels.tiles[rows - 1](
                                kd,
                                from.as_ptr(),
                                rs,
                                cs,
                                panel_b.as_ptr(),
                                tile.as_mut_ptr(),
                            );
                        }
                        let block =
                            Block { r0, c0: t * cols, rows, width: n.min((t + 1) * cols) - t * cols, cols };
                        let keep = if d == 0 { beta } else { 1.0 };
                        write_run(isa, &tile, block, alpha, keep, out, c_strides);
                    }
                }
            }
        });
    });
}

#[derive(Clone, Copy)]
struct Block {
    r0: usize,
    c0: usize,
    rows: usize,
    width: usize,
    cols: usize,
}

#[inline(always)]
fn write_body<const FMA: bool>(
    tile: &[f32],
    b: Block,
    alpha: f32,
    keep: f32,
    out: par::Shared,
    (rs, cs): (usize, usize),
) {
    if cs == 1 {
        for r in 0..b.rows {
            // SAFETY: blocks of different items do not overlap.
            let c = unsafe { out.slice((b.r0 + r) * rs + b.c0, b.width) };
            let t = &tile[r * b.cols..][..b.width];
            if keep == 0.0 {
                c.iter_mut().zip(t).for_each(|(c, &t)| *c = alpha * t);
            } else {
                c.iter_mut().zip(t).for_each(|(c, &t)| *c = madd::<FMA>(alpha, t, keep * *c));
            }
        }
    } else {
        for j in 0..b.width {
            // SAFETY: as above; here the rows of the tile lie together.
            let c = unsafe { out.slice((b.c0 + j) * cs + b.r0, b.rows) };
            for (r, c) in c.iter_mut().enumerate() {
                let t = tile[r * b.cols + j];
                *c = if keep == 0.0 { alpha * t } else { madd::<FMA>(alpha, t, keep * *c) };
            }
        }
    }
}

multiversion! {
    fn write_run(tile: &[f32], b: Block, alpha: f32, keep: f32, out: par::Shared, strides: (usize, usize)) = write_body;
}

#[cfg(test)]
mod tests {
    use super::super::testing::*;
    use super::*;
    use proptest::prelude::*;

    fn reference(ta: bool, tb: bool, m: usize, n: usize, k: usize, a: &[f32], b: &[f32]) -> Vec<f64> {
        let mut c = vec![0.0; m * n];
        for i in 0..m {
            for j in 0..n {
                for p in 0..k {
                    let x = if ta { a[p * m + i] } else { a[i * k + p] };
                    let y = if tb { b[j * k + p] } else { b[p * n + j] };
                    c[i * n + j] += x as f64 * y as f64;
                }
            }
        }
        c
    }

    fn check(ta: bool, tb: bool, m: usize, n: usize, k: usize, alpha: f32, beta: f32) {
        let (a, b, c0) = (values(m * k, 1), values(k * n, 2), values(m * n, 3));
        let want: Vec<f64> = reference(ta, tb, m, n, k, &a, &b)
            .iter()
            .zip(&c0)
            .map(|(v, &c)| alpha as f64 * v + if beta == 0.0 { 0.0 } else { beta as f64 * c as f64 })
            .collect();
        for (isa, got) in on_all(|isa| {
            let mut c = if beta == 0.0 { vec![f32::NAN; m * n] } else { c0.clone() };
            let [a, b] = [(&a, ta), (&b, tb)].map(|(values, transposed)| Factor { values, transposed });
            gemm(isa, [m, n, k], alpha, a, b, beta, &mut c);
            c
        }) {
            assert_close(&got, &want, 1e-5, &format!("{ta} {tb} {m}x{n}x{k} {isa}"));
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(40))]
        #[test]
        fn matches_the_definition(
            ta: bool, tb: bool, m in 1usize..40, n in 1usize..90, k in 0usize..40,
            scale in prop_oneof![Just((1.0f32, 0.0f32)), Just((0.5, 1.0)), Just((-2.0, 0.25))],
        ) {
            check(ta, tb, m, n, k, scale.0, scale.1);
        }
    }

    #[test]
    fn stacks_of_products() {
        let (m, n, k) = (7, 20, 5);
        let (a, b) = (values(6 * m * k, 1), values(6 * k * n, 2));
        // Each has matrices of its own; all share one B; pairs add up to one C.
        let layouts: [fn(usize) -> [usize; 3]; 3] = [|i| [i, i, i], |i| [i, 0, i], |i| [i, i, i / 2]];
        for at in layouts {
            let starts = |i: usize| {
                let [x, y, z] = at(i);
                [x * m * k, y * k * n, z * m * n]
            };
            let mut want = vec![1.0f64; 6 * m * n];
            for i in 0..6 {
                let [x, y, z] = starts(i);
                let found = reference(false, true, m, n, k, &a[x..][..m * k], &b[y..][..k * n]);
                want[z..].iter_mut().zip(found).for_each(|(w, f)| *w += f);
            }
            for (isa, got) in on_all(|isa| {
                let mut c = vec![1.0; 6 * m * n];
                stack(isa, [m, n, k], [Factor::plain(&a), Factor::transposed(&b)], 1.0, &mut c, 6, starts);
                c
            }) {
                assert_close(&got, &want, 1e-5, &format!("{isa}"));
            }
        }
    }

    #[test]
    fn deep_and_blocked() {
        for (ta, tb) in [(false, false), (true, false), (false, true), (true, true)] {
            check(ta, tb, 67, 130, 700, 1.0, 1.0);
            check(ta, tb, 300, 33, 321, 1.0, 0.0);
            check(ta, tb, 5, 600, 64, 1.0, 0.0);
        }
    }
}
