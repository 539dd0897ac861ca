//! Random numbers of a calibration.

/// Random numbers that depend on what they are for alone (SplitMix64: Steele, Lea, Flood, OOPSLA 2014).
#[derive(Debug, Clone)]
pub(crate) struct Random(u64);

impl Random {
    /// A generator for one use, named by numbers.
    pub fn of(seed: u64, names: &[u64]) -> Self {
        let mut random = Self(seed);
        for &name in names {
            random.0 = random.next() ^ name.wrapping_mul(0xd6e8_feb8_6659_fd93);
        }
        random
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number from 0 up to 1.
    pub fn unit(&mut self) -> f64 {
        (self.next() >> 11) as f64 / (1u64 << 53) as f64
    }

    /// A number below `end`, which is not 0.
    pub fn below(&mut self, end: usize) -> usize {
        ((u128::from(self.next()) * end as u128) >> 64) as usize
    }

    /// `count` of the numbers below `end` (all of them if there are fewer), ascending, each set as likely as another
    /// (Floyd's method).
    pub fn choose(&mut self, count: usize, end: usize) -> Vec<usize> {
        if count >= end {
            return (0..end).collect();
        }
        let mut chosen = std::collections::BTreeSet::new();
        for last in end - count..end {
            let pick = self.below(last + 1);
            if !chosen.insert(pick) {
                chosen.insert(last);
            }
        }
        chosen.into_iter().collect()
    }
}
