//! The errors of this crate, one variant per failure.

use thiserror::Error;

/// Why a clustering, an assignment or a codebook could not be made.
#[derive(Debug, Clone, PartialEq, Error)]
#[non_exhaustive]
pub enum ClusterError {
    /// There is no value to cluster.
    #[error("there are no values to cluster")]
    Empty,
    /// A value is NaN or infinite.
    #[error("value {index} is {value}, only finite values can be clustered")]
    NotFinite {
        /// Position of the first such value.
        index: usize,
        /// The value found.
        value: f32,
    },
    /// A codebook of no entries was asked for.
    #[error("the number of clusters is zero, it must be at least one")]
    ZeroClusters,
    /// More clusters than values.
    #[error("{k} clusters were asked for but there are only {count} values")]
    TooManyClusters {
        /// Clusters asked for.
        k: usize,
        /// Values given.
        count: usize,
    },
    /// The code type cannot number that many clusters.
    #[error("{k} clusters do not fit the code type, which numbers at most {limit}")]
    CodeTooNarrow {
        /// Clusters asked for.
        k: usize,
        /// Codes the type can tell apart.
        limit: usize,
    },
    /// The weights do not pair up with the values.
    #[error("{weights} weights were given for {values} values")]
    WeightCount {
        /// Weights given.
        weights: usize,
        /// Values given.
        values: usize,
    },
    /// A weight is negative, NaN or infinite.
    #[error("weight {index} is {value}, weights must be finite and not negative")]
    BadWeight {
        /// Position of the first such weight.
        index: usize,
        /// The weight found.
        value: f32,
    },
    /// Every weight is zero, so every codebook is as good as any other.
    #[error("all weights are zero")]
    NoWeight,
    /// A fixed or given centroid is NaN or infinite.
    #[error("centroid {index} is {value}, centroids must be finite")]
    CentroidNotFinite {
        /// Position of the first such centroid.
        index: usize,
        /// The centroid found.
        value: f32,
    },
    /// A price on bits that is negative, NaN or infinite.
    #[error("the price of a bit is {price}, it must be finite and not negative")]
    Price {
        /// The price found.
        price: f64,
    },
    /// Codebooks and codes to begin with that do not fit the values.
    #[error("{entries} entries in {groups} codebooks are no start for {values} values")]
    Start {
        /// Values given.
        values: usize,
        /// Entries of all codebooks.
        entries: usize,
        /// Number of codebooks.
        groups: usize,
    },
    /// A codebook without entries was given.
    #[error("the codebook is empty")]
    EmptyCodebook,
    /// More centroids are fixed than there are clusters.
    #[error("{fixed} distinct centroids are fixed (a pinned zero included) but there are only {k} clusters")]
    TooManyFixed {
        /// Distinct fixed centroids, a pinned zero included.
        fixed: usize,
        /// Clusters asked for.
        k: usize,
    },
    /// The flags which tell fixed centroids do not pair up with the centroids.
    #[error("{flags} flags tell which of {centroids} centroids are fixed")]
    FixedCount {
        /// Flags given.
        flags: usize,
        /// Centroids given.
        centroids: usize,
    },
    /// A symmetric codebook was asked for with fixed centroids that are not.
    #[error("centroid {value} is fixed but {} is not, so the codebook cannot be symmetric", -value)]
    FixedNotSymmetric {
        /// The centroid without a mirror image.
        value: f32,
    },
    /// An even number of centroids cannot be symmetric and hold zero.
    #[error("{k} centroids cannot be symmetric about a pinned zero, take an odd number")]
    SymmetricEven {
        /// Clusters asked for.
        k: usize,
    },
    /// The minimum cluster size leaves no solution.
    #[error(
        "{count} values cannot be divided into {k} clusters of at least {size} (equal values stay together)"
    )]
    MinimumSizeTooLarge {
        /// Free clusters asked for.
        k: usize,
        /// Smallest size allowed.
        size: usize,
        /// Values that can be shared out.
        count: usize,
    },
    /// The minimum cluster size needs an algorithm that can honour it.
    #[error("a minimum cluster size needs the exact or fast algorithm")]
    MinimumSizeUnsupported,
    /// A minimum cluster size cannot be kept together with this constraint.
    #[error("a minimum cluster size cannot be combined with a symmetric codebook")]
    MinimumSizeSymmetric,
    /// The published algorithm takes no other fixed centroids than zero.
    #[error("the published algorithm fixes zero alone, other fixed centroids need another algorithm")]
    PublishedFixed,
    /// A codebook kept symmetric needs an algorithm that can do so.
    #[error("a symmetric codebook needs the exact or fast algorithm")]
    SymmetricUnsupported,
    /// A group reaches beyond the values or runs backwards.
    #[error("group {index} covers {start}..{end} of {count} values")]
    GroupRange {
        /// Position of the first such group.
        index: usize,
        /// First value of the group.
        start: usize,
        /// One past the last value of the group.
        end: usize,
        /// Values given.
        count: usize,
    },
    /// One group of many failed.
    #[error("group {index}: {source}")]
    Group {
        /// Position of the first group that failed.
        index: usize,
        /// Its failure.
        source: Box<ClusterError>,
    },
    /// The number of levels of a structured codebook makes no sense.
    #[error("a codebook of {k} levels cannot be built, {reason}")]
    BadLevels {
        /// Levels asked for.
        k: usize,
        /// What the rule needs.
        reason: &'static str,
    },
    /// A largest magnitude that is negative, NaN or infinite.
    #[error("the largest magnitude is {value}, it must be finite and not negative")]
    BadMagnitude {
        /// The magnitude given.
        value: f32,
    },
    /// The threads asked for could not be started.
    #[error("a pool of {threads} threads could not be started")]
    ThreadPool {
        /// Threads asked for.
        threads: usize,
    },
}

