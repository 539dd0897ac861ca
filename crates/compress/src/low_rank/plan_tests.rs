//! Which layers are split, at which ranks.

use slq_graph::{Graph, Node};
use slq_lowrank::{LowRankError, RankRule};

use super::layer::Reason;
use super::plan::{Plan, exact, plan_with};
use super::scheme::Scheme;
use super::settings::{Decompose, RankChoice};
use crate::error::CompressError;

fn plan(graph: &Graph, settings: &Decompose) -> Result<Plan, CompressError> {
    super::plan::plan(graph, settings, 0)
}

fn settings(scheme: Scheme, ranks: RankChoice, layers: &[&str]) -> Decompose {
    let layers = layers.iter().map(|l| l.parse().unwrap()).collect();
    Decompose { layers, ..Decompose::new(scheme, ranks) }
}

fn energy(share: f64) -> RankChoice {
    RankChoice::Rule(RankRule::Energy(share))
}

fn zoo(name: &str) -> Graph {
    slq_zoo::build(name, 0).unwrap()
}

fn left<'a>(plan: &'a Plan, weight: &str) -> Option<&'a Reason> {
    plan.left.iter().find(|l| l.weight.starts_with(weight)).map(|l| &l.reason)
}

#[test]
fn first_pointwise_and_grouped_convolutions_are_left_whole_and_said_so() {
    let plan = plan(&zoo("mobilenet-v2"), &settings(Scheme::Spatial, energy(0.5), &[]));
    let Err(CompressError::NothingToDecompose { schemes, left }) = plan else { panic!("{plan:?}") };
    assert_eq!(schemes, "spatial");
    assert!(left.contains("first convolution") && left.contains("groups") && left.contains("more"), "{left}");
}

#[test]
fn exceptions_skip_layers_and_bring_in_the_first() {
    let graph = zoo("cifar-quick");
    let names: Vec<String> = graph.quantizable().into_iter().map(|q| q.weight).collect();
    let rules = [format!("{}=auto", names[0]), format!("{}=skip", names[1]), format!("{}=5", names[2])];
    let rules: Vec<&str> = rules.iter().map(String::as_str).collect();
    let plan = plan(&graph, &settings(Scheme::Spatial, energy(0.3), &rules)).unwrap();
    let split: Vec<(&str, usize)> = plan.splits.iter().map(|s| (s.layer.weight.as_str(), s.rank)).collect();
    assert!(split.iter().any(|(w, _)| *w == names[0]), "{split:?}");
    assert!(split.contains(&(names[2].as_str(), 5)), "{split:?}");
    assert_eq!(left(&plan, &names[1]), Some(&Reason::Skipped));
}

#[test]
fn ranks_and_patterns_that_cannot_be_are_named() {
    let graph = zoo("cifar-quick");
    let name = graph.quantizable()[1].weight.clone();
    let too_high = plan(&graph, &settings(Scheme::Decouple, energy(0.5), &[&format!("{name}=26")]));
    assert!(matches!(too_high, Err(CompressError::LayerRank { rank: 26, full: 25, .. })), "{too_high:?}");
    let nowhere = plan(&graph, &settings(Scheme::Channel, energy(0.5), &["nowhere=4"]));
    assert!(matches!(nowhere, Err(CompressError::Pattern { .. })));
    let all = plan(&graph, &settings(Scheme::Channel, RankChoice::Rule(RankRule::Rank(65)), &[]));
    assert!(all.unwrap_err().to_string().contains("64"), "the largest full rank is named");
    let mut broken = graph.clone();
    broken.weights[&name].tensor.as_f32_mut().unwrap()[3] = f32::INFINITY;
    let error = plan(&broken, &settings(Scheme::Channel, energy(0.5), &[])).unwrap_err();
    assert!(matches!(error, CompressError::NonFinite { position: 3, .. }), "{error}");
}

#[test]
fn networks_without_such_layers_are_refused() {
    for (name, scheme) in [("lenet-300-100", Scheme::Channel), ("lenet-300-100", Scheme::Decouple)] {
        let error = plan(&zoo(name), &settings(scheme, energy(0.5), &[])).unwrap_err();
        assert!(matches!(error, CompressError::NothingToDecompose { .. }), "{name}: {error}");
    }
}

#[test]
fn a_split_that_costs_more_than_it_saves_is_left_out_unless_forced() {
    let graph = zoo("resnet20");
    let mut all = settings(Scheme::Channel, RankChoice::Rule(RankRule::Rate(1.0)), &[]);
    let plan_of = |s: &Decompose| plan(&graph, s).unwrap();
    let plan = plan_of(&all);
    assert!(plan.splits.is_empty());
    let cost = plan.left.iter().filter(|l| matches!(l.reason, Reason::Cost { rank, .. } if rank >= 16));
    assert_eq!(cost.count(), 18);
    all.force = true;
    assert_eq!(plan_of(&all).splits.len(), 18);
}

#[test]
fn a_shared_weight_is_left_whole() {
    let mut graph = zoo("cifar-quick");
    let second = graph.quantizable()[1].weight.clone();
    graph.nodes.push(Node::new("again", "Identity", &[&second], &["copy"]));
    let plan = plan(&graph, &settings(Scheme::Channel, energy(0.5), &[])).unwrap();
    assert_eq!(left(&plan, &second), Some(&Reason::Shared));
}

