//! Palettes as what the decoder of TensorFlow Lite for Microcontrollers reads: packed codes and look-up tables.

use slq_codebook::pack_rows;
use slq_graph::{Palette, bits_for};

use crate::arrange::Arrangement;

/// Most values of one table: codes have at most 7 bits.
pub const LARGEST_TABLE: usize = 128;
/// Bytes before the tables.
pub(crate) const HEADER: usize = 16;
/// Bytes that the number of tables takes in a file, for each: a scale and a zero point.
pub(crate) const PER_TABLE: usize = 12;

/// Codes and tables of one weight.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Tables {
    /// Bits of a code.
    pub(crate) bits: u8,
    /// Codes, most significant bit first.
    pub(crate) codes: Vec<u8>,
    /// All tables, one after the other.
    pub(crate) values: Vec<f32>,
    /// Values of one table.
    pub(crate) size: usize,
    /// Number of tables.
    pub(crate) count: usize,
    /// The axis that tables follow: 0, where each serves an equal run of elements, or the last.
    pub(crate) axis: usize,
}

impl Tables {
    /// The palette of a weight in a new order, its values times `factor`; or why it cannot be packed.
    pub(crate) fn of(palette: &Palette, order: &Arrangement, factor: f32) -> Result<Self, String> {
        if palette.codebook_size() > LARGEST_TABLE {
            return Err(format!("its codebook has more than {LARGEST_TABLE} values"));
        }
        let count: usize = order.shape().iter().product();
        if count == 0 {
            return Err("it holds no values".into());
        }
        let codes = order.apply(palette.codes());
        let book: Vec<f32> = palette.codebook().iter().map(|v| v * factor).collect();
        let size = palette.codebook_size();
        let single = |codes: &[u8], values: Vec<f32>| {
            let size = values.len();
            Self::packed(codes, values, size, 1, 0)
        };
        if palette.groups() == 1 {
            return single(&codes, book);
        }
        let run = (count / palette.groups()).max(1);
        let groups: Vec<u32> = order.positions().map(|p| (p / run) as u32).collect();
        let mut forms = Vec::new();
        if groups.chunks(run).all(|chunk| chunk.iter().all(|g| *g == chunk[0])) {
            let values = groups.chunks(run).flat_map(|chunk| table(&book, size, chunk[0])).collect();
            forms.push(Self::packed(&codes, values, size, palette.groups(), 0)?);
        } else if let Some(&channels) = order.shape().last().filter(|&&c| c > 1)
            && groups.iter().zip(groups[..channels].iter().cycle()).all(|(a, b)| a == b)
        {
            let values = groups[..channels].iter().flat_map(|&g| table(&book, size, g)).collect();
            forms.push(Self::packed(&codes, values, size, channels, order.shape().len() - 1)?);
        }
        if let Some((codes, values)) = merged(&codes, &groups, &book, size) {
            forms.push(single(&codes, values)?);
        }
        let Some(best) = forms.into_iter().min_by_key(Self::bytes) else {
            return Err("its codebooks follow runs of inputs that are not neighbours in the file".into());
        };
        if best.bytes() >= 4 * count {
            return Err("with its codebooks it would be larger than as floats".into());
        }
        Ok(best)
    }

    fn packed(
        codes: &[u8],
        values: Vec<f32>,
        size: usize,
        count: usize,
        axis: usize,
    ) -> Result<Self, String> {
        let bits = bits_for(size);
        let mut packed = pack_rows(codes, bits.into()).map_err(|e| e.to_string())?;
        // Rows are filled up to eight codes; the decoder does not read those.
        packed.truncate((codes.len() * usize::from(bits)).div_ceil(8));
        Ok(Self { bits, codes: packed, values, size, count, axis })
    }

    /// Bytes in the file.
    pub(crate) fn bytes(&self) -> usize {
        self.codes.len() + self.table_bytes()
    }

    /// Bytes beside the codes.
    pub(crate) fn table_bytes(&self) -> usize {
        let several = if self.count > 1 { PER_TABLE * self.count } else { 0 };
        HEADER + 4 * self.values.len() + several
    }

    /// The ancillary tensor: a header of 16 bytes (kind and version of the encoding, version of its parameters, bits, values
    /// of a table), and the tables.
    pub(crate) fn ancillary(&self) -> Vec<u8> {
        let mut bytes = vec![0u8; HEADER];
        // Byte 0: kind 0, look-up tables.
        bytes[1] = 1;
        bytes[4] = 1;
        bytes[5] = self.bits;
        bytes[6] = u8::try_from(self.size).unwrap_or(u8::MAX);
        bytes.extend(self.values.iter().flat_map(|v| v.to_le_bytes()));
        bytes
    }
}

fn table(book: &[f32], size: usize, group: u32) -> impl Iterator<Item = f32> + '_ {
    let from = group as usize * size;
    book[from..from + size].iter().copied()
}

