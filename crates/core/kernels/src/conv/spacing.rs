//! Vectors of neighbouring elements, and of every other one.

use crate::simd::{Masked, Simd};

/// How far apart a vector's elements lie, and masked loads of them.
pub(super) trait Spacing {
    type S: Masked;
    type Masks: Copy;
    /// # Safety
    /// The processor has the instruction set (so for all functions here).
    unsafe fn masks(bits: u16) -> Self::Masks;
    /// Lanes of the masks from memory, others those of `v`.
    /// # Safety
    /// Elements in the lanes of the masks are readable.
    unsafe fn load(v: V<Self>, p: *const f32, masks: Self::Masks) -> V<Self>;
}

pub(super) type V<L> = <<L as Spacing>::S as Simd>::V;

/// One after the other.
pub(super) struct Every<S>(S);
/// Every other one.
pub(super) struct Evens<S>(S);

impl<S: Masked> Spacing for Every<S> {
    type S = S;
    type Masks = S::M;
    #[inline(always)]
    unsafe fn masks(bits: u16) -> S::M {
        // SAFETY: passed on, here and below.
        unsafe { S::mask(bits) }
    }
    #[inline(always)]
    unsafe fn load(v: S::V, p: *const f32, mask: S::M) -> S::V {
        // SAFETY: see above.
        unsafe { S::load_onto(v, p, mask) }
    }
}

impl<S: Masked> Spacing for Evens<S> {
    type S = S;
    type Masks = S::E;
    #[inline(always)]
    unsafe fn masks(bits: u16) -> S::E {
        // SAFETY: see above.
        unsafe { S::evens(bits) }
    }
    #[inline(always)]
    unsafe fn load(v: S::V, p: *const f32, masks: S::E) -> S::V {
        // SAFETY: see above.
        unsafe { S::load_evens_onto(v, p, masks) }
    }
}
