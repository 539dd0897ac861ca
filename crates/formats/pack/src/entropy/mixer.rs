//! Adaptive probabilities of binary decisions, several of them mixed into one.
//!
//! Each context of a decision keeps a [`Counter`]: how often the decision was a 1 there. The counters' estimates are
//! mixed in the logistic domain, x = ln(p / (1 - p)), by weights that follow the gradient of the code length
//! (Mahoney 2005, "Adaptive weighing of context models for lossless data compression"). All of it is integer
//! arithmetic, so that every machine computes the same probabilities.

use std::sync::LazyLock;

use super::decisions::Coder;

/// 2^24 / (1 + e^-x) at x = 0, 1/4 .. 12.
const SQUASHED: [u32; 49] = [
    8388608, 9431757, 10443135, 11394728, 12265128, 13040928, 13716624, 14293396, 14777323, 15177517,
    15504527, 15769129, 15981542, 16150975, 16285438, 16391720, 16475457, 16541267, 16592886, 16633310,
    16664929, 16689637, 16708930, 16723987, 16735732, 16744891, 16752030, 16757595, 16761931, 16765310,
    16767942, 16769992, 16771590, 16772834, 16773803, 16774558, 16775146, 16775604, 16775960, 16776238,
    16776454, 16776623, 16776754, 16776856, 16776936, 16776998, 16777046, 16777084, 16777113,
];
/// One in the logistic domain.
const UNIT: i32 = 256;
/// Largest value in the logistic domain.
const MOST: i32 = 12 * UNIT - 1;
/// Bits of a counter's probability that choose its logistic value.
const STRETCH_BITS: u32 = 14;
/// Bits of a counter's probability.
const COUNTER_BITS: u32 = 22;
/// The count beyond which a counter forgets.
const LIMIT: u32 = 1023;

/// The probability, in units of 2^-24, of a logistic value.
fn squash_finely(x: i32) -> i32 {
    let size = x.abs().min(MOST);
    let (knot, part) = ((size / 64) as usize, size % 64);
    let (low, high) = (SQUASHED[knot] as i32, SQUASHED[knot + 1] as i32);
    let up = low + (high - low) * part / 64;
    if x < 0 { (1 << 24) - up } else { up }
}

/// Tables of the logistic function and what belongs to it.
struct Tables {
    /// Probability of a 1, from 1 to 65535, of each logistic value from -`MOST` to `MOST`.
    squash: Vec<u16>,
    /// Logistic value of a probability.
    stretch: Box<[i16; 1 << STRETCH_BITS]>,
    /// For each count: the share of the error by which a counter moves, 65536 / (n + 1.5).
    rate: [u16; LIMIT as usize + 1],
    /// For each count: how far it is trusted, 256 n / (n + 0.5).
    trust: [u16; LIMIT as usize + 1],
}

static TABLES: LazyLock<Tables> = LazyLock::new(|| {
    let squash = (-MOST..=MOST).map(|x| ((squash_finely(x) + 128) >> 8).clamp(1, 65535) as u16).collect();
    let mut stretch = Box::new([0i16; 1 << STRETCH_BITS]);
    let mut x = -MOST;
    for (i, value) in stretch.iter_mut().enumerate() {
        let middle = ((2 * i + 1) << (24 - STRETCH_BITS - 1)) as i32;
        while x < MOST && squash_finely(x) < middle {
            x += 1;
        }
        *value = x as i16;
    }
    let by_count = |f: fn(u32) -> u32| std::array::from_fn(|n| f(n as u32) as u16);
    Tables {
        squash,
        stretch,
        rate: by_count(|n| (2 << 16) / (2 * n + 3)),
        trust: by_count(|n| (512 * n) / (2 * n + 1)),
    }
});

/// An estimate in 22 bits and the number of decisions it rests on in 10.
type Counter = u32;
const FRESH: Counter = 1 << 31;

/// Counters and weights for decisions with `N` contexts each.
pub(crate) struct Mixer<const N: usize> {
    tables: &'static Tables,
    counters: [Vec<Counter>; N],
    /// For each set of weights: one for each context and one for the bias, with 16 bits of fraction.
    weights: Vec<[i32; N]>,
    rate: i64,
}

impl<const N: usize> Mixer<N> {
    /// A mixer whose context `i` has `sizes[i]` counters, with `sets` sets of weights that learn at `rate`.
    pub fn new(sizes: [usize; N], sets: usize, rate: u8) -> Self {
        // 0.7 / sqrt(N): estimates that agree are trusted a little more than each of them alone.
        let first = [0, 45875, 32440, 26486, 22938, 20516, 18728, 17339, 16219][N.min(8)];
        Self {
            tables: &TABLES,
            counters: sizes.map(|size| vec![FRESH; size]),
            weights: vec![[first; N]; sets],
            rate: rate.into(),
        }
    }

