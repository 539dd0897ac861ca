//! Numbering the class folders of an image folder.

use std::collections::BTreeMap;
use std::path::Path;

use crate::DataError;

/// The largest file of classes that is read.
const MAX_FILE: u64 = 16 << 20;

/// Index of each class folder, the number of classes, and their names by index.
#[derive(Debug, PartialEq)]
pub(crate) struct Classes {
    pub index: BTreeMap<String, u32>,
    pub names: Vec<String>,
}

/// Numbers the class folders (sorted, without duplicates): by the file of classes, by the number in `NNNN_name` if they are
/// all named so, or in sorted order.
pub(crate) fn number(
    dataset: &Path,
    folders: &[String],
    classes_file: Option<&Path>,
) -> Result<Classes, DataError> {
    if let Some(file) = classes_file {
        return listed(folders, file);
    }
    let indexed = folders.iter().find(|folder| own_index(folder).is_some());
    let plain = folders.iter().find(|folder| own_index(folder).is_none());
    if let (Some(indexed), Some(plain)) = (indexed, plain) {
        return Err(DataError::MixedClassNames {
            path: dataset.into(),
            indexed: indexed.clone(),
            plain: plain.clone(),
        });
    }
    if plain.is_some() {
        let index = folders.iter().cloned().zip(0..).collect();
        return Ok(Classes { index, names: folders.to_vec() });
    }
    let mut owners: BTreeMap<u32, &String> = BTreeMap::new();
    for folder in folders {
        if let Some(index) = own_index(folder)
            && let Some(first) = owners.insert(index, folder)
        {
            return Err(DataError::DuplicateClassIndex {
                path: dataset.into(),
                first: first.clone(),
                second: folder.clone(),
            });
        }
    }
    // Indices without a folder get their number as name.
    let count = owners.last_key_value().map_or(0, |(&last, _)| last + 1);
    let name = |i: u32| owners.get(&i).map_or_else(|| format!("{i:04}"), |folder| folder[5..].to_owned());
    Ok(Classes {
        names: (0..count).map(name).collect(),
        index: owners.iter().map(|(&index, &folder)| (folder.clone(), index)).collect(),
    })
}

/// The index that a folder named `NNNN_name` states.
fn own_index(folder: &str) -> Option<u32> {
    let (digits, name) = folder.split_once('_')?;
    let four_digits = digits.len() == 4 && digits.bytes().all(|b| b.is_ascii_digit());
    if four_digits && !name.is_empty() { digits.parse().ok() } else { None }
}

fn listed(folders: &[String], file: &Path) -> Result<Classes, DataError> {
    let io = |source| DataError::Io { path: file.into(), source };
    let bytes = std::fs::metadata(file).map_err(io)?.len();
    if bytes > MAX_FILE {
        return Err(DataError::TooLarge { file: file.display().to_string(), bytes, limit: MAX_FILE });
    }
    let not_text = || DataError::ClassesFile { classes_file: file.into() };
    let text = String::from_utf8(std::fs::read(file).map_err(io)?).map_err(|_| not_text())?;
    let mut names = Vec::new();
    let mut all = BTreeMap::new();
    for (line, name) in text.lines().map(str::trim).enumerate().filter(|(_, name)| !name.is_empty()) {
        if all.insert(name.to_owned(), names.len() as u32).is_some() {
            return Err(DataError::DuplicateClass {
                classes_file: file.into(),
                line: line + 1,
                name: name.into(),
            });
        }
        names.push(name.to_owned());
    }
    if names.is_empty() {
        return Err(not_text());
    }
    let mut index = BTreeMap::new();
    for folder in folders {
        let Some(&number) = all.get(folder) else {
            return Err(DataError::UnlistedClass { folder: folder.clone(), classes_file: file.into() });
        };
        index.insert(folder.clone(), number);
    }
    Ok(Classes { index, names })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn folders(names: &[&str]) -> Vec<String> {
        names.iter().map(|&name| name.to_owned()).collect()
    }

    fn with_file(names: &[&str], content: &[u8]) -> Result<Classes, DataError> {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), content).unwrap();
        number(Path::new("d"), &folders(names), Some(file.path()))
    }

    #[test]
    fn plain_names_are_numbered_in_order() {
        let classes = number(Path::new("d"), &folders(&["10", "2", "cat"]), None).unwrap();
        assert_eq!(classes.index["10"], 0);
        assert_eq!(classes.index["cat"], 2);
        assert_eq!(classes.names, ["10", "2", "cat"]);
    }

    #[test]
    fn four_digits_and_underscore_state_the_index() {
        let classes = number(Path::new("d"), &folders(&["0001_n02", "0003_n07"]), None).unwrap();
        assert_eq!(classes.index, BTreeMap::from([("0001_n02".into(), 1), ("0003_n07".into(), 3)]));
        assert_eq!(classes.names, ["0000", "n02", "0002", "n07"]);
        for other in ["001_a", "00001_a", "0001", "0001_", "a001_b", "+001_a"] {
            assert_eq!(own_index(other), None, "{other}");
        }
    }

    #[test]
    fn contradictions_are_refused() {
        let mixed = number(Path::new("d"), &folders(&["0001_a", "b"]), None).unwrap_err();
        assert_eq!(mixed.to_string(), "d: class folder \"0001_a\" names its index but \"b\" does not");
        let twice = number(Path::new("d"), &folders(&["0001_a", "0001_b"]), None).unwrap_err();
        assert_eq!(twice.to_string(), "d: class folders \"0001_a\" and \"0001_b\" name the same index");
    }

    #[test]
    fn a_file_of_classes_overrides() {
        let classes = with_file(&["0001_a", "cat"], b"dog\ncat\r\n\n0001_a\n").unwrap();
        assert_eq!(classes.index, BTreeMap::from([("0001_a".into(), 2), ("cat".into(), 1)]));
        assert_eq!(classes.names, ["dog", "cat", "0001_a"]);
        assert!(matches!(with_file(&["cow"], b"dog\n"), Err(DataError::UnlistedClass { .. })));
        assert!(matches!(with_file(&["a"], b"a\nb\n\na\n"), Err(DataError::DuplicateClass { line: 4, .. })));
        assert!(matches!(with_file(&["a"], b"a\xff\n"), Err(DataError::ClassesFile { .. })));
        assert!(matches!(with_file(&["a"], b" \n"), Err(DataError::ClassesFile { .. })));
        let missing = number(Path::new("d"), &folders(&["a"]), Some(Path::new("no such file")));
        assert!(matches!(missing, Err(DataError::Io { .. })));
    }
}
