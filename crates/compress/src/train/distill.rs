//! Distillation: training towards the outputs of another network, the teacher (Hinton, Vinyals, Dean, "Distilling the
//! Knowledge in a Neural Network", 2015).

use slq_engine::{CpuExecutor, Executor, Isa};
use slq_graph::Graph;

use super::data::executor;
use super::settings::TrainingSettings;
use crate::error::CompressError;

/// The teacher's executor, where `settings` ask for distillation: of `other`, or of the student's own `graph` before the
/// training.
///
/// # Errors
/// [`CompressError::Setting`] for a teacher whose input shape or number of classes differs from the student's.
pub(crate) fn teacher(
    other: Option<&Graph>,
    graph: &Graph,
    student: &mut CpuExecutor,
    settings: &TrainingSettings,
    seed: u64,
    isa: Isa,
) -> Result<Option<CpuExecutor>, CompressError> {
    // What follows another network has its teacher in the executor.
    if settings.distill.is_none() || student.follows() {
        return Ok(None);
    }
    let Some(other) = other else { return executor(graph, settings, None, (seed, isa)).map(Some) };
    // The heads of a solver's net are the student's own.
    let mut teacher =
        executor(other, &TrainingSettings { heads: Vec::new(), ..settings.clone() }, None, (seed, isa))?;
    let taught = (teacher.image_shape().to_vec(), teacher.classes()?);
    let wanted = (student.image_shape().to_vec(), student.classes()?);
    if taught != wanted {
        let text = |(shape, classes): (Vec<usize>, usize)| {
            let shape: Vec<_> = shape.iter().map(usize::to_string).collect();
            format!("images of {} and {classes} outputs", shape.join("x"))
        };
        let reason = format!("it has {}, the network {}", text(taught), text(wanted));
        return Err(CompressError::Setting { name: "teacher", reason });
    }
    Ok(Some(teacher))
}
