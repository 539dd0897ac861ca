//! Clustering: values in, codebook and codes out.

use crate::assign::assign_with_error;
use crate::exact::{self, Constraints, Solution};
use crate::init::ladder_from_max;
use crate::params::{Algorithm, ClusterParams, Init};
use crate::thresholds::Thresholds;
use crate::{ClusterError, Code, SortedValues, fast, sorted};

/// A codebook, the code of every value, and how good they are.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct Clustering<C> {
    /// The centroids: ascending, but in the order of the start for Lloyd with a ladder, for the published
    /// algorithm and for [`lloyd_from`]. Fewer than asked for if there are fewer distinct values.
    pub codebook: Vec<f32>,
    /// Which centroids were fixed, one flag per entry.
    pub fixed: Vec<bool>,
    /// The codebook entry of every value, in the order of the values.
    pub codes: Vec<C>,
    /// Number of values of every entry.
    pub counts: Vec<u64>,
    /// Weighted squared error of codebook and codes over all values, in f64.
    pub sse: f64,
    /// No codebook that keeps the same constraints has a smaller squared error than this (up to f64 rounding,
    /// about 1e-13 of the sum of squares about the middle value). Zero, which always holds, from [`lloyd_from`].
    pub lower_bound: f64,
    /// Lloyd iterations made; zero for [`Algorithm::Exact`].
    pub iterations: usize,
    /// Whether Lloyd's iteration ended because nothing moved; true for [`Algorithm::Exact`].
    pub converged: bool,
}

impl<C> Clustering<C> {
    /// Certified relative gap to the optimum, `1 - lower_bound / sse`; zero if there is no error at all.
    pub fn gap(&self) -> f64 {
        if self.sse > 0.0 { 1.0 - self.lower_bound / self.sse } else { 0.0 }
    }
}

/// Clusters `values` into a codebook of `params.k()` entries.
///
/// # Errors
/// No values, a value that is not finite, more clusters than values or than `C` can number, or constraints
/// that leave no solution.
///
/// ```
/// use slq_codebook::{ClusterParams, cluster};
///
/// let params = ClusterParams::builder(3).pin_zero(true).build()?;
/// let clustering = cluster::<u8>(&[-1.0, -0.9, 0.0, 0.1, 2.0], &params)?;
/// assert_eq!(clustering.codes, [0, 0, 1, 1, 2]);
/// assert!(clustering.sse <= clustering.lower_bound * (1.0 + 1e-6));
/// # Ok::<(), slq_codebook::ClusterError>(())
/// ```
pub fn cluster<C: Code>(values: &[f32], params: &ClusterParams) -> Result<Clustering<C>, ClusterError> {
    in_pool(params.threads, || run(values, None, params))?
}

/// As [`cluster`], with value `i` counted `weights[i]` times (sensitivity, Fisher information, frequency).
///
/// A weight of zero is allowed: the value gets a code and does not influence the codebook.
///
/// # Errors
/// As [`cluster`], and weights that do not pair up with the values, are negative or not finite, or all zero.
pub fn cluster_weighted<C: Code>(
    values: &[f32],
    weights: &[f32],
    params: &ClusterParams,
) -> Result<Clustering<C>, ClusterError> {
    in_pool(params.threads, || run(values, Some(weights), params))?
}

/// Lloyd's iteration on `values` from `init`, which keeps the order of the centroids; those with `fixed[i]`
/// do not move. See [`SortedValues::lloyd`], which saves the sort when the values are clustered again.
///
/// # Errors
/// No values, a value or centroid that is not finite, more centroids than `C` can number, or flags that do not
/// pair up with the centroids (an empty slice fixes none).
pub fn lloyd_from<C: Code>(
    values: &[f32],
    init: &[f32],
    fixed: &[bool],
    max_iterations: usize,
) -> Result<Clustering<C>, ClusterError> {
    check_code::<C>(init.len())?;
    lloyd_on(values, None, &SortedValues::new(values)?, init, fixed, max_iterations)
}

