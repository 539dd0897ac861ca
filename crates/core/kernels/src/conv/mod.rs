//! Convolution: forward, data gradient and weight gradient, each by the algorithm that fits its shape.

mod columns;
mod depthwise;
mod finish;
mod gather;
#[cfg(target_arch = "x86_64")]
mod gather_wide;
mod geometry;
mod packed;
mod panels;
#[cfg(target_arch = "x86_64")]
mod product;
#[cfg(target_arch = "x86_64")]
mod spacing;
mod straight;
mod tap_geometry;
mod taps;
mod tile;
mod weights;
mod winograd;

pub use geometry::{ConvGeometry, ConvNeeds, Post};
pub use packed::PackedConv;

use crate::{Isa, Store};
use columns::ColumnConv;
use depthwise::Depthwise;
use finish::Finish;
use taps::TapConv;
use weights::{DirectWeights, bias_gradient};
use winograd::{Winograd, Winograd1d, WinogradWeights};

/// The algorithms of the forward pass.
enum Forward {
    Winograd(Winograd),
    Winograd1d(Winograd1d),
    Taps(TapConv),
}

impl Forward {
    fn new(g: &ConvGeometry, isa: Isa) -> Self {
        let lines = || Winograd1d::forward(g, isa).map(Forward::Winograd1d);
        let winograd = Winograd::forward(g, isa).map(Forward::Winograd);
        winograd.or_else(lines).unwrap_or_else(|| Forward::Taps(TapConv::forward(g, isa)))
    }

    /// The sum over taps that makes its weights a panel at a time, where it is the best and gathers at most `floats`.
    fn by_rows(g: &ConvGeometry, isa: Isa, floats: usize) -> Option<TapConv> {
        match Self::new(g, isa) {
            Forward::Taps(taps) if !Depthwise::suits(g) => {
                taps.all_gathered().is_some_and(|len| len <= floats).then_some(taps)
            }
            _ => None,
        }
    }

    fn bytes(&self) -> usize {
        match self {
            Forward::Winograd(_) => 0,
            Forward::Winograd1d(lines) => lines.bytes(),
            Forward::Taps(taps) => taps.bytes(),
        }
    }
}

/// The algorithms of the weight gradient.
enum WeightGradient {
    Winograd(WinogradWeights),
    Direct(DirectWeights),
}

impl WeightGradient {
    fn new(g: &ConvGeometry, isa: Isa) -> Self {
        WinogradWeights::new(g, isa)
            .map_or_else(|| WeightGradient::Direct(DirectWeights::new(g, isa)), WeightGradient::Winograd)
    }

    fn bytes(&self) -> usize {
        match self {
            WeightGradient::Winograd(w) => w.bytes(),
            WeightGradient::Direct(w) => w.bytes(),
        }
    }
}

/// The algorithms of the data gradient.
enum DataGradient {
    Winograd(Winograd),
    Winograd1d(Winograd1d),
    Taps(Vec<TapConv>),
    Columns(ColumnConv),
}

impl DataGradient {
    fn new(g: &ConvGeometry, isa: Isa) -> Self {
        if ColumnConv::suits(g) {
            return DataGradient::Columns(ColumnConv::new(g, isa));
        }
        let lines = || Winograd1d::backward(g, isa).map(DataGradient::Winograd1d);
        let winograd = Winograd::backward(g, isa).map(DataGradient::Winograd);
        winograd.or_else(lines).unwrap_or_else(|| DataGradient::Taps(TapConv::backward(g, isa)))
    }

    fn bytes(&self) -> usize {
        match self {
            DataGradient::Taps(phases) => phases.iter().map(TapConv::bytes).sum(),
            DataGradient::Winograd1d(lines) => lines.bytes(),
            DataGradient::Columns(_) | DataGradient::Winograd(_) => 0,
        }
    }
}

/// A convolution of one shape: the algorithms chosen for it, and their working memory.
///
/// # Examples
/// ```
/// use slq_kernels::conv::{Conv, ConvGeometry, ConvNeeds, Post};
/// use slq_kernels::Isa;
///
/// let g = ConvGeometry {
///     n: 1, c: 1, h: 3, w: 3, out_c: 1, kh: 2, kw: 2,
///     stride: [1, 1], pads: [0; 4], dilation: [1, 1], groups: 1,
/// };
/// let mut conv = Conv::new(g, Isa::detect(), ConvNeeds::default());
/// let mut y = [0.0; 4];
/// conv.forward(&[1.0; 9], &[1.0; 4], Some(&[-5.0]), Post::Relu, &mut y);
/// assert_eq!(y, [0.0; 4]);
/// ```
pub struct Conv {
    geometry: ConvGeometry,
    isa: Isa,
    needs: ConvNeeds,
    passes: Passes,
}

// One for each layer and never moved: a box would only add an indirection.
#[allow(clippy::large_enum_variant)]
enum Passes {
    Depthwise(Depthwise),
    Dense { forward: Forward, data: Option<DataGradient>, weights: Option<WeightGradient> },
}

impl std::fmt::Debug for Conv {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Conv")
            .field("geometry", &self.geometry)
            .field("isa", &self.isa)
            .finish_non_exhaustive()
    }
}

