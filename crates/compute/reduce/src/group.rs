//! Sums, gathers and broadcasts made of messages between two processes.

use crate::error::ReduceError;

/// Sends and receives bytes between the processes of a group.
pub trait Transport {
    /// The number of this process, from 0.
    fn rank(&self) -> usize;

    /// The number of processes.
    fn size(&self) -> usize;

    /// Sends bytes to one process and receives bytes from one at the same time; either may be left out. The receiver knows
    /// the length. Messages between two processes arrive in the order in which they were sent.
    ///
    /// # Errors
    /// [`ReduceError::Lost`] for a process that has ended, [`ReduceError::Transport`].
    fn transfer(
        &mut self,
        send: Option<(usize, &[u8])>,
        receive: Option<(usize, &mut [u8])>,
    ) -> Result<(), ReduceError>;
}

/// Largest message: MPI counts in 32 bits.
const PIECE: usize = 1 << 28;
/// Most values in one message of a sum. Of 2^17 to 2^26, fewer wait for more messages, and more do not add while they travel.
const PART: usize = 1 << 22;
/// Shorter sums are gathered and added in the order of the ranks: a ring would wait 2 (N - 1) times for a message.
const SHORT: usize = 1 << 12;

/// The algorithms of one process of a group.
#[derive(Debug)]
pub struct Group<T> {
    transport: T,
    scratch: Vec<f32>,
}

impl<T: Transport> Group<T> {
    /// Over `transport`.
    pub fn new(transport: T) -> Self {
        Self { transport, scratch: Vec::new() }
    }

    /// The number of this process.
    pub fn rank(&self) -> usize {
        self.transport.rank()
    }

    /// The number of processes.
    pub fn size(&self) -> usize {
        self.transport.size()
    }

    /// A transfer of any length, in pieces.
    fn transfer(
        &mut self,
        send: Option<(usize, &[u8])>,
        receive: Option<(usize, &mut [u8])>,
    ) -> Result<(), ReduceError> {
        let (to, out) = send.map_or((0, &[][..]), |(to, bytes)| (to, bytes));
        let (from, into) = receive.map_or((0, &mut [][..]), |(from, bytes)| (from, bytes));
        let (mut out, mut into) = (out.chunks(PIECE), into.chunks_mut(PIECE));
        loop {
            let (send, receive) = (out.next().map(|b| (to, b)), into.next().map(|b| (from, b)));
            if send.is_none() && receive.is_none() {
                return Ok(());
            }
            self.transport.transfer(send, receive)?;
        }
    }

    /// Replaces `values` by their sums over the group.
    ///
    /// Short ones are added in the order of the ranks. Others are cut into pieces and each into one part for each process;
    /// part p is added in the order p, p + 1, … around a ring, and then goes around once more (Patarasuk, Yuan, "Bandwidth optimal all-reduce
    /// algorithms for clusters of workstations", 2009): 2 (N - 1) / N of the bytes leave each process.
    ///
    /// # Errors
    /// Any [`ReduceError`].
    pub fn sum(&mut self, values: &mut [f32]) -> Result<(), ReduceError> {
        let size = self.size();
        if size == 1 {
            return Ok(());
        }
        if values.len() <= SHORT {
            let all = self.gather(bytemuck::cast_slice(values))?;
            values.fill(0.0);
            for theirs in all.chunks_exact(4 * values.len().max(1)) {
                for (sum, bytes) in values.iter_mut().zip(theirs.chunks_exact(4)) {
                    *sum += bytes.try_into().map_or(f32::NAN, f32::from_le_bytes);
                }
            }
            return Ok(());
        }
        values.chunks_mut(size * PART).try_for_each(|values| self.ring(values))
    }

    /// [`sum`](Self::sum) of values that are not short.
    fn ring(&mut self, values: &mut [f32]) -> Result<(), ReduceError> {
        let (rank, size) = (self.rank(), self.size());
        let (next, previous) = ((rank + 1) % size, (rank + size - 1) % size);
        let part = |p: usize| values.len() * p / size..values.len() * (p + 1) / size;
        let parts: Vec<_> = (0..size).map(part).collect();
        let mut scratch = std::mem::take(&mut self.scratch);
        scratch.resize(parts.iter().map(|p| p.len()).max().unwrap_or(0), 0.0);
        for step in 0..2 * (size - 1) {
            let (mine, theirs) = ((rank + 2 * size - step) % size, (rank + 2 * size - step - 1) % size);
            let (out, into) = (&values[parts[mine].clone()], &mut scratch[..parts[theirs].len()]);
            let (out, bytes) = (bytemuck::cast_slice(out), bytemuck::cast_slice_mut(into));
            self.transfer(Some((next, out)), Some((previous, bytes)))?;
            let own = &mut values[parts[theirs].clone()];
            match step < size - 1 {
                true => own.iter_mut().zip(&scratch).for_each(|(own, sum)| *own += sum),
                false => own.copy_from_slice(&scratch[..own.len()]),
            }
        }
        self.scratch = scratch;
        Ok(())
    }

    /// The bytes of all processes behind one another in the order of the ranks, in the logarithm of N steps (Bruck et al.,
    /// "Efficient algorithms for all-to-all communications in multiport message-passing systems", 1997). All give as many.
    ///
    /// # Errors
    /// Any [`ReduceError`].
    pub fn gather(&mut self, bytes: &[u8]) -> Result<Vec<u8>, ReduceError> {
        let (rank, size, len) = (self.rank(), self.size(), bytes.len());
        let mut all = reserved(size as u64 * len as u64)?;
        all.extend_from_slice(bytes);
        all.resize(size * len, 0);
        // Blocks of the ranks from this one on.
        let mut have = 1;
        while have < size {
            let count = have.min(size - have);
            let (mine, rest) = all.split_at_mut(have * len);
            let send = ((rank + size - have) % size, &mine[..count * len]);
            let receive = ((rank + have) % size, &mut rest[..count * len]);
            self.transfer(Some(send), Some(receive))?;
            have += count;
        }
        all.rotate_right(rank * len);
        Ok(all)
    }

    /// The bytes of process 0, along a binomial tree.
    ///
    /// # Errors
    /// Any [`ReduceError`].
    pub fn broadcast(&mut self, mut bytes: Vec<u8>) -> Result<Vec<u8>, ReduceError> {
        let (rank, size) = (self.rank(), self.size());
        let lengths = self.gather(&(bytes.len() as u64).to_le_bytes())?;
        let length = lengths[..8].try_into().map_or(0, u64::from_le_bytes);
        if rank > 0 {
            bytes = reserved(length)?;
            bytes.resize(length as usize, 0);
        }
        let mut bit = 1;
        while bit < size && rank & bit == 0 {
            bit <<= 1;
        }
        if rank > 0 {
            self.transfer(None, Some((rank - bit, &mut bytes)))?;
        }
        while bit > 1 {
            bit >>= 1;
            if rank + bit < size {
                self.transfer(Some((rank + bit, &bytes)), None)?;
            }
        }
        Ok(bytes)
    }
}

/// Room for that many bytes.
fn reserved(bytes: u64) -> Result<Vec<u8>, ReduceError> {
    let mut room = Vec::new();
    let count = usize::try_from(bytes).map_err(|_| ReduceError::Memory { bytes })?;
    room.try_reserve_exact(count).map_err(|_| ReduceError::Memory { bytes })?;
    Ok(room)
}
