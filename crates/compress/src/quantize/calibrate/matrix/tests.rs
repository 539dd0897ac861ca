//! Tests of the whole route from samples to codes.

use proptest::prelude::*;
use slq_codebook::{ClusterParams, Clustering, cluster_weighted};
use slq_engine::Isa;

use super::target_tests::{fixed, prepare};
use super::testing::{both, noise};
use super::*;

fn isa() -> Isa {
    Isa::detect()
}

/// Sum of s_r e H e^T in double precision.
fn objective(curvatures: &[Curvature], weights: &[f32], targets: &[f32], found: &[f32]) -> f64 {
    let n = curvatures[0].columns();
    let group_rows = weights.len() / curvatures.len();
    let mut sum = 0.0;
    for (r, &weight) in weights.iter().enumerate() {
        let h = curvatures[r / group_rows].block(isa(), 0..n);
        let e: Vec<f64> =
            (0..n).map(|j| f64::from(targets[r * n + j]) - f64::from(found[r * n + j])).collect();
        for i in 0..n {
            for j in 0..n {
                sum += f64::from(weight) * e[i] * e[j] * f64::from(h[i * n + j]);
            }
        }
    }
    sum
}

pub(super) fn positive(count: usize, seed: u64) -> Vec<f32> {
    noise(count, seed).iter().map(|v| v.abs() + 0.1).collect()
}

struct Case {
    curvatures: Vec<Curvature>,
    targets: Vec<f32>,
    weights: Vec<f32>,
    books: Books,
    size: usize,
}

impl Case {
    fn new((groups, group_rows, n): (usize, usize, usize), books: Books, size: usize, seed: u64) -> Self {
        let curvatures = (0..groups as u64)
            .map(|g| {
                let (dense, span) = both(n, n + 3, 0.05, seed + 100 * g);
                if groups == 1 && seed % 2 == 1 { span } else { dense }
            })
            .collect();
        let rows = groups * group_rows;
        Self {
            curvatures,
            targets: noise(rows * n, seed + 1),
            weights: positive(rows, seed + 2),
            books,
            size,
        }
    }

    fn problem(&self) -> Problem<'_> {
        Problem {
            targets: &self.targets,
            curvatures: &self.curvatures,
            row_weights: &self.weights,
            books: self.books,
            size: self.size,
        }
    }

    fn solve(&self, options: &SolveOptions) -> (Solution, f64) {
        let found = quantize(isa(), &self.problem(), options).unwrap();
        let n = self.curvatures[0].columns();
        let mut values = found.decode(n, self.books, self.size).unwrap();
        values.iter_mut().enumerate().for_each(|(at, v)| *v *= found.scales[at / n]);
        let objective = objective(&self.curvatures, &self.weights, &self.targets, &values);
        (found, objective)
    }
}

fn shapes() -> impl Strategy<Value = ((usize, usize, usize), Books)> {
    let shape = prop_oneof![
        (Just(1usize), 1usize..7, 1usize..80),
        (1usize..5, 1usize..4, 1usize..12),
        Just((1, 130, 70)),
    ];
    (shape, 0usize..5).prop_map(|((groups, rows, n), kind)| {
        let divisor = |of: usize| (2..=of).find(|d| of.is_multiple_of(*d)).unwrap_or(1);
        let books = match kind {
            0 => Books::Tensor,
            1 => Books::Rows(1),
            2 => Books::Rows(divisor(groups * rows)),
            _ => Books::Inputs(n / divisor(n)),
        };
        ((groups, rows, n), books)
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(60))]
    #[test]
    fn the_objective_never_rises(
        (shape, books) in shapes(), size in 1usize..9, seed in 0u64..1000,
        kind in prop_oneof![Just(Values::Free), Just(Values::Half), Just(Values::Uniform)],
        rate in prop_oneof![Just(0.0), Just(0.02)], scale_rows: bool,
    ) {
        let size = if kind == Values::Uniform { size.max(2) } else { size };
        let case = Case::new(shape, books, size, seed);
        let options = SolveOptions { error_passes: (seed % 4) as usize, values: kind, rate, scale_rows, ..SolveOptions::default() };
        let (found, objective) = case.solve(&options);
        let p = &found.progress;
        let slack = 1e-5 * p.start.abs() + 1e-9;
        let mut last = p.error_passes.iter().copied().fold(p.start, f64::min);
        for &next in &p.rounds {
            prop_assert!(next <= last + slack, "{p:?}");
            last = next;
        }
        prop_assert!((p.end - last).abs() <= slack, "{p:?}");
        if rate == 0.0 {
            prop_assert!((p.end - objective).abs() <= 1e-4 * p.start.abs() + 1e-6, "{p:?} {objective}");
        }
    }

    #[test]
    fn no_single_change_of_a_code_or_codebook_helps(
        (shape, books) in shapes(), size in 1usize..5, seed in 0u64..1000,
    ) {
        let case = Case::new(shape, books, size, seed);
        let options = SolveOptions { rounds: 200, tolerance: 0.0, ..SolveOptions::default() };
        let (found, before) = case.solve(&options);
        let n = shape.2;
        let values = found.decode(n, books, size).unwrap();
        let mut changed = values.clone();
        let layout = super::layout::Layout::new(case.weights.len(), n, books).unwrap();
        for at in (0..values.len()).step_by(1 + values.len() / 40) {
            let book = layout.book(at / n, at % n);
            for &value in &found.codebooks[book * size..][..size] {
                changed[at] = value;
                let after = objective(&case.curvatures, &case.weights, &case.targets, &changed);
                prop_assert!(after >= before * (1.0 - 1e-4) - 1e-7, "{before} {after}");
            }
            changed[at] = values[at];
        }
        for k in 0..found.codebooks.len().min(12) {
            for step in [-1e-2f32, 1e-2] {
                let mut moved = found.clone();
                moved.codebooks[k] += step;
                let changed = moved.decode(n, books, size).unwrap();
                let after = objective(&case.curvatures, &case.weights, &case.targets, &changed);
                prop_assert!(after >= before * (1.0 - 1e-4) - 1e-7, "codebook: {before} {after}");
            }
        }
    }
}

