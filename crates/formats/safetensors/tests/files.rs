//! Files: what is written comes back, and what is broken is named.

use std::path::{Path, PathBuf};

use proptest::prelude::*;
use slq_graph::{DType, Graph, Node, Palette, Tensor, TensorData, Weight};
use slq_safetensors::{ReadOptions, SafetensorsError, read, read_into, read_with, write};

fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures").join(name)
}

/// One weight of each kind.
fn sample() -> Graph {
    let float = |shape: &[usize], v: Vec<f32>| Tensor::f32(shape.to_vec(), v).unwrap();
    let codes: Vec<u8> = (0..18).map(|i| i % 5).collect();
    let book = vec![0.0, 1.5, -1.5, 0.75, -0.75];
    let full = Palette::fully_fixed(book.clone(), 1, codes.clone()).unwrap();
    let grouped = Palette::fully_fixed(vec![0.0, 1.0, -0.0, 2.0], 2, vec![0, 1, 1, 0, 1, 0]).unwrap();
    let fixed: Vec<bool> = (0..18).map(|i| i % 3 == 0).collect();
    let partly = Palette::new(book, 1, codes, fixed.clone()).unwrap();
    let mut free = partly.decode();
    free.iter_mut().zip(&fixed).filter(|(_, fixed)| !**fixed).for_each(|(v, _)| *v += 0.0625);
    let weight = |tensor: Tensor, palette: Palette| Weight { palette: Some(palette), ..tensor.into() };
    let mut graph = Graph::default();
    let list = [
        ("z.first", float(&[3], vec![1.0, f32::NAN, -0.0]).into()),
        ("full", weight(float(&[2, 9], full.decode()), full)),
        ("grouped", weight(float(&[2, 3], grouped.decode()), grouped)),
        ("partly", weight(float(&[18], free), partly)),
        ("a.shape", Tensor::i64_vector(vec![0, -1]).into()),
        ("half", Tensor::new(vec![1], TensorData::Raw(DType::F16, vec![0, 0x3c])).unwrap().into()),
        ("flags", Tensor::new(vec![2], TensorData::Bool(vec![true, false])).unwrap().into()),
        ("scalar", float(&[], vec![6.0]).into()),
        ("empty", float(&[0, 3], vec![]).into()),
    ];
    graph.weights.extend(list.map(|(n, w): (&str, Weight)| (n.to_string(), w)));
    graph.metadata.properties.insert("slq.preprocessing".into(), "{\"scale\":0.00390625}".into());
    graph
}

fn bits(weight: &Weight) -> String {
    // Debug output distinguishes -0, and NaN equals itself.
    format!("{:?} {:?}", weight.tensor, weight.palette)
}

#[test]
fn weights_palettes_and_properties_come_back() {
    let folder = tempfile::tempdir().unwrap();
    let (path, graph) = (folder.path().join("w.safetensors"), sample());
    write(&graph, &path).unwrap();
    let contents = read_with(&path, &ReadOptions::default()).unwrap();
    assert!(contents.ours);
    assert_eq!(contents.properties, graph.metadata.properties);
    let names: Vec<&String> = contents.weights.keys().collect();
    assert_eq!(names, graph.weights.keys().collect::<Vec<_>>());
    for (name, weight) in &graph.weights {
        assert_eq!(bits(weight), bits(&contents.weights[name]), "{name}");
    }
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1, "a temporary file is left");
}

#[test]
fn the_same_graph_gives_the_same_bytes() {
    let folder = tempfile::tempdir().unwrap();
    let paths = ["a", "b"].map(|n| folder.path().join(n));
    for path in &paths {
        write(&sample(), path).unwrap();
    }
    let [a, b] = paths.map(|p| std::fs::read(p).unwrap());
    assert!(a == b);
}

#[test]
fn codes_take_their_width() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("w.safetensors");
    let codes: Vec<u8> = (0..40_000u32).map(|i| (i * i % 17) as u8).collect();
    let palette = Palette::fully_fixed((0..17).map(|v| v as f32).collect(), 1, codes).unwrap();
    let tensor = Tensor::f32(vec![200, 200], palette.decode()).unwrap();
    let mut graph = Graph::default();
    graph.weights.insert("w".into(), Weight { palette: Some(palette), ..tensor.into() });
    write(&graph, &path).unwrap();
    let size = std::fs::metadata(&path).unwrap().len();
    assert!((25_000 + 68..25_000 + 68 + 500).contains(&size), "{size}");
}

