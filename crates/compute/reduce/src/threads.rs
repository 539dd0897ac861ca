//! A group within one process: its ranks are threads. It lets tests train data-parallel without MPI.

use std::sync::mpsc::{Receiver, Sender, channel};

use crate::background::Background;
use crate::error::ReduceError;
use crate::group::Transport;

/// One rank of [`threads()`].
#[derive(Debug)]
pub struct Channels {
    rank: usize,
    to: Vec<Sender<Vec<u8>>>,
    from: Vec<Receiver<Vec<u8>>>,
}

/// The ranks of a group of `size`, one for each thread that is to take part.
///
/// # Panics
/// Where the system gives no threads.
pub fn threads(size: usize) -> Vec<Background> {
    let ranks = channels(size).into_iter();
    ranks.map(|c| Background::start(move |_| Ok(c)).expect("a thread for each rank")).collect()
}

/// Channels from every rank to every rank.
pub(crate) fn channels(size: usize) -> Vec<Channels> {
    let mut ranks: Vec<Channels> =
        (0..size).map(|rank| Channels { rank, to: Vec::new(), from: Vec::new() }).collect();
    for from in 0..size {
        for to in 0..size {
            let (sender, receiver) = channel();
            ranks[from].to.push(sender);
            ranks[to].from.push(receiver);
        }
    }
    ranks
}

impl Transport for Channels {
    fn rank(&self) -> usize {
        self.rank
    }

    fn size(&self) -> usize {
        self.to.len()
    }

    fn transfer(
        &mut self,
        send: Option<(usize, &[u8])>,
        receive: Option<(usize, &mut [u8])>,
    ) -> Result<(), ReduceError> {
        if let Some((rank, bytes)) = send {
            self.to[rank].send(bytes.to_vec()).map_err(|_| ReduceError::Lost { rank })?;
        }
        if let Some((rank, bytes)) = receive {
            let got = self.from[rank].recv().map_err(|_| ReduceError::Lost { rank })?;
            if got.len() != bytes.len() {
                let reason = format!("{} bytes arrived instead of {}", got.len(), bytes.len());
                return Err(ReduceError::Transport { reason });
            }
            bytes.copy_from_slice(&got);
        }
        Ok(())
    }
}