/// The least objective over all codes, with the best codebook for each.
fn brute_force(case: &Case) -> f64 {
    let (count, size) = (case.targets.len(), case.size);
    let n = case.curvatures[0].columns();
    let mut best = f64::INFINITY;
    for number in 0..size.pow(count as u32) {
        let codes: Vec<usize> = (0..count).map(|i| number / size.pow(i as u32) % size).collect();
        // Normal equations of the one codebook.
        let (mut a, mut b) = (vec![vec![0.0; size]; size], vec![0.0; size]);
        for (r, &weight) in case.weights.iter().enumerate() {
            let h = case.curvatures[0].block(isa(), 0..n);
            for i in 0..n {
                for j in 0..n {
                    let value = f64::from(weight) * f64::from(h[i * n + j]);
                    a[codes[r * n + i]][codes[r * n + j]] += value;
                    b[codes[r * n + i]] += value * f64::from(case.targets[r * n + j]);
                }
            }
        }
        let used: Vec<usize> = (0..size).filter(|k| codes.contains(k)).collect();
        let solved = eliminate(
            used.iter().map(|&k| used.iter().map(|&l| a[k][l]).collect()).collect(),
            used.iter().map(|&k| b[k]).collect(),
        );
        let mut book = vec![0.0; size];
        used.iter().zip(solved).for_each(|(&k, v)| book[k] = v);
        let found: Vec<f32> = codes.iter().map(|&k| book[k] as f32).collect();
        best = best.min(objective(&case.curvatures, &case.weights, &case.targets, &found));
    }
    best
}

/// Solves a x = b by elimination with pivots.
pub(super) fn eliminate(mut a: Vec<Vec<f64>>, mut b: Vec<f64>) -> Vec<f64> {
    let n = b.len();
    for c in 0..n {
        let pivot = (c..n).max_by(|&i, &j| a[i][c].abs().total_cmp(&a[j][c].abs())).unwrap();
        a.swap(c, pivot);
        b.swap(c, pivot);
        for r in 0..n {
            if r != c {
                let factor = a[r][c] / a[c][c];
                let row = a[c].clone();
                a[r].iter_mut().zip(&row).for_each(|(x, y)| *x -= factor * y);
                b[r] -= factor * b[c];
            }
        }
    }
    (0..n).map(|i| b[i] / a[i][i]).collect()
}

#[test]
fn tiny_layers_come_close_to_the_optimum_of_all_codes() {
    let (mut optimal, mut excess, mut start_excess) = (0, 0.0, 0.0);
    const CASES: u64 = 60;
    for seed in 0..CASES {
        let case = Case::new((1, 2, 4), Books::Tensor, 2 + (seed % 2) as usize, seed);
        let best = brute_force(&case);
        let (found, objective) = case.solve(&SolveOptions::default());
        assert!(objective >= best * (1.0 - 1e-5), "below the optimum: {objective} {best}");
        optimal += u64::from(objective <= best * (1.0 + 1e-4));
        excess += objective / best - 1.0;
        start_excess += found.progress.start / best - 1.0;
    }
    assert!(optimal * 2 > CASES, "{optimal} of {CASES} optimal");
    assert!(excess < 0.25 * start_excess, "{excess} {start_excess}");
}

