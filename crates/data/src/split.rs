//! A split: a sequence of labelled images, and parts of it.

use std::collections::BTreeMap;
use std::sync::Arc;

use sha2::{Digest, Sha256};

use crate::DataError;
use crate::order::{Purpose, generator, shuffle};
use crate::storage::Storage;

/// One of the inputs that each example of a split holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InputArray {
    /// Name of the network's input.
    pub name: String,
    /// Its shape in one example.
    pub shape: Vec<usize>,
}

/// Labelled images in a fixed order.
///
/// A split is a list of positions in a shared store: clones and parts share the pixels.
#[derive(Clone, Debug)]
pub struct Split {
    pub(crate) storage: Arc<Storage>,
    /// Position in the store of each image.
    pub(crate) index: Arc<[u32]>,
    /// Class of each image.
    pub(crate) labels: Arc<[u32]>,
    /// Whether training does not shuffle.
    pub(crate) in_order: bool,
    /// The inputs of a network that each example holds one after the other; `None` for images.
    pub(crate) inputs: Option<Arc<[InputArray]>>,
    /// Whether the labels mean anything.
    pub(crate) labelled: bool,
    /// Names of the classes, by label; empty where none are known.
    pub(crate) class_names: Arc<[String]>,
}

/// The size of a part of a split.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Portion {
    /// A fraction of its images, between 0 and 1 (both excluded), rounded to the nearest count.
    Fraction(f64),
    /// This many images.
    Count(usize),
}

impl Split {
    /// A split of everything in a store; `labels` must be as long as the store.
    pub(crate) fn whole(storage: Storage, labels: Vec<u32>) -> Split {
        debug_assert_eq!(storage.len(), labels.len());
        Split {
            index: (0..labels.len() as u32).collect(),
            storage: Arc::new(storage),
            labels: labels.into(),
            in_order: false,
            inputs: None,
            labelled: true,
            class_names: Arc::default(),
        }
    }

    /// A split of 8-bit images in memory: `shape` is channels, height, width, and `pixels` holds `labels.len()` of them, with the
    /// channels in RGB order.
    ///
    /// # Errors
    /// [`DataError::Dimensions`] if a dimension is 0 or the lengths do not agree.
    pub fn from_bytes(pixels: Vec<u8>, labels: Vec<u32>, shape: [usize; 3]) -> Result<Split, DataError> {
        check_lengths(pixels.len(), labels.len(), shape)?;
        Ok(Split::whole(Storage::Bytes { data: pixels, shape }, labels))
    }

    /// A split of float images in memory: `shape` is channels, height, width, and `pixels` holds `labels.len()` of them.
    ///
    /// # Errors
    /// [`DataError::Dimensions`] if a dimension is 0 or the lengths do not agree.
    pub fn from_floats(pixels: Vec<f32>, labels: Vec<u32>, shape: [usize; 3]) -> Result<Split, DataError> {
        check_lengths(pixels.len(), labels.len(), shape)?;
        Ok(Split::whole(Storage::Floats { data: pixels, shape }, labels))
    }

    /// Number of images.
    pub fn len(&self) -> usize {
        self.index.len()
    }

    /// Whether there is no image.
    pub fn is_empty(&self) -> bool {
        self.index.is_empty()
    }

    /// Channels of the images: 3 (RGB) if any image has colours, 1 if all are grey.
    pub fn channels(&self) -> usize {
        self.storage.channels()
    }

    /// Height in pixels; `None` if the images differ in size.
    pub fn height(&self) -> Option<usize> {
        self.storage.size().map(|[height, _]| height)
    }

    /// Width in pixels; `None` if the images differ in size.
    pub fn width(&self) -> Option<usize> {
        self.storage.size().map(|[_, width]| width)
    }

    /// Whether the pixels are floats (from an `.npz`) and not 8-bit values.
    pub fn is_float(&self) -> bool {
        matches!(*self.storage, Storage::Floats { .. })
    }

    /// The class of each image, in the split's order.
    pub fn labels(&self) -> &[u32] {
        &self.labels
    }

