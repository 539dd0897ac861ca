//! Detection with labels: by the accuracy of the network.

use slq_compress::{Accuracy, TrainingData};
use slq_data::{Split, Transform};
use slq_engine::Isa;
use slq_graph::Graph;

use super::candidates::{Candidate, small, spread, usual};
use super::preprocessing::{Detection, Preprocessing};
use crate::Error;
use crate::batches::fitting_batch;
use crate::infer::evaluate_model;

/// Images of the first pass over all candidates.
const FIRST: usize = 64;
/// Images of the second pass over the best ones, where they are small and where they are not.
const SECOND: [usize; 2] = [1024, 256];
/// Candidates that reach the second pass; more where more classify every image of the first.
const FINALISTS: usize = 3;

/// Images below which even a network that classifies well cannot be told from one that guesses.
const FEWEST: usize = 64;

impl Preprocessing {
    /// The same as detected on the training images of `data`. Where these are too few to judge by, what was assumed stays, and
    /// [`Preprocessing::note`] says so.
    ///
    /// # Errors
    /// As [`detect`].
    pub(crate) fn detected(self, graph: &Graph, data: &TrainingData, isa: Isa) -> Result<Self, Error> {
        match detect(graph, data, isa) {
            Ok(found) => Ok(self.found(found)),
            Err(Error::UnknownPreprocessing(_)) if data.train.len() < FEWEST => {
                Ok(Self { too_few: Some(data.train.len()), ..self })
            }
            Err(error) => Err(error),
        }
    }
}

/// Accuracy on images, in the largest batches of up to [`FIRST`] that fit into memory.
fn accuracy(graph: &Graph, images: &Split, transform: &Transform, isa: Isa) -> Result<Accuracy, Error> {
    let most = FIRST.min(images.len()).max(1);
    let (found, _) = fitting_batch(most, |batch| evaluate_model(graph, images, transform, batch, isa))?;
    Ok(found)
}

/// One candidate's result on some images.
struct Tried<'a> {
    candidate: &'a Candidate,
    transform: Transform,
    accuracy: Accuracy,
}

/// Finds the preprocessing of `graph` on the training images of `data`, whose own preprocessing gives sizes and crops.
///
/// # Errors
/// [`Error::UnknownPreprocessing`] where no candidate is clearly better than chance, with what was tried, and the errors of
/// engine and data.
pub fn detect(graph: &Graph, data: &TrainingData, isa: Isa) -> Result<Detection, Error> {
    let candidates = usual(&data.transform, &data.train);
    let few = spread(&data.train, FIRST)?;
    let base = &data.transform;
    let try_on = |candidate, images: &Split| {
        let transform = Candidate::transform(candidate, base);
        let accuracy = accuracy(graph, images, &transform, isa)?;
        Ok::<_, Error>(Tried { candidate, transform, accuracy })
    };
    let mut tried = candidates.iter().map(|c| try_on(c, &few)).collect::<Result<Vec<_>, _>>()?;
    best_first(&mut tried);
    let more = spread(&data.train, SECOND[usize::from(!small(base, &data.train))])?;
    let faultless = tried.iter().filter(|t| t.accuracy.top1 >= 1.0).count();
    let finalists = tried
        .iter()
        .take(FINALISTS.max(faultless))
        .map(|t| final_of(graph, t, &more, isa))
        .collect::<Result<Vec<_>, _>>()?;
    let classes = data.train.class_counts().len().max(2);
    match chosen(&finalists, candidates) {
        Some(best) if clear(&best.accuracy, classes) => {
            Ok(best.candidate.found(best.transform.clone(), Some(best.accuracy), more.len()))
        }
        _ => Err(undetected(&tried, classes)),
    }
}

/// Below this top-1 on training images it is worth trying the usual preprocessing, too.
const LOW: f64 = 0.5;

