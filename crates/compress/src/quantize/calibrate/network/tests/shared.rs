//! Calibrations that several processes, here threads, share out.

use slq_engine::EngineError;
use slq_reduce::Reducer;

use super::*;
use crate::inputs::{InputError, Origin};

/// What every process finds.
fn shared(
    size: usize,
    (graph, layers, options): (&Graph, &[LayerSpec], &NetworkOptions),
    inputs: &(dyn Inputs + Sync),
) -> Vec<Result<State, CalibrateError>> {
    std::thread::scope(|scope| {
        let ranks = slq_reduce::threads(size).into_iter().map(|reducer| {
            scope.spawn(move || {
                let mut state = State::new(graph);
                let job = Job { float: graph, layers, inputs, options, rises: &[], reducer: &reducer };
                calibrate(&job, &mut state, &mut |_| Ok(())).map(|()| state)
            })
        });
        let ranks: Vec<_> = ranks.collect();
        ranks.into_iter().map(|r| r.join().unwrap()).collect()
    })
}

/// The share of codes that differ, and the largest difference of a weight relative to the largest weight of its tensor.
fn apart(a: &State, b: &State) -> (f64, f32) {
    let (mut codes, mut others, mut most) = (0, 0, 0.0f32);
    for (a, b) in a.graph.weights.values().zip(b.graph.weights.values()) {
        if let (Some(a), Some(b)) = (&a.palette, &b.palette) {
            codes += a.codes().len();
            others += a.codes().iter().zip(b.codes()).filter(|(a, b)| a != b).count();
        }
        let (Some(a), Some(b)) = (a.tensor.as_f32(), b.tensor.as_f32()) else { continue };
        let largest = a.iter().fold(f32::MIN_POSITIVE, |m, v| m.max(v.abs()));
        most = a.iter().zip(b).fold(most, |m, (a, b)| m.max((a - b).abs() / largest));
    }
    (others as f64 / codes as f64, most)
}

/// Sums of several processes are rounded otherwise than those of one; what comes out is as good, and mostly the same.
#[test]
fn several_processes_share_the_batches_out() {
    let graph = network();
    let layers = layers(&graph, 4, Books::Rows(1));
    // Samples whose second moments are summed, and so few that they are kept themselves; batches for all and for some.
    for (sizes, positions) in [(&[5, 5, 5, 5, 2][..], 20), (&[4, 4], 20), (&[2, 1, 1], 2)] {
        let inputs = images(sizes);
        for memory in [1 << 30, 0] {
            let options = NetworkOptions { memory, positions, ..options() };
            let alone = run(&graph, &layers, &inputs, &options);
            for size in [2, 3] {
                let found = shared(size, (&graph, &layers, &options), &inputs);
                let found: Vec<State> = found.into_iter().map(Result::unwrap).collect();
                assert!(found.iter().all(|state| *state == found[0]), "processes differ");
                let again = shared(size, (&graph, &layers, &options), &inputs);
                assert!(again[0].as_ref() == Ok(&found[0]), "on repetition");
                let (codes, weights) = apart(&alone, &found[0]);
                println!("{sizes:?} on {size}: {codes} of the codes, weights by {weights:e}");
                assert!(codes == 0.0 && weights < 1e-5, "{codes} {weights}");
                let of = |state: &State| distance(&graph, &state.graph, "y", &inputs);
                assert!((of(&alone) / of(&found[0]) - 1.0).abs() < 1e-3);
            }
        }
    }
}

/// Batches of which one cannot be read.
#[derive(Debug)]
struct Broken<'a> {
    inner: &'a Vec<Vec<(String, Tensor)>>,
    batch: usize,
}

impl Inputs for Broken<'_> {
    fn len(&self) -> usize {
        self.inner.len()
    }

    fn batch(&self, index: usize) -> Result<Vec<(String, Tensor)>, InputError> {
        if index == self.batch {
            return Err(InputError { reason: "it cannot be read".into() });
        }
        self.inner.batch(index)
    }

    fn samples(&self, index: usize) -> Result<usize, InputError> {
        self.inner.samples(index)
    }

    fn origin(&self) -> Origin {
        self.inner.origin()
    }

    fn fingerprint(&self) -> Result<Vec<u8>, InputError> {
        self.inner.fingerprint()
    }
}

#[test]
fn a_batch_that_cannot_be_read_ends_the_job_everywhere() {
    let (graph, inputs) = (network(), images(&[4, 4]));
    let (layers, options) = (layers(&graph, 4, Books::Tensor), options());
    let broken = Broken { inner: &inputs, batch: 1 };
    for found in shared(2, (&graph, &layers, &options), &broken) {
        assert!(found.unwrap_err().to_string().contains("cannot be read"));
    }
}

#[test]
fn what_one_process_cannot_compute_none_does() {
    let (graph, inputs) = (network(), images(&[4, 4]));
    let (layers, options) = (layers(&graph, 4, Books::Tensor), options());
    let found = std::thread::scope(|scope| {
        let ranks = slq_reduce::threads(3).into_iter().map(|reducer| {
            let (graph, layers, inputs, options) = (&graph, &layers, &inputs, &options);
            scope.spawn(move || {
                let job = Job { float: graph, layers, inputs, options, rises: &[], reducer: &reducer };
                let own = match reducer.rank() {
                    1 => Err(CalibrateError::Engine(EngineError::EmptyBatch)),
                    _ => Ok(()),
                };
                (job.agree(own), job.agree(Ok(())))
            })
        });
        let ranks: Vec<_> = ranks.collect();
        ranks.into_iter().map(|r| r.join().unwrap()).collect::<Vec<_>>()
    });
    let reason = EngineError::EmptyBatch.to_string();
    for (failed, done) in found {
        assert_eq!(failed, Err(CalibrateError::Elsewhere { reason: reason.clone() }));
        assert_eq!(done, Ok(()));
    }
}
