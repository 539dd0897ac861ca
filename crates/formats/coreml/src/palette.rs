//! Palettes as Core ML's look-up tables: widths, grouping along axes, packing.

use slq_codebook::{PackError, Palette, pack};

use crate::mil::DataType;

/// Widths of a code that Core ML has.
const WIDTHS: [u8; 6] = [1, 2, 3, 4, 6, 8];

/// The narrowest width of Core ML that holds codes of `bits` bits.
pub fn width(bits: u8) -> u8 {
    WIDTHS.into_iter().find(|&w| w >= bits).unwrap_or(8)
}

/// Element type of codes of a width of Core ML.
pub fn code_type(width: u8) -> DataType {
    match width {
        1 => DataType::Uint1,
        2 => DataType::Uint2,
        3 => DataType::Uint3,
        4 => DataType::Uint4,
        6 => DataType::Uint6,
        _ => DataType::Uint8,
    }
}

/// How the tables of a weight lie along its axes.
#[derive(Debug, PartialEq)]
pub struct Grid {
    /// Tables along each axis of the weight; each number divides the axis' extent.
    pub tables: Vec<usize>,
    /// Weights that one table serves, a contiguous run.
    pub run: usize,
}

/// The coarsest grid whose cells each lie in one of the `groups` equal runs of a weight of `shape`. A palette for each output
/// channel, or for runs of channels, gives one table for each of its codebooks; runs that begin inside a row give several equal
/// ones.
pub fn grid(shape: &[usize], groups: usize) -> Grid {
    let count: usize = shape.iter().product();
    let run = (count / groups.max(1)).max(1);
    let mut inner = count.max(1);
    let mut tables = vec![1; shape.len()];
    for (axis, &extent) in shape.iter().enumerate() {
        if groups <= 1 {
            break;
        }
        inner /= extent.max(1);
        if run.is_multiple_of(inner) {
            let cell = gcd(run / inner, extent);
            tables[axis] = extent / cell;
            return Grid { tables, run: cell * inner };
        }
        tables[axis] = extent;
    }
    Grid { tables, run: count.max(1) }
}

fn gcd(a: usize, b: usize) -> usize {
    if b == 0 { a.max(1) } else { gcd(b, a % b) }
}

/// Codes and tables as they are written.
#[derive(Debug)]
pub struct Lut {
    /// Bits of a code.
    pub width: u8,
    /// Packed codes, lowest bit first.
    pub codes: Vec<u8>,
    /// Bits of the last byte that hold no code.
    pub unused_bits: u64,
    /// Shape of the tables: the grid, 2^width, 1.
    pub shape: Vec<usize>,
    /// The tables, each filled up to 2^width entries with its last centroid, which no code names.
    pub tables: Vec<f32>,
}

/// The entries of all tables of a palette in a weight of `shape`.
pub fn entries(palette: &Palette, shape: &[usize]) -> Option<usize> {
    let cells = grid(shape, palette.groups()).tables.iter().product::<usize>();
    cells.checked_mul(1 << width(palette.bits()))
}

/// The look-up form of a palette over a weight of `shape`.
///
/// # Errors
/// [`PackError`] for codes that do not fit their width: not a palette of [`Palette::new`].
pub fn lut(palette: &Palette, shape: &[usize]) -> Result<Lut, PackError> {
    let (width, size) = (width(palette.bits()), palette.codebook_size());
    let grid = grid(shape, palette.groups());
    let run = (palette.codes().len() / palette.groups()).max(1);
    let cells: usize = grid.tables.iter().product();
    let mut tables = Vec::with_capacity(cells << width);
    for cell in 0..cells {
        let group = (cell * grid.run / run).min(palette.groups() - 1);
        let book = &palette.codebook()[group * size..][..size];
        tables.extend_from_slice(book);
        tables.extend(std::iter::repeat_n(book[size - 1], (1 << width) - size));
    }
    let codes = pack(palette.codes(), width.into())?;
    let unused_bits = (8 * codes.len() - palette.codes().len() * usize::from(width)) as u64;
    let mut shape = grid.tables;
    shape.extend([1 << width, 1]);
    Ok(Lut { width, codes, unused_bits, shape, tables })
}

