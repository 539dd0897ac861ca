//! Budgets by a price on bits, for files whose codes are entropy-coded (docs/budgets.md).
//!
//! Every layer gets codebooks of the same width, and the price decides how many bits of it a layer uses
//! (docs/calibration.md and docs/kmeans.md, "Bits at a price"). Sizes are those of the file. At a given size the width matters
//! little as long as it leaves bits to be saved: calibration tries the narrowest that does, and the next one; k-means, which
//! moves no code for another's error, takes the one behind that.

use std::time::Instant;

use super::approach::{AIM, Approach, near};
use super::choices::Choices;
use super::report::SearchReport;
use super::smallest::Smallest;
use super::tries::Tries;
use super::widths::allocate;
use crate::budget::Budget;
use crate::error::CompressError;
use crate::processes::go_on;
use crate::progress::Trial;
use crate::quantize::outcome::Quantized;
use crate::quantize::{Quantize, Sensitivity, kmeans, select_layers};
use crate::size::{FileSize, Size};

/// Widest codes.
const WIDEST: u8 = 8;
/// The width that a search for a drop begins with: of a calibration, and of k-means.
const FIRST: [u8; 2] = [5, 6];
/// Prices of a search for a drop: this one, and each half of the one before.
const HIGH: f64 = 1.0;
/// Their number.
const PRICES: usize = 20;
/// Networks tried with a width for each layer.
const WIDTHS: usize = 3;
/// Bytes of the next one, beside those of the smallest network that keeps a drop.
const SMALLER: f64 = 0.9;

/// A search by prices.
pub(super) struct ByPrice<'a> {
    pub(super) tries: Tries<'a>,
    pub(super) file: &'a dyn FileSize,
}