#[test]
fn plain_files_of_other_programs_are_read() {
    let path = fixture("plain.safetensors");
    let weights = read(&path).unwrap();
    assert_eq!(weights.len(), 6);
    assert_eq!(weights["half"].tensor.dtype(), DType::F16);
    assert_eq!(weights["steps"].tensor.to_i64(), Some(vec![7]));
    assert_eq!(weights["small"].tensor.data(), &TensorData::Raw(DType::I8, vec![255, 2]));
    let wide = read_with(&path, &ReadOptions::default().widen(true)).unwrap();
    assert!(!wide.ours);
    let single = weights["single"].tensor.as_f32().unwrap();
    assert_eq!(single, [0.5, -1.25, 3.0, 65504.0, 0.0, 1e-7]);
    assert_eq!(wide.weights["double"].tensor.as_f32().unwrap(), single);
    let half = wide.weights["half"].tensor.as_f32().unwrap();
    assert_eq!(half[..5], single[..5]);
    assert_eq!(half[5], 2.0 * 2f32.powi(-24)); // 1e-7 to the nearest half float: a subnormal
    assert!(half[4].is_sign_negative());
    let wide = read_with(&fixture("bfloat16.safetensors"), &ReadOptions::default().widen(true)).unwrap();
    assert_eq!(wide.weights["b"].tensor.as_f32().unwrap(), [1.5, -2.0]);
}

#[test]
fn weights_go_into_a_network_of_the_same_layers_only() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("w.safetensors");
    let weight = |v: f32| Weight::from(Tensor::f32(vec![2, 2], vec![v; 4]).unwrap());
    let network = |names: &[&str], v: f32| {
        let mut graph = Graph::default();
        for name in names {
            graph.nodes.push(Node::new(name, "MatMul", &["x", name], &["y"]));
            graph.weights.insert(name.to_string(), weight(v));
        }
        graph
    };
    write(&network(&["a", "b"], 1.0), &path).unwrap();
    let mut same = network(&["b", "a"], 2.0);
    same.weights["a"].rates.lr_mult = 3.0;
    read_into(&mut same, &path).unwrap();
    assert_eq!((&same.weights["a"].tensor, same.weights["a"].rates.lr_mult), (&weight(1.0).tensor, 3.0));
    for names in [&["a"][..], &["a", "b", "c"]] {
        let (mut other, before) = (network(names, 2.0), network(names, 2.0));
        match read_into(&mut other, &path).unwrap_err() {
            SafetensorsError::UnknownWeight { weight, .. } => assert_eq!(weight, "b"),
            SafetensorsError::MissingWeight { weight, .. } => assert_eq!(weight, "c"),
            error => panic!("{error}"),
        }
        assert_eq!(other, before);
    }
    let mut other = network(&["a", "b"], 2.0);
    other.weights["b"] = Tensor::f32(vec![4], vec![2.0; 4]).unwrap().into();
    let error = read_into(&mut other, &path).unwrap_err();
    assert!(error.to_string().contains("weight `b` is F32 [2, 2], the network needs F32 [4]"), "{error}");
}

#[test]
fn names_that_clash_are_refused_and_nothing_is_replaced() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("w.safetensors");
    std::fs::write(&path, "what was here").unwrap();
    let mut graph = sample();
    graph.weights.insert("full.codes".into(), Tensor::i64_vector(vec![1]).into());
    assert!(matches!(write(&graph, &path), Err(SafetensorsError::NameClash { .. })));
    assert_eq!(std::fs::read(&path).unwrap(), b"what was here");
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);
    let nowhere = folder.path().join("no/such/folder/w.safetensors");
    assert!(matches!(write(&sample(), &nowhere), Err(SafetensorsError::Io { .. })));
    assert!(matches!(read(&nowhere), Err(SafetensorsError::Io { .. })));
}

/// A file with this header and `data` bytes of zeros.
fn file(folder: &Path, header: &str, data: usize) -> PathBuf {
    let path = folder.join("x.safetensors");
    let length = (header.len() as u64).to_le_bytes();
    std::fs::write(&path, [&length[..], header.as_bytes(), &vec![0; data]].concat()).unwrap();
    path
}

#[test]
fn broken_headers_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let tensor = |dtype: &str, shape: &str, from: u64, to: u64| {
        format!(r#"{{"w":{{"dtype":"{dtype}","shape":{shape},"data_offsets":[{from},{to}]}}}}"#)
    };
    let huge = "[4611686018427387904,4,2]";
    let cases = [
        ("no JSON", "{".to_string(), 0),
        ("nothing", String::new(), 0),
        ("overlong", tensor("F32", "[2]", 0, 8), 4),
        ("left over", tensor("F32", "[2]", 0, 8), 9),
        ("gap", tensor("F32", "[2]", 8, 16), 16),
        ("shape and bytes differ", tensor("F32", "[3]", 0, 8), 8),
        ("overflow", tensor("F32", huge, 0, 8), 8),
        ("negative", tensor("F32", "[-2]", 0, 8), 8),
        ("backwards", tensor("F32", "[0]", 8, 0), 8),
        ("far away", tensor("F32", "[2]", 0, u64::MAX), 8),
        ("unknown type", tensor("F33", "[2]", 0, 8), 8),
        ("type that no weight has", tensor("F8_E4M3", "[8]", 0, 8), 8),
    ];
    for (what, header, data) in cases {
        let error = read(&file(folder.path(), &header, data)).expect_err(what).to_string();
        assert!(error.contains("x.safetensors") && !error.contains('\n'), "{what}: {error}");
    }
    let path = folder.path().join("x.safetensors");
    std::fs::write(&path, [0xff; 12]).unwrap();
    assert!(matches!(read(&path), Err(SafetensorsError::HeaderLength { .. })));
    std::fs::write(&path, [1, 2, 3]).unwrap();
    assert!(matches!(read(&path), Err(SafetensorsError::HeaderLength { .. })));
}

