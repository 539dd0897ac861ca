//! The operations on vectors.

/// A vector of `f32` of one instruction set. Everything is inlined into functions that enable it.
pub(crate) trait Simd {
    type V: Copy;
    const LANES: usize;
    /// # Safety
    /// The processor must have the instruction set (so for all functions here).
    unsafe fn zero() -> Self::V;
    /// # Safety
    /// `p` points to one readable element.
    unsafe fn splat(p: *const f32) -> Self::V;
    /// # Safety
    /// `p` points to `LANES` readable elements; no alignment is needed.
    unsafe fn load(p: *const f32) -> Self::V;
    /// # Safety
    /// `p` points to `LANES` writable elements; no alignment is needed.
    unsafe fn store(p: *mut f32, v: Self::V);
    /// `a * b + c`.
    /// # Safety
    /// As [`Simd::zero`].
    unsafe fn fma(a: Self::V, b: Self::V, c: Self::V) -> Self::V;
    /// # Safety
    /// As [`Simd::zero`].
    unsafe fn add(a: Self::V, b: Self::V) -> Self::V;
    /// # Safety
    /// As [`Simd::zero`].
    unsafe fn sub(a: Self::V, b: Self::V) -> Self::V;
    /// # Safety
    /// As [`Simd::zero`].
    unsafe fn mul(a: Self::V, b: Self::V) -> Self::V;
}

/// Vectors with masked loads and stores.
pub(crate) trait Masked: Simd {
    type M: Copy;
    /// Masks of [`Masked::load_evens_onto`].
    type E: Copy;
    /// The mask that contains lane `i` where bit `i` is set.
    /// # Safety
    /// As [`Simd::zero`].
    unsafe fn mask(bits: u16) -> Self::M;
    /// Lanes outside the mask are zero; their memory is not read.
    /// # Safety
    /// `p` points to readable elements in the lanes of the mask.
    unsafe fn load_masked(p: *const f32, mask: Self::M) -> Self::V;
    /// Lanes outside the mask are those of `v`; their memory is not read.
    /// # Safety
    /// As [`Masked::load_masked`].
    unsafe fn load_onto(v: Self::V, p: *const f32, mask: Self::M) -> Self::V;
    /// The masks for the lanes `i` where bit `i` is set.
    /// # Safety
    /// As [`Simd::zero`].
    unsafe fn evens(bits: u16) -> Self::E;
    /// Lane `i` of the masks is element `2 i`, other lanes are those of `v`; nothing else is read.
    /// # Safety
    /// `p` points to readable elements at twice the lanes of the masks.
    unsafe fn load_evens_onto(v: Self::V, p: *const f32, masks: Self::E) -> Self::V;
    /// Lanes outside the mask are not written.
    /// # Safety
    /// `p` points to writable elements in the lanes of the mask.
    unsafe fn store_masked(p: *mut f32, mask: Self::M, v: Self::V);
    /// Transposes 4 x 4 values in each quarter (AVX-512) or half (AVX2): element `i` of what lies at that place in vector `j` goes
    /// to element `j` in vector `i`.
    /// # Safety
    /// As [`Simd::zero`].
    unsafe fn transpose4(v: [Self::V; 4]) -> [Self::V; 4];
    /// Only the first vector of [`Masked::transpose4`].
    /// # Safety
    /// As [`Simd::zero`].
    unsafe fn first4(v: [Self::V; 4]) -> Self::V;
    /// `min(max(v, lo), hi)`; NaN stays NaN.
    /// # Safety
    /// As [`Simd::zero`].
    unsafe fn clamp(v: Self::V, lo: Self::V, hi: Self::V) -> Self::V;
    /// Prefetches the cache line of `p`, which may be any address.
    /// # Safety
    /// As [`Simd::zero`].
    unsafe fn prefetch(p: *const f32);
}
