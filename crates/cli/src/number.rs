//! Numbers among the flags that become settings: JSON, through which settings go, has no NaN and no infinity.

use std::fmt::Display;
use std::str::FromStr;

/// A finite number.
///
/// # Errors
/// A sentence for text that is none.
pub(crate) fn finite<T>(text: &str) -> Result<T, String>
where
    T: FromStr<Err: Display> + Copy + Into<f64>,
{
    let number: T = text.parse().map_err(|e: T::Err| e.to_string())?;
    if number.into().is_finite() { Ok(number) } else { Err("it must be a finite number".into()) }
}

/// A finite number above 0.
///
/// # Errors
/// A sentence for text that is none.
pub(crate) fn positive(text: &str) -> Result<f64, String> {
    finite(text).and_then(|number| if number > 0.0 { Ok(number) } else { Err("it must be above 0".into()) })
}

#[cfg(test)]
mod tests {
    use super::{finite, positive};

    #[test]
    fn only_finite_numbers_are_settings() {
        assert_eq!((finite("0.5"), finite("-1e3")), (Ok(0.5f64), Ok(-1000.0f32)));
        for text in ["nan", "inf", "-inf", "1e99", "four", ""] {
            assert!(finite::<f32>(text).is_err(), "{text}");
        }
        assert!(positive("0.1").is_ok() && positive("0").is_err() && positive("nan").is_err());
    }
}
