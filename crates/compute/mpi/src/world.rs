//! The processes that `mpirun` started.

use mpi::Threading;
use mpi::environment::Universe;
use mpi::point_to_point::{Destination, Source};
use mpi::request::{Request, Scope, scope};
use mpi::topology::{Communicator, SimpleCommunicator};
use slq_reduce::{Background, Patience, ReduceError, Transport};

/// Takes part in the group of processes that `mpirun` or a batch system started. MPI ends with [`Reducer::end`].
///
/// [`Reducer::end`]: slq_reduce::Reducer::end
///
/// # Errors
/// [`ReduceError::Transport`] where MPI was started before in this process or cannot be used from one thread of several.
pub fn start() -> Result<Background, ReduceError> {
    Background::start(|patience| {
        // The thread that starts MPI is the one that calls it.
        let Some((universe, level)) = mpi::initialize_with_threading(Threading::Funneled) else {
            return Err(ReduceError::Transport { reason: "MPI was started before in this process".into() });
        };
        if level < Threading::Funneled {
            let reason = "this MPI library cannot be used by a program with several threads".into();
            return Err(ReduceError::Transport { reason });
        }
        let world = universe.world();
        Ok(World { world, patience, _universe: universe })
    })
}

/// The world communicator. Dropped, it ends MPI.
struct World {
    world: SimpleCommunicator,
    patience: Patience,
    _universe: Universe,
}

impl Transport for World {
    fn rank(&self) -> usize {
        self.world.rank() as usize
    }

    fn size(&self) -> usize {
        self.world.size() as usize
    }

    fn transfer(
        &mut self,
        send: Option<(usize, &[u8])>,
        receive: Option<(usize, &mut [u8])>,
    ) -> Result<(), ReduceError> {
        // MPI's own handler of errors ends all processes.
        scope(|scope| {
            let receiving = receive.map(|(from, bytes)| {
                self.world.process_at_rank(from as i32).immediate_receive_into(scope, bytes)
            });
            let sending =
                send.map(|(to, bytes)| self.world.process_at_rank(to as i32).immediate_send(scope, bytes));
            self.wait(sending);
            self.wait(receiving);
        });
        Ok(())
    }
}

impl World {
    /// Waits for a message as patiently as the computation allows; MPI's own wait would take a core.
    fn wait<'a, D: ?Sized, S: Scope<'a>>(&self, request: Option<Request<'a, D, S>>) {
        let Some(mut request) = request else { return };
        while let Err(unfinished) = request.test() {
            request = unfinished;
            self.patience.pause();
        }
    }
}
