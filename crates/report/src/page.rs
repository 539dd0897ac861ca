//! The whole page.

use maud::{DOCTYPE, Markup, PreEscaped, html};

use crate::data::{Run, State};
use crate::{changes, compare, layers, sections, summary};

const STYLE: &str = include_str!("style.css");
/// Nothing is loaded from anywhere, whatever the page holds.
const POLICY: &str = "default-src 'none'; style-src 'unsafe-inline'; img-src data:";

/// The report of `runs` as an HTML page: one job in full, or several side by side with their most important parts.
pub fn page(runs: &[Run]) -> String {
    let title = match runs {
        [run] => format!("{} \u{2013} slq report", run.name),
        _ => format!("{} jobs \u{2013} slq report", runs.len()),
    };
    let program = runs.first().map(|r| r.provenance.program.as_str()).unwrap_or_default();
    let body = match runs {
        [run] => single(run),
        _ => several(runs),
    };
    html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width, initial-scale=1";
                meta name="color-scheme" content="light dark";
                meta http-equiv="Content-Security-Policy" content=(POLICY);
                title { (title) }
                style { (PreEscaped(STYLE)) }
            }
            body {
                main { (body) }
                footer { "Written by " (program) ". The page holds all it shows; it loads nothing." }
            }
        }
    }
    .into_string()
}

fn badge(run: &Run) -> Markup {
    match run.state {
        State::Finished => html! { span.badge { "finished" } },
        State::Unfinished { .. } => html! { span.badge.open { "unfinished" } },
    }
}

fn single(run: &Run) -> Markup {
    html! {
        header {
            h1 { (run.name) " " (badge(run)) }
            p.subtitle { (sections::subtitle(run)) }
        }
        (summary::draw(run))
        (sections::warnings(run))
        (sections::rounds(run))
        @if let Some(search) = &run.search { (sections::search(search)) }
        (layers::table(run))
        (layers::histograms(run))
        (layers::sensitivities(run))
        @if let Some(found) = &run.changes { (changes::draw(found)) }
        (sections::repeat(run))
    }
}

