//! A single image file as a split.

use std::path::Path;

use crate::decode::{self, MAX_FILE};
use crate::error::DataError;
use crate::split::Split;
use crate::tree::read_limited;

impl Split {
    /// One image file as a split of one image of class 0: grey with one channel, otherwise red, green and blue.
    ///
    /// # Errors
    /// [`DataError::Io`], [`DataError::TooLarge`], [`DataError::Image`] for one that cannot be decoded within the limits, and
    /// [`DataError::StandIn`].
    pub fn from_image(path: &Path) -> Result<Split, DataError> {
        let file = || path.display().to_string();
        let bytes = read_limited(path, MAX_FILE, file)?;
        if let Some(what) = slq_file::stand_in_bytes(&bytes[..bytes.len().min(512)]) {
            return Err(DataError::StandIn { file: file(), what });
        }
        let unreadable = |source| DataError::Image { file: file(), source: Box::new(source) };
        let channels = if decode::header(&bytes).map_err(unreadable)?.colour { 3 } else { 1 };
        let mut pixels = Vec::new();
        let [height, width] = decode::decode(&bytes, channels, &mut pixels).map_err(unreadable)?;
        Split::from_bytes(pixels, vec![0], [channels, height, width])
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixture;

    #[test]
    fn colour_and_grey_keep_their_channels() {
        let photo = Split::from_image(&fixture::folder().join("photo.jpg")).unwrap();
        assert_eq!((photo.len(), photo.channels()), (1, 3));
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("grey.png");
        image::GrayImage::from_pixel(3, 2, image::Luma([7])).save(&path).unwrap();
        let grey = Split::from_image(&path).unwrap();
        assert_eq!((grey.channels(), grey.height(), grey.width()), (1, Some(2), Some(3)));
    }

    #[test]
    fn what_is_no_image_is_named_as_what_it_is() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.jpg");
        let said = |bytes: &[u8]| {
            std::fs::write(&path, bytes).unwrap();
            Split::from_image(&path).unwrap_err().to_string()
        };
        assert!(
            said(b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n").contains("Git LFS")
        );
        assert!(said(b"\xff\xd8 no photo").contains("unreadable image"));
        assert!(matches!(
            Split::from_image(&folder.path().join("none.jpg")).unwrap_err(),
            DataError::Io { .. }
        ));
    }

    /// 67 bytes that say 11265 x 513 pixels, found by fuzzing: a small file may be a large picture, which is decoded in time.
    #[test]
    fn a_small_file_of_a_large_picture_is_read_or_refused_in_time() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("large.gif");
        let mut bytes =
            b"GIF89a\x01,\x01\x02\x80\0\0\0\0\0\xff\xff\xff,\0\0\xf9\0\x01\0\x01\0\0\x02\0D\x01\0;".to_vec();
        bytes.extend([0xfc; 32]);
        std::fs::write(&path, bytes).unwrap();
        let began = std::time::Instant::now();
        let _ = Split::from_image(&path);
        assert!(began.elapsed().as_secs() < 20, "{:?}", began.elapsed());
    }
}