/// Why the preprocessing of `data`, which flags or files say, may be wrong: the network classifies no better than guessing, or
/// clearly better with one of the usual ones. `None` where there is no doubt, and for a network that is no classifier.
pub fn doubt(graph: &Graph, data: &TrainingData, isa: Isa) -> Option<String> {
    let images = spread(&data.train, FIRST).ok().filter(|images| images.len() >= FEWEST / 2)?;
    let top1 = |transform: &Transform| {
        accuracy(graph, &images, transform, isa).ok().filter(|found| found.loss.is_finite())
    };
    let given = top1(&data.transform)?;
    let (classes, count) = (data.train.class_counts().len().max(2), images.len());
    if given.top1 >= LOW {
        return None;
    }
    let tried = usual(&data.transform, &data.train)
        .iter()
        .rev()
        .filter_map(|c| top1(&c.transform(&data.transform)).map(|found| (c, found.top1)));
    // The last of equal ones: the most usual.
    let best = tried.max_by(|a, b| a.1.total_cmp(&b.1));
    // Three standard errors of the difference between two shares.
    let margin = 3.0 * (0.5 / count as f64).sqrt();
    let percent = 100.0 * given.top1;
    match best {
        Some((candidate, share)) if share > given.top1 + margin => Some(format!(
            "the preprocessing may be wrong: the float network classifies {percent:.1} % of {count} training images, and \
             {:.1} % with {} ({})",
            100.0 * share,
            candidate.name,
            candidate.flags
        )),
        _ if !clear(&given, classes) => Some(format!(
            "the float network classifies {percent:.1} % of {count} training images, no better than guessing \
             ({:.1} %): preprocessing or class numbers may be wrong",
            100.0 / classes as f64
        )),
        _ => None,
    }
}

/// A candidate of the second pass, with its loss on each batch.
struct Finalist<'a> {
    candidate: &'a Candidate,
    transform: Transform,
    accuracy: Accuracy,
    losses: Vec<f64>,
}

fn final_of<'a>(graph: &Graph, tried: &Tried<'a>, images: &Split, isa: Isa) -> Result<Finalist<'a>, Error> {
    let batch = FIRST.min(images.len()).max(1);
    let mut losses = Vec::new();
    let (mut top1, mut loss) = (0.0, 0.0);
    for start in (0..images.len()).step_by(batch) {
        let part = images.subset(&format!("{start}:{}", (start + batch).min(images.len())))?;
        let found = accuracy(graph, &part, &tried.transform, isa)?;
        let share = part.len() as f64 / images.len() as f64;
        (top1, loss) = (top1 + share * found.top1, loss + share * found.loss);
        losses.push(found.loss);
    }
    let accuracy = Accuracy { top1, top5: None, loss, images: images.len(), unlabelled: false };
    Ok(Finalist { candidate: tried.candidate, transform: tried.transform.clone(), accuracy, losses })
}

/// Of the finalists whose loss is not clearly above the smallest (two standard errors of the paired difference over
/// batches), the most usual one: the first in the list of candidates. Where all images are classified, the loss only says by how
/// much inputs were scaled up, and counts for nothing.
fn chosen<'a, 'b>(finalists: &'b [Finalist<'a>], candidates: &[Candidate]) -> Option<&'b Finalist<'a>> {
    let finite = |f: &&Finalist<'_>| f.accuracy.loss.is_finite();
    let best = finalists.iter().filter(finite).min_by(|a, b| a.accuracy.loss.total_cmp(&b.accuracy.loss))?;
    let as_good = |f: &&Finalist<'_>| {
        if best.accuracy.top1 >= 1.0 && f.accuracy.top1 >= 1.0 {
            return true;
        }
        let differences: Vec<f64> = f.losses.iter().zip(&best.losses).map(|(a, b)| a - b).collect();
        let n = differences.len() as f64;
        let mean = differences.iter().sum::<f64>() / n;
        let variance = differences.iter().map(|d| (d - mean).powi(2)).sum::<f64>() / (n - 1.0).max(1.0);
        mean <= 2.0 * (variance / n).sqrt()
    };
    let place = |f: &&Finalist<'_>| candidates.iter().position(|c| c.name == f.candidate.name);
    finalists.iter().filter(finite).filter(as_good).min_by_key(place)
}

/// By falling accuracy; of those within a standard error of each other, the smaller loss first. Those without a fault keep their
/// order.
fn best_first(tried: &mut [Tried<'_>]) {
    let Some(top) = tried.iter().map(|t| t.accuracy.top1).max_by(f64::total_cmp) else { return };
    let images = tried[0].accuracy.images.max(1) as f64;
    let error = (top * (1.0 - top) / images).sqrt();
    let class = |t: &Tried<'_>| t.accuracy.top1 < top - error;
    let loss = |t: &Tried<'_>| match t.accuracy.loss {
        loss if !loss.is_finite() => f64::INFINITY,
        _ if t.accuracy.top1 >= 1.0 => 0.0,
        loss => loss,
    };
    tried.sort_by(|a, b| {
        let far = class(a).cmp(&class(b));
        let by =
            if class(a) { b.accuracy.top1.total_cmp(&a.accuracy.top1) } else { loss(a).total_cmp(&loss(b)) };
        far.then(by)
    });
}

