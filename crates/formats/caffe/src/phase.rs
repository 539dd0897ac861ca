//! Which layers a net has in a given state: `include` and `exclude` rules.

use std::path::Path;

use crate::error::CaffeError;
use crate::proto::{LayerParameter, NetStateRule};

/// Phase that a net is built for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Phase {
    /// Training: losses, auxiliary heads, the training data.
    Train,
    /// Testing and deployment.
    Test,
}

/// The state that layers' rules are compared with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct State<'a> {
    pub phase: Phase,
    pub level: i32,
    pub stages: &'a [String],
}

impl State<'_> {
    /// Whether `layer` belongs to the net: by its `include` rules if it has any, else unless an `exclude`
    /// rule holds.
    pub(crate) fn has(&self, path: &Path, layer: &LayerParameter) -> Result<bool, CaffeError> {
        if !layer.include.is_empty() && !layer.exclude.is_empty() {
            return Err(CaffeError::Layer {
                path: path.into(),
                layer: layer.name().into(),
                field: "include".into(),
                reason: "a layer has either include or exclude rules, not both".into(),
            });
        }
        Ok(if layer.include.is_empty() {
            !layer.exclude.iter().any(|r| self.meets(r))
        } else {
            layer.include.iter().any(|r| self.meets(r))
        })
    }

    fn meets(&self, rule: &NetStateRule) -> bool {
        let phase = match self.phase {
            Phase::Train => crate::proto::Phase::Train,
            Phase::Test => crate::proto::Phase::Test,
        };
        let has = |stage: &String| self.stages.contains(stage);
        rule.phase.is_none_or(|p| p == phase as i32)
            && rule.min_level.is_none_or(|l| self.level >= l)
            && rule.max_level.is_none_or(|l| self.level <= l)
            && rule.stage.iter().all(has)
            && !rule.not_stage.iter().any(has)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn layer(text: &str) -> LayerParameter {
        crate::text::parse(Path::new("t"), text, "LayerParameter").unwrap()
    }

    #[test]
    fn rules_decide_as_in_caffe() {
        let stages = ["deploy".to_owned()];
        let state = |phase, level| State { phase, level, stages: &stages };
        let table = [
            ("", true, true),
            ("include { phase: TRAIN }", true, false),
            ("include { phase: TEST }", false, true),
            ("exclude { phase: TEST }", true, false),
            ("include { phase: TRAIN } include { phase: TEST }", true, true),
            ("include { min_level: 2 }", false, false),
            ("include { max_level: 1 }", true, true),
            ("include { stage: 'deploy' }", true, true),
            ("include { stage: 'deploy' stage: 'other' }", false, false),
            ("include { not_stage: 'deploy' }", false, false),
            ("exclude { not_stage: 'other' }", false, false),
        ];
        let failing: Vec<_> = table
            .iter()
            .filter(|(text, train, test)| {
                let layer = layer(text);
                let has = |phase| state(phase, 1).has(Path::new("t"), &layer).unwrap();
                (has(Phase::Train), has(Phase::Test)) != (*train, *test)
            })
            .collect();
        assert!(failing.is_empty(), "{failing:?}");
    }

    #[test]
    fn both_kinds_of_rules_are_refused() {
        let layer = layer("name: 'x' include { phase: TEST } exclude { phase: TEST }");
        let state = State { phase: Phase::Test, level: 0, stages: &[] };
        let error = state.has(Path::new("net.prototxt"), &layer).unwrap_err().to_string();
        assert!(error.contains("net.prototxt") && error.contains("`x`"), "{error}");
    }
}
