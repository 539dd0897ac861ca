//! The header is the one cbindgen makes; a program in C gives what the library gives.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use slq_graph::{Graph, Palette, Tensor, Weight};
use slq_pack::WriteOptions;

fn here() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

#[test]
fn the_header_is_up_to_date() {
    let config = cbindgen::Config::from_file(here().join("cbindgen.toml")).unwrap();
    let made =
        cbindgen::Builder::new().with_src(here().join("src/ffi.rs")).with_config(config).generate().unwrap();
    let mut text = Vec::new();
    made.write(&mut text);
    let path = here().join("include/slq.h");
    if std::env::var_os("SLQ_UPDATE_HEADER").is_some() {
        std::fs::write(&path, &text).unwrap();
    }
    let stored = std::fs::read_to_string(path).unwrap();
    assert_eq!(stored, String::from_utf8(text).unwrap(), "SLQ_UPDATE_HEADER=1 cargo test -p slq-c writes it");
}

/// A LeNet of 16 values a layer.
fn lenet() -> Graph {
    let mut graph = slq_zoo::build("lenet", 1).unwrap();
    for weight in graph.weights.values_mut().filter(|w| w.tensor.shape().len() >= 2) {
        let values = weight.tensor.as_f32().unwrap();
        let most = values.iter().fold(0.0f32, |m, v| m.max(v.abs()));
        let book: Vec<f32> = (0..16).map(|i| most * (i as f32 / 7.5 - 1.0)).collect();
        let codes = values.iter().map(|v| ((v / most + 1.0) * 7.5).round() as u8).collect();
        let palette = Palette::fully_fixed(book, 1, codes).unwrap();
        let tensor = Tensor::f32(weight.tensor.shape().to_vec(), palette.decode()).unwrap();
        *weight = Weight { palette: Some(palette), ..tensor.into() };
    }
    graph
}

/// The folder in which cargo puts the library for C: two above this program.
fn libraries() -> PathBuf {
    std::env::current_exe().unwrap().parent().unwrap().parent().unwrap().to_path_buf()
}

fn compile(folder: &Path) -> PathBuf {
    let program = folder.join("classify");
    let library = ["", "deps"].map(|f| libraries().join(f).join("libslqrt.a"));
    let library = library.iter().find(|l| l.exists()).expect("cargo has built libslqrt.a");
    let done = Command::new("cc")
        .args(["-std=c99", "-Wall", "-Wextra", "-Werror", "-O1", "-I"])
        .arg(here().join("include"))
        .arg(here().join("examples/classify.c"))
        .arg(library)
        .args(["-lm", "-lpthread", "-ldl", "-o"])
        .arg(&program)
        .output()
        .expect("a C compiler named cc");
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    program
}

fn classify(program: &Path, network: &Path, image: &[f32]) -> (bool, String, String) {
    let mut child = Command::new(program)
        .arg(network)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let bytes: Vec<u8> = image.iter().flat_map(|v| v.to_le_bytes()).collect();
    // A program that refuses its file does not read on.
    let _ = child.stdin.take().unwrap().write_all(&bytes);
    let done = child.wait_with_output().unwrap();
    let text = |b: &[u8]| String::from_utf8_lossy(b).into_owned();
    (done.status.success(), text(&done.stdout), text(&done.stderr))
}

#[cfg(unix)]
#[test]
fn a_program_in_c_gives_the_librarys_outputs() {
    let folder = tempfile::tempdir().unwrap();
    let (graph, path) = (lenet(), folder.path().join("lenet.slq"));
    slq_pack::write(&graph, &path, &WriteOptions::default()).unwrap();
    let program = compile(folder.path());
    let image: Vec<f32> = (0..784).map(|i| (i * 37 % 101) as f32 / 101.0).collect();
    let (fine, output, errors) = classify(&program, &path, &image);
    assert!(fine, "{errors}");
    let network = slq_runtime::Network::from_graph(graph, slq_runtime::Expand::Auto).unwrap();
    let x = Tensor::f32(vec![1, 1, 28, 28], image.clone()).unwrap();
    let name = network.graph().inputs[0].name.clone();
    let want = network.session(slq_runtime::Isa::detect()).run(&[(&name, &x)]).unwrap();
    let got: Vec<f32> = output.lines().map(|l| l.parse().unwrap()).collect();
    assert_eq!(got, want[0].1.as_f32().unwrap(), "bit for bit");

    let (fine, _, errors) = classify(&program, &path, &image[..100]);
    assert!(!fine && errors.contains("784 values expected"), "{errors}");
    std::fs::write(&path, b"\x89SLQ\x01").unwrap();
    let (fine, _, errors) = classify(&program, &path, &image);
    assert!(!fine && errors.contains("lenet.slq"), "{errors}");
}
