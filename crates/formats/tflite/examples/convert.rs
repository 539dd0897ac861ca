//! Writes a network as a .tflite file: `convert net.onnx|zoo:NAME OUT.tflite [--dense] [--onnx OUT.onnx] [--bits B]`.
//!
//! `--bits` gives every weight B-bit codes of evenly spaced values first, `--channels` one codebook for each output channel;
//! `--onnx` also writes the network as ONNX, for a comparison (scripts/check-tflite.py).

#![forbid(unsafe_code)]

use std::error::Error;

use slq_codebook::bits_for;
use slq_graph::fold::fold_batch_norms;
use slq_graph::{Graph, Palette, Tensor};

/// Gives each weight a palette of 2^bits evenly spaced values, one for each output channel if `channels`.
fn palettize(graph: &mut Graph, bits: u8, channels: bool) -> Result<(), Box<dyn Error>> {
    let size = 1usize << bits;
    for found in graph.quantizable() {
        let weight = &mut graph.weights[&found.weight];
        let (shape, values) =
            (weight.tensor.shape().to_vec(), weight.tensor.to_f32().unwrap_or_default().into_owned());
        let groups = if channels && found.channel_axis == 0 { shape[0] } else { 1 };
        let (mut book, mut codes) = (Vec::new(), Vec::new());
        for run in values.chunks(values.len() / groups) {
            let largest = run.iter().fold(0.0f32, |m, v| m.max(v.abs()));
            let step = 2.0 * largest / (size - 1) as f32;
            book.extend((0..size).map(|i| i as f32 * step - largest));
            codes.extend(run.iter().map(|v| ((v + largest) / step.max(f32::MIN_POSITIVE)).round() as u8));
        }
        assert_eq!(bits_for(size), bits);
        let palette = Palette::fully_fixed(book, groups, codes)?;
        weight.tensor = Tensor::f32(shape, palette.decode())?;
        weight.palette = Some(palette);
    }
    Ok(())
}

/// Makes batch-norms of fresh networks do something: statistics and factors that differ from channel to channel.
fn stir(graph: &mut Graph) {
    for node in graph.nodes.clone().iter().filter(|n| n.op == "BatchNormalization") {
        for (i, base) in [(1, 0.8f32), (2, -0.1), (3, 0.05), (4, 0.9)] {
            let values =
                node.input(i).and_then(|n| graph.weights.get_mut(n)).and_then(|w| w.tensor.as_f32_mut());
            for (c, v) in values.into_iter().flatten().enumerate() {
                *v = base + ((c * 7 + i * 3) % 11) as f32 * 0.05;
            }
        }
    }
}

fn main() -> Result<(), Box<dyn Error>> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let flag = |name: &str| args.iter().any(|a| a == name);
    let value = |name: &str| args.iter().position(|a| a == name).and_then(|i| args.get(i + 1)).cloned();
    let mut graph = match args[0].strip_prefix("zoo:") {
        Some(name) => slq_zoo::build(name, 1)?,
        None => slq_onnx::read(&args[0])?,
    };
    if args[0].starts_with("zoo:") {
        stir(&mut graph);
    }
    if flag("--fold") {
        fold_batch_norms(&mut graph);
    }
    if let Some(bits) = value("--bits") {
        palettize(&mut graph, bits.parse()?, flag("--channels"))?;
    }
    if let Some(path) = value("--onnx") {
        slq_onnx::write(
            &graph,
            path,
            &slq_onnx::WriteOptions { dense: flag("--dense"), ..Default::default() },
        )?;
    }
    let report = slq_tflite::write(
        &graph,
        &args[1],
        &slq_tflite::WriteOptions { dense: flag("--dense"), ..Default::default() },
    )?;
    let sum = |part: fn(&slq_tflite::Packed) -> usize| report.packed.iter().map(part).sum::<usize>();
    println!(
        "{}: codes {}, tables {}, as floats {}",
        args[1],
        sum(|p| p.code_bytes),
        sum(|p| p.table_bytes),
        sum(|p| p.float_bytes)
    );
    report.notes().iter().for_each(|n| println!("  {n}"));
    Ok(())
}