#[test]
fn where_h_is_diagonal_the_result_is_weighted_k_means() {
    let (rows, n, size) = (5, 40, 6);
    let diagonal = positive(n, 4);
    let mut h = vec![0.0; n * n];
    (0..n).for_each(|i| h[i * n + i] = diagonal[i]);
    let case = Case {
        curvatures: vec![Curvature::dense(h, vec![1e-6; n])],
        targets: noise(rows * n, 5),
        weights: positive(rows, 6),
        books: Books::Tensor,
        size,
    };
    let counted: Vec<f32> = (0..rows * n).map(|i| case.weights[i / n] * (diagonal[i % n] + 1e-6)).collect();
    let params = ClusterParams::new(size).unwrap();
    let want: Clustering<u8> = cluster_weighted(&case.targets, &counted, &params).unwrap();
    let (found, objective) = case.solve(&SolveOptions::default());
    assert_eq!(found.codes, want.codes);
    for (got, want) in found.codebooks.iter().zip(&want.codebook) {
        assert!((got - want).abs() < 1e-5);
    }
    assert!((objective - want.sse).abs() < 1e-5 * want.sse);
}

#[test]
fn every_part_lowers_the_objective() {
    let case = Case::new((1, 40, 96), Books::Tensor, 4, 8);
    let run = |options: SolveOptions| case.solve(&options).1;
    let none = SolveOptions {
        weighted_start: false,
        error_passes: 0,
        fit_codebooks: false,
        descend: false,
        ..SolveOptions::default()
    };
    let weighted = SolveOptions { weighted_start: true, ..none };
    let passed = SolveOptions { error_passes: 1, ..weighted };
    let fitted = SolveOptions { fit_codebooks: true, ..passed };
    let again = SolveOptions { error_passes: 3, ..fitted };
    let all = SolveOptions { descend: true, ..again };
    let falls: Vec<f64> = [none, weighted, passed, fitted, again, all].map(run).to_vec();
    assert!(falls[2] < 0.8 * falls[1] && falls[5] < 0.9 * falls[2], "{falls:?}");
    assert!(falls[3] < falls[2] && falls[4] <= falls[3], "{falls:?}");
}

#[test]
fn groups_with_codebooks_of_their_own_are_layers_of_their_own() {
    let case = Case::new((3, 2, 9), Books::Rows(1), 3, 2);
    let whole = case.solve(&SolveOptions { tolerance: 0.0, ..SolveOptions::default() }).0;
    for (g, curvature) in case.curvatures.iter().enumerate() {
        let problem = Problem {
            targets: &case.targets[g * 18..][..18],
            curvatures: std::slice::from_ref(curvature),
            row_weights: &case.weights[g * 2..][..2],
            ..case.problem()
        };
        let options = SolveOptions { tolerance: 0.0, ..SolveOptions::default() };
        let alone = quantize(isa(), &problem, &options).unwrap();
        assert_eq!(alone.codes, whole.codes[g * 18..][..18]);
        assert_eq!(alone.codebooks, whole.codebooks[g * 6..][..6]);
    }
}

#[test]
fn codebooks_keep_their_shape() {
    let case = Case::new((1, 8, 30), Books::Rows(4), 7, 3);
    let solve = |values| case.solve(&SolveOptions { values, ..SolveOptions::default() }).0;
    for book in solve(Values::Uniform).codebooks.chunks(7) {
        let even = slq_codebook::even(book).unwrap_or_else(|| panic!("no multiples of a step: {book:?}"));
        assert_eq!(even.multiples, [-3, -2, -1, 0, 1, 2, 3]);
    }
    for value in solve(Values::PowersOfTwo).codebooks {
        assert!(value == 0.0 || value.abs().log2().fract() == 0.0, "{value}");
    }
    for value in solve(Values::Half).codebooks {
        assert_eq!(value, super::codebook::to_half(value));
    }
}

#[test]
fn rows_of_unlike_size_share_a_codebook_by_their_scales() {
    let mut case = Case::new((1, 24, 40), Books::Tensor, 6, 6);
    case.targets.iter_mut().enumerate().for_each(|(at, t)| *t *= 1.3f32.powi((at / 40) as i32));
    // Errors count in the unit of each row.
    let weights = case.weights.iter_mut().enumerate();
    weights.for_each(|(r, w)| *w *= 1.3f32.powi(-2 * r as i32));
    let solve = |scale_rows: bool| case.solve(&SolveOptions { scale_rows, ..SolveOptions::default() });
    let (with, without) = (solve(true), solve(false));
    assert!(with.1 < 0.2 * without.1, "{} {}", with.1, without.1);
    assert!(without.0.scales.iter().all(|&s| s == 1.0));
    // Codebooks of single rows hold the scale themselves.
    let case = Case { books: Books::Rows(1), ..case };
    assert_eq!(case.solve(&SolveOptions { scale_rows: true, ..SolveOptions::default() }).0.scales, [1.0; 24]);
}