/// Why codes could not be packed, unpacked or decoded.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum PackError {
    /// Widths run from 1 to 8 bits.
    #[error("codes of {bits} bits cannot be packed, the width must be 1 to 8")]
    Width {
        /// The width given.
        bits: u32,
    },
    /// A code needs more bits than the width.
    #[error("code {index} is {code}, which does not fit {bits} bits")]
    CodeTooLarge {
        /// Position of the first such code.
        index: usize,
        /// The code found.
        code: u32,
        /// The width given.
        bits: u32,
    },
    /// The packed bytes do not hold exactly that many codes.
    #[error("{count} codes of {bits} bits take {expected} bytes but {found} were given")]
    Length {
        /// Codes expected.
        count: usize,
        /// The width given.
        bits: u32,
        /// Bytes they take.
        expected: usize,
        /// Bytes given.
        found: usize,
    },
    /// The count is so large that its size in bytes overflows.
    #[error("{count} codes of {bits} bits are more than memory can hold")]
    CountTooLarge {
        /// Codes expected.
        count: usize,
        /// The width given.
        bits: u32,
    },
    /// The unused bits of the last byte are not zero.
    #[error("the unused bits of the last byte are not zero")]
    Padding,
    /// A code has no entry in the codebook.
    #[error("code {index} is {code} but the codebook has {entries} entries")]
    NoEntry {
        /// Position of the first such code.
        index: usize,
        /// The code found.
        code: u32,
        /// Entries of the codebook.
        entries: usize,
    },
    /// The output does not have one place per code.
    #[error("{codes} codes cannot be decoded into {output} values")]
    OutputLength {
        /// Codes given.
        codes: usize,
        /// Places in the output.
        output: usize,
    },
}

/// Why codebook, codes and flags do not make a [`Palette`](crate::Palette).
#[derive(Debug, Clone, PartialEq, Error)]
#[non_exhaustive]
pub enum PaletteError {
    /// There are no centroids, or they do not divide into the codebooks.
    #[error("invalid palette: {centroids} centroids cannot form {groups} codebooks")]
    Codebooks {
        /// Centroids of all codebooks.
        centroids: usize,
        /// Number of codebooks.
        groups: usize,
    },
    /// A codebook has more centroids than a code of one byte can number.
    #[error("invalid palette: a codebook of {size} values exceeds the {limit} that 8-bit codes reach")]
    TooLarge {
        /// Centroids of one codebook.
        size: usize,
        /// Most that are possible.
        limit: usize,
    },
    /// Codes, flags and groups do not fit each other.
    #[error("invalid palette: {codes} codes, {flags} flags and {groups} groups do not fit")]
    Lengths {
        /// Codes given.
        codes: usize,
        /// Flags given.
        flags: usize,
        /// Number of codebooks.
        groups: usize,
    },
    /// A code has no centroid.
    #[error("invalid palette: code {code} at position {index} is past the last of {size} centroids")]
    CodeRange {
        /// Position of the first such code.
        index: usize,
        /// The code.
        code: u8,
        /// Centroids of one codebook.
        size: usize,
    },
    /// A centroid is NaN or infinite.
    #[error("invalid palette: centroid {index} is {value}, which is not finite")]
    NotFinite {
        /// Position of the first such centroid among all codebooks.
        index: usize,
        /// The centroid.
        value: f32,
    },
}
