//! The file header: magic, versions, the table of sections.

use crate::bytes::{Input, put_number};
use crate::error::{Fault, SlqError};

/// First bytes of every `.slq` file.
pub(crate) const MAGIC: [u8; 4] = [0x89, b'S', b'L', b'Q'];
/// Version of the format that this program writes, and the only one it reads.
pub const FORMAT_VERSION: u8 = 1;
/// First version of the program that reads [`FORMAT_VERSION`]: major, minor, patch.
const FIRST_PROGRAM: [u8; 3] = [0, 1, 0];
/// Bytes before the table.
pub(crate) const PREFIX: usize = 12;
/// Name of the header in errors.
pub(crate) const NAME: &str = "header";
/// The least a section takes in the table: kind, length, checksum.
const ENTRY: usize = 6;

/// What a section holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Kind {
    /// Nodes, declarations of weights, metadata.
    Network = 1,
    /// Codebooks and codes of one weight.
    Codes = 2,
    /// Values of one weight or several small ones.
    Values = 3,
    /// Zeros, where the content would exceed the bound on expansion.
    Padding = 4,
}

impl Kind {
    /// Its name.
    pub fn name(self) -> &'static str {
        match self {
            Kind::Network => "network",
            Kind::Codes => "codes",
            Kind::Values => "values",
            Kind::Padding => "padding",
        }
    }

    fn of(byte: u8) -> Option<Self> {
        [Kind::Network, Kind::Codes, Kind::Values, Kind::Padding].into_iter().find(|&k| k as u8 == byte)
    }
}

/// A section as the table lists it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Section {
    pub kind: Kind,
    pub offset: u64,
    pub length: u64,
    pub checksum: u32,
}

/// Length of the header that begins with these bytes.
pub(crate) fn length(prefix: &[u8; PREFIX], file: u64) -> Result<usize, SlqError> {
    let mut input = Input::new(prefix, NAME);
    if input.array()? != MAGIC {
        return Err(SlqError::NotSlq);
    }
    let version = input.byte()?;
    let [major, minor, patch] = input.array()?;
    if version > FORMAT_VERSION {
        let program = format!("{major}.{minor}.{patch}");
        return Err(SlqError::NewerVersion { version, program, this: env!("CARGO_PKG_VERSION") });
    }
    if version == 0 {
        return Err(input.fail_at(4, Fault::Tag { what: "format version", value: 0 }));
    }
    let length = input.u32()?;
    if u64::from(length) > file || (length as usize) < PREFIX + 4 {
        let fault = Fault::Count { what: "bytes of header", count: length.into(), limit: file };
        return Err(input.fail_at(8, fault));
    }
    Ok(length as usize)
}

/// The sections that the whole header lists, for a file of `file` bytes.
pub(crate) fn read(header: &[u8], file: u64) -> Result<Vec<Section>, SlqError> {
    let (body, stored) = header.split_at(header.len().saturating_sub(4));
    let stored = Input::new(stored, NAME).u32()?;
    let found = crc32fast::hash(body);
    if stored != found {
        return Err(SlqError::Checksum { section: NAME.into(), stored, found });
    }
    let mut input = Input::new(body, NAME);
    input.take(PREFIX)?;
    let declared = input.number()?;
    if declared != file {
        return Err(SlqError::FileLength { declared, found: file });
    }
    let count = input.count("sections", ENTRY)?;
    let mut offset = header.len() as u64;
    let mut sections = Vec::with_capacity(count);
    for _ in 0..count {
        let at = input.position();
        let byte = input.byte()?;
        let tag = Fault::Tag { what: "kind of section", value: byte.into() };
        let kind = Kind::of(byte).ok_or_else(|| input.fail_at(at, tag))?;
        let length = input.number()?;
        let checksum = input.u32()?;
        if length > file - offset {
            let fault = Fault::Ends { needed: length, left: file - offset };
            return Err(input.fail_at(at, fault));
        }
        sections.push(Section { kind, offset, length, checksum });
        offset += length;
    }
    input.finish()?;
    if offset != file {
        return Err(SlqError::FileLength { declared: offset, found: file });
    }
    let network = |s: &Section| s.kind == Kind::Network;
    if !sections.first().is_some_and(network) || sections.iter().skip(1).any(network) {
        return Err(input.fail(Fault::Layout("the first section, and no other, must hold the network")));
    }
    Ok(sections)
}

