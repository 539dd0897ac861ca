//! Caffe's `Datum`: one labelled image as a protobuf message.

use prost::encoding::{DecodeContext, WireType, check_wire_type, decode_key, decode_varint, skip_field};

/// The message as it is written. Field numbers are Caffe's.
#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct Message {
    #[prost(int32, optional, tag = "1")]
    pub channels: Option<i32>,
    #[prost(int32, optional, tag = "2")]
    pub height: Option<i32>,
    #[prost(int32, optional, tag = "3")]
    pub width: Option<i32>,
    #[prost(bytes = "vec", optional, tag = "4")]
    pub data: Option<Vec<u8>>,
    #[prost(int32, optional, tag = "5")]
    pub label: Option<i32>,
    #[prost(float, repeated, packed = "false", tag = "6")]
    pub float_data: Vec<f32>,
    #[prost(bool, optional, tag = "7")]
    pub encoded: Option<bool>,
}

/// A message as it lies in a database: the pixels are not copied.
#[derive(Debug, Default, PartialEq)]
pub(crate) struct Datum<'a> {
    /// Channels, height, width; 0 where not told.
    pub shape: [usize; 3],
    pub label: u32,
    pub pixels: Pixels<'a>,
}

/// The elements.
#[derive(Debug, Default, PartialEq)]
pub(crate) enum Pixels<'a> {
    #[default]
    None,
    /// Bytes, channel by channel (blue first), row by row.
    Raw(&'a [u8]),
    /// Floats in the same order.
    Floats(Vec<f32>),
    /// A file such as JPEG or PNG.
    Encoded(&'a [u8]),
}

impl<'a> Datum<'a> {
    /// Reads a message, and checks that as many elements are there as the shape says.
    ///
    /// # Errors
    /// A sentence about what is wrong.
    pub fn read(bytes: &'a [u8]) -> Result<Self, String> {
        let mut fields = Fields::default();
        fields.read(bytes).map_err(|e| format!("not a Datum: {e}"))?;
        let extent = |name: &str, v: i64| {
            usize::try_from(v).ok().filter(|&v| v <= 1 << 24).ok_or_else(|| format!("{name} is {v}"))
        };
        let [c, h, w] = fields.shape;
        let shape = [extent("channels", c)?, extent("height", h)?, extent("width", w)?];
        let label = u32::try_from(fields.label).map_err(|_| format!("label is {}", fields.label))?;
        let count = shape.iter().try_fold(1usize, |n, &d| n.checked_mul(d)).unwrap_or(usize::MAX);
        let expect = |found: usize| match found == count && count > 0 {
            true => Ok(()),
            false => Err(format!("{found} values for an image of {c}x{h}x{w} (channels, height, width)")),
        };
        let pixels = match (fields.encoded, fields.data, fields.floats) {
            (true, Some(data), floats) if floats.is_empty() && !data.is_empty() => Pixels::Encoded(data),
            (true, ..) => return Err("an encoded image without data".into()),
            (false, Some(data), floats) if floats.is_empty() => {
                expect(data.len())?;
                Pixels::Raw(data)
            }
            (false, None, floats) => {
                expect(floats.len())?;
                if let Some(i) = floats.iter().position(|v| !v.is_finite()) {
                    return Err(format!("value {i} is {}", floats[i]));
                }
                Pixels::Floats(floats)
            }
            (false, Some(_), _) => return Err("both data and float_data".into()),
        };
        Ok(Datum { shape, label, pixels })
    }
}

#[derive(Default)]
struct Fields<'a> {
    shape: [i64; 3],
    label: i64,
    data: Option<&'a [u8]>,
    floats: Vec<f32>,
    encoded: bool,
}

