//! One choice for each of many items under a budget, or under two: ranks of layers, widths of codebooks.

mod two_budgets;

pub(crate) use two_budgets::{TwoCosts, allocate_both};

/// The cheapest choices together cost more than the budget.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct OverBudget {
    /// Budget given.
    pub(crate) budget: u64,
    /// Cost of the cheapest choices.
    pub(crate) least: u64,
}

/// One way to store or compute an item.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Choice {
    /// What it costs: MACs, parameters or bytes.
    pub(crate) cost: u64,
    /// The error it makes, comparable between items and not negative.
    pub(crate) error: f64,
}

/// Picks one choice for each item, so that the costs sum to at most `budget` and the sum of errors is small: the
/// lower convex hull of each item's choices, walked from the cheapest ends by the most error removed for a unit of
/// cost (the Lagrangian solution), then single better choices while they fit.
///
/// Returns the position of each item's choice. An item without choices gets 0 and costs nothing.
///
/// # Errors
/// [`OverBudget`] where even the cheapest choices cost more.
pub(crate) fn allocate(items: &[Vec<Choice>], budget: u64) -> Result<Vec<usize>, OverBudget> {
    let hulls: Vec<Vec<usize>> = items.iter().map(|choices| hull(choices)).collect();
    let mut picked: Vec<usize> = hulls.iter().map(|h| h.first().copied().unwrap_or(0)).collect();
    let cost = |item: usize, choice: usize| items[item].get(choice).map_or(0, |c| c.cost);
    let mut spent = picked.iter().enumerate().fold(0u64, |sum, (i, &c)| sum.saturating_add(cost(i, c)));
    if spent > budget {
        return Err(OverBudget { budget, least: spent });
    }
    // Along a hull each step removes less error for its cost than the one before, so sorting keeps an item's steps in order.
    let mut steps: Vec<(f64, usize, usize)> = Vec::new();
    for (item, hull) in hulls.iter().enumerate() {
        steps.extend(hull.windows(2).map(|w| (gain(&items[item], w[0], w[1]), item, w[1])));
    }
    steps.sort_by(|a, b| b.0.total_cmp(&a.0).then(a.1.cmp(&b.1)).then(a.2.cmp(&b.2)));
    let mut stopped = vec![false; items.len()];
    for (_, item, choice) in steps {
        let more = cost(item, choice) - cost(item, picked[item]);
        if stopped[item] || spent + more > budget {
            stopped[item] = true;
            continue;
        }
        spent += more;
        picked[item] = choice;
    }
    fill(items, &mut picked, budget - spent);
    Ok(picked)
}

/// Error removed for a unit of cost between two choices.
fn gain(choices: &[Choice], from: usize, to: usize) -> f64 {
    let cost = choices[to].cost.saturating_sub(choices[from].cost);
    (choices[from].error - choices[to].error) / cost as f64
}

/// Spends what is left on single better choices, on the hulls or not, the one that removes most error first.
fn fill(items: &[Vec<Choice>], picked: &mut [usize], mut left: u64) {
    loop {
        let mut best: Option<(f64, usize, usize)> = None;
        for (item, choices) in items.iter().enumerate() {
            let Some(now) = choices.get(picked[item]) else { continue };
            for (at, choice) in choices.iter().enumerate() {
                let won = now.error - choice.error;
                let fits = choice.cost <= now.cost.saturating_add(left);
                if fits && won > 0.0 && best.is_none_or(|(most, _, _)| won > most) {
                    best = Some((won, item, at));
                }
            }
        }
        let Some((_, item, at)) = best else { return };
        left = left + items[item][picked[item]].cost - items[item][at].cost;
        picked[item] = at;
    }
}

/// Positions of the choices on the lower convex hull of (cost, error), by rising cost and falling error.
fn hull(choices: &[Choice]) -> Vec<usize> {
    let mut order: Vec<usize> = (0..choices.len()).collect();
    let key = |i: usize| (choices[i].cost, choices[i].error);
    order.sort_by(|&a, &b| key(a).0.cmp(&key(b).0).then(key(a).1.total_cmp(&key(b).1)).then(a.cmp(&b)));
    let mut hull: Vec<usize> = Vec::new();
    for at in order {
        if hull.last().is_some_and(|&last| choices[at].error >= choices[last].error) {
            continue;
        }
        while let [.., before, last] = hull[..] {
            if gain(choices, last, at) < gain(choices, before, last) {
                break;
            }
            hull.pop();
        }
        hull.push(at);
    }
    hull
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn choice((cost, error): (u64, f64)) -> Choice {
        Choice { cost, error }
    }

    #[test]
    fn what_costs_little_and_wins_much_comes_first() {
        let steep = [(1, 10.0), (2, 1.0), (3, 0.5)].map(choice).to_vec();
        let flat = [(1, 2.0), (2, 1.5), (3, 1.0)].map(choice).to_vec();
        let items = [steep, flat];
        assert_eq!(allocate(&items, 2).unwrap(), [0, 0]);
        assert_eq!(allocate(&items, 3).unwrap(), [1, 0]);
        assert_eq!(allocate(&items, 6).unwrap(), [2, 2]);
        assert_eq!(allocate(&items, u64::MAX).unwrap(), [2, 2]);
        assert_eq!(allocate(&items, 1), Err(OverBudget { budget: 1, least: 2 }));
    }

    #[test]
    fn choices_that_cost_more_and_win_nothing_are_passed_over() {
        let items = [[(5, 1.0), (9, 2.0), (7, 1.0), (20, 0.0)].map(choice).to_vec(), Vec::new()];
        assert_eq!(allocate(&items, 19).unwrap(), [0, 0]);
        assert_eq!(allocate(&items, 20).unwrap(), [3, 0]);
    }

    #[test]
    fn a_remainder_goes_to_choices_beside_the_hull() {
        // The middle choice lies above the line between its neighbours.
        let items = [[(0, 10.0), (5, 6.0), (10, 0.0)].map(choice).to_vec()];
        assert_eq!(allocate(&items, 7).unwrap(), [1]);
    }

    proptest! {
        #[test]
        fn budgets_hold_and_convex_items_are_shared_near_the_optimum(
            tables in prop::collection::vec(prop::collection::vec((1u64..20, 0.0f64..5.0), 1..6), 1..5),
            spare in 0u64..60,
        ) {
            let items: Vec<Vec<Choice>> =
                tables.iter().map(|t| t.iter().copied().map(choice).collect()).collect();
            let least: u64 = items.iter().filter_map(|c| c.iter().map(|c| c.cost).min()).sum();
            let picked = allocate(&items, least + spare).unwrap();
            let sum = |p: &[usize]| {
                p.iter().zip(&items).fold((0, 0.0), |(c, e), (&i, item)| (c + item[i].cost, e + item[i].error))
            };
            let (cost, error) = sum(&picked);
            prop_assert!(cost <= least + spare);
            // No single change to another affordable choice helps.
            for (i, item) in items.iter().enumerate() {
                for (at, other) in item.iter().enumerate() {
                    let mut changed = picked.clone();
                    changed[i] = at;
                    let (c, e) = sum(&changed);
                    prop_assert!(c > least + spare || e >= error - 1e-9, "item {} to {:?}", i, other);
                }
            }
            if least > 0 {
                prop_assert!(allocate(&items, least - 1).is_err());
            }
        }
    }
}
