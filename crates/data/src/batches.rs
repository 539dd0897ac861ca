//! Splits as sequences of batches.

use crate::loader::Loader;
use crate::order::epoch_order;
use crate::transform::Phase;
use crate::{Batch, BatchSource, DataError, Mode, Split, Transform};

/// One pass over a split. See [`Split::batches`].
#[derive(Clone, Debug)]
pub struct Batches {
    loader: Loader,
    /// `None` is the split's own order.
    order: Option<Vec<u32>>,
    epoch: u64,
    batch_size: usize,
    /// First image not yet delivered, and the end.
    next: usize,
    end: usize,
}

impl Split {
    /// One pass over the split, `batch_size` images at a time. The last batch holds what is left, or is dropped with
    /// `drop_last`.
    ///
    /// The content of every batch depends on the arguments alone: not on the number of threads, and the augmentation of an
    /// image not on the batch size either. Images are decoded and transformed on rayon's threads.
    ///
    /// # Errors
    /// [`DataError::BatchSize`]; [`DataError::Transform`], [`DataError::Channels`], [`DataError::SizesDiffer`] or
    /// [`DataError::CropTooLarge`] if the transform does not fit the images.
    pub fn batches(
        &self,
        batch_size: usize,
        transform: &Transform,
        mode: Mode,
        drop_last: bool,
    ) -> Result<Batches, DataError> {
        let (seed, epoch, order) = match mode {
            Mode::Train { seed, epoch } if self.in_order => {
                (seed, epoch, Some((0..self.len() as u32).collect()))
            }
            Mode::Train { seed, epoch } => (seed, epoch, Some(epoch_order(seed, epoch, self.len()))),
            Mode::Eval => (0, 0, None),
        };
        let phase = if order.is_some() { Phase::Train } else { Phase::Eval };
        let loader = Loader::new(self, batch_size, transform, seed, phase)?;
        let end = if drop_last { self.len() / batch_size * batch_size } else { self.len() };
        Ok(Batches { loader, order, epoch, batch_size, next: 0, end })
    }
}

impl Batches {
    /// The shape of one image: channels, height, width, or the channels last where the transform says so.
    pub fn image_shape(&self) -> [usize; 3] {
        self.loader.plan.output_shape()
    }

    /// Batches still to come.
    pub fn remaining(&self) -> usize {
        (self.end - self.next).div_ceil(self.batch_size)
    }

    /// The next batch in the memory of an old one; see [`BatchSource::next_into`].
    ///
    /// # Errors
    /// An image that cannot be read or does not fit the transform.
    pub fn next_into(&mut self, batch: &mut Batch) -> Result<bool, DataError> {
        let start = self.next;
        self.next = start.saturating_add(self.batch_size).min(self.end);
        let picks = (start..self.next).map(|i| self.order.as_ref().map_or(i as u32, |order| order[i]));
        let picks: Vec<(u64, u32)> = picks.map(|position| (self.epoch, position)).collect();
        self.loader.fill(&picks, batch)?;
        Ok(!picks.is_empty())
    }
}

impl BatchSource for Batches {
    fn next_into(&mut self, batch: &mut Batch) -> Result<bool, DataError> {
        Batches::next_into(self, batch)
    }
}

impl Iterator for Batches {
    type Item = Result<Batch, DataError>;

    fn next(&mut self) -> Option<Self::Item> {
        let mut batch = Batch::default();
        match self.next_into(&mut batch) {
            Ok(true) => Some(Ok(batch)),
            Ok(false) => None,
            Err(error) => Some(Err(error)),
        }
    }

    /// Skips `n` batches without reading their images.
    fn nth(&mut self, n: usize) -> Option<Self::Item> {
        self.next = n.saturating_mul(self.batch_size).saturating_add(self.next).min(self.end);
        self.next()
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        (self.remaining(), Some(self.remaining()))
    }
}

