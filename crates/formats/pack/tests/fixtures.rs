//! The format does not change: files written before are read as they were then.
//!
//! `fixtures/*.slq` were written by this test (with `SLQ_WRITE_FIXTURES=1`), `fixtures/*.txt` by `read_slq.py`, which
//! reads the format by its documentation alone.

mod common;

use std::fmt::Write;
use std::path::{Path, PathBuf};

use common::{graph_of, set_palette};
use slq_graph::{
    Attribute, DType, Dim, Graph, Node, Palette, Tensor, TensorData, TrainingRates, ValueInfo, Weight,
};
use slq_pack::{Effort, FloatStorage, Reader, WriteOptions, write_bytes};

fn path(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures").join(name)
}

/// A network with something of everything.
fn sample() -> Graph {
    let mut weights: Vec<(String, Weight)> = Vec::new();
    let mut coded =
        |name: &str, shape: &[usize], (codebook, groups): (Vec<f32>, usize), code: &dyn Fn(usize) -> u8| {
            let count: usize = shape.iter().product();
            let mut weight = Tensor::f32(shape.to_vec(), vec![0.0; count]).unwrap().into();
            let codes = (0..count).map(code).collect();
            set_palette(&mut weight, Palette::fully_fixed(codebook, groups, codes).unwrap());
            weights.push((name.into(), weight));
        };
    let noise = |i: usize| ((i as u32).wrapping_mul(2_654_435_761) >> 15) as usize;
    // Kernels whose codes follow their neighbours, from an unsorted codebook.
    let unsorted = vec![0.0, -0.5, 0.25, 0.75, -0.0, -0.125];
    coded("conv.weight", &[6, 4, 3, 3], (unsorted, 1), &|i| (noise(i / 3) % 6 * (noise(i) % 5).min(1)) as u8);
    // Rows of different density, one codebook for each.
    let books = (0..80).map(|i| ((i % 16) as f32 - 6.5) * (1.0 + (i / 16) as f32 * 0.1)).collect();
    coded("fc.weight", &[5, 120], (books, 5), &|i| {
        if noise(i) % 12 <= i / 120 { (noise(i + 7) % 16) as u8 } else { 6 }
    });
    let wide = (0..200).map(|i| (i as f32 - 90.0) * 0.03).collect();
    coded("wide", &[30, 31], (wide, 1), &|i| ((noise(i) % 100 + noise(i + 1) % 101) as u8).min(199));
    coded("even", &[77], (vec![1.0, 2.0, 3.0, 4.0], 1), &|i| (noise(i) % 4) as u8);
    coded("same", &[4, 25], (vec![0.5, 0.75], 1), &|_| 1);
    let wave = |n: usize, f: f32| (0..n).map(|i| (i as f32 * f).sin() * 0.3).collect::<Vec<f32>>();
    weights.push(("bias".into(), Tensor::f32(vec![90], wave(90, 0.37)).unwrap().into()));
    weights.push(("scale".into(), Tensor::f32(vec![40], wave(40, 1.7)).unwrap().into()));
    let repeated = (0..300).map(|i| ((noise(i) % 20) as f32 * 0.7).cos()).collect();
    weights.push(("repeated".into(), Tensor::f32(vec![300], repeated).unwrap().into()));
    let few: Vec<f32> = (0..5000).map(|i| [0.5, -0.25, f32::from_bits(0x7fc0_0001)][noise(i) % 3]).collect();
    weights.push(("few".into(), Tensor::f32(vec![50, 100], few).unwrap().into()));
    weights.push(("shape".into(), Tensor::i64_vector(vec![-1, 810, i64::MAX]).into()));
    let half = TensorData::Raw(DType::F16, (0..40).map(|i| i * 5).collect());
    weights.push(("half".into(), Tensor::new(vec![4, 5], half).unwrap().into()));
    weights.push(("none".into(), Tensor::new(vec![0, 3], TensorData::Bool(vec![])).unwrap().into()));
    let mut graph = graph_of(weights);
    graph.weights["bias"].rates = TrainingRates { lr_mult: 2.0, decay_mult: 0.0 };
    let shape = Some(vec![Dim::Symbol("N".into()), Dim::Known(3), Dim::Unknown]);
    graph.inputs = vec![ValueInfo { name: "x".into(), dtype: DType::F32, shape }];
    graph.outputs = vec![ValueInfo { name: "y".into(), dtype: DType::F32, shape: None }];
    graph.metadata.opset = 17;
    graph.metadata.domains = vec![("com.example".into(), 2)];
    graph.metadata.producer = "slq".into();
    for (key, value) in [("slq.classes", "zero\none"), ("slq.licence", "MIT")] {
        graph.metadata.properties.insert(key.into(), value.into());
    }
    let table = Tensor::new(vec![2], TensorData::I32(vec![-2, 70000])).unwrap();
    let last = Node::new("last", "Conv", &["y0", "conv.weight", "", "elsewhere", "bias"], &["y", ""])
        .with("auto_pad", Attribute::String(b"SAME_UPPER".to_vec()))
        .with("epsilon", Attribute::Float(1e-5))
        .with("odd", Attribute::Floats(vec![0.5, f32::NAN]))
        .with("pads", Attribute::Ints(vec![0, -1, 300]))
        .with("rest", Attribute::Opaque(vec![8, 1]))
        .with("strings", Attribute::Strings(vec![b"a".to_vec(), vec![]]))
        .with("table", Attribute::Tensor(table))
        .with("to", Attribute::Int(-7));
    graph.nodes.push(Node { domain: "com.example".into(), ..last });
    graph
}

