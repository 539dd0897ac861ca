//! A process of a group whose messages travel while it computes.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use crate::error::ReduceError;
use crate::group::{Group, Transport};
use crate::reducer::Reducer;

/// How a transport waits for a message: at once where the computation waits, too; otherwise it sleeps in between, so that a
/// core is left to the computation.
#[derive(Debug, Clone, Default)]
pub struct Patience {
    waiting: Arc<AtomicUsize>,
}

/// Sleep between two looks for a message while the process computes.
const NAP: Duration = Duration::from_micros(100);

impl Patience {
    /// Called between two looks for a message.
    pub fn pause(&self) {
        match self.waiting.load(Ordering::Relaxed) {
            0 => thread::sleep(NAP),
            _ => thread::yield_now(),
        }
    }
}

enum Job {
    Sum(Vec<f32>),
    Gather(Vec<u8>),
    Broadcast(Vec<u8>),
}

/// One process of a group. A thread of its own, which is also the only one that calls the transport, serves the requests in
/// the order in which they are made.
#[derive(Debug)]
pub struct Background {
    rank: usize,
    size: usize,
    jobs: Mutex<Option<Sender<Job>>>,
    sums: Mutex<Receiver<Result<Vec<f32>, ReduceError>>>,
    bytes: Mutex<Receiver<Result<Vec<u8>, ReduceError>>>,
    patience: Patience,
    thread: Mutex<Option<JoinHandle<()>>>,
}

impl Background {
    /// Starts the thread; `open` makes the transport in it, which is also dropped there.
    ///
    /// # Errors
    /// What `open` returns; [`ReduceError::Transport`] where no thread can be started.
    pub fn start<T: Transport>(
        open: impl FnOnce(Patience) -> Result<T, ReduceError> + Send + 'static,
    ) -> Result<Self, ReduceError> {
        let (jobs, requests) = channel();
        let (sums_out, sums) = channel();
        let (bytes_out, bytes) = channel();
        let (opened_out, opened) = channel();
        let patience = Patience::default();
        let own = patience.clone();
        let serve = move || {
            let transport = match open(own) {
                Ok(transport) => transport,
                Err(error) => return drop(opened_out.send(Err(error))),
            };
            let mut group = Group::new(transport);
            let _ = opened_out.send(Ok((group.rank(), group.size())));
            for job in requests {
                // Who asked may be gone after an error of its own.
                let failed = match job {
                    Job::Sum(mut values) => answer(&sums_out, group.sum(&mut values).map(|()| values)),
                    Job::Gather(bytes) => answer(&bytes_out, group.gather(&bytes)),
                    Job::Broadcast(bytes) => answer(&bytes_out, group.broadcast(bytes)),
                };
                if failed {
                    return;
                }
            }
        };
        let thread = thread::Builder::new().name("slq-reduce".into()).spawn(serve);
        let thread = thread.map_err(|e| ReduceError::Transport { reason: e.to_string() })?;
        let (rank, size) = opened.recv().map_err(|_| ReduceError::Ended)??;
        Ok(Self {
            rank,
            size,
            jobs: Mutex::new(Some(jobs)),
            sums: Mutex::new(sums),
            bytes: Mutex::new(bytes),
            patience,
            thread: Mutex::new(Some(thread)),
        })
    }

    fn ask(&self, job: Job) -> Result<(), ReduceError> {
        let jobs = lock(&self.jobs);
        jobs.as_ref().and_then(|j| j.send(job).ok()).ok_or(ReduceError::Ended)
    }

    fn wait<A>(&self, answers: &Mutex<Receiver<Result<A, ReduceError>>>) -> Result<A, ReduceError> {
        self.patience.waiting.fetch_add(1, Ordering::Relaxed);
        let answer = lock(answers).recv();
        self.patience.waiting.fetch_sub(1, Ordering::Relaxed);
        answer.map_err(|_| ReduceError::Ended)?
    }
}

/// Sends an answer; whether that was the last.
fn answer<A>(to: &Sender<Result<A, ReduceError>>, answer: Result<A, ReduceError>) -> bool {
    let failed = answer.is_err();
    failed | to.send(answer).is_err()
}

fn lock<A>(mutex: &Mutex<A>) -> MutexGuard<'_, A> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Reducer for Background {
    fn rank(&self) -> usize {
        self.rank
    }

    fn size(&self) -> usize {
        self.size
    }

    fn begin_sum(&self, values: Vec<f32>) -> Result<(), ReduceError> {
        self.ask(Job::Sum(values))
    }

    fn finish_sum(&self) -> Result<Vec<f32>, ReduceError> {
        self.wait(&self.sums)
    }

    fn gather(&self, bytes: &[u8]) -> Result<Vec<Vec<u8>>, ReduceError> {
        if bytes.is_empty() {
            return Ok(vec![Vec::new(); self.size]);
        }
        self.ask(Job::Gather(bytes.to_vec()))?;
        Ok(self.wait(&self.bytes)?.chunks_exact(bytes.len()).map(<[u8]>::to_vec).collect())
    }

    fn broadcast(&self, bytes: Vec<u8>) -> Result<Vec<u8>, ReduceError> {
        self.ask(Job::Broadcast(bytes))?;
        self.wait(&self.bytes)
    }

    fn end(&self) {
        drop(lock(&self.jobs).take());
        self.patience.waiting.fetch_add(1, Ordering::Relaxed);
        if let Some(thread) = lock(&self.thread).take() {
            // A panic there has been reported on stderr.
            let _ = thread.join();
        }
    }
}

impl Drop for Background {
    fn drop(&mut self) {
        self.end();
    }
}
