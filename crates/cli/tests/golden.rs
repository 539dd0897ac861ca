//! The published settings of every method keep their bits: short jobs on LeNet against stored hashes.
//!
//! The jobs and the hashes stand in `golden/`; `scripts/golden.py` runs these and more jobs and writes the hashes.

mod common;

use std::collections::HashMap;
use std::path::Path;

use common::{path, run, slq};
use sha2::{Digest, Sha256};

const JOBS: &str = include_str!("golden/jobs.txt");
const HASHES: &str = include_str!("golden/hashes.txt");
const SECTION: &str = "lenet";

/// Name and arguments of the jobs of [`SECTION`].
fn jobs() -> Vec<(String, Vec<String>)> {
    let repo = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").display().to_string();
    let (mut section, mut shared, mut found) = ("", "", Vec::new());
    for line in JOBS.lines().filter(|l| !l.is_empty() && !l.starts_with('#')) {
        if let Some(rest) = line.strip_prefix('[') {
            (section, shared) = rest.split_once(']').expect("a section ends with ]");
        } else if section == SECTION {
            let (name, own) = line.split_once(':').expect("a job has a name");
            let words = own.split_whitespace().chain(shared.split_whitespace());
            found.push((format!("{section}/{name}"), words.map(|w| w.replace("{repo}", &repo)).collect()));
        }
    }
    found
}

/// The two hashes of each (job, instruction set): of the file, and of the file without its metadata.
fn stored() -> HashMap<(&'static str, &'static str), [&'static str; 2]> {
    let lines = HASHES.lines().filter(|l| !l.starts_with('#'));
    lines
        .map(|line| match line.split_whitespace().collect::<Vec<_>>()[..] {
            [name, isa, file, network] => ((name, isa), [file, network]),
            _ => panic!("hashes.txt: {line}"),
        })
        .collect()
}

/// The SHA-256 of `bytes` in hexadecimal digits.
fn hash(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|b| format!("{b:02x}")).collect()
}

/// A varint of protobuf and what follows it.
fn varint(bytes: &[u8]) -> (u64, &[u8]) {
    let end = bytes.iter().position(|b| b & 0x80 == 0).expect("a varint ends");
    let value = bytes[..=end].iter().rev().fold(0, |v, b| v << 7 | u64::from(b & 0x7f));
    (value, &bytes[end + 1..])
}

/// The bytes of a serialised ONNX ModelProto less its field 14, `metadata_props`.
fn without_metadata(mut bytes: &[u8]) -> Vec<u8> {
    let mut kept = Vec::with_capacity(bytes.len());
    while !bytes.is_empty() {
        let (key, rest) = varint(bytes);
        let rest = match key & 7 {
            0 => varint(rest).1,
            2 => {
                let (length, rest) = varint(rest);
                &rest[length as usize..]
            }
            wire => panic!("wire type {wire} in a ModelProto"),
        };
        if key >> 3 != 14 {
            kept.extend_from_slice(&bytes[..bytes.len() - rest.len()]);
        }
        bytes = rest;
    }
    kept
}

/// Whether this machine has the instruction set.
fn available(isa: &str) -> bool {
    let args = ["bench", "zoo:lenet-300-100", "--batch", "1", "--seconds", "0.01", "--quiet", "--isa", isa];
    slq().args(args).output().unwrap().status.success()
}

/// Runs the jobs on one instruction set and returns a sentence for each hash that is not as stored.
fn differences(isa: &str) -> Vec<String> {
    let (stored, dir) = (stored(), tempfile::tempdir().unwrap());
    let mut wrong = Vec::new();
    let jobs = jobs();
    assert!(jobs.len() >= 6, "jobs.txt lost its section [{SECTION}]");
    for (name, args) in jobs {
        let stem = name.replace('/', "-");
        let [out, run_dir] = [format!("{stem}.onnx"), stem].map(|n| path(&dir, &n));
        let mut call: Vec<&str> = args.iter().map(String::as_str).collect();
        call.extend(["--isa", isa, "--quiet", "-o", &out]);
        if call[0] == "compress" {
            call.extend(["--run-dir", &run_dir]);
        }
        run(&call);
        let file = std::fs::read(&out).unwrap();
        let found = [hash(&file), hash(&without_metadata(&file))];
        let Some(wanted) = stored.get(&(&name, isa)) else {
            wrong.push(format!("{name} on {isa}: no hash is stored"));
            continue;
        };
        if found[1] != wanted[1] {
            wrong.push(format!("{name} on {isa}: the network differs"));
        } else if found[0] != wanted[0] {
            wrong.push(format!("{name} on {isa}: only the file's metadata differs"));
        }
    }
    wrong
}

fn check(isa: &str) {
    let wrong = differences(isa);
    assert!(
        wrong.is_empty(),
        "published settings no longer give the files they gave; if that is meant, say why in the commit and write \
         golden/hashes.txt anew with scripts/golden.py:\n{}",
        wrong.join("\n")
    );
}

#[test]
fn published_settings_keep_their_bits_in_portable_code() {
    check("scalar");
}

#[test]
fn published_settings_keep_their_bits_on_avx2() {
    if available("avx2") {
        check("avx2");
    } else {
        println!("SKIPPED published_settings_keep_their_bits_on_avx2: this machine has no avx2");
    }
}

#[test]
fn published_settings_keep_their_bits_on_avx512() {
    if available("avx512") {
        check("avx512");
    } else {
        println!("SKIPPED published_settings_keep_their_bits_on_avx512: this machine has no avx512");
    }
}
