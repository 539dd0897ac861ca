//! How long a dataset takes to open, and a batch to make.
//!
//! `cargo run --release -p slq-data --example read_throughput -- PATH|NAME [BATCH] [RESIZE CROP]`

use std::error::Error;
use std::time::Instant;

use slq_data::{Batch, Dataset, Mode, OpenOptions, Resize, Transform};

fn main() -> Result<(), Box<dyn Error>> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let path = args.first().ok_or("usage: throughput PATH|NAME [BATCH] [RESIZE CROP]")?;
    let number = |i: usize| args.get(i).map(|text| text.parse::<usize>()).transpose();
    let batch_size = number(1)?.unwrap_or(128);
    let start = Instant::now();
    let data = Dataset::find(path, &OpenOptions::default())?;
    println!("{}: opened in {:.2?}", data.summary(), start.elapsed());
    let crop = number(3)?.map(|side| (side, side));
    let pad_crop = if crop.is_none() { Some(4) } else { None };
    let resize = number(2)?.map(Resize::ShortSide);
    let transform = Transform { resize, crop, pad_crop, mirror: true, ..Transform::default() };
    let mut batch = Batch::default();
    for (what, mode) in [("training", Mode::Train { seed: 0, epoch: 0 }), ("evaluation", Mode::Eval)] {
        let mut batches = data.train.batches(batch_size, &transform, mode, false)?;
        let (mut count, start) = (0, Instant::now());
        while count < 200 && batches.next_into(&mut batch)? {
            count += 1;
        }
        println!("{what}: {:.3} ms a batch", start.elapsed().as_secs_f64() * 1e3 / f64::from(count.max(1)));
    }
    Ok(())
}
