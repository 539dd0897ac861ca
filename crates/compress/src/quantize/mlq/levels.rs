//! The level of each layer between full precision and fully fixed, and which layers are next.

use super::settings::{Advance, MlqSettings};
use crate::error::CompressError;

/// The levels of all layers: 0 is full precision, the last one fully fixed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Levels {
    levels: Vec<usize>,
    last: usize,
    together: usize,
    advance: Advance,
}

impl Levels {
    pub(crate) fn new(layers: usize, last: usize, settings: &MlqSettings) -> Self {
        let together = settings.layers_per_step.clamp(1, layers.max(1));
        Self { levels: vec![0; layers], last, together, advance: settings.advance }
    }

    /// Steps from all layers free to all fixed.
    pub(crate) fn steps(&self) -> usize {
        self.last * self.levels.len().div_ceil(self.together)
    }

    /// The level of a layer.
    pub(crate) fn of(&self, layer: usize) -> usize {
        self.levels[layer]
    }

    /// The layers among which the next step chooses, in network order.
    pub(crate) fn candidates(&self) -> Vec<usize> {
        let at = |wanted: &dyn Fn(usize) -> bool| {
            (0..self.levels.len()).filter(|&l| wanted(self.levels[l])).collect::<Vec<_>>()
        };
        if self.advance == Advance::Layer {
            let begun = at(&|level| level > 0 && level < self.last);
            if !begun.is_empty() {
                return begun;
            }
        }
        let lowest = self.levels.iter().copied().min().unwrap_or(0);
        if lowest == self.last { Vec::new() } else { at(&|level| level == lowest) }
    }

    /// Whether all candidates go in this step.
    pub(crate) fn must_go(&self) -> bool {
        self.candidates().len() <= self.together
    }

    /// Moves a layer up by one level.
    pub(crate) fn advance(&mut self, layer: usize) {
        self.levels[layer] = (self.levels[layer] + 1).min(self.last);
    }

    /// All levels, for the checkpoint.
    pub(crate) fn to_vec(&self) -> Vec<usize> {
        self.levels.clone()
    }

    /// Restores the levels of a checkpoint.
    ///
    /// # Errors
    /// [`CompressError::MethodState`] for levels of other layers.
    pub(crate) fn load(&mut self, levels: &[usize]) -> Result<(), CompressError> {
        if levels.len() != self.levels.len() || levels.iter().any(|&l| l > self.last) {
            let reason = format!(
                "{} levels up to {} do not fit {} layers",
                levels.len(),
                self.last,
                self.levels.len()
            );
            return Err(CompressError::MethodState { reason });
        }
        self.levels = levels.to_vec();
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn levels(layers: usize, last: usize, layers_per_step: usize, advance: Advance) -> Levels {
        Levels::new(layers, last, &MlqSettings { layers_per_step, advance, ..MlqSettings::default() })
    }

    /// The layers that each step advances when the first candidates always go.
    fn walk(mut levels: Levels) -> Vec<Vec<usize>> {
        let together = levels.together;
        (0..levels.steps())
            .map(|_| {
                let chosen: Vec<usize> = levels.candidates().into_iter().take(together).collect();
                chosen.iter().for_each(|&l| levels.advance(l));
                chosen
            })
            .collect()
    }

    #[test]
    fn a_layer_is_finished_before_the_next_or_a_level_is() {
        assert_eq!(walk(levels(2, 2, 1, Advance::Layer)), [[0], [0], [1], [1]]);
        assert_eq!(walk(levels(2, 2, 1, Advance::Level)), [[0], [1], [0], [1]]);
        assert_eq!(walk(levels(3, 2, 2, Advance::Layer)), [vec![0, 1], vec![0, 1], vec![2], vec![2]]);
    }

    #[test]
    fn levels_of_another_network_are_refused() {
        let mut two = levels(2, 2, 1, Advance::Layer);
        assert!(two.load(&[1]).is_err() && two.load(&[3, 0]).is_err());
        two.load(&[2, 1]).unwrap();
        assert_eq!((two.candidates(), two.to_vec()), (vec![1], vec![2, 1]));
    }

    proptest! {
        #[test]
        fn the_walk_ends_with_every_layer_at_its_last_level(
            layers in 1usize..9, last in 1usize..4, together in 1usize..10, by_layer: bool,
        ) {
            let advance = if by_layer { Advance::Layer } else { Advance::Level };
            let levels = levels(layers, last, together, advance);
            let steps = walk(levels.clone());
            prop_assert!(steps.iter().all(|s| !s.is_empty()));
            let mut end = levels;
            steps.iter().flatten().for_each(|&l| end.advance(l));
            prop_assert!(end.candidates().is_empty());
            prop_assert_eq!(steps.iter().flatten().count(), layers * last);
        }
    }
}
