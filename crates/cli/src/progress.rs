//! Progress of a run: bars on a terminal, a line for each round and each minute elsewhere, nothing when told to be quiet.

use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};
use slq::methods::{Reference, RoundReport, Trial};
use slq::{Event, Observer};

use crate::common::{Common, say};
use crate::signals;
use crate::table::{measured, percent, thousands, widths};

/// Time between two lines of a training, where there are no bars.
const PAUSE: Duration = Duration::from_secs(60);

/// A stage of fine-tuning that has ended.
const FINE_TUNED: &str = "fine-tuned";

/// Shows events as they come.
pub(crate) struct Progress {
    quiet: bool,
    bars: bool,
    bar: Option<ProgressBar>,
    title: String,
    images: u64,
    loss: f64,
    correct: f64,
    began: Instant,
    /// When the last line was written.
    told: Instant,
    job: WholeJob,
    stage: String,
}

/// Where the job as a whole stands.
#[derive(Debug, Default)]
struct WholeJob {
    /// Steps in all; `None` where they are not known.
    steps: Option<u64>,
    /// Steps done before the training at hand, and timed in this sitting.
    before: u64,
    done: u64,
    began: Option<Instant>,
}

impl WholeJob {
    fn step(&mut self, iteration: u64, iterations: u64) {
        self.began.get_or_insert_with(Instant::now);
        self.done += 1;
        if iteration == iterations {
            self.before += iterations;
        }
    }

    /// Time left, evaluations included; `None` before it is known.
    fn left(&self, iteration: u64, iterations: u64) -> Option<String> {
        let reached = self.before + if iteration == iterations { 0 } else { iteration };
        let left = self.steps?.saturating_sub(reached);
        let each = self.began?.elapsed().as_secs_f64() / self.done.saturating_sub(1).max(1) as f64;
        (self.done > 20).then(|| time(left as f64 * each))
    }
}

impl Progress {
    pub(crate) fn new(common: &Common) -> Self {
        Self {
            quiet: common.quiet,
            bars: common.bars(),
            bar: None,
            title: "training".into(),
            images: 0,
            loss: 0.0,
            correct: 0.0,
            began: Instant::now(),
            told: Instant::now(),
            job: WholeJob::default(),
            stage: String::new(),
        }
    }

    /// The same, for a job of so many training steps.
    pub(crate) fn of(self, steps: Option<u64>) -> Self {
        Self { job: WholeJob { steps, ..WholeJob::default() }, ..self }
    }

    fn line(&mut self, text: &str) {
        self.told = Instant::now();
        if !self.quiet {
            say(text);
        }
    }

    fn finish_bar(&mut self) {
        if let Some(bar) = self.bar.take() {
            bar.finish_and_clear();
        }
    }

    fn bar(&mut self, length: u64, template: &str) -> Option<&ProgressBar> {
        if !self.bars {
            return None;
        }
        if self.bar.is_none() {
            let style =
                ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar());
            let bar = ProgressBar::new(length).with_style(style);
            bar.set_prefix(self.title.clone());
            self.bar = Some(bar);
        }
        self.bar.as_ref()
    }
}

/// How long `steps` steps of `images` images take; "?" before the first was timed.
fn remaining(seen: u64, images: usize, steps: u64, rate: f64) -> String {
    if seen <= images as u64 {
        return "?".into();
    }
    time((steps * images as u64) as f64 / rate)
}

/// A time as people say it.
pub(crate) fn time(seconds: f64) -> String {
    match seconds {
        ..90.0 => format!("{seconds:.0} s"),
        ..5400.0 => format!("{:.0} min", seconds / 60.0),
        ..172_800.0 => format!("{:.1} h", seconds / 3600.0),
        _ => format!("{:.1} days", seconds / 86_400.0),
    }
}

