//! Makes the files that the page and its tests use from an ONNX model.
//!
//! `sample MODEL.onnx OUT.slq` packs it at 4 bits. `sample MODEL.onnx --fixtures FOLDER` packs it at 1 to 8 bits and writes, beside
//! each container, an input and the scalar kernels' outputs with every layer packed.

use std::error::Error;
use std::path::Path;

use slq_graph::{Dim, Tensor};
use slq_runtime::{Expand, Isa, Network};
use slq_web::{Granularity, compress};

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        [model, "--fixtures", folder] => fixtures(&std::fs::read(model)?, Path::new(folder)),
        [model, out] => {
            let made = compress(&std::fs::read(model)?, 4, Granularity::Tensor)?;
            std::fs::write(out, &made.slq)?;
            println!("{out}: {} bytes, from {} of the model", made.slq.len(), made.file_bytes);
            Ok(())
        }
        _ => Err("usage: sample MODEL.onnx OUT.slq | sample MODEL.onnx --fixtures FOLDER".into()),
    }
}

fn fixtures(model: &[u8], folder: &Path) -> Result<(), Box<dyn Error>> {
    std::fs::create_dir_all(folder)?;
    for bits in 1..=8 {
        let made = compress(model, bits, Granularity::Tensor)?;
        let network = Network::from_bytes(&made.slq, Expand::None)?;
        let input = network.graph().inputs.first().ok_or("the network has no input")?;
        let extent = |d: &Dim| if let Dim::Known(n) = d { *n } else { 3 };
        let shape: Vec<usize> =
            input.shape.as_ref().ok_or("the input has no shape")?.iter().map(extent).collect();
        let values: Vec<f32> = (0..shape.iter().product()).map(|i| (i * 37 % 101) as f32 / 101.0).collect();
        let name = input.name.clone();
        let tensor = Tensor::f32(shape.clone(), values.clone())?;
        let outputs = network.session(Isa::Scalar).run(&[(&name, &tensor)])?;
        let output = outputs[0].1.as_f32().ok_or("the output is not of floats")?;
        let mut run: Vec<u8> = (shape.len() as u32).to_le_bytes().into();
        run.extend(shape.iter().flat_map(|&d| (d as u32).to_le_bytes()));
        run.extend(values.iter().flat_map(|v| v.to_le_bytes()));
        std::fs::write(folder.join(format!("{bits}.slq")), &made.slq)?;
        std::fs::write(folder.join(format!("{bits}.run")), run)?;
        let bytes: Vec<u8> = output.iter().flat_map(|v| v.to_le_bytes()).collect();
        std::fs::write(folder.join(format!("{bits}.out")), bytes)?;
    }
    Ok(())
}
