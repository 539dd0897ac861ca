//! From flags to stages: a base (a recipe's stage, or a method's defaults) with every given flag on top.
//!
//! The flags of all methods form one table of settings by name. They are put into the chosen method's own settings; a
//! name that these do not have is a flag of another method, as the settings types themselves show.

use serde_json::{Map, Value, json};
use slq::graph::Graph;
use slq::jobs::Situation;
use slq::methods::{MethodName, TrainingSettings};
use slq::{Budget, Error, FineTune, Length, Quantize, Stage, Tune};

use super::flags::{Flags, QuantizeFlags};

/// The stages that `flags` ask for, on top of those of a recipe; `solver` is what a solver file says of the training,
/// where there is no recipe, and `default` the method where none is named.
pub(crate) fn stages(flags: &Flags, recipe: Vec<Stage>, known: Known<'_>) -> Result<Vec<Stage>, Error> {
    let mut stages = recipe;
    if stages.is_empty() {
        stages = defaults(flags, known)?;
    }
    let Some(place) = stages.iter().position(|s| matches!(s, Stage::Quantize(_))) else {
        return match given(flags)? {
            None => Ok(stages),
            Some(flag) => {
                Err(Error::Argument(format!("the recipe quantizes nothing, which {flag} would change")))
            }
        };
    };
    let Stage::Quantize(base) = stages[place].clone() else { return Ok(stages) };
    let settings = settings(flags, base)?;
    if let Some(tune) = tune(flags, &settings)? {
        stages.truncate(place + 1);
        stages.push(Stage::Tune(tune));
    }
    stages[place] = Stage::Quantize(settings);
    Ok(stages)
}

/// What the defaults depend on beside the flags.
pub(crate) struct Known<'a> {
    /// What a solver file says of the training.
    pub(crate) solver: Option<TrainingSettings>,
    /// The method where none is named.
    pub(crate) method: MethodName,
    /// The network.
    pub(crate) graph: &'a Graph,
    /// Training images, where there is data.
    pub(crate) images: Option<usize>,
}

/// The stages of a job whose recipe is not given: with data those that measure best; Caffe's solver and the publication say
/// all themselves.
fn defaults(flags: &Flags, known: Known<'_>) -> Result<Vec<Stage>, Error> {
    let said = known.solver.is_some() || flags.quantize.published;
    let base = base(flags, known.solver, known.method);
    let Some(images) = known.images.filter(|_| !said && base.retrains()) else {
        return Ok(vec![base.into()]);
    };
    let draft = settings(flags, base.clone())?;
    let situation = Situation::of(known.graph, images);
    let mut stages = slq::jobs::recommended(known.graph, draft, &situation, flags.rounds.effort.into())?;
    for stage in &mut stages {
        if let Stage::Quantize(found) = stage {
            *found = Quantize { method: found.method.clone(), ..base.clone() };
        }
    }
    fine_tuned(flags, stages)
}

/// `stages` with the fine-tuning that the flags ask for: none where the length of the rounds is given.
fn fine_tuned(flags: &Flags, stages: Vec<Stage>) -> Result<Vec<Stage>, Error> {
    let rounds = &flags.rounds;
    let given = rounds.epochs_per_round.is_some() || rounds.iterations_per_round.is_some();
    let (mut fine_tune, others): (Vec<Stage>, Vec<Stage>) =
        stages.into_iter().partition(|s| matches!(s, Stage::FineTune(_)));
    let found = match fine_tune.pop() {
        Some(Stage::FineTune(stage)) if !given => Some(stage.training),
        _ => None,
    };
    let training = match rounds.fine_tune_epochs {
        Some(epochs) if epochs > 0.0 || epochs.is_nan() => {
            let quantize = others.iter().find_map(|s| match s {
                Stage::Quantize(q) => q.method.training().cloned(),
                _ => None,
            });
            let base = found.or(quantize).unwrap_or_default();
            Some(TrainingSettings { length: Length::Epochs(epochs), ..base })
        }
        Some(_) => None,
        None => found,
    };
    let Some(training) = training else { return Ok(others) };
    let training = TrainingSettings { distill: None, ..flags.training.settings(training)? };
    training.check()?;
    Ok([vec![Stage::from(FineTune { training })], others].concat())
}