    /// The name of the file that image `i` comes from, or its number.
    ///
    /// # Panics
    /// If `i` is not below [`len`](Self::len).
    pub fn image_name(&self, i: usize) -> String {
        self.storage.name(self.index[i] as usize)
    }

    /// The same images, whose classes have these names, by label.
    pub fn with_class_names(self, names: &[String]) -> Split {
        Split { class_names: names.into(), ..self }
    }

    /// The name of a class; its number where it has none.
    pub fn class_name(&self, class: i64) -> String {
        let name = usize::try_from(class).ok().and_then(|c| self.class_names.get(c));
        name.cloned().unwrap_or_else(|| class.to_string())
    }

    /// How many images each class has; classes without images are not listed.
    pub fn class_counts(&self) -> BTreeMap<u32, usize> {
        let mut counts = BTreeMap::new();
        for &label in self.labels.iter() {
            *counts.entry(label).or_insert(0) += 1;
        }
        counts
    }

    /// The same images with `offset` subtracted from every label, for labels that do not count from 0.
    ///
    /// # Errors
    /// [`DataError::LabelOffset`] naming the first image whose label is smaller.
    pub fn with_label_offset(self, offset: u32) -> Result<Split, DataError> {
        if let Some(i) = self.labels.iter().position(|&label| label < offset) {
            return Err(DataError::LabelOffset { place: self.image_name(i), label: self.labels[i], offset });
        }
        let labels = self.labels.iter().map(|&label| label - offset).collect();
        let class_names = self.class_names.iter().skip(offset as usize).cloned().collect();
        Ok(Split { labels, class_names, ..self })
    }

    /// Checks that all labels are below the number of outputs of a network.
    ///
    /// # Errors
    /// [`DataError::LabelBeyondOutputs`] naming the first image whose label is not below `outputs`.
    pub fn check_labels(&self, outputs: usize) -> Result<(), DataError> {
        match self.labels.iter().position(|&label| label as usize >= outputs) {
            None => Ok(()),
            Some(i) => Err(DataError::LabelBeyondOutputs {
                place: self.image_name(i),
                index: i,
                label: i64::from(self.labels[i]),
                outputs,
                from_one: self.labels.iter().all(|&label| (1..=outputs).contains(&(label as usize))),
            }),
        }
    }

    /// A SHA-256 that identifies the split between runs: its labels in their order, the shape, and the pixels (for image files
    /// that are decoded on demand, the paths and sizes). Shuffled splits and parts have other hashes than the whole.
    pub fn fingerprint(&self) -> [u8; 32] {
        let mut hash = Sha256::new();
        for number in [self.len(), self.channels(), self.height().unwrap_or(0), self.width().unwrap_or(0)] {
            Digest::update(&mut hash, (number as u64).to_le_bytes());
        }
        if self.in_order {
            Digest::update(&mut hash, b"in order");
        }
        if !self.labelled {
            Digest::update(&mut hash, b"no labels");
        }
        for input in self.inputs.iter().flat_map(|i| i.iter()) {
            Digest::update(&mut hash, format!("{} {:?} ", input.name, input.shape));
        }
        for (&label, &i) in self.labels.iter().zip(self.index.iter()) {
            Digest::update(&mut hash, label.to_le_bytes());
            self.storage.identify(i as usize, &mut hash);
        }
        hash.finalize().into()
    }

    /// The images at these positions, in this order.
    pub(crate) fn pick(&self, positions: &[u32]) -> Split {
        Split {
            storage: Arc::clone(&self.storage),
            index: positions.iter().map(|&p| self.index[p as usize]).collect(),
            labels: positions.iter().map(|&p| self.labels[p as usize]).collect(),
            in_order: self.in_order,
            inputs: self.inputs.clone(),
            labelled: self.labelled,
            class_names: Arc::clone(&self.class_names),
        }
    }

    /// The same images, which training does not shuffle: every epoch has this order, as Caffe reads its databases.
    pub fn in_order(mut self) -> Split {
        self.in_order = true;
        self
    }

