//! Settings of a clustering, checked when they are built.

use crate::ClusterError;

/// How the codebook is found.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum Algorithm {
    /// The global optimum, proven (default).
    #[default]
    Exact,
    /// The optimum over a fine histogram, polished on the data, with a stated bound; solves
    /// exactly whenever the histogram cannot certify [`ClusterParams::tolerance`].
    Fast,
    /// Lloyd's iteration from [`Init`] until nothing moves: a local optimum.
    Lloyd,
    /// The initialisation and the number of passes of the published SLQ program
    /// ([`crate::published_ladder`], then Lloyd with the first centroid pinned at zero).
    Published,
}

/// Where [`Algorithm::Lloyd`] starts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum Init {
    /// k-means++ (Arthur and Vassilvitskii, SODA 2007) drawn with [`ClusterParams::seed`] (default).
    #[default]
    PlusPlus,
    /// The ladder of the published SLQ program, see [`crate::published_ladder`].
    Ladder,
}

/// Settings that have been checked; made by [`ClusterParams::builder`].
///
/// Defaults: exact algorithm, no constraint, k-means++ with seed 0, at most 300 Lloyd iterations (10 for
/// [`Algorithm::Published`]), tolerance 1e-2, the threads of the current rayon pool.
#[derive(Debug, Clone, PartialEq)]
pub struct ClusterParams {
    pub(crate) k: usize,
    pub(crate) algorithm: Algorithm,
    pub(crate) init: Init,
    pub(crate) fixed: Vec<f32>,
    pub(crate) symmetric: bool,
    pub(crate) min_cluster_size: usize,
    pub(crate) seed: u64,
    pub(crate) max_iterations: usize,
    pub(crate) tolerance: f64,
    pub(crate) threads: usize,
}

impl ClusterParams {
    /// Starts from the defaults with a codebook of `k` entries.
    pub fn builder(k: usize) -> ClusterParamsBuilder {
        ClusterParamsBuilder {
            k,
            algorithm: Algorithm::default(),
            init: Init::default(),
            fixed: Vec::new(),
            pin_zero: false,
            symmetric: false,
            min_cluster_size: 1,
            seed: 0,
            max_iterations: None,
            tolerance: 1e-2,
            threads: 0,
        }
    }

    /// The defaults with a codebook of `k` entries.
    ///
    /// # Errors
    /// [`ClusterError::ZeroClusters`] if `k` is zero.
    pub fn new(k: usize) -> Result<Self, ClusterError> {
        Self::builder(k).build()
    }

    /// Entries of the codebook.
    pub fn k(&self) -> usize {
        self.k
    }

    /// How the codebook is found.
    pub fn algorithm(&self) -> Algorithm {
        self.algorithm
    }

    /// Where Lloyd's iteration starts.
    pub fn init(&self) -> Init {
        self.init
    }

    /// Centroids that must be in the codebook, ascending and distinct; a pinned zero is one of them.
    pub fn fixed(&self) -> &[f32] {
        &self.fixed
    }

    /// Whether the codebook must equal its mirror image.
    pub fn symmetric(&self) -> bool {
        self.symmetric
    }

    /// Smallest number of values in a cluster whose centroid is free.
    pub fn min_cluster_size(&self) -> usize {
        self.min_cluster_size
    }

    /// Seed of the random choices.
    pub fn seed(&self) -> u64 {
        self.seed
    }

    /// Most Lloyd iterations.
    pub fn max_iterations(&self) -> usize {
        self.max_iterations
    }

    /// Largest certified gap, `1 - lower_bound / sse`, that [`Algorithm::Fast`] accepts.
    pub fn tolerance(&self) -> f64 {
        self.tolerance
    }

    /// Threads to use, zero for those of the current rayon pool.
    pub fn threads(&self) -> usize {
        self.threads
    }

    /// The same settings for fewer clusters, as far as the fixed centroids allow.
    pub(crate) fn with_k(&self, k: usize) -> Self {
        let mut k = k.max(self.fixed.len()).max(1);
        // A symmetric codebook has an odd number of entries exactly when zero is one of them.
        if self.symmetric && (k % 2 == 1) != self.fixed.contains(&0.0) {
            k = if k > 1 { k - 1 } else { 2 };
        }
        Self { k, ..self.clone() }
    }
}

/// Collects settings; [`ClusterParamsBuilder::build`] checks them.
#[derive(Debug, Clone, PartialEq)]
#[must_use = "settings do nothing until they are built"]
pub struct ClusterParamsBuilder {
    k: usize,
    algorithm: Algorithm,
    init: Init,
    fixed: Vec<f32>,
    pin_zero: bool,
    symmetric: bool,
    min_cluster_size: usize,
    seed: u64,
    max_iterations: Option<usize>,
    tolerance: f64,
    threads: usize,
}

