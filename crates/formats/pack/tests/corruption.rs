//! Damaged and hostile files: one sentence, no panic, and no network that differs in silence.

mod common;

use common::{difference, graph_of, set_palette};
use slq_graph::{Graph, Palette, Tensor, Weight};
use slq_pack::{Effort, Reader, SlqError, WriteOptions, write_bytes};

/// A small network whose file has sections of every kind, static and adaptive streams.
fn sample() -> Graph {
    let mut weights: Vec<(String, Weight)> = Vec::new();
    let mut coded = |name: &str, shape: &[usize], codebook: Vec<f32>, groups, code: fn(usize) -> u8| {
        let count: usize = shape.iter().product();
        let mut weight = Tensor::f32(shape.to_vec(), vec![0.0; count]).unwrap().into();
        let codes = (0..count).map(code).collect();
        set_palette(&mut weight, Palette::fully_fixed(codebook, groups, codes).unwrap());
        weights.push((name.into(), weight));
    };
    let unsorted = vec![0.0, -0.5, 0.25, 0.75];
    coded("conv", &[4, 3, 3, 3], unsorted, 1, |i| if i % 9 == i / 27 { 1 + (i * 7 % 3) as u8 } else { 0 });
    let books = (0..32).map(|i| (i % 8) as f32 - 3.3 + (i / 8) as f32 * 0.01).collect();
    coded("fc", &[4, 90], books, 4, |i| (i * i % 11 % 8) as u8);
    let bias: Vec<f32> = (0..40).map(|i| (i as f32 * 0.37).sin() * 0.1).collect();
    weights.push(("bias".into(), Tensor::f32(vec![40], bias).unwrap().into()));
    weights.push(("shape".into(), Tensor::i64_vector(vec![-1, 810]).into()));
    let mut graph = graph_of(weights);
    graph.metadata.properties.insert("slq.licence".into(), "all rights reserved".into());
    graph
}

fn files() -> [Vec<u8>; 2] {
    [Effort::Fast, Effort::Smallest].map(|effort| {
        let options = WriteOptions { effort, ..WriteOptions::default() };
        write_bytes(&sample(), &options).unwrap().bytes
    })
}

fn decode(bytes: &[u8]) -> Result<Graph, SlqError> {
    let graph = Reader::from_bytes(bytes)?.graph()?;
    Ok(graph)
}

#[test]
fn every_flipped_bit_is_noticed() {
    for bytes in files() {
        assert_eq!(difference(&decode(&bytes).unwrap(), &sample()), None);
        for at in 0..bytes.len() {
            for bit in 0..8 {
                let mut damaged = bytes.clone();
                damaged[at] ^= 1 << bit;
                let error = decode(&damaged).expect_err("a flipped bit").to_string();
                assert!(!error.contains('\n') && error.len() < 300, "bit {bit} of byte {at}: {error}");
            }
        }
    }
}

#[test]
fn every_cut_is_noticed() {
    for bytes in files() {
        for end in 0..bytes.len() {
            assert!(decode(&bytes[..end]).is_err(), "cut at {end}");
        }
        let longer = [&bytes[..], &[0]].concat();
        assert!(matches!(decode(&longer), Err(SlqError::FileLength { .. })));
    }
}

/// Positions and lengths of the sections, and where their checksums stand in the header.
fn sections(bytes: &[u8]) -> Vec<(usize, usize, usize)> {
    let number = |at: &mut usize| {
        let (mut value, mut shift) = (0, 0);
        loop {
            let byte = bytes[*at];
            *at += 1;
            value |= usize::from(byte & 0x7f) << shift;
            shift += 7;
            if byte < 0x80 {
                return value;
            }
        }
    };
    let mut offset = u32::from_le_bytes(bytes[8..12].try_into().unwrap()) as usize;
    let mut at = 12;
    number(&mut at);
    let count = number(&mut at);
    let section = |_| {
        at += 1;
        let length = number(&mut at);
        let found = (offset, length, at);
        at += 4;
        offset += length;
        found
    };
    (0..count).map(section).collect()
}

/// Makes all checksums right again.
fn seal(bytes: &mut [u8]) {
    for (offset, length, at) in sections(bytes) {
        let sum = crc32fast::hash(&bytes[offset..offset + length]);
        bytes[at..at + 4].copy_from_slice(&sum.to_le_bytes());
    }
    let header = u32::from_le_bytes(bytes[8..12].try_into().unwrap()) as usize;
    let sum = crc32fast::hash(&bytes[..header - 4]);
    bytes[header - 4..header].copy_from_slice(&sum.to_le_bytes());
}

#[test]
fn sections_changed_under_a_right_checksum_never_panic() {
    let (mut refused, mut changed) = (0, 0);
    for bytes in files() {
        for (offset, length, _) in sections(&bytes) {
            for at in offset..offset + length {
                for value in [0, 1, 0x7f, 0x80, 0xff, bytes[at] ^ 0x10, bytes[at].wrapping_add(1)] {
                    let mut hostile = bytes.clone();
                    hostile[at] = value;
                    seal(&mut hostile);
                    match decode(&hostile) {
                        Ok(_) => changed += 1,
                        Err(error) => {
                            let text = error.to_string();
                            let placed =
                                matches!(error, SlqError::Malformed { .. } | SlqError::Expansion { .. });
                            assert!(placed && !text.contains('\n'), "byte {at}: {text}");
                            refused += 1;
                        }
                    }
                }
            }
        }
    }
    // Raw bits below a float's leading ones can be anything; most other changes are refused.
    assert!(refused > changed, "{refused} refused, {changed} taken");
}

#[test]
fn errors_name_section_and_offset() {
    let bytes = files()[1].clone();
    let (offset, _, _) = sections(&bytes)[1];
    let mut hostile = bytes;
    hostile[offset] = 9;
    seal(&mut hostile);
    let error = decode(&hostile).unwrap_err().to_string();
    assert_eq!(error, "section 1 (codes of `conv`), offset 0: 9 is no form of codebook");
}

#[test]
fn what_is_no_slq_file_is_called_so() {
    for bytes in [&b""[..], b"P", b"PK\x03\x04", &[0x89, b'P', b'N', b'G', 1, 2, 3, 4, 5, 6, 7, 8, 9]] {
        assert!(matches!(Reader::from_bytes(bytes).err(), Some(SlqError::NotSlq)), "{bytes:?}");
    }
    let short = Reader::from_bytes(&[0x89, b'S', b'L', b'Q'][..]).err().unwrap().to_string();
    assert_eq!(short, "header, offset 0: 12 more bytes are needed, 4 are left");
}