#[test]
fn lists_that_do_not_fit_the_tensors_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    // `list` with codes of 4 bytes and a codebook of 2 values.
    let case = |version: &str, list: &str| {
        let list = serde_json::to_string(list).unwrap();
        let header = format!(
            r#"{{"__metadata__":{{"slq.format":"{version}","slq.weights":{list}}},
            "w.codebook":{{"dtype":"F32","shape":[1,2],"data_offsets":[0,8]}},
            "w.codes":{{"dtype":"U8","shape":[4],"data_offsets":[8,12]}}}}"#
        );
        read(&file(folder.path(), &header, 12))
    };
    let entry = |shape: &str, bits: u32, groups: usize, size: usize, fixed: bool| {
        format!(
            r#"[{{"name":"w","shape":{shape},"palette":{{"bits":{bits},"groups":{groups},"size":{size},"fixed":{fixed}}}}}]"#
        )
    };
    assert_eq!(case("1", &entry("[32]", 1, 1, 2, true)).unwrap()["w"].tensor.len(), 32);
    let cases = [
        ("version", "2", entry("[32]", 1, 1, 2, true)),
        ("too many values", "1", entry("[33]", 1, 1, 2, true)),
        ("far too many", "1", entry("[4294967296,4294967295]", 1, 1, 2, true)),
        ("overflow", "1", entry("[4294967296,4294967296]", 1, 1, 2, true)),
        ("no width", "1", entry("[32]", 0, 1, 2, true)),
        ("width", "1", entry("[32]", 9, 1, 2, true)),
        ("groups", "1", entry("[32]", 1, 0, 2, true)),
        ("size", "1", entry("[32]", 1, 1, 3, true)),
        ("values missing", "1", entry("[32]", 1, 1, 2, false)),
        ("not listed", "1", "[]".to_string()),
        ("not there", "1", r#"[{"name":"v","shape":[1]}]"#.to_string()),
        ("no list", "1", "{}".to_string()),
    ];
    for (what, version, list) in cases {
        assert!(case(version, &list).is_err(), "{what}");
    }
}

#[test]
fn a_boolean_of_another_value_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let path = file(folder.path(), r#"{"w":{"dtype":"BOOL","shape":[2],"data_offsets":[0,2]}}"#, 2);
    assert!(read(&path).is_ok());
    let mut bytes = std::fs::read(&path).unwrap();
    *bytes.last_mut().unwrap() = 2;
    std::fs::write(&path, bytes).unwrap();
    assert!(matches!(read(&path), Err(SafetensorsError::Boolean { value: 2, .. })));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn damaged_files_never_panic(
        changes in proptest::collection::vec((any::<proptest::sample::Index>(), any::<u8>()), 0..4),
        end in any::<proptest::sample::Index>(),
        cut: bool,
    ) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("w.safetensors");
        write(&sample(), &path).unwrap();
        let mut bytes = std::fs::read(&path).unwrap();
        for (at, value) in changes {
            let at = at.index(bytes.len());
            bytes[at] = value;
        }
        if cut {
            bytes.truncate(end.index(bytes.len()));
        }
        std::fs::write(&path, &bytes).unwrap();
        let result = read(&path);
        prop_assert!(!cut || result.is_err());
    }

    #[test]
    fn random_palettes_come_back(
        (groups, size, run) in (1usize..4, 1usize..40, 0usize..30),
        seed: u64,
    ) {
        let mut state = seed | 1;
        let mut next = move || {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            state
        };
        let book: Vec<f32> = (0..groups * size).map(|_| (next() >> 40) as f32 - 8e6).collect();
        let codes: Vec<u8> = (0..groups * run).map(|_| (next() % size as u64) as u8).collect();
        let fixed: Vec<bool> = codes.iter().map(|_| next() & 8 == 0).collect();
        let palette = Palette::new(book, groups, codes, fixed).unwrap();
        let tensor = Tensor::f32(vec![groups, run], palette.decode()).unwrap();
        let mut graph = Graph::default();
        graph.weights.insert("w".into(), Weight { palette: Some(palette), ..tensor.into() });
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("w.safetensors");
        write(&graph, &path).unwrap();
        prop_assert_eq!(read(&path).unwrap(), graph.weights);
    }
}
