//! Groups of threads: every rank gets the same, correct values on every repetition.

use proptest::prelude::*;
use slq_reduce::{Alone, Background, ReduceError, Reducer, threads};

/// What every rank of a group of `size` makes of `work`.
fn each<A: Send>(size: usize, work: impl Fn(&Background) -> A + Sync) -> Vec<A> {
    std::thread::scope(|scope| {
        let work = &work;
        let ranks: Vec<_> = threads(size).into_iter().map(|rank| scope.spawn(move || work(&rank))).collect();
        ranks.into_iter().map(|r| r.join().unwrap()).collect()
    })
}

fn sum(reducer: &dyn Reducer, values: Vec<f32>) -> Vec<f32> {
    reducer.begin_sum(values).unwrap();
    reducer.finish_sum().unwrap()
}

/// Values whose sum depends on the order in which they are added.
fn values(rank: usize, len: usize) -> Vec<f32> {
    (0..len).map(|i| ((rank * 7919 + i * 104_729) % 1009) as f32 * 1e-3 + rank as f32 * 1e4).collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(16))]
    #[test]
    fn sums_are_right_and_the_same_everywhere(size in 1usize..8, len in 0usize..9000) {
        let found = each(size, |rank| sum(rank, values(rank.rank(), len)));
        let exact: Vec<f64> = (0..len)
            .map(|i| (0..size).map(|rank| f64::from(values(rank, len)[i])).sum())
            .collect();
        for theirs in &found {
            prop_assert_eq!(theirs, &found[0]);
        }
        for (found, exact) in found[0].iter().zip(&exact) {
            prop_assert!((f64::from(*found) - exact).abs() <= 1e-6 * exact.abs(), "{} {}", found, exact);
        }
        prop_assert_eq!(found[0].len(), len);
        prop_assert_eq!(found, each(size, |rank| sum(rank, values(rank.rank(), len))), "on repetition");
    }

    #[test]
    fn bytes_come_in_the_order_of_the_ranks(size in 1usize..10, len in 1usize..300) {
        let found = each(size, |rank| {
            let all = rank.gather(&vec![rank.rank() as u8; len]).unwrap();
            let first = rank.broadcast(vec![rank.rank() as u8 + 7; len * (rank.rank() + 1)]).unwrap();
            rank.barrier().unwrap();
            (all, first, rank.first_that_differs(&[u8::from(rank.rank() == size / 2)]).unwrap())
        });
        for (all, first, differs) in found {
            prop_assert_eq!(all, (0..size).map(|r| vec![r as u8; len]).collect::<Vec<_>>());
            prop_assert_eq!(first, vec![7; len]);
            prop_assert_eq!(differs, if size == 1 { None } else if size / 2 == 0 { Some(1) } else { Some(size / 2) });
        }
    }
}

/// A short sum is added in the order of the ranks, a part of a long one from its own rank on.
#[test]
fn the_order_of_a_sum_is_fixed() {
    let size = 5;
    let long = each(size, |rank| sum(rank, values(rank.rank(), 20_000)));
    let short = each(size, |rank| sum(rank, values(rank.rank(), 100)));
    let added = |first: usize, len: usize, i: usize| {
        (1..size).fold(values(first, len)[i], |sum, k| values((first + k) % size, len)[i] + sum)
    };
    for i in [0, 3999, 4000, 11_999, 12_000, 19_999] {
        assert_eq!(long[3][i].to_bits(), added(i / 4000, 20_000, i).to_bits(), "{i}");
    }
    for i in [0, 50, 99] {
        assert_eq!(short[3][i].to_bits(), added(0, 100, i).to_bits(), "{i}");
    }
}

/// More than one message holds: each piece goes around for itself.
#[test]
fn sums_of_any_length_are_those_of_their_pieces() {
    let len = (1 << 23) + 5;
    let found = each(2, |rank| sum(rank, (0..len).map(|i| (i % 1013 + rank.rank()) as f32).collect()));
    assert_eq!(found[0].len(), len);
    assert!(found[0].iter().enumerate().all(|(i, &v)| v == (2 * (i % 1013) + 1) as f32));
    assert_eq!(found[0], found[1]);
}

#[test]
fn sums_end_in_the_order_of_their_beginnings_beside_other_messages() {
    let found = each(3, |rank| {
        for n in 1..4 {
            rank.begin_sum(vec![n as f32; n * 3000]).unwrap();
        }
        let mut counts = [1.0, 2.0];
        rank.sum(&mut counts).unwrap();
        (counts, [1, 2, 3].map(|_| rank.finish_sum().unwrap()))
    });
    for (counts, sums) in found {
        assert_eq!(counts, [3.0, 6.0]);
        assert_eq!(sums, [1, 2, 3].map(|n| vec![3.0 * n as f32; n * 3000]));
    }
}

#[test]
fn a_rank_that_is_gone_is_an_error_for_all_others() {
    let found = each(4, |rank| match rank.rank() {
        2 => Ok(()),
        _ => (0..3).try_for_each(|_| rank.barrier()),
    });
    for (rank, found) in found.into_iter().enumerate().filter(|(rank, _)| *rank != 2) {
        assert!(matches!(found, Err(ReduceError::Lost { .. } | ReduceError::Ended)), "{rank}: {found:?}");
    }
}

#[test]
fn a_single_process_keeps_its_values() {
    let alone = Alone::new();
    assert_eq!(sum(&alone, vec![1.5, -0.0]), [1.5, -0.0]);
    assert_eq!(alone.finish_sum(), Err(ReduceError::Ended));
    let mut count = [0.1];
    alone.sum(&mut count).unwrap();
    assert_eq!((count, alone.first_that_differs(&[1]).unwrap()), ([0.1], None));
}
