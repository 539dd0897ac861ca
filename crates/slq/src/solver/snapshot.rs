//! Snapshots: a caffemodel and a solver state, in Caffe's formats and under Caffe's names.

use std::path::{Path, PathBuf};

use slq_caffe::{SolverState, WriteOptions, read_state, write_state};
use slq_compress::Standing;
use slq_engine::UpdateRule;
use slq_graph::Graph;

use super::read::SolverJob;
use super::settings::current_step;
use crate::Error;

/// Where snapshots go, and when they are made.
#[derive(Debug, Clone)]
pub struct Snapshots {
    prefix: PathBuf,
    /// Iterations between snapshots.
    pub every: Option<u64>,
    /// Whether one is written at the end.
    pub at_end: bool,
    legacy_blobs: bool,
    written: Vec<PathBuf>,
}

impl Snapshots {
    /// The snapshots that the solver file at `path` asks for: those of `snapshot`, and one at the end, under
    /// `snapshot_prefix` or the solver's own name; none where it has neither of the two fields.
    ///
    /// # Errors
    /// [`Error::File`] where the folder they are to go to does not exist: better now than after hours.
    pub fn of(path: &Path, job: &SolverJob, legacy_blobs: bool) -> Result<Option<Snapshots>, Error> {
        let solver = &job.solver;
        let named = !solver.snapshots.prefix.as_os_str().is_empty();
        if !named && solver.snapshots.interval.is_none() {
            return Ok(None);
        }
        let prefix = if named { solver.snapshots.prefix.clone() } else { path.with_extension("") };
        let folder = prefix.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
        if !folder.is_dir() {
            let reason =
                format!("snapshot_prefix {}: there is no folder {}", prefix.display(), folder.display());
            return Err(Error::File { path: path.into(), reason });
        }
        let every = solver.snapshots.interval.map(|n| n as u64);
        let at_end = solver.snapshots.after_train;
        Ok(Some(Snapshots { prefix, every, at_end, legacy_blobs, written: Vec::new() }))
    }

    /// The files written so far.
    pub fn written(&self) -> &[PathBuf] {
        &self.written
    }

    /// Writes `PREFIX_iter_N.caffemodel` and `PREFIX_iter_N.solverstate`.
    ///
    /// # Errors
    /// [`Error::Caffe`] where the disk refuses.
    pub fn write(&mut self, job: &SolverJob, graph: &Graph, standing: &Standing) -> Result<(), Error> {
        let name = |ending: &str| {
            let mut name = self.prefix.clone().into_os_string();
            name.push(format!("_iter_{}.{ending}", standing.iteration));
            PathBuf::from(name)
        };
        let (model, state) = (name("caffemodel"), name("solverstate"));
        let (source, legacy_blobs) = (Some(job.source.clone()), self.legacy_blobs);
        slq_caffe::write(graph, &model, &WriteOptions { prototxt: None, source, legacy_blobs })?;
        let kept = SolverState {
            iteration: standing.iteration as usize,
            current_step: current_step(&job.solver, standing.iteration),
            learned_net: Some(model.clone()),
            history: standing.history.clone(),
        };
        write_state(&state, &job.source, &kept)?;
        self.written.extend([model, state]);
        Ok(())
    }
}

/// The state that the training of `job` had when `state` was written.
///
/// # Errors
/// [`Error::Caffe`] for a state of another net; [`Error::File`] for one of another solver type, or from beyond
/// `max_iter`.
pub fn resume(job: &SolverJob, state: &Path) -> Result<Standing, Error> {
    let kept = read_state(state, &job.source)?;
    let bad = |reason: String| Err(Error::File { path: state.into(), reason });
    let halves = match job.training.rule {
        UpdateRule::Adam { .. } | UpdateRule::AdaDelta { .. } => 2,
        _ => 1,
    };
    for (name, values) in &kept.history {
        let count = job.model.graph.weights.get(name).map_or(0, |w| w.tensor.len());
        if values.len() != halves * count {
            return bad(format!("the history of `{name}` is that of another solver type"));
        }
    }
    if kept.iteration > job.solver.max_iter {
        return bad(format!(
            "it was taken at iteration {}, max_iter is {}",
            kept.iteration, job.solver.max_iter
        ));
    }
    Ok(Standing { iteration: kept.iteration as u64, history: kept.history })
}