/// The weight of `shape` that codes and tables stand for; `None` where they do not fit together.
pub fn decode(codes: &[u8], tables: &[f32], table_shape: &[usize], shape: &[usize]) -> Option<Vec<f32>> {
    let [grid @ .., size, 1] = table_shape else { return None };
    if grid.len() != shape.len() || grid.iter().zip(shape).any(|(&g, &s)| !s.is_multiple_of(g)) {
        return None;
    }
    let mut values = Vec::with_capacity(codes.len());
    let mut at = vec![0; shape.len()];
    for &code in codes {
        let cell = at.iter().zip(shape).zip(grid).fold(0, |cell, ((&i, &s), &g)| cell * g + i / (s / g));
        values.push(*tables.get(cell * size + usize::from(code))?);
        for (i, &extent) in at.iter_mut().zip(shape).rev() {
            *i += 1;
            if *i < extent {
                break;
            }
            *i = 0;
        }
    }
    Some(values)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use slq_codebook::unpack;

    use super::*;

    fn palette(groups: usize, size: usize, count: usize) -> Palette {
        let book = (0..groups * size).map(|i| i as f32 - 3.5).collect();
        Palette::fully_fixed(book, groups, (0..count).map(|i| (i * 7 % size) as u8).collect()).unwrap()
    }

    #[test]
    fn widths_are_those_of_core_ml() {
        assert_eq!((1..=8).map(width).collect::<Vec<_>>(), [1, 2, 3, 4, 6, 6, 8, 8]);
        assert_eq!(code_type(6), DataType::Uint6);
    }

    #[test]
    fn a_grid_follows_channels_runs_of_channels_and_blocks() {
        let tables = |shape: &[usize], groups| grid(shape, groups).tables;
        assert_eq!(tables(&[8, 4, 3, 3], 1), [1, 1, 1, 1]);
        assert_eq!(tables(&[8, 4, 3, 3], 8), [8, 1, 1, 1]);
        assert_eq!(tables(&[8, 4, 3, 3], 2), [2, 1, 1, 1]);
        assert_eq!(tables(&[8, 4, 3, 3], 16), [8, 2, 1, 1]);
        assert_eq!(tables(&[6, 64], 12), [6, 2]);
        // Three runs over two rows: cells of a third of a row.
        assert_eq!(tables(&[2, 6], 3), [2, 3]);
    }

    #[test]
    fn tables_are_filled_up_and_codes_lie_lowest_bit_first() {
        let p = Palette::fully_fixed(vec![-1.0, 0.0, 2.0], 1, vec![2, 0, 1]).unwrap();
        let lut = lut(&p, &[3]).unwrap();
        assert_eq!((lut.width, lut.codes.as_slice(), lut.unused_bits), (2, &[0b01_00_10][..], 2));
        assert_eq!((lut.shape, lut.tables), (vec![1, 4, 1], vec![-1.0, 0.0, 2.0, 2.0]));
    }

    #[test]
    fn what_does_not_fit_is_not_decoded() {
        assert_eq!(decode(&[0], &[1.0], &[2, 1, 1], &[3]), None);
        assert_eq!(decode(&[1], &[1.0], &[1, 1, 1], &[1]), None);
        assert_eq!(decode(&[0], &[1.0], &[1, 1, 2], &[1]), None);
    }

    proptest! {
        #[test]
        fn decoded_tables_are_the_palette(
            shape in proptest::collection::vec(1usize..7, 1..5), size in 1usize..=256, pick in any::<prop::sample::Index>(),
        ) {
            let count: usize = shape.iter().product();
            let divisors: Vec<usize> = (1..=count).filter(|&d| count.is_multiple_of(d)).collect();
            let palette = palette(divisors[pick.index(divisors.len())], size, count);
            let lut = lut(&palette, &shape).unwrap();
            prop_assert_eq!(lut.codes.len(), (count * usize::from(lut.width)).div_ceil(8));
            prop_assert!(lut.unused_bits < 8);
            // Code i takes bits i * width and up of the stream.
            let bit = |at: usize| lut.codes[at / 8] >> (at % 8) & 1;
            for (i, &code) in palette.codes().iter().enumerate() {
                let found = (0..usize::from(lut.width)).fold(0, |c, b| c | bit(i * usize::from(lut.width) + b) << b);
                prop_assert_eq!(found, code);
            }
            let codes = unpack(&lut.codes, lut.width.into(), count).unwrap();
            prop_assert_eq!(decode(&codes, &lut.tables, &lut.shape, &shape).unwrap(), palette.decode());
            prop_assert_eq!(lut.tables.len(), entries(&palette, &shape).unwrap());
        }
    }
}