impl Progress {
    /// A training step: the bar moves, or once a minute a line is written.
    fn step(&mut self, event: &Event<'_>) {
        let &Event::Step { iteration, iterations, loss, learning_rate, images, correct } = event else {
            return;
        };
        let share = correct as f64 / images.max(1) as f64;
        if self.images == 0 {
            (self.loss, self.correct, self.began) = (loss, share, Instant::now());
        }
        self.images += images as u64;
        // A running mean over some fifty batches, which is readable.
        self.loss += (loss - self.loss) / 50.0;
        self.correct += (share - self.correct) / 50.0;
        let rate = self.images as f64 / self.began.elapsed().as_secs_f64().max(1e-9);
        self.job.step(iteration, iterations);
        let message = format!(
            "loss {:.4} top-1 {:.2} % lr {learning_rate:.2e} {rate:.0} images/s",
            self.loss,
            100.0 * self.correct
        );
        let left = match self.job.left(iteration, iterations) {
            Some(time) => format!("{time} left of the job"),
            None => format!("{} left", remaining(self.images, images, iterations - iteration, rate)),
        };
        if let Some(bar) = self.bar(iterations, "{prefix} {bar:20} {pos}/{len} {msg}") {
            bar.set_position(iteration);
            bar.set_message(format!("{message} {left}"));
        } else if iteration < iterations && self.told.elapsed() >= PAUSE {
            self.line(&format!("{}: {iteration} of {iterations} steps, {message}, {left}", self.title));
        }
        if iteration == iterations {
            self.finish_bar();
        }
    }
}

impl Progress {
    /// A layer that shares its values: the bar moves, or once a minute a line is written, and behind the last of a calibration.
    fn layer(&mut self, event: &Event<'_>) {
        let &Event::LayerShared { calibrated, weight, done, layers, seconds } = event else { return };
        let how = if calibrated { "calibrat" } else { "cluster" };
        self.title = format!("{how}ing");
        let (steps, of) = (done as u64, layers as u64);
        if let Some(bar) = self.bar(of, "{prefix} {bar:30} {pos}/{len} {msg} {eta} left") {
            bar.set_position(steps);
            bar.set_message(weight.to_owned());
        } else if self.told.elapsed() >= PAUSE || calibrated && done == layers {
            self.line(&format!("{how}ed {done} of {layers} layers in {seconds:.0} s"));
        }
        if done == layers {
            self.finish_bar();
        }
    }
}

impl Progress {
    fn stage_started(&mut self, stage: &str) {
        match stage {
            "fine-tune" => self.title = "fine-tuning".into(),
            "reference" => self.title = "float reference".into(),
            "block-tune" => self.title = "distilling".into(),
            _ => {}
        }
        if stage != "quantize" || self.stage != FINE_TUNED {
            self.stage = stage.into();
        }
        (self.images, self.began) = (0, Instant::now());
    }

    /// Weights that share values from now on.
    fn shared(&mut self, event: &Event<'_>) {
        let Event::Shared { layers, fixed_fraction, before } = event else { return };
        let before = before.as_ref().map(percent).unwrap_or_else(|| "-".into());
        let layers = match layers {
            [] => "shared values: ".into(),
            [one] => format!("{one}: "),
            _ => String::new(),
        };
        let fixed = 100.0 * fixed_fraction;
        self.line(&format!("{}: {layers}{fixed:.1} % fixed, {before} before re-training", self.title));
        (self.images, self.began) = (0, Instant::now());
    }

    fn round_ended(&mut self, round: &RoundReport) {
        let Some(after) = &round.after else { return };
        let speed = self.images as f64 / round.retrain_seconds.max(1e-9);
        let (after, steps, seconds) = (percent(after), round.iterations, round.seconds);
        self.line(&format!(
            "{}: {after} after {steps} steps ({seconds:.1} s, {speed:.0} images/s)",
            self.title
        ));
    }
}

fn reference(r: &Reference) -> String {
    format!(
        "float network treated equally: {:.2} ± {:.2} % top-1, loss {:.4}, {} steps",
        100.0 * r.top1,
        100.0 * r.standard_error,
        r.loss,
        r.iterations
    )
}

