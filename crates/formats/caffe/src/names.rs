//! Unique names.

use std::collections::HashSet;

/// The names in use.
#[derive(Debug, Default)]
pub(crate) struct Names(HashSet<String>);

impl Names {
    /// `base`, or with the first number from 2 on that makes it new (`base_2`); taken from now on.
    pub fn unique(&mut self, base: &str) -> String {
        let mut name = base.to_owned();
        let mut i = 1;
        while !self.0.insert(name.clone()) {
            i += 1;
            name = format!("{base}_{i}");
        }
        name
    }
}

impl FromIterator<String> for Names {
    fn from_iter<I: IntoIterator<Item = String>>(names: I) -> Self {
        Self(names.into_iter().collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_numbered_from_the_second_on() {
        let mut names: Names = ["a".to_string(), "b_2".to_string()].into_iter().collect();
        let given: Vec<String> = ["a", "b", "b", "a"].map(|base| names.unique(base)).into();
        assert_eq!(given, ["a_2", "b", "b_3", "a_3"]);
    }
}
