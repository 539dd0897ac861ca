//! Networks come back from their files bit for bit, in the sizes that the format is for.

mod common;

use std::path::Path;

use common::{LENET, bits, difference, graph_of, quantize, set_palette};
use slq_graph::{Attribute, DType, Dim, Graph, Palette, Tensor, TensorData, TrainingRates, Weight};
use slq_pack::{
    Effort, FloatStorage, Form, Note, Reader, SlqError, WriteOptions, open, read, write, write_bytes,
};

const EFFORTS: [Effort; 3] = [Effort::Fast, Effort::Balanced, Effort::Smallest];

fn options(effort: Effort) -> WriteOptions {
    WriteOptions { effort, ..WriteOptions::default() }
}

fn lenet() -> Graph {
    slq_onnx::read(LENET).unwrap()
}

#[test]
fn onnx_files_of_every_kind_come_back() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../onnx/tests/fixtures");
    let mut seen = 0;
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let Ok(graph) = slq_onnx::read(&path) else { continue };
        for effort in EFFORTS {
            let packed = write_bytes(&graph, &options(effort)).unwrap();
            let back = Reader::from_bytes(&packed.bytes).unwrap().graph().unwrap();
            assert_eq!(difference(&graph, &back), None, "{}, {effort:?}", path.display());
        }
        seen += 1;
    }
    assert!(seen >= 12, "{seen} files");
}

#[test]
fn palettized_networks_come_back_and_take_less_than_their_entropy_says() {
    for (k, by_channel) in [(2, false), (16, false), (17, false), (256, false), (8, true)] {
        let mut graph = lenet();
        quantize(&mut graph, k, by_channel);
        for effort in [Effort::Fast, Effort::Balanced] {
            let packed = write_bytes(&graph, &options(effort)).unwrap();
            let reader = Reader::from_bytes(&packed.bytes).unwrap();
            assert_eq!(difference(&graph, &reader.graph().unwrap()), None, "K = {k}, {effort:?}");
            let order0: f64 = packed.report.sections.iter().map(|s| s.order0_bytes).sum();
            let (bytes, most) = (packed.bytes.len() as f64, 1.005 * order0 + 1500.0);
            assert!(bytes <= most, "K = {k}, {effort:?}: {bytes} bytes, {most} allowed");
            let parts: u64 = packed.report.sections.iter().map(|s| s.bytes).sum();
            assert_eq!(parts, packed.bytes.len() as u64);
        }
    }
}

#[test]
fn pruned_networks_take_less_than_the_entropy_of_single_codes() {
    // Rows and columns of a pruned layer are pruned to different degrees, as real ones are.
    let mut seed = 9u64;
    let mut random = || {
        seed = seed.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        (seed >> 40) as f64 / (1u64 << 24) as f64
    };
    let rows: Vec<f64> = (0..200).map(|_| random().powi(4)).collect();
    let columns: Vec<f64> = (0..500).map(|_| random().powi(4)).collect();
    let codes: Vec<u8> = rows
        .iter()
        .flat_map(|r| columns.iter().map(move |c| r * c))
        .map(|p| if random() < p { 1 + (random() * 7.0) as u8 } else { 0 })
        .collect();
    let codebook = vec![0.0, 0.1, 0.2, 0.3, 0.4, -0.1, -0.2, -0.3];
    let mut weight = Tensor::f32(vec![200, 500], vec![0.0; 100_000]).unwrap().into();
    set_palette(&mut weight, Palette::fully_fixed(codebook, 1, codes).unwrap());
    let graph = graph_of(vec![("w".into(), weight)]);
    let size = |effort| write_bytes(&graph, &options(effort)).unwrap().bytes.len() as f64;
    let (fast, balanced) = (size(Effort::Fast), size(Effort::Balanced));
    assert!(balanced < 0.85 * fast, "{balanced} bytes with contexts, {fast} without");
}

#[test]
fn weights_can_be_read_alone_block_by_block_and_from_several_threads() {
    let mut graph = lenet();
    quantize(&mut graph, 16, false);
    let bytes = write_bytes(&graph, &WriteOptions::default()).unwrap().bytes;
    let stream = Reader::from_stream(std::io::Cursor::new(&bytes)).unwrap();
    let memory = Reader::from_bytes(&bytes).unwrap();
    stream.verify().unwrap();
    assert_eq!(memory.weights().len(), graph.weights.len());
    std::thread::scope(|scope| {
        for (name, weight) in &graph.weights {
            let stream = &stream;
            scope.spawn(move || assert_eq!(&stream.weight(name).unwrap(), weight, "{name}"));
        }
    });
    for info in memory.weights() {
        let weight = &graph.weights[&info.name];
        assert_eq!(info.shape, weight.tensor.shape());
        assert!(memory.stored_bytes(&info.name).unwrap() > 0);
        let Some(palette) = &weight.palette else {
            assert_eq!(info.form, Form::Values);
            assert!(matches!(memory.codes(&info.name), Err(SlqError::NoCodes { .. })));
            continue;
        };
        let codes = memory.codes(&info.name).unwrap();
        assert_eq!(bits(codes.codebook()), bits(palette.codebook()));
        assert_eq!((codes.groups(), codes.codebook_size(), codes.is_empty()), (1, 16, false));
        let mut end = 0;
        for block in 0..codes.blocks() {
            let range = codes.range(block);
            assert_eq!(range.start, end);
            end = range.end;
            let mut out = vec![0; range.len()];
            codes.decode_block(block, &mut out).unwrap();
            assert_eq!(out, palette.codes()[range]);
            assert!(codes.decode_block(block, &mut out[1..]).is_err(), "a buffer too short");
        }
        assert_eq!(end, palette.codes().len());
    }
    assert!(matches!(memory.weight("none"), Err(SlqError::UnknownWeight { .. })));
}

