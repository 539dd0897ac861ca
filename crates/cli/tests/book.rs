//! The documentation: its commands run, its links lead somewhere, every page is listed, and the reference is up to date.

mod common;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use common::{run, sample_model, slq};
use tempfile::TempDir;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").canonicalize().unwrap()
}

fn page(name: &str) -> String {
    let path = root().join("docs").join(name);
    std::fs::read_to_string(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
}

/// All pages under `docs/`.
fn pages() -> Vec<PathBuf> {
    let (mut found, mut folders) = (Vec::new(), vec![root().join("docs")]);
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|e| e == "md") {
                found.push(path);
            }
        }
    }
    assert!(found.len() > 30, "{} pages found", found.len());
    found
}

/// The lines of a page outside its code, with what is in backticks left out.
fn prose(text: &str) -> Vec<String> {
    let plain = |line: &str| line.split('`').step_by(2).collect::<Vec<_>>().join("\u{0}");
    lines(text).filter_map(|line| line.err().map(plain)).collect()
}

/// The commands in the `sh` blocks of a page.
fn commands(text: &str) -> Vec<String> {
    let mut inside = false;
    let mut found = Vec::new();
    for line in text.lines() {
        match line {
            "```sh" => inside = true,
            "```" => inside = false,
            command if inside => found.push(command.to_owned()),
            _ => {}
        }
    }
    found
}

/// A folder with what the pages assume: a network in two formats, images with labels, pictures without.
fn folder() -> TempDir {
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name).display().to_string();
    std::fs::copy(sample_model(), at("net.onnx")).unwrap();
    run(&["convert", &at("net.onnx"), &at("net.caffemodel"), "--quiet"]);
    let (_, data) = slq::sample().unwrap();
    let train = data.train.subset("::4").unwrap();
    let small = slq::data::Dataset::of(train, data.test.subset(":500").unwrap());
    slq::files::write_npz(&small, Path::new(&at("images.npz"))).unwrap();
    std::fs::create_dir(at("pictures")).unwrap();
    for i in 0..64 {
        let one = data.test.subset(&format!("{i}:{}", i + 1)).unwrap();
        let tensor = slq::inference::split_tensor(&one, &slq::Transform::default()).unwrap();
        let pixels = tensor.as_f32().unwrap().iter().map(|v| (255.0 * v).round() as u8).collect();
        let picture = image::GrayImage::from_raw(28, 28, pixels).unwrap();
        picture.save(at(&format!("pictures/{i}.png"))).unwrap();
    }
    std::fs::copy(at("pictures/0.png"), at("picture.png")).unwrap();
    dir
}

/// Runs every command of a page in its order, as a reader would.
fn works(name: &str) {
    let dir = folder();
    let commands = commands(&page(name));
    assert!(!commands.is_empty(), "{name} has no commands");
    for command in commands {
        let (words, to) = match command.split_once(" > ") {
            Some((words, to)) => (words, Some(to)),
            None => (command.as_str(), None),
        };
        let mut words = words.split_whitespace();
        assert_eq!(words.next(), Some("slq"), "{name}: {command}");
        let output = slq().args(words).current_dir(&dir).stdin(Stdio::null()).output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{name}: {command}\n{said}");
        if let Some(to) = to {
            std::fs::write(dir.path().join(to), &output.stdout).unwrap();
        }
    }
    for html in std::fs::read_dir(&dir)
        .unwrap()
        .map(|e| e.unwrap().path())
        .filter(|p| p.extension().is_some_and(|e| e == "html"))
    {
        let text = std::fs::read_to_string(&html).unwrap();
        assert!(text.starts_with("<!DOCTYPE html>") && text.len() < 1_000_000, "{name}: {}", html.display());
    }
}

#[test]
fn the_start_works() {
    works("start.md");
}

#[test]
fn the_guide_for_labels_works() {
    works("guides/labels.md");
}

#[test]
fn the_guide_for_pictures_works() {
    works("guides/pictures.md");
}

#[test]
fn the_guide_without_data_works() {
    works("guides/network.md");
}

#[test]
fn the_guide_for_sizes_works() {
    works("guides/size.md");
}

#[test]
fn the_guide_for_caffe_works() {
    works("guides/caffe.md");
}

#[test]
fn the_guide_for_results_works() {
    works("guides/use.md");
}

#[test]
fn the_page_of_reports_works() {
    works("report.md");
}

#[test]
fn the_page_of_installing_works() {
    works("installing.md");
}

#[test]
fn every_guide_has_a_test() {
    let source = include_str!("book.rs");
    for entry in std::fs::read_dir(root().join("docs/guides")).unwrap() {
        let name = entry.unwrap().file_name().into_string().unwrap();
        assert!(source.contains(&format!("works(\"guides/{name}\")")), "{name}");
    }
}

/// Where `[text](target)` points, line by line.
fn links(text: &str) -> Vec<String> {
    let prose = prose(text);
    let targets = prose.iter().flat_map(|l| l.split("](").skip(1)).filter_map(|rest| rest.split(')').next());
    targets.map(str::to_owned).collect()
}

