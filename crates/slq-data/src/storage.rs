//! Where the pixels of a split are kept.

use crate::DataError;

/// The images behind a split.
#[derive(Debug)]
pub(crate) enum Storage {
    /// 8-bit images of one size, planar.
    Bytes { data: Vec<u8>, shape: [usize; 3] },
    /// Float images of one size, planar.
    Floats { data: Vec<f32>, shape: [usize; 3] },
}

/// One image, planar (channels, height, width).
#[derive(Clone, Copy, Debug)]
pub(crate) struct Image<'a> {
    pub pixels: Pixels<'a>,
    pub shape: [usize; 3],
}

/// The pixels of one image.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Pixels<'a> {
    Bytes(&'a [u8]),
    Floats(&'a [f32]),
}

impl Storage {
    pub fn bytes(data: Vec<u8>, shape: [usize; 3]) -> Storage {
        Storage::Bytes { data, shape }
    }

    pub fn floats(data: Vec<f32>, shape: [usize; 3]) -> Storage {
        Storage::Floats { data, shape }
    }

    pub fn len(&self) -> usize {
        match self {
            Storage::Bytes { data, shape } => data.len() / volume(*shape),
            Storage::Floats { data, shape } => data.len() / volume(*shape),
        }
    }

    pub fn channels(&self) -> usize {
        match self {
            Storage::Bytes { shape, .. } | Storage::Floats { shape, .. } => shape[0],
        }
    }

    /// Height and width, if all images agree.
    pub fn size(&self) -> Option<[usize; 2]> {
        match self {
            Storage::Bytes { shape, .. } | Storage::Floats { shape, .. } => Some([shape[1], shape[2]]),
        }
    }

    /// What to call image `i` in a message.
    pub fn name(&self, i: usize) -> String {
        format!("image {i}")
    }

    /// Image `i`; `scratch` holds the pixels where they must be decoded first.
    pub fn image<'a>(&'a self, i: usize, _scratch: &'a mut Vec<u8>) -> Result<Image<'a>, DataError> {
        Ok(match self {
            Storage::Bytes { data, shape } => {
                let size = volume(*shape);
                Image { pixels: Pixels::Bytes(&data[i * size..][..size]), shape: *shape }
            }
            Storage::Floats { data, shape } => {
                let size = volume(*shape);
                Image { pixels: Pixels::Floats(&data[i * size..][..size]), shape: *shape }
            }
        })
    }
}

fn volume(shape: [usize; 3]) -> usize {
    shape.iter().product()
}
