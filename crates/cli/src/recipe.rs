//! Recipes: everything that a run was made with, as a TOML file that makes it again (docs/recipes.md).

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use slq::{Budget, DecomposeSettings, Settings};

use super::data::DataArgs;

/// Name of the file in a run directory.
pub(crate) const RECIPE: &str = "recipe.toml";

/// A run's inputs and settings; what is left out takes its default.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", default, deny_unknown_fields)]
pub(crate) struct Recipe {
    /// The program's version that wrote it.
    pub(crate) slq: String,
    pub(crate) model: Option<String>,
    pub(crate) weights: Option<PathBuf>,
    pub(crate) graph: Option<PathBuf>,
    /// Whose outputs distillation trains towards; the network itself where there is none.
    pub(crate) teacher: Option<String>,
    pub(crate) data: DataArgs,
    /// A budget that chooses the widths.
    pub(crate) budget: Option<Budget>,
    /// Layers are split into thin ones of low rank first.
    pub(crate) decompose: Option<DecomposeSettings>,
    pub(crate) settings: Settings,
}

impl Recipe {
    pub(crate) fn read(path: &Path) -> Result<Self, slq::Error> {
        let text = std::fs::read_to_string(path).map_err(|e| file_error(path, &e))?;
        // The parser's message spans several lines; the first holds the place, the last the reason.
        toml::from_str(&text).map_err(|e| {
            let line = e.span().map_or(1, |s| text[..s.start.min(text.len())].matches('\n').count() + 1);
            file_error(path, &format!("line {line}: {}", e.message().replace('\n', " ")))
        })
    }

    pub(crate) fn write(&self, path: &Path) -> super::Outcome {
        let body = toml::to_string(self).map_err(|e| file_error(path, &e))?;
        let text = format!("# Made again by: slq compress --recipe {RECIPE} -o OUT\n{body}");
        slq::write_atomically(path, text.as_bytes()).map_err(|e| file_error(path, &e))
    }
}

fn file_error(path: &Path, error: &dyn std::fmt::Display) -> slq::Error {
    slq::Error::File { path: path.into(), reason: error.to_string() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn recipe() -> Recipe {
        let mut settings = Settings {
            method: slq::MethodName::Mlq,
            bits: 2,
            granularity: slq::Granularity::Group(4),
            layers: vec!["conv*=skip".parse().unwrap(), "fc=4".parse().unwrap()],
            schedule: Some(vec![2, 3]),
            ..Settings::default()
        };
        settings.training.duration = slq::Duration::Iterations(7);
        settings.training.lr_policy = "step:0.1:200".parse().unwrap();
        settings.training.distill = Some(2.0);
        Recipe {
            model: Some("net.onnx".into()),
            budget: Some(Budget::Ratio(20.0)),
            decompose: Some(low_rank()),
            settings,
            ..Recipe::default()
        }
    }

    fn low_rank() -> DecomposeSettings {
        let trp = slq::TrpSettings { period: 10, ..slq::TrpSettings::default() };
        DecomposeSettings {
            layers: vec!["conv1=auto".parse().unwrap(), "fc=12".parse().unwrap()],
            trp: Some(trp),
            ..DecomposeSettings::new(slq::Scheme::Spatial, slq::RankChoice::Flops(2.84))
        }
    }

    #[test]
    fn a_recipe_comes_back_as_it_was_written() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join(RECIPE);
        for recipe in [Recipe::default(), recipe()] {
            recipe.write(&path).unwrap();
            assert_eq!(Recipe::read(&path).unwrap(), recipe);
        }
        let text = std::fs::read_to_string(&path).unwrap();
        for line in
            ["method = \"mlq\"", "lr-policy = \"step:0.1:200\"", "granularity = \"group:4\"", "flops = 2.84"]
        {
            assert!(text.contains(line), "{line} is not in {text}");
        }
    }

    #[test]
    fn a_few_lines_are_a_recipe_and_mistakes_are_named_with_their_line() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("short.toml");
        std::fs::write(&path, "[settings]\nbits = 4\ntraining.learning-rate = 0.02\n").unwrap();
        let settings = Recipe::read(&path).unwrap().settings;
        assert_eq!((settings.bits, settings.training.learning_rate), (4, 0.02));
        let short = "[decompose]\nconvolutions = 'channel'\nranks = { energy = 0.9 }\nfine-tune.duration.epochs = 2.0\n";
        std::fs::write(&path, short).unwrap();
        let low_rank = Recipe::read(&path).unwrap().decompose.unwrap();
        assert_eq!(low_rank.ranks, slq::RankChoice::Rule(slq::RankRule::Energy(0.9)));
        assert_eq!(low_rank.fine_tune.unwrap().duration, slq::Duration::Epochs(2.0));
        for (text, word) in [
            ("[decompose]\nconvolutions = 'channel'\n", "ranks"),
            ("[decompose]\nranks = { flops = 2 }\nconvolutions = 'sideways'\n", "sideways"),
            ("[settings]\nbitss = 4\n", "bitss"),
            ("[settings]\n\nmethod = 'magic'\n", "line 3"),
            ("[settings]\ngranularity = 'group:0'\n", "group:0"),
            ("not toml", "line 1"),
        ] {
            std::fs::write(&path, text).unwrap();
            let said = Recipe::read(&path).unwrap_err().to_string();
            assert!(said.contains(word) && said.contains("short.toml") && !said.contains('\n'), "{said}");
        }
    }
}
