//! The binary version of CIFAR-10 and CIFAR-100: <https://www.cs.toronto.edu/~kriz/cifar.html>.

use crate::{DataError, Split};

/// Which of the two.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Cifar {
    /// One label byte.
    Ten,
    /// A coarse label byte, then the fine one.
    Hundred,
}

const SHAPE: [usize; 3] = [3, 32, 32];
const PIXELS: usize = 3 * 32 * 32;

impl Cifar {
    pub fn classes(self) -> usize {
        match self {
            Cifar::Ten => 10,
            Cifar::Hundred => 100,
        }
    }

    fn label_bytes(self) -> usize {
        match self {
            Cifar::Ten => 1,
            Cifar::Hundred => 2,
        }
    }

    /// A split of one or more files, each (name, content).
    pub fn read(self, files: &[(String, Vec<u8>)]) -> Result<Split, DataError> {
        let record = self.label_bytes() + PIXELS;
        let mut pixels = Vec::with_capacity(files.iter().map(|(_, bytes)| bytes.len()).sum());
        let mut labels = Vec::with_capacity(pixels.capacity() / record);
        for (file, bytes) in files {
            if bytes.is_empty() {
                return Err(DataError::Empty { place: file.clone() });
            }
            if bytes.len() % record != 0 {
                return Err(DataError::CifarLength { file: file.clone(), bytes: bytes.len() as u64, record });
            }
            for (index, record) in bytes.chunks_exact(record).enumerate() {
                let (label, image) = record.split_at(self.label_bytes());
                let label = label[self.label_bytes() - 1];
                let classes = self.classes();
                if usize::from(label) >= classes {
                    return Err(DataError::LabelRange {
                        place: file.clone(),
                        index,
                        label: i64::from(label),
                        classes,
                    });
                }
                labels.push(u32::from(label));
                pixels.extend_from_slice(image);
            }
        }
        Split::from_bytes(pixels, labels, SHAPE)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn records(labels: &[&[u8]]) -> Vec<u8> {
        let image = |i: usize| (0..PIXELS).map(move |p| (p / 1024 * 10 + i) as u8);
        labels.iter().enumerate().flat_map(|(i, label)| label.iter().copied().chain(image(i))).collect()
    }

    #[test]
    fn records_become_planar_images() {
        let files = [("a".to_owned(), records(&[&[3], &[9]])), ("b".to_owned(), records(&[&[0]]))];
        let split = Cifar::Ten.read(&files).unwrap();
        assert_eq!(split.labels(), [3, 9, 0]);
        let mut scratch = Vec::new();
        let image = split.storage.image(1, &mut scratch).unwrap();
        assert_eq!(image.shape, SHAPE);
        let crate::storage::Pixels::Bytes(pixels) = image.pixels else { panic!("bytes") };
        assert_eq!((pixels[0], pixels[1024], pixels[3071]), (1, 11, 21));
        let split = Cifar::Hundred.read(&[("c".into(), records(&[&[19, 99], &[0, 1]]))]).unwrap();
        assert_eq!(split.labels(), [99, 1], "the fine labels");
    }

    #[test]
    fn broken_files_are_named() {
        let mut cut = records(&[&[3]]);
        cut.pop();
        let cases = [
            (cut, "x: 3072 bytes are not a whole number of 3073-byte records"),
            (
                records(&[&[0], &[10]]),
                "x: image 1 has label 10, but labels count from 0 and must be below 10",
            ),
            (vec![], "x: there are no images"),
        ];
        for (bytes, message) in cases {
            assert_eq!(Cifar::Ten.read(&[("x".into(), bytes)]).unwrap_err().to_string(), message);
        }
    }
}
