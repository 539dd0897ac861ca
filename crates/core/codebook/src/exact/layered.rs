//! The optimum for every number of clusters up to `k` at once, one layer of the table after the other.

/// Divisions of the points for 1, 2, … `k` clusters: `ends[c]` lists the starts of `c + 1` clusters and the end.
///
/// `prefix` holds weight and value sums before each point and after the last. Divide and conquer over the
/// monotone optimal starts: `k n log n` evaluations and `4 k n` bytes.
pub(crate) fn divide_layers(prefix: &[[f64; 2]], k: usize) -> Vec<Vec<u32>> {
    let n = prefix.len() - 1;
    let k = k.min(n);
    let mut from = vec![0u32; k * (n + 1)];
    let mut previous: Vec<f64> = (0..=n).map(|j| interval(prefix, 0, j)).collect();
    let mut current = vec![0.0; n + 1];
    for (c, row) in from.chunks_mut(n + 1).enumerate().skip(1) {
        current.fill(f64::INFINITY);
        fill(prefix, &previous, &mut current, row, c);
        std::mem::swap(&mut previous, &mut current);
    }
    (0..k)
        .map(|c| {
            let mut ends = vec![n as u32];
            let mut end = n;
            for layer in (0..=c).rev() {
                end = if layer == 0 { 0 } else { from[layer * (n + 1) + end] as usize };
                ends.push(end as u32);
            }
            ends.reverse();
            ends
        })
        .collect()
}

#[inline(always)]
fn interval(prefix: &[[f64; 2]], i: usize, j: usize) -> f64 {
    if i == j {
        return 0.0;
    }
    let sum = prefix[j][1] - prefix[i][1];
    -(sum * sum) / (prefix[j][0] - prefix[i][0])
}

/// Fills ends `c + 1..` of layer `c`; the recursion is a stack of (first end, last end, first start, last start).
fn fill(prefix: &[[f64; 2]], previous: &[f64], current: &mut [f64], from: &mut [u32], c: usize) {
    let n = prefix.len() - 1;
    let mut stack = vec![(c + 1, n, c, n - 1)];
    while let Some((first, last, low, high)) = stack.pop() {
        if first > last {
            continue;
        }
        let middle = (first + last) / 2;
        let (mut best, mut at) = (f64::INFINITY, low);
        let starts = low..=high.min(middle - 1);
        for (i, before) in starts.clone().zip(&previous[starts]) {
            let cost = before + interval(prefix, i, middle);
            if cost < best {
                (best, at) = (cost, i);
            }
        }
        current[middle] = best;
        from[middle] = at as u32;
        stack.push((first, middle - 1, low, at));
        stack.push((middle + 1, last, at, high));
    }
}
