//! Checkpoints that PyTorch wrote (tests/make.py), read as PyTorch reads them.

use std::path::PathBuf;

use slq_graph::{DType, Tensor};
use slq_pytorch::{PytorchError, read};

fn fixture(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures").join(name)
}

/// `torch.arange(24).reshape(4, 6) / 8 - 1` at a row and a column.
fn base(row: usize, column: usize) -> f32 {
    (row * 6 + column) as f32 / 8.0 - 1.0
}

fn floats(tensor: &Tensor) -> Vec<f32> {
    tensor.to_f32().unwrap().into_owned()
}

#[test]
fn a_state_dict_alone_beside_an_optimiser_and_in_the_old_form() {
    for file in ["state.pth", "training.pth", "before-1.6.pth"] {
        let weights = read(&fixture(file)).unwrap();
        let names: Vec<&str> = weights.keys().map(String::as_str).collect();
        let expected = [
            "conv.weight",
            "conv.transposed",
            "conv.part",
            "half",
            "brain",
            "double",
            "bn.num_batches_tracked",
            "scalar",
            "empty",
            "flags",
            "tied",
        ];
        assert_eq!(names, expected, "{file}");
        let tensor = |name: &str| &weights[name].tensor;
        let grid = |rows: &[usize], columns: &[usize]| -> Vec<f32> {
            rows.iter().flat_map(|&r| columns.iter().map(move |&c| base(r, c))).collect()
        };
        let all = [0, 1, 2, 3, 4, 5];
        assert_eq!(floats(tensor("conv.weight")), grid(&all[..4], &all));
        assert_eq!(floats(tensor("tied")), floats(tensor("conv.weight")));
        let transposed: Vec<f32> = all.iter().flat_map(|&c| (0..4).map(move |r| base(r, c))).collect();
        assert_eq!(
            (tensor("conv.transposed").shape(), floats(tensor("conv.transposed"))),
            (&[6, 4][..], transposed)
        );
        assert_eq!(floats(tensor("conv.part")), grid(&[1, 2], &[2, 3, 4]));
        for (name, dtype, rows) in
            [("half", DType::F16, 2), ("brain", DType::Bf16, 2), ("double", DType::F64, 1)]
        {
            assert_eq!(
                (tensor(name).dtype(), floats(tensor(name))),
                (dtype, grid(&all[..rows], &all)),
                "{name}"
            );
        }
        assert_eq!(tensor("bn.num_batches_tracked").to_i64().unwrap(), [7]);
        assert_eq!((tensor("scalar").shape().len(), floats(tensor("scalar"))), (0, vec![2.5]));
        assert_eq!(tensor("empty").shape(), [0, 3]);
    }
}

#[test]
fn parameters_are_tensors() {
    let weights = read(&fixture("parameters.pth")).unwrap();
    assert_eq!(floats(&weights["b"].tensor), [1.0; 3]);
    assert_eq!(weights["w"].tensor.shape(), [4, 6]);
}

#[test]
fn what_is_no_state_dict_says_so() {
    let said = |name: &str| read(&fixture(name)).unwrap_err().to_string();
    assert!(said("module.pth").contains("state_dict()"), "{}", said("module.pth"));
    assert!(said("sparse.pth").contains("tensor `s`"), "{}", said("sparse.pth"));
    assert!(matches!(read(&fixture("../checkpoints.rs")), Err(PytorchError::Form { .. })));
}

#[test]
fn damaged_files_are_refused_and_never_panic() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("damaged.pth");
    for name in ["training.pth", "before-1.6.pth"] {
        let whole = std::fs::read(fixture(name)).unwrap();
        for length in (0..whole.len()).step_by(37) {
            std::fs::write(&path, &whole[..length]).unwrap();
            assert!(read(&path).is_err(), "{name} cut at {length}");
        }
        for at in (0..whole.len()).step_by(11) {
            let mut flipped = whole.clone();
            flipped[at] ^= 0x55;
            std::fs::write(&path, &flipped).unwrap();
            let _ = read(&path);
        }
    }
}
