//! Training of centroids: codes stay, the shared values move (Han et al., "Deep Compression", ICLR 2016, section
//! 3.3: the gradient of a centroid is the sum of its members' gradients).

use slq_engine::{Executor, UpdateRule};
use slq_graph::{Graph, Palette};

use super::state::store_palette;
use crate::error::CompressError;
use crate::train::TrainingSettings;

/// The codebooks of one weight while they are trained.
///
/// A centroid moves by the sum of its members' gradients times the rate over the number of members. This is the part
/// of an ordinary step on the members that leaves them equal, so the rate means what it means for free weights,
/// whatever the size of the cluster. Centroids at zero stay there: pruned weights remain pruned.
#[derive(Debug)]
struct Book {
    weight: String,
    rate: f64,
    /// Centroids of all groups.
    values: Vec<f32>,
    velocity: Vec<f64>,
    size: usize,
    run: usize,
    codes: Vec<u8>,
}

/// All fully fixed codebooks of a network in training.
#[derive(Debug)]
pub(crate) struct Centroids {
    books: Vec<Book>,
    momentum: f64,
    rule: UpdateRule,
}

impl Centroids {
    /// The codebooks of `weights`, whose palettes must be fully fixed; frees their weights in the executor, so
    /// that steps give their gradients.
    ///
    /// # Errors
    /// [`CompressError::Engine`] for a weight the executor does not know; [`CompressError::Setting`] for an update rule
    /// other than SGD's.
    pub(crate) fn begin(
        graph: &Graph,
        weights: impl Iterator<Item = String>,
        settings: &TrainingSettings,
        executor: &mut dyn Executor,
    ) -> Result<Self, CompressError> {
        if !matches!(settings.rule, UpdateRule::Caffe | UpdateRule::PyTorch) {
            let reason = "shared values are tuned by SGD with momentum alone".into();
            return Err(CompressError::Setting { name: "update-rule", reason });
        }
        let mut books = Vec::new();
        for weight in weights {
            let entry = &graph.weights[&weight];
            let Some(palette) = entry.palette.as_ref().filter(|p| p.is_fully_fixed()) else { continue };
            executor.set_mask(&weight, None)?;
            books.push(Book {
                rate: f64::from(entry.rates.lr_mult),
                values: palette.codebook().to_vec(),
                velocity: vec![0.0; palette.codebook().len()],
                size: palette.codebook_size(),
                run: (palette.codes().len() / palette.groups()).max(1),
                codes: palette.codes().to_vec(),
                weight,
            });
        }
        Ok(Self { books, momentum: settings.momentum, rule: settings.rule })
    }

    /// After an ordinary step: puts the weights back to their centroids, moved by the step's gradients.
    ///
    /// # Errors
    /// [`CompressError::Engine`] where the executor holds no gradient.
    pub(crate) fn step(&mut self, executor: &mut dyn Executor, rate: f32) -> Result<(), CompressError> {
        for book in &mut self.books {
            let means = book.mean_gradients(executor.gradient(&book.weight)?);
            let rate = f64::from(rate) * book.rate;
            for ((value, velocity), mean) in book.values.iter_mut().zip(&mut book.velocity).zip(means) {
                if *value == 0.0 {
                    continue;
                }
                let change = match self.rule {
                    UpdateRule::PyTorch => {
                        *velocity = self.momentum * *velocity + mean;
                        rate * *velocity
                    }
                    // The other rules have been refused.
                    _ => {
                        *velocity = self.momentum * *velocity + rate * mean;
                        *velocity
                    }
                };
                *value = (f64::from(*value) - change) as f32;
            }
            executor.set_parameter(&book.weight, &book.decode())?;
        }
        Ok(())
    }

    /// Writes the codebooks into the graph's palettes and weights.
    ///
    /// # Errors
    /// [`CompressError::Graph`] for a centroid that is no number.
    pub(crate) fn finish(self, graph: &mut Graph) -> Result<(), CompressError> {
        for book in self.books {
            let groups = book.values.len() / book.size;
            let palette = Palette::fully_fixed(book.values, groups, book.codes)?;
            store_palette(graph, &book.weight, palette);
        }
        Ok(())
    }
}