impl ExactSizeIterator for Batches {}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// `len` images of one pixel, each with its position as pixel (modulo 256) and label.
    fn numbered(len: usize) -> Split {
        Split::from_bytes((0..len).map(|i| i as u8).collect(), (0..len as u32).collect(), [1, 1, 1]).unwrap()
    }

    fn raw() -> Transform {
        Transform { scale: Some(1.0), ..Transform::default() }
    }

    #[test]
    fn evaluation_keeps_the_order_and_ends_short_or_drops() {
        let split = numbered(10);
        let batches = split.batches(4, &raw(), Mode::Eval, false).unwrap();
        assert_eq!((batches.len(), batches.image_shape()), (3, [1, 1, 1]));
        let labels: Vec<Vec<u32>> = batches.map(|batch| batch.unwrap().labels).collect();
        assert_eq!(labels, [vec![0, 1, 2, 3], vec![4, 5, 6, 7], vec![8, 9]]);
        assert_eq!(split.batches(4, &raw(), Mode::Eval, true).unwrap().count(), 2);
        assert_eq!(split.batches(11, &raw(), Mode::Eval, true).unwrap().count(), 0);
        let whole = split.batches(usize::MAX, &raw(), Mode::Eval, false).unwrap();
        assert_eq!(whole.map(|batch| batch.unwrap().labels.len()).collect::<Vec<_>>(), [10]);
    }

    #[test]
    fn batches_can_be_skipped() {
        let batches = numbered(10).batches(3, &raw(), Mode::Eval, false).unwrap();
        let labels = |b: Result<Batch, DataError>| b.unwrap().labels;
        let third: Vec<_> = batches.clone().skip(1).step_by(2).map(labels).collect();
        assert_eq!(third, [vec![3, 4, 5], vec![9]]);
        assert!(batches.clone().nth(4).is_none() && batches.clone().nth(usize::MAX).is_none());
    }

    #[test]
    fn an_old_batch_is_replaced_whole() {
        let mut batches = numbered(3).batches(2, &raw(), Mode::Eval, false).unwrap();
        let mut batch =
            Batch { images: vec![9.0; 50], labels: vec![9; 50], positions: vec![9; 50], shape: [9; 4] };
        assert!(batches.next_into(&mut batch).unwrap());
        assert_eq!(
            batch,
            Batch { images: vec![0.0, 1.0], labels: vec![0, 1], positions: vec![0, 1], shape: [2, 1, 1, 1] }
        );
        assert!(batches.next_into(&mut batch).unwrap());
        assert_eq!((batch.images.len(), batch.shape), (1, [1, 1, 1, 1]));
        assert!(!batches.next_into(&mut batch).unwrap());
        assert_eq!((batch.images.len(), batch.shape), (0, [0, 1, 1, 1]));
    }

    #[test]
    fn the_number_of_threads_changes_nothing() {
        let split =
            Split::from_bytes((0..60_000u32).map(|i| (i * 7) as u8).collect(), vec![0; 500], [3, 5, 8]);
        let transform = Transform { pad_crop: Some(2), mirror: true, ..Transform::default() };
        let batches =
            split.unwrap().batches(64, &transform, Mode::Train { seed: 1, epoch: 3 }, false).unwrap();
        let with = |threads: usize| -> Vec<Batch> {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
            pool.install(|| batches.clone().map(Result::unwrap).collect())
        };
        assert_eq!(with(1), with(5));
    }

    #[test]
    fn the_batch_size_does_not_change_an_image() {
        let split = Split::from_bytes((0..=199).collect(), vec![0; 10], [1, 4, 5]).unwrap();
        let transform = Transform { pad_crop: Some(1), mirror: true, ..Transform::default() };
        let images = |size: usize| -> Vec<f32> {
            let mode = Mode::Train { seed: 8, epoch: 1 };
            let batches = split.batches(size, &transform, mode, false).unwrap();
            batches.flat_map(|batch| batch.unwrap().images).collect()
        };
        assert_eq!(images(3), images(10));
        let stream = split.stream(7, &transform, 8).unwrap();
        let streamed: Vec<f32> = stream.take(3).flat_map(|batch| batch.unwrap().images).collect();
        assert_eq!(streamed[200..400], images(10), "the second epoch of the stream");
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        fn an_epoch_shows_every_image_once(len in 1usize..80, size in 1usize..30, seed: u64, epoch: u64) {
            let batches = numbered(len).batches(size, &raw(), Mode::Train { seed, epoch }, false).unwrap();
            let mut seen = Vec::new();
            for batch in batches {
                let batch = batch.unwrap();
                let pixels: Vec<u32> = batch.images.iter().map(|&pixel| pixel as u32).collect();
                prop_assert_eq!(&pixels, &batch.labels, "image and label stay together");
                prop_assert_eq!(&batch.positions, &batch.labels);
                seen.extend(batch.labels);
            }
            seen.sort_unstable();
            prop_assert_eq!(seen, (0..len as u32).collect::<Vec<_>>());
        }

        #[test]
        fn a_stream_can_be_entered_anywhere(len in 1usize..40, size in 1usize..50, skip in 0u64..300, seed: u64) {
            let split = numbered(len);
            let mut from_start = split.stream(1, &raw(), seed).unwrap();
            let expected: Vec<u32> =
                from_start.by_ref().skip(skip as usize).take(2 * size).map(|b| b.unwrap().labels[0]).collect();
            prop_assert_eq!(from_start.position(), skip + 2 * size as u64);
            let mut stream = split.stream(size, &raw(), seed).unwrap();
            stream.seek(skip);
            prop_assert_eq!(stream.epoch(), skip / len as u64);
            let found: Vec<u32> = stream.by_ref().take(2).flat_map(|b| b.unwrap().labels).collect();
            prop_assert_eq!(found, expected);
            stream.seek(u64::MAX - 1);
            prop_assert!(stream.next().unwrap().is_ok());
            prop_assert!(matches!(split.stream(usize::MAX, &raw(), seed), Err(DataError::BatchSize)));
        }
    }
}
