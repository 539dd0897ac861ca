//! Test images whose answer changed.

use maud::{Markup, html};

use crate::data::{Change, Changes};
use crate::format::thousands;
use crate::picture::address;

pub(crate) fn draw(changes: &Changes) -> Markup {
    let all = changes.worse + changes.better + changes.other;
    let share = 100.0 * all as f64 / changes.images.max(1) as f64;
    let of =
        |right: [bool; 2]| -> Vec<&Change> { changes.pictures.iter().filter(|c| c.right == right).collect() };
    let groups = [
        ("Right before, wrong now", changes.worse, of([true, false])),
        ("Wrong before, right now", changes.better, of([false, true])),
        ("Wrong before and now, with another class", changes.other, of([false, false])),
    ];
    html! {
        section {
            h2 { "Test images whose answer changed" }
            p {
                (thousands(all as u64)) " of " (thousands(changes.images as u64)) " images (" (format!("{share:.2} %")) ")"
                @if changes.images < changes.of { ", the first of " (thousands(changes.of as u64)) }
                ". Labels under a picture: its class; what the float network said, and what the compressed one says."
            }
            @for (name, count, shown) in groups {
                @if count > 0 {
                    h3 { (name) ": " (thousands(count as u64)) @if shown.len() < count { span.muted { " (" (shown.len()) " shown)" } } }
                    div.pictures { @for change in shown { (figure(change)) } }
                }
            }
        }
    }
}

fn figure(change: &Change) -> Markup {
    let text = format!(
        "image {} of class {}: {} before, {} now",
        change.name, change.label, change.before, change.after
    );
    html! {
        figure {
            @if let Some(data) = change.picture.as_ref().and_then(address) { img src=(data) alt=(text) title=(text); }
            figcaption {
                b { (change.label) } br;
                span class=(verdict(change.right[0])) { (change.before) } " \u{2192} "
                span class=(verdict(change.right[1])) { (change.after) }
            }
        }
    }
}

fn verdict(right: bool) -> &'static str {
    if right { "right" } else { "wrong" }
}