/// A flag of the quantization that was given, if one was.
fn given(flags: &Flags) -> Result<Option<String>, Error> {
    let (quantize, rounds) = (&flags.quantize, &flags.rounds);
    let own = [
        (quantize.method.is_some(), "--method"),
        (quantize.bits.is_some(), "--bits"),
        (quantize.codebook_size.is_some(), "--codebook-size"),
        (quantize.granularity.is_some(), "--granularity"),
        (!quantize.layers.is_empty(), "--layers"),
        (quantize.cluster_weights.is_some(), "--cluster-weights"),
        (quantize.partition_images.is_some(), "--partition-images"),
        (quantize.no_correction, "--no-correction"),
        (rounds.tune_epochs.is_some() || rounds.tune_iterations.is_some(), "--tune-epochs"),
        (rounds.tune_lr.is_some(), "--tune-lr"),
        (rounds.fine_tune_epochs.is_some(), "--fine-tune-epochs"),
        (flags.budget.target_size.is_some(), "--target-size"),
        (flags.budget.max_drop.is_some(), "--max-drop"),
    ];
    if let Some((_, flag)) = own.iter().find(|(given, _)| *given) {
        return Ok(Some((*flag).into()));
    }
    let table = method_table(flags)?;
    let training = table.get("training").and_then(Value::as_object).and_then(|t| t.keys().next());
    Ok(table.keys().find(|k| *k != "training").or(training).map(|k| flag_of(k)))
}

/// The defaults of what is asked for, with a solver file's training.
fn base(flags: &Flags, solver: Option<TrainingSettings>, default: MethodName) -> Quantize {
    let name = flags.quantize.method.unwrap_or(default);
    let base = match flags.quantize {
        QuantizeFlags { ternary: true, .. } => Quantize::ternary(),
        QuantizeFlags { published: true, bits, .. } => Quantize::published(name, bits.unwrap_or(5)),
        _ => Quantize::new(name.with_defaults(), 4),
    };
    let Some(solver) = solver else { return base };
    let ternary = flags.quantize.ternary;
    base.training(|t| {
        // What makes ternary weights work goes before the solver, as flags do.
        let (distill, learning_rate) = match ternary {
            true => (t.distill, t.learning_rate),
            false => (solver.distill, solver.learning_rate),
        };
        *t = TrainingSettings { distill, learning_rate, ..solver };
    })
}

/// `base` with every given flag on top.
fn settings(flags: &Flags, base: Quantize) -> Result<Quantize, Error> {
    let given = &flags.quantize;
    let before = (base.size(), base.method.name());
    let mut settings = base;
    if given.ternary && given.method.is_some_and(|m| m != MethodName::Mlq) {
        return Err(Error::Argument("--ternary is mlq's: leave out --method".into()));
    }
    if let Some(name) = given.method.filter(|&m| m != settings.method.name()) {
        // Another method keeps the training of the recipe's.
        let training = settings.method.training().cloned();
        settings.method = name.with_defaults();
        if let Some(training) = training {
            settings = settings.training(|t| *t = training);
        }
    }
    if let Some(bits) = given.bits.filter(|_| !given.published) {
        // Given bits imply the codebook size.
        (settings.bits, settings.codebook_size, settings.budget) = (bits, None, None);
    }
    if let Some(size) = given.codebook_size {
        (settings.codebook_size, settings.budget) = (Some(size), None);
    }
    settings.granularity = given.granularity.unwrap_or(settings.granularity);
    settings.layers.extend(given.layers.iter().cloned());
    settings.cluster_weights = given.cluster_weights.unwrap_or(settings.cluster_weights);
    settings.partition_images = given.partition_images.unwrap_or(settings.partition_images);
    settings.budget = budget(flags)?.or(settings.budget);
    let resized = settings.size() != before.0 || settings.method.name() != before.1;
    let mut table = method_table(flags)?;
    if settings.method.name() == MethodName::DeepCompression {
        // Its last round trains the shared values; it has settings of its own for that.
        let rounds = &flags.rounds;
        let length = length(rounds.tune_epochs, rounds.tune_iterations).map(|l| json!(l));
        table.extend(length.map(|l| ("tune-length".to_owned(), l)));
        table.extend(rounds.tune_lr.map(|lr| ("tune-lr".to_owned(), json!(lr))));
    }
    let mut settings = overlaid(&settings, table, resized)?;
    if given.no_correction {
        if !settings.corrects() {
            let text = "--no-correction: only --method kmeans and --freeze-batch-norm make corrections";
            return Err(Error::Argument(text.into()));
        }
        settings.correction = false;
    }
    settings.check()?;
    Ok(settings)
}

/// The budget of the flags, which excludes flags that set widths.
fn budget(flags: &Flags) -> Result<Option<Budget>, Error> {
    let budget = flags.budget.target_size.or(flags.budget.max_drop.map(Budget::Drop));
    if let Some(Budget::Drop(points)) = budget.filter(|b| !b.is_possible()) {
        return Err(Error::Argument(format!("--max-drop {points}: give 0 to 100 points")));
    }
    let widths = [
        (flags.quantize.bits.is_some(), "--bits"),
        (flags.quantize.codebook_size.is_some(), "--codebook-size"),
        (flags.quantize.ternary, "--ternary"),
    ];
    if let (Some((_, flag)), true) = (widths.iter().find(|(given, _)| *given), budget.is_some()) {
        let text = format!(
            "{flag} and a budget exclude each other, since the budget chooses the widths; use --layers GLOB=BITS to set those of single layers"
        );
        return Err(Error::Argument(text));
    }
    Ok(budget)
}

