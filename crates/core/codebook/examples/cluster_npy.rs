//! Clusters the values of `.npy` files of float32 and prints one line of JSON for each: error and seconds.
//!
//! `cluster_npy ALGORITHM K THREADS REPEATS FILE...`, with `exact`, `fast`, `lloyd`, `published`, or `sort` for the
//! time of sorting alone. The seconds are the least of the repeats, from values in memory to codes in memory;
//! file reading does not count. Beside them the processor time, where the system tells it (Linux).

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
    for file in files {
        let values = read(file)?;
        let mut best = (f64::INFINITY, f64::INFINITY);
        let mut result: Option<Clustering<u8>> = None;
        for _ in 0..repeats.parse::<usize>()?.max(1) {
            let (start, cpu) = (Instant::now(), cpu_seconds());
            if sort_only {
                std::hint::black_box(SortedValues::new(&values)?);
            } else {
                result = Some(cluster::<u8>(&values, &params)?);
            }
            best.0 = best.0.min(start.elapsed().as_secs_f64());
            best.1 = best.1.min(cpu_seconds() - cpu);
        }
        let (k, sse, bound) = result.map_or((0, 0.0, 0.0), |c| (c.codebook.len(), c.sse, c.lower_bound));
        println!(
            "{{\"file\":\"{file}\",\"values\":{},\"k\":{k},\"sse\":{sse:e},\"lower_bound\":{bound:e},\"seconds\":{:.6},\"cpu_seconds\":{:.6}}}",
            values.len(),
            best.0,
            best.1
        );
    }
    Ok(())
}

/// The values of a file that `numpy.save` wrote of a float32 array.
fn read(file: &str) -> Result<Vec<f32>, Box<dyn std::error::Error>> {
    let bytes = std::fs::read(file)?;
    let [b'\x93', b'N', b'U', b'M', b'P', b'Y', 1, _, low, high, rest @ ..] = bytes.as_slice() else {
        return Err(format!("{file} is no NumPy file of version 1").into());
    };
    let (header, data) =
        rest.split_at_checked(u16::from_le_bytes([*low, *high]) as usize).ok_or("it ends too early")?;
    if !header.windows(5).any(|w| w == b"'<f4'") {
        return Err(format!("{file} does not hold float32 values").into());
    }
    Ok(data.as_chunks().0.iter().map(|&b| f32::from_le_bytes(b)).collect())
}

/// Processor time of all threads; zero where the system does not tell.
fn cpu_seconds() -> f64 {
    let Ok(tasks) = std::fs::read_dir("/proc/self/task") else { return 0.0 };
    let nanoseconds = |task: std::io::Result<std::fs::DirEntry>| -> Option<f64> {
        let text = std::fs::read_to_string(task.ok()?.path().join("schedstat")).ok()?;
        text.split(' ').next()?.parse().ok()
    };
    tasks.filter_map(nanoseconds).sum::<f64>() * 1e-9
}
