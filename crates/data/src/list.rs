//! Lists of images: a path and a label in each line.

use std::path::Path;
use std::sync::Arc;

use crate::storage::Files;
use crate::tree::Tree;
use crate::{DataError, Split};

/// The largest list that is read.
const MAX_FILE: u64 = 1 << 30;

impl Split {
    /// The images that a text file lists, in its order: in each line a path below `root`, a space and a label, as for
    /// Caffe's `ImageData`.
    ///
    /// # Errors
    /// [`DataError::ListLine`], [`DataError::Empty`]; those of unreadable images.
    pub fn open_list(list: &Path, root: &Path) -> Result<Split, DataError> {
        open(list, root)
    }
}

fn open(list: &Path, root: &Path) -> Result<Split, DataError> {
    let io = |source| DataError::Io { path: list.into(), source };
    let bytes = std::fs::metadata(list).map_err(io)?.len();
    if bytes > MAX_FILE {
        return Err(DataError::TooLarge { file: list.display().to_string(), bytes, limit: MAX_FILE });
    }
    let text = std::fs::read(list).map_err(io)?;
    let text = String::from_utf8(text).map_err(|_| DataError::Name { path: list.into() })?;
    let (mut paths, mut labels) = (Vec::new(), Vec::new());
    for (line, content) in text.lines().enumerate().filter(|(_, l)| !l.trim().is_empty()) {
        let parts = content.trim_end().rsplit_once(' ');
        let parts = parts.and_then(|(path, label)| Some((path.trim_end(), label.parse::<u32>().ok()?)));
        let (path, label) = parts.ok_or_else(|| DataError::ListLine { path: list.into(), line: line + 1 })?;
        paths.push(path.to_owned());
        labels.push(label);
    }
    if labels.is_empty() {
        return Err(DataError::Empty { place: list.display().to_string() });
    }
    let count = labels.len() as u32;
    let files = Files::survey(Arc::new(Tree::listed(root, paths)?), (0..count).collect())?;
    let channels = files.channels();
    Ok(Split::whole(files.load(channels)?, labels))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with(text: &str) -> Result<Split, DataError> {
        let folder = tempfile::tempdir().unwrap();
        for (name, grey) in [("a b.png", 10u8), ("c.png", 20)] {
            image::GrayImage::from_pixel(3, 2, image::Luma([grey])).save(folder.path().join(name)).unwrap();
        }
        let list = folder.path().join("list.txt");
        std::fs::write(&list, text).unwrap();
        open(&list, folder.path())
    }

    #[test]
    fn images_come_in_the_order_of_the_list_and_may_come_twice() {
        let split = with("c.png 4\na b.png 0\n\nc.png 1\n").unwrap();
        assert_eq!((split.labels(), split.channels(), split.height()), (&[4, 0, 1][..], 1, Some(2)));
    }

    #[test]
    fn a_leading_slash_begins_at_the_root_folder() {
        assert_eq!(with("/c.png 4\n/a b.png 0\n").unwrap().labels(), [4, 0]);
        let missing = with("/none.png 0\n");
        assert!(matches!(missing, Err(DataError::Io { path, .. }) if path.ends_with("none.png")));
    }

    #[test]
    fn lines_that_are_no_images_are_named() {
        assert!(matches!(with("a b.png 0\nc.png\n"), Err(DataError::ListLine { line: 2, .. })));
        assert!(matches!(with("c.png -1\n"), Err(DataError::ListLine { line: 1, .. })));
        assert!(
            matches!(with("none.png 0\n"), Err(DataError::Io { path, .. }) if path.ends_with("none.png"))
        );
        assert!(matches!(with("\n"), Err(DataError::Empty { .. })));
    }
}
