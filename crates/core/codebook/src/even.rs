//! Codebooks whose entries are whole multiples of one step.

use crate::Palette;

/// Most steps from zero: a signed code of 8 bits.
pub const MOST_STEPS: i32 = 127;
/// Relative rounding of an entry that passes: the product of step and multiple, and the step itself, are rounded once each.
const ROUNDING: f32 = 4.0 * f32::EPSILON;

/// A codebook as multiples of one step.
#[derive(Debug, Clone, PartialEq)]
pub struct Even {
    /// The step, positive; 0 where all entries are zero.
    pub step: f32,
    /// The multiple of each entry, in the order of the codebook, from -127 to 127.
    pub multiples: Vec<i8>,
}

/// The step of a codebook, the smallest magnitude above zero in it, and each entry as a multiple of it; `None` where an entry is
/// no multiple within rounding, or more than [`MOST_STEPS`] steps from zero.
pub fn even(codebook: &[f32]) -> Option<Even> {
    let magnitudes = codebook.iter().map(|c| c.abs()).filter(|&c| c > 0.0);
    let step = magnitudes.reduce(f32::min).unwrap_or(0.0);
    let multiple = |&c: &f32| -> Option<i8> {
        if c == 0.0 {
            return Some(0);
        }
        let times = (c / step).round();
        let fits = times.abs() <= MOST_STEPS as f32 && (times * step - c).abs() <= ROUNDING * c.abs();
        fits.then_some(times as i8)
    };
    Some(Even { step, multiples: codebook.iter().map(multiple).collect::<Option<_>>()? })
}

impl Palette {
    /// The palette with each codebook in the form `(i - m) * step` for `i` from 0 to `2 m`, ascending, one `m` for all codebooks;
    /// an entry may move by the rounding of that product. `None` where a codebook is not [`even`].
    pub fn evened(&self) -> Option<Palette> {
        let size = self.codebook_size();
        let books = self.codebook().chunks_exact(size).map(even).collect::<Option<Vec<_>>>()?;
        let most =
            books.iter().flat_map(|b| &b.multiples).map(|m| i32::from(*m).abs()).max().unwrap_or(0).max(1);
        let codebook = books.iter().flat_map(|b| (-most..=most).map(|i| i as f32 * b.step)).collect();
        let run = self.codes().len() / self.groups().max(1);
        let code = |(at, &code): (usize, &u8)| {
            let multiple = i32::from(books[at / run.max(1)].multiples[usize::from(code)]);
            (multiple + most) as u8 // 0 to 254
        };
        let codes = self.codes().iter().enumerate().map(code).collect();
        Palette::new(codebook, self.groups(), codes, self.fixed().to_vec()).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn multiples_of_a_step_are_found_in_any_order() {
        let found = even(&[0.0, 0.3, -0.3, 0.1, -0.2]).unwrap();
        assert_eq!((found.step, found.multiples), (0.1, vec![0, 3, -3, 1, -2]));
        assert_eq!(even(&[0.0, 0.0]).unwrap(), Even { step: 0.0, multiples: vec![0, 0] });
        assert_eq!(even(&[-0.5, 0.5]).unwrap().multiples, [-1, 1]);
        assert!(even(&[0.1, 0.25]).is_none() && even(&[0.1, 12.8]).is_none());
        let book = crate::uniform_codebook(&[0.11, -0.5, 0.9, 0.33], 15).unwrap();
        assert_eq!(even(&book).unwrap().multiples, (-7..=7).collect::<Vec<i8>>());
    }

    #[test]
    fn an_evened_palette_has_the_same_values() {
        let codebook = vec![0.0, 0.5, -0.5, 0.0, 3.0, -3.0];
        let palette = Palette::fully_fixed(codebook, 2, vec![0, 1, 2, 2, 1, 0]).unwrap();
        let even = palette.evened().unwrap();
        assert_eq!(even.codebook(), [-0.5, 0.0, 0.5, -3.0, 0.0, 3.0]);
        assert_eq!((even.decode(), even.codes()), (palette.decode(), &[1, 2, 0, 0, 2, 1][..]));
        assert!(Palette::fully_fixed(vec![0.1, 0.25], 1, vec![0]).unwrap().evened().is_none());
    }
}
