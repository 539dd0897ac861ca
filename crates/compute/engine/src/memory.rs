//! Assignment of buffers: values whose lifetimes do not overlap share one.

use std::collections::BTreeMap;

use slq_kernels::Buffer;

use crate::error::EngineError;
use crate::limits;

/// A span of plan time in which a value must keep its contents. Times are inclusive: an operator reads its
/// inputs and writes its output at the same time, so the two must not share a buffer unless it works in place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Lifetime {
    pub start: usize,
    pub end: usize,
}

#[cfg(test)]
impl Lifetime {
    fn overlaps(self, other: Lifetime) -> bool {
        self.start <= other.end && other.start <= self.end
    }
}

/// A tensor to be placed.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Object {
    pub len: usize,
    pub life: Lifetime,
}

/// Which slot each object lives in, and how many values each slot holds.
#[derive(Debug, Default)]
pub(crate) struct Slots {
    pub slot_of: Vec<usize>,
    pub lens: Vec<usize>,
}

/// Slots that are looked through for a free one; only networks with more values alive at once than this have more.
const LOOKED_THROUGH: usize = 512;

/// The lives of the values in one slot, which do not overlap, by their start.
#[derive(Default)]
struct Tenants(BTreeMap<usize, usize>);

impl Tenants {
    /// Whether no value lives there during `life`: of those that begin before its end, the last one decides.
    fn are_gone(&self, life: Lifetime) -> bool {
        self.0.range(..=life.end).next_back().is_none_or(|(_, &end)| end < life.start)
    }
}

/// Places objects, largest first, each into the first slot that is free during its whole life.
pub(crate) fn assign(objects: &[Object]) -> Slots {
    let mut order: Vec<usize> = (0..objects.len()).collect();
    order.sort_by_key(|&i| (std::cmp::Reverse(objects[i].len), objects[i].life.start, i));
    let mut slots = Slots { slot_of: vec![0; objects.len()], lens: Vec::new() };
    let mut tenants: Vec<Tenants> = Vec::new();
    for i in order {
        let life = objects[i].life;
        let slot = tenants.iter().take(LOOKED_THROUGH).position(|t| t.are_gone(life));
        let slot = slot.unwrap_or_else(|| {
            tenants.push(Tenants::default());
            slots.lens.push(objects[i].len);
            tenants.len() - 1
        });
        tenants[slot].0.insert(life.start, life.end);
        slots.slot_of[i] = slot;
    }
    slots
}

/// Values from which the room for a buffer is checked on its own.
const LARGE: usize = 4 << 20;

/// Checks that a plan for `batch` images may take `bytes` at all.
pub(crate) fn check_total(batch: usize, bytes: usize) -> Result<(), EngineError> {
    check(batch, bytes, limits::total_bytes())
}

/// Checks that `bytes` more are free; small amounts are not looked at.
pub(crate) fn check_free(batch: usize, bytes: usize) -> Result<(), EngineError> {
    if bytes < 4 * LARGE {
        return Ok(());
    }
    check(batch, bytes, limits::free_bytes())
}

fn check(batch: usize, bytes: usize, available: Option<usize>) -> Result<(), EngineError> {
    match available {
        Some(available) if bytes > available => Err(refused(batch, bytes, available)),
        _ => Ok(()),
    }
}

/// The error of a batch that does not fit, with one that would: memory grows with the batch.
fn refused(batch: usize, bytes: usize, available: usize) -> EngineError {
    let fits = (batch as f64 * 0.9 * available as f64 / bytes.max(1) as f64) as usize;
    EngineError::Memory { batch, bytes, available, fits: fits.min(batch.saturating_sub(1)) }
}

/// Makes `buffer` at least `len` values long; longer ones keep their length, the values are lost.
///
/// # Errors
/// [`EngineError::Memory`] where the system refuses.
pub(crate) fn grow(buffer: &mut Buffer, len: usize, batch: usize) -> Result<(), EngineError> {
    if buffer.len() >= len {
        return Ok(());
    }
    if buffer.try_replace(len).is_err() {
        let bytes = len.saturating_mul(4);
        return Err(refused(batch, bytes, limits::free_bytes().unwrap_or(0).min(bytes)));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn object(len: usize, start: usize, end: usize) -> Object {
        Object { len, life: Lifetime { start, end } }
    }

    #[test]
    fn what_does_not_fit_names_a_batch_that_would() {
        let error = check(512, 1000, Some(500)).unwrap_err();
        assert!(matches!(error, EngineError::Memory { fits: 230, .. }), "{error}");
        assert!(error.to_string().contains("230"), "{error}");
        let error = check(1, 1000, Some(900)).unwrap_err().to_string();
        assert!(error.contains("not even one"), "{error}");
        assert!(check(1, 1000, None).is_ok());
        let mut buffer = Buffer::zeros(3);
        assert!(matches!(grow(&mut buffer, usize::MAX / 8, 9), Err(EngineError::Memory { batch: 9, .. })));
        grow(&mut buffer, 5, 9).unwrap();
        assert_eq!(buffer[..], [0.0; 5]);
    }

    #[test]
    fn a_chain_needs_two_buffers() {
        let chain: Vec<Object> = (0..10).map(|t| object(100 - t, t, t + 1)).collect();
        let slots = assign(&chain);
        assert_eq!(slots.lens, [100, 99]);
    }

    #[test]
    fn values_that_touch_do_not_share() {
        let slots = assign(&[object(5, 0, 3), object(5, 3, 4), object(5, 4, 9)]);
        assert_eq!(slots.slot_of, [0, 1, 0]);
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        fn no_two_live_objects_share_a_slot(
            spans in proptest::collection::vec((1usize..1000, 0usize..50, 0usize..20), 1..60)
        ) {
            let objects: Vec<Object> = spans.iter().map(|&(n, s, d)| object(n, s, s + d)).collect();
            let slots = assign(&objects);
            for (i, a) in objects.iter().enumerate() {
                prop_assert!(slots.lens[slots.slot_of[i]] >= a.len);
                for (j, b) in objects.iter().enumerate().skip(i + 1) {
                    prop_assert!(slots.slot_of[i] != slots.slot_of[j] || !a.life.overlaps(b.life));
                }
            }
        }
    }
}