/// Most threads of a pool of its own.
#[cfg(not(target_arch = "wasm32"))]
const MOST_THREADS: usize = 256;

/// Runs `work` on a pool of its own if a number of threads was asked for.
#[cfg(not(target_arch = "wasm32"))]
pub(crate) fn in_pool<T: Send>(threads: usize, work: impl FnOnce() -> T + Send) -> Result<T, ClusterError> {
    if threads == 0 {
        return Ok(work());
    }
    let threads = threads.min(MOST_THREADS);
    let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build();
    Ok(pool.map_err(|_| ClusterError::ThreadPool { threads })?.install(work))
}

/// Runs `work` on the one thread that WebAssembly has.
#[cfg(target_arch = "wasm32")]
pub(crate) fn in_pool<T>(_threads: usize, work: impl FnOnce() -> T) -> Result<T, ClusterError> {
    Ok(work())
}

fn check_code<C: Code>(k: usize) -> Result<(), ClusterError> {
    if k > C::LIMIT { Err(ClusterError::CodeTooNarrow { k, limit: C::LIMIT }) } else { Ok(()) }
}

/// As [`cluster`], inside the pool.
pub(crate) fn run<C: Code>(
    values: &[f32],
    weights: Option<&[f32]>,
    params: &ClusterParams,
) -> Result<Clustering<C>, ClusterError> {
    sorted::check_values(values)?;
    if let Some(weights) = weights {
        sorted::check_weights(values, weights)?;
    }
    check_code::<C>(params.k)?;
    if params.k > values.len() {
        return Err(ClusterError::TooManyClusters { k: params.k, count: values.len() });
    }
    match params.algorithm {
        Algorithm::Exact => run_exact(values, weights, params),
        Algorithm::Fast => match run_fast(values, weights, params) {
            Some(clustering) if clustering.gap() <= params.tolerance => Ok(clustering),
            _ => run_exact(values, weights, params),
        },
        Algorithm::Lloyd | Algorithm::Published => {
            let sorted = SortedValues::build(values, weights)?;
            let (first, last) = (sorted.values()[0], sorted.values()[sorted.len() - 1]);
            let max_abs = first.abs().max(last.abs());
            let published = params.algorithm == Algorithm::Published;
            let (init, fixed) = if published || params.init == Init::Ladder {
                let mut init = ladder_from_max(max_abs, params.k);
                let mut flags = vec![false; init.len()];
                for &centroid in &params.fixed {
                    // The nearest rung that is still free makes room.
                    let distance = |i: &usize| (f64::from(init[*i]) - f64::from(centroid)).abs();
                    let free = (0..init.len()).filter(|&i| !flags[i]);
                    if let Some(i) = free.min_by(|a, b| distance(a).total_cmp(&distance(b))) {
                        init[i] = centroid;
                        flags[i] = true;
                    }
                }
                (init, flags)
            } else {
                let mut init = sorted.plus_plus(params.k, &params.fixed, params.seed);
                init.sort_unstable_by(f32::total_cmp);
                let flags = init.iter().map(|c| params.fixed.contains(c)).collect();
                (init, flags)
            };
            let mut clustering = lloyd_on(values, weights, &sorted, &init, &fixed, params.max_iterations)?;
            let constraints = Constraints { k: params.k, fixed: &params.fixed, min_size: 1 };
            let solution = match fast::solve(values, weights, constraints) {
                Some(solution) => solution,
                None => exact::solve(&sorted, constraints)?,
            };
            clustering.lower_bound = solution.lower_bound.min(clustering.sse);
            Ok(clustering)
        }
    }
}

