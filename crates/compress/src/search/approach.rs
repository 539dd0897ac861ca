//! The price of a bit at which a file takes a given number of bytes.

/// Highest price: so much divergence for a bit of every weight leaves next to none.
const DEAREST: f64 = 16.0;
/// A price whose root is below this makes no difference to none.
const FREE: f64 = 0.0005;
/// Highest root that a search begins with.
const BEGIN: f64 = 0.5;
/// How near to the size a file has to come.
const NEAR: f64 = 0.985;
/// How near it has to come after [`FEW`] prices.
const NEAR_ENOUGH: f64 = 0.96;
/// See [`NEAR_ENOUGH`].
const FEW: usize = 4;
/// Prices tried at most.
const MOST: usize = 8;
/// What is aimed at, so that small errors of the aim still fit.
pub(super) const AIM: f64 = 0.994;
/// Fall of the logarithm of the bytes with the price's root, where it is not measured yet.
const FALL: f64 = 1.2;
/// Least share of the way between two prices that the next one goes.
const STEP: f64 = 0.15;

/// Whether `bytes` use a budget of `target` well.
pub(super) fn near(bytes: u64, target: u64) -> bool {
    bytes <= target && bytes as f64 >= NEAR * target as f64
}

/// A price and the logarithm of the bytes at it.
#[derive(Debug, Clone, Copy)]
struct Point {
    root: f64,
    log_bytes: f64,
}

/// A search for the price of one width, from both sides. The logarithm of the bytes falls about in proportion to the price's root.
#[derive(Debug)]
pub(super) struct Approach {
    target: u64,
    /// Where the file is too large; a guess at first.
    large: Point,
    /// Whether it is one.
    guessed: bool,
    fits: Option<Point>,
    /// Fall of the logarithm of the bytes, where nothing fits yet.
    fall: f64,
    /// How often the last files lay on the same side: beyond the size, or below 0 within it.
    same_side: i32,
    /// The next root to try.
    root: f64,
    tried: usize,
}

impl Approach {
    /// Towards `target` bytes, where a file without a price takes about `bytes`; `begin` is the first root to try, where one
    /// is known to be sensible.
    pub(super) fn new(target: u64, bytes: u64, begin: Option<f64>) -> Self {
        let large = Point { root: 0.0, log_bytes: (bytes as f64).ln() };
        let mut new =
            Self { target, large, guessed: true, fits: None, fall: FALL, same_side: 0, root: 0.0, tried: 0 };
        new.root = begin.unwrap_or_else(|| new.next()).min(BEGIN);
        new
    }

    /// The price to try.
    pub(super) fn price(&self) -> f64 {
        self.root * self.root
    }

    /// The root of the highest price whose file fits.
    pub(super) fn found(&self) -> Option<f64> {
        self.fits.map(|p| p.root)
    }

    /// The file at the price took `bytes`; whether another price is worth trying.
    pub(super) fn made(&mut self, bytes: u64) -> bool {
        let point = Point { root: self.root, log_bytes: (bytes.max(1) as f64).ln() };
        let fits = bytes <= self.target;
        self.tried += 1;
        if fits {
            self.same_side = self.same_side.min(0) - 1;
            self.fits = Some(point);
        } else {
            self.same_side = self.same_side.max(0) + 1;
            let slope = (self.large.log_bytes - point.log_bytes) / (point.root - self.large.root);
            self.fall = if slope > 0.0 { slope } else { self.fall };
            (self.large, self.guessed) = (point, false);
        }
        let enough = (NEAR_ENOUGH * self.target as f64).ln();
        let near_enough = self.tried >= FEW && self.fits.is_some_and(|p| p.log_bytes >= enough);
        let end = match fits {
            true => near(bytes, self.target) || point.root == 0.0,
            false => self.fits.is_none() && self.price() >= DEAREST,
        };
        let last = std::mem::replace(&mut self.root, 0.0);
        self.root = self.next();
        !end && !near_enough && self.tried < MOST && self.root != last
    }

    fn next(&self) -> f64 {
        let Point { root: large, log_bytes } = self.large;
        let over = log_bytes - (AIM * self.target as f64).ln();
        let root = match self.fits {
            None if self.guessed => (over / self.fall).min(BEGIN),
            // What is not measured may be far off.
            None => (large + over / self.fall).clamp(1.2 * large, (3.0 * large).max(BEGIN)),
            Some(fits) => {
                let fall = log_bytes - fits.log_bytes;
                let share = if fall > 0.0 { (over / fall).clamp(STEP, 1.0 - STEP) } else { 0.0 };
                // A side that does not move: bytes do not fall as assumed, so at least half of the way.
                let share = match self.same_side {
                    2.. => share.max(0.5),
                    ..=-2 => share.min(0.5),
                    _ => share,
                };
                large + share * (fits.root - large)
            }
        };
        match root < FREE {
            true if self.guessed => 0.0,
            // Without a price the file is known to be too large.
            true => FREE,
            false => root.min(DEAREST.sqrt()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prices_approach_a_size_from_both_sides_and_end() {
        // Bytes that fall in another way than is assumed, with a guess that is wrong, and that wiggle.
        for (guess, rate, power, wiggle) in [
            (1_000_000, 1.0, 0.8, 0.0),
            (700_000, 9.0, 0.8, 0.0),
            (1_400_000, 0.4, 1.0, 0.002),
            (500_000, 2.0, 1.5, 0.004),
            (890_000, 300.0, 2.0, 0.0),
        ] {
            let bytes = |root: f64| {
                (890_000.0 * (wiggle * (37.0 * root).sin() - rate * root.powf(power)).exp()) as u64 + 4000
            };
            for target in [900_000, 880_000, 600_000, 100_000] {
                for begin in [None, Some(0.3)] {
                    let mut approach = Approach::new(target, guess, begin);
                    let (mut best, mut tried) = (0, 0);
                    loop {
                        assert!((0.0..=DEAREST).contains(&approach.price()), "{approach:?}");
                        let made = bytes(approach.price().sqrt());
                        best = best.max(if made <= target { made } else { 0 });
                        tried += 1;
                        if !approach.made(made) {
                            break;
                        }
                    }
                    let reachable = bytes(DEAREST.sqrt()) <= target;
                    let wanted = if reachable { target.min(bytes(0.0)) as f64 } else { -1.0 };
                    assert!(
                        tried <= MOST && best as f64 > 0.9 * wanted,
                        "{rate} {target} {begin:?}: {best} after {tried}"
                    );
                    assert_eq!(approach.found().is_some(), best > 0);
                }
            }
        }
        // A size below any price's ends, too.
        let mut approach = Approach::new(1000, 890_000, None);
        while approach.made(4000 + (800_000.0 * (-approach.price()).exp()) as u64) {}
        assert_eq!((approach.found(), approach.tried <= MOST), (None, true));
    }
}
