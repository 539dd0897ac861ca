//! Databases of images as Caffe keeps them: LMDB files whose values are `Datum` messages.
//!
//! The files are read and written here rather than through the C library, which maps them into memory and may
//! bring the process down when they are truncated or garbled. Only what Caffe uses is known: one unnamed
//! database, 64-bit files, no duplicate keys.

mod read;
mod write;

use prost::Message as _;

pub use read::Lmdb;
pub use write::LmdbWriter;

use crate::proto;

/// An image, as stored in a database.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Datum {
    /// Channels (BGR for colour images); of an encoded image, 0 where not told.
    pub channels: usize,
    /// Height; of an encoded image, 0 where not told.
    pub height: usize,
    /// Width; of an encoded image, 0 where not told.
    pub width: usize,
    /// Class.
    pub label: i64,
    /// The elements.
    pub data: DatumData,
}

/// The elements of a [`Datum`].
#[derive(Debug, Clone, PartialEq)]
pub enum DatumData {
    /// Bytes, channel by channel, row by row.
    Pixels(Vec<u8>),
    /// Floats in the same order.
    Floats(Vec<f32>),
    /// A file such as JPEG or PNG.
    Encoded(Vec<u8>),
}

impl Default for DatumData {
    fn default() -> Self {
        DatumData::Pixels(Vec::new())
    }
}

impl Datum {
    fn decode(bytes: &[u8]) -> Result<Self, String> {
        let p = proto::Datum::decode(bytes).map_err(|e| format!("not a datum: {e}"))?;
        let extent = |v: i32| usize::try_from(v).map_err(|_| format!("a negative extent {v}"));
        let (channels, height, width) = (extent(p.channels())?, extent(p.height())?, extent(p.width())?);
        let encoded = p.encoded();
        let label = p.label().into();
        let count = channels.checked_mul(height).and_then(|n| n.checked_mul(width));
        let data = match (encoded, p.data, p.float_data) {
            (true, Some(data), floats) if floats.is_empty() && !data.is_empty() => DatumData::Encoded(data),
            (false, Some(data), floats) if floats.is_empty() => DatumData::Pixels(data),
            (false, None, floats) => DatumData::Floats(floats),
            (false, Some(data), floats) if data.is_empty() => DatumData::Floats(floats),
            _ => return Err("its data are neither an image, nor bytes, nor floats".into()),
        };
        let found = match &data {
            DatumData::Pixels(v) => Some(v.len()),
            DatumData::Floats(v) => Some(v.len()),
            DatumData::Encoded(_) => None,
        };
        if found.is_some() && found != count {
            let elements = found.unwrap_or_default();
            return Err(format!("{elements} elements do not fill {channels} x {height} x {width}"));
        }
        Ok(Self { channels, height, width, label, data })
    }

    fn encode(&self) -> Vec<u8> {
        let extent = |v: usize| Some(i32::try_from(v).unwrap_or(i32::MAX));
        let mut p = proto::Datum {
            channels: extent(self.channels),
            height: extent(self.height),
            width: extent(self.width),
            label: Some(i32::try_from(self.label).unwrap_or(i32::MAX)),
            ..proto::Datum::default()
        };
        match &self.data {
            DatumData::Pixels(data) => p.data = Some(data.clone()),
            DatumData::Floats(data) => p.float_data = data.clone(),
            DatumData::Encoded(data) => {
                p.data = Some(data.clone());
                p.encoded = Some(true);
            }
        }
        p.encode_to_vec()
    }
}

// Layout of the file: pages of one size, all numbers little-endian. Pages 0 and 1 hold a description each; the
// one with the larger transaction number counts.
const MAGIC: u32 = 0xBEEF_C0DE;
const VERSION: u32 = 1;
/// Bytes of a page's own header: number u64, pad u16, flags u16, lower u16, upper u16 (or pages u32).
const HEADER: usize = 16;
/// Bytes of a node's header: size or page number (low u16, high u16), flags u16, key size u16.
const NODE: usize = 8;
const BRANCH: u16 = 1;
const LEAF: u16 = 2;
const OVERFLOW: u16 = 4;
const META: u16 = 8;
/// Flag of a node whose value lies on pages of its own.
const BIG: u16 = 1;
/// Page number of an empty tree's root.
const NO_PAGE: u64 = u64::MAX;

#[cfg(test)]
mod tests;
