use super::super::testing::*;
use super::*;

struct Case {
    g: BatchNormGeometry,
    x: Vec<f32>,
    add: Vec<f32>,
    dy: Vec<f32>,
    gamma: Vec<f32>,
    beta: Vec<f32>,
}

impl Case {
    fn new(n: usize, c: usize, inner: usize, offset: f32) -> Self {
        let g = BatchNormGeometry { n, c, inner };
        Case {
            g,
            x: values(g.len(), 1).iter().map(|v| v * 2.0 + offset).collect(),
            add: values(g.len(), 2),
            dy: values(g.len(), 3),
            gamma: values(c, 4).iter().map(|v| v + 1.5).collect(),
            beta: values(c, 5),
        }
    }

    /// Statistics of the batch in f64: means and biased variances.
    fn statistics(&self, x: &[f64]) -> (Vec<f64>, Vec<f64>) {
        let (n, c, inner) = (self.g.n, self.g.c, self.g.inner);
        let m = (n * inner) as f64;
        let of = |c0: usize| (0..n * inner).map(move |i| (i / inner * c + c0) * inner + i % inner);
        let mean: Vec<f64> = (0..c).map(|c| of(c).map(|i| x[i]).sum::<f64>() / m).collect();
        let var = (0..c).map(|c| of(c).map(|i| (x[i] - mean[c]).powi(2)).sum::<f64>() / m).collect();
        (mean, var)
    }

    fn reference(
        &self,
        x: &[f64],
        gamma: &[f64],
        beta: &[f64],
        add: Option<&[f64]>,
        stats: &(Vec<f64>, Vec<f64>),
        post: Post,
    ) -> Vec<f64> {
        let (lo, hi) = post.bounds();
        (0..x.len())
            .map(|i| {
                let c = i / self.g.inner % self.g.c;
                let v = gamma[c] * (x[i] - stats.0[c]) / (stats.1[c] + 1e-5f32 as f64).sqrt() + beta[c];
                (v + add.map_or(0.0, |a| a[i])).clamp(lo as f64, hi as f64)
            })
            .collect()
    }

    /// Outputs, then the gradients of input, residual branch, gamma and beta, with batch statistics.
    fn expected(&self, add: Option<&[f64]>, post: Post) -> [Vec<f64>; 5] {
        let x = wide(&self.x);
        let (gamma, beta) = (wide(&self.gamma), wide(&self.beta));
        let stats = self.statistics(&x);
        let dot = |y: Vec<f64>| -> f64 { y.iter().zip(&self.dy).map(|(a, &b)| a * b as f64).sum() };
        let at = |gamma: &[f64], beta: &[f64], add: Option<&[f64]>| {
            dot(self.reference(&x, gamma, beta, add, &stats, post))
        };
        [
            self.reference(&x, &gamma, &beta, add, &stats, post),
            differences(&self.x, |x| dot(self.reference(x, &gamma, &beta, add, &self.statistics(x), post))),
            differences(&self.add, |a| at(&gamma, &beta, Some(a))),
            differences(&self.gamma, |v| at(v, &beta, add)),
            differences(&self.beta, |v| at(&gamma, v, add)),
        ]
    }
}

#[test]
fn batch_statistics_and_gradients() {
    for (n, c, inner, add, post) in [
        (4, 3, 35, false, Post::None),
        (3, 2, 49, true, Post::Relu),
        (2, 5, 1, false, Post::Relu),
        (2, 2, 67, false, Post::Clip(0.0, 0.6)),
    ] {
        let case = Case::new(n, c, inner, 0.7);
        let g = case.g;
        let extra = add.then_some(&case.add[..]);
        let [y64, dx, dadd, dgamma, dbeta] = case.expected(extra.map(wide).as_deref(), post);
        let stats = case.statistics(&wide(&case.x));
        for (isa, got) in on_all(|isa| {
            let mut y = vec![0.0; g.len()];
            let (mut mean, mut inv) = (vec![0.0; c], vec![0.0; c]);
            let (mut rm, mut rv) = (vec![1.0; c], vec![2.0; c]);
            let running = Running { mean: &mut rm, var: &mut rv, share: 0.1, unbiased: true };
            train_forward(
                isa,
                &g,
                &case.x,
                None,
                &case.gamma,
                &case.beta,
                1e-5,
                extra,
                post,
                &mut y,
                &mut mean,
                &mut inv,
                Some(running),
            );
            let (mut dx, mut dgamma, mut dbeta) = (vec![0.0; g.len()], vec![1.0; c], vec![0.0; c]);
            let mut dadd = vec![0.0; g.len()];
            let out = BatchNormGradients {
                dx: Some((&mut dx, Store::Overwrite)),
                dadd: Some((&mut dadd, Store::Accumulate)),
                dgamma: Some((&mut dgamma, Store::Accumulate)),
                dbeta: Some((&mut dbeta, Store::Overwrite)),
            };
            backward(
                isa,
                &g,
                Statistics::Batch,
                &case.x,
                Some(&y),
                post,
                &case.dy,
                &case.gamma,
                &mean,
                &inv,
                out,
            );
            [y, dx, dadd, dgamma, dbeta, rm, rv].concat()
        }) {
            let what = format!("{n}x{c}x{inner} {post:?} {isa}");
            let len = g.len();
            assert_close(&got[..len], &y64, 2e-6, &what);
            assert_close(&got[len..2 * len], &dx, 1e-5, &format!("dx {what}"));
            if add {
                assert_close(&got[2 * len..3 * len], &dadd, 1e-6, &format!("dadd {what}"));
            }
            let plus: Vec<f64> = dgamma.iter().map(|v| v + 1.0).collect();
            assert_close(&got[3 * len..][..c], &plus, 1e-5, &format!("dgamma {what}"));
            assert_close(&got[3 * len + c..][..c], &dbeta, 1e-5, &format!("dbeta {what}"));
            let m = (n * inner) as f64;
            let rm: Vec<f64> = stats.0.iter().map(|v| 0.9 + 0.1 * v).collect();
            let rv: Vec<f64> = stats.1.iter().map(|v| 1.8 + 0.1 * v * m / (m - 1.0)).collect();
            assert_close(&got[3 * len + 2 * c..][..c], &rm, 1e-6, "running mean");
            assert_close(&got[3 * len + 3 * c..][..c], &rv, 1e-6, "running variance");
        }
    }
}