/// A weight whose codes are long enough for four lanes, with a frequency table of 14 bits.
fn long() -> Graph {
    let codes = (0..26_000u32).map(|i| {
        let word = (i + 1).wrapping_mul(2_654_435_761);
        ((word >> 8) % 30 + (word >> 16) % 31 + (word >> 24) / 64 * 40).min(170) as u8
    });
    let codes: Vec<u8> = codes.collect();
    let codebook = (0..171).map(|i| (i as f32 - 50.0) * 0.01).collect();
    let mut weight = Tensor::f32(vec![26_000], vec![0.0; 26_000]).unwrap().into();
    set_palette(&mut weight, Palette::fully_fixed(codebook, 1, codes).unwrap());
    graph_of(vec![("long".into(), weight)])
}

/// A text as Python shows it; the fixtures have no quotes in theirs.
fn quoted(text: &str) -> String {
    format!("'{}'", text.replace('\n', "\\n"))
}

fn list<T>(items: &[T], item: impl Fn(&T) -> String) -> String {
    format!("[{}]", items.iter().map(item).collect::<Vec<_>>().join(", "))
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |text, b| text + &format!("{b:02x}"))
}

fn type_name(dtype: DType) -> &'static str {
    match dtype {
        DType::F32 => "float32",
        DType::F16 => "float16",
        DType::I64 => "int64",
        DType::I32 => "int32",
        DType::Bool => "bool",
        other => panic!("{other:?} is in no fixture"),
    }
}

/// Elements as little-endian bytes.
fn element_bytes(tensor: &Tensor) -> Vec<u8> {
    match tensor.data() {
        TensorData::F32(v) => v.iter().flat_map(|x| x.to_le_bytes()).collect(),
        TensorData::I64(v) => v.iter().flat_map(|x| x.to_le_bytes()).collect(),
        TensorData::I32(v) => v.iter().flat_map(|x| x.to_le_bytes()).collect(),
        TensorData::Bool(v) => v.iter().map(|&x| x.into()).collect(),
        TensorData::Raw(_, bytes) => bytes.clone(),
        other => panic!("{other:?} is in no fixture"),
    }
}

fn attribute(value: &Attribute) -> String {
    let float = |v: &f32| format!("'{:08x}'", v.to_bits());
    match value {
        Attribute::Int(v) => v.to_string(),
        Attribute::Float(v) => format!("{:08x}", v.to_bits()),
        Attribute::String(bytes) | Attribute::Opaque(bytes) => hex(bytes),
        Attribute::Ints(v) => list(v, i64::to_string),
        Attribute::Floats(v) => list(v, float),
        Attribute::Strings(v) => list(v, |bytes| format!("'{}'", hex(bytes))),
        Attribute::Tensor(t) => {
            format!("{}{}{}", type_name(t.dtype()), list(t.shape(), usize::to_string), hex(&element_bytes(t)))
        }
        other => panic!("{other:?} is in no fixture"),
    }
}

