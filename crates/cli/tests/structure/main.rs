//! How the workspace is built: no cycle among the modules of a crate, lower crates import no upper ones, no `unsafe`
//! outside the crate of kernels.

mod cycles;
mod modules;
mod tokens;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use cycles::{Kind, cycles};

/// Folders under `crates/` from the lowest layer to the highest; those of one row may import one another.
const LAYERS: &[&[&str]] = &[
    &["core"],
    &["formats", "compute", "data", "zoo", "report"],
    &["compress"],
    &["slq"],
    &["cli", "python", "web"],
];

/// The crate that holds all SIMD and `unsafe` code.
const KERNELS: &str = "slq-kernels";

/// Crates with one small module that must be unsafe: their root denies `unsafe_code`, one line allows it.
const ONE_UNSAFE_MODULE: &[&str] = &["slq-data", "slq-c", "slq-web"];

struct Crate {
    name: String,
    /// The folder, relative to `crates/`.
    folder: PathBuf,
    /// Names of the workspace's crates that it depends on, for tests or otherwise.
    dependencies: Vec<String>,
    /// The root files of its library and its program.
    roots: Vec<PathBuf>,
}

fn crates_folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_path_buf()
}

/// Every crate under `crates/`.
fn crates() -> Vec<Crate> {
    let mut found = Vec::new();
    let mut folders = vec![crates_folder()];
    while let Some(folder) = folders.pop() {
        if folder.join("Cargo.toml").exists() {
            found.push(read_crate(&folder));
            continue;
        }
        for entry in std::fs::read_dir(&folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            }
        }
    }
    assert!(found.len() > 10, "{} crates found", found.len());
    found
}

fn read_crate(folder: &Path) -> Crate {
    let text = std::fs::read_to_string(folder.join("Cargo.toml")).unwrap();
    let manifest: toml::Table = text.parse().unwrap();
    let tables = ["dependencies", "dev-dependencies", "build-dependencies"];
    let tables = tables.iter().filter_map(|t| manifest.get(*t)?.as_table());
    let dependencies = tables.flat_map(|t| t.keys().filter(|k| k.starts_with("slq-")).cloned()).collect();
    let roots = ["src/lib.rs", "src/main.rs"].map(|f| folder.join(f)).into_iter().filter(|f| f.exists());
    Crate {
        name: manifest["package"]["name"].as_str().unwrap().into(),
        folder: folder.strip_prefix(crates_folder()).unwrap().into(),
        dependencies,
        roots: roots.collect(),
    }
}

/// Fails with what is wrong, crate by crate.
fn assert_none(wrong: BTreeMap<String, String>) {
    let text: Vec<_> = wrong.iter().map(|(name, text)| format!("{name}:\n{text}")).collect();
    assert!(wrong.is_empty(), "{}", text.join("\n"));
}

/// The cycles of every crate that has some.
fn all_cycles(kind: Kind) -> BTreeMap<String, String> {
    let mut wrong = BTreeMap::new();
    for krate in crates() {
        let found: Vec<_> = krate.roots.iter().flat_map(|r| cycles(&modules::read(r), kind)).collect();
        if !found.is_empty() {
            wrong.insert(krate.name, found.join("\n"));
        }
    }
    wrong
}

#[test]
fn modules_form_no_cycle() {
    assert_none(all_cycles(Kind::Siblings));
}

#[test]
fn no_module_imports_a_child_that_imports_it() {
    assert_none(all_cycles(Kind::Parent));
}

#[test]
fn lower_crates_import_no_upper_ones() {
    let crates = crates();
    let layer = |krate: &Crate| {
        let first = krate.folder.iter().next().unwrap().to_str().unwrap();
        let found = LAYERS.iter().position(|row| row.contains(&first));
        found.unwrap_or_else(|| panic!("{} lies in no layer: name its folder in LAYERS", krate.name))
    };
    let by_name: BTreeMap<_, _> = crates.iter().map(|c| (c.name.as_str(), layer(c))).collect();
    for krate in &crates {
        for other in &krate.dependencies {
            assert!(
                by_name[other.as_str()] <= layer(krate),
                "{} depends on {other}, which lies above it",
                krate.name
            );
        }
        if krate.name == KERNELS {
            assert!(
                krate.dependencies.is_empty(),
                "{KERNELS} is the lowest crate, but depends on {:?}",
                krate.dependencies
            );
        }
    }
}