#[test]
fn the_network_is_known_before_any_weight_is_read() {
    let mut graph = lenet();
    quantize(&mut graph, 4, false);
    graph.metadata.properties.insert("slq.classes".into(), "zero\none".into());
    graph.metadata.properties.insert("slq.licence".into(), "MIT".into());
    graph.metadata.properties.insert("slq.preprocessing".into(), "{\"scale\":0.5}".into());
    let mut bytes = write_bytes(&graph, &WriteOptions::default()).unwrap().bytes;
    // Damage to the last section does not matter yet.
    *bytes.last_mut().unwrap() ^= 1;
    let reader = Reader::from_bytes(&bytes).unwrap();
    assert_eq!(reader.network().metadata, graph.metadata);
    assert_eq!(reader.network().nodes, graph.nodes);
    assert!(reader.network().weights.is_empty());
    assert!(matches!(reader.verify(), Err(SlqError::Checksum { .. })));
    assert!(matches!(reader.graph(), Err(SlqError::Checksum { .. })));
}

#[test]
fn files_are_replaced_whole_and_are_the_same_every_time() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("net.slq");
    let mut graph = lenet();
    quantize(&mut graph, 8, true);
    let report = write(&graph, &path, &WriteOptions::default()).unwrap();
    let first = std::fs::read(&path).unwrap();
    assert_eq!(report.bytes, first.len() as u64);
    assert_eq!(difference(&graph, &read(&path).unwrap()), None);
    assert_eq!(open(&path).unwrap().network().name, graph.name);
    write(&graph, &path, &WriteOptions::default()).unwrap();
    assert_eq!(std::fs::read(&path).unwrap(), first);
    // A graph that cannot be written leaves the file as it was.
    graph.weights[0].tensor.as_f32_mut().unwrap()[3] += 1.0;
    let error = write(&graph, &path, &WriteOptions::default()).unwrap_err().to_string();
    assert!(error.contains("net.slq: weight `") && error.contains("position 3"), "{error}");
    assert_eq!(std::fs::read(&path).unwrap(), first);
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);
    assert!(read(folder.path()).unwrap_err().to_string().ends_with("not a regular file"));
    assert!(matches!(read(folder.path().join("none.slq")), Err(SlqError::File { .. })));
}

#[test]
fn partly_fixed_palettes_are_stored_as_values_and_named() {
    let mut graph = lenet();
    quantize(&mut graph, 4, false);
    let name = graph.weights.keys().next().unwrap().clone();
    let weight = &mut graph.weights[&name];
    let palette = weight.palette.take().unwrap();
    let mut fixed = palette.fixed().to_vec();
    fixed[1] = false;
    weight.tensor.as_f32_mut().unwrap()[1] = 0.77;
    let parts = (palette.codebook().to_vec(), palette.codes().to_vec());
    weight.palette = Some(Palette::new(parts.0, 1, parts.1, fixed).unwrap());
    let packed = write_bytes(&graph, &WriteOptions::default()).unwrap();
    let of = graph.weights[&name].tensor.len();
    assert_eq!(packed.report.notes, [Note::PartlyFixed { weight: name.clone(), fixed: of - 1, of }]);
    let back = Reader::from_bytes(&packed.bytes).unwrap().graph().unwrap();
    graph.weights[&name].palette = None;
    assert_eq!(difference(&graph, &back), None);
}

#[test]
fn floats_can_be_rounded_and_the_error_is_told() {
    let graph = lenet();
    let exact = write_bytes(&graph, &WriteOptions::default()).unwrap();
    assert!(exact.report.notes.is_empty());
    for (floats, part) in [(FloatStorage::Half, 0.6), (FloatStorage::EightBit, 0.3)] {
        let packed = write_bytes(&graph, &WriteOptions { floats, ..WriteOptions::default() }).unwrap();
        assert!((packed.bytes.len() as f64) < part * exact.bytes.len() as f64, "{floats:?}");
        let back = Reader::from_bytes(&packed.bytes).unwrap().graph().unwrap();
        let mut told = 0;
        for note in &packed.report.notes {
            let Note::Rounded { weight, error, .. } = note else { continue };
            let (a, b) = (&graph.weights[weight].tensor, &back.weights[weight].tensor);
            let pairs = a.as_f32().unwrap().iter().zip(b.as_f32().unwrap());
            let worst = pairs.map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
            assert_eq!(worst, error.max_abs, "{note}");
            assert!(worst > 0.0 && worst < 0.01, "{note}");
            told += 1;
        }
        assert_eq!(told, graph.weights.len());
    }
}

