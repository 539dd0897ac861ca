//! Names of values as MIL allows them: letters, digits and underscores, not beginning with a digit.

use std::collections::HashSet;

/// Words with a meaning of their own in the text form of a program.
const RESERVED: [&str; 24] = [
    "any", "bool", "program", "func", "tensor", "list", "dict", "tuple", "true", "false", "string", "bf16",
    "fp16", "fp32", "fp64", "int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64",
    "state",
];

/// Gives each value a name of its own.
#[derive(Default)]
pub struct Names(HashSet<String>);

impl Names {
    /// A free name that is `wanted` with forbidden characters replaced, numbered where that is taken.
    pub fn free(&mut self, wanted: &str) -> String {
        let allowed = |c: char| if c.is_ascii_alphanumeric() { c } else { '_' };
        let mut name: String = wanted.chars().map(allowed).collect();
        if name.chars().next().is_none_or(|c| c.is_ascii_digit()) || RESERVED.contains(&name.as_str()) {
            name.insert(0, '_');
        }
        let base = name.clone();
        let mut number = 1;
        while !self.0.insert(name.clone()) {
            number += 1;
            name = format!("{base}_{number}");
        }
        name
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_valid_and_distinct() {
        let mut names = Names::default();
        assert_eq!(names.free("conv1.weight"), "conv1_weight");
        assert_eq!(names.free("conv1/weight"), "conv1_weight_2");
        assert_eq!(names.free("123"), "_123");
        assert_eq!(names.free(""), "_");
        assert_eq!(names.free("état"), "_tat");
        assert_eq!(names.free("tensor"), "_tensor");
    }
}
