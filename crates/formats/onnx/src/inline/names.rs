//! Names that nothing else in a model has.

use std::collections::{HashMap, HashSet};

/// Names in use.
#[derive(Default)]
pub struct Names {
    taken: HashSet<String>,
    /// The number to try next behind a name that was taken.
    next: HashMap<String, u64>,
}

impl Names {
    /// Marks a name as used.
    pub fn take(&mut self, name: &str) {
        if !self.taken.contains(name) {
            self.taken.insert(name.into());
        }
    }

    /// `base`, or that with a number behind it, which is used from now on.
    pub fn fresh(&mut self, base: String) -> String {
        if self.taken.insert(base.clone()) {
            return base;
        }
        let next = self.next.entry(base.clone()).or_insert(1);
        loop {
            let name = format!("{base}_{next}");
            *next += 1;
            if self.taken.insert(name.clone()) {
                return name;
            }
        }
    }
}
