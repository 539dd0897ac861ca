//! Jobs of several processes, which here are threads: the same bits everywhere and on repetition, and resumed by another
//! number of them.

use std::path::Path;

use slq_compress::{
    CompressError, Decompose, Event, FineTune, Length, Method, MlqSettings, Observer, Outcome, Quantize,
    RankChoice, Recipe, RunOptions, Scheme, TrainingData, TrainingSettings, TrpSettings, Tune, run,
};
use slq_data::{Dataset, Transform};
use slq_graph::Graph;
use slq_reduce::{Alone, Reducer, threads};

fn data() -> TrainingData {
    let sample = Dataset::named("mnist-10k").unwrap();
    let (train, test) = (sample.train.subset("::20").unwrap(), sample.test.subset("::20").unwrap());
    TrainingData {
        train,
        validation: None,
        test,
        transform: Transform { scale: Some(1.0 / 255.0), ..Transform::default() },
        following: None,
    }
}

fn training(iterations: u64) -> TrainingSettings {
    let length = Length::Iterations(iterations);
    TrainingSettings { length, batch: 20, learning_rate: 0.02, ..TrainingSettings::default() }
}

/// A stage of every kind that trains.
fn recipes() -> Vec<Recipe> {
    let trp = TrpSettings { training: training(6), period: 3, ..TrpSettings::default() };
    let decompose = Decompose {
        trp: Some(trp),
        fine_tune: Some(training(3)),
        ..Decompose::new(Scheme::Spatial, RankChoice::Macs(1.8))
    };
    let quantize = Quantize::slq(3).training(|t| *t = training(5));
    let tune = Tune { training: training(4) };
    let mlq = MlqSettings { train_centroids: true, layers_per_step: 4, ..MlqSettings::default() };
    let ternary = Quantize { codebook_size: Some(3), ..Quantize::new(Method::Mlq(mlq), 2) };
    vec![
        Recipe::new(FineTune { training: training(6) }).then(quantize).then(tune),
        Recipe::new(decompose),
        Recipe::new(ternary.training(|t| *t = training(6))),
    ]
}

/// Asks to stop after some steps of the whole job.
struct StopAfter(u64);

impl Observer for StopAfter {
    fn on(&mut self, event: &Event<'_>) {
        if let Event::Step { .. } = event {
            self.0 = self.0.saturating_sub(1);
        }
    }

    fn stop(&mut self) -> bool {
        self.0 == 0
    }
}

fn one(
    recipe: &Recipe,
    dir: Option<&Path>,
    reducer: &dyn Reducer,
    stop: u64,
) -> Result<Outcome, CompressError> {
    let graph = slq_zoo::build("lenet", 5).unwrap();
    let every = std::time::Duration::from_secs(1000);
    let options = RunOptions { run_dir: dir, checkpoint_every: every, reducer, ..RunOptions::default() };
    run(graph, Some(&data()), recipe, options, &mut StopAfter(stop))
}

/// The outcome on every rank; only the first is asked to stop after `stop` steps.
fn all(
    recipe: &Recipe,
    size: usize,
    dirs: &[tempfile::TempDir],
    stop: u64,
) -> Vec<Result<Outcome, CompressError>> {
    std::thread::scope(|scope| {
        let ranks: Vec<_> = threads(size)
            .into_iter()
            .map(|rank| {
                let dir = dirs.get(rank.rank()).map(tempfile::TempDir::path);
                let stop = if rank.rank() == 0 { stop } else { u64::MAX };
                scope.spawn(move || one(recipe, dir, &rank, stop))
            })
            .collect();
        ranks.into_iter().map(|r| r.join().unwrap()).collect()
    })
}

fn bits(graph: &Graph) -> Vec<u32> {
    let floats = graph.weights.values().flat_map(|w| w.tensor.as_f32().unwrap_or_default());
    let books = graph.weights.values().filter_map(|w| w.palette.as_ref()).flat_map(|p| p.codebook());
    floats.chain(books).map(|v| v.to_bits()).collect()
}

fn whole(recipe: &Recipe, size: usize) -> Vec<u32> {
    let all: Vec<_> = all(recipe, size, &[], u64::MAX).into_iter().map(Result::unwrap).collect();
    let accuracy = |o: &Outcome| o.report.final_accuracy.unwrap();
    for outcome in &all {
        assert!(bits(&outcome.graph) == bits(&all[0].graph), "ranks differ");
        assert_eq!(accuracy(outcome), accuracy(&all[0]));
    }
    bits(&all[0].graph)
}

#[test]
fn a_job_has_the_same_bits_on_every_rank_and_on_repetition() {
    for recipe in recipes() {
        let alone = bits(&one(&recipe, None, Alone::shared(), u64::MAX).unwrap().graph);
        assert!(whole(&recipe, 1) == alone, "one process of a group is a process alone");
        let three = whole(&recipe, 3);
        assert!(three == whole(&recipe, 3), "on repetition");
        assert!(three != alone, "sums over three shares are rounded otherwise");
    }
}

/// Copies a directory.
fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        match entry.file_type().unwrap().is_dir() {
            true => copy(&entry.path(), &target),
            false => drop(std::fs::copy(entry.path(), target).unwrap()),
        }
    }
}

#[test]
fn a_stopped_job_goes_on_with_the_same_bits_or_with_another_number_of_processes() {
    for recipe in recipes() {
        let undisturbed = whole(&recipe, 2);
        for stop in [2, 8] {
            let begun: Vec<_> = (0..2).map(|_| tempfile::tempdir().unwrap()).collect();
            for outcome in all(&recipe, 2, &begun, stop) {
                assert!(matches!(outcome, Err(CompressError::Interrupted)), "{outcome:?}");
            }
            for size in [2, 3] {
                let dirs: Vec<_> = (0..size).map(|_| tempfile::tempdir().unwrap()).collect();
                dirs.iter().for_each(|to| copy(begun[0].path(), to.path()));
                let resumed: Vec<_> = all(&recipe, size, &dirs, u64::MAX)
                    .into_iter()
                    .map(|o| bits(&o.unwrap().graph))
                    .collect();
                assert!(resumed.iter().all(|r| *r == resumed[0]), "ranks differ");
                assert!(size != 2 || resumed[0] == undisturbed, "stopped after {stop} steps");
            }
        }
    }
}

#[test]
fn processes_with_other_files_or_too_many_of_them_are_refused() {
    let recipes = recipes();
    let outcomes: Vec<_> = std::thread::scope(|scope| {
        let ranks: Vec<_> = threads(3)
            .into_iter()
            .map(|rank| {
                let mut recipe = recipes[0].clone();
                recipe.seed = u64::from(rank.rank() == 2);
                scope.spawn(move || one(&recipe, None, &rank, u64::MAX))
            })
            .collect();
        ranks.into_iter().map(|r| r.join().unwrap()).collect()
    });
    for outcome in outcomes {
        assert!(
            matches!(outcome, Err(CompressError::Processes { rank: 2, what: "recipe or seed" })),
            "{outcome:?}"
        );
    }
    for outcome in all(&recipes[0], 21, &[], u64::MAX) {
        let said = outcome.unwrap_err().to_string();
        assert!(said.contains("20 images") && said.contains("21 processes"), "{said}");
    }
}
