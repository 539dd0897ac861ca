//! Codes numbered by the order of their centroids, and back.

/// The order of each group's codebook. Close numbers are close values, whatever the order of the codebook.
pub(crate) struct Order {
    k: usize,
    /// The rank of each code, group after group; empty where every codebook is sorted.
    ranks: Vec<u8>,
    /// The code of each rank.
    codes: Vec<u8>,
    /// The rank of the value next to 0 in each group.
    pub zeros: Vec<u8>,
    /// Codes of one group.
    pub run: usize,
}

impl Order {
    /// The order of codebooks of `k` values each, for `count` codes.
    pub fn new(codebook: &[f32], k: usize, count: usize) -> Self {
        let groups = (codebook.len() / k.max(1)).max(1);
        let sorted = codebook.chunks(k.max(1)).all(|book| book.is_sorted_by(|a, b| a.total_cmp(b).is_le()));
        let (mut ranks, mut codes) = (Vec::new(), Vec::new());
        let mut zeros = Vec::with_capacity(groups);
        for book in codebook.chunks_exact(k.max(1)) {
            let mut order: Vec<u8> = (0..k).map(|code| code as u8).collect();
            if !sorted {
                // Stable: equal values keep their order.
                order.sort_by(|&a, &b| book[usize::from(a)].total_cmp(&book[usize::from(b)]));
                let first = ranks.len();
                ranks.resize(first + k, 0);
                order
                    .iter()
                    .enumerate()
                    .for_each(|(rank, &code)| ranks[first + usize::from(code)] = rank as u8);
            }
            let size = |rank: &usize| book[usize::from(order[*rank])].abs();
            let nearest = (0..k).min_by(|a, b| size(a).total_cmp(&size(b)));
            zeros.push(nearest.unwrap_or_default() as u8);
            if !sorted {
                codes.append(&mut order);
            }
        }
        Self { k, ranks, codes, zeros, run: (count / groups).max(1) }
    }

    /// Turns codes into ranks, in place.
    pub fn rank(&self, codes: &mut [u8]) {
        self.map(&self.ranks, 0, codes);
    }

    /// Turns the ranks of the codes from `start` on into codes, in place.
    pub fn code(&self, start: usize, ranks: &mut [u8]) {
        self.map(&self.codes, start, ranks);
    }

    fn map(&self, table: &[u8], start: usize, symbols: &mut [u8]) {
        if table.is_empty() {
            return;
        }
        let mut symbols = symbols;
        let mut at = start;
        while !symbols.is_empty() {
            let group = at / self.run;
            let length = symbols.len().min((group + 1) * self.run - at);
            let (now, later) = symbols.split_at_mut(length);
            let book = table.get(group * self.k..(group + 1) * self.k).unwrap_or_default();
            now.iter_mut().for_each(|s| *s = book.get(usize::from(*s)).copied().unwrap_or_default());
            (symbols, at) = (later, at + length);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn ranks_follow_the_values() {
        let order = Order::new(&[0.5, -1.0, 0.1, 2.0, 3.0, 1.0], 3, 8);
        assert_eq!(order.zeros, [1, 0]);
        let mut codes = vec![0, 1, 2, 0, 0, 1, 2, 2];
        order.rank(&mut codes);
        assert_eq!(codes, [2, 0, 1, 2, 1, 2, 0, 0]);
        let mut part = codes.split_off(3);
        order.code(3, &mut part);
        assert_eq!(part, [0, 0, 1, 2, 2]);
    }

    #[test]
    fn sorted_codebooks_need_no_table() {
        let order = Order::new(&[-1.0, 0.0, 0.0, 1.0], 4, 4);
        assert!(order.ranks.is_empty());
        assert_eq!(order.zeros, [1]);
    }

    proptest! {
        #[test]
        fn codes_come_back(
            codebook in proptest::collection::vec(-4i8..4, 1..40),
            k in 1usize..9,
            codes in proptest::collection::vec(any::<u8>(), 0..60),
            cut in 0usize..60,
        ) {
            let groups = codebook.len().div_ceil(k);
            let mut codebook: Vec<f32> = codebook.iter().map(|&v| v.into()).collect();
            codebook.resize(groups * k, 0.0);
            let mut codes: Vec<u8> = codes.iter().map(|&c| (usize::from(c) % k) as u8).collect();
            codes.truncate(codes.len() / groups * groups);
            let order = Order::new(&codebook, k, codes.len());
            let mut ranks = codes.clone();
            order.rank(&mut ranks);
            let cut = cut.min(codes.len());
            let (low, high) = ranks.split_at_mut(cut);
            order.code(0, low);
            order.code(cut, high);
            prop_assert_eq!(ranks, codes);
        }
    }
}
