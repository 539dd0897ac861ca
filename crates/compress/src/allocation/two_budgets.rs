//! Choices under two budgets that both hold, such as MACs and parameters of ranks.

use super::{Choice, OverBudget, allocate};

/// Steps of the bisection that finds the weight of the second cost.
const HALVINGS: usize = 40;
/// Mixed costs are shares of the budgets, counted in parts of this.
const WHOLE: f64 = (1u64 << 40) as f64;
/// Parts in which the mixed budget is lowered where the choices are too coarse for both budgets to hold.
const PARTS: u32 = 200;

/// One way to store or compute an item, with two costs.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct TwoCosts {
    /// What it costs, in two ways.
    pub(crate) costs: [u64; 2],
    /// The error it makes, comparable between items and not negative.
    pub(crate) error: f64,
}

/// As [`allocate`] with two budgets that both hold: the costs are mixed into one by weights that are found by
/// bisection (the two multipliers of the Lagrangian), then single better choices are taken while they fit.
///
/// # Errors
/// [`OverBudget`] where one budget alone cannot be met, or no mixture was found that meets both.
pub(crate) fn allocate_both(items: &[Vec<TwoCosts>], budgets: [u64; 2]) -> Result<Vec<usize>, OverBudget> {
    let priced = |price: &dyn Fn(&TwoCosts) -> u64| -> Vec<Vec<Choice>> {
        let choice = |c: &TwoCosts| Choice { cost: price(c), error: c.error };
        items.iter().map(|item| item.iter().map(choice).collect()).collect()
    };
    for axis in [0, 1] {
        let picked = allocate(&priced(&|c| c.costs[axis]), budgets[axis])?;
        if spent(items, &picked)[1 - axis] <= budgets[1 - axis] {
            return Ok(filled(items, picked, budgets));
        }
    }
    // Either budget alone breaks the other: the weight of the second cost lies in between.
    let mixed = |weight: f64, room: f64| {
        let share = |c: &TwoCosts, axis: usize| c.costs[axis] as f64 / budgets[axis].max(1) as f64;
        let price =
            |c: &TwoCosts| (WHOLE * ((1.0 - weight) * share(c, 0) + weight * share(c, 1))).ceil() as u64;
        allocate(&priced(&price), (WHOLE * room) as u64)
    };
    let fits = |picked: &[usize]| {
        let spent = spent(items, picked);
        [spent[0] <= budgets[0], spent[1] <= budgets[1]]
    };
    let mut best: Option<Vec<usize>> = None;
    let mut keep = |picked: Vec<usize>| {
        let picked = filled(items, picked, budgets);
        if best.as_ref().is_none_or(|b| error(items, &picked) < error(items, b)) {
            best = Some(picked);
        }
    };
    let (mut low, mut high) = (0.0, 1.0);
    for _ in 0..HALVINGS {
        let weight = 0.5 * (low + high);
        let Ok(picked) = mixed(weight, 1.0) else { break };
        let [_, second] = fits(&picked);
        if fits(&picked) == [true; 2] {
            keep(picked);
        }
        if second { high = weight } else { low = weight }
    }
    for part in 1..PARTS {
        let room = 1.0 - f64::from(part) / f64::from(PARTS);
        for weight in [low, high] {
            if let Ok(picked) = mixed(weight, room)
                && fits(&picked) == [true; 2]
            {
                keep(picked);
                return best.ok_or(OverBudget { budget: budgets[1], least: budgets[1] });
            }
        }
    }
    best.ok_or_else(|| {
        let least = items.iter().filter_map(|i| i.iter().map(|c| c.costs[1]).min());
        OverBudget { budget: budgets[1], least: least.fold(0, u64::saturating_add) }
    })
}

fn spent(items: &[Vec<TwoCosts>], picked: &[usize]) -> [u64; 2] {
    let cost = |axis: usize| {
        let costs = items.iter().zip(picked).filter_map(|(item, &at)| item.get(at).map(|c| c.costs[axis]));
        costs.fold(0, u64::saturating_add)
    };
    [cost(0), cost(1)]
}

