//! `.slq` containers and zip archives from their parts, so that a changed byte is not refused for its checksum.

/// First bytes of every `.slq` file, the version of the format and that of the program.
const BEGIN: [u8; 8] = [0x89, b'S', b'L', b'Q', 1, 0, 1, 0];
/// The kind of the section that holds the network.
const NETWORK: u8 = 1;
/// Most sections beside it.
const MOST: u8 = 16;

/// The CRC-32 of zlib of every byte.
const CHECKSUMS: [u32; 256] = {
    let (mut table, mut byte) = ([0; 256], 0);
    while byte < 256 {
        let (mut value, mut bit) = (byte as u32, 0);
        while bit < 8 {
            value = if value & 1 == 1 { value >> 1 ^ 0xedb8_8320 } else { value >> 1 };
            bit += 1;
        }
        table[byte] = value;
        byte += 1;
    }
    table
};

/// The CRC-32 of zlib.
fn checksum(bytes: &[u8]) -> [u8; 4] {
    let step = |sum: u32, &b: &u8| CHECKSUMS[usize::from(sum as u8 ^ b)] ^ sum >> 8;
    (!bytes.iter().fold(!0, step)).to_le_bytes()
}

/// Appends a number as `docs/slq-format.md` writes it.
fn put(out: &mut Vec<u8>, mut value: usize) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

/// A file of the right lengths and checksums. The parts are a byte with the number of sections beside the network; for each
/// of these its kind in a byte and its length in two; what they hold; the rest is the network, not deflated.
/// Bytes that begin like a file are that file.
pub fn container(parts: &[u8]) -> Vec<u8> {
    if parts.starts_with(&BEGIN[..4]) {
        return parts.to_vec();
    }
    let (count, rest) = parts.split_at(parts.len().min(1));
    let count = usize::from(count.first().map_or(0, |c| c % (MOST + 1)));
    let (table, mut rest) = rest.split_at(rest.len().min(3 * count));
    let mut sections = vec![(NETWORK, Vec::new())];
    for entry in table.chunks_exact(3) {
        let length = usize::from(u16::from_le_bytes([entry[1], entry[2]]));
        let (section, behind) = rest.split_at(rest.len().min(length));
        sections.push((entry[0], section.to_vec()));
        rest = behind;
    }
    sections[0].1.push(0);
    put(&mut sections[0].1, rest.len());
    sections[0].1.extend_from_slice(rest);

    let mut table = Vec::new();
    put(&mut table, sections.len());
    for (kind, bytes) in &sections {
        table.push(*kind);
        put(&mut table, bytes.len());
        table.extend(checksum(bytes));
    }
    let content: usize = sections.iter().map(|(_, bytes)| bytes.len()).sum();
    // The length of the file, which the header holds, is a number of one to three bytes.
    let length = |own: usize| BEGIN.len() + 4 + own + table.len() + 4;
    let own = (1..4).find(|&own| (length(own) + content) >> (7 * own) == 0).unwrap_or(4);
    let mut file = BEGIN.to_vec();
    file.extend((length(own) as u32).to_le_bytes());
    put(&mut file, length(own) + content);
    file.extend(table);
    file.extend(checksum(&file));
    sections.iter().for_each(|(_, bytes)| file.extend_from_slice(bytes));
    file
}

/// Names of a PyTorch checkpoint's entries.
pub const PYTORCH: &[&str] = &[
    "a/data/0",
    "a/data/1",
    "a/data/2",
    "a/data/3",
    "a/data/4",
    "a/data/5",
    "a/data/6",
    "a/data/7",
    "a/data/8",
    "a/data/9",
    "a/data.pkl",
];
/// Names of the arrays of a dataset.
pub const NPZ: &[&str] = &["y_test.npy", "x_test.npy", "y_train.npy", "x_train.npy"];
/// First bytes of the parts of an archive.
const PARTS: &[u8] = b"parts";

/// A zip archive of entries with these names that are not compressed. Behind `parts` there are a length in two bytes and so
/// many bytes for each entry; the last one is the rest. Other bytes are the file itself.
pub fn archive(bytes: &[u8], names: &[&str]) -> Vec<u8> {
    let Some(mut rest) = bytes.strip_prefix(PARTS) else { return bytes.to_vec() };
    let (mut file, mut directory) = (Vec::new(), Vec::new());
    for (i, name) in names.iter().enumerate() {
        let mut content = rest;
        if let (Some((length, behind)), true) = (rest.split_first_chunk(), i + 1 < names.len()) {
            (content, rest) = behind.split_at(behind.len().min(u16::from_le_bytes(*length).into()));
        }
        let size = (content.len() as u32).to_le_bytes();
        // Version 2.0, no flags, stored, midnight of the first day there is.
        let common = [&[20, 0, 0, 0, 0, 0, 0, 0, 0x21, 0][..], &checksum(content), &size, &size].concat();
        let name_length = (name.len() as u16).to_le_bytes();
        let at = (file.len() as u32).to_le_bytes();
        directory.extend(
            [&b"PK\x01\x02\x14\0"[..], &common, &name_length, &[0; 12], &at, name.as_bytes()].concat(),
        );
        file.extend([&b"PK\x03\x04"[..], &common, &name_length, &[0; 2], name.as_bytes(), content].concat());
    }
    let (at, count) = ((file.len() as u32).to_le_bytes(), (names.len() as u16).to_le_bytes());
    let size = (directory.len() as u32).to_le_bytes();
    file.extend(directory);
    file.extend([&b"PK\x05\x06"[..], &[0; 4], &count, &count, &size, &at, &[0; 2]].concat());
    file
}
