//! What the processes of a job tell each other about work that each does a share of.

use slq_reduce::{ReduceError, Reducer};

use crate::error::CompressError;
use crate::progress::Observer;

/// Values that are summed at a time: so many from every process are in memory at once.
const PIECE: usize = 1 << 16;

/// The bytes of every process in the order of their ranks, of any length each.
///
/// # Errors
/// Any [`ReduceError`].
pub(crate) fn gather_any(reducer: &dyn Reducer, bytes: Vec<u8>) -> Result<Vec<Vec<u8>>, ReduceError> {
    if reducer.size() == 1 {
        return Ok(vec![bytes]);
    }
    let lengths = reducer.gather(&(bytes.len() as u64).to_le_bytes())?;
    let length = |bytes: &Vec<u8>| bytes.as_slice().try_into().map_or(0, u64::from_le_bytes) as usize;
    let lengths: Vec<usize> = lengths.iter().map(length).collect();
    let mut padded = bytes;
    padded.resize(lengths.iter().copied().max().unwrap_or(0), 0);
    let mut all = reducer.gather(&padded)?;
    all.iter_mut().zip(lengths).for_each(|(bytes, length)| bytes.truncate(length));
    Ok(all)
}

/// Rows of figures, of which process r of N has number r, r + N, ... of `count`: all of them in order, with their bits.
///
/// # Errors
/// Any [`ReduceError`].
pub(crate) fn gather_rows(
    reducer: &dyn Reducer,
    count: usize,
    own: &[impl AsRef<[f64]>],
) -> Result<Vec<Vec<f64>>, ReduceError> {
    let size = reducer.size();
    // Rows are of one length, which a process without any does not know.
    let bytes = own.iter().flat_map(AsRef::as_ref).flat_map(|v| v.to_le_bytes()).collect();
    let all = gather_any(reducer, bytes)?;
    let each = all[0].len() / count.div_ceil(size).max(1);
    let row = |i: usize| {
        let bytes = all[i % size].get(i / size * each..(i / size + 1) * each).unwrap_or_default();
        bytes.chunks_exact(8).map(|b| b.try_into().map_or(f64::NAN, f64::from_le_bytes)).collect()
    };
    Ok((0..count).map(row).collect())
}

/// Whether any process asks for what all of them then do.
///
/// # Errors
/// Any [`ReduceError`].
pub(crate) fn any_asks(reducer: &dyn Reducer, own: bool) -> Result<bool, ReduceError> {
    match reducer.size() {
        1 => Ok(own),
        _ => Ok(reducer.gather(&[u8::from(own)])?.iter().any(|asked| asked[0] == 1)),
    }
}

/// Ends the work where the observer of any process asks for it.
///
/// # Errors
/// [`CompressError::Interrupted`], and any [`ReduceError`].
pub(crate) fn go_on(observer: &mut dyn Observer, reducer: &dyn Reducer) -> Result<(), CompressError> {
    match any_asks(reducer, observer.stop())? {
        true => Err(CompressError::Interrupted),
        false => Ok(()),
    }
}

/// The reason of the first process that has one: what one of them cannot do, none does.
///
/// # Errors
/// Any [`ReduceError`].
pub(crate) fn first_reason(
    reducer: &dyn Reducer,
    own: Option<String>,
) -> Result<Option<String>, ReduceError> {
    if reducer.size() == 1 {
        return Ok(own);
    }
    // An empty reason is one, too.
    let bytes = own.map_or_else(Vec::new, |text| [&[1], text.as_bytes()].concat());
    let all = gather_any(reducer, bytes)?;
    let first = all.iter().find_map(|bytes| bytes.get(1..));
    Ok(first.map(|text| String::from_utf8_lossy(text).into_owned()))
}

/// A value that can be summed in double precision.
pub(crate) trait Value: Copy {
    fn wide(self) -> f64;
    fn of(wide: f64) -> Self;
}

impl Value for f64 {
    fn wide(self) -> f64 {
        self
    }

    fn of(wide: f64) -> Self {
        wide
    }
}

impl Value for f32 {
    fn wide(self) -> f64 {
        f64::from(self)
    }

    fn of(wide: f64) -> Self {
        wide as f32
    }
}

/// Replaces all values by their sums over the processes, added in double precision in the order of the ranks; all must give as
/// many. Many values go piece by piece.
///
/// # Errors
/// Any [`ReduceError`].
pub(crate) fn sum_all<'a, V: Value + 'a>(
    reducer: &dyn Reducer,
    parts: impl IntoIterator<Item = &'a mut [V]>,
) -> Result<(), ReduceError> {
    if reducer.size() == 1 {
        return Ok(());
    }
    let mut values: Vec<&'a mut V> = Vec::new();
    let send = |values: &mut Vec<&'a mut V>| -> Result<(), ReduceError> {
        let mut sums: Vec<f64> = values.iter().map(|v| v.wide()).collect();
        if !sums.is_empty() {
            reducer.sum(&mut sums)?;
        }
        values.drain(..).zip(sums).for_each(|(value, sum)| *value = V::of(sum));
        Ok(())
    };
    for part in parts {
        for value in part {
            values.push(value);
            if values.len() == PIECE {
                send(&mut values)?;
            }
        }
    }
    send(&mut values)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn each<A: Send>(size: usize, work: impl Fn(&dyn Reducer) -> A + Sync) -> Vec<A> {
        std::thread::scope(|scope| {
            let work = &work;
            let ranks: Vec<_> =
                slq_reduce::threads(size).into_iter().map(|r| scope.spawn(move || work(&r))).collect();
            ranks.into_iter().map(|r| r.join().unwrap()).collect()
        })
    }

    #[test]
    fn bytes_of_any_length_and_the_first_reason_reach_all() {
        for found in each(3, |r| gather_any(r, vec![7; 2 * r.rank()]).unwrap()) {
            assert_eq!(found, [vec![], vec![7; 2], vec![7; 4]]);
        }
        let reason = |rank| (rank > 0).then(|| "no".repeat(rank));
        for found in each(3, |r| first_reason(r, reason(r.rank())).unwrap()) {
            assert_eq!(found.as_deref(), Some("no"));
        }
        assert!(each(2, |r| first_reason(r, None).unwrap()).iter().all(Option::is_none));
        assert_eq!(
            each(2, |r| first_reason(r, (r.rank() == 1).then(String::new)).unwrap())[0],
            Some(String::new())
        );
    }

    #[test]
    fn parts_are_summed_piece_by_piece_whatever_their_lengths() {
        for lengths in [vec![], vec![0, 3], vec![PIECE - 1, 1, 5], vec![2 * PIECE + 1]] {
            let wanted = each(3, |r| {
                let mut parts: Vec<Vec<f32>> =
                    lengths.iter().map(|&n| (0..n).map(|i| (i % 1000 + r.rank()) as f32).collect()).collect();
                sum_all(r, parts.iter_mut().map(Vec::as_mut_slice)).unwrap();
                parts
            });
            for parts in &wanted {
                assert_eq!(parts.iter().map(Vec::len).collect::<Vec<_>>(), lengths);
                let right = |(i, v): (usize, &f32)| *v == (3 * (i % 1000) + 3) as f32;
                assert!(parts.iter().all(|p| p.iter().enumerate().all(right)));
            }
        }
    }
}
