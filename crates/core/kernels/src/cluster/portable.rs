//! Plain loops, written so that the compiler can turn them into vector code. They never fuse a multiply-add (`FMA`
//! is there for `multiversion!`), so that every instruction set gives the same bits.

use super::types::{Extent, LANES, SIDE, Spread};

/// Cuts up to which comparing with every one of them beats a search.
const FEW: usize = 32;

#[inline(always)]
pub(super) fn codes_of(values: &[f32], cuts: &[f32], codes: &[u16], out: &mut [u16]) {
    if cuts.len() <= FEW {
        count_few(values, cuts, out);
    } else {
        search_many(values, cuts, out);
    }
    if codes.iter().enumerate().any(|(i, &code)| usize::from(code) != i) {
        for position in out {
            *position = codes[usize::from(*position)];
        }
    }
}

#[inline(always)]
fn count_few(values: &[f32], cuts: &[f32], out: &mut [u16]) {
    const WIDTH: usize = 32;
    let (blocks, rest) = values.as_chunks::<WIDTH>();
    let (outs, out_rest) = out.as_chunks_mut::<WIDTH>();
    for (block, out) in blocks.iter().zip(outs) {
        let mut counts = [0u32; WIDTH];
        for &cut in cuts {
            for (count, &x) in counts.iter_mut().zip(block) {
                *count += u32::from(x >= cut);
            }
        }
        for (out, count) in out.iter_mut().zip(counts) {
            *out = count as u16;
        }
    }
    for (out, &x) in out_rest.iter_mut().zip(rest) {
        *out = cuts.iter().filter(|&&cut| x >= cut).count() as u16;
    }
}

#[inline(always)]
fn search_many(values: &[f32], cuts: &[f32], out: &mut [u16]) {
    for (out, &x) in out.iter_mut().zip(values) {
        *out = cuts.partition_point(|&cut| cut <= x) as u16;
    }
}

#[inline(always)]
pub(super) fn extent_of<const FMA: bool>(values: &[f32]) -> Extent {
    let mut extent = Extent {
        sums: [0.0; LANES],
        squares: [0.0; LANES],
        lows: [f32::MAX; LANES],
        highs: [f32::MIN; LANES],
    };
    let mut add = |i: usize, x: f32| {
        let wide = f64::from(x);
        extent.sums[i] += wide;
        extent.squares[i] += wide * wide;
        extent.lows[i] = if x < extent.lows[i] { x } else { extent.lows[i] };
        extent.highs[i] = if x > extent.highs[i] { x } else { extent.highs[i] };
    };
    let (blocks, rest) = values.as_chunks::<LANES>();
    for block in blocks {
        for (i, &x) in block.iter().enumerate() {
            add(i, x);
        }
    }
    for (i, &x) in rest.iter().enumerate() {
        add(i, x);
    }
    extent
}

#[inline(always)]
pub(super) fn bins_of<const FMA: bool>(values: &[f32], spread: Spread, out: &mut [u16]) {
    let Spread { pivot, s } = spread;
    for (out, &x) in out.iter_mut().zip(values) {
        let offset = x - pivot;
        let from_end = ((s / (offset.abs() + s) * SIDE as f32) as i32).min(SIDE - 1);
        *out = if offset < 0.0 { from_end } else { 2 * SIDE - 1 - from_end } as u16;
    }
}

#[inline(always)]
pub(super) fn look_up(codes: &[u16], table: &[f32], out: &mut [f32]) {
    for (out, &code) in out.iter_mut().zip(codes) {
        *out = table.get(usize::from(code)).copied().unwrap_or(0.0);
    }
}

#[inline(always)]
pub(super) fn add_errors<const FMA: bool>(
    values: &[f32],
    centroids: &[f32],
    weights: Option<&[f32]>,
    sums: &mut [f64; LANES],
) {
    let square = |x: f32, c: f32| {
        let d = f64::from(x) - f64::from(c);
        d * d
    };
    let (xs, x_rest) = values.as_chunks::<LANES>();
    let (cs, c_rest) = centroids.as_chunks::<LANES>();
    let rest = x_rest.iter().zip(c_rest);
    match weights {
        None => {
            for (x, c) in xs.iter().zip(cs) {
                for ((sum, &x), &c) in sums.iter_mut().zip(x).zip(c) {
                    *sum += square(x, c);
                }
            }
            for (sum, (&x, &c)) in sums.iter_mut().zip(rest) {
                *sum += square(x, c);
            }
        }
        Some(weights) => {
            let (ws, w_rest) = weights.as_chunks::<LANES>();
            for ((x, c), w) in xs.iter().zip(cs).zip(ws) {
                for (((sum, &x), &c), &w) in sums.iter_mut().zip(x).zip(c).zip(w) {
                    *sum += f64::from(w) * square(x, c);
                }
            }
            for ((sum, (&x, &c)), &w) in sums.iter_mut().zip(rest).zip(w_rest) {
                *sum += f64::from(w) * square(x, c);
            }
        }
    }
}
