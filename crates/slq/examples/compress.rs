//! The main job in a few lines: `cargo run --release --example compress`.

use slq::{Duration, Event, RunOptions, SaveOptions, Settings};

fn main() -> Result<(), slq::Error> {
    // The built-in LeNet and images; slq::open("net.onnx") and a TrainingData of your own otherwise.
    let sample = slq::sample()?;
    let mut settings = Settings { bits: 4, ..Settings::default() };
    settings.training.duration = Duration::Epochs(1.0);
    let mut observer = |event: &Event<'_>| {
        if let Event::RoundEnded(round) = event {
            let top1 = round.after.map_or(f64::NAN, |a| a.top1);
            println!("{:.1} % fixed, top-1 {:.2} %", 100.0 * round.fixed_fraction, 100.0 * top1);
        }
    };
    let outcome =
        slq::compress(sample.graph, Some(&sample.data), &settings, RunOptions::default(), &mut observer)?;
    let saved = slq::save(&outcome.graph, "lenet-4bit.onnx".as_ref(), &SaveOptions::default())?;
    println!(
        "{:.1}x smaller, {} bytes in {}",
        outcome.report.size.ratio,
        saved.file_bytes,
        saved.path.display()
    );
    Ok(())
}
