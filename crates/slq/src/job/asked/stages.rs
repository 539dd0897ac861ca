//! From what is asked to stages: a base (a recipe's stage, or a method's defaults) with everything given on top.

use slq_compress::{
    FineTune, Length, Method, Quantize, Situation, Stage, TrainingSettings, Tune, recommended,
};
use slq_graph::Graph;

use super::request::{Asked, Preset};
use super::settings::{flag_of, settings, training};
use crate::Error;

/// What the defaults depend on beside what is asked.
#[derive(Debug, Clone)]
pub struct Known<'a> {
    /// What a solver file says of the training.
    pub solver: Option<TrainingSettings>,
    /// The method where none is named.
    pub method: slq_compress::MethodName,
    /// The network.
    pub graph: &'a Graph,
    /// Training images, where there is data.
    pub images: Option<usize>,
    /// Whether the data has no labels.
    pub unlabelled: bool,
}

/// The stages that are asked for, on top of those of a recipe, which may be none.
///
/// # Errors
/// [`Error::Argument`] and [`Error::Compress`], naming the flag or the setting.
pub fn stages(asked: &Asked, recipe: Vec<Stage>, known: Known<'_>) -> Result<Vec<Stage>, Error> {
    asked.check()?;
    let mut stages = recipe;
    if stages.is_empty() {
        stages = defaults(asked, known)?;
    }
    let Some(place) = stages.iter().position(|s| matches!(s, Stage::Quantize(_))) else {
        return match given(asked) {
            None => Ok(stages),
            Some(flag) => {
                Err(Error::Argument(format!("the recipe quantizes nothing, which {flag} would change")))
            }
        };
    };
    let Stage::Quantize(base) = stages[place].clone() else { return Ok(stages) };
    let settings = settings(asked, base)?;
    if let Some(tune) = tune(asked, &settings)? {
        stages.truncate(place + 1);
        stages.push(Stage::Tune(tune));
    }
    stages[place] = Stage::Quantize(settings);
    Ok(stages)
}

/// The stages of a job whose recipe is not given: with data those that measure best; Caffe's solver and the publication say
/// all themselves.
fn defaults(asked: &Asked, known: Known<'_>) -> Result<Vec<Stage>, Error> {
    let said = known.solver.is_some() || asked.is(Preset::Published);
    let base = base(asked, known.solver, known.method);
    let (lengths, name) = (&asked.lengths, base.method.name().text());
    if lengths.effort.is_some() && !matches!(base.method, Method::Slq(_) | Method::Mlq(_)) {
        let text = format!("--effort chooses lengths of slq and mlq and means nothing to {name}");
        return Err(Error::Argument(text));
    }
    if lengths.fine_tune_epochs.is_some() && !base.retrains() {
        let text = format!("--fine-tune-epochs serves methods that re-train, and {name} does not");
        return Err(Error::Argument(text));
    }
    let Some(images) = known.images.filter(|_| !said && base.retrains()) else {
        return Ok(vec![base.into()]);
    };
    let draft = settings(asked, base.clone())?;
    let situation = Situation::of(known.graph, images).without_labels(known.unlabelled);
    let mut stages = recommended(known.graph, draft, &situation, lengths.effort.unwrap_or_default())?;
    for stage in &mut stages {
        if let Stage::Quantize(found) = stage {
            *found = Quantize { method: found.method.clone(), ..base.clone() };
        }
    }
    fine_tuned(asked, stages)
}

/// `stages` with the fine-tuning that is asked for: none where the length of the rounds is given.
fn fine_tuned(asked: &Asked, stages: Vec<Stage>) -> Result<Vec<Stage>, Error> {
    let lengths = &asked.lengths;
    let (mut fine_tune, others): (Vec<Stage>, Vec<Stage>) =
        stages.into_iter().partition(|s| matches!(s, Stage::FineTune(_)));
    let found = match fine_tune.pop() {
        Some(Stage::FineTune(stage)) if lengths.round.is_none() => Some(stage.training),
        _ => None,
    };
    let chosen = match lengths.fine_tune_epochs {
        Some(epochs) if epochs > 0.0 || epochs.is_nan() => {
            let quantize = others.iter().find_map(|s| match s {
                Stage::Quantize(q) => q.method.training().cloned(),
                _ => None,
            });
            let base = found.or(quantize).unwrap_or_default();
            Some(TrainingSettings { length: Length::Epochs(epochs), ..base })
        }
        Some(epochs) if epochs < 0.0 => {
            return Err(Error::Argument(format!("--fine-tune-epochs {epochs}: give 0 or more")));
        }
        Some(_) => None,
        None => found,
    };
    let Some(chosen) = chosen else { return Ok(others) };
    let training = TrainingSettings { distill: None, ..training(asked, chosen)? };
    training.check()?;
    Ok([vec![Stage::from(FineTune { training })], others].concat())
}

/// A flag of the quantization that was given, if one was.
fn given(asked: &Asked) -> Option<String> {
    let lengths = &asked.lengths;
    let own = [
        (asked.method.is_some(), "--method"),
        (asked.bits.is_some(), "--bits"),
        (asked.codebook_size.is_some(), "--codebook-size"),
        (asked.granularity.is_some(), "--granularity"),
        (!asked.layers.is_empty(), "--layers"),
        (asked.cluster_weights.is_some(), "--cluster-weights"),
        (asked.partition_images.is_some(), "--partition-images"),
        (asked.no_correction, "--no-correction"),
        (lengths.tune.is_some(), "--tune-epochs"),
        (lengths.tune_rate.is_some(), "--tune-lr"),
        (lengths.round.is_some(), "--epochs-per-round"),
        (lengths.fine_tune_epochs.is_some(), "--fine-tune-epochs"),
        (lengths.effort.is_some(), "--effort"),
        (asked.budget.is_some(), "--target-size or --max-drop"),
    ];
    let own = own.iter().find(|(given, _)| *given).map(|(_, flag)| (*flag).to_owned());
    own.or_else(|| asked.settings.keys().next().map(|key| flag_of(key)))
}

