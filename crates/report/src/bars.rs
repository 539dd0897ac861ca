//! Horizontal bars in cells of a table.

use maud::{Markup, html};

use crate::format::at;

/// A pale bar of `whole` with a full one of `part` in it, both shares of the longest bar of the table. The figures stand beside it
/// as text, so that the picture is decoration.
pub(crate) fn nested(whole: f64, part: f64) -> Markup {
    let width = |share: f64| at(100.0 * if share.is_finite() { share.clamp(0.0, 1.0) } else { 0.0 });
    html! {
        svg.bar viewBox="0 0 100 10" preserveAspectRatio="none" aria-hidden="true" {
            rect.whole x="0" y="1" height="8" width=(width(whole)) {}
            rect.part x="0" y="1" height="8" width=(width(part)) {}
        }
    }
}

/// A bar from zero to `value` with a whisker of `error` to either side, as shares of the longest.
pub(crate) fn whisker(value: f64, error: Option<f64>) -> Markup {
    let place = |share: f64| at(100.0 * if share.is_finite() { share.clamp(0.0, 1.0) } else { 0.0 });
    html! {
        svg.bar viewBox="0 0 100 10" preserveAspectRatio="none" aria-hidden="true" {
            rect.part x="0" y="1" height="8" width=(place(value)) {}
            @if let Some(error) = error {
                path.error d={ "M" (place(value - error)) " 5H" (place(value + error)) } {}
            }
        }
    }
}
