//! Charts of points and lines, as SVG with a title for every mark.

use maud::{Markup, html};

use crate::axis::Axis;
use crate::format::at;

const WIDTH: f64 = 480.0;
const HEIGHT: f64 = 270.0;
const LEFT: f64 = 62.0;
const RIGHT: f64 = 14.0;
const TOP: f64 = 14.0;
const BOTTOM: f64 = 46.0;

/// A mark: a place and what it stands for.
#[derive(Debug, Clone)]
pub(crate) struct Mark {
    pub(crate) x: f64,
    pub(crate) y: f64,
    /// Shown at the pointer, and read aloud.
    pub(crate) title: String,
    /// Written beside it.
    pub(crate) label: Option<String>,
}

/// Marks of one kind.
#[derive(Debug, Clone)]
pub(crate) struct Series {
    pub(crate) name: &'static str,
    /// Colour and shape: `a`, `b` or `c` of the style sheet.
    pub(crate) class: &'static str,
    /// Whether a line joins them.
    pub(crate) line: bool,
    pub(crate) marks: Vec<Mark>,
}

/// A horizontal line to compare with.
#[derive(Debug, Clone)]
pub(crate) struct Reference {
    pub(crate) name: &'static str,
    pub(crate) y: f64,
}

/// What a chart shows.
#[derive(Debug, Clone)]
pub(crate) struct Chart {
    /// What it says, in one sentence: the text that stands for the picture.
    pub(crate) description: String,
    pub(crate) x_label: &'static str,
    pub(crate) y_label: &'static str,
    pub(crate) x: XAxis,
    /// Least and most that the vertical axis may show.
    pub(crate) y_within: [f64; 2],
    pub(crate) series: Vec<Series>,
    pub(crate) reference: Option<Reference>,
}

/// The horizontal axis.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum XAxis {
    /// Rounds: every tick a whole number.
    Rounds,
    /// Bytes, logarithmic.
    Bytes,
}

impl XAxis {
    fn text(self, value: f64) -> String {
        match self {
            Self::Rounds => format!("{value:.0}"),
            Self::Bytes => {
                crate::format::bytes(value.round() as u64).replace(".00 ", " ").replace(".0 ", " ")
            }
        }
    }
}

impl Chart {
    /// The chart with its legend.
    pub(crate) fn draw(&self) -> Markup {
        let marks = || self.series.iter().flat_map(|s| &s.marks);
        let across = [LEFT, WIDTH - RIGHT];
        let x = match self.x {
            XAxis::Rounds => Axis::exact(0.5, marks().map(|m| m.x).fold(1.0, f64::max) + 0.5, across),
            XAxis::Bytes => Axis::logarithmic(marks().map(|m| m.x), across),
        };
        let values = marks().map(|m| m.y).chain(self.reference.iter().map(|r| r.y));
        let y = Axis::over(values, [HEIGHT - BOTTOM, TOP]).within(self.y_within[0], self.y_within[1]);
        html! {
            figure.chart {
                svg role="img" aria-label=(self.description) viewBox={ "0 0 " (WIDTH) " " (HEIGHT) } {
                    (self.grid(&x, &y))
                    @if let Some(reference) = &self.reference {
                        line.reference x1=(LEFT) x2=(WIDTH - RIGHT) y1=(at(y.place(reference.y))) y2=(at(y.place(reference.y))) {}
                    }
                    @for series in &self.series { (draw_series(series, &x, &y)) }
                }
                figcaption { (self.legend()) }
            }
        }
    }

    fn grid(&self, x: &Axis, y: &Axis) -> Markup {
        let (bottom, right) = (HEIGHT - BOTTOM, WIDTH - RIGHT);
        let ticks = x.ticks();
        let whole = |t: &&f64| self.x != XAxis::Rounds || t.fract() == 0.0;
        let steps = y.ticks();
        let step = steps.windows(2).map(|w| w[1] - w[0]).next().unwrap_or(1.0);
        let digits = (-step.log10()).ceil().clamp(0.0, 6.0) as usize;
        html! {
            g.grid {
                @for tick in &steps {
                    line x1=(LEFT) x2=(right) y1=(at(y.place(*tick))) y2=(at(y.place(*tick))) {}
                    text.end x=(LEFT - 8.0) y=(at(y.place(*tick) + 4.5)) { (format!("{tick:.digits$}")) }
                }
                @for tick in ticks.iter().filter(whole) {
                    line.tick x1=(at(x.place(*tick))) x2=(at(x.place(*tick))) y1=(bottom) y2=(bottom + 5.0) {}
                    text.middle x=(at(x.place(*tick))) y=(bottom + 19.0) { (self.x.text(*tick)) }
                }
                line.axis x1=(LEFT) x2=(right) y1=(bottom) y2=(bottom) {}
                text.middle.label x=((LEFT + right) / 2.0) y=(HEIGHT - 6.0) { (self.x_label) }
                text.middle.label transform={ "translate(14 " ((TOP + bottom) / 2.0) ") rotate(-90)" } { (self.y_label) }
            }
        }
    }

