//! The main job in a few lines: `cargo run --release -p slq-nn --example compress`.

use slq::{Event, Job, Length, Quantize};

fn main() -> Result<(), slq::Error> {
    // The built-in LeNet and images; Model::open("net.onnx") and Dataset::open("images.zip") otherwise.
    let (model, data) = slq::sample()?;
    let mut observer = |event: &Event<'_>| {
        if let Event::RoundEnded(round) = event {
            let top1 = round.after.map_or(f64::NAN, |a| a.top1);
            println!("{:.1} % fixed, top-1 {:.2} %", 100.0 * round.fixed_fraction, 100.0 * top1);
        }
    };
    let stage = Quantize::slq(4).training(|t| t.length = Length::Epochs(1.0));
    let done = Job::new(stage).data(&data).observe(&mut observer).run(&model)?;
    let saved = done.model.save("lenet-4bit.onnx")?;
    println!(
        "{:.1}x smaller, {} bytes in {}",
        done.report.size.ratio,
        saved.file_bytes,
        saved.path.display()
    );
    Ok(())
}