#[test]
fn frozen_statistics_and_gradients() {
    let case = Case::new(3, 4, 21, 0.0);
    let g = case.g;
    let stats = (wide(&values(4, 8)), vec![0.5, 1.0, 2.0, 0.25]);
    let mean: Vec<f32> = stats.0.iter().map(|&v| v as f32).collect();
    let var: Vec<f32> = stats.1.iter().map(|&v| v as f32).collect();
    let mut inv = vec![0.0; 4];
    inverse_std(&var, 1e-5, &mut inv);
    let x64 = wide(&case.x);
    let (gamma, beta) = (wide(&case.gamma), wide(&case.beta));
    let post = Post::Relu;
    let want = case.reference(&x64, &gamma, &beta, None, &stats, post);
    let dot = |y: Vec<f64>| -> f64 { y.iter().zip(&case.dy).map(|(a, &b)| a * b as f64).sum() };
    let dx = differences(&case.x, |x| dot(case.reference(x, &gamma, &beta, None, &stats, post)));
    let dgamma = differences(&case.gamma, |v| dot(case.reference(&x64, v, &beta, None, &stats, post)));
    for (isa, got) in on_all(|isa| {
        let mut y = vec![0.0; g.len()];
        frozen_forward(isa, &g, &case.x, &case.gamma, &case.beta, &mean, &inv, None, post, &mut y);
        let (mut dx, mut dgamma) = (vec![0.0; g.len()], vec![0.0; 4]);
        let out = BatchNormGradients {
            dx: Some((&mut dx, Store::Overwrite)),
            dgamma: Some((&mut dgamma, Store::Overwrite)),
            ..Default::default()
        };
        backward(
            isa,
            &g,
            Statistics::Frozen,
            &case.x,
            Some(&y),
            post,
            &case.dy,
            &case.gamma,
            &mean,
            &inv,
            out,
        );
        [y, dx, dgamma].concat()
    }) {
        let len = g.len();
        assert_close(&got[..len], &want, 1e-6, &format!("y {isa}"));
        assert_close(&got[len..2 * len], &dx, 1e-5, "dx");
        assert_close(&got[2 * len..], &dgamma, 1e-5, "dgamma");
    }
}

#[test]
fn variance_survives_a_large_mean() {
    let case = Case::new(8, 2, 100, 3000.0);
    let g = case.g;
    let stats = case.statistics(&wide(&case.x));
    for isa in Isa::supported() {
        let mut y = vec![0.0; g.len()];
        let (mut mean, mut inv) = (vec![0.0; 2], vec![0.0; 2]);
        train_forward(
            isa,
            &g,
            &case.x,
            None,
            &case.gamma,
            &case.beta,
            1e-5,
            None,
            Post::None,
            &mut y,
            &mut mean,
            &mut inv,
            None,
        );
        for (&inv, var) in inv.iter().zip(&stats.1) {
            let want = 1.0 / (var + 1e-5).sqrt();
            assert!((inv as f64 / want - 1.0).abs() < 1e-5, "{inv} not {want}");
        }
    }
}

/// Output, mean, 1 / deviation and running statistics of a part, given the statistics of the whole batch.
fn forward_part(isa: Isa, case: &Case, whole: Option<Whole<'_>>) -> [Vec<f32>; 5] {
    let (g, zeros) = (case.g, || vec![0.0; case.g.c]);
    let [mut y, mut mean, mut inv, mut rm, mut rv] = [vec![0.0; g.len()], zeros(), zeros(), zeros(), zeros()];
    let running = Some(Running { mean: &mut rm, var: &mut rv, share: 0.1, unbiased: true });
    let (x, gamma, beta) = (&case.x, &case.gamma, &case.beta);
    train_forward(
        isa,
        &g,
        x,
        whole,
        gamma,
        beta,
        1e-5,
        None,
        Post::Relu,
        &mut y,
        &mut mean,
        &mut inv,
        running,
    );
    [y, mean, inv, rm, rv]
}

