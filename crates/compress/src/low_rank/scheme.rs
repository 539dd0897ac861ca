//! The schemes: which matrices a weight is reshaped into, and how their thin factors become weights again.
//!
//! Sources: TRP (arXiv 2004.14566, section 3), network decoupling (arXiv 1808.05517).

use serde::{Deserialize, Serialize};
use slq_lowrank::Svd;

/// What a layer is split into.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Scheme {
    /// kh x kw convolution to r channels, then 1 x 1 to all.
    Channel,
    /// kh x 1 convolution to r channels, then 1 x kw to all.
    Spatial,
    /// Sum of r pairs of a pointwise and a depthwise convolution.
    Decouple,
    /// Two fully connected layers with r values in between.
    Svd,
}

impl Scheme {
    /// The scheme's name on the command line.
    pub fn text(self) -> &'static str {
        match self {
            Self::Channel => "channel",
            Self::Spatial => "spatial",
            Self::Decouple => "decouple",
            Self::Svd => "svd",
        }
    }

    /// What the first and the second layer of a pair add to the names of the layer they come from.
    pub(crate) fn suffixes(self) -> [&'static str; 2] {
        match self {
            Self::Channel | Self::Svd => ["reduce", "expand"],
            Self::Spatial => ["vertical", "horizontal"],
            Self::Decouple => ["pointwise", "depthwise"],
        }
    }
}

/// Extents of a layer's weight.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Extents {
    /// N x C x kh x kw.
    Kernel([usize; 4]),
    /// Rows x columns, as stored.
    Matrix([usize; 2]),
}

/// One of the matrices that a weight is reshaped into; row-major.
pub(crate) struct Matrix {
    pub rows: usize,
    pub cols: usize,
    pub values: Vec<f32>,
}

/// A scheme applied to a weight of certain extents.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct View {
    pub scheme: Scheme,
    pub extents: Extents,
}

impl View {
    /// Rows and columns of each matrix, and how many there are: `decouple` has one for each output channel.
    pub fn shape(&self) -> ([usize; 2], usize) {
        match (self.extents, self.scheme) {
            (Extents::Matrix(shape), _) => (shape, 1),
            (Extents::Kernel([n, c, kh, kw]), Scheme::Spatial) => ([c * kh, n * kw], 1),
            (Extents::Kernel([n, c, kh, kw]), Scheme::Decouple) => ([c, kh * kw], n),
            (Extents::Kernel([n, c, kh, kw]), _) => ([n, c * kh * kw], 1),
        }
    }

    /// The largest rank.
    pub fn full_rank(&self) -> usize {
        let ([rows, cols], _) = self.shape();
        rows.min(cols)
    }

    /// The weight as matrices.
    pub fn matrices(&self, weight: &[f32]) -> Vec<Matrix> {
        let ([rows, cols], count) = self.shape();
        let size = rows * cols;
        (0..count)
            .map(|m| {
                let values = match self.spatial() {
                    Some(place) => (0..size).map(|at| weight[place(at)]).collect(),
                    None => weight[m * size..][..size].to_vec(),
                };
                Matrix { rows, cols, values }
            })
            .collect()
    }

    /// The weight that [`matrices`](Self::matrices) makes these values of.
    pub fn weight(&self, matrices: Vec<Vec<f32>>) -> Vec<f32> {
        let Some(place) = self.spatial() else { return matrices.concat() };
        let matrix = matrices.concat();
        let mut weight = vec![0.0; matrix.len()];
        matrix.into_iter().enumerate().for_each(|(at, v)| weight[place(at)] = v);
        weight
    }

    /// For `spatial`, the only scheme that permutes elements: from a position in the matrix (C kh) x (N kw) to the
    /// position in the weight.
    fn spatial(&self) -> Option<impl Fn(usize) -> usize + use<>> {
        let (Scheme::Spatial, Extents::Kernel([n, c, kh, kw])) = (self.scheme, self.extents) else {
            return None;
        };
        Some(move |at: usize| {
            let (row, col) = (at / (n * kw), at % (n * kw));
            let (channel, i, output, j) = (row / kh, row % kh, col / kw, col % kw);
            ((output * c + channel) * kh + i) * kw + j
        })
    }

