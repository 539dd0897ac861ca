//! Clusters the values of `.npy` files of float32 and prints one line of JSON for each: error and seconds.
//!
//! `cluster_npy ALGORITHM K THREADS REPEATS FILE...`, with `exact`, `fast`, `lloyd`, `published`, or `sort` for the
//! time of sorting alone. The seconds are the least of the repeats, from values in memory to codes in memory;
//! file reading does not count.

use std::fs::File;
use std::io::BufReader;
use std::time::Instant;

use slq_codebook::{Algorithm, ClusterParams, Clustering, SortedValues, cluster};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let [algorithm, k, threads, repeats, files @ ..] = args.as_slice() else {
        return Err("usage: cluster_npy exact|fast|lloyd|published|sort K THREADS REPEATS FILE...".into());
    };
    let sort_only = algorithm == "sort";
    let algorithm = match algorithm.as_str() {
        "exact" | "sort" => Algorithm::Exact,
        "fast" => Algorithm::Fast,
        "lloyd" => Algorithm::Lloyd,
        "published" => Algorithm::Published,
        other => return Err(format!("{other} is not an algorithm").into()),
    };
    let params = ClusterParams::builder(k.parse()?).algorithm(algorithm).build()?;
    rayon::ThreadPoolBuilder::new().num_threads(threads.parse()?).build_global()?;
    let mut total = 0.0;
    for file in files {
        let values: Vec<f32> = npyz::NpyFile::new(BufReader::new(File::open(file)?))?.into_vec()?;
        let mut best = f64::INFINITY;
        let mut result: Option<Clustering<u8>> = None;
        for _ in 0..repeats.parse::<usize>()?.max(1) {
            let start = Instant::now();
            if sort_only {
                std::hint::black_box(SortedValues::new(&values)?);
                best = best.min(start.elapsed().as_secs_f64());
                continue;
            }
            let clustering = cluster::<u8>(&values, &params)?;
            best = best.min(start.elapsed().as_secs_f64());
            result = Some(clustering);
        }
        total += best;
        if let Some(c) = result {
            println!(
                "{{\"file\":\"{file}\",\"values\":{},\"k\":{},\"sse\":{:e},\"lower_bound\":{:e},\"seconds\":{best:.6},\"iterations\":{}}}",
                values.len(),
                c.codebook.len(),
                c.sse,
                c.lower_bound,
                c.iterations
            );
        }
    }
    println!("{{\"total_seconds\":{total:.6}}}");
    Ok(())
}
