//! Ranks of all layers: by a rule for each, or under a budget that they share.

use rayon::prelude::*;
use slq_graph::Graph;
use slq_lowrank::{LowRankError, RankRule, Svd};

use super::layer::{Candidate, Cost, LeftWhole, Reason, find, network_cost};
use super::settings::{Decompose, RankChoice};
use super::split::Split;
use crate::allocation::{Choice, TwoCosts, allocate, allocate_both};
use crate::error::CompressError;

/// What is split, and what is left whole.
#[derive(Debug)]
pub(crate) struct Plan {
    pub splits: Vec<Split>,
    pub left: Vec<LeftWhole>,
}

/// Decomposes the matrices of a weight.
pub(crate) type Decomposer<'a> = dyn Fn(&Candidate, &[f32]) -> Result<Vec<Svd>, LowRankError> + Sync + 'a;

/// Plans the decomposition of `graph`.
pub(crate) fn plan(graph: &Graph, settings: &Decompose, seed: u64) -> Result<Plan, CompressError> {
    // Only where the rank is known beforehand do the leading singular values suffice.
    let known = |layer: &Candidate| match settings.ranks {
        _ if layer.pinned.is_some() => layer.pinned,
        RankChoice::Rule(rule @ (RankRule::Rank(_) | RankRule::Rate(_))) => {
            Some(rule.rank(&[], layer.view.full_rank()))
        }
        _ => None,
    };
    plan_with(graph, settings, &|layer, values| match known(layer) {
        Some(rank) => leading(layer, values, rank, seed),
        None => exact(layer, values),
    })
}

/// The decompositions of a layer's matrices, whole.
pub(crate) fn exact(layer: &Candidate, values: &[f32]) -> Result<Vec<Svd>, LowRankError> {
    let matrices = layer.view.matrices(values);
    matrices.par_iter().map(|m| Svd::exact(&m.values, m.rows, m.cols)).collect()
}

fn leading(layer: &Candidate, values: &[f32], rank: usize, seed: u64) -> Result<Vec<Svd>, LowRankError> {
    let matrices = layer.view.matrices(values);
    matrices.par_iter().map(|m| Svd::leading(&m.values, m.rows, m.cols, rank, seed)).collect()
}

/// [`plan`] with another way to decompose.
pub(crate) fn plan_with(
    graph: &Graph,
    settings: &Decompose,
    decompose: &Decomposer<'_>,
) -> Result<Plan, CompressError> {
    let (candidates, mut left) = find(graph, settings)?;
    let decompositions = decompose_all(graph, &candidates, decompose);
    let ranks = match settings.ranks {
        RankChoice::Rule(rule) => by_rule(&candidates, &decompositions, rule, settings.force)?,
        _ => by_budget(graph, &candidates, &decompositions, settings)?,
    };
    let mut splits = Vec::new();
    for ((layer, found), rank) in candidates.into_iter().zip(decompositions).zip(ranks) {
        match (found, rank) {
            (Some(decompositions), Ok(rank)) => splits.push(Split { layer, decompositions, rank }),
            (_, Err(reason)) => left.push(LeftWhole { name: layer.name, weight: layer.weight, reason }),
            (None, Ok(_)) => {
                left.push(LeftWhole { name: layer.name, weight: layer.weight, reason: Reason::NoConvergence })
            }
        }
    }
    Ok(Plan { splits, left })
}

/// The decompositions of all layers, in parallel; `None` where one does not converge.
pub(crate) fn decompose_all(
    graph: &Graph,
    candidates: &[Candidate],
    decompose: &Decomposer<'_>,
) -> Vec<Option<Vec<Svd>>> {
    let values = |layer: &Candidate| graph.weights.get(&layer.weight).and_then(|w| w.tensor.as_f32());
    candidates.par_iter().map(|layer| decompose(layer, values(layer).unwrap_or_default()).ok()).collect()
}