/// The defaults of what is asked for, with a solver file's training.
fn base(asked: &Asked, solver: Option<TrainingSettings>, default: slq_compress::MethodName) -> Quantize {
    let name = asked.method.unwrap_or(default);
    let base = match asked.preset {
        Some(Preset::Ternary) => Quantize::ternary(),
        Some(Preset::Published) => Quantize::published(name, asked.bits.unwrap_or(5)),
        None => Quantize::new(name.with_defaults(), 4),
    };
    let Some(solver) = solver else { return base };
    let ternary = asked.is(Preset::Ternary);
    base.training(|t| {
        // What makes ternary weights work goes before the solver, as flags do.
        let (distill, learning_rate) = match ternary {
            true => (t.distill, t.learning_rate),
            false => (solver.distill, solver.learning_rate),
        };
        *t = TrainingSettings { distill, learning_rate, ..solver };
    })
}

/// The training of the shared values at the end, where it is asked for and the method has none of its own.
fn tune(asked: &Asked, settings: &Quantize) -> Result<Option<Tune>, Error> {
    if matches!(settings.method, Method::DeepCompression(_)) {
        return Ok(None);
    }
    let lengths = &asked.lengths;
    let Some(length) = lengths.tune else {
        return match lengths.tune_rate {
            None => Ok(None),
            Some(_) => {
                let missing = "--tune-lr: say how long with --tune-epochs or --tune-iterations";
                Err(Error::Argument(missing.into()))
            }
        };
    };
    let base = settings.method.training().cloned().unwrap_or_default();
    let learning_rate = lengths.tune_rate.unwrap_or(base.learning_rate);
    let tune = Tune { training: TrainingSettings { length, learning_rate, ..base } };
    tune.check()?;
    Ok(Some(tune))
}

#[cfg(test)]
mod tests {
    use slq_compress::{Effort, MethodName};

    use super::super::request::Lengths;
    use super::*;

    fn found(asked: &Asked, images: Option<usize>) -> Result<Vec<Stage>, String> {
        let graph = slq_zoo::build("lenet", 0).unwrap();
        let known = Known { solver: None, method: MethodName::Slq, graph: &graph, images, unlabelled: false };
        stages(asked, Vec::new(), known).map_err(|e| e.to_string())
    }

    fn names(stages: &[Stage]) -> Vec<&str> {
        stages.iter().map(Stage::name).collect()
    }

    #[test]
    fn much_data_is_fine_tuned_on_unless_lengths_say_otherwise() {
        let many = Some(60_000);
        assert_eq!(names(&found(&Asked::default(), many).unwrap()), ["fine-tune", "quantize"]);
        let with = |lengths| Asked { lengths, ..Asked::default() };
        let quick = with(Lengths { effort: Some(Effort::Quick), ..Lengths::default() });
        assert_eq!(names(&found(&quick, many).unwrap()), ["quantize"]);
        let short = Lengths { round: Some(Length::Iterations(3)), ..Lengths::default() };
        assert_eq!(names(&found(&with(short), many).unwrap()), ["quantize"]);
        let both = with(Lengths { fine_tune_epochs: Some(2.0), ..short });
        let stages = found(&both, many).unwrap();
        let Some(Stage::FineTune(first)) = stages.first() else { panic!("{stages:?}") };
        assert_eq!((first.training.length, first.training.distill), (Length::Epochs(2.0), None));
        let published = Asked { preset: Some(Preset::Published), ..Asked::default() };
        assert_eq!(found(&published, many).unwrap(), [Quantize::published(MethodName::Slq, 5).into()]);
    }

    #[test]
    fn lengths_that_would_have_no_effect_are_refused() {
        let asked = |method, lengths| Asked { method: Some(method), lengths, ..Asked::default() };
        let effort = Lengths { effort: Some(Effort::Normal), ..Lengths::default() };
        let error = found(&asked(MethodName::Inq, effort), Some(60_000)).unwrap_err();
        assert!(error.contains("--effort") && error.contains("inq"), "{error}");
        let epochs = |n| Lengths { fine_tune_epochs: Some(n), ..Lengths::default() };
        let error = found(&asked(MethodName::Kmeans, epochs(1.0)), Some(60_000)).unwrap_err();
        assert!(error.contains("--fine-tune-epochs") && error.contains("kmeans"), "{error}");
        let error = found(&asked(MethodName::Slq, epochs(-1.0)), Some(60_000)).unwrap_err();
        assert!(error.contains("-1"), "{error}");
    }

    #[test]
    fn contradictions_are_named() {
        let ternary = Asked { preset: Some(Preset::Ternary), ..Asked::default() };
        let budget = Some("20x".parse().unwrap());
        for (asked, word) in [
            (Asked { bits: Some(3), ..ternary.clone() }, "--bits"),
            (Asked { method: Some(MethodName::Slq), ..ternary.clone() }, "mlq"),
            (Asked { budget, ..ternary }, "--ternary"),
            (Asked { bits: Some(3), budget, ..Asked::default() }, "--bits"),
            (Asked { budget: Some(slq_compress::Budget::Drop(200.0)), ..Asked::default() }, "200"),
        ] {
            let error = found(&asked, None).unwrap_err();
            assert!(error.contains(word), "{error}");
        }
    }
}