fn tried(trial: &Trial) -> String {
    let widths = match trial.widths.is_empty() {
        true => String::new(),
        false => format!(" (bits {})", widths(&trial.widths)),
    };
    let accuracy = trial.validation.as_ref().map(|a| match a.unlabelled {
        true => format!(", {} agreement, distance {:.4}", percent(a), a.loss),
        false => format!(", {} on validation", percent(a)),
    });
    format!(
        "tried {}{widths}: {} bytes{}{}",
        trial.label,
        thousands(trial.stored_bytes),
        accuracy.unwrap_or_default(),
        if trial.fits { "" } else { ": outside the budget" }
    )
}

/// Tells the signals whether a training step is at hand, which they let finish.
fn mark_busy(event: &Event<'_>) {
    match event {
        Event::Step { iteration, iterations, .. } => signals::busy(iteration < iterations),
        // Steps follow.
        Event::Shared { .. } | Event::Continued { .. } => signals::busy(true),
        Event::Tested { .. } => {}
        _ => signals::busy(false),
    }
}

impl Observer for Progress {
    fn stop(&mut self) -> bool {
        signals::came()
    }

    fn on(&mut self, event: &Event<'_>) {
        mark_busy(event);
        match event {
            // Said when the fine-tuning ended.
            Event::Baseline(_) if self.stage == FINE_TUNED => self.stage.clear(),
            Event::Baseline(a) => {
                self.line(&format!("float: {}, loss {:.4}, {} images", measured(a), a.loss, a.images));
            }
            Event::StageStarted(stage) => self.stage_started(stage),
            Event::Reference(r) => self.line(&reference(r)),
            Event::Continued { iteration, iterations } => {
                self.line(&format!("going on after step {iteration} of {iterations}"));
            }
            Event::Resumed(rounds) => {
                self.job.before += rounds.iter().map(|r| r.iterations).sum::<u64>();
                self.line(&format!("going on after round {}", rounds.len()));
            }
            Event::RoundStarted { round, rounds } => {
                self.title = format!("round {}/{rounds}", round + 1);
                (self.images, self.began) = (0, Instant::now());
            }
            Event::Measuring { done, of } => {
                let (done, of) = (*done as u64, *of as u64);
                if let Some(bar) = self.bar(of, "{prefix} measuring clusters {bar:30} {pos}/{len} {eta} left")
                {
                    bar.set_position(done);
                }
                if done == of {
                    self.finish_bar();
                }
            }
            Event::Shared { .. } => self.shared(event),
            Event::Step { .. } => self.step(event),
            Event::Tried(trial) => self.line(&tried(trial)),
            Event::Tested { iteration, accuracy } => {
                self.finish_bar();
                let (top1, loss) = (measured(accuracy), accuracy.loss);
                self.line(&format!("{}: {top1}, loss {loss:.4} after {iteration} steps", self.title));
            }
            Event::RoundEnded(round) => self.round_ended(round),
            Event::LayersResumed(done) => self.line(&format!("going on after layer {done}")),
            Event::LayerShared { .. } => self.layer(event),
            Event::Decomposed { split, whole, accuracy } => {
                let accuracy = accuracy.as_ref().map(|a| format!(", {}", measured(a))).unwrap_or_default();
                self.line(&format!("{split} layers split, {whole} left whole{accuracy}"));
                self.title = "fine-tuning".into();
                (self.images, self.began) = (0, Instant::now());
            }
            Event::Final(a) if self.stage == "fine-tune" => {
                self.stage = FINE_TUNED.into();
                self.line(&format!("fine-tuned: {}, loss {:.4}", measured(a), a.loss));
            }
            Event::Final(a) => self.line(&format!("final: {}, loss {:.4}", measured(a), a.loss)),
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::remaining;

    #[test]
    fn what_remains_is_told_in_seconds_and_minutes() {
        assert_eq!(remaining(6400, 64, 100, 160.0), "40 s");
        assert_eq!(remaining(6400, 64, 1000, 160.0), "7 min");
        assert_eq!(remaining(64, 64, 1000, 1e9), "?");
    }
}
