//! The processes that `mpirun` or a batch system started to do one job together (docs/cluster.md).

use std::time::Duration;

use slq::Isa;
use slq::processes::{Alone, Reducer};

/// The group that this process belongs to.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Processes {
    /// Reaches the others.
    pub(crate) reducer: &'static dyn Reducer,
    /// The instruction set that all of them have, where there are several.
    pub(crate) isa: Option<Isa>,
}

impl Processes {
    /// This process alone.
    pub(crate) fn alone() -> Self {
        Self { reducer: Alone::shared(), isa: None }
    }
}

/// Commands that several processes can do together.
const SHARED: &[&str] = &["train", "compress", "decompose", "resume", "sensitivity"];

/// The group of `command`, if one was started.
///
/// # Errors
/// A sentence for a program without MPI, another command, another build in one of the processes.
pub(crate) fn start(command: &str, isa: Isa) -> Result<Processes, String> {
    let size = launched(|name| std::env::var(name).ok());
    if size <= 1 {
        return Ok(Processes::alone());
    }
    if !SHARED.contains(&command) {
        return Err(format!("slq {command} runs on one process, not on {size}: start it without mpirun"));
    }
    let reducer = open(size)?;
    let fail = |e: slq::processes::ReduceError| e.to_string();
    if let Some(rank) = reducer.first_that_differs(&build()).map_err(fail)? {
        return Err(format!(
            "process {rank} runs another build of slq than process 0: install one on all machines"
        ));
    }
    // Bits depend on the instruction set: all take the best that every machine has.
    const SETS: [Isa; 3] = [Isa::Scalar, Isa::Avx2, Isa::Avx512];
    let own = SETS.iter().position(|s| *s == isa).unwrap_or(0) as u8;
    let least = reducer.gather(&[own]).map_err(fail)?.into_iter().flatten().min().unwrap_or(0);
    Ok(Processes { reducer, isa: Some(SETS[usize::from(least.min(2))]) })
}

#[cfg(feature = "mpi")]
fn open(_: usize) -> Result<&'static dyn Reducer, String> {
    let world = slq_mpi::start().map_err(|e| e.to_string())?;
    // It lives as long as the program, and ends with `Reducer::end`.
    Ok(Box::leak(Box::new(world)))
}

#[cfg(not(feature = "mpi"))]
fn open(size: usize) -> Result<&'static dyn Reducer, String> {
    Err(format!(
        "started as {size} processes, but this slq was built without MPI; build one with it: install libopenmpi-dev and \
         libclang-dev, then cargo install slq-cli --features mpi"
    ))
}

/// The number of processes that Open MPI, MPICH or a batch system started; 1 where none did.
fn launched(variable: impl Fn(&str) -> Option<String>) -> usize {
    let size = ["OMPI_COMM_WORLD_SIZE", "PMI_SIZE"].into_iter().find_map(&variable);
    // With PMIx there is a rank, and the batch system knows the size.
    let size = size.or_else(|| variable("PMIX_RANK").and_then(|_| variable("SLURM_NTASKS")));
    size.and_then(|s| s.trim().parse().ok()).unwrap_or(1)
}

/// Whether this is the first process, before the group is known.
pub(crate) fn first() -> bool {
    let rank =
        ["OMPI_COMM_WORLD_RANK", "PMI_RANK", "PMIX_RANK"].into_iter().find_map(|n| std::env::var(n).ok());
    rank.is_none_or(|r| r.trim() == "0")
}

/// Called in other processes before they report an error. What all of them meet is said once: when the first one ends, the
/// others are ended, too.
pub(crate) fn wait_for_the_first() {
    std::thread::sleep(Duration::from_secs(5));
}

/// Bytes that tell builds apart: the version and a hash of the program's file.
fn build() -> Vec<u8> {
    use std::hash::{DefaultHasher, Hasher};
    let mut hasher = DefaultHasher::new();
    hasher.write(env!("CARGO_PKG_VERSION").as_bytes());
    // A program that cannot read itself is told apart from one that can.
    if let Some(bytes) = std::env::current_exe().ok().and_then(|p| std::fs::read(p).ok()) {
        hasher.write(&bytes);
    }
    hasher.finish().to_le_bytes().to_vec()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_number_of_processes_comes_from_the_launcher() {
        let with = |set: &[(&str, &str)]| {
            launched(|name| set.iter().find(|(n, _)| *n == name).map(|(_, v)| v.to_string()))
        };
        assert_eq!(with(&[]), 1);
        assert_eq!(with(&[("SLURM_NTASKS", "4")]), 1, "a batch script itself is one process");
        assert_eq!(with(&[("OMPI_COMM_WORLD_SIZE", "3")]), 3);
        assert_eq!(with(&[("PMI_SIZE", "8"), ("PMI_RANK", "0")]), 8);
        assert_eq!(with(&[("PMIX_RANK", "1"), ("SLURM_NTASKS", "2")]), 2);
    }
}
