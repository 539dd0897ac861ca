//! Training of centroids: codes stay, the shared values move (Han et al., "Deep Compression", ICLR 2016, section
//! 3.3: the gradient of a centroid is the sum of its members' gradients).

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use slq_codebook::halve;
use slq_engine::{CentroidRule, CentroidStep, Executor, mean_gradients};
use slq_graph::{Graph, Palette};

use super::state::store_palette;
use crate::error::CompressError;
use crate::train::{Between, TrainingSettings};

/// The codebooks of one weight while they are trained. Centroids at zero stay there: pruned weights remain pruned.
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
    /// Whether its centroids were 16-bit floats, as which they will be stored again.
    half: bool,
}

/// All fully fixed codebooks of a network in training.
#[derive(Debug)]
pub(crate) struct Centroids {
    books: Vec<Book>,
    momentum: f64,
    rule: CentroidRule,
    /// Batches of a step, whose gradients come summed.
    batches: f64,
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
        let Some(rule) = settings.rule.for_centroids() else {
            let reason = "shared values are trained by SGD with momentum alone".into();
            return Err(CompressError::Setting { name: "update-rule", reason });
        };
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
                half: palette.has_half_codebooks(),
                weight,
            });
        }
        let batches = settings.iter_size.max(1) as f64;
        Ok(Self { books, momentum: settings.momentum, rule, batches })
    }

    /// After an ordinary step: puts the weights back to their centroids, moved by the step's gradients.
    ///
    /// # Errors
    /// [`CompressError::Engine`] where the executor holds no gradient.
    pub(crate) fn step(&mut self, executor: &mut dyn Executor, rate: f32) -> Result<(), CompressError> {
        for book in &mut self.books {
            let groups = book.values.len() / book.size;
            let means = mean_gradients(&book.codes, executor.gradient(&book.weight)?, groups, book.size);
            let learning_rate = f64::from(rate) * book.rate / self.batches;
            let step = CentroidStep { learning_rate, momentum: self.momentum, rule: self.rule };
            step.apply(&mut book.values, &mut book.velocity, &means);
            executor.set_parameter(&book.weight, &book.decode())?;
        }
        Ok(())
    }

    /// Writes the codebooks into the graph's palettes and weights. Those that were 16-bit floats before are rounded to such, in
    /// the executor too.
    ///
    /// # Errors
    /// [`CompressError::Graph`] for a centroid that is no number.
    pub(crate) fn finish(
        mut self,
        graph: &mut Graph,
        executor: &mut dyn Executor,
    ) -> Result<(), CompressError> {
        for book in self.books.iter_mut().filter(|b| b.half) {
            if halve(&mut book.values, book.size) {
                executor.set_parameter(&book.weight, &book.decode())?;
            }
        }
        self.store(graph)
    }
}

/// One codebook under way, every number by its bits.
#[derive(Serialize, Deserialize)]
struct BookState {
    values: Vec<u32>,
    velocity: Vec<u64>,
}

impl Between for Centroids {
    fn after_step(&mut self, executor: &mut dyn Executor, rate: f32) -> Result<(), CompressError> {
        self.step(executor, rate)
    }

    fn store(&self, graph: &mut Graph) -> Result<(), CompressError> {
        for book in &self.books {
            let groups = book.values.len() / book.size;
            let palette = Palette::fully_fixed(book.values.clone(), groups, book.codes.clone())?;
            store_palette(graph, &book.weight, palette);
        }
        Ok(())
    }

    fn state(&self) -> Value {
        let book = |b: &Book| BookState {
            values: b.values.iter().map(|v| v.to_bits()).collect(),
            velocity: b.velocity.iter().map(|v| v.to_bits()).collect(),
        };
        json!(self.books.iter().map(book).collect::<Vec<_>>())
    }

    fn restore(&mut self, state: Value) -> Result<(), CompressError> {
        let bad = |reason: String| CompressError::MethodState { reason };
        let books: Vec<BookState> = serde_json::from_value(state).map_err(|e| bad(e.to_string()))?;
        let fits = |(book, kept): (&Book, &BookState)| {
            book.values.len() == kept.values.len() && book.velocity.len() == kept.velocity.len()
        };
        if books.len() != self.books.len() || !self.books.iter().zip(&books).all(fits) {
            return Err(bad("it has other codebooks".into()));
        }
        for (book, kept) in self.books.iter_mut().zip(books) {
            book.values = kept.values.into_iter().map(f32::from_bits).collect();
            book.velocity = kept.velocity.into_iter().map(f64::from_bits).collect();
        }
        Ok(())
    }
}

impl Book {
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
            half: false,
        }
    }

    #[test]
    fn each_group_decodes_with_its_own_codebook() {
        assert_eq!(book().decode(), [0.0, 1.0, 1.0, 2.0, 0.0, 0.0]);
    }

    /// LeNet with three values in its last layer, whose name is given, too.
    fn shared() -> (Graph, String) {
        let mut graph = slq_zoo::build("lenet", 0).unwrap();
        let name = graph.quantizable()[3].weight.clone();
        let count = graph.weights[&name].tensor.len();
        let codes: Vec<u8> = (0..count).map(|i| (i % 3) as u8).collect();
        let palette = Palette::fully_fixed(vec![0.0, 0.05, -0.05], 1, codes).unwrap();
        store_palette(&mut graph, &name, palette);
        (graph, name)
    }

    #[test]
    fn halves_of_a_batch_move_centroids_as_the_whole_does() {
        use slq_engine::{CpuExecutor, EngineOptions, StepSettings, Target};
        let (graph, name) = shared();
        let images: Vec<f32> = (0..4 * 784).map(|i| (i % 23) as f32 / 23.0).collect();
        let moved = |iter_size: usize| {
            let batch = 4 / iter_size;
            let mut executor = CpuExecutor::new(&graph, batch, &EngineOptions::default()).unwrap();
            let settings = TrainingSettings { iter_size, ..TrainingSettings::default() };
            let mut centroids =
                Centroids::begin(&graph, [name.clone()].into_iter(), &settings, &mut executor).unwrap();
            let step = StepSettings { learning_rate: 0.05, iter_size, ..StepSettings::default() };
            for _ in 0..3 {
                for (part, labels) in [1, 2, 3, 4].chunks(batch).enumerate() {
                    let images = &images[part * batch * 784..][..batch * 784];
                    if part + 1 == iter_size {
                        executor.train_step(images, Target::Labels(labels), &step).unwrap();
                    } else {
                        executor.accumulate(images, Target::Labels(labels)).unwrap();
                    }
                }
                centroids.step(&mut executor, 0.05).unwrap();
            }
            centroids.books[0].values.clone()
        };
        let (whole, halves) = (moved(1), moved(2));
        assert!((whole[1] - 0.05).abs() > 1e-4, "{whole:?}");
        assert!(whole.iter().zip(&halves).all(|(a, b)| (a - b).abs() < 1e-5), "{whole:?} {halves:?}");
    }

    #[test]
    fn a_step_moves_centroids_down_the_gradient_and_leaves_zero() {
        use slq_engine::{CpuExecutor, EngineOptions, StepSettings, Target};
        let (mut graph, name) = shared();
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
        centroids.finish(&mut graph, &mut executor).unwrap();
        let weight = &graph.weights[&name];
        let palette = weight.palette.as_ref().unwrap();
        assert_eq!(weight.tensor.as_f32().unwrap(), palette.decode());
        assert_eq!(palette.codebook()[0], 0.0);
        assert!(palette.codebook()[1] != 0.05 && palette.codebook()[2] != -0.05);
    }
}