/// The rank of a layer: the largest that one of its matrices needs.
pub(crate) fn rank_of(decompositions: &[Svd], rule: RankRule) -> usize {
    let ranks = decompositions.iter().map(|d| rule.rank(d.singular_values(), d.full_rank()));
    ranks.max().unwrap_or(1)
}

/// The squared error of a layer at `rank`, relative to the sum of its squared weights.
pub(crate) fn relative_error(decompositions: &[Svd], rank: usize) -> f64 {
    let energy: f64 = decompositions.iter().map(Svd::energy).sum();
    let error: f64 = decompositions.iter().map(|d| d.squared_error(rank)).sum();
    let relative = if energy > 0.0 { error / energy } else { 0.0 };
    // So small an error comes from 32-bit rounding of a weight of lower rank: no rank is spent on it.
    if relative < 1e-12 { 0.0 } else { relative }
}

type Ranks = Vec<Result<usize, Reason>>;

fn by_rule(
    candidates: &[Candidate],
    decompositions: &[Option<Vec<Svd>>],
    rule: RankRule,
    force: bool,
) -> Result<Ranks, CompressError> {
    let largest = candidates.iter().map(|c| c.view.full_rank()).max().unwrap_or(0);
    if let RankRule::Rank(rank) = rule
        && rank > largest
    {
        let reason = format!("{rank} is above {largest}, the full rank of the largest layer");
        return Err(CompressError::Setting { name: "rank", reason });
    }
    let rank = |(layer, found): (&Candidate, &Option<Vec<Svd>>)| {
        let Some(found) = found else { return Err(Reason::NoConvergence) };
        let rank = layer.pinned.unwrap_or_else(|| rank_of(found, rule));
        let split = layer.per_rank.times(rank).macs;
        if split >= layer.whole.macs && !force {
            return Err(Reason::Cost { rank, what: "MACs", split, whole: layer.whole.macs });
        }
        Ok(rank)
    };
    Ok(candidates.iter().zip(decompositions).map(rank).collect())
}

/// A budget on one kind of cost.
#[derive(Debug, Clone, Copy)]
struct Limit {
    pick: fn(Cost) -> u64,
    what: &'static str,
    /// Most that the network may cost.
    most: u64,
    /// What the rest of the network costs.
    rest: u64,
    /// The network as it is.
    total: u64,
}

impl Limit {
    /// What is left for the layers.
    fn room(&self) -> u64 {
        self.most.saturating_sub(self.rest)
    }

    /// The error where the layers take `least` at best, which is too much.
    fn missed(&self, least: u64) -> CompressError {
        let least = least.saturating_add(self.rest);
        CompressError::BudgetTooSmall { what: self.what, asked: self.most, least, whole: self.total }
    }
}

/// One limit, or two that hold at once.
#[derive(Debug, Clone)]
pub(crate) struct Budget {
    first: Limit,
    second: Option<Limit>,
}

/// Cost and error of one way to store a layer.
type Offer = (Cost, f64);

impl Budget {
    /// The budget that `choice` sets for a network of `total` cost; `None` where it sets none.
    pub fn new(choice: RankChoice, total: Cost, candidates: &[Candidate]) -> Option<Self> {
        let limit = |pick: fn(Cost) -> u64, what, most| {
            let whole = candidates.iter().fold(0u64, |sum, c| sum.saturating_add(pick(c.whole)));
            Limit { pick, what, most, rest: pick(total).saturating_sub(whole), total: pick(total) }
        };
        let macs = |ratio: f64| limit(|c| c.macs, "MACs", (total.macs as f64 / ratio) as u64);
        let parameters = |bytes: u64| limit(|c| c.parameters, "parameters", bytes / 4);
        let (first, second) = match choice {
            RankChoice::Rule(_) => return None,
            RankChoice::Macs(ratio) => (macs(ratio), None),
            RankChoice::TargetSize(bytes) => (parameters(bytes), None),
            RankChoice::Both { macs: ratio, target_size } => (macs(ratio), Some(parameters(target_size))),
        };
        Some(Self { first, second })
    }

