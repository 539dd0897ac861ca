//! Second moments that several processes gather together: each adds blocks of its own.

use slq_reduce::Reducer;

use super::gram::{Folds, Gram, Kept, PANEL, Store};
use crate::error::CalibrateError;
use crate::processes::{gather_any, sum_all};

/// What all processes take from the first block: without it, their sums would be in other units.
#[derive(Debug, Clone, PartialEq)]
pub struct Start {
    shift: Vec<f32>,
    units: Vec<f32>,
}

impl Start {
    /// As bytes for other processes.
    pub fn bytes(&self) -> Vec<u8> {
        let length = self.shift.len() as u64;
        let values = self.shift.iter().chain(&self.units).flat_map(|v| v.to_le_bytes());
        length.to_le_bytes().into_iter().chain(values).collect()
    }

    /// Back from [`bytes`](Self::bytes).
    pub fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let (length, values) = bytes.split_first_chunk()?;
        let values = floats(values);
        let (shift, units) = values.split_at_checked(u64::from_le_bytes(*length) as usize)?;
        Some(Self { shift: shift.to_vec(), units: units.to_vec() })
    }
}

fn floats(bytes: &[u8]) -> Vec<f32> {
    bytes.chunks_exact(4).map(|b| b.try_into().map_or(f32::NAN, f32::from_le_bytes)).collect()
}

impl Gram<'_> {
    /// What the first block has set; `None` before it.
    pub fn start(&self) -> Option<Start> {
        let units = match &self.store {
            Store::Dense { spread, .. } => spread.units.clone(),
            Store::Span(_) => Vec::new(),
        };
        self.begun.then(|| Start { shift: self.shift.clone(), units })
    }

    /// Takes what the first block has set in another process, before any block is added.
    pub fn begin(&mut self, start: Start) {
        if start.shift.len() != self.shift.len() {
            return;
        }
        self.shift = start.shift;
        if let Store::Dense { spread, .. } = &mut self.store {
            spread.units = start.units;
        }
        self.begun = true;
    }

    /// Sets the number of the next block among those of all processes: every other one belongs to the half that is checked
    /// against the other.
    pub fn seek(&mut self, number: usize) {
        self.next = number;
    }

    /// Joins what all processes have gathered; all have the same bits behind it. Sums are added in double precision in the order
    /// of the ranks, samples that are kept stand in the order of their blocks.
    ///
    /// # Errors
    /// [`CalibrateError::Reduce`].
    pub fn join(&mut self, reducer: &dyn Reducer) -> Result<(), CalibrateError> {
        if reducer.size() == 1 {
            return Ok(());
        }
        let wishes = matches!(&self.store, Store::Dense { wish: Some(_), .. });
        let [blocks, all, even] = [self.blocks, self.samples[0], self.samples[1]].map(|n| n as f64);
        let mut counts = [blocks, all, even, f64::from(u8::from(wishes))];
        reducer.sum(&mut counts)?;
        self.blocks = counts[0] as usize;
        self.samples = [counts[1] as usize, counts[2] as usize];
        let rows = [&mut self.inputs, &mut self.wishes].into_iter();
        let rows = rows.flat_map(|r| [r.all.as_mut_slice(), r.even.as_mut_slice()]);
        sum_all(reducer, rows.chain([self.outputs.as_flattened_mut()]))?;
        let (n, weights) = (self.shape.columns, self.shape.weights());
        match &mut self.store {
            Store::Span(kept) => *kept = in_order(kept, reducer)?,
            Store::Dense { h, wish, spread } => {
                sum_all(reducer, [std::slice::from_mut(&mut spread.squares)])?;
                sum_all(reducer, panels(&mut h.all, n))?;
                sum_all(reducer, panels(&mut h.even, n))?;
                if counts[3] > 0.0 {
                    let wish = wish.get_or_insert_with(|| Folds::zeros(weights));
                    sum_all(reducer, [wish.all.as_mut_slice()])?;
                    sum_all(reducer, [wish.even.as_mut_slice()])?;
                }
            }
        }
        Ok(())
    }
}

/// The parts of the rows of each group's square that are computed: from the panel on the diagonal to the right.
fn panels<T>(squares: &mut [T], n: usize) -> impl Iterator<Item = &mut [T]> {
    squares.chunks_exact_mut(n).enumerate().map(move |(row, values)| &mut values[row % n / PANEL * PANEL..])
}

/// The kept blocks of all processes.
fn in_order(own: &[Kept], reducer: &dyn Reducer) -> Result<Vec<Kept>, CalibrateError> {
    let mut bytes = Vec::new();
    for block in own {
        let wish = block.wish.as_deref().unwrap_or_default();
        for count in [block.number, block.samples, block.now.len(), wish.len()] {
            bytes.extend((count as u64).to_le_bytes());
        }
        bytes.extend(block.now.iter().chain(wish).flat_map(|v| v.to_le_bytes()));
    }
    let mut blocks = Vec::new();
    for bytes in gather_any(reducer, bytes)? {
        let mut rest = bytes.as_slice();
        while let Some((head, values)) = rest.split_at_checked(32) {
            let count =
                |at: usize| head[8 * at..8 * at + 8].try_into().map_or(0, u64::from_le_bytes) as usize;
            let Some((now, values)) = values.split_at_checked(4 * count(2)) else { break };
            let Some((wish, others)) = values.split_at_checked(4 * count(3)) else { break };
            let wish = (!wish.is_empty()).then(|| floats(wish));
            blocks.push(Kept { number: count(0), samples: count(1), now: floats(now), wish });
            rest = others;
        }
    }
    blocks.sort_by_key(|b| b.number);
    Ok(blocks)
}
