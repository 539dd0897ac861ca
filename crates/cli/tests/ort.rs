//! ONNX files for onnxruntime with packed weights.

mod common;

use common::{fails, json, path, python, run, sample_model};

#[test]
fn dense_layers_are_packed_and_compute_the_same() {
    let dir = tempfile::tempdir().unwrap();
    let [small, codes, dense, x, y, z] =
        ["small.onnx", "codes.onnx", "dense.onnx", "x.npy", "y.npy", "z.npy"].map(|n| path(&dir, n));
    // Eight images of 1 x 28 x 28.
    let mut file = b"\x93NUMPY\x01\x00".to_vec();
    let header = format!("{:<117}\n", "{'descr': '<f4', 'fortran_order': False, 'shape': (8, 1, 28, 28), }");
    file.extend((header.len() as u16).to_le_bytes());
    file.extend(header.as_bytes());
    file.extend((0..8 * 784).flat_map(|i| ((i * 37 % 256) as f32 / 256.0).to_le_bytes()));
    std::fs::write(&x, file).unwrap();
    for bits in ["2", "4"] {
        let args = ["compress", &sample_model(), "--method", "kmeans", "--bits", bits, "-o", &small];
        let args = [&args[..], &["--runtime", "ort", "-o", &dense, "--json"]].concat();
        let said = run(&args);
        let notes = String::from_utf8_lossy(&said.stderr).into_owned();
        assert!(notes.contains("uniform") && notes.contains("dense:32"), "{notes}");
        let report: serde_json::Value = serde_json::from_slice(&said.stdout).unwrap();
        let notes = report["outputs"][0]["notes"].to_string();
        // 500 inputs of the last layer have no block.
        assert!(notes.contains("keeps packed: 1") && notes.contains("is not packed"), "{bits} bits: {notes}");
        run(&["run", &small, "--input", &x, "-o", &y]);
        // What was read again writes the same values in every other form.
        run(&["convert", &small, &codes]);
        run(&["run", &codes, "--input", &x, "-o", &z]);
        assert_eq!(std::fs::read(&y).unwrap(), std::fs::read(&z).unwrap());
        let again = json(&["convert", &codes, &dense, "--runtime", "ort"]);
        assert!(again["outputs"][0]["notes"].to_string().contains("keeps packed: 1"), "{again}");
        python("check_ort.py", &[&small, &x, &y, "1"]);
    }
}

#[test]
fn jobs_whose_codebooks_cannot_be_even_are_refused_before_the_work() {
    let dir = tempfile::tempdir().unwrap();
    let [onnx, other] = ["a.onnx", "a.slq"].map(|n| path(&dir, n));
    let model = sample_model();
    let cases: &[(&[&str], &str)] = &[
        (&["--method", "deep-compression", "--data", "mnist-10k", "-o", &onnx], "--codebook uniform"),
        (&["--method", "kmeans", "--codebook", "pow2", "-o", &onnx], "--codebook uniform"),
        (&["--method", "kmeans", "--granularity", "tensor", "-o", &onnx], "--granularity dense:32"),
        // Blocks of 64, which codebooks of 31 values take, do not divide 800 inputs.
        (&["--method", "kmeans", "--bits", "5", "-o", &onnx], "--granularity dense:32"),
        (&["--method", "kmeans", "-o", &other], ".onnx"),
        (&["--data", "mnist-10k", "--tune-epochs", "1", "-o", &onnx], "--tune-epochs"),
        (
            &["--data", "mnist-10k", "--ternary", "--train-centroids", "-o", &onnx],
            "leave out --train-centroids",
        ),
    ];
    for (args, word) in cases {
        let said = fails(&[&["compress", &model, "--runtime", "ort"], *args].concat(), 1);
        assert!(said.contains("--runtime ort") && said.contains(word), "{args:?}: {said}");
        assert!(!std::path::Path::new(&onnx).exists() && !std::path::Path::new(&other).exists());
    }
}
