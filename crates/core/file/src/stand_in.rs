//! Files that stand where another one is meant to be.

use std::fs::File;
use std::io::Read;
use std::path::Path;

/// Bytes of a file that are looked at.
const START: u64 = 512;

/// What the file at `path` is in place of a model or of data: empty, a pointer of Git LFS, or a page of HTML (a download that
/// answered with one); with what to do. `None` for anything else, and for what cannot be read.
pub fn stand_in(path: &Path) -> Option<&'static str> {
    // Opening a pipe could block for ever.
    if !path.metadata().ok()?.is_file() {
        return None;
    }
    let mut start = Vec::new();
    File::open(path).ok()?.take(START).read_to_end(&mut start).ok()?;
    stand_in_bytes(&start)
}

/// The same for the first bytes of a file.
pub fn stand_in_bytes(start: &[u8]) -> Option<&'static str> {
    if start.is_empty() {
        return Some("the file is empty");
    }
    if start.starts_with(b"version https://git-lfs.github.com/spec/") {
        return Some("a pointer of Git LFS, not the file itself; fetch it with `git lfs pull`");
    }
    let text = start.strip_prefix(b"\xef\xbb\xbf").unwrap_or(start).trim_ascii_start().to_ascii_lowercase();
    if text.starts_with(b"<!doctype html") || text.starts_with(b"<html") {
        return Some("a page of HTML, not the file itself; download the file behind the page's link");
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stand_ins_are_told_from_files() {
        let folder = tempfile::tempdir().unwrap();
        let of = |bytes: &[u8]| {
            let path = folder.path().join("net.onnx");
            std::fs::write(&path, bytes).unwrap();
            stand_in(&path).unwrap_or("a file")
        };
        assert!(of(b"").contains("empty"));
        let pointer = b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 12345\n";
        assert!(of(pointer).contains("git lfs pull"));
        assert!(of(b"\xef\xbb\xbf\n<!DOCTYPE html>\n<html>").contains("HTML"));
        assert!(of(b"<HTML lang='en'>").contains("HTML"));
        assert_eq!(of(b"\x08\x08\x12\x07pytorch"), "a file");
        assert_eq!(of(b"name: 'net'"), "a file");
        assert_eq!(stand_in(folder.path()), None);
        assert_eq!(stand_in(&folder.path().join("none")), None);
    }
}
