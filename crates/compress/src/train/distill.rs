//! Distillation: training towards the outputs of another network, the teacher (Hinton, Vinyals, Dean, "Distilling the
//! Knowledge in a Neural Network", 2015).

use slq_engine::{CpuExecutor, Executor, Isa};
use slq_graph::Graph;

use super::data::executor;
use super::settings::TrainingSettings;
use crate::error::CompressError;

/// The teacher's executor, where `settings` ask for distillation: of `other`, or of `graph` itself.
///
/// # Errors
/// [`CompressError::Setting`] for a teacher whose input shape or number of classes differs from the student's.
pub(crate) fn teacher(
    other: Option<&Graph>,
    graph: &Graph,
    settings: &TrainingSettings,
    seed: u64,
    isa: Isa,
) -> Result<Option<CpuExecutor>, CompressError> {
    if settings.distill.is_none() {
        return Ok(None);
    }
    let Some(other) = other else { return executor(graph, settings, seed, isa).map(Some) };
    // The heads of a solver's net are the student's own.
    let mut teacher =
        executor(other, &TrainingSettings { heads: Vec::new(), ..settings.clone() }, seed, isa)?;
    let mut student = executor(graph, &TrainingSettings { batch: 1, ..settings.clone() }, seed, isa)?;
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

/// Turns rows of `classes` logits into probabilities: softmax(logits / temperature).
pub(crate) fn softmax_with_temperature(logits: &mut [f32], classes: usize, temperature: f32) {
    for row in logits.chunks_exact_mut(classes.max(1)) {
        let top = row.iter().copied().fold(f32::NEG_INFINITY, f32::max);
        row.iter_mut().for_each(|v| *v = ((*v - top) / temperature).exp());
        let sum: f32 = row.iter().sum();
        row.iter_mut().for_each(|v| *v /= sum);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn temperature_softens_and_rows_sum_to_one() {
        let mut sharp = vec![1.0, 2.0, 3.0, 1000.0, 0.0, 0.0];
        let mut soft = sharp.clone();
        softmax_with_temperature(&mut sharp, 3, 1.0);
        softmax_with_temperature(&mut soft, 3, 4.0);
        assert!((sharp[2] - 0.665_24).abs() < 1e-4 && soft[2] < sharp[2]);
        assert_eq!(sharp[3..], [1.0, 0.0, 0.0]);
        assert!((soft[..3].iter().sum::<f32>() - 1.0).abs() < 1e-6);
    }
}
