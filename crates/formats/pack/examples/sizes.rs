//! Sizes and speeds of `.slq` files beside other ways to store the same networks.
//!
//! `cargo run --release -p slq-pack --example sizes -- a.onnx b.onnx` prints, for each ONNX file, the bytes of its
//! `.slq` with each effort, of the ONNX compressed by `xz -9` and `zstd -19` where these programs are installed, and the
//! order-0 entropy of the network (codes at the entropy of each tensor, codebooks and other values as they are); how
//! many codes a core decodes in a second from the `fast` file; how many binary decisions the `balanced` one takes, and
//! how long all of it takes to be read into floats. `SECTIONS=1` lists the sections of the `balanced` file.

use std::process::{Command, Stdio};
use std::time::Instant;

use slq_pack::{Effort, FloatStorage, Form, Reader, WriteOptions, write_bytes};

/// Parameters beyond which adaptive coding of everything is not tried: it takes minutes.
const MANY: usize = 20_000_000;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    println!(
        "| network | onnx | xz -9 | zstd -19 | order 0 | fast | balanced | smallest | half | fast, M codes/s | balanced, decisions | read in ms |"
    );
    println!("|---|---|---|---|---|---|---|---|---|---|---|---|");
    for path in std::env::args().skip(1) {
        let graph = slq_onnx::read(&path)?;
        let onnx = std::fs::metadata(&path)?.len();
        let [xz, zstd] =
            [("xz", "-9"), ("zstd", "-19")].map(|(program, level)| compressed(program, level, &path));
        let mut sizes = Vec::new();
        let (mut order0, mut speed) = (0.0, String::from("-"));
        let (mut milliseconds, mut decisions) = (f64::INFINITY, 0);
        for (effort, floats) in [
            (Effort::Fast, FloatStorage::Exact),
            (Effort::Balanced, FloatStorage::Exact),
            (Effort::Smallest, FloatStorage::Exact),
            (Effort::Balanced, FloatStorage::Half),
        ] {
            if effort == Effort::Smallest && graph.parameter_count() > MANY {
                sizes.push("-".into());
                continue;
            }
            let packed = write_bytes(&graph, &WriteOptions { effort, floats })?;
            sizes.push(packed.report.bytes.to_string());
            let reader = Reader::from_bytes(&packed.bytes)?;
            if effort == Effort::Fast {
                order0 = packed.report.sections.iter().map(|s| s.order0_bytes).sum::<f64>();
                let codes = decode(&reader)?;
                if codes.0 > 0 {
                    speed = format!("{:.0}", codes.0 as f64 / codes.1 / 1e6);
                }
            }
            if effort == Effort::Balanced && floats == FloatStorage::Exact {
                for _ in 0..5 {
                    let reader = Reader::from_bytes(&packed.bytes)?;
                    let start = Instant::now();
                    reader.graph()?;
                    milliseconds = start.elapsed().as_secs_f64().min(milliseconds / 1e3) * 1e3;
                }
                decisions = packed.report.decisions;
                if std::env::var_os("SECTIONS").is_some() {
                    for s in &packed.report.sections {
                        let first = s.weights.first().map_or("", String::as_str);
                        eprintln!(
                            "{:>9} {:>10.0} {:>8} {first} ({})",
                            s.bytes,
                            s.order0_bytes,
                            s.kind,
                            s.weights.len()
                        );
                    }
                }
            }
        }
        let name = std::path::Path::new(&path).file_stem().unwrap_or_default().to_string_lossy();
        println!(
            "| {name} | {onnx} | {xz} | {zstd} | {order0:.0} | {} | {speed} | {decisions} | {milliseconds:.1} |",
            sizes.join(" | ")
        );
    }
    Ok(())
}

/// Codes decoded, and the least of five times for them in seconds.
fn decode<S: slq_pack::Source>(reader: &Reader<S>) -> Result<(usize, f64), slq_pack::SlqError> {
    let mut best = f64::INFINITY;
    let mut count = 0;
    for _ in 0..5 {
        (count, best) = (0, best);
        let mut seconds = 0.0;
        let mut out = Vec::new();
        for info in reader.weights().iter().filter(|w| w.form != Form::Values) {
            let codes = reader.codes(&info.name)?;
            out.resize(codes.len(), 0);
            let start = Instant::now();
            for block in 0..codes.blocks() {
                codes.decode_block(block, &mut out[codes.range(block)])?;
            }
            seconds += start.elapsed().as_secs_f64();
            count += codes.len();
        }
        best = best.min(seconds);
    }
    Ok((count, best))
}

/// Bytes of a file compressed by another program, or a dash.
fn compressed(program: &str, level: &str, path: &str) -> String {
    let output = Command::new(program).args([level, "-k", "-c", path]).stderr(Stdio::null()).output();
    output.ok().filter(|o| o.status.success()).map_or("-".into(), |o| o.stdout.len().to_string())
}