/// Gradients of input, gamma and beta.
fn backward_part(isa: Isa, case: &Case, statistics: Statistics<'_>, seen: &[Vec<f32>; 5]) -> [Vec<f32>; 3] {
    let (g, [y, mean, inv, ..]) = (case.g, seen);
    let [mut dx, mut dgamma, mut dbeta] = [vec![0.0; g.len()], vec![0.0; g.c], vec![0.0; g.c]];
    let out = BatchNormGradients {
        dx: Some((&mut dx, Store::Overwrite)),
        dgamma: Some((&mut dgamma, Store::Overwrite)),
        dbeta: Some((&mut dbeta, Store::Overwrite)),
        dadd: None,
    };
    backward(isa, &g, statistics, &case.x, Some(y), Post::Relu, &case.dy, &case.gamma, mean, inv, out);
    [dx, dgamma, dbeta]
}

#[test]
fn parts_that_share_their_statistics_and_sums_are_the_whole_batch() {
    let images = [2, 3, 1];
    for offset in [0.3, 500.0] {
        let case = Case::new(images.iter().sum(), 3, 37, offset);
        let (g, each) = (case.g, case.g.c * case.g.inner);
        for isa in Isa::supported() {
            let want = forward_part(isa, &case, None);
            let gradients = backward_part(isa, &case, Statistics::Batch, &want);
            let mut parts = Vec::new();
            let mut first = 0;
            for n in images {
                let at = first * each..(first + n) * each;
                // The part's own mean loss: the whole loss is its weighted mean.
                let weight = n as f32 / g.n as f32;
                let dy = case.dy[at.clone()].iter().map(|v| v / weight).collect();
                let (x, gamma, beta) = (case.x[at].to_vec(), case.gamma.clone(), case.beta.clone());
                let g = BatchNormGeometry { n, ..g };
                parts.push((weight, Case { g, x, add: Vec::new(), dy, gamma, beta }));
                first += n;
            }
            let own: Vec<Vec<Moments>> = parts
                .iter()
                .map(|(_, part)| {
                    let mut own = vec![Moments::default(); g.c];
                    moments(isa, &part.g, &part.x, &mut own);
                    own
                })
                .collect();
            let together = (0..g.c).map(|c| {
                Moments::together(parts.iter().zip(&own).map(|((_, part), own)| (part.g.count(), own[c])))
            });
            let (counts, together): (Vec<f64>, Vec<Moments>) = together.unzip();
            let whole = Whole { moments: &together, count: counts[0] };
            let seen: Vec<_> = parts.iter().map(|(_, part)| forward_part(isa, part, Some(whole))).collect();
            let sums: Vec<Vec<GradientSums>> = parts
                .iter()
                .zip(&seen)
                .map(|((_, part), seen)| {
                    let mut sums = vec![GradientSums::default(); g.c];
                    let y = Some(seen[0].as_slice());
                    gradient_sums(isa, &part.g, &part.x, y, Post::Relu, &part.dy, &seen[1], &mut sums);
                    sums
                })
                .collect();
            let mut found = [Vec::new(), vec![0.0; g.c], vec![0.0; g.c]];
            for (((weight, part), own), seen) in parts.iter().zip(&sums).zip(&seen) {
                let mean: Vec<GradientSums> = (0..g.c)
                    .map(|c| {
                        let total = |of: fn(&GradientSums) -> f64| {
                            let all = parts.iter().zip(&sums).map(|((w, _), s)| f64::from(*w) * of(&s[c]));
                            all.sum::<f64>() / part.g.count()
                        };
                        GradientSums { sum: total(|s| s.sum), dot: total(|s| s.dot) }
                    })
                    .collect();
                let [dx, dgamma, dbeta] =
                    backward_part(isa, part, Statistics::Part { own, mean: &mean }, seen);
                found[0].extend(dx.iter().map(|v| v * weight));
                for (sum, part) in found[1..].iter_mut().zip([dgamma, dbeta]) {
                    sum.iter_mut().zip(part).for_each(|(sum, v)| *sum += v * weight);
                }
            }
            let outputs: Vec<f32> = seen.iter().flat_map(|s| s[0].clone()).collect();
            assert_close(&outputs, &wide(&want[0]), 1e-5, "y");
            for i in 1..5 {
                assert!(seen.iter().all(|s| s[i] == seen[0][i]), "{i}");
                assert_close(&seen[0][i], &wide(&want[i]), 1e-5, &format!("statistic {i} {isa}"));
            }
            for (i, (found, want)) in found.iter().zip(&gradients).enumerate() {
                assert_close(found, &wide(want), 1e-5, &format!("gradient {i} {isa} {offset}"));
            }
        }
    }
}
