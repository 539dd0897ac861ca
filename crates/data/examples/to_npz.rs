//! Writes a dataset as `.npz`.
//!
//! `cargo run --release -p slq-data --example to_npz -- PATH|NAME OUT.npz`

use std::error::Error;
use std::path::Path;

use slq_data::{Dataset, OpenOptions, write_npz};

fn main() -> Result<(), Box<dyn Error>> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let [input, output] = &args[..] else { return Err("usage: to_npz PATH|NAME OUT.npz".into()) };
    let data = Dataset::find(input, &OpenOptions::default())?;
    write_npz(&data, Path::new(output))?;
    println!("{}", data.summary());
    Ok(())
}
