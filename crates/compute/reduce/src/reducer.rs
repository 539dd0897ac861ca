//! What a training sees of the other processes.

use std::fmt::Debug;

use crate::error::ReduceError;

/// One of several processes that train one network.
///
/// Every process makes the same calls in the same order with values of the same lengths. A sum has the same bits in every
/// process, and on every repetition with the same number of processes.
pub trait Reducer: Debug + Send + Sync {
    /// The number of this process, from 0. Process 0 alone writes files.
    fn rank(&self) -> usize;

    /// The number of processes, at least 1.
    fn size(&self) -> usize;

    /// Begins to sum `values` over the processes; the work goes on in the background. [`finish_sum`](Self::finish_sum)
    /// gives the sums in the order in which they were begun.
    ///
    /// # Errors
    /// [`ReduceError::Ended`].
    fn begin_sum(&self, values: Vec<f32>) -> Result<(), ReduceError>;

    /// Waits for the oldest sum that was begun.
    ///
    /// # Errors
    /// Any [`ReduceError`]; [`ReduceError::Ended`] where none was begun.
    fn finish_sum(&self) -> Result<Vec<f32>, ReduceError>;

    /// The bytes of every process, in the order of their ranks. All must give as many.
    ///
    /// # Errors
    /// Any [`ReduceError`].
    fn gather(&self, bytes: &[u8]) -> Result<Vec<Vec<u8>>, ReduceError>;

    /// The bytes of process 0; what the others give is dropped.
    ///
    /// # Errors
    /// Any [`ReduceError`].
    fn broadcast(&self, bytes: Vec<u8>) -> Result<Vec<u8>, ReduceError>;

    /// Replaces `values` by their sums over the processes, added in the order of the ranks. For few values.
    ///
    /// # Errors
    /// Any [`ReduceError`].
    fn sum(&self, values: &mut [f64]) -> Result<(), ReduceError> {
        if self.size() == 1 {
            return Ok(());
        }
        let bytes: Vec<u8> = values.iter().flat_map(|v| v.to_le_bytes()).collect();
        values.fill(0.0);
        for theirs in self.gather(&bytes)? {
            for (sum, bytes) in values.iter_mut().zip(theirs.chunks_exact(8)) {
                *sum += bytes.try_into().map_or(f64::NAN, f64::from_le_bytes);
            }
        }
        Ok(())
    }

    /// The first process whose bytes differ from those of process 0; `None` where all agree. All must give as many.
    ///
    /// # Errors
    /// Any [`ReduceError`].
    fn first_that_differs(&self, bytes: &[u8]) -> Result<Option<usize>, ReduceError> {
        let all = self.gather(bytes)?;
        Ok(all.iter().position(|theirs| *theirs != all[0]))
    }

    /// Waits until every process has come here.
    ///
    /// # Errors
    /// Any [`ReduceError`].
    fn barrier(&self) -> Result<(), ReduceError> {
        self.gather(&[0]).map(drop)
    }

    /// Ends the communication; every process calls it last.
    fn end(&self) {}
}