fn error(items: &[Vec<TwoCosts>], picked: &[usize]) -> f64 {
    items.iter().zip(picked).filter_map(|(item, &at)| item.get(at).map(|c| c.error)).sum()
}

/// Takes single better choices while both budgets hold, the one that removes most error first.
fn filled(items: &[Vec<TwoCosts>], mut picked: Vec<usize>, budgets: [u64; 2]) -> Vec<usize> {
    loop {
        let spent = spent(items, &picked);
        let mut best: Option<(f64, usize, usize)> = None;
        for (item, choices) in items.iter().enumerate() {
            let Some(now) = choices.get(picked[item]) else { continue };
            for (at, choice) in choices.iter().enumerate() {
                let fits = (0..2).all(|i| spent[i] - now.costs[i] + choice.costs[i] <= budgets[i]);
                let won = now.error - choice.error;
                if fits && won > 0.0 && best.is_none_or(|(most, _, _)| won > most) {
                    best = Some((won, item, at));
                }
            }
        }
        let Some((_, item, at)) = best else { return picked };
        picked[item] = at;
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Choices of rank 1 to `ranks` of a layer whose ranks cost `costs` each and whose error falls by halves.
    fn layer(costs: [u64; 2], ranks: u64) -> Vec<TwoCosts> {
        (1..=ranks).map(|r| TwoCosts { costs: costs.map(|c| c * r), error: 0.5f64.powi(r as i32) }).collect()
    }

    #[test]
    fn each_budget_shapes_its_own_layers() {
        // Early layers cost operations, late ones parameters.
        let items = [layer([100, 1], 12), layer([100, 1], 12), layer([10, 30], 12), layer([10, 30], 12)];
        let budgets = [1400, 300];
        let both = allocate_both(&items, budgets).unwrap();
        assert!(spent(&items, &both)[0] <= budgets[0] && spent(&items, &both)[1] <= budgets[1]);
        // The first budget cut down until the second holds makes more errors.
        let single: Vec<Vec<Choice>> = items
            .iter()
            .map(|i| i.iter().map(|c| Choice { cost: c.costs[0], error: c.error }).collect())
            .collect();
        let cut = (0..=1400).rev().find_map(|budget| {
            let picked = allocate(&single, budget).ok()?;
            (spent(&items, &picked)[1] <= budgets[1]).then_some(picked)
        });
        assert!(error(&items, &both) < 0.8 * error(&items, &cut.unwrap()), "{both:?}");
    }

    #[test]
    fn a_budget_that_does_not_bind_changes_nothing() {
        let items = [layer([3, 5], 9), layer([4, 2], 9)];
        assert_eq!(allocate_both(&items, [1000, 1000]), Ok(vec![8, 8]));
        assert!(matches!(allocate_both(&items, [6, 1000]), Err(OverBudget { budget: 6, least: 7 })));
        assert!(allocate_both(&items, [1000, 6]).is_err());
        assert_eq!(allocate_both(&[], [0, 0]), Ok(vec![]));
    }

    proptest! {
        #[test]
        fn both_budgets_hold_and_no_single_change_helps(
            tables in prop::collection::vec(((1u64..20, 1u64..20), 2u64..9), 1..5),
            spare in (0u64..100, 0u64..100),
        ) {
            let items: Vec<_> = tables.iter().map(|&((a, b), ranks)| layer([a, b], ranks)).collect();
            let least = spent(&items, &vec![0; items.len()]);
            let budgets = [least[0] + spare.0, least[1] + spare.1];
            let picked = allocate_both(&items, budgets).unwrap();
            let now = spent(&items, &picked);
            prop_assert!(now[0] <= budgets[0] && now[1] <= budgets[1]);
            for item in 0..items.len() {
                for at in 0..items[item].len() {
                    let mut changed = picked.clone();
                    changed[item] = at;
                    let costs = spent(&items, &changed);
                    let fits = costs[0] <= budgets[0] && costs[1] <= budgets[1];
                    prop_assert!(!fits || error(&items, &changed) >= error(&items, &picked) - 1e-12);
                }
            }
        }
    }
}