fn several(runs: &[Run]) -> Markup {
    html! {
        header { h1 { (runs.len()) " jobs" } }
        (compare::draw(runs))
        @for (i, run) in runs.iter().enumerate() {
            article id={ "run-" (i + 1) } {
                header {
                    h2.name { (run.name) " " (badge(run)) }
                    p.subtitle { (sections::subtitle(run)) }
                }
                (summary::draw(run))
                (sections::warnings(run))
                (sections::rounds(run))
                @if let Some(search) = &run.search { (sections::search(search)) }
                (sections::repeat(run))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::*;

    fn float(top1: f64, steps: u64) -> FloatTraining {
        FloatTraining { top1, standard_error: 0.01, loss: 0.1, steps, seconds: 3.0 }
    }

    fn layer(name: &str) -> LayerFigures {
        let before: Vec<f32> = (0..500).map(|i| (i as f32).sin()).collect();
        let after: Vec<f32> = before.iter().map(|v| v.signum() * 0.5).collect();
        LayerFigures {
            name: name.into(),
            op: "Conv".into(),
            shape: vec![5, 100],
            count: 500,
            distinct: 2,
            bits: 1,
            zeros: 0,
            dense: 2000,
            stored: 71,
            codebooks: 1,
            fixed: Some(1.0),
            histogram: Some(crate::histogram(Some(&before), &after)),
        }
    }

    fn full(name: &str) -> Run {
        let score = |top1| Some(Score { top1, top5: Some(1.0), loss: 0.1, images: 2000 });
        let rounds = (0..5).map(|i| Round {
            fixed: f64::from(i + 1) / 5.0,
            shared: score(0.9),
            retrained: score(0.95),
            iterations: 100,
            seconds: 1.0,
        });
        let picture = Picture { width: 2, height: 2, colour: false, pixels: vec![0, 80, 160, 240] };
        let change = Change {
            name: name.into(),
            label: "7".into(),
            before: "7".into(),
            after: "1".into(),
            right: [true, false],
            picture: Some(picture),
        };
        let trial = Trial {
            label: name.into(),
            widths: "4 4".into(),
            bytes: 71,
            validation: score(0.94),
            fits: true,
        };
        Run {
            name: name.into(),
            figures: Figures {
                method: Some("slq".into()),
                bits: Some(1),
                codebook_size: Some(2),
                before: score(0.96),
                after: score(0.95),
                fine_tuned: Some(float(0.97, 40)),
                reference: Some(float(0.98, 12_345)),
                sizes: Some(Sizes { dense: 2000, stored: 71, entropy: 70 }),
                macs: Some([1000, 1000]),
                quantized_fraction: Some(1.0),
                seconds: Some(5.0),
                ..Figures::default()
            },
            outputs: vec![OutputFile { path: name.into(), bytes: 300, ratio: 6.7 }],
            warnings: vec![Warning { kind: "damage".into(), message: name.into() }],
            rounds: rounds.collect(),
            layers: vec![layer(name)],
            sensitivities: vec![Sensitivity {
                layer: name.into(),
                rise: 0.1,
                error: Some(0.02),
                codebook_size: 9,
            }],
            search: Some(Search {
                labels: true,
                budget: "20x".into(),
                baseline: score(0.96),
                trials: vec![trial],
                chosen: Some(0),
            }),
            changes: Some(Changes {
                images: 2000,
                of: 2000,
                worse: 1,
                better: 0,
                other: 0,
                paired: true,
                pictures: vec![change],
            }),
            provenance: Provenance { recipe: Some(name.into()), ..Provenance::default() },
            ..Run::default()
        }
    }

    #[test]
    fn everything_from_files_is_escaped() {
        let evil = "</svg><script>alert('\"&')</script>";
        let html = page(&[full(evil)]);
        assert!(!html.contains("<script"), "{html}");
        assert!(!page(&[full(evil), full(evil)]).contains("<script"));
        assert!(html.matches("&lt;script&gt;").count() > 8, "the name stands in every part");
    }

    #[test]
    fn a_page_loads_nothing() {
        let html = page(&[full("net")]);
        for from_outside in ["http:", "https:", "//", "url(", "@import", "<link", "<iframe"] {
            assert!(!html.contains(from_outside), "{from_outside}");
        }
        assert!(html.contains("data:image/png;base64,"));
    }

    #[test]
    fn what_is_not_known_is_left_out() {
        let empty = page(&[Run { name: "net".into(), ..Run::default() }]);
        for heading in [
            "Rounds",
            "Weights and",
            "Sensitivity",
            "Networks tried",
            "changed",
            "Warnings",
            "Top-1",
            "Repeat it",
        ] {
            assert!(!empty.contains(heading), "{heading}");
        }
        let whole = page(&[full("net")]);
        for heading in
            ["Rounds", "Weights and", "Sensitivity", "Networks tried", "changed", "Warnings", "Top-1"]
        {
            assert!(whole.contains(heading), "{heading}");
        }
    }

    #[test]
    fn trainings_of_the_float_network_are_shown() {
        let html = page(&[full("net")]);
        for text in [
            "97.00 % after fine-tuning at full precision",
            "Float network treated equally",
            "the compressed network: -3.00 points",
            "fine-tuning: 40 steps",
            "float, fine-tuned",
        ] {
            assert!(html.contains(text), "{text}");
        }
        let mut without = full("net");
        (without.figures.fine_tuned, without.figures.reference) = (None, None);
        let html = page(&[without]);
        assert!(!html.contains("treated equally") && !html.contains("fine-tun"));
    }

    #[test]
    fn a_search_without_labels_says_what_it_measures() {
        let mut run = full("net");
        run.search.iter_mut().for_each(|s| s.labels = false);
        let html = page(&[run]);
        assert!(html.contains("agreement with float") && !html.contains("top-1 on validation"));
    }

    #[test]
    fn an_unfinished_job_says_so() {
        let state = State::Unfinished {
            stages: vec!["quantize: 2 rounds done".into()],
            resume: "slq resume x".into(),
        };
        let html = page(&[Run { state, ..full("net") }]);
        assert!(
            html.contains("not finished") && html.contains("2 rounds done") && html.contains("slq resume x")
        );
    }

    #[test]
    fn several_jobs_stand_in_one_table_and_one_picture() {
        let html = page(&[full("one"), full("two")]);
        assert_eq!(html.matches("Table of jobs").count(), 1);
        assert_eq!(html.matches("mixed").count(), 2, "a search chose the widths");
        assert!(html.contains("one: 300 B, top-1 95.00 %") && html.contains("two: 300 B, top-1 95.00 %"));
    }
}
