//! Shape of a convolution, and the activation behind it.

/// Shape of a two-dimensional convolution, NCHW; weights are `[out_c, c / groups, kh, kw]`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ConvGeometry {
    /// Batch size.
    pub n: usize,
    /// Input channels.
    pub c: usize,
    /// Input height.
    pub h: usize,
    /// Input width.
    pub w: usize,
    /// Output channels.
    pub out_c: usize,
    /// Kernel height.
    pub kh: usize,
    /// Kernel width.
    pub kw: usize,
    /// Steps down and right.
    pub stride: [usize; 2],
    /// Padding with zeros: top, left, bottom, right.
    pub pads: [usize; 4],
    /// Distance between the rows and columns of the kernel.
    pub dilation: [usize; 2],
    /// Groups; they divide both numbers of channels.
    pub groups: usize,
}

impl ConvGeometry {
    fn out(&self, axis: usize, size: usize, kernel: usize) -> usize {
        let extent = self.dilation[axis] * (kernel - 1) + 1;
        (size + self.pads[axis] + self.pads[axis + 2])
            .checked_sub(extent)
            .map_or(0, |room| room / self.stride[axis] + 1)
    }

    /// Output height; 0 when the kernel does not fit.
    pub fn out_h(&self) -> usize {
        self.out(0, self.h, self.kh)
    }

    /// Output width; 0 when the kernel does not fit.
    pub fn out_w(&self) -> usize {
        self.out(1, self.w, self.kw)
    }

    /// Elements of the input.
    pub fn in_len(&self) -> usize {
        self.n * self.c * self.h * self.w
    }

    /// Elements of the output.
    pub fn out_len(&self) -> usize {
        self.n * self.out_c * self.out_h() * self.out_w()
    }

    /// Elements of the weights.
    pub fn weight_len(&self) -> usize {
        self.out_c * self.group_c() * self.kh * self.kw
    }

    /// Multiply-adds of one pass, padding included.
    pub fn macs(&self) -> u64 {
        self.out_len() as u64 * (self.group_c() * self.kh * self.kw) as u64
    }

    pub(crate) fn group_c(&self) -> usize {
        self.c / self.groups
    }

    pub(crate) fn group_out(&self) -> usize {
        self.out_c / self.groups
    }

    /// A 1 x 1 convolution with stride 1 and no padding with each plane as one row, which fills tiles better; any other
    /// unchanged.
    pub(crate) fn flattened(&self) -> Self {
        let every = self.taps() == 1 && self.stride == [1; 2] && self.pads == [0; 4];
        if every { Self { h: 1, w: self.h * self.w, ..*self } } else { *self }
    }

    pub(crate) fn taps(&self) -> usize {
        self.kh * self.kw
    }
}

/// The function applied to each output of a convolution or normalisation.
#[derive(Clone, Copy, Debug, PartialEq, Default)]
pub enum Post {
    /// Nothing.
    #[default]
    None,
    /// `max(x, 0)`.
    Relu,
    /// `min(max(x, lo), hi)`.
    Clip(f32, f32),
}

impl Post {
    /// The bounds it clamps to.
    pub fn bounds(self) -> (f32, f32) {
        match self {
            Post::None => (f32::NEG_INFINITY, f32::INFINITY),
            Post::Relu => (0.0, f32::INFINITY),
            Post::Clip(lo, hi) => (lo, hi),
        }
    }
}

/// The two passes that sum products with the weights over taps and channels.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Pass {
    Forward,
    /// The same sum with input and output channels exchanged and the kernel rotated by 180 degrees.
    DataGradient,
}

impl Pass {
    /// Channels of a group: read, written.
    pub(crate) fn channels(self, g: &ConvGeometry) -> (usize, usize) {
        match self {
            Pass::Forward => (g.group_c(), g.group_out()),
            Pass::DataGradient => (g.group_out(), g.group_c()),
        }
    }
}

/// Gradients that will be computed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct ConvNeeds {
    /// Gradient of the input.
    pub data_gradient: bool,
    /// Gradient of the weights.
    pub weight_gradient: bool,
}