    fn limits(&self) -> impl Iterator<Item = &Limit> {
        std::iter::once(&self.first).chain(&self.second)
    }

    /// Ranks whose costs fit, `None` for a layer that stays whole.
    pub fn ranks(
        &self,
        candidates: &[Candidate],
        decompositions: &[Option<Vec<Svd>>],
        force: bool,
    ) -> Result<Vec<Option<usize>>, CompressError> {
        let pairs = || candidates.iter().zip(decompositions);
        let items: Vec<Vec<Offer>> = pairs().map(|(c, d)| self.offers(c, d.as_deref(), force)).collect();
        let picked = self.pick(&items)?;
        let ranks = pairs().zip(picked).map(|((layer, _), choice)| match layer.pinned {
            Some(rank) if self.saves(layer, rank) || force => Some(rank),
            _ => Some(choice).filter(|&rank| rank > 0),
        });
        Ok(ranks.collect())
    }

    fn pick(&self, items: &[Vec<Offer>]) -> Result<Vec<usize>, CompressError> {
        for limit in self.limits() {
            let least = items.iter().filter_map(|i| i.iter().map(|(cost, _)| (limit.pick)(*cost)).min());
            let least = least.fold(0u64, u64::saturating_add);
            if limit.rest > limit.most || least > limit.room() {
                return Err(limit.missed(least));
            }
        }
        let first = self.first;
        let picked = match self.second {
            None => {
                let choice = |&(cost, error): &Offer| Choice { cost: (first.pick)(cost), error };
                let items: Vec<Vec<_>> = items.iter().map(|i| i.iter().map(choice).collect()).collect();
                allocate(&items, first.room())
            }
            Some(second) => {
                let choice = |&(cost, error): &Offer| TwoCosts {
                    costs: [(first.pick)(cost), (second.pick)(cost)],
                    error,
                };
                let items: Vec<Vec<_>> = items.iter().map(|i| i.iter().map(choice).collect()).collect();
                allocate_both(&items, [first.room(), second.room()])
            }
        };
        // Where each limit alone can be met, only both together are out of reach.
        picked.map_err(|_| self.second.unwrap_or(first).missed(u64::MAX))
    }

    /// Whether a split at `rank` costs less than the layer under every limit.
    fn saves(&self, layer: &Candidate, rank: usize) -> bool {
        let split = layer.per_rank.times(rank);
        self.limits().all(|l| (l.pick)(split) < (l.pick)(layer.whole))
    }

    /// Offer 0 leaves the layer whole, offer r splits it at rank r, as long as that saves something.
    fn offers(&self, layer: &Candidate, decompositions: Option<&[Svd]>, force: bool) -> Vec<Offer> {
        let whole = (layer.whole, 0.0);
        let Some(decompositions) = decompositions else { return vec![whole] };
        let split = |rank: usize| (layer.per_rank.times(rank), relative_error(decompositions, rank));
        if let Some(rank) = layer.pinned.filter(|&rank| self.saves(layer, rank) || force) {
            return vec![split(rank)];
        }
        let saving = (1..=layer.view.full_rank()).take_while(|&rank| self.saves(layer, rank)).map(split);
        std::iter::once(whole).chain(saving).collect()
    }
}

fn by_budget(
    graph: &Graph,
    candidates: &[Candidate],
    decompositions: &[Option<Vec<Svd>>],
    settings: &Decompose,
) -> Result<Ranks, CompressError> {
    let Some(budget) = Budget::new(settings.ranks, network_cost(graph)?, candidates) else {
        return Ok(Vec::new());
    };
    let ranks = budget.ranks(candidates, decompositions, settings.force)?;
    let reason = |(found, rank): (&Option<Vec<Svd>>, Option<usize>)| match (found, rank) {
        (None, _) => Err(Reason::NoConvergence),
        (_, None) => Err(Reason::Budget),
        (_, Some(rank)) => Ok(rank),
    };
    Ok(decompositions.iter().zip(ranks).map(reason).collect())
}
