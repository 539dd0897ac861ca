//! Deflate with a preset dictionary.
//!
//! The bytes are raw DEFLATE (RFC 1951). Matches may reach back into [`DICTIONARY`], as if it stood directly before
//! the first byte; zlib's `inflateSetDictionary` and Python's `zlib.decompressobj(-15, zdict=...)` read them.

use miniz_oxide::deflate::core::{
    CompressorOxide, TDEFLFlush, TDEFLStatus, compress, create_comp_flags_from_zip_params,
};
use miniz_oxide::inflate::TINFLStatus;
use miniz_oxide::inflate::core::{DecompressorOxide, decompress, inflate_flags};

use super::words::DICTIONARY;
use crate::bytes::{Input, put_number};
use crate::error::{Fault, SlqError};

const STORED: u8 = 0;
const DEFLATED: u8 = 1;
/// The most that one byte of DEFLATE can stand for.
const MOST_RATIO: u64 = 1032;

/// The section of these bytes: method, length, content.
pub(super) fn pack(bytes: &[u8]) -> Vec<u8> {
    let deflated = deflate(bytes).filter(|d| d.len() < bytes.len());
    let (method, content) = match &deflated {
        Some(deflated) => (DEFLATED, deflated.as_slice()),
        None => (STORED, bytes),
    };
    let mut out = vec![method];
    put_number(&mut out, bytes.len() as u64);
    out.extend_from_slice(content);
    out
}

fn deflate(bytes: &[u8]) -> Option<Vec<u8>> {
    // The highest level, raw bytes, the default strategy.
    let mut compressor = Box::new(CompressorOxide::new(create_comp_flags_from_zip_params(10, -15, 0)));
    // The dictionary is compressed first and its output dropped: what follows refers to it.
    run(&mut compressor, DICTIONARY, TDEFLFlush::Sync)?;
    run(&mut compressor, bytes, TDEFLFlush::Finish)
}

/// What the compressor makes of all of `bytes`.
fn run(compressor: &mut CompressorOxide, mut bytes: &[u8], flush: TDEFLFlush) -> Option<Vec<u8>> {
    let mut out = vec![0; bytes.len() / 2 + 256];
    let mut written = 0;
    loop {
        let (status, read, more) = compress(compressor, bytes, &mut out[written..], flush);
        written += more;
        bytes = bytes.get(read..)?;
        let room = written < out.len();
        match status {
            TDEFLStatus::Done => break,
            TDEFLStatus::Okay if bytes.is_empty() && room && flush == TDEFLFlush::Sync => break,
            TDEFLStatus::Okay if !room => out.resize(out.len() * 2, 0),
            TDEFLStatus::Okay if read > 0 || more > 0 => {}
            _ => return None,
        }
    }
    out.truncate(written);
    Some(out)
}

/// The bytes of a section that [`pack`] made; `limit` is the most there may be.
pub(super) fn unpack(section: &[u8], name: &str, limit: u64) -> Result<Vec<u8>, SlqError> {
    let mut input = Input::new(section, name);
    let method = input.byte()?;
    let at = input.position();
    let length = input.number()?;
    let content = input.take(input.left())?;
    let most = (content.len() as u64).saturating_mul(MOST_RATIO).min(limit);
    match method {
        STORED if length == content.len() as u64 => Ok(content.to_vec()),
        DEFLATED if length <= most => usize::try_from(length)
            .ok()
            .and_then(|length| inflate(content, length))
            .ok_or_else(|| input.fail_at(at, Fault::Inflate { declared: length })),
        STORED | DEFLATED => {
            let limit = if method == STORED { content.len() as u64 } else { most };
            Err(input.fail_at(at, Fault::Count { what: "bytes of network", count: length, limit }))
        }
        tag => Err(input.fail_at(0, Fault::Tag { what: "compression", value: tag.into() })),
    }
}

fn inflate(content: &[u8], length: usize) -> Option<Vec<u8>> {
    let start = DICTIONARY.len();
    let mut out = Vec::with_capacity(start + length);
    out.extend_from_slice(DICTIONARY);
    out.resize(start + length, 0);
    let mut decompressor = Box::<DecompressorOxide>::default();
    let flags = inflate_flags::TINFL_FLAG_USING_NON_WRAPPING_OUTPUT_BUF;
    let (status, read, written) = decompress(&mut decompressor, content, &mut out, start, flags);
    let whole = status == TINFLStatus::Done && read == content.len() && written == length;
    whole.then(|| out.split_off(start))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn bytes_come_back(bytes in proptest::collection::vec(0u8..8, 0..2000)) {
            let packed = pack(&bytes);
            prop_assert_eq!(unpack(&packed, "s", u64::MAX).unwrap(), bytes);
        }

        #[test]
        fn random_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..100)) {
            let _ = unpack(&[&[DEFLATED, 200, 1], &bytes[..]].concat(), "s", 1 << 20);
        }
    }

    #[test]
    fn large_and_random_bytes_come_back() {
        let mut seed = 1u32;
        let mut random = || {
            seed = seed.wrapping_mul(1664525).wrapping_add(1013904223);
            (seed >> 24) as u8
        };
        let noise: Vec<u8> = (0..300_000).map(|_| random()).collect();
        let same = vec![7; 1_000_000];
        for bytes in [noise, same] {
            let packed = pack(&bytes);
            assert!(unpack(&packed, "s", u64::MAX).unwrap() == bytes);
        }
    }

    #[test]
    fn words_of_the_dictionary_take_little() {
        let text = b"layer1.0.conv1.weightlayer1.0.bn1.running_mean";
        assert!(pack(text).len() < 16, "{} bytes", pack(text).len());
    }

    #[test]
    fn impossible_lengths_are_refused() {
        let packed = pack(&[5; 1000]);
        assert!(
            unpack(&packed, "s", 999)
                .unwrap_err()
                .to_string()
                .contains("1000 bytes of network exceed the 999")
        );
        let cut = &packed[..packed.len() - 1];
        assert!(
            unpack(cut, "s", 2000).unwrap_err().to_string().contains("do not give the 1000 bytes declared")
        );
        let more = [&packed[..], &[0]].concat();
        assert!(unpack(&more, "s", 2000).is_err());
        assert!(unpack(&[STORED, 3, 1], "s", 2000).unwrap_err().to_string().contains("3 bytes of network"));
        assert!(unpack(&[7, 0], "s", 2000).unwrap_err().to_string().contains("7 is no compression"));
    }
}