    /// Whether training does not shuffle ([`in_order`](Self::in_order)).
    pub fn is_in_order(&self) -> bool {
        self.in_order
    }

    /// A slice written `START:END:STEP`, as in Python: `:1000`, `1000:`, `-500:`, `::10`, `0:6000:2`. `END` is excluded,
    /// negative numbers count from the end, `STEP` is at least 1.
    ///
    /// # Errors
    /// [`DataError::Slice`] if it is not written so; [`DataError::Empty`] if nothing is left.
    pub fn subset(&self, slice: &str) -> Result<Split, DataError> {
        let (start, end, step) =
            parse_slice(slice, self.len()).ok_or_else(|| DataError::Slice { text: slice.into() })?;
        let positions: Vec<u32> = (start..end).step_by(step).map(|p| p as u32).collect();
        if positions.is_empty() {
            return Err(DataError::Empty { place: format!("slice {slice:?} of {} images", self.len()) });
        }
        Ok(self.pick(&positions))
    }

    /// The same images in a random order that depends on the seed alone.
    pub fn shuffled(&self, seed: u64) -> Split {
        self.pick(&crate::order::epoch_order(seed, 0, self.len()))
    }

    /// Splits in two: what remains for training, and a validation part for model selection (rounds, learning rates, budgets).
    ///
    /// The part has the same proportion of every class, to within one image, and depends on the seed alone. Both parts keep
    /// the order of the images. Call it on training data: test data must not be used for model selection.
    ///
    /// # Errors
    /// [`DataError::Portion`] unless both parts get at least one image.
    pub fn split_off_validation(&self, portion: Portion, seed: u64) -> Result<(Split, Split), DataError> {
        let refuse = || DataError::Portion { asked: portion.to_string(), len: self.len() };
        let count = match portion {
            Portion::Count(count) => count,
            Portion::Fraction(f) if f > 0.0 && f < 1.0 => (f * self.len() as f64).round() as usize,
            Portion::Fraction(_) => return Err(refuse()),
        };
        if count == 0 || count >= self.len() {
            return Err(refuse());
        }
        let chosen = self.stratified(count, seed);
        let mut rest = Vec::with_capacity(self.len() - count);
        let mut next = chosen.iter().copied().peekable();
        for position in 0..self.len() as u32 {
            if next.next_if_eq(&position).is_none() {
                rest.push(position);
            }
        }
        Ok((self.pick(&rest), self.pick(&chosen)))
    }

    /// A calibration sample of `count` images (for sensitivities, activation ranges), with the same proportion of every class
    /// to within one image; all images if there are not more. Take it from training data.
    ///
    /// # Errors
    /// [`DataError::Portion`] if `count` is 0.
    pub fn calibration(&self, count: usize, seed: u64) -> Result<Split, DataError> {
        if count == 0 {
            return Err(DataError::Portion { asked: count.to_string(), len: self.len() });
        }
        if count >= self.len() {
            return Ok(self.clone());
        }
        Ok(self.pick(&self.stratified(count, seed)))
    }

    /// Ascending positions of `count` images, shared out over the classes by largest remainder.
    fn stratified(&self, count: usize, seed: u64) -> Vec<u32> {
        let mut by_class: BTreeMap<u32, Vec<u32>> = BTreeMap::new();
        for (position, &label) in self.labels.iter().enumerate() {
            by_class.entry(label).or_default().push(position as u32);
        }
        let len = self.len() as u128;
        let share = |members: usize| {
            let exact = members as u128 * count as u128;
            ((exact / len) as usize, exact % len)
        };
        let mut quota: BTreeMap<u32, usize> =
            by_class.iter().map(|(&class, members)| (class, share(members.len()).0)).collect();
        let mut by_remainder: Vec<(u128, u32)> =
            by_class.iter().map(|(&class, members)| (share(members.len()).1, class)).collect();
        // Ties go to the lower class.
        by_remainder.sort_by(|a, b| b.0.cmp(&a.0).then(a.1.cmp(&b.1)));
        let missing = count - quota.values().sum::<usize>();
        for (_, class) in by_remainder.iter().take(missing) {
            *quota.entry(*class).or_insert(0) += 1;
        }
        let mut chosen = Vec::with_capacity(count);
        for (&class, members) in &mut by_class {
            shuffle(&mut generator(seed, 0, Purpose::Select, u64::from(class)), members);
            chosen.extend_from_slice(&members[..quota[&class]]);
        }
        chosen.sort_unstable();
        chosen
    }
}