#[test]
fn unsafe_code_is_forbidden() {
    let mut wrong = BTreeMap::new();
    for krate in crates() {
        for root in &krate.roots {
            let says = |what: &str| {
                let source = std::fs::read_to_string(root).unwrap();
                source.lines().any(|l| l.trim() == format!("#![{what}(unsafe_code)]"))
            };
            let fine = match krate.name.as_str() {
                KERNELS => true,
                name if ONE_UNSAFE_MODULE.contains(&name) => says("deny") && allowed(root) == 1,
                _ => says("forbid"),
            };
            if !fine {
                wrong.insert(krate.name.clone(), format!("  {} does not forbid unsafe code", root.display()));
            }
        }
    }
    assert_none(wrong);
}

/// How many times a crate's sources allow `unsafe_code`.
fn allowed(root: &Path) -> usize {
    let (mut count, mut folders) = (0, vec![root.parent().unwrap().to_path_buf()]);
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(&folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|e| e == "rs") {
                count += std::fs::read_to_string(&path).unwrap().matches("allow(unsafe_code)").count();
            }
        }
    }
    count
}

/// A crate in a folder of its own: (file, source).
fn sources(files: &[(&str, &str)]) -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    for (file, source) in files {
        let path = dir.path().join(file);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, source).unwrap();
    }
    dir
}

#[test]
fn cycles_are_found_and_named() {
    /// A name, the files with their text, the cycles.
    type Case = (&'static str, &'static [(&'static str, &'static str)], &'static [&'static str]);
    let table: &[Case] = &[
        (
            "siblings",
            &[
                ("lib.rs", "mod a; mod b;"),
                ("a.rs", "use crate::b::B;"),
                ("b.rs", "fn f() { crate::a::f() }"),
            ],
            &["a imports b", "b imports a"],
        ),
        (
            "a tree",
            &[
                ("lib.rs", "mod a; mod b;"),
                ("a.rs", "use crate::{b::{self, B}, c};"),
                ("b.rs", "use super::a::{A};"),
            ],
            &["a.rs, line 1: crate::b"],
        ),
        (
            "a ring of three through re-exports",
            &[
                ("lib.rs", "mod a; mod b; mod c; pub use a::A; pub use b::B; pub use self::c::{C, D as E};"),
                ("a.rs", "use crate::{B};"),
                ("b.rs", "use crate::E;"),
                ("c.rs", "type X = super::A;"),
            ],
            &["a imports b", "b imports c", "c imports a"],
        ),
        (
            "a child and its folder",
            &[
                ("lib.rs", "mod a;"),
                ("a/mod.rs", "mod b; pub use b::B; struct A; fn f(b: B) {}"),
                ("a/b.rs", "use super::A; pub struct B;"),
            ],
            &["(its own file) imports b", "in a:"],
        ),
        (
            "deep",
            &[
                ("lib.rs", "mod a; mod b { use crate::a::x::y::Y; }"),
                ("a.rs", "mod x;"),
                ("a/x.rs", "mod y { fn f() { super::super::super::b::f() } }"),
            ],
            &["the crate's root", "b imports a"],
        ),
    ];
    for (name, files, expected) in table {
        let dir = sources(files);
        let modules = modules::read(&dir.path().join("lib.rs"));
        let said = [Kind::Siblings, Kind::Parent].map(|kind| cycles(&modules, kind).join("\n")).concat();
        for text in *expected {
            assert!(said.contains(text), "{name}: {text:?} is not in {said:?}");
        }
    }
}

#[test]
fn what_is_no_cycle_is_not_named() {
    let table: &[(&str, &[(&str, &str)])] = &[
        (
            "tests",
            &[
                ("lib.rs", "mod a; mod b;"),
                ("a.rs", "use crate::b::B;"),
                ("b.rs", "#[cfg(test)] mod tests { use crate::a::A; } #[cfg(test)] use crate::a::A;"),
            ],
        ),
        (
            "texts and comments",
            &[
                ("lib.rs", "mod a; mod b;"),
                ("a.rs", "use crate::b::B;"),
                ("b.rs", "// crate::a::A\nconst T: &str = \"crate::a\"; /* super::a */"),
            ],
        ),
        (
            "a facade",
            &[
                ("lib.rs", "mod a; pub use a::{A, F};"),
                ("a/mod.rs", "mod b; mod c; pub use b::B; pub struct A;"),
                ("a/b.rs", "use super::A; use crate::F; pub struct B;"),
                ("a/c.rs", "use super::B;"),
            ],
        ),
        (
            "other crates",
            &[
                ("lib.rs", "mod a; mod b;"),
                ("a.rs", "use crate::b::B; use std::b::C;"),
                ("b.rs", "use a1::A; use ::a::A;"),
            ],
        ),
    ];
    for (name, files) in table {
        let dir = sources(files);
        let modules = modules::read(&dir.path().join("lib.rs"));
        let said = [Kind::Siblings, Kind::Parent].map(|kind| cycles(&modules, kind)).concat();
        assert!(said.is_empty(), "{name}: {said:?}");
    }
}
