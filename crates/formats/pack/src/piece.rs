//! Parts of sections, and the choice of which streams are adaptive.

use crate::entropy::draft::Draft;

/// A part of a section.
#[derive(Debug)]
pub(crate) enum Piece {
    Bytes(Vec<u8>),
    Stream(Draft),
}

/// How much the writer tries, and how slow reading may become.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Effort {
    /// Static coding only: the file is written and read at full speed.
    Fast,
    /// Adaptive coding where it saves most, as long as reading all weights takes less than 0.1
    /// seconds more on one core.
    #[default]
    Balanced,
    /// Adaptive coding wherever it saves a byte. Large networks take seconds to minutes to write and to read.
    Smallest,
}

/// Decisions that [`Effort::Balanced`] allows for all weights together.
const DECISIONS: u64 = 3 << 19;
/// The part of a stream's bytes that an adaptive one must save to be worth its time.
const WORTH: usize = 100;

impl Effort {
    /// Binary decisions that reading all weights may take.
    pub(crate) fn decisions(self) -> u64 {
        match self {
            Effort::Fast => 0,
            Effort::Balanced => DECISIONS,
            Effort::Smallest => u64::MAX,
        }
    }
}

/// The bytes of each section, and the decisions that reading them takes.
pub(crate) fn choose(sections: Vec<Vec<Piece>>, effort: Effort) -> (Vec<Vec<u8>>, u64) {
    let saving = |draft: &Draft| {
        let adaptive = draft.adaptive.as_ref()?;
        let saved = draft.plain.len().saturating_sub(adaptive.bytes.len());
        let worth = effort == Effort::Smallest || saved * WORTH >= draft.plain.len();
        (saved > 0 && worth).then_some((saved as u128, u128::from(adaptive.decisions)))
    };
    let mut wanted = Vec::new();
    for (s, pieces) in sections.iter().enumerate() {
        for (p, piece) in pieces.iter().enumerate() {
            let Piece::Stream(draft) = piece else { continue };
            wanted.extend(saving(draft).map(|(saved, decisions)| (saved, decisions, (s, p))));
        }
    }
    // The most bytes for a decision first; in the order of the file where that is equal.
    wanted.sort_by(|a, b| (b.0 * a.1).cmp(&(a.0 * b.1)).then(a.2.cmp(&b.2)));
    let (mut taken, mut decisions) = (std::collections::HashSet::new(), 0u64);
    for (_, cost, at) in wanted {
        let cost = u64::try_from(cost).unwrap_or(u64::MAX);
        if decisions.saturating_add(cost) <= effort.decisions() {
            decisions += cost;
            taken.insert(at);
        }
    }
    let bytes = |(s, pieces): (usize, Vec<Piece>)| {
        let mut section = Vec::new();
        for (p, piece) in pieces.into_iter().enumerate() {
            section.extend(match piece {
                Piece::Bytes(bytes) => bytes,
                Piece::Stream(Draft { adaptive: Some(adaptive), .. }) if taken.contains(&(s, p)) => {
                    adaptive.bytes
                }
                Piece::Stream(draft) => draft.plain,
            });
        }
        section
    };
    (sections.into_iter().enumerate().map(bytes).collect(), decisions)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::entropy::draft::Adaptive;

    fn stream(plain: usize, adaptive: usize, decisions: u64) -> Piece {
        let adaptive = Adaptive { bytes: vec![1; adaptive], decisions };
        Piece::Stream(Draft { plain: vec![0; plain], adaptive: Some(adaptive) })
    }

    fn lengths(effort: Effort) -> (Vec<usize>, u64) {
        let sections = vec![
            vec![Piece::Bytes(vec![7; 3]), stream(1000, 900, DECISIONS / 2)],
            vec![stream(1000, 600, DECISIONS)], // saves the most, and no time is left for it
            vec![stream(1000, 995, 10)],        // saves too little
            vec![stream(1000, 980, 10)],
            vec![stream(10, 10, 0), Piece::Stream(Draft { plain: vec![0; 5], adaptive: None })],
        ];
        let (bytes, decisions) = choose(sections, effort);
        (bytes.iter().map(Vec::len).collect(), decisions)
    }

    #[test]
    fn adaptive_streams_are_taken_where_they_are_worth_their_time() {
        assert_eq!(lengths(Effort::Fast), (vec![1003, 1000, 1000, 1000, 15], 0));
        assert_eq!(lengths(Effort::Balanced), (vec![903, 1000, 1000, 980, 15], DECISIONS / 2 + 10));
        let all = DECISIONS + DECISIONS / 2 + 20;
        assert_eq!(lengths(Effort::Smallest), (vec![903, 600, 995, 980, 15], all));
    }
}
