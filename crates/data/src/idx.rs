//! IDX, the format of MNIST and Fashion-MNIST: <http://yann.lecun.com/exdb/mnist/>.

use crate::gzip::Content;
use crate::{DataError, Split};

/// Magic numbers: two zero bytes, 8 for unsigned bytes, and the number of dimensions.
const IMAGES: u32 = 0x0803;
const LABELS: u32 = 0x0801;

/// The largest side of an image.
const MAX_SIDE: u64 = 1 << 14;

/// A split of an images file and a labels file, each (name, content) and each gzip'd or not.
pub(crate) fn read(images: (&str, &[u8]), labels: (&str, &[u8])) -> Result<Split, DataError> {
    let (dims, pixels) = read_file(images, IMAGES, 3)?;
    let (label_dims, labels_read) = read_file(labels, LABELS, 1)?;
    if dims[0] != label_dims[0] {
        return Err(DataError::CountMismatch {
            images_file: images.0.into(),
            images: dims[0],
            labels_file: labels.0.into(),
            labels: label_dims[0],
        });
    }
    let shape = [1, dims[1] as usize, dims[2] as usize];
    Split::from_bytes(pixels, labels_read.into_iter().map(u32::from).collect(), shape)
}

fn read_file(
    (file, bytes): (&str, &[u8]),
    magic: u32,
    dims: usize,
) -> Result<(Vec<u64>, Vec<u8>), DataError> {
    let mut content = Content::new(file, bytes);
    let header = content.take(4 + 4 * dims as u64)?;
    let mut numbers = header.chunks_exact(4).map(|b| u32::from_be_bytes([b[0], b[1], b[2], b[3]]));
    let found = numbers.next().unwrap_or_default();
    if found != magic {
        return Err(DataError::IdxMagic { file: file.into(), found, expected: magic });
    }
    let dims: Vec<u64> = numbers.map(u64::from).collect();
    let len = dims.iter().try_fold(1u64, |product, &dim| product.checked_mul(dim));
    let len = len.filter(|_| dims[1..].iter().all(|side| (1..=MAX_SIDE).contains(side)));
    let Some(len) = len else {
        return Err(DataError::Dimensions { file: file.into(), dims });
    };
    if dims[0] == 0 {
        return Err(DataError::Empty { place: file.into() });
    }
    let data = content.take(len)?;
    content.end(len)?;
    Ok((dims, data))
}