#[test]
fn a_decomposition_that_fails_leaves_its_layer_whole() {
    let graph = zoo("resnet20");
    for ranks in [energy(0.4), RankChoice::Macs(1.5)] {
        let settings = settings(Scheme::Spatial, ranks, &[]);
        let names: Vec<String> =
            plan(&graph, &settings).unwrap().splits.into_iter().map(|s| s.layer.weight).collect();
        let broken = names[2].clone();
        let plan = plan_with(&graph, &settings, &|layer, values| {
            if layer.weight == broken { Err(LowRankError::NoConvergence) } else { exact(layer, values) }
        })
        .unwrap();
        assert_eq!(left(&plan, &broken), Some(&Reason::NoConvergence));
        assert!(plan.splits.iter().all(|s| s.layer.weight != broken) && plan.splits.len() > 10);
    }
}

/// Multiply-adds, parameters and squared relative error summed over the split layers.
fn totals(graph: &Graph, plan: &Plan) -> (u64, u64, f64) {
    let mut after = graph.clone();
    super::split::apply(&mut after, &plan.splits).unwrap();
    let cost = super::network_cost(&after).unwrap();
    let error = plan.splits.iter().map(|s| super::plan::relative_error(&s.decompositions, s.rank)).sum();
    (cost.macs, cost.parameters, error)
}

#[test]
fn budgets_are_met_closely_and_more_room_means_less_error() {
    let graph = zoo("resnet20");
    let before = super::network_cost(&graph).unwrap();
    for scheme in [Scheme::Channel, Scheme::Spatial, Scheme::Decouple] {
        let mut last = 0.0;
        for ratio in [1.2, 1.7, 2.4] {
            let plan = plan(&graph, &settings(scheme, RankChoice::Macs(ratio), &[])).unwrap();
            let (macs, _, error) = totals(&graph, &plan);
            let reached = before.macs as f64 / macs as f64;
            assert!(reached >= ratio && reached < 1.05 * ratio, "{scheme:?} {ratio}: {reached}");
            assert!(error > last, "{scheme:?} {ratio}: {error} after {last}");
            last = error;
        }
    }
    let bytes = 4 * before.parameters / 3;
    let plan = plan(&graph, &settings(Scheme::Spatial, RankChoice::TargetSize(bytes), &[])).unwrap();
    let (_, parameters, _) = totals(&graph, &plan);
    assert!(4 * parameters <= bytes && 4 * parameters > bytes * 95 / 100, "{parameters} parameters");
}

#[test]
fn two_budgets_hold_at_once() {
    let graph = zoo("resnet20");
    let before = super::network_cost(&graph).unwrap();
    let bytes = 4 * before.parameters / 5;
    let both = RankChoice::Both { macs: 2.5, target_size: bytes };
    let (macs, parameters, error) =
        totals(&graph, &plan(&graph, &settings(Scheme::Spatial, both, &[])).unwrap());
    assert!(before.macs as f64 / macs as f64 >= 2.5 && 4 * parameters <= bytes, "{macs}, {parameters}");
    for alone in [RankChoice::Macs(2.5), RankChoice::TargetSize(bytes)] {
        let (m, p, e) = totals(&graph, &plan(&graph, &settings(Scheme::Spatial, alone, &[])).unwrap());
        assert!(e <= error && (m > macs || p > parameters), "{alone:?}: {e} against {error}");
    }
    // As many parameters by fewer operations alone.
    let cut = (25..60).map(|r| RankChoice::Macs(f64::from(r) / 10.0)).find_map(|ranks| {
        let (_, p, e) = totals(&graph, &plan(&graph, &settings(Scheme::Spatial, ranks, &[])).unwrap());
        (4 * p <= bytes).then_some(e)
    });
    assert!(error < cut.unwrap(), "{error} against {cut:?}");
}

#[test]
fn a_budget_beats_equal_shares_at_the_same_cost() {
    let graph = zoo("resnet20");
    let equal = plan(&graph, &settings(Scheme::Spatial, RankChoice::Rule(RankRule::Rate(0.3)), &[])).unwrap();
    let (macs, _, error) = totals(&graph, &equal);
    let ratio = super::network_cost(&graph).unwrap().macs as f64 / macs as f64;
    let shared = plan(&graph, &settings(Scheme::Spatial, RankChoice::Macs(ratio), &[])).unwrap();
    assert!(totals(&graph, &shared).2 <= error);
}

#[test]
fn budgets_out_of_reach_say_what_can_be_reached() {
    let graph = zoo("resnet20");
    let both = RankChoice::Both { macs: 1.5, target_size: 1000 };
    for ranks in [RankChoice::Macs(1e6), RankChoice::TargetSize(1000), both] {
        let error = plan(&graph, &settings(Scheme::Channel, ranks, &[])).unwrap_err();
        let CompressError::BudgetTooSmall { asked, least, whole, .. } = error else { panic!("{error}") };
        assert!(asked < least && least < whole, "{error}");
    }
    let whole = plan(&graph, &settings(Scheme::Channel, RankChoice::Macs(1.0), &[])).unwrap();
    assert!(whole.splits.is_empty() && left(&whole, "").is_some_and(|r| *r != Reason::NoConvergence));
}