/// What `read_slq.py` prints.
fn account(graph: &Graph) -> String {
    let mut out = String::new();
    let meta = &graph.metadata;
    let domains = list(&meta.domains, |(name, version)| format!("({}, {version})", quoted(name)));
    let (producer, doc) = (quoted(&meta.producer), quoted(&meta.doc));
    let name = quoted(&graph.name);
    writeln!(out, "network {name} opset {} {domains} producer {producer} doc {doc}", meta.opset).unwrap();
    for (key, value) in &meta.properties {
        writeln!(out, "property {} {}", quoted(key), quoted(value)).unwrap();
    }
    let dim = |dim: &Dim| match dim {
        Dim::Known(extent) => extent.to_string(),
        Dim::Symbol(name) => quoted(name),
        Dim::Unknown => "'?'".into(),
    };
    for (kind, values) in [("input", &graph.inputs), ("output", &graph.outputs)] {
        for value in values {
            let shape = value.shape.as_ref().map_or("None".into(), |shape| list(shape, dim));
            writeln!(out, "{kind} {} {} {shape}", quoted(&value.name), type_name(value.dtype)).unwrap();
        }
    }
    for node in &graph.nodes {
        let names = |names: &[String]| list(names, |n| quoted(n));
        let (op, domain, name) = (quoted(&node.op), quoted(&node.domain), quoted(&node.name));
        write!(out, "node {op} {domain} {name} {} {}", names(&node.inputs), names(&node.outputs)).unwrap();
        for (name, value) in &node.attributes {
            write!(out, " {name}={}", attribute(value)).unwrap();
        }
        out.push('\n');
    }
    for (name, weight) in &graph.weights {
        let (tensor, rates) = (&weight.tensor, weight.rates);
        let shape = list(tensor.shape(), usize::to_string);
        let rates = [rates.lr_mult, rates.decay_mult].map(|r| format!(" {:08x}", r.to_bits())).concat();
        write!(out, "weight {} {} {shape} rates{rates}", quoted(name), type_name(tensor.dtype())).unwrap();
        if let Some(palette) = &weight.palette {
            let book: Vec<u8> = palette.codebook().iter().flat_map(|v| v.to_le_bytes()).collect();
            let (book, codes) = (crc32fast::hash(&book), crc32fast::hash(palette.codes()));
            let (k, groups) = (palette.codebook_size(), palette.groups());
            write!(out, " palette {k}x{groups} {book:08x} {codes:08x}").unwrap();
        }
        writeln!(out, " values {:08x}", crc32fast::hash(&element_bytes(tensor))).unwrap();
    }
    out
}

#[test]
fn fixtures_are_read_as_the_documentation_says() {
    let files = [
        ("static", sample(), Effort::Fast, FloatStorage::Exact),
        ("adaptive", sample(), Effort::Smallest, FloatStorage::Exact),
        ("half", sample(), Effort::Balanced, FloatStorage::Half),
        ("steps", sample(), Effort::Balanced, FloatStorage::EightBit),
        ("lanes", long(), Effort::Fast, FloatStorage::Exact),
    ];
    for (name, graph, effort, floats) in files {
        let file = path(&format!("{name}.slq"));
        if std::env::var_os("SLQ_WRITE_FIXTURES").is_some() {
            let packed = write_bytes(&graph, &WriteOptions { effort, floats }).unwrap();
            std::fs::write(&file, packed.bytes).unwrap();
            continue;
        }
        let graph = Reader::from_bytes(std::fs::read(&file).unwrap()).unwrap().graph().unwrap();
        let expected = std::fs::read_to_string(path(&format!("{name}.txt"))).unwrap();
        for (found, expected) in account(&graph).lines().zip(expected.lines()) {
            assert_eq!(found, expected, "{name}");
        }
        assert_eq!(account(&graph).lines().count(), expected.lines().count());
    }
}
