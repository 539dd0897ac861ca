//! The header declares what the library exports; a program in C gives what the library gives; bad arguments are errors.

use std::ffi::{CStr, CString};
use std::fmt::Write as _;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::ptr;
use std::sync::OnceLock;

use proptest::prelude::*;
use slq_c::ffi::*;
use slq_graph::{Graph, Palette, Tensor, Weight};
use slq_pack::WriteOptions;

fn here() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// A text with runs of white space as one blank.
fn words(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// A type of Rust as C writes it, with its name.
fn in_c(rust: &str, name: &str) -> String {
    let plain = |t: &str| match t {
        "c_char" => "char".to_owned(),
        "u8" | "i32" | "i64" => format!("{}int{}_t", if t == "u8" { "u" } else { "" }, &t[1..]),
        "f32" => "float".to_owned(),
        "usize" => "size_t".to_owned(),
        other => other.to_owned(),
    };
    match (rust.strip_prefix("*const "), rust.strip_prefix("*mut ")) {
        (Some(t), _) => format!("const {} *{name}", plain(t)),
        (_, Some(t)) => format!("{} *{name}", plain(t)),
        _ => format!("{} {name}", plain(rust)),
    }
}

#[test]
fn the_header_declares_what_the_library_exports() {
    let source = words(&std::fs::read_to_string(here().join("src/ffi.rs")).unwrap());
    let header = words(&std::fs::read_to_string(here().join("include/slq.h")).unwrap());
    let mut count = 0;
    for text in source.split("extern \"C\" fn ").skip(1) {
        let (name, rest) = text.split_once('(').unwrap();
        let (arguments, rest) = rest.split_once(')').unwrap();
        let result = rest.split_once('{').unwrap().0.trim().strip_prefix("-> ");
        let all = arguments.split(',').map(str::trim).filter(|a| !a.is_empty());
        let all: Vec<String> =
            all.map(|a| a.split_once(": ").map(|(name, t)| in_c(t, name)).unwrap()).collect();
        let all = if all.is_empty() { "void".to_owned() } else { all.join(", ") };
        let wanted = format!("{}({all});", in_c(result.unwrap_or("void"), name));
        assert!(header.contains(&wanted), "slq.h does not declare `{wanted}`");
        count += 1;
    }
    assert_eq!(count, header.matches(");").count(), "functions in src/ffi.rs and in slq.h");
    for (name, value) in [("AUTO", SLQ_EXPAND_AUTO), ("ALL", SLQ_EXPAND_ALL), ("NONE", SLQ_EXPAND_NONE)] {
        assert!(header.contains(&format!("#define SLQ_EXPAND_{name} {value} ")), "SLQ_EXPAND_{name}");
    }
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

fn lenet_bytes() -> Vec<u8> {
    static BYTES: OnceLock<Vec<u8>> = OnceLock::new();
    BYTES.get_or_init(|| slq_pack::write_bytes(&lenet(), &WriteOptions::default()).unwrap().bytes).clone()
}

fn image() -> Vec<f32> {
    (0..784).map(|i| (i * 37 % 101) as f32 / 101.0).collect()
}

/// What the Rust interface gives for [`image`].
fn wanted() -> Vec<f32> {
    let network = slq_runtime::Network::from_graph(lenet(), slq_runtime::Expand::Auto).unwrap();
    let x = Tensor::f32(vec![1, 1, 28, 28], image()).unwrap();
    let name = network.graph().inputs[0].name.clone();
    let outputs = network.session(slq_runtime::Isa::detect()).run(&[(&name, &x)]).unwrap();
    outputs[0].1.as_f32().unwrap().to_vec()
}

fn error() -> String {
    // SAFETY: the text is there until the next error of this thread.
    unsafe { CStr::from_ptr(slq_error()) }.to_str().unwrap().to_owned()
}

/// The compiler of C, or none where the machine has none.
fn compiler() -> Option<&'static str> {
    let found = Command::new("cc").arg("--version").output().is_ok_and(|o| o.status.success());
    if !found {
        println!("SKIPPED: there is no C compiler named cc");
    }
    found.then_some("cc")
}

/// The static library, which cargo leaves two folders above this program or beside it.
fn library() -> PathBuf {
    let program = std::env::current_exe().unwrap();
    let folder = program.parent().unwrap();
    let found = [folder.parent().unwrap(), folder].map(|f| f.join("libslq_c.a"));
    found.into_iter().find(|l| l.exists()).expect("cargo has built libslq_c.a")
}

fn compile(cc: &str, folder: &Path) -> PathBuf {
    let program = folder.join("classify");
    let done = Command::new(cc)
        .args(["-std=c99", "-Wall", "-Wextra", "-Wpedantic", "-Werror", "-O1", "-I"])
        .arg(here().join("include"))
        .arg(here().join("../../../examples/c/classify.c"))
        .arg(library())
        .args(["-lm", "-lpthread", "-ldl", "-o"])
        .arg(&program)
        .output()
        .unwrap();
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
    let Some(cc) = compiler() else { return };
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("lenet.slq");
    std::fs::write(&path, lenet_bytes()).unwrap();
    let program = compile(cc, folder.path());
    let (fine, output, errors) = classify(&program, &path, &image());
    assert!(fine, "{errors}");
    let got: Vec<f32> = output.lines().map(|l| l.parse().unwrap()).collect();
    assert_eq!(got, wanted(), "bit for bit");

    let (fine, _, errors) = classify(&program, &path, &image()[..100]);
    assert!(!fine && errors.contains("784 values expected"), "{errors}");
    std::fs::write(&path, b"\x89SLQ\x01").unwrap();
    let (fine, _, errors) = classify(&program, &path, &image());
    assert!(!fine && errors.contains("lenet.slq"), "{errors}");
}

#[test]
fn a_network_in_memory_tells_its_shapes_and_runs() {
    let bytes = lenet_bytes();
    // SAFETY: pointers and lengths are those of slices that live until the network is closed.
    unsafe {
        let network = slq_open_bytes(bytes.as_ptr(), bytes.len(), SLQ_EXPAND_NONE);
        assert!(!network.is_null(), "{}", error());
        assert_eq!((slq_inputs(network), slq_outputs(network)), (1, 1));
        let mut names = String::new();
        for name in [slq_input_name(network, 0), slq_output_name(network, 0)] {
            write!(names, "{} ", CStr::from_ptr(name).to_str().unwrap()).unwrap();
        }
        let graph = lenet();
        assert_eq!(names, format!("{} {} ", graph.inputs[0].name, graph.outputs[0].name));
        let mut dims = [7i64; 4];
        assert_eq!(slq_input_shape(network, 0, dims.as_mut_ptr(), 3), 4, "the rank, whatever the room");
        assert_eq!(dims, [-1, 1, 28, 7], "no more than there is room for");
        assert_eq!(slq_output_shape(network, 0, dims.as_mut_ptr(), 4), 2);
        assert_eq!(dims[1], 10, "the declared shape before a run");

        assert!(slq_output(network, 0, ptr::null_mut()).is_null());
        assert!(error().contains("has not run"), "{}", error());
        assert_eq!(slq_run(network), -1);
        assert!(error().contains("missing"), "{}", error());
        let (image, shape) = (image(), [1i64, 1, 28, 28]);
        assert_eq!(slq_set_input(network, 0, image.as_ptr(), shape.as_ptr(), 4), 0);
        assert_eq!(slq_run(network), 0, "{}", error());
        let mut length = 0;
        let values = slq_output(network, 0, &mut length);
        let got = std::slice::from_raw_parts(values, length);
        let want = wanted();
        let most = want.iter().fold(0.0f32, |m, v| m.max(v.abs()));
        assert_eq!(got.len(), want.len());
        assert!(got.iter().zip(&want).all(|(g, w)| (g - w).abs() <= 1e-5 * most), "{got:?} for {want:?}");
        assert_eq!(slq_output_shape(network, 0, dims.as_mut_ptr(), 4), 2);
        assert_eq!(dims[..2], [1, 10]);
        slq_close(network);
    }
}

/// A network that the process keeps; as tests run on several threads, each has its own.
fn network() -> *mut slq_c::Network {
    let bytes = lenet_bytes();
    // SAFETY: pointer and length are those of a slice.
    unsafe { slq_open_bytes(bytes.as_ptr(), bytes.len(), SLQ_EXPAND_AUTO) }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    /// Whatever the numbers: an error with a text or a run, and the network works afterwards.
    #[test]
    fn bad_numbers_are_errors(
        i in prop_oneof![Just(0usize), 1usize..4, Just(usize::MAX)],
        dims in prop::collection::vec(prop_oneof![0i64..30, Just(-1), Just(i64::MAX), Just(i64::MIN), Just(1 << 40)], 0..6),
        expand in any::<i32>(),
    ) {
        let count: usize = dims.iter().map(|&d| usize::try_from(d).unwrap_or(0)).try_fold(1, usize::checked_mul).unwrap_or(0);
        let values = vec![0.5f32; count.min(1 << 20)];
        let small = count <= values.len();
        // SAFETY: shapes of more values than there are come with a null pointer, which is refused.
        unsafe {
            let net = network();
            let data = if small { values.as_ptr() } else { ptr::null() };
            let set = slq_set_input(net, i, data, dims.as_ptr(), dims.len());
            let bad = i > 0 || !small || dims.iter().any(|&d| d < 0);
            prop_assert!(set == 0 || !error().is_empty());
            if bad && set == 0 {
                prop_assert!(dims.contains(&0) && i == 0 && dims.iter().all(|&d| d >= 0), "{dims:?} was taken");
            }
            if set == 0 && slq_run(net) != 0 {
                prop_assert!(!error().is_empty());
            }
            prop_assert_eq!(slq_input_name(net, i).is_null(), i > 0);
            prop_assert_eq!(slq_input_shape(net, i, ptr::null_mut(), usize::MAX) < 0, i > 0);
            prop_assert_eq!(slq_output_shape(net, i, ptr::null_mut(), 9) < 0, i > 0);
            let (image, shape) = (image(), [1i64, 1, 28, 28]);
            prop_assert_eq!(slq_set_input(net, 0, image.as_ptr(), shape.as_ptr(), 4), 0);
            prop_assert_eq!(slq_run(net), 0, "it works afterwards: {}", error());
            slq_close(net);
            let other = slq_open_bytes([1u8].as_ptr(), 1, expand);
            prop_assert!(other.is_null() && !error().is_empty());
        }
    }

    /// Damaged containers are errors.
    #[test]
    fn damaged_containers_are_errors(at in any::<prop::sample::Index>(), flip in 1u8..=255, cut: bool) {
        let mut bytes = lenet_bytes();
        let at = at.index(bytes.len());
        if cut { bytes.truncate(at) } else { bytes[at] ^= flip }
        // SAFETY: pointer and length are those of a slice.
        unsafe {
            let net = slq_open_bytes(bytes.as_ptr(), bytes.len(), SLQ_EXPAND_AUTO);
            prop_assert!(net.is_null(), "byte {at} changed, and the container was taken");
            prop_assert!(!error().is_empty());
        }
    }

    /// Paths of any bytes are errors.
    #[test]
    fn bad_paths_are_errors(path in prop::collection::vec(1u8..=255, 0..40)) {
        let path = CString::new(path).unwrap();
        // SAFETY: the path ends with a zero byte.
        let net = unsafe { slq_open(path.as_ptr(), SLQ_EXPAND_AUTO) };
        prop_assert!(net.is_null());
        prop_assert!(!error().is_empty());
    }
}