impl ClusterParamsBuilder {
    /// How the codebook is found.
    pub fn algorithm(mut self, algorithm: Algorithm) -> Self {
        self.algorithm = algorithm;
        self
    }

    /// Where [`Algorithm::Lloyd`] starts.
    pub fn init(mut self, init: Init) -> Self {
        self.init = init;
        self
    }

    /// Centroids that must be in the codebook and do not move; the others are chosen best beside them.
    pub fn fixed(mut self, fixed: impl IntoIterator<Item = f32>) -> Self {
        self.fixed = fixed.into_iter().collect();
        self
    }

    /// Whether one entry must be exactly zero.
    pub fn pin_zero(mut self, pin: bool) -> Self {
        self.pin_zero = pin;
        self
    }

    /// Whether the codebook must equal its mirror image; an odd number of entries then holds zero.
    pub fn symmetric(mut self, symmetric: bool) -> Self {
        self.symmetric = symmetric;
        self
    }

    /// Smallest number of values in a cluster whose centroid is free (default 1). Above 1 there are exactly as
    /// many free clusters as asked for, and a code need not name the nearest centroid. The optimum is then over
    /// clusters that are intervals: equal values stay together and no free cluster reaches across a fixed
    /// centroid.
    pub fn min_cluster_size(mut self, size: usize) -> Self {
        self.min_cluster_size = size.max(1);
        self
    }

    /// Seed of the random choices.
    pub fn seed(mut self, seed: u64) -> Self {
        self.seed = seed;
        self
    }

    /// Most Lloyd iterations.
    pub fn max_iterations(mut self, iterations: usize) -> Self {
        self.max_iterations = Some(iterations);
        self
    }

    /// Largest certified gap that [`Algorithm::Fast`] accepts before it solves exactly; NaN counts as zero.
    pub fn tolerance(mut self, gap: f64) -> Self {
        self.tolerance = gap.max(0.0);
        self
    }

    /// Threads to use (at most 256), zero for those of the current rayon pool. The result does not depend on it.
    pub fn threads(mut self, threads: usize) -> Self {
        self.threads = threads;
        self
    }

    /// Checks the settings.
    ///
    /// # Errors
    /// `k` of zero, centroids that are not finite, more fixed centroids than clusters, and constraints that
    /// exclude each other or that the algorithm cannot keep.
    pub fn build(self) -> Result<ClusterParams, ClusterError> {
        if self.k == 0 {
            return Err(ClusterError::ZeroClusters);
        }
        if let Some((index, &value)) = self.fixed.iter().enumerate().find(|(_, v)| !v.is_finite()) {
            return Err(ClusterError::CentroidNotFinite { index, value });
        }
        let published = self.algorithm == Algorithm::Published;
        if published && self.fixed.iter().any(|&v| v != 0.0) {
            return Err(ClusterError::PublishedFixed);
        }
        let mut fixed: Vec<f32> = self.fixed.iter().map(|v| v + 0.0).collect();
        if self.pin_zero || published || (self.symmetric && self.k % 2 == 1) {
            fixed.push(0.0);
        }
        fixed.sort_unstable_by(f32::total_cmp);
        fixed.dedup();
        if fixed.len() > self.k {
            return Err(ClusterError::TooManyFixed { fixed: fixed.len(), k: self.k });
        }
        if self.symmetric {
            if !matches!(self.algorithm, Algorithm::Exact | Algorithm::Fast) {
                return Err(ClusterError::SymmetricUnsupported);
            }
            if let Some(&value) = fixed.iter().find(|&&v| !fixed.contains(&-v)) {
                return Err(ClusterError::FixedNotSymmetric { value });
            }
            if self.k.is_multiple_of(2) && fixed.contains(&0.0) {
                return Err(ClusterError::SymmetricEven { k: self.k });
            }
        }
        if self.min_cluster_size > 1 {
            if !matches!(self.algorithm, Algorithm::Exact | Algorithm::Fast) {
                return Err(ClusterError::MinimumSizeUnsupported);
            }
            if self.symmetric {
                return Err(ClusterError::MinimumSizeSymmetric);
            }
        }
        Ok(ClusterParams {
            k: self.k,
            algorithm: self.algorithm,
            init: self.init,
            fixed,
            symmetric: self.symmetric,
            min_cluster_size: self.min_cluster_size,
            seed: self.seed,
            max_iterations: self.max_iterations.unwrap_or(if published { 10 } else { 300 }),
            tolerance: if self.tolerance.is_nan() { 0.0 } else { self.tolerance },
            threads: self.threads,
        })
    }
}