/// One table of all values that are used, where they are few enough.
fn merged(codes: &[u8], groups: &[u32], book: &[f32], size: usize) -> Option<(Vec<u8>, Vec<f32>)> {
    let value = |code: u8, group: u32| book[group as usize * size + usize::from(code)];
    let mut bits: Vec<u32> = Vec::new();
    for (&code, &group) in codes.iter().zip(groups) {
        let wanted = value(code, group).to_bits();
        if let Err(at) = bits.binary_search(&wanted) {
            if bits.len() == LARGEST_TABLE {
                return None;
            }
            bits.insert(at, wanted);
        }
    }
    let find = |wanted: u32| bits.binary_search(&wanted).ok().and_then(|p| u8::try_from(p).ok());
    let codes: Option<Vec<u8>> =
        codes.iter().zip(groups).map(|(&c, &g)| find(value(c, g).to_bits())).collect();
    Some((codes?, bits.iter().map(|&b| f32::from_bits(b)).collect()))
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::arrange::CHANNELS_LAST;

    /// The values, as the decoder finds them: bit by bit from the packed codes.
    pub(crate) fn decode(tables: &Tables, count: usize) -> Vec<f32> {
        let bit = |i: usize| usize::from(tables.codes[i / 8] >> (7 - i % 8) & 1);
        let width = usize::from(tables.bits);
        let value = |i: usize| {
            let code = (0..width).fold(0, |code, b| code << 1 | bit(i * width + b));
            let table = if tables.axis == 0 { i / (count / tables.count) } else { i % tables.count };
            tables.values[table * tables.size + code]
        };
        (0..count).map(value).collect()
    }

    fn palette(groups: usize, size: usize, count: usize) -> Palette {
        let book = (0..groups * size).map(|v| v as f32 * 0.5 - 3.0).collect();
        let codes = (0..count).map(|i| ((i * 7 + i / 3) % size) as u8).collect();
        Palette::fully_fixed(book, groups, codes).unwrap()
    }

    #[test]
    fn every_form_decodes_to_the_palette_in_the_new_order() {
        let (kernel, depthwise) = ([8, 5, 3, 3], [40, 1, 3, 3]);
        let ohwi = Arrangement::permuted(&kernel, &CHANNELS_LAST);
        let last = Arrangement::permuted(&depthwise, &[1, 2, 3, 0]);
        let dense = Arrangement::dense(12, 30, false, None);
        // Groups of rows that lie apart in the new order.
        let blocks = Arrangement::permuted(&[4, 90], &[1, 0]);
        for (groups, size, order, tables, axis) in [
            (1, 17, &ohwi, 1, 0),
            (8, 3, &ohwi, 8, 0),
            (8, 2, &blocks, 1, 0),
            (8, 20, &ohwi, 8, 0),
            (4, 40, &ohwi, 4, 0),
            (1, 128, &last, 1, 0),
            (40, 2, &last, 1, 0),
            (5, 27, &last, 40, 3),
            (30, 5, &dense, 30, 1),
        ] {
            let palette = palette(groups, size, 360);
            let made = Tables::of(&palette, order, 1.0);
            if groups == 5 {
                // 40 tables of 27 values are more than 360 floats.
                assert!(made.unwrap_err().contains("larger"), "{groups}");
                continue;
            }
            let made = made.unwrap();
            assert_eq!((made.count, made.axis), (tables, axis), "{groups} x {size}");
            let bits = usize::from(made.bits);
            assert_eq!(made.codes.len(), (360 * bits).div_ceil(8));
            assert_eq!(decode(&made, 360), order.apply(&palette.decode()), "{groups} x {size}");
            assert_eq!(made.ancillary().len(), HEADER + 4 * made.values.len());
            assert_eq!(made.ancillary()[..7], [0, 1, 0, 0, 1, made.bits, made.size as u8]);
        }
    }

    #[test]
    fn what_tables_cannot_hold_is_said() {
        let order = Arrangement::plain(&[600]);
        let wide = Tables::of(&palette(1, 200, 600), &order, 1.0).unwrap_err();
        assert!(wide.contains("128"), "{wide}");
        // Blocks of two inputs in a kernel of 3 x 3, with more values in all than one table has.
        let blocks = palette(180, 2, 360);
        let order = Arrangement::permuted(&[4, 10, 3, 3], &CHANNELS_LAST);
        let split = Tables::of(&blocks, &order, 1.0).unwrap_err();
        assert!(split.contains("not neighbours"), "{split}");
    }

    #[test]
    fn a_factor_scales_the_tables() {
        let palette = palette(1, 4, 16);
        let made = Tables::of(&palette, &Arrangement::plain(&[16]), 0.25).unwrap();
        let expected: Vec<f32> = palette.decode().iter().map(|v| v * 0.25).collect();
        assert_eq!(decode(&made, 16), expected);
    }
}