    /// Codes one decision whose counters are `slots`, with weights `set`.
    #[inline(always)]
    pub fn decide<C: Coder>(&mut self, slots: &[usize; N], set: usize, bit: bool, coder: &mut C) -> bool {
        let tables = self.tables;
        let mut inputs = [0i32; N];
        let mut sum = 0i64;
        let weights = &mut self.weights[set];
        for i in 0..N {
            let counter = self.counters[i][slots[i]];
            let logistic = i32::from(tables.stretch[(counter >> (32 - STRETCH_BITS)) as usize]);
            let trust = i32::from(tables.trust[(counter & LIMIT) as usize]);
            inputs[i] = (logistic * trust) >> 8;
            sum += i64::from(inputs[i]) * i64::from(weights[i]);
        }
        let mixed = (sum >> 16).clamp(-i64::from(MOST), MOST.into()) as i32;
        let one = u32::from(tables.squash[(mixed + MOST) as usize]);
        let bit = coder.decide(one, bit);
        let error = (i64::from(bit) << 16) - i64::from(one);
        for i in 0..N {
            let step = (i64::from(inputs[i]) * error * self.rate + (1 << 17)) >> 18;
            weights[i] = (i64::from(weights[i]) + step).clamp(-(1 << 24), 1 << 24) as i32;
            let counter = &mut self.counters[i][slots[i]];
            *counter = learn(*counter, bit, &tables.rate);
        }
        bit
    }
}

/// The counter after one more decision.
#[inline(always)]
fn learn(counter: Counter, bit: bool, rate: &[u16; LIMIT as usize + 1]) -> Counter {
    let (estimate, count) = (i64::from(counter >> (32 - COUNTER_BITS)), counter & LIMIT);
    let target = if bit { (1 << COUNTER_BITS) - 1 } else { 0 };
    let moved = estimate + (((target - estimate) * i64::from(rate[count as usize])) >> 16);
    (moved as u32) << (32 - COUNTER_BITS) | (count + 1).min(LIMIT)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::entropy::decisions::Recorder;

    #[test]
    fn the_logistic_function_and_its_inverse_are_near_the_real_ones() {
        for x in -MOST..=MOST {
            let real = 65536.0 / (1.0 + (-f64::from(x) / 256.0).exp());
            let found = f64::from(TABLES.squash[(x + MOST) as usize]);
            assert!((found - real).abs() < 1.0 + real * 0.01, "squash({x}) is {found}, not {real}");
        }
        for (i, &found) in TABLES.stretch.iter().enumerate() {
            let p = (i as f64 + 0.5) / f64::from(1 << STRETCH_BITS);
            let real = 256.0 * (p / (1.0 - p)).ln();
            assert!((f64::from(found) - real).abs() < 6.0, "stretch({p}) is {found}, not {real}");
        }
    }

    #[test]
    fn a_counter_counts() {
        let mut counter = FRESH;
        let rate = &TABLES.rate;
        for i in 0..900u32 {
            counter = learn(counter, i % 4 == 0, rate);
        }
        let estimate = f64::from(counter >> 10) / f64::from(1 << COUNTER_BITS);
        assert!((estimate - 0.25).abs() < 0.005, "{estimate}");
        for _ in 0..20_000 {
            counter = learn(counter, true, rate);
        }
        assert!(counter >> 10 > (1 << COUNTER_BITS) - 2000 && counter & LIMIT == LIMIT);
    }

    #[test]
    fn contexts_that_know_the_answer_make_it_cheap() {
        // The decision is the parity of the first context; the second one knows nothing.
        let cost = |informed: bool| {
            let mut mixer = Mixer::new([16, 16], 1, 5);
            let mut recorder = Recorder::default();
            let mut seed = 1u32;
            for _ in 0..4000 {
                seed = seed.wrapping_mul(1664525).wrapping_add(1013904223);
                let (known, unknown) = ((seed >> 24) as usize & 15, (seed >> 16) as usize & 15);
                let slots = [if informed { known } else { 0 }, unknown];
                mixer.decide(&slots, 0, known & 1 == 1, &mut recorder);
            }
            recorder.finish().len()
        };
        assert!(cost(true) < 60, "{} bytes", cost(true));
        assert!((495..520).contains(&cost(false)), "{} bytes", cost(false));
    }
}
