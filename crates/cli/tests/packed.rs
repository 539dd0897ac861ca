//! `.slq` files run packed: `run`, `eval`, `bench`.

mod common;

use common::{fails, json, path, run, sample_model};

/// The values of an `.npy` file of 32-bit floats.
fn floats(path: &str) -> Vec<f32> {
    let bytes = std::fs::read(path).unwrap();
    let start = 10 + usize::from(u16::from_le_bytes([bytes[8], bytes[9]]));
    bytes[start..].chunks_exact(4).map(|b| f32::from_le_bytes(b.try_into().unwrap())).collect()
}

/// An `.npy` file of so many images.
fn images(path: &str, count: usize) {
    let mut header = format!("{{'descr': '<f4', 'fortran_order': False, 'shape': ({count}, 1, 28, 28), }}");
    header.push_str(&" ".repeat(63 - (10 + header.len()) % 64));
    header.push('\n');
    let mut bytes = b"\x93NUMPY\x01\x00".to_vec();
    bytes.extend(u16::try_from(header.len()).unwrap().to_le_bytes());
    bytes.extend(header.as_bytes());
    bytes.extend((0..count * 784).flat_map(|i| ((i * 37 % 101) as f32 / 101.0).to_le_bytes()));
    std::fs::write(path, bytes).unwrap();
}

#[test]
fn packed_networks_give_what_their_float_twins_give() {
    let dir = tempfile::tempdir().unwrap();
    let [slq, onnx, input, a, b] = ["n.slq", "n.onnx", "x.npy", "a.npy", "b.npy"].map(|n| path(&dir, n));
    run(&["compress", &sample_model(), "--method", "kmeans", "--bits", "4", "-o", &slq, "-o", &onnx]);
    images(&input, 5);
    run(&["run", &onnx, "--input", &input, "-o", &a]);
    for expand in ["auto", "none", "all"] {
        run(&["run", &slq, "--input", &input, "-o", &b, "--expand", expand]);
        let (want, got) = (floats(&a), floats(&b));
        let most = want.iter().fold(0.0f32, |m, v| m.max(v.abs()));
        assert_eq!((want.len(), got.len()), (50, 50));
        assert!(want.iter().zip(&got).all(|(w, g)| (w - g).abs() < 1e-5 * most), "{expand}");
    }
    let [packed, dense] = [&slq, &onnx]
        .map(|m| json(&["eval", m, "--data", "mnist-10k", "--predictions", &path(&dir, "p.npy")]));
    assert_eq!(packed["top1"], dense["top1"]);
    let [p, d] = [&packed, &dense].map(|e| e["loss"].as_f64().unwrap());
    assert!((p - d).abs() < 1e-5, "{p} {d}");

    let bench =
        json(&["bench", &slq, "--only-packed", "--batch", "1", "--seconds", "0.1", "--expand", "none"]);
    assert!(bench["packed"]["images_per_second"].as_f64().unwrap() > 0.0);
    assert!((215_250..230_000).contains(&bench["packed"]["packed_bytes"].as_u64().unwrap()), "{bench}");
    assert!(bench["forward"].is_null());
    let bench = json(&["bench", &slq, "--batch", "1", "--seconds", "0.1"]);
    assert!(bench["packed"].is_object() && bench["train"].is_object(), "{bench}");

    assert!(
        fails(&["run", &onnx, "--input", &input, "-o", &path(&dir, "c.npy"), "--expand", "all"], 1)
            .contains("--expand")
    );
    assert!(fails(&["bench", &onnx, "--only-packed"], 1).contains("--only-packed"));
    std::fs::write(&slq, b"\x89SLQ\x01\x00\x02\x00\xff\xff\xff\xff").unwrap();
    assert!(fails(&["run", &slq, "--input", &input, "-o", &a], 1).contains("n.slq"));
}