impl Conv {
    /// Chooses algorithms and allocates working memory for the forward pass and the gradients in `needs`.
    ///
    /// Panics when the geometry has a zero kernel, stride, dilation or group count, or groups that do not divide the
    /// channels.
    pub fn new(geometry: ConvGeometry, isa: Isa, needs: ConvNeeds) -> Self {
        let g = &geometry;
        assert!(g.kh > 0 && g.kw > 0 && g.groups > 0, "empty kernel or no group");
        assert!(g.stride.iter().chain(&g.dilation).all(|&v| v > 0), "zero stride or dilation");
        assert!(
            g.c.is_multiple_of(g.groups) && g.out_c.is_multiple_of(g.groups),
            "groups divide the channels"
        );
        let isa = isa.effective();
        let passes = if Depthwise::suits(g) && g.out_len() > 0 {
            Passes::Depthwise(Depthwise::new(g, isa))
        } else {
            Passes::Dense {
                forward: Forward::new(g, isa),
                data: needs.data_gradient.then(|| DataGradient::new(g, isa)),
                weights: needs.weight_gradient.then(|| WeightGradient::new(g, isa)),
            }
        };
        Conv { geometry, isa, needs, passes }
    }

    /// The shape.
    pub fn geometry(&self) -> &ConvGeometry {
        &self.geometry
    }

    /// Bytes of working memory that this object keeps. Each thread has a further buffer, shared by all convolutions.
    pub fn scratch_bytes(&self) -> usize {
        match &self.passes {
            Passes::Depthwise(_) => 0,
            Passes::Dense { forward, data, weights } => {
                forward.bytes()
                    + data.as_ref().map_or(0, DataGradient::bytes)
                    + weights.as_ref().map_or(0, WeightGradient::bytes)
            }
        }
    }

    /// `y = post(conv(x, w) + bias)`: `x` is `[n, c, h, w]`, `w` `[out_c, c / groups, kh, kw]`, `bias` `[out_c]`, `y`
    /// `[n, out_c, out_h, out_w]`.
    pub fn forward(&mut self, x: &[f32], w: &[f32], bias: Option<&[f32]>, post: Post, y: &mut [f32]) {
        self.sums(x, w, Finish::new(bias, post, Store::Overwrite), y);
    }

    /// `y = post(y + conv(x, w) + bias)`, sizes as in [`Conv::forward`].
    ///
    /// # Panics
    /// For a depthwise convolution, which cannot add to its output.
    pub fn forward_onto(&mut self, x: &[f32], w: &[f32], bias: Option<&[f32]>, post: Post, y: &mut [f32]) {
        self.sums(x, w, Finish::new(bias, post, Store::Accumulate), y);
    }

    fn sums(&mut self, x: &[f32], w: &[f32], finish: Finish<'_>, y: &mut [f32]) {
        let g = &self.geometry;
        assert!(x.len() == g.in_len() && w.len() == g.weight_len() && y.len() == g.out_len(), "tensor sizes");
        assert!(finish.bias.is_none_or(|b| b.len() == g.out_c), "bias size");
        if y.is_empty() {
            return;
        }
        match &mut self.passes {
            Passes::Depthwise(d) => d.forward(x, w, finish, y),
            Passes::Dense { forward: Forward::Winograd(f), .. } => f.run(x, w, finish, y),
            Passes::Dense { forward: Forward::Winograd1d(f), .. } => f.run(x, w, finish, y),
            Passes::Dense { forward: Forward::Taps(f), .. } => f.run(x, w, finish, y),
        }
    }

    /// Gradient of the input: `dx = conv^T(dy, w)`, stored in `dx` as `store` says. This is also the forward pass of the
    /// transposed convolution.
    ///
    /// Panics when the data gradient was not among the needs.
    pub fn backward_data(&mut self, w: &[f32], dy: &[f32], dx: &mut [f32], store: Store) {
        let g = &self.geometry;
        assert!(
            dx.len() == g.in_len() && w.len() == g.weight_len() && dy.len() == g.out_len(),
            "tensor sizes"
        );
        assert!(self.needs.data_gradient, "the data gradient is not among the needs");
        if dx.is_empty() {
            return;
        }
        let finish = Finish::gradient(store);
        match &mut self.passes {
            Passes::Depthwise(d) => d.backward_data(w, dy, dx, store),
            Passes::Dense { data: Some(DataGradient::Taps(phases)), .. } => {
                for phase in phases {
                    phase.run(dy, w, finish, dx);
                }
            }
            Passes::Dense { data: Some(DataGradient::Winograd(winograd)), .. } => {
                winograd.run(dy, w, finish, dx);
            }
            Passes::Dense { data: Some(DataGradient::Winograd1d(lines)), .. } => {
                lines.run(dy, w, finish, dx);
            }
            Passes::Dense { data: Some(DataGradient::Columns(columns)), .. } => {
                columns.run(w, dy, dx, store);
            }
            Passes::Dense { data: None, .. } => {}
        }
    }

    /// Gradients of the weights and, when `db` is given, of the bias; stored as `store` says.
    ///
    /// Panics when the weight gradient was not among the needs.
    pub fn backward_weights(
        &mut self,
        x: &[f32],
        dy: &[f32],
        dw: &mut [f32],
        db: Option<&mut [f32]>,
        store: Store,
    ) {
        let g = &self.geometry;
        assert!(
            x.len() == g.in_len() && dw.len() == g.weight_len() && dy.len() == g.out_len(),
            "tensor sizes"
        );
        assert!(self.needs.weight_gradient, "the weight gradient is not among the needs");
        match &mut self.passes {
            Passes::Depthwise(d) => d.backward_weights(x, dy, dw, store),
            Passes::Dense { weights: Some(WeightGradient::Winograd(w)), .. } => w.run(x, dy, dw, store),
            Passes::Dense { weights: Some(WeightGradient::Direct(w)), .. } => w.run(x, dy, dw, store),
            Passes::Dense { weights: None, .. } => {}
        }
        if let Some(db) = db {
            assert_eq!(db.len(), g.out_c, "bias size");
            bias_gradient(self.isa, g, dy, db, store);
        }
    }
}

#[cfg(test)]
mod tests;
