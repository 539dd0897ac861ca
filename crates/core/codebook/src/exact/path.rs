//! Joining two divisions that are both optimal at one penalty into one with a number of clusters in between.

use super::penalty::{Division, Segment};

/// A division with exactly `target` free clusters, from one with fewer (`few`) and one with more (`many`).
///
/// Somewhere a cluster of `few` holds a whole cluster of `many` at the right offset; changing over there keeps
/// the cost when both are optimal (Aggarwal, Schieber and Tokuyama, "Finding a minimum-weight k-link path in
/// graphs with the concave Monge property", 1994).
pub(crate) fn splice(segment: &Segment, few: &Division, many: &Division, target: usize) -> Division {
    let (a, b) = (few.nodes.len() - 1, many.nodes.len() - 1);
    if target == a || b <= a {
        return few.clone();
    }
    if target >= b {
        return many.clone();
    }
    let shift = b - target;
    let mut nodes = Vec::with_capacity(target + 1);
    // `i` is the number of nodes taken from `few`.
    for i in 0..=a + 1 {
        let end = if i <= a { few.nodes[i] } else { segment.len() as u32 };
        if many.nodes[i + shift] <= end {
            nodes.extend_from_slice(&few.nodes[..i]);
            nodes.extend_from_slice(&many.nodes[i + shift..]);
            break;
        }
    }
    let cost = segment.cost(&nodes);
    Division { nodes, cost }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn joins_at_the_right_offset() {
        let prefix: Vec<[f64; 2]> = (0..=12).map(|i| [f64::from(i), f64::from(i * (i - 1)) / 2.0]).collect();
        let segment =
            Segment { prefix: &prefix, wide: &[], counts: &[], left: None, right: None, min_size: 1 };
        let division = |nodes: &[u32]| Division { nodes: nodes.to_vec(), cost: segment.cost(nodes) };
        let few = division(&[0, 6, 12]);
        let many = division(&[0, 2, 4, 6, 8, 10, 12]);
        for target in 2..=6 {
            let got = splice(&segment, &few, &many, target);
            assert_eq!(got.nodes.len() - 1, target);
            assert!(got.nodes.is_sorted() && got.nodes[0] == 0 && got.nodes[target] == 12);
        }
    }
}
