//! Assignment of buffers: values whose lifetimes do not overlap share one.

/// A span of plan time in which a value must keep its contents. Times are inclusive: an operator reads its
/// inputs and writes its output at the same time, so the two must not share a buffer unless it works in place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Lifetime {
    pub start: usize,
    pub end: usize,
}

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

/// Places objects, largest first, each into the first slot that is free during its whole life.
pub(crate) fn assign(objects: &[Object]) -> Slots {
    let mut order: Vec<usize> = (0..objects.len()).collect();
    order.sort_by_key(|&i| (std::cmp::Reverse(objects[i].len), objects[i].life.start, i));
    let mut slots = Slots { slot_of: vec![0; objects.len()], lens: Vec::new() };
    let mut tenants: Vec<Vec<Lifetime>> = Vec::new();
    for i in order {
        let life = objects[i].life;
        let slot = tenants.iter().position(|t| t.iter().all(|other| !other.overlaps(life)));
        let slot = slot.unwrap_or_else(|| {
            tenants.push(Vec::new());
            slots.lens.push(objects[i].len);
            tenants.len() - 1
        });
        tenants[slot].push(life);
        slots.slot_of[i] = slot;
    }
    slots
}

/// Bytes of the machine's memory; `None` where they are not known.
pub(crate) fn physical_bytes() -> Option<usize> {
    let text = std::fs::read_to_string("/proc/meminfo").ok()?;
    let line = text.lines().find(|l| l.starts_with("MemTotal:"))?;
    let kib: usize = line.split_whitespace().nth(1)?.parse().ok()?;
    kib.checked_mul(1024)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn object(len: usize, start: usize, end: usize) -> Object {
        Object { len, life: Lifetime { start, end } }
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
