//! Copying blocks of matrices into the order in which the micro-kernels read them.

#[cfg(target_arch = "x86_64")]
use super::transpose;
use crate::Isa;
use crate::isa::multiversion;

#[inline(always)]
fn columns_body<const FMA: bool>(
    from: &[f32],
    start: usize,
    (rs, cs): (usize, usize),
    depth: usize,
    width: usize,
    cols: usize,
    to: &mut [f32],
) {
    if cs == 1 {
        for (p, to) in to.chunks_exact_mut(cols).enumerate().take(depth) {
            let row = &from[start + p * rs..][..width];
            if width == 32 && cols == 32 {
                to[..32].copy_from_slice(&row[..32]);
            } else {
                to[..width].copy_from_slice(row);
                to[width..].fill(0.0);
            }
        }
    } else {
        turn(from, start, cs, rs, width, depth, cols, to);
        if width < cols {
            to.chunks_exact_mut(cols).for_each(|to| to[width..].fill(0.0));
        }
    }
}

/// `to[p * ld + j] = from[start + j * row + p * step]` for `j < width`, `p < depth`.
#[inline(always)]
#[allow(clippy::too_many_arguments)]
fn turn(
    from: &[f32],
    start: usize,
    row: usize,
    step: usize,
    width: usize,
    depth: usize,
    ld: usize,
    to: &mut [f32],
) {
    const SIDE: usize = 8;
    if step != 1 {
        for p in 0..depth {
            for j in 0..width {
                to[p * ld + j] = from[start + j * row + p * step];
            }
        }
        return;
    }
    let mut p = 0;
    while p + SIDE <= depth {
        let mut j = 0;
        while j + SIDE <= width {
            let mut square = [[0.0f32; SIDE]; SIDE];
            for (i, s) in square.iter_mut().enumerate() {
                s.copy_from_slice(&from[start + (j + i) * row + p..][..SIDE]);
            }
            for q in 0..SIDE {
                let to = &mut to[(p + q) * ld + j..][..SIDE];
                for i in 0..SIDE {
                    to[i] = square[i][q];
                }
            }
            j += SIDE;
        }
        for j in j..width {
            let row = &from[start + j * row + p..][..SIDE];
            for (q, &v) in row.iter().enumerate() {
                to[(p + q) * ld + j] = v;
            }
        }
        p += SIDE;
    }
    for p in p..depth {
        for j in 0..width {
            to[p * ld + j] = from[start + j * row + p];
        }
    }
}

#[inline(always)]
fn rows_body<const FMA: bool>(
    from: &[f32],
    start: usize,
    (rs, cs): (usize, usize),
    rows: usize,
    depth: usize,
    to: &mut [f32],
) {
    if rs == 1 {
        for (p, to) in to.chunks_exact_mut(rows).enumerate().take(depth) {
            to.copy_from_slice(&from[start + p * cs..][..rows]);
        }
    } else {
        turn(from, start, rs, cs, rows, depth, rows, to);
    }
}

multiversion! {
    fn columns_run(from: &[f32], start: usize, strides: (usize, usize), depth: usize, width: usize, cols: usize, to: &mut [f32]) = columns_body;
    fn rows_run(from: &[f32], start: usize, strides: (usize, usize), rows: usize, depth: usize, to: &mut [f32]) = rows_body;
}

/// Packs a block of B: `to[p][j] = b(p, j)`, `cols` apart, columns from `width` on zero.
#[allow(clippy::too_many_arguments)]
pub(crate) fn columns(
    isa: Isa,
    from: &[f32],
    start: usize,
    (rs, cs): (usize, usize),
    depth: usize,
    width: usize,
    cols: usize,
    to: &mut [f32],
) {
    #[cfg(target_arch = "x86_64")]
    if rs == 1 && cs > 1 {
        match isa.effective() {
            Isa::Avx512 if cols.is_multiple_of(16) => {
                // SAFETY: the processor has the instruction set.
                return unsafe { transpose::by_sixteen(&from[start..], cs, depth, width, cols, to) };
            }
            Isa::Avx512 | Isa::Avx2 if cols.is_multiple_of(8) => {
                // SAFETY: as above.
                return unsafe { transpose::by_eight(&from[start..], cs, depth, width, cols, to) };
            }
            _ => {}
        }
    }
    columns_run(isa, from, start, (rs, cs), depth, width, cols, to);
}

/// Packs a panel of A: `to[p][r] = a(r, p)`.
pub(crate) fn rows(
    isa: Isa,
    from: &[f32],
    start: usize,
    strides: (usize, usize),
    rows: usize,
    depth: usize,
    to: &mut [f32],
) {
    rows_run(isa, from, start, strides, rows, depth, to);
}
