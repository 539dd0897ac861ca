//! Moves the dense layers of a network onto evenly spaced values in blocks of 32 inputs, without data, and writes it for onnxruntime
//! and as float32: `even_blocks IN.onnx MOST PACKED.onnx DENSE.onnx`, with MOST steps from zero (7 for 4 bits).

use slq_graph::{Palette, Tensor};
use slq_onnx::{WriteOptions, for_onnxruntime, read, write};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let args: Vec<String> = std::env::args().collect();
    let [_, input, most, packed, dense] = args.as_slice() else {
        return Err("give IN.onnx MOST PACKED.onnx DENSE.onnx".into());
    };
    let most: f32 = most.parse()?;
    let mut graph = for_onnxruntime(&read(input)?)?.graph;
    let names: Vec<String> =
        graph.quantizable().into_iter().filter(|q| q.op == "Gemm").map(|q| q.weight).collect();
    for name in names {
        let weight = &mut graph.weights[&name];
        let (Some(values), shape) = (weight.tensor.as_f32(), weight.tensor.shape().to_vec()) else {
            continue;
        };
        if shape.len() != 2 || !shape[1].is_multiple_of(32) {
            continue;
        }
        let (mut codebook, mut codes) = (Vec::new(), Vec::with_capacity(values.len()));
        for run in values.chunks_exact(32) {
            let step = run.iter().fold(0.0f32, |m, v| m.max(v.abs())) / most;
            codebook.extend((0..=2 * most as i32).map(|i| (i as f32 - most) * step));
            codes.extend(run.iter().map(|v| if step > 0.0 { (v / step).round() + most } else { most } as u8));
        }
        let palette = Palette::fully_fixed(codebook, values.len() / 32, codes)?;
        weight.tensor = Tensor::f32(shape, palette.decode())?;
        weight.palette = Some(palette);
    }
    let prepared = for_onnxruntime(&graph)?;
    prepared.notes.iter().for_each(|n| println!("{n}"));
    let files = write(&prepared.graph, packed, &WriteOptions { blocked: true, ..Default::default() })?;
    write(&prepared.graph, dense, &WriteOptions { dense: true, ..Default::default() })?;
    println!("{} weights packed, {} bytes", prepared.packed.len(), files.bytes);
    Ok(())
}