#[test]
fn a_price_on_bits_makes_codes_shorter() {
    let mut case = Case::new((1, 30, 64), Books::Tensor, 8, 4);
    // Bell-shaped: with all codes as likely as another, no price would tell them apart.
    for seed in 50..53 {
        case.targets.iter_mut().zip(noise(30 * 64, seed)).for_each(|(t, n)| *t += n);
    }
    let entropy = |rate: f64| {
        let found = case.solve(&SolveOptions { rate, ..SolveOptions::default() });
        (slq_codebook::entropy_bits(&slq_codebook::histogram(&found.0.codes, 8)), found.1)
    };
    let (free, priced, dear) = (entropy(0.0), entropy(0.01), entropy(0.03));
    assert!(priced.0 < free.0 - 0.02 && dear.0 < priced.0 - 0.05, "{free:?} {priced:?} {dear:?}");
    assert!(priced.1 >= free.1 && dear.1 >= priced.1);
}

#[test]
fn the_number_of_threads_changes_nothing() {
    let on = |threads: usize| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        pool.install(|| {
            let mut all = Vec::new();
            for (shape, books, samples) in [
                ((1, 200, 150), Books::Tensor, 400),
                ((1, 70, 150), Books::Rows(5), 60),
                ((70, 70, 9), Books::Tensor, 100),
                ((1, 66, 128), Books::Inputs(32), 200),
            ] {
                let prepared = prepare(shape, samples, &fixed(1.0));
                let weights = positive(shape.1, 3);
                let problem = Problem {
                    targets: &prepared.targets,
                    curvatures: &prepared.curvatures,
                    row_weights: &weights,
                    books,
                    size: 5,
                };
                let options = SolveOptions { rate: 1e-4, ..SolveOptions::default() };
                let found = quantize(isa(), &problem, &options).unwrap();
                all.push((prepared.targets, prepared.float, found));
            }
            all
        })
    };
    let one = on(1);
    assert_eq!(one, on(2));
    assert_eq!(one, on(3));
}

#[test]
fn fewer_samples_than_columns_end_alike_in_both_forms() {
    let (n, rows) = (90, 20);
    for samples in [3, 30] {
        let (dense, span) = both(n, samples, 0.02, 7);
        let end = |curvature: Curvature| {
            let case = Case {
                curvatures: vec![curvature],
                targets: noise(rows * n, 8),
                weights: positive(rows, 9),
                books: Books::Tensor,
                size: 4,
            };
            let (found, objective) = case.solve(&SolveOptions::default());
            assert!(found.progress.error_passes[0] < 0.9 * found.progress.start);
            (objective, found.progress.error_passes[0])
        };
        let (dense, span) = (end(dense), end(span));
        // The passes are the same arithmetic in another order; ties may fall differently.
        assert!((dense.1 / span.1 - 1.0).abs() < 0.02, "{dense:?} {span:?}");
        assert!((dense.0 / span.0 - 1.0).abs() < 0.1, "{dense:?} {span:?}");
    }
}

#[test]
fn what_makes_no_problem_is_refused() {
    let case = Case::new((1, 2, 6), Books::Tensor, 3, 1);
    let refuse =
        |problem: Problem<'_>, options: SolveOptions| quantize(isa(), &problem, &options).unwrap_err();
    let options = SolveOptions::default();
    let problem = case.problem();
    let short = &case.targets[1..];
    use crate::error::CalibrateError as E;
    assert!(matches!(refuse(Problem { targets: short, ..problem }, options), E::Length { .. }));
    assert!(matches!(refuse(Problem { size: 257, ..problem }, options), E::CodebookSize { size: 257 }));
    assert!(matches!(refuse(Problem { size: 0, ..problem }, options), E::CodebookSize { size: 0 }));
    assert!(matches!(refuse(Problem { row_weights: &[1.0, 0.0], ..problem }, options), E::NotFinite { .. }));
    assert!(matches!(refuse(Problem { curvatures: &[], ..problem }, options), E::Shape { .. }));
    assert!(matches!(
        refuse(problem, SolveOptions { rate: f64::NAN, ..options }),
        E::Setting { name: "rate", .. }
    ));
}