/// The anchor that a heading gets.
fn anchor(heading: &str) -> String {
    let kept = heading.trim().to_lowercase();
    let kept = kept.chars().filter(|c| c.is_alphanumeric() || " -_".contains(*c));
    kept.map(|c| if c == ' ' { '-' } else { c }).collect()
}

fn anchors(text: &str) -> BTreeSet<String> {
    let mut fenced = false;
    let mut found = BTreeSet::new();
    for line in text.lines() {
        fenced ^= line.trim_start().starts_with("```");
        if let (false, Some(heading)) = (fenced, line.strip_prefix('#')) {
            found.insert(anchor(heading.trim_start_matches('#')));
        }
    }
    found
}

#[test]
fn every_link_leads_somewhere() {
    let further = ["README.md", "CONTRIBUTING.md", "CHANGELOG.md"].map(|f| root().join(f));
    let mut broken = Vec::new();
    for from in pages().into_iter().chain(further) {
        let text = std::fs::read_to_string(&from).unwrap();
        for link in links(&text).iter().filter(|l| !l.starts_with("http")) {
            let (path, place) = link.split_once('#').unwrap_or((link, ""));
            let to = if path.is_empty() { from.clone() } else { from.parent().unwrap().join(path) };
            let there = match (to.exists(), place) {
                (exists, "") => exists,
                (true, place) => anchors(&std::fs::read_to_string(&to).unwrap()).contains(place),
                _ => false,
            };
            if !there {
                broken.push(format!("{}: {link}", from.display()));
            }
        }
    }
    assert!(broken.is_empty(), "{}", broken.join("\n"));
}

/// The lines of a page: indented and fenced ones as `Ok`, trimmed, and others as `Err`.
fn lines(text: &str) -> impl Iterator<Item = Result<String, &str>> {
    let mut fenced = false;
    text.lines().filter_map(move |line| {
        if line.trim_start().starts_with("```") {
            fenced = !fenced;
            return None;
        }
        Some(if fenced || line.starts_with("    ") { Ok(line.trim().to_owned()) } else { Err(line) })
    })
}

/// What stands in the code of a page: indented and fenced lines, and what is in backticks.
fn code(text: &str) -> Vec<String> {
    let ticked = |line: &str| line.split('`').skip(1).step_by(2).map(|c| c.trim().to_owned()).collect();
    lines(text).flat_map(|line| line.map_or_else(ticked, |block| vec![block])).collect()
}

