//! Prefetching: batches are made by another thread while the last one is in use.

use std::sync::mpsc::{Receiver, Sender, SyncSender, channel, sync_channel};
use std::thread::{Builder, JoinHandle};

use crate::{Batch, BatchSource, DataError};

/// A [`BatchSource`] whose batches a thread of its own makes in advance. The batches are the same as without it, in the same order.
///
/// Useful where images are decoded or resized; small images in memory are faster without it.
#[derive(Debug)]
pub struct Prefetch {
    ready: Option<Receiver<Result<Option<Batch>, DataError>>>,
    used: Sender<Batch>,
    worker: Option<JoinHandle<()>>,
}

impl Prefetch {
    /// Starts a thread that keeps up to `depth` (at least 1) batches of `source` ready.
    ///
    /// # Errors
    /// [`DataError::Loader`] if no thread can be started.
    pub fn new(source: impl BatchSource + Send + 'static, depth: usize) -> Result<Prefetch, DataError> {
        let (send, ready) = sync_channel(depth.max(1));
        let (used, recycled) = channel();
        let builder = Builder::new().name("slq-data".into());
        let worker = builder.spawn(move || work(source, &send, &recycled)).map_err(|_| DataError::Loader)?;
        Ok(Prefetch { ready: Some(ready), used, worker: Some(worker) })
    }
}

/// Makes batches until the source ends or fails, or the receiver is dropped.
fn work(
    mut source: impl BatchSource,
    ready: &SyncSender<Result<Option<Batch>, DataError>>,
    recycled: &Receiver<Batch>,
) {
    loop {
        let mut batch = recycled.try_recv().unwrap_or_default();
        let result = source.next_into(&mut batch).map(|more| more.then_some(batch));
        let last = !matches!(result, Ok(Some(_)));
        if ready.send(result).is_err() || last {
            return;
        }
    }
}

impl BatchSource for Prefetch {
    /// After the end it keeps returning `false`; after an error it returns [`DataError::Loader`].
    fn next_into(&mut self, batch: &mut Batch) -> Result<bool, DataError> {
        let Some(ready) = &self.ready else {
            *batch = Batch::default();
            return Ok(false);
        };
        match ready.recv() {
            Ok(Ok(Some(next))) => {
                let old = std::mem::replace(batch, next);
                // The worker may have ended already; then the memory is simply freed.
                let _ = self.used.send(old);
                Ok(true)
            }
            Ok(Ok(None)) => {
                self.ready = None;
                *batch = Batch::default();
                Ok(false)
            }
            Ok(Err(error)) => Err(error),
            Err(_) => Err(DataError::Loader),
        }
    }
}

impl Drop for Prefetch {
    fn drop(&mut self) {
        // Without a receiver the worker's next hand-over fails, and it ends.
        self.ready = None;
        if let Some(worker) = self.worker.take() {
            // A panic of the worker has been reported on stderr; there is nothing to add while dropping.
            let _ = worker.join();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Mode, Split, Transform};

    fn split() -> Split {
        Split::from_bytes((0..=250).collect(), (0..251).collect(), [1, 1, 1]).unwrap()
    }

    #[test]
    fn the_batches_are_the_same() {
        let mode = Mode::Train { seed: 4, epoch: 2 };
        let plain = split().batches(16, &Transform::default(), mode, false).unwrap();
        let mut ahead = Prefetch::new(plain.clone(), 3).unwrap();
        let mut batch = Batch::default();
        for expected in plain {
            assert!(ahead.next_into(&mut batch).unwrap());
            assert_eq!(batch, expected.unwrap());
        }
        for _ in 0..2 {
            assert!(!ahead.next_into(&mut batch).unwrap());
            assert_eq!(batch, Batch::default());
        }
    }

    #[test]
    fn an_endless_source_ends_with_its_user() {
        let stream = split().stream(16, &Transform::default(), 0).unwrap();
        let mut ahead = Prefetch::new(stream, 2).unwrap();
        assert!(ahead.next_into(&mut Batch::default()).unwrap());
        drop(ahead);
    }

    #[test]
    fn errors_arrive() {
        struct Failing(u32);
        impl BatchSource for Failing {
            fn next_into(&mut self, _: &mut Batch) -> Result<bool, DataError> {
                self.0 += 1;
                if self.0 == 2 { Err(DataError::SizesDiffer) } else { Ok(true) }
            }
        }
        let mut ahead = Prefetch::new(Failing(0), 1).unwrap();
        let mut batch = Batch::default();
        assert!(ahead.next_into(&mut batch).unwrap());
        assert!(matches!(ahead.next_into(&mut batch), Err(DataError::SizesDiffer)));
        assert!(matches!(ahead.next_into(&mut batch), Err(DataError::Loader)));
    }
}