impl Book {
    /// Mean gradient of the members of every centroid; zero for one without members.
    fn mean_gradients(&self, gradient: &[f32]) -> Vec<f64> {
        let mut sums = vec![(0.0, 0u64); self.values.len()];
        for (group, (codes, gradient)) in
            self.codes.chunks(self.run).zip(gradient.chunks(self.run)).enumerate()
        {
            let sums = &mut sums[group * self.size..][..self.size];
            for (&code, &g) in codes.iter().zip(gradient) {
                let (sum, count) = &mut sums[usize::from(code)];
                *sum += f64::from(g);
                *count += 1;
            }
        }
        sums.into_iter().map(|(sum, count)| sum / count.max(1) as f64).collect()
    }

    fn decode(&self) -> Vec<f32> {
        let books = self.values.chunks_exact(self.size);
        let runs = self.codes.chunks(self.run);
        books.zip(runs).flat_map(|(book, codes)| codes.iter().map(|&c| book[usize::from(c)])).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn book() -> Book {
        Book {
            weight: "w".into(),
            rate: 1.0,
            values: vec![0.0, 1.0, 0.0, 2.0],
            velocity: vec![0.0; 4],
            size: 2,
            run: 3,
            codes: vec![0, 1, 1, 1, 0, 0],
        }
    }

    #[test]
    fn gradients_are_averaged_over_the_members_of_each_groups_centroids() {
        let means = book().mean_gradients(&[9.0, 1.0, 3.0, 5.0, 7.0, 7.0]);
        assert_eq!(means, [9.0, 2.0, 7.0, 5.0]);
        assert_eq!(book().decode(), [0.0, 1.0, 1.0, 2.0, 0.0, 0.0]);
    }

    #[test]
    fn a_step_moves_centroids_down_the_gradient_and_leaves_zero() {
        use slq_engine::{CpuExecutor, EngineOptions, StepSettings, Target};
        let mut graph = slq_zoo::build("lenet", 0).unwrap();
        let name = graph.quantizable()[3].weight.clone();
        let count = graph.weights[&name].tensor.len();
        let codes: Vec<u8> = (0..count).map(|i| (i % 3) as u8).collect();
        let palette = Palette::fully_fixed(vec![0.0, 0.05, -0.05], 1, codes).unwrap();
        store_palette(&mut graph, &name, palette);
        let mut executor = CpuExecutor::new(&graph, 4, &EngineOptions::default()).unwrap();
        let images: Vec<f32> = (0..4 * 784).map(|i| (i % 17) as f32 / 17.0).collect();
        let labels = Target::Labels(&[1, 2, 3, 4]);
        let settings = TrainingSettings { weight_decay: 0.0, ..TrainingSettings::default() };
        let mut centroids =
            Centroids::begin(&graph, [name.clone()].into_iter(), &settings, &mut executor).unwrap();
        let before = executor.evaluate(&images, Some(labels)).unwrap().loss;
        let step = StepSettings { learning_rate: 0.05, ..StepSettings::default() };
        for _ in 0..20 {
            executor.train_step(&images, labels, &step).unwrap();
            centroids.step(&mut executor, 0.05).unwrap();
        }
        let after = executor.evaluate(&images, Some(labels)).unwrap().loss;
        assert!(after < before, "{before} to {after}");
        executor.store_parameters(&mut graph).unwrap();
        centroids.finish(&mut graph).unwrap();
        let weight = &graph.weights[&name];
        let palette = weight.palette.as_ref().unwrap();
        assert_eq!(weight.tensor.as_f32().unwrap(), palette.decode());
        assert_eq!(palette.codebook()[0], 0.0);
        assert!(palette.codebook()[1] != 0.05 && palette.codebook()[2] != -0.05);
    }
}