/// Whether an accuracy is at least twice that of guessing, by three standard errors.
fn clear(accuracy: &Accuracy, classes: usize) -> bool {
    let chance = 1.0 / classes as f64;
    let error = (chance * (1.0 - chance) / accuracy.images.max(1) as f64).sqrt();
    accuracy.top1 >= (2.0 * chance).min(0.5 + chance / 2.0).max(chance + 3.0 * error)
}

fn undetected(tried: &[Tried<'_>], classes: usize) -> Error {
    let text: Vec<String> = tried
        .iter()
        .take(4)
        .map(|t| format!("{} ({:.1} %)", t.candidate.name, 100.0 * t.accuracy.top1))
        .collect();
    Error::UnknownPreprocessing(format!(
        "the network's preprocessing is not known, and with none of the {} usual ones it classifies {} training images \
         clearly better than chance ({:.1} %): {}, ...; give --scale, --mean and --std, or check that the class numbers \
         are those of the network",
        tried.len(),
        tried.first().map_or(0, |t| t.accuracy.images),
        100.0 / classes as f64,
        text.join(", "),
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_sample_was_trained_on_pixels_from_0_to_1() {
        let (model, data) = crate::sample().unwrap();
        let data = TrainingData { transform: Transform::default(), ..data.for_model(&model).unwrap() };
        let found = detect(&model.graph, &data, Isa::detect()).unwrap();
        assert!(found.name == "0 to 1" || found.name == "pixels over 256", "{}", found.name);
        assert!(found.accuracy.unwrap().top1 > 0.95);
    }

    #[test]
    fn where_all_images_are_classified_the_scale_is_not_the_largest() {
        let (model, data) = crate::sample().unwrap();
        let mut data = TrainingData { transform: Transform::default(), ..data.for_model(&model).unwrap() };
        data.train = data.train.subset("::100").unwrap();
        let found = detect(&model.graph, &data, Isa::detect()).unwrap();
        assert!(found.accuracy.unwrap().top1 >= 1.0, "{found:?}");
        assert!(found.name == "0 to 1" || found.name == "pixels over 256", "{}", found.name);
    }

    #[test]
    fn wrong_preprocessing_is_doubted_and_the_right_one_is_not() {
        let (model, data) = crate::sample().unwrap();
        let mut data = data.for_model(&model).unwrap();
        let right = data.transform.clone();
        assert_eq!(doubt(&model.graph, &data, Isa::detect()), None);
        data.transform = Transform { scale: Some(-1.0), ..right };
        let text = doubt(&model.graph, &data, Isa::detect()).unwrap();
        assert!(text.contains("may be wrong") && text.contains("with 0 to 1"), "{text}");
        let fresh = crate::Model::open("zoo:lenet").unwrap();
        let text = doubt(&fresh.graph, &data, Isa::detect()).unwrap();
        assert!(text.contains("guessing (10.0 %)"), "{text}");
    }

    #[test]
    fn a_few_images_prove_nothing_against_a_network() {
        let (_, data) = crate::sample().unwrap();
        let fresh = crate::Model::open("zoo:lenet").unwrap();
        let mut data = data.for_model(&fresh).unwrap();
        data.train = data.train.subset("0:16").unwrap();
        let source = crate::detect::PreprocessingSource::Assumed;
        let assumed = Preprocessing::new(data.transform.clone(), source);
        let found = assumed.detected(&fresh.graph, &data, Isa::detect()).unwrap();
        assert_eq!((found.too_few, &found.transform), (Some(16), &data.transform));
        assert!(found.note().unwrap().contains("16 images are too few"), "{:?}", found.note());
    }

    #[test]
    fn a_network_that_knows_nothing_has_no_preprocessing_to_find() {
        let (model, data) = crate::sample().unwrap();
        let data = data.for_model(&model).unwrap();
        let fresh = crate::Model::open("zoo:lenet").unwrap();
        let error = detect(&fresh.graph, &data, Isa::detect()).unwrap_err().to_string();
        assert!(error.contains("chance") && error.contains("--scale"), "{error}");
    }
}