impl<'a> Fields<'a> {
    fn read(&mut self, mut rest: &'a [u8]) -> Result<(), String> {
        let text = |e: prost::DecodeError| e.to_string();
        while !rest.is_empty() {
            let (tag, wire) = decode_key(&mut rest).map_err(text)?;
            let expected = match tag {
                1 | 2 | 3 | 5 | 7 => WireType::Varint,
                4 => WireType::LengthDelimited,
                6 if wire == WireType::LengthDelimited => wire,
                6 => WireType::ThirtyTwoBit,
                _ => {
                    skip_field(wire, tag, &mut rest, DecodeContext::default()).map_err(text)?;
                    continue;
                }
            };
            check_wire_type(expected, wire).map_err(text)?;
            if expected == WireType::ThirtyTwoBit {
                let four = rest.split_off(..4).ok_or("a float is cut off")?;
                self.floats.extend(floats(four));
                continue;
            }
            let number = decode_varint(&mut rest).map_err(text)?;
            if expected == WireType::Varint {
                match tag {
                    5 => self.label = number as i64,
                    7 => self.encoded = number != 0,
                    _ => self.shape[tag as usize - 1] = number as i64,
                }
                continue;
            }
            let length = usize::try_from(number).unwrap_or(usize::MAX);
            let content = rest.split_off(..length).ok_or("a field is longer than the message")?;
            match tag {
                4 => self.data = Some(content),
                _ if length.is_multiple_of(4) => self.floats.extend(floats(content)),
                _ => return Err("a float is cut off".into()),
            }
        }
        Ok(())
    }
}

fn floats(bytes: &[u8]) -> impl Iterator<Item = f32> {
    bytes.chunks_exact(4).map(|four| f32::from_le_bytes([four[0], four[1], four[2], four[3]]))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use prost::Message as _;

    fn raw(shape: [i32; 3], label: i32, data: &[u8]) -> Vec<u8> {
        let [c, h, w] = shape.map(Some);
        let message = Message {
            channels: c,
            height: h,
            width: w,
            data: Some(data.into()),
            label: Some(label),
            ..Default::default()
        };
        message.encode_to_vec()
    }

    #[test]
    fn what_is_written_is_read() {
        let bytes = raw([1, 2, 3], 7, &[1, 2, 3, 4, 5, 6]);
        let datum = Datum::read(&bytes).unwrap();
        assert_eq!((datum.shape, datum.label), ([1, 2, 3], 7));
        assert_eq!(datum.pixels, Pixels::Raw(&[1, 2, 3, 4, 5, 6]));
        let floats = Message {
            channels: Some(2),
            height: Some(1),
            width: Some(1),
            float_data: vec![0.5, -1.0],
            ..Default::default()
        };
        let bytes = floats.encode_to_vec();
        assert_eq!(Datum::read(&bytes).unwrap().pixels, Pixels::Floats(vec![0.5, -1.0]));
        let encoded = Message { data: Some(b"jpeg".to_vec()), encoded: Some(true), ..Default::default() };
        let bytes = encoded.encode_to_vec();
        assert_eq!(Datum::read(&bytes).unwrap().pixels, Pixels::Encoded(b"jpeg"));
    }

    #[test]
    fn what_does_not_fit_is_named() {
        let table = [
            (raw([1, 2, 2], 0, &[1, 2, 3]), "3 values for an image of 1x2x2"),
            (raw([0, 2, 2], 0, &[]), "0 values for an image of 0x2x2"),
            (raw([1, 1, -1], 0, &[1]), "width is -1"),
            (raw([1, 1, 1], -3, &[1]), "label is -3"),
            (raw([1 << 24, 1 << 24, 1 << 24], 0, &[1]), "1 values for"),
            (Message { encoded: Some(true), ..Default::default() }.encode_to_vec(), "without data"),
            (vec![0x22, 0x7f, 1], "longer than the message"),
            (vec![0x0d, 0, 0, 0, 0], "not a Datum"),
        ];
        for (bytes, expected) in table {
            let problem = Datum::read(&bytes).unwrap_err();
            assert!(problem.contains(expected), "{expected}: {problem}");
        }
    }

    proptest! {
        #[test]
        fn any_bytes_end_in_an_answer(bytes in prop::collection::vec(any::<u8>(), 0..64)) {
            if let Ok(Datum { shape, pixels: Pixels::Raw(data), .. }) = Datum::read(&bytes) {
                prop_assert_eq!(data.len(), shape.iter().product::<usize>());
            }
        }

        #[test]
        fn a_message_cut_short_is_no_image(cut in 0usize..26) {
            let bytes = raw([3, 2, 3], 7, &(0..18).collect::<Vec<u8>>());
            prop_assert_eq!(bytes.len(), 28);
            prop_assert!(Datum::read(&bytes[..cut]).is_err());
        }
    }
}