#[test]
fn shared_weights_without_a_palette_are_stored_as_codes() {
    let mut graph = lenet();
    quantize(&mut graph, 16, false);
    let coded = write_bytes(&graph, &WriteOptions::default()).unwrap().bytes.len();
    graph.weights.values_mut().for_each(|w| w.palette = None);
    let packed = write_bytes(&graph, &WriteOptions::default()).unwrap();
    assert!(packed.bytes.len() < coded + 1000, "{} bytes, {coded} with palettes", packed.bytes.len());
    let reader = Reader::from_bytes(&packed.bytes).unwrap();
    let form = reader.weights().iter().max_by_key(|w| w.count()).unwrap().form;
    assert_eq!(form, Form::Dictionary { k: 16 });
    assert_eq!(difference(&graph, &reader.graph().unwrap()), None);
}

#[test]
fn what_the_format_cannot_hold_is_refused() {
    let cut = Tensor::new(vec![2], TensorData::Raw(DType::F16, vec![1, 2, 3, 4, 5])).unwrap();
    let graph = graph_of(vec![("cut".into(), cut.clone().into())]);
    let refuse = |graph: &Graph| write_bytes(graph, &WriteOptions::default()).unwrap_err().to_string();
    assert!(refuse(&graph).starts_with("the incomplete last element of weight `cut` cannot be written"));
    let mut graph = lenet();
    graph.nodes[0].attributes.insert("table".into(), Attribute::Tensor(cut));
    assert!(refuse(&graph).starts_with("the incomplete last element of attribute `table`"));
    let mut graph = lenet();
    graph.inputs[0].shape = Some(vec![Dim::Known(usize::MAX)]);
    assert!(refuse(&graph).starts_with("the shape of value `"));
}

#[test]
fn constant_networks_are_padded_to_what_they_unpack_to() {
    let zeros = Tensor::f32(vec![1000, 1000], vec![0.0; 1_000_000]).unwrap();
    let graph = graph_of(vec![("w".into(), zeros.into())]);
    let packed = write_bytes(&graph, &WriteOptions::default()).unwrap();
    assert!(matches!(packed.report.notes[..], [Note::Padded { .. }]), "{:?}", packed.report.notes);
    assert!((9_000..12_000).contains(&packed.bytes.len()), "{} bytes", packed.bytes.len());
    let back = Reader::from_bytes(&packed.bytes).unwrap().graph().unwrap();
    assert_eq!(difference(&graph, &back), None);
}

#[test]
fn tensors_of_every_type_and_no_size_come_back() {
    let raw = |dtype: DType| TensorData::Raw(dtype, (0..6 * dtype.size()).map(|i| (i * 37) as u8).collect());
    let mut weights: Vec<(String, Weight)> = Vec::new();
    let mut add = |name: &str, shape: &[usize], data| {
        weights.push((name.into(), Tensor::new(shape.to_vec(), data).unwrap().into()));
    };
    for (name, dtype) in
        [("f64", DType::F64), ("f16", DType::F16), ("bf16", DType::Bf16), ("i16", DType::I16)]
    {
        add(name, &[2, 3], raw(dtype));
    }
    for (name, dtype) in [("i8", DType::I8), ("u64", DType::U64), ("u32", DType::U32), ("u16", DType::U16)] {
        add(name, &[6], raw(dtype));
    }
    add("i64", &[3], TensorData::I64(vec![i64::MIN, -1, i64::MAX]));
    add("i32", &[1, 1], TensorData::I32(vec![-5]));
    add("u8", &[3], TensorData::U8(vec![0, 128, 255]));
    add("bool", &[2], TensorData::Bool(vec![true, false]));
    add("scalar", &[], TensorData::F32(vec![f32::from_bits(0x7fc0_1234)]));
    add("empty", &[0, 4], TensorData::F32(vec![]));
    add("empty bytes", &[4, 0], TensorData::U8(vec![]));
    let mut graph = graph_of(weights);
    graph.weights["scalar"].rates = TrainingRates { lr_mult: 0.0, decay_mult: 3.5 };
    let empty = Palette::fully_fixed(vec![1.0, 2.0], 2, vec![]).unwrap();
    graph.weights["empty"].palette = Some(empty);
    for effort in EFFORTS {
        let packed = write_bytes(&graph, &options(effort)).unwrap();
        let back = Reader::from_bytes(&packed.bytes).unwrap().graph().unwrap();
        assert_eq!(difference(&graph, &back), None, "{effort:?}");
    }
}
