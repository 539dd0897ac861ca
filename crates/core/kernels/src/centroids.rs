//! Training of shared values: the codes stay, the centroids move (Han, Mao, Dally, "Deep Compression", ICLR 2016,
//! section 3.3).

/// Where the learning rate enters a momentum step; g is a centroid's mean gradient.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CentroidRule {
    /// `v = mu v + lr g`, `c -= v`: the rate enters the history.
    Caffe,
    /// `v = mu v + g`, `c -= lr v`.
    PyTorch,
}

/// One step of SGD with momentum on centroids.
///
/// A centroid moves by the *mean* of its members' gradients, where section 3.3 has their sum. The mean is the part of an
/// ordinary step on the members that leaves them equal, so the learning rate means what it means for free weights,
/// whatever the size of the cluster.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct CentroidStep {
    /// Learning rate.
    pub learning_rate: f64,
    /// Momentum.
    pub momentum: f64,
    /// Where the rate enters.
    pub rule: CentroidRule,
}

impl CentroidStep {
    /// Moves `centroids` down their mean gradients; `velocity` is the history. A centroid that is zero stays zero, and
    /// its history as it was: pruned weights remain pruned.
    ///
    /// # Panics
    /// Where the three lengths differ.
    pub fn apply(&self, centroids: &mut [f32], velocity: &mut [f64], mean_gradients: &[f64]) {
        assert!(centroids.len() == velocity.len() && centroids.len() == mean_gradients.len());
        for ((centroid, velocity), gradient) in centroids.iter_mut().zip(velocity).zip(mean_gradients) {
            if *centroid == 0.0 {
                continue;
            }
            let change = match self.rule {
                CentroidRule::PyTorch => {
                    *velocity = self.momentum * *velocity + gradient;
                    self.learning_rate * *velocity
                }
                CentroidRule::Caffe => {
                    *velocity = self.momentum * *velocity + self.learning_rate * gradient;
                    *velocity
                }
            };
            *centroid = (f64::from(*centroid) - change) as f32;
        }
    }
}

/// Mean gradient of the members of every centroid, `groups` x `codebook_size`; zero for a centroid without members.
///
/// `codes` and `gradient` belong to one weight, whose values are cut into `groups` runs of equal length, each with a
/// codebook of its own. Sums run in `f64` over the members in order.
///
/// # Panics
/// Where `codes` and `gradient` differ in length or are no multiple of `groups`, or a code has no centroid.
pub fn mean_gradients(codes: &[u8], gradient: &[f32], groups: usize, codebook_size: usize) -> Vec<f64> {
    assert!(codes.len() == gradient.len() && codes.len().is_multiple_of(groups));
    let run = (codes.len() / groups.max(1)).max(1);
    let mut sums = vec![(0.0, 0u64); groups * codebook_size];
    for (group, (codes, gradient)) in codes.chunks(run).zip(gradient.chunks(run)).enumerate() {
        let sums = &mut sums[group * codebook_size..][..codebook_size];
        for (&code, &g) in codes.iter().zip(gradient) {
            let (sum, count) = &mut sums[usize::from(code)];
            *sum += f64::from(g);
            *count += 1;
        }
    }
    sums.into_iter().map(|(sum, count)| sum / count.max(1) as f64).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gradients_are_averaged_over_the_members_of_each_groups_centroids() {
        let means = mean_gradients(&[0, 1, 1, 1, 0, 0], &[9.0, 1.0, 3.0, 5.0, 7.0, 7.0], 2, 2);
        assert_eq!(means, [9.0, 2.0, 7.0, 5.0]);
        let lonely = mean_gradients(&[0, 0], &[1.0, 2.0], 1, 3);
        assert_eq!(lonely, [1.5, 0.0, 0.0]);
        assert_eq!(mean_gradients(&[], &[], 2, 2), [0.0; 4]);
    }

    #[test]
    fn rules_differ_in_where_the_rate_enters() {
        // By hand: two steps with gradient 1, the rate falls from 1/2 to 1/4, momentum 1/2.
        for (rule, first, second) in
            [(CentroidRule::Caffe, 0.5, 0.25 + 0.25), (CentroidRule::PyTorch, 0.5, 0.25 * 1.5)]
        {
            let (mut centroids, mut velocity) = ([2.0], [0.0]);
            let step = CentroidStep { learning_rate: 0.5, momentum: 0.5, rule };
            step.apply(&mut centroids, &mut velocity, &[1.0]);
            assert_eq!(centroids, [2.0 - first], "{rule:?}");
            let step = CentroidStep { learning_rate: 0.25, ..step };
            step.apply(&mut centroids, &mut velocity, &[1.0]);
            assert_eq!(centroids, [2.0 - (first + second)], "{rule:?}");
        }
    }

    #[test]
    fn a_step_equals_the_mean_of_the_steps_of_the_members() {
        // Plain SGD on three equal weights, then their mean.
        let gradient = [0.3f32, -0.1, 0.7];
        let (mut centroids, mut velocity) = ([0.5f32], [0.0]);
        let step = CentroidStep { learning_rate: 0.1, momentum: 0.9, rule: CentroidRule::PyTorch };
        step.apply(&mut centroids, &mut velocity, &mean_gradients(&[0; 3], &gradient, 1, 1));
        let members = gradient.iter().map(|&g| 0.5 - 0.1 * f64::from(g)).sum::<f64>() / 3.0;
        assert!((f64::from(centroids[0]) - members).abs() < 1e-7);
    }

    #[test]
    fn zero_stays_zero_and_keeps_its_history() {
        for rule in [CentroidRule::Caffe, CentroidRule::PyTorch] {
            let (mut centroids, mut velocity) = ([0.0, -0.0, 1.0], [0.0; 3]);
            let step = CentroidStep { learning_rate: 0.1, momentum: 0.9, rule };
            step.apply(&mut centroids, &mut velocity, &[5.0; 3]);
            assert_eq!(centroids.map(f32::to_bits), [0.0, -0.0, 0.5].map(f32::to_bits), "{rule:?}");
            assert_eq!(velocity[..2], [0.0; 2]);
        }
    }
}
