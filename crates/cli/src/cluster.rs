//! `slq cluster`.

use std::path::PathBuf;
use std::time::Instant;

use clap::ValueEnum;
use serde_json::json;
use slq::codebook::{Algorithm, ClusterParams, Clustering, cluster, cluster_weighted};

use crate::common::Common;

/// One-dimensional clustering of an array's values.
#[derive(clap::Args)]
#[command(after_help = "Example:\n  slq cluster weights.npy --k 17 --fixed 0 -o codes.npz")]
pub(crate) struct Args {
    /// The values: an .npy array of any shape
    values: PathBuf,
    /// Number of centroids
    #[arg(long)]
    k: usize,
    /// The algorithm
    #[arg(long, value_enum, default_value_t = Name::Exact)]
    algorithm: Name,
    /// A weight for each value
    #[arg(long, value_name = "NPY")]
    weights: Option<PathBuf>,
    /// Centroids that must not move
    #[arg(long, value_name = "V,..", value_delimiter = ',', allow_hyphen_values = true)]
    fixed: Vec<f32>,
    /// Codebook and codes
    #[arg(short, long, value_name = "NPZ")]
    output: Option<PathBuf>,
}

#[derive(ValueEnum, Clone, Copy)]
enum Name {
    Exact,
    Fast,
    Lloyd,
    Published,
}

pub(crate) fn run(args: Args, common: &Common) -> crate::common::Outcome {
    let values = slq::arrays::read_f32(&args.values)?;
    let weights = args.weights.as_deref().map(slq::arrays::read_f32).transpose()?;
    let algorithm = match args.algorithm {
        Name::Exact => Algorithm::Exact,
        Name::Fast => Algorithm::Fast,
        Name::Lloyd => Algorithm::Lloyd,
        Name::Published => Algorithm::Published,
    };
    let params =
        ClusterParams::builder(args.k).algorithm(algorithm).fixed(args.fixed).seed(common.seed()).build()?;
    if let Some(output) = &args.output {
        let inputs: Vec<PathBuf> = std::iter::once(args.values).chain(args.weights).collect();
        slq::files::check_no_model(output, "a codebook with codes", ".npz")?;
        slq::files::check_paths(&[output], &inputs)?;
    }
    let began = Instant::now();
    let found: Clustering<u16> = match &weights {
        Some(weights) => cluster_weighted(&values, weights, &params)?,
        None => cluster(&values, &params)?,
    };
    let seconds = began.elapsed().as_secs_f64();
    if let Some(path) = &args.output {
        slq::arrays::write_clustering(path, &found)?;
    }
    let json = json!({
        "k": found.codebook.len(), "sse": found.sse, "lower_bound": found.lower_bound,
        "codebook": found.codebook, "seconds": seconds,
    });
    let text = format!(
        "{} values in {} clusters: squared error {:.9e} (lower bound {:.9e}) in {seconds:.3} s\n{:?}",
        values.len(),
        found.codebook.len(),
        found.sse,
        found.lower_bound,
        found.codebook
    );
    common.print(&json, text);
    Ok(())
}