/// The header of a file with these sections; the file is header and sections one after the other.
pub(crate) fn write(sections: &[(Kind, &[u8])]) -> Vec<u8> {
    let mut table = Vec::new();
    put_number(&mut table, sections.len() as u64);
    for (kind, bytes) in sections {
        table.push(*kind as u8);
        put_number(&mut table, bytes.len() as u64);
        table.extend(crc32fast::hash(bytes).to_le_bytes());
    }
    let content: u64 = sections.iter().map(|(_, b)| b.len() as u64).sum();
    // The length of the file is part of the header, and its own length part of that.
    let mut own = 1;
    let length = loop {
        let length = PREFIX + own + table.len() + 4;
        let mut number = Vec::new();
        put_number(&mut number, length as u64 + content);
        if number.len() <= own {
            break length;
        }
        own = number.len();
    };
    let mut header = MAGIC.to_vec();
    header.push(FORMAT_VERSION);
    header.extend(FIRST_PROGRAM);
    header.extend((length as u32).to_le_bytes());
    put_number(&mut header, length as u64 + content);
    header.extend(table);
    header.extend(crc32fast::hash(&header).to_le_bytes());
    header
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(sections: &[(Kind, &[u8])]) -> Vec<u8> {
        let mut bytes = write(sections);
        sections.iter().for_each(|(_, b)| bytes.extend_from_slice(b));
        bytes
    }

    fn parse(bytes: &[u8]) -> Result<Vec<Section>, SlqError> {
        let size = bytes.len() as u64;
        let mut input = Input::new(bytes, NAME);
        let length = length(&input.array()?, size)?;
        read(&bytes[..length], size)
    }

    #[test]
    fn sections_follow_each_other() {
        let long = vec![7; 300];
        for content in [&[][..], &[1, 2, 3], &long] {
            let bytes = file(&[(Kind::Network, &[9]), (Kind::Codes, content), (Kind::Values, &[5])]);
            let found = parse(&bytes).unwrap();
            assert_eq!(found.iter().map(|s| s.length).collect::<Vec<_>>(), [1, content.len() as u64, 1]);
            let at = found[1].offset as usize;
            assert_eq!(&bytes[at..at + content.len()], content);
            assert_eq!(found[2].offset, bytes.len() as u64 - 1);
            assert_eq!(found[1].checksum, crc32fast::hash(content));
        }
    }

    #[test]
    fn the_header_has_one_length_whatever_the_numbers_take() {
        for size in (0..400).chain(16_000..16_400) {
            let content = vec![0; size];
            assert!(parse(&file(&[(Kind::Network, &content)])).is_ok(), "{size} bytes");
        }
    }

    #[test]
    fn a_newer_version_names_the_program_that_reads_it() {
        let mut bytes = file(&[(Kind::Network, &[1])]);
        bytes[4..8].copy_from_slice(&[2, 3, 14, 1]);
        let message = parse(&bytes).unwrap_err().to_string();
        let expected = format!(
            "format version 2 is read by slq 3.14.1 and later; this is slq {}",
            env!("CARGO_PKG_VERSION")
        );
        assert_eq!(message, expected);
    }

    #[test]
    fn orders_that_no_writer_makes_are_refused() {
        for sections in [&[][..], &[Kind::Codes], &[Kind::Network, Kind::Network]] {
            let sections: Vec<(Kind, &[u8])> = sections.iter().map(|&k| (k, &[0u8][..])).collect();
            assert!(matches!(
                parse(&file(&sections)),
                Err(SlqError::Malformed { fault: Fault::Layout(_), .. })
            ));
        }
    }

    #[test]
    fn every_changed_or_missing_byte_of_a_header_is_noticed() {
        let bytes = file(&[(Kind::Network, &[1; 9]), (Kind::Codes, &[2; 20])]);
        let header = bytes.len() - 29;
        for at in 0..header {
            for bit in 0..8 {
                let mut bad = bytes.clone();
                bad[at] ^= 1 << bit;
                assert!(parse(&bad).is_err(), "bit {bit} of byte {at}");
            }
        }
        for end in 0..bytes.len() {
            assert!(parse(&bytes[..end]).is_err(), "cut at {end}");
        }
    }
}
