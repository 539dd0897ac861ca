//! What a recipe's `[decompose]` does before the weights are shared: a network of low rank, kept in the run directory.

use std::path::Path;

use serde_json::{Value, json};
use slq::{DecomposeSettings, Graph, SaveOptions, TrainingData};

use super::common::Common;
use super::progress::Progress;
use super::table::thousands;

/// The network, with the preprocessing that a later command needs.
const NETWORK: &str = "decomposed.onnx";
/// The figures; written last, so that where it stands the network is complete.
const FIGURES: &str = "decomposed.json";

/// The network of low rank and its figures; a run that was stopped finds them in its directory.
pub(crate) fn low_rank(
    graph: Graph,
    data: Option<&TrainingData>,
    settings: &DecomposeSettings,
    run_dir: Option<&Path>,
    common: &Common,
) -> Result<(Graph, Value), slq::Error> {
    let figures = run_dir.map(|dir| dir.join(FIGURES));
    let fail = |path: &Path, e: &dyn std::fmt::Display| slq::Error::File {
        path: path.into(),
        reason: e.to_string(),
    };
    if let (Some(dir), Some(figures)) = (run_dir, figures.as_deref().filter(|f| f.exists())) {
        let text = std::fs::read(figures).map_err(|e| fail(figures, &e))?;
        let report = serde_json::from_slice(&text).map_err(|e| fail(figures, &e))?;
        return Ok((slq::open(dir.join(NETWORK).to_string_lossy().as_ref())?.graph, report));
    }
    let mut progress = Progress::new(common);
    let mut done = slq::decompose(graph, data, settings, common.isa(), &mut progress)?;
    let report = json!(done.report);
    if let (Some(dir), Some(figures)) = (run_dir, &figures) {
        if let Some(data) = data {
            slq::preprocessing::store(&mut done.graph, &data.transform);
        }
        let path = dir.join(NETWORK);
        slq::save(&done.graph, &path, &SaveOptions { dense: true, ..SaveOptions::default() })?;
        slq::write_atomically(figures, report.to_string().as_bytes()).map_err(|e| fail(figures, &e))?;
        // As a resumed run will have it.
        done.graph = slq::open(path.to_string_lossy().as_ref())?.graph;
    }
    Ok((done.graph, report))
}

/// Two lines for the table at the end: the network of low rank, and both parts together.
pub(crate) fn summary(figures: &Value, stored_bytes: u64) -> String {
    let number = |pointer: &str| figures.pointer(pointer).and_then(Value::as_u64).unwrap_or(0);
    let percent = |key: &str| match figures[key]["top1"].as_f64() {
        Some(top1) => format!("{:.2} %", 100.0 * top1),
        None => "not measured".into(),
    };
    let dense = 4 * number("/parameters/before");
    format!(
        "low rank  {} multiply-adds before, {} after ({:.2}x fewer); {} parameters before, {} after; top-1 {} before, {} \
         after\nin all    {} bytes before, {} stored ({:.1}x smaller)",
        thousands(number("/flops/before")),
        thousands(number("/flops/after")),
        figures["flops"]["ratio"].as_f64().unwrap_or(1.0),
        thousands(number("/parameters/before")),
        thousands(number("/parameters/after")),
        percent("baseline"),
        percent("final"),
        thousands(dense),
        thousands(stored_bytes),
        dense as f64 / stored_bytes.max(1) as f64,
    )
}