    fn legend(&self) -> Markup {
        html! {
            @for series in &self.series {
                span.key {
                    svg viewBox="0 0 26 12" aria-hidden="true" {
                        @if series.line { line class=(series.class) x1="1" x2="25" y1="6" y2="6" {} }
                        (shape(series.class, 13.0, 6.0, None))
                    }
                    (series.name)
                }
            }
            @if let Some(reference) = &self.reference {
                span.key {
                    svg viewBox="0 0 26 12" aria-hidden="true" { line.reference x1="1" x2="25" y1="6" y2="6" {} }
                    (reference.name)
                }
            }
        }
    }
}

fn draw_series(series: &Series, x: &Axis, y: &Axis) -> Markup {
    let shown: Vec<&Mark> = series.marks.iter().filter(|m| m.x.is_finite() && m.y.is_finite()).collect();
    let points: Vec<String> =
        shown.iter().map(|m| format!("{},{}", at(x.place(m.x)), at(y.place(m.y)))).collect();
    html! {
        @if series.line && points.len() > 1 {
            polyline class={ "line " (series.class) } points=(points.join(" ")) {}
        }
        @for mark in shown {
            (shape(series.class, x.place(mark.x), y.place(mark.y), Some(&mark.title)))
            @if let Some(label) = &mark.label { (beside(label, x.place(mark.x), y.place(mark.y))) }
        }
    }
}

/// A label beside its mark, on the side where there is room.
fn beside(label: &str, x: f64, y: f64) -> Markup {
    let right = x < 0.62 * WIDTH;
    let y = if y < TOP + 14.0 { y + 18.0 } else { y - 8.0 };
    html! {
        text class=(if right { "mark-label start" } else { "mark-label end" }) x=(at(if right { x + 8.0 } else { x - 8.0 })) y=(at(y)) { (label) }
    }
}

/// The shape of a class: kinds differ by more than their colour.
fn shape(class: &str, x: f64, y: f64, title: Option<&str>) -> Markup {
    html! {
        @match class {
            "b" => path.mark.b d={ "M" (at(x)) " " (at(y - 5.0)) "l5 5-5 5-5-5z" } { @if let Some(t) = title { title { (t) } } },
            "c" => rect.mark.c x=(at(x - 4.0)) y=(at(y - 4.0)) width="8" height="8" { @if let Some(t) = title { title { (t) } } },
            _ => circle.mark.a cx=(at(x)) cy=(at(y)) r="4.5" { @if let Some(t) = title { title { (t) } } },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chart(marks: Vec<Mark>) -> String {
        let series = vec![Series { name: "after", class: "a", line: true, marks }];
        Chart {
            description: "a < b".into(),
            x_label: "round",
            y_label: "top-1, %",
            x: XAxis::Rounds,
            y_within: [0.0, 100.0],
            series,
            reference: None,
        }
        .draw()
        .into_string()
    }

    fn mark(x: f64, y: f64) -> Mark {
        Mark { x, y, title: format!("<{x}>"), label: None }
    }

    #[test]
    fn marks_have_titles_and_text_is_escaped() {
        let svg = chart(vec![mark(1.0, 90.0), mark(2.0, 95.0)]);
        assert!(svg.contains("aria-label=\"a &lt; b\""), "{svg}");
        assert!(
            svg.contains("<title>&lt;1&gt;</title>") && svg.contains("<polyline class=\"line a\""),
            "{svg}"
        );
    }

    #[test]
    fn what_is_no_number_is_not_drawn() {
        let svg = chart(vec![mark(1.0, f64::NAN), mark(2.0, 95.0)]);
        assert!(!svg.contains("NaN") && svg.matches("<title>").count() == 1, "{svg}");
        assert!(!chart(Vec::new()).contains("NaN"));
    }
}