    /// The weights of the layers that the approximation of `rank` is split into, as (shape, values), in pairs.
    /// `decompositions` are those of [`matrices`](Self::matrices). `outputs_first` says whether a matrix is stored
    /// as outputs x inputs.
    pub fn factors(&self, decompositions: &[Svd], rank: usize, outputs_first: bool) -> Vec<[Factor; 2]> {
        match (self.extents, self.scheme) {
            (Extents::Kernel([n, c, kh, kw]), Scheme::Decouple) => {
                let (left, right): (Vec<_>, Vec<_>) = decompositions.iter().map(|d| d.factors(rank)).unzip();
                let column = |all: &[Vec<f32>], t: usize| -> Vec<f32> {
                    all.iter().flat_map(|f| f.iter().skip(t).step_by(rank).copied()).collect()
                };
                let pair = |t: usize| {
                    [(vec![n, c, 1, 1], column(&left, t)), (vec![n, 1, kh, kw], column(&right, t))]
                };
                (0..rank).map(pair).collect()
            }
            (Extents::Kernel([n, c, kh, kw]), Scheme::Spatial) => {
                let (left, right) = decompositions[0].factors(rank);
                let horizontal = (0..n * rank * kw)
                    .map(|at| right[(at / (rank * kw) * kw + at % kw) * rank + at / kw % rank]);
                vec![[
                    (vec![rank, c, kh, 1], transposed(&left, rank)),
                    (vec![n, rank, 1, kw], horizontal.collect()),
                ]]
            }
            (Extents::Kernel([n, c, kh, kw]), _) => {
                let (left, right) = decompositions[0].factors(rank);
                vec![[(vec![rank, c, kh, kw], transposed(&right, rank)), (vec![n, rank, 1, 1], left)]]
            }
            (Extents::Matrix([rows, cols]), _) => {
                let (left, right) = decompositions[0].factors(rank);
                let (left, right) = ((vec![rows, rank], left), (vec![rank, cols], transposed(&right, rank)));
                vec![if outputs_first { [right, left] } else { [left, right] }]
            }
        }
    }
}

/// Shape and values of a weight.
pub(crate) type Factor = (Vec<usize>, Vec<f32>);

/// The transpose of a matrix of `cols` columns.
fn transposed(matrix: &[f32], cols: usize) -> Vec<f32> {
    (0..cols).flat_map(|j| matrix.iter().skip(j).step_by(cols).copied()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const SHAPE: [usize; 4] = [3, 4, 2, 5];

    fn weight() -> Vec<f32> {
        (0..120).map(|i| ((i * 37 % 101) as f32 - 50.0) / 50.0).collect()
    }

    fn views() -> Vec<View> {
        let kernel = |scheme| View { scheme, extents: Extents::Kernel(SHAPE) };
        let matrix = View { scheme: Scheme::Svd, extents: Extents::Matrix([10, 12]) };
        vec![kernel(Scheme::Channel), kernel(Scheme::Spatial), kernel(Scheme::Decouple), matrix]
    }

    #[test]
    fn matrices_make_the_weight_again() {
        for view in views() {
            let matrices = view.matrices(&weight());
            let ([rows, cols], count) = view.shape();
            assert_eq!((matrices.len(), matrices[0].rows, matrices[0].cols), (count, rows, cols), "{view:?}");
            let back = view.weight(matrices.into_iter().map(|m| m.values).collect());
            assert_eq!(back, weight(), "{view:?}");
        }
    }

    #[test]
    fn full_ranks_are_those_of_the_literature() {
        let ranks: Vec<usize> = views().iter().map(View::full_rank).collect();
        // min(N, C kh kw), min(C kh, N kw), min(C, kh kw), min(rows, columns).
        assert_eq!(ranks, [3, 8, 4, 10]);
    }

    /// The weight that two convolutions after one another amount to.
    fn composed(view: &View, pairs: &[[Factor; 2]]) -> Vec<f64> {
        let [n, c, kh, kw] = SHAPE;
        let mut out = vec![0.0; n * c * kh * kw];
        for [(first, a), (second, b)] in pairs {
            for (at, out) in out.iter_mut().enumerate() {
                let (o, i, y, x) = (at / (c * kh * kw), at / (kh * kw) % c, at / kw % kh, at % kw);
                let entry = |shape: &[usize], w: &[f32], o: usize, i: usize, y: usize, x: usize| {
                    f64::from(w[((o * shape[1] + i) * shape[2] + y) * shape[3] + x])
                };
                *out += match view.scheme {
                    Scheme::Decouple => entry(first, a, o, i, 0, 0) * entry(second, b, o, 0, y, x),
                    Scheme::Spatial => (0..first[0])
                        .map(|r| entry(first, a, r, i, y, 0) * entry(second, b, o, r, 0, x))
                        .sum::<f64>(),
                    _ => (0..first[0])
                        .map(|r| entry(first, a, r, i, y, x) * entry(second, b, o, r, 0, 0))
                        .sum::<f64>(),
                };
            }
        }
        out
    }

    #[test]
    fn factors_of_full_rank_compose_to_the_weight() {
        for view in &views()[..3] {
            let svds: Vec<Svd> = view
                .matrices(&weight())
                .iter()
                .map(|m| Svd::exact(&m.values, m.rows, m.cols).unwrap())
                .collect();
            let pairs = view.factors(&svds, view.full_rank(), true);
            let same =
                composed(view, &pairs).iter().zip(weight()).all(|(a, b)| (a - f64::from(b)).abs() < 1e-5);
            assert!(same, "{view:?}");
        }
    }

    #[test]
    fn factors_of_matrices_follow_the_order_they_are_stored_in() {
        let view = views()[3];
        let svd = [Svd::exact(&weight(), 10, 12).unwrap()];
        let shapes = |outputs_first: bool| {
            let [a, b] = &view.factors(&svd, 7, outputs_first)[0];
            (a.0.clone(), b.0.clone())
        };
        assert_eq!(shapes(true), (vec![7, 12], vec![10, 7]), "h = x R, y = h L^T");
        assert_eq!(shapes(false), (vec![10, 7], vec![7, 12]));
    }
}