impl std::fmt::Display for Portion {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Portion::Fraction(fraction) => write!(f, "a fraction of {fraction}"),
            Portion::Count(count) => write!(f, "{count}"),
        }
    }
}

pub(crate) fn check_lengths(pixels: usize, labels: usize, shape: [usize; 3]) -> Result<(), DataError> {
    let image = shape.iter().try_fold(1usize, |product, &dim| product.checked_mul(dim));
    let fits = image.is_some_and(|size| size > 0 && size.checked_mul(labels) == Some(pixels));
    if fits && labels > 0 && u32::try_from(labels).is_ok() {
        return Ok(());
    }
    let dims = [labels, shape[0], shape[1], shape[2]];
    Err(DataError::Dimensions {
        file: format!("an array of {pixels} pixels"),
        dims: dims.iter().map(|&d| d as u64).collect(),
    })
}

/// Start, end and step of a slice of `len` items, as Python reads it.
fn parse_slice(text: &str, len: usize) -> Option<(usize, usize, usize)> {
    let parts: Vec<&str> = text.split(':').map(str::trim).collect();
    if !(2..=3).contains(&parts.len()) {
        return None;
    }
    let bound = |text: &str, default: usize| -> Option<usize> {
        if text.is_empty() {
            return Some(default);
        }
        let value: i64 = text.parse().ok()?;
        let len = len as i64;
        let value = if value < 0 { value.saturating_add(len).max(0) } else { value.min(len) };
        Some(value as usize)
    };
    let step = match parts.get(2) {
        None | Some(&"") => 1,
        Some(step) => step.parse().ok().filter(|&s: &usize| s > 0)?,
    };
    Some((bound(parts[0], 0)?, bound(parts[1], len)?, step))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn numbered(labels: Vec<u32>) -> Split {
        let pixels = (0..labels.len()).map(|i| i as u8).collect();
        Split::from_bytes(pixels, labels, [1, 1, 1]).unwrap()
    }

    #[test]
    fn slices_are_python_slices() {
        let split = numbered(vec![0; 10]);
        let cases: [(&str, &[u32]); 8] = [
            (":3", &[0, 1, 2]),
            ("8:", &[8, 9]),
            ("-2:", &[8, 9]),
            ("::4", &[0, 4, 8]),
            ("1:8:3", &[1, 4, 7]),
            ("5:99", &[5, 6, 7, 8, 9]),
            (":-8", &[0, 1]),
            (" 2 : 4 :", &[2, 3]),
        ];
        for (text, expected) in cases {
            assert_eq!(&*split.subset(text).unwrap().index, expected, "{text}");
        }
        for text in ["", "3", "a:b", "1:2:3:4", "::0", "::-1", "1.5:", "99999999999999999999:"] {
            assert!(matches!(split.subset(text), Err(DataError::Slice { .. })), "{text}");
        }
        for text in ["5:5", "7:2", "10:", "-1:-5"] {
            assert!(matches!(split.subset(text), Err(DataError::Empty { .. })), "{text}");
        }
    }

    #[test]
    fn parts_of_parts_keep_image_and_label_together() {
        let split = numbered((0..100).collect());
        let part = split.shuffled(3).subset("10:90:2").unwrap().shuffled(4);
        assert_eq!(part.len(), 40);
        assert_eq!(part.index, part.labels, "label i belongs to image i");
    }

    #[test]
    fn validation_is_stratified_and_seeded() {
        let labels: Vec<u32> = (0..1000).map(|i| if i % 10 == 0 { 1 } else { 0 }).collect();
        let split = numbered(labels);
        let (train, val) = split.split_off_validation(Portion::Fraction(0.1), 5).unwrap();
        assert_eq!((train.len(), val.len()), (900, 100));
        assert_eq!(val.class_counts(), BTreeMap::from([(0, 90), (1, 10)]));
        let again = split.split_off_validation(Portion::Count(100), 5).unwrap().1;
        assert_eq!(val.index, again.index);
        let other = split.split_off_validation(Portion::Count(100), 6).unwrap().1;
        assert_ne!(val.index, other.index);
        for bad in
            [Portion::Count(0), Portion::Count(1000), Portion::Fraction(0.0), Portion::Fraction(f64::NAN)]
        {
            assert!(split.split_off_validation(bad, 0).is_err(), "{bad}");
        }
    }

    #[test]
    fn the_fingerprint_sees_pixels_labels_and_order() {
        let print = |pixels: &[u8], labels: &[u32], shape| {
            Split::from_bytes(pixels.to_vec(), labels.to_vec(), shape).unwrap().fingerprint()
        };
        let base = print(&[1, 2, 3, 4], &[0, 1], [1, 1, 2]);
        assert_eq!(base, print(&[1, 2, 3, 4], &[0, 1], [1, 1, 2]));
        assert_ne!(base, print(&[1, 2, 3, 5], &[0, 1], [1, 1, 2]), "pixels");
        assert_ne!(base, print(&[1, 2, 3, 4], &[0, 2], [1, 1, 2]), "labels");
        assert_ne!(base, print(&[1, 2, 3, 4], &[0, 1], [1, 2, 1]), "shape");
        assert_ne!(base, print(&[3, 4, 1, 2], &[1, 0], [1, 1, 2]), "order");
        let floats = |value: f32| Split::from_floats(vec![value], vec![0], [1, 1, 1]).unwrap().fingerprint();
        assert_ne!(floats(1.0), floats(-1.0));
    }

    #[test]
    fn lengths_that_disagree_are_refused() {
        for (pixels, labels, shape) in
            [(4, 1, [1, 2, 3]), (0, 0, [1, 1, 1]), (0, 1, [0, 1, 1]), (4, 2, [usize::MAX, 2, 2])]
        {
            let result = Split::from_bytes(vec![0; pixels], vec![0; labels], shape);
            assert!(matches!(result, Err(DataError::Dimensions { .. })), "{shape:?}");
        }
    }

    #[test]
    fn labels_beyond_the_outputs_are_named() {
        let split = numbered(vec![0, 4, 9]);
        assert!(split.check_labels(10).is_ok());
        let error = split.check_labels(9).unwrap_err();
        assert!(
            matches!(error, DataError::LabelBeyondOutputs { index: 2, label: 9, outputs: 9, .. }),
            "{error}"
        );
        assert!(!error.to_string().contains("count from 1"), "there is a 0: {error}");
        let error = numbered(vec![1, 2, 3]).check_labels(3).unwrap_err().to_string();
        assert!(error.contains("3 outputs") && error.contains("--label-offset 1"), "{error}");
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        fn a_split_in_two_loses_nothing(labels in prop::collection::vec(0u32..5, 2..200), seed: u64, at in 0.0f64..1.0) {
            let split = numbered(labels);
            let count = 1 + (at * (split.len() - 2) as f64) as usize;
            let (train, val) = split.split_off_validation(Portion::Count(count), seed).unwrap();
            prop_assert_eq!(val.len(), count);
            let mut all: Vec<u32> = train.index.iter().chain(val.index.iter()).copied().collect();
            all.sort_unstable();
            prop_assert_eq!(all, (0..split.len() as u32).collect::<Vec<_>>());
            for (class, whole) in split.class_counts() {
                let part = val.class_counts().get(&class).copied().unwrap_or(0);
                let exact = whole as f64 * count as f64 / split.len() as f64;
                prop_assert!((part as f64 - exact).abs() < 1.0);
            }
        }

        #[test]
        fn any_text_is_a_slice_or_an_error(text in "[-0-9: a]{0,12}") {
            let _ = numbered(vec![0; 7]).subset(&text);
        }
    }
}