fn lloyd_on<C: Code>(
    values: &[f32],
    weights: Option<&[f32]>,
    sorted: &SortedValues,
    init: &[f32],
    fixed: &[bool],
    max_iterations: usize,
) -> Result<Clustering<C>, ClusterError> {
    let result = sorted.lloyd(init, fixed, max_iterations)?;
    let fixed = if fixed.is_empty() { vec![false; init.len()] } else { fixed.to_vec() };
    let thresholds = Thresholds::nearest(&result.codebook)?;
    let mut clustering = finish(values, weights, &thresholds, result.codebook, fixed, 0.0);
    clustering.iterations = result.iterations;
    clustering.converged = result.converged;
    Ok(clustering)
}

fn run_fast<C: Code>(
    values: &[f32],
    weights: Option<&[f32]>,
    params: &ClusterParams,
) -> Option<Clustering<C>> {
    let solution = if params.symmetric {
        let (folded, fixed) = fold(values, params);
        let constraints = Constraints { k: params.k.div_ceil(2), fixed: &fixed, min_size: 1 };
        mirror(fast::solve(&folded, weights, constraints)?)
    } else {
        let min_size = params.min_cluster_size;
        fast::solve(values, weights, Constraints { k: params.k, fixed: &params.fixed, min_size })?
    };
    let thresholds = Thresholds::nearest(&solution.codebook).ok()?;
    Some(finish(values, weights, &thresholds, solution.codebook, solution.fixed, solution.lower_bound))
}

/// Magnitudes and the fixed centroids that are not negative: a symmetric codebook serves x and -x alike.
fn fold(values: &[f32], params: &ClusterParams) -> (Vec<f32>, Vec<f32>) {
    let fixed = params.fixed.iter().copied().filter(|&f| f >= 0.0).collect();
    (values.iter().map(|v| v.abs()).collect(), fixed)
}

fn run_exact<C: Code>(
    values: &[f32],
    weights: Option<&[f32]>,
    params: &ClusterParams,
) -> Result<Clustering<C>, ClusterError> {
    let solution = if params.symmetric {
        let (folded, fixed) = fold(values, params);
        let sorted = SortedValues::build(&folded, weights)?;
        let constraints = Constraints { k: params.k.div_ceil(2), fixed: &fixed, min_size: 1 };
        mirror(exact::solve(&sorted, constraints)?)
    } else {
        let sorted = SortedValues::build(values, weights)?;
        let min_size = params.min_cluster_size;
        exact::solve(&sorted, Constraints { k: params.k, fixed: &params.fixed, min_size })?
    };
    let thresholds = if params.min_cluster_size > 1 {
        Thresholds { cuts: solution.cuts, codes: (0..solution.codebook.len()).map(|i| i as u16).collect() }
    } else {
        Thresholds::nearest(&solution.codebook)?
    };
    Ok(finish(values, weights, &thresholds, solution.codebook, solution.fixed, solution.lower_bound))
}

/// A solution for magnitudes as one for signed values; a zero entry is its own mirror image.
fn mirror(half: Solution) -> Solution {
    let negative = half.codebook.iter().zip(&half.fixed).rev().filter(|(c, _)| **c != 0.0);
    let both =
        negative.map(|(c, f)| (-c, *f)).chain(half.codebook.iter().copied().zip(half.fixed.iter().copied()));
    let (codebook, fixed) = both.unzip();
    Solution { codebook, fixed, cuts: Vec::new(), lower_bound: half.lower_bound }
}

pub(crate) fn finish<C: Code>(
    values: &[f32],
    weights: Option<&[f32]>,
    thresholds: &Thresholds,
    codebook: Vec<f32>,
    fixed: Vec<bool>,
    lower_bound: f64,
) -> Clustering<C> {
    let (codes, sse) = assign_with_error::<C>(values, weights, thresholds, &codebook);
    let counts = crate::histogram(&codes, codebook.len());
    Clustering {
        codebook,
        fixed,
        codes,
        counts,
        sse,
        lower_bound: lower_bound.min(sse),
        iterations: 0,
        converged: true,
    }
}
