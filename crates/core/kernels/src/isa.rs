//! Instruction sets, chosen at run time.

use std::fmt;
use std::str::FromStr;

/// The instruction set a kernel runs on.
///
/// Results are bit-identical on any number of threads for one `Isa`; between two of them they may differ in rounding
/// (fused multiply-add, vector width). Asking for a set that the processor lacks falls back to the best one it has
/// below it, so no choice is unsafe.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum Isa {
    /// Portable code without explicit vector instructions or fused multiply-add.
    Scalar,
    /// Four lanes: NEON with fused multiply-add, simd128 of WebAssembly without. Only where the program is compiled for it.
    #[cfg(any(target_arch = "aarch64", all(target_arch = "wasm32", target_feature = "simd128")))]
    Simd128,
    /// AVX2 with FMA: eight lanes.
    Avx2,
    /// AVX-512 (F, BW, DQ, VL) with FMA: sixteen lanes.
    Avx512,
}

impl Isa {
    /// All instruction sets, from the plainest to the widest.
    #[cfg(not(any(target_arch = "aarch64", all(target_arch = "wasm32", target_feature = "simd128"))))]
    pub const ALL: [Isa; 3] = [Isa::Scalar, Isa::Avx2, Isa::Avx512];
    /// All instruction sets, from the plainest to the widest.
    #[cfg(any(target_arch = "aarch64", all(target_arch = "wasm32", target_feature = "simd128")))]
    pub const ALL: [Isa; 4] = [Isa::Scalar, Isa::Simd128, Isa::Avx2, Isa::Avx512];

    /// The widest instruction set that this processor has.
    pub fn detect() -> Isa {
        #[cfg(target_arch = "x86_64")]
        {
            let avx2 = is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma");
            if avx2
                && is_x86_feature_detected!("avx512f")
                && is_x86_feature_detected!("avx512bw")
                && is_x86_feature_detected!("avx512dq")
                && is_x86_feature_detected!("avx512vl")
            {
                return Isa::Avx512;
            }
            if avx2 {
                return Isa::Avx2;
            }
        }
        #[cfg(any(target_arch = "aarch64", all(target_arch = "wasm32", target_feature = "simd128")))]
        return Isa::Simd128;
        #[cfg(not(any(target_arch = "aarch64", all(target_arch = "wasm32", target_feature = "simd128"))))]
        Isa::Scalar
    }

    /// Whether this processor can run it.
    pub fn is_supported(self) -> bool {
        self <= Isa::detect()
    }

    /// This set, or the best one below it that the processor has.
    pub fn effective(self) -> Isa {
        self.min(Isa::detect())
    }

    /// Those of [`Isa::ALL`] that this processor can run.
    pub fn supported() -> impl Iterator<Item = Isa> {
        Isa::ALL.into_iter().filter(|isa| isa.is_supported())
    }

    /// The name used on the command line: `scalar`, `avx2` or `avx512`; elsewhere `neon` and `simd128`.
    pub fn name(self) -> &'static str {
        match self {
            Isa::Scalar => "scalar",
            #[cfg(target_arch = "aarch64")]
            Isa::Simd128 => "neon",
            #[cfg(all(target_arch = "wasm32", target_feature = "simd128"))]
            Isa::Simd128 => "simd128",
            Isa::Avx2 => "avx2",
            Isa::Avx512 => "avx512",
        }
    }
}

impl Default for Isa {
    fn default() -> Self {
        Isa::detect()
    }
}

impl fmt::Display for Isa {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// The text is not the name of an instruction set.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("unknown instruction set `{0}` (known: scalar, avx2, avx512)")]
pub struct UnknownIsa(pub String);

impl FromStr for Isa {
    type Err = UnknownIsa;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Isa::ALL.into_iter().find(|isa| isa.name() == text).ok_or_else(|| UnknownIsa(text.to_owned()))
    }
}

/// Compiles one always-inlined body for each instruction set and dispatches at run time.
///
/// `fn name(args) = body;` makes `fn name(isa: Isa, args)`, which calls `body::<FMA>(args)`, where `FMA` says whether
/// fused multiply-add is available (see [`madd`]).
macro_rules! multiversion {
    ($($(#[$meta:meta])* $vis:vis fn $name:ident($($arg:ident: $ty:ty),* $(,)?) $(-> $ret:ty)? = $($body:ident)::+;)*) => {$(
        $(#[$meta])*
        #[allow(clippy::too_many_arguments)]
        $vis fn $name(isa: $crate::Isa, $($arg: $ty),*) $(-> $ret)? {
            #[cfg(target_arch = "x86_64")]
            {
                #[target_feature(enable = "avx2,fma")]
                #[allow(clippy::too_many_arguments)]
                fn avx2($($arg: $ty),*) $(-> $ret)? {
                    $($body)::+::<true>($($arg),*)
                }
                #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx2,fma")]
                #[allow(clippy::too_many_arguments)]
                fn avx512($($arg: $ty),*) $(-> $ret)? {
                    $($body)::+::<true>($($arg),*)
                }
                match isa.effective() {
                    $crate::Isa::Scalar => $($body)::+::<false>($($arg),*),
                    // SAFETY: `effective` never names an instruction set that the processor lacks.
                    $crate::Isa::Avx2 => unsafe { avx2($($arg),*) },
                    // SAFETY: as above.
                    $crate::Isa::Avx512 => unsafe { avx512($($arg),*) },
                }
            }
            #[cfg(not(target_arch = "x86_64"))]
            {
                // The compiler may use NEON and simd128 everywhere; only NEON has fused multiply-add.
                if cfg!(target_arch = "aarch64") && isa.effective() != $crate::Isa::Scalar {
                    $($body)::+::<true>($($arg),*)
                } else {
                    $($body)::+::<false>($($arg),*)
                }
            }
        }
    )*};
}
pub(crate) use multiversion;

/// `a * b + c`, fused where the instruction set can.
#[inline(always)]
pub(crate) fn madd<const FMA: bool>(a: f32, b: f32, c: f32) -> f32 {
    if FMA { a.mul_add(b, c) } else { a * b + c }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_go_round() {
        for isa in Isa::ALL {
            assert_eq!(isa.name().parse::<Isa>(), Ok(isa));
        }
        assert_eq!("sse9".parse::<Isa>(), Err(UnknownIsa("sse9".into())));
    }

    #[test]
    fn unsupported_sets_fall_back() {
        for isa in Isa::ALL {
            assert!(isa.effective().is_supported());
            assert!(isa.effective() <= isa);
        }
        assert_eq!(Isa::supported().next(), Some(Isa::Scalar));
    }
}