impl ByPrice<'_> {
    fn settings_for(&self, bits: u8, rate: f64) -> Quantize {
        let settings = self.tries.settings.clone();
        let method = settings.method.clone().at_rate(rate);
        Quantize { bits, codebook_size: None, method, ..settings }
    }

    fn trial(bits: u8, rate: f64) -> Trial {
        Trial {
            label: format!("{bits} bits, rate {rate:.5}"),
            widths: Vec::new(),
            rate: Some(rate),
            stored_bytes: 0,
            validation: None,
            fits: true,
            seconds: 0.0,
        }
    }

    /// The network whose outputs are nearest to the float network's among those whose file takes at most `target` bytes.
    ///
    /// # Errors
    /// [`CompressError::Budget`] where no price makes it so small.
    pub(super) fn for_size(
        mut self,
        target: u64,
        budget: Budget,
        table: Option<&Sensitivity>,
    ) -> Result<(Quantized, SearchReport), CompressError> {
        let mut found = Found::new(target);
        let mut begin = None;
        for (bits, bytes) in self.widths(target)? {
            let root = self.approach(bits, Approach::new(target, bytes, begin), &mut found)?;
            // Wider codes need a higher price, of about this size.
            begin = root.filter(|&r| r > 0.0).map(|r| r * std::f64::consts::SQRT_2);
        }
        // Without images nothing tells widths from prices.
        if self.tries.context.data.is_some() || self.tries.context.inputs.is_some() {
            self.beside(&mut found, table)?;
        }
        let Some(Candidate { place: chosen, mut done, .. }) = found.best else {
            let reason = format!(
                "a file of {target} bytes cannot be reached: the smallest that prices on bits make takes {} bytes; pruning \
                 (--method deep-compression) or fewer weights (slq decompose first) may reach it",
                found.smallest
            );
            return Err(CompressError::Budget { reason });
        };
        self.tries.finish(&mut done)?;
        let trials = self.tries.dir.trials().to_vec();
        Ok((done, SearchReport { budget, validation_baseline: None, trials, chosen }))
    }

    /// Widths to try: of those whose file would be larger than `target` without a price the narrowest and the next one for a
    /// calibration, the one behind for k-means, each with that file's size as plain clustering tells it.
    fn widths(&mut self, target: u64) -> Result<Vec<(u8, u64)>, CompressError> {
        let (narrower, tried) = if self.tries.settings.calibrates() { (0, 2) } else { (2, 1) };
        let mut widths = Vec::new();
        for bits in self.tries.settings.lowest_bits().max(2)..=WIDEST {
            let settings = self.settings_for(bits, 0.0);
            let mut graph = self.tries.graph.clone();
            let layers = select_layers(&graph, &settings)?;
            let (how, reducer) = (settings.method.sharing(false), self.tries.context.reducer);
            kmeans::share(&mut graph, &layers, None, how, &mut |_, _| go_on(self.tries.observer, reducer))?;
            let bytes = Size::of(&graph).entropy_bytes;
            if bytes >= target || bits == WIDEST {
                widths.push((bits, bytes));
            }
            if widths.len() == narrower + tried {
                break;
            }
        }
        Ok(widths.split_off(narrower.min(widths.len().saturating_sub(1))))
    }

    /// Tries prices of one width until the file is just within the size; the root of the last one that fits. The largest file
    /// that fits stands for the width: the others have a higher price, whatever a few inputs say.
    fn approach(
        &mut self,
        bits: u8,
        mut approach: Approach,
        found: &mut Found,
    ) -> Result<Option<f64>, CompressError> {
        let mut largest: Option<Candidate> = None;
        loop {
            let rate = approach.price();
            let made = self.measure(&self.settings_for(bits, rate), Self::trial(bits, rate), found)?;
            let go_on = approach.made(made.bytes);
            if made.bytes <= found.target && largest.as_ref().is_none_or(|l| made.bytes > l.bytes) {
                largest = Some(made);
            }
            if !go_on {
                if let Some(largest) = largest {
                    found.offer(largest);
                }
                return Ok(approach.found());
            }
        }
    }

    /// Widths for each layer, of bytes as if codes were not entropy-coded: where noise says little of what few bits cost, they
    /// can be better than prices. Those that come out ahead get the bytes that coding saves, too.
    fn beside(&mut self, found: &mut Found, table: Option<&Sensitivity>) -> Result<(), CompressError> {
        let choices = Choices::new(&self.tries.graph, &self.tries.settings)?;
        let slopes = choices.slopes(&mut self.tries, table)?;
        let (target, mut wanted) = (found.target, found.target);
        for _ in 0..WIDTHS {
            let room = wanted.saturating_sub(choices.floats);
            let Some(allocation) = allocate(&choices.layers, &slopes, room) else { return Ok(()) };
            let settings = choices.settings_for(&self.tries.settings, &allocation);
            let trial = choices.trial("widths by sensitivity", &allocation);
            let made = self.measure(&settings, trial, found)?;
            let (bytes, fits) = (made.bytes, made.bytes <= target);
            if !fits || !found.offer(made) || near(bytes, target) {
                return Ok(());
            }
            wanted = (wanted as f64 * AIM * target as f64 / bytes as f64) as u64;
        }
        Ok(())
    }

    /// The network that `settings` make, and its file.
    fn measure(
        &mut self,
        settings: &Quantize,
        mut trial: Trial,
        found: &mut Found,
    ) -> Result<Candidate, CompressError> {
        let began = Instant::now();
        let part = self.tries.training_part();
        let done = self.tries.in_full(settings, part.as_ref(), found.tried)?;
        trial.stored_bytes = self.file.bytes(&done.graph)?;
        // Outputs that are no classes have a distance all the same.
        let distance = done.report.damage.as_ref().map(|d| d.kl.unwrap_or(d.relative * d.relative));
        trial.validation = self.tries.judged(&done).ok().flatten();
        trial.fits = trial.stored_bytes <= found.target;
        trial.seconds = began.elapsed().as_secs_f64();
        let (place, bytes) = (found.tried, trial.stored_bytes);
        let loss = distance.or(trial.validation.map(|a| a.loss)).unwrap_or(f64::INFINITY);
        self.tries.record(place, trial)?;
        found.smallest = found.smallest.min(bytes);
        found.tried += 1;
        Ok(Candidate { place, bytes, loss, done })
    }

    /// The smallest file whose network keeps the drop: prices of one width by bisection, then narrower codes at the price found.
    ///
    /// # Errors
    /// [`CompressError::Budget`] where none keeps it.
    pub(super) fn for_drop(
        mut self,
        budget: Budget,
        table: Option<&Sensitivity>,
    ) -> Result<(Quantized, SearchReport), CompressError> {
        let mut smallest = Smallest::new(&self.tries, budget);
        let price = |i: usize| HIGH / 2f64.powi(i as i32);
        let mut found = None;
        for width in [FIRST[usize::from(!self.tries.settings.calibrates())], WIDEST] {
            // Prices below `low` are not known to fit; `high` is the highest not yet known to fail.
            let (mut low, mut high) = (0, PRICES);
            while low < high {
                let middle = (low + high) / 2;
                match self.takes(&mut smallest, (width, price(middle)))? {
                    true => (high, found) = (middle, Some((width, price(middle)))),
                    false => low = middle + 1,
                }
            }
            if found.is_some() || self.takes(&mut smallest, (width, 0.0))? {
                break;
            }
        }
        if let Some((width, rate)) = found {
            self.refine(&mut smallest, (width, rate))?;
        }
        self.narrower(&mut smallest, table)?;
        smallest.finish(self.tries)
    }

    /// A price between the one found and the next one, and narrower codes at the better of both.
    fn refine(&mut self, smallest: &mut Smallest, (width, rate): (u8, f64)) -> Result<(), CompressError> {
        let between = rate * std::f64::consts::SQRT_2;
        let rate = if self.takes(smallest, (width, between))? { between } else { rate };
        for bits in (self.tries.settings.lowest_bits().max(2)..width).rev() {
            let before = smallest.bytes();
            self.takes(smallest, (bits, rate))?;
            if smallest.bytes() == before {
                break;
            }
        }
        Ok(())
    }

    /// Widths for each layer whose file is smaller than the smallest so far, as long as they keep the drop.
    fn narrower(
        &mut self,
        smallest: &mut Smallest,
        table: Option<&Sensitivity>,
    ) -> Result<(), CompressError> {
        let Some(mut bytes) = smallest.bytes() else { return Ok(()) };
        let choices = Choices::new(&self.tries.graph, &self.tries.settings)?;
        let slopes = choices.slopes(&mut self.tries, table)?;
        for _ in 0..WIDTHS {
            let room = ((bytes as f64 * SMALLER) as u64).saturating_sub(choices.floats);
            let Some(allocation) = allocate(&choices.layers, &slopes, room) else { return Ok(()) };
            let settings = choices.settings_for(&self.tries.settings, &allocation);
            let trial = choices.trial("widths by sensitivity", &allocation);
            smallest.takes(&mut self.tries, &settings, trial, Some(self.file))?;
            match smallest.bytes().filter(|&b| b < bytes) {
                Some(found) => bytes = found,
                None => return Ok(()),
            }
        }
        Ok(())
    }

    fn takes(&mut self, smallest: &mut Smallest, (bits, rate): (u8, f64)) -> Result<bool, CompressError> {
        let (settings, trial) = (self.settings_for(bits, rate), Self::trial(bits, rate));
        smallest.takes(&mut self.tries, &settings, trial, Some(self.file))
    }
}

/// A network that a search for a size has tried.
struct Candidate {
    place: usize,
    /// Bytes of its file.
    bytes: u64,
    /// Its distance from the float network.
    loss: f64,
    done: Quantized,
}

/// What a search for a size has found.
struct Found {
    /// Bytes that a file may take.
    target: u64,
    /// Networks tried.
    tried: usize,
    /// The smallest file of all.
    smallest: u64,
    best: Option<Candidate>,
}

impl Found {
    fn new(target: u64) -> Self {
        Self { target, tried: 0, smallest: u64::MAX, best: None }
    }

    /// Holds a network that fits, if it is the best so far; whether it is. Of networks that cannot be told apart the later one
    /// is, of wider codes.
    fn offer(&mut self, candidate: Candidate) -> bool {
        let better = self.best.as_ref().is_none_or(|best| candidate.loss <= best.loss);
        if better {
            self.best = Some(candidate);
        }
        better
    }
}
