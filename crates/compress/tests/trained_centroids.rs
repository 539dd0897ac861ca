//! Centroids of layers that are fixed as a whole go on training where that is asked for; codes and zeros stay.

use std::time::Duration;

use slq_compress::{Length, Method, MlqSettings, Quantize, Recipe, RunOptions, Silent, TrainingData, run};
use slq_data::{Dataset, Transform};
use slq_graph::{Graph, Palette, Weight};

fn data() -> TrainingData {
    let sample = Dataset::named("mnist-10k").unwrap();
    let (train, test) = (sample.train.subset("::20").unwrap(), sample.test.subset("::20").unwrap());
    let transform = Transform { scale: Some(1.0 / 255.0), ..Transform::default() };
    TrainingData { train, validation: None, test, transform, following: None }
}

fn ternary(train_centroids: bool, dir: &std::path::Path) -> Graph {
    let mlq = MlqSettings { train_centroids, layers_per_step: 2, ..MlqSettings::default() };
    let settings = Quantize { codebook_size: Some(3), ..Quantize::new(Method::Mlq(mlq), 2) };
    let settings = settings.training(|t| {
        (t.length, t.batch, t.learning_rate) = (Length::Iterations(5), 20, 0.02);
    });
    let graph = slq_zoo::build("lenet", 5).unwrap();
    let options = RunOptions {
        run_dir: Some(dir),
        checkpoint_every: Duration::from_secs(1000),
        ..RunOptions::default()
    };
    run(graph, Some(&data()), &Recipe::new(settings), options, &mut Silent).unwrap().graph
}

fn palette(weight: &Weight) -> Palette {
    weight.palette.clone().unwrap()
}

#[test]
fn codes_stay_and_centroids_move_from_the_round_that_fixes_a_layer_on() {
    let dirs = [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()];
    let [still, trained] = [false, true].map(|t| ternary(t, dirs[usize::from(t)].path()));
    // The first two layers are fixed in the second of four rounds; until then both jobs are the same.
    let after = |round: usize, job: usize| {
        slq_safetensors::read(&dirs[job].path().join(format!("1-quantize/round-{round}.safetensors")))
            .unwrap()
    };
    let first = still.quantizable().into_iter().map(|q| q.weight).find(|name| {
        let weights = after(2, 0);
        weights[name].palette.as_ref().is_some_and(Palette::is_fully_fixed)
    });
    let first = first.unwrap();
    assert_eq!(after(1, 0)[&first].tensor, after(1, 1)[&first].tensor);
    let [before, after] = [palette(&after(2, 0)[&first]), palette(&trained.weights[&first])];
    assert_eq!(before.codebook(), palette(&still.weights[&first]).codebook());
    assert_eq!(before.codes(), after.codes());
    assert_eq!(after.codebook()[0], 0.0);
    assert!(before.codebook()[1] != after.codebook()[1] && before.codebook()[2] != after.codebook()[2]);
    assert_eq!(trained.weights[&first].tensor.as_f32().unwrap(), after.decode());
}
