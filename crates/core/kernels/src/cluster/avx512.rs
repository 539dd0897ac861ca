//! Sixteen values at a time: cuts and tables of up to 32 entries live in registers.

use std::arch::x86_64::*;

use super::portable;

/// Two registers of floats, the entries of a table of up to 32; the rest is filled.
#[target_feature(enable = "avx512f")]
fn load_table(table: &[f32], fill: f32) -> [__m512; 2] {
    let mut padded = [fill; 32];
    padded[..table.len()].copy_from_slice(table);
    // SAFETY: both loads read 16 of the 32 floats of `padded`.
    unsafe { [_mm512_loadu_ps(padded.as_ptr()), _mm512_loadu_ps(padded.as_ptr().add(16))] }
}

#[target_feature(enable = "avx512f")]
pub(super) fn codes_of(values: &[f32], cuts: &[f32], codes: &[u16], out: &mut [u16]) {
    match cuts.len() {
        0..=15 => codes_of_few::<8>(values, cuts, codes, out),
        16..=31 => codes_of_few::<16>(values, cuts, codes, out),
        32..=255 => codes_of_many(values, cuts, codes, out),
        _ => portable::codes_of(values, cuts, codes, out),
    }
}

/// Binary search among up to `2 * HALF - 1` cuts by register permutes.
#[target_feature(enable = "avx512f")]
fn codes_of_few<const HALF: i32>(values: &[f32], cuts: &[f32], codes: &[u16], out: &mut [u16]) {
    let [low, high] = load_table(cuts, f32::INFINITY);
    let mut map = [0i32; 32];
    for (entry, &code) in map.iter_mut().zip(codes) {
        *entry = i32::from(code);
    }
    // SAFETY: both loads read 16 of the 32 integers of `map`.
    let [map_low, map_high] =
        unsafe { [_mm512_loadu_si512(map.as_ptr().cast()), _mm512_loadu_si512(map.as_ptr().add(16).cast())] };
    let (blocks, rest) = values.as_chunks::<16>();
    let (outs, out_rest) = out.as_chunks_mut::<16>();
    for (block, out) in blocks.iter().zip(outs) {
        // SAFETY: `block` holds 16 floats.
        let x = unsafe { _mm512_loadu_ps(block.as_ptr()) };
        let mut position = _mm512_setzero_si512();
        let mut step = HALF;
        while step > 0 {
            let probe = _mm512_add_epi32(position, _mm512_set1_epi32(step - 1));
            let cut = _mm512_permutex2var_ps(low, probe, high);
            let right = _mm512_cmp_ps_mask::<_CMP_GE_OQ>(x, cut);
            position = _mm512_mask_add_epi32(position, right, position, _mm512_set1_epi32(step));
            step /= 2;
        }
        let code = _mm512_cvtepi32_epi16(_mm512_permutex2var_epi32(map_low, position, map_high));
        // SAFETY: `out` has room for 16 codes of 16 bits, 32 bytes.
        unsafe { _mm256_storeu_si256(out.as_mut_ptr().cast(), code) };
    }
    portable::codes_of(rest, cuts, codes, out_rest);
}

/// Up to 255 cuts: every sixteenth in a register finds the group, gathers find the place in it.
#[target_feature(enable = "avx512f")]
fn codes_of_many(values: &[f32], cuts: &[f32], codes: &[u16], out: &mut [u16]) {
    let mut padded = [f32::INFINITY; 256];
    padded[..cuts.len()].copy_from_slice(cuts);
    let mut pivots = [f32::INFINITY; 16];
    for (pivot, group) in pivots.iter_mut().zip(padded.chunks(16)) {
        *pivot = group[15];
    }
    // SAFETY: `pivots` holds 16 floats.
    let pivots = unsafe { _mm512_loadu_ps(pivots.as_ptr()) };
    let (blocks, rest) = values.as_chunks::<16>();
    let (outs, _) = out.as_chunks_mut::<16>();
    for (block, out) in blocks.iter().zip(outs) {
        // SAFETY: `block` holds 16 floats.
        let x = unsafe { _mm512_loadu_ps(block.as_ptr()) };
        let mut position = _mm512_setzero_si512();
        for step in [8, 4, 2, 1] {
            let probe = _mm512_add_epi32(position, _mm512_set1_epi32(step - 1));
            let right = _mm512_cmp_ps_mask::<_CMP_GE_OQ>(x, _mm512_permutexvar_ps(probe, pivots));
            position = _mm512_mask_add_epi32(position, right, position, _mm512_set1_epi32(step));
        }
        position = _mm512_slli_epi32::<4>(position);
        for step in [8, 4, 2, 1] {
            let probe = _mm512_add_epi32(position, _mm512_set1_epi32(step - 1));
            // SAFETY: probes stay below 256: at most 15 groups of 16 lie before, and at most 14 cuts of the group.
            let cut = unsafe { _mm512_i32gather_ps::<4>(probe, padded.as_ptr()) };
            let right = _mm512_cmp_ps_mask::<_CMP_GE_OQ>(x, cut);
            position = _mm512_mask_add_epi32(position, right, position, _mm512_set1_epi32(step));
        }
        // SAFETY: `out` has room for 16 codes of 16 bits, 32 bytes.
        unsafe { _mm256_storeu_si256(out.as_mut_ptr().cast(), _mm512_cvtepi32_epi16(position)) };
    }
    if codes.iter().enumerate().any(|(i, &code)| usize::from(code) != i) {
        for position in out[..blocks.len() * 16].iter_mut() {
            *position = codes[usize::from(*position)];
        }
    }
    portable::codes_of(rest, cuts, codes, &mut out[blocks.len() * 16..]);
}

#[target_feature(enable = "avx512f")]
pub(super) fn look_up(codes: &[u16], table: &[f32], out: &mut [f32]) {
    if table.len() > 32 {
        return portable::look_up(codes, table, out);
    }
    let [low, high] = load_table(table, 0.0);
    let (blocks, rest) = codes.as_chunks::<16>();
    let (outs, out_rest) = out.as_chunks_mut::<16>();
    for (block, out) in blocks.iter().zip(outs) {
        // SAFETY: `block` holds 16 codes of 16 bits, 32 bytes, and `out` has room for 16 floats.
        unsafe {
            let index = _mm512_cvtepu16_epi32(_mm256_loadu_si256(block.as_ptr().cast()));
            _mm512_storeu_ps(out.as_mut_ptr(), _mm512_permutex2var_ps(low, index, high));
        }
    }
    portable::look_up(rest, table, out_rest);
}