/// Commands that name files of the reader cannot be run here; their subcommands and flags are looked up.
#[test]
fn every_command_has_flags_that_exist() {
    let further = ["README.md", "CONTRIBUTING.md"].map(|f| root().join(f));
    let mut helps = std::collections::BTreeMap::<String, String>::new();
    let (mut wrong, mut seen) = (Vec::new(), 0);
    for from in pages().into_iter().chain(further) {
        let text = std::fs::read_to_string(&from).unwrap();
        for line in code(&text) {
            let Some((_, rest)) = line.split_once("slq ").filter(|(b, _)| b.is_empty() || b.ends_with("/"))
            else {
                continue;
            };
            let rest = rest.split(" # ").next().unwrap_or_default();
            let mut words = rest.split_whitespace().map(|w| w.trim_matches(['\'', '"', '[', ']', ',']));
            let Some(command) =
                words.next().filter(|w| w.chars().all(|c| c.is_ascii_lowercase() || c == '-'))
            else {
                continue;
            };
            let help = helps.entry(command.to_owned()).or_insert_with(|| match command.starts_with('-') {
                true => String::from_utf8(run(&["--help"]).stdout).unwrap(),
                false => {
                    let output = slq().args([command, "--help"]).output().unwrap();
                    if output.status.success() {
                        String::from_utf8(output.stdout).unwrap()
                    } else {
                        String::new()
                    }
                }
            });
            seen += 1;
            let known = |flag: &str| {
                let flag = flag.split('=').next().unwrap_or_default();
                help.split(|c: char| c.is_whitespace() || "[,=".contains(c)).any(|w| w == flag)
            };
            let unknown: Vec<&str> =
                words.filter(|w| w.starts_with("--") && w.len() > 2 && !known(w)).collect();
            if help.is_empty() || !unknown.is_empty() {
                wrong.push(format!("{}: slq {rest} ({})", from.display(), unknown.join(", ")));
            }
        }
    }
    assert!(seen > 100, "{seen} commands found");
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// What commands outside of the guides name that the sample has not.
const FOREIGN: [&str; 11] = [
    "IMAGES",
    "two-stages.toml",
    "mpirun",
    "resnet18",
    "encoder.onnx",
    "inputs.npz",
    ".prototxt",
    "slq-runs/lenet",
    "image.jpg",
    "weights.safetensors",
    "--graph model.onnx",
];

/// A page's commands that the sample can run, with its data in place of the reader's, and short trainings.
fn further_commands(text: &str) -> Vec<Vec<String>> {
    let lines =
        lines(text).flatten().filter(|l| l.starts_with("slq ") && !FOREIGN.iter().any(|f| l.contains(f)));
    let whole = lines.filter(|l| l.contains(".onnx") || l.contains(".slq") || l.contains(".npy"));
    let words = whole.map(|line| {
        let line = line.split(" # ").next().unwrap_or_default().trim_end_matches([';', '.']).to_owned();
        let line = line
            .replace("--data DATASET", "--data images.npz")
            .replace("--data images/", "--data images.npz");
        let line = line.replace("--data images.zip", "--data images.npz").replace("model.onnx", "net.onnx");
        let line = line.replace("images/", "pictures/").replace(" --resize 256 --crop 224", "");
        let line = line.replace("--mean 0.485,0.456,0.406 --std 0.229,0.224,0.225", "");
        let mut words: Vec<String> = line.split_whitespace().skip(1).map(Into::into).collect();
        if ["compress", "decompose"].contains(&&*words[0]) && line.contains("--data") {
            words.extend(["--train-subset", "::4", "--test-subset", "::4"].map(Into::into));
        }
        if words[0] == "compress" && line.contains("--data") && !line.contains("kmeans") {
            words.extend(["--iterations-per-round", "2"].map(Into::into));
        }
        words
    });
    words
        .filter(|w| {
            ["compress", "convert", "eval", "bench", "decompose", "sensitivity", "cluster"].contains(&&*w[0])
        })
        .collect()
}

#[test]
fn the_commands_of_other_pages_work() {
    let dir = folder();
    let values: Vec<f32> =
        (0..4096).map(|i: u32| (i.wrapping_mul(2_654_435_761) >> 8) as f32 / 16_777_216.0).collect();
    let weights = slq::graph::Tensor::f32(vec![64, 64], values).unwrap();
    slq::arrays::write(&dir.path().join("weights.npy"), &weights).unwrap();
    run(&[
        "compress",
        &sample_model(),
        "--bits",
        "4",
        "--quiet",
        "-o",
        &dir.path().join("small.onnx").display().to_string(),
    ]);
    let mut ran = 0;
    let mut failed = Vec::new();
    for page in pages().into_iter().chain([root().join("README.md")]) {
        let text = std::fs::read_to_string(&page).unwrap();
        let generated = ["results", "reference.md"].map(std::ffi::OsStr::new);
        if text.contains("```sh") || page.components().any(|c| generated.contains(&c.as_os_str())) {
            continue; // Guides have tests of their own; results take hours.
        }
        for words in further_commands(&text) {
            let began = std::time::Instant::now();
            let output = slq().args(&words).current_dir(&dir).stdin(Stdio::null()).output().unwrap();
            ran += 1;
            println!("{:.1} s: slq {}", began.elapsed().as_secs_f32(), words.join(" "));
            if !output.status.success() {
                let said = String::from_utf8_lossy(&output.stderr);
                failed.push(format!("{}: slq {}\n{said}", page.display(), words.join(" ")));
            }
        }
    }
    assert!(failed.is_empty(), "{}", failed.join("\n"));
    assert!(ran > 30, "{ran} commands ran");
}

#[test]
fn every_page_is_in_the_table_of_contents() {
    let docs = root().join("docs");
    let listed: BTreeSet<PathBuf> = links(&page("SUMMARY.md")).iter().map(|l| docs.join(l)).collect();
    let all: BTreeSet<PathBuf> = pages().into_iter().filter(|p| !p.ends_with("SUMMARY.md")).collect();
    assert_eq!(listed, all);
}

/// The reference is what the program says of itself: `SLQ_UPDATE=1 cargo test -p slq-cli --test book reference` writes it anew.
#[test]
fn the_reference_is_up_to_date() {
    let now = String::from_utf8(run(&["pages", "--reference"]).stdout).unwrap();
    if std::env::var_os("SLQ_UPDATE").is_some() {
        std::fs::write(root().join("docs/reference.md"), &now).unwrap();
    }
    assert!(
        now == page("reference.md"),
        "docs/reference.md is out of date: SLQ_UPDATE=1 cargo test -p slq-cli --test book reference"
    );
}

/// `scripts/site` builds the site and fails on a link that leads nowhere; here on two small sites made for it.
#[test]
fn links_of_the_site_are_checked() {
    let check = |link: &str| {
        let dir = tempfile::tempdir().unwrap();
        let page = format!("<p id=\"here\"><a href=\"{link}\">link</a></p>");
        std::fs::create_dir(dir.path().join("guides")).unwrap();
        std::fs::write(dir.path().join("index.html"), "<p id=\"top\"></p>").unwrap();
        std::fs::write(dir.path().join("guides/one.html"), page).unwrap();
        let script = root().join("scripts/check-site.py");
        match std::process::Command::new("python3").arg(script).arg(dir.path()).output() {
            Ok(output) => Some(output.status.success()),
            Err(_) => None,
        }
    };
    let Some(good) = check("../index.html#top") else {
        eprintln!("SKIPPED links_of_the_site_are_checked: there is no python3");
        return;
    };
    assert!(good && check("#here").unwrap() && check("https://example.org/none").unwrap());
    for wrong in ["#none", "none.html", "../index.html#none", "../../README.html", "../none/"] {
        assert!(!check(wrong).unwrap(), "{wrong}");
    }
}