/// The given flags of all methods as settings by name.
fn method_table(flags: &Flags) -> Result<Map<String, Value>, Error> {
    let mut table = Map::new();
    let mut add = |flags: Result<Value, serde_json::Error>| -> Result<(), Error> {
        let flags = flags.map_err(|e| Error::Argument(e.to_string()))?;
        let Value::Object(fields) = flags else { return Ok(()) };
        table.extend(fields.into_iter().filter(|(_, v)| !v.is_null()));
        Ok(())
    };
    add(serde_json::to_value(&flags.cluster))?;
    add(serde_json::to_value(&flags.slq))?;
    add(serde_json::to_value(&flags.mlq))?;
    add(serde_json::to_value(&flags.inq))?;
    add(serde_json::to_value(&flags.calibrate))?;
    add(serde_json::to_value(&flags.prune))?;
    let mut training = flags.training.table();
    if let Some(length) = length(flags.rounds.epochs_per_round, flags.rounds.iterations_per_round) {
        training.insert("length".into(), json!(length));
    }
    table.insert("training".into(), Value::Object(training));
    Ok(table)
}

/// A length in epochs or steps.
pub(crate) fn length(epochs: Option<f64>, steps: Option<u64>) -> Option<Length> {
    epochs.map(Length::Epochs).or(steps.map(Length::Iterations))
}

/// `settings` with `given` in the table of its method.
fn overlaid(settings: &Quantize, given: Map<String, Value>, resized: bool) -> Result<Quantize, Error> {
    let fail = |e: serde_json::Error| Error::Argument(e.to_string());
    let name = settings.method.name().text();
    let mut whole = serde_json::to_value(settings).map_err(fail)?;
    let Some(Value::Object(own)) = whole.get_mut(name) else { return Ok(settings.clone()) };
    if resized && let Some(schedule) = own.get_mut("schedule") {
        // A schedule belongs to a codebook size.
        *schedule = Value::Null;
    }
    for (key, value) in given {
        match value {
            Value::Object(training) if key == "training" => put_training(own, training, name)?,
            value => put(own, &key, value, name)?,
        }
    }
    serde_json::from_value(whole).map_err(fail)
}

/// Puts the flags of a training into the method's training; a method that has none may have some of their names.
fn put_training(own: &mut Map<String, Value>, given: Map<String, Value>, method: &str) -> Result<(), Error> {
    for (key, value) in given {
        match own.get_mut("training") {
            Some(Value::Object(training)) => put(training, &key, value, method)?,
            _ => put(own, &key, value, method)?,
        }
    }
    Ok(())
}

fn put(own: &mut Map<String, Value>, key: &str, value: Value, method: &str) -> Result<(), Error> {
    if !own.contains_key(key) {
        let flag = flag_of(key);
        let owners: Vec<&str> = owners(key).iter().map(|m| m.text()).collect();
        let owners = owners.join(", ");
        return Err(Error::Argument(format!("{flag} belongs to {owners} and means nothing to {method}")));
    }
    own.insert(key.into(), value);
    Ok(())
}

/// The methods that have a setting of this name.
fn owners(key: &str) -> Vec<MethodName> {
    let has = |name: &MethodName| {
        let whole = serde_json::to_value(Quantize::new(name.with_defaults(), 4)).unwrap_or_default();
        let own = &whole[name.text()];
        own.get(key).is_some() || own["training"].get(key).is_some()
    };
    MethodName::ALL.into_iter().filter(has).collect()
}

/// The flag that sets a setting, where its name differs.
fn flag_of(key: &str) -> String {
    match key {
        "join" => "--no-join".into(),
        "batch-norm" => "--freeze-batch-norm".into(),
        "length" => "--epochs-per-round".into(),
        other => format!("--{other}"),
    }
}

/// The training of the shared values at the end, where it is asked for and the method has none of its own.
fn tune(flags: &Flags, settings: &Quantize) -> Result<Option<Tune>, Error> {
    if settings.method.name() == MethodName::DeepCompression {
        return Ok(None);
    }
    let given = &flags.rounds;
    let Some(length) = length(given.tune_epochs, given.tune_iterations) else {
        return match given.tune_lr {
            None => Ok(None),
            Some(_) => {
                let missing = "--tune-lr: say how long with --tune-epochs or --tune-iterations";
                Err(Error::Argument(missing.into()))
            }
        };
    };
    let base = settings.method.training().cloned().unwrap_or_default();
    let learning_rate = given.tune_lr.unwrap_or(base.learning_rate);
    let tune = Tune { training: TrainingSettings { length, learning_rate, ..base } };
    tune.check()?;
    Ok(Some(tune))
}
