//! What can go wrong, one variant for each failure.

use std::io;
use std::path::PathBuf;

/// Why a dataset cannot be opened, or why a batch cannot be made.
///
/// Every message names the file (and the place in it, where there is one).
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DataError {
    /// Nothing is at the path given.
    #[error("{path}: no such file or folder")]
    NotFound {
        /// The path given.
        path: PathBuf,
    },
    /// The operating system refused to read or write.
    #[error("{path}: {source}")]
    Io {
        /// The file or folder.
        path: PathBuf,
        /// The system's answer.
        source: io::Error,
    },
    /// A name is not in UTF-8.
    #[error("{path:?}: the name is not in UTF-8")]
    Name {
        /// The file or folder.
        path: PathBuf,
    },
    /// The content is none of the known layouts.
    #[error(
        "{path}: not a dataset known here ({found}); expected IDX files, the CIFAR binary files, an image folder (train/CLASS/*.jpg), a zip of one, a Caffe LMDB, or an .npz with x_train, y_train, x_test, y_test"
    )]
    Unrecognised {
        /// The path given.
        path: PathBuf,
        /// What was found instead.
        found: String,
    },
    /// No built-in dataset has this name.
    #[error("no dataset is named {name:?}; the names are: {}", known.join(", "))]
    UnknownName {
        /// The name asked for.
        name: String,
        /// The names that exist.
        known: &'static [&'static str],
    },
    /// A dataset known by name is not installed.
    #[error("the files of {name} were not found ({}); {hint}", searched.join(", "))]
    NotInstalled {
        /// The dataset's name.
        name: &'static str,
        /// Where they were looked for.
        searched: Vec<String>,
        /// How to get them.
        hint: &'static str,
    },
    /// A file is larger than this crate is willing to load.
    #[error("{file}: {bytes} bytes are more than the limit of {limit}")]
    TooLarge {
        /// The file.
        file: String,
        /// Its size, as announced.
        bytes: u64,
        /// The most that is accepted.
        limit: u64,
    },
    /// A gzip stream is broken.
    #[error("{file}: broken gzip stream: {source}")]
    Gzip {
        /// The file.
        file: String,
        /// The decoder's answer.
        source: io::Error,
    },
    /// An IDX file starts with another magic number than its name promises.
    #[error("{file}: magic number {found:#010x} where {expected:#010x} is expected")]
    IdxMagic {
        /// The file.
        file: String,
        /// What its first four bytes say.
        found: u32,
        /// What they must say.
        expected: u32,
    },
    /// A header announces more data than the file holds.
    #[error("{file}: the header announces {announced} bytes of data but the file holds {found}")]
    Truncated {
        /// The file.
        file: String,
        /// Bytes announced.
        announced: u64,
        /// Bytes there are, or the most there can be in a compressed file.
        found: u64,
    },
    /// Data goes on after what the header announces.
    #[error("{file}: data goes on after the {announced} bytes announced by the header")]
    TrailingData {
        /// The file.
        file: String,
        /// Bytes announced.
        announced: u64,
    },
    /// A header names a size that no image set has.
    #[error("{file}: impossible dimensions {dims:?}")]
    Dimensions {
        /// The file.
        file: String,
        /// The dimensions, as they stand in the header.
        dims: Vec<u64>,
    },
    /// Images and labels are not equally many.
    #[error("{images_file} holds {images} images but {labels_file} holds {labels} labels")]
    CountMismatch {
        /// File (or array) of the images.
        images_file: String,
        /// How many images it holds.
        images: u64,
        /// File (or array) of the labels.
        labels_file: String,
        /// How many labels it holds.
        labels: u64,
    },
    /// Training and test images have different shapes.
    #[error("{path}: training images are {train:?} but test images {test:?} (channels, height, width)")]
    SplitShapes {
        /// The dataset.
        path: PathBuf,
        /// Channels, height and width of the training images.
        train: [usize; 3],
        /// Channels, height and width of the test images.
        test: [usize; 3],
    },
    /// A file that must accompany another is missing.
    #[error("{path}: there is {present} but no {missing}")]
    MissingFile {
        /// The dataset.
        path: PathBuf,
        /// The file that is there.
        present: String,
        /// The file that is not.
        missing: String,
    },
    /// A split holds no image.
    #[error("{place}: there are no images")]
    Empty {
        /// The file, folder or selection.
        place: String,
    },
    /// A label is not a class.
    #[error("{place}: image {index} has label {label}, but labels count from 0 and must be below {classes}")]
    LabelRange {
        /// The file or split.
        place: String,
        /// Position of the image, from 0.
        index: usize,
        /// Its label.
        label: i64,
        /// Labels must be below this.
        classes: usize,
    },
    /// A label smaller than what is to be subtracted from it.
    #[error("{place}: label {label} is below --label-offset {offset}, which is subtracted from every label")]
    LabelOffset {
        /// The image.
        place: String,
        /// Its label.
        label: u32,
        /// What is to be subtracted.
        offset: u32,
    },
    /// A label that the network has no output for.
    #[error(
        "{place}: image {index} has label {label}, but the network has {outputs} outputs, and labels count from 0{}",
        if *from_one { "; these count from 1: --label-offset 1 subtracts 1 from each" } else { "" }
    )]
    LabelBeyondOutputs {
        /// The file, split or class folder.
        place: String,
        /// Position of the image, from 0.
        index: usize,
        /// Its label.
        label: i64,
        /// Outputs of the network.
        outputs: usize,
        /// Whether the labels are 1 to `outputs`.
        from_one: bool,
    },
    /// Files of several IDX datasets lie in one folder.
    #[error("{path}: `{first}` and `{second}` belong to different datasets; move each into a folder of its own", path = path.display())]
    SeveralIdx {
        /// The folder or archive.
        path: PathBuf,
        /// A file.
        first: String,
        /// Another one of the same part.
        second: String,
    },
    /// A CIFAR file is not a whole number of records.
    #[error("{file}: {bytes} bytes are not a whole number of {record}-byte records")]
    CifarLength {
        /// The file.
        file: String,
        /// Its size.
        bytes: u64,
        /// Bytes of one record.
        record: usize,
    },
    /// A file that stands in for another one, such as a pointer of Git LFS.
    #[error("{file}: {what}")]
    StandIn {
        /// The file.
        file: String,
        /// What it is, and what to do.
        what: &'static str,
    },
    /// An image file cannot be decoded.
    #[error("{file}: unreadable image: {source}")]
    Image {
        /// The file.
        file: String,
        /// The decoder's answer.
        source: Box<image::ImageError>,
    },
    /// A class folder holds no image.
    #[error("{folder}: the class folder holds no images")]
    EmptyClass {
        /// The folder.
        folder: String,
    },
    /// A split's folder has images but no class folders.
    #[error(
        "{folder}: images must lie in one folder for each class (without labels they serve calibration alone)"
    )]
    NoClasses {
        /// The folder.
        folder: String,
    },
    /// Some class folders are named `NNNN_name` and some are not.
    #[error("{path}: class folder {indexed:?} names its index but {plain:?} does not")]
    MixedClassNames {
        /// The dataset.
        path: PathBuf,
        /// A folder named `NNNN_name`.
        indexed: String,
        /// A folder that is not.
        plain: String,
    },
    /// Two class folders name the same index.
    #[error("{path}: class folders {first:?} and {second:?} name the same index")]
    DuplicateClassIndex {
        /// The dataset.
        path: PathBuf,
        /// One folder.
        first: String,
        /// The other.
        second: String,
    },
    /// A class folder is not in the file of classes.
    #[error("class folder {folder:?} is not listed in {classes_file}")]
    UnlistedClass {
        /// The folder.
        folder: String,
        /// The file of classes.
        classes_file: PathBuf,
    },
    /// The file of classes names a class twice.
    #[error("{classes_file}, line {line}: class {name:?} is listed twice")]
    DuplicateClass {
        /// The file of classes.
        classes_file: PathBuf,
        /// The line, from 1.
        line: usize,
        /// The class.
        name: String,
    },
    /// The file of classes is not text, or names no class.
    #[error("{classes_file}: expected one class name a line, in UTF-8")]
    ClassesFile {
        /// The file of classes.
        classes_file: PathBuf,
    },
    /// A zip archive is broken or uses something not supported.
    #[error("{path}: {source}")]
    Zip {
        /// The archive, with the entry where one is at fault.
        path: String,
        /// The reader's answer.
        source: Box<zip::result::ZipError>,
    },
    /// An entry of a zip archive names a place outside of the archive.
    #[error("{path}: entry {entry:?} points outside of the archive")]
    ZipPath {
        /// The archive.
        path: PathBuf,
        /// The entry's name.
        entry: String,
    },
    /// A file's content is not as long as announced.
    #[error("{file}: {announced} bytes were announced but the content differs: {source}")]
    Content {
        /// The file (archive and entry).
        file: String,
        /// Bytes announced.
        announced: u64,
        /// What reading it gave.
        source: io::Error,
    },
    /// Folders are nested deeper than any dataset, or a link leads back to a folder above it.
    #[error("{folder}: folders are nested too deeply")]
    TooDeep {
        /// The folder.
        folder: PathBuf,
    },
    /// An `.npz` lacks an array.
    #[error("{path}: no array {array:?}; there are: {}", found.join(", "))]
    NpzMissing {
        /// The file.
        path: PathBuf,
        /// The array's name.
        array: String,
        /// The arrays it has.
        found: Vec<String>,
    },
    /// The header of an array is not that of a NumPy file.
    #[error("{array}: broken NumPy header: {problem}")]
    NpyHeader {
        /// File and array.
        array: String,
        /// What is wrong.
        problem: &'static str,
    },
    /// An array's element type is not supported.
    #[error("{array}: element type {dtype:?} where {expected} is expected")]
    NpyType {
        /// File and array.
        array: String,
        /// The type, as NumPy writes it.
        dtype: String,
        /// The types supported.
        expected: &'static str,
    },
    /// An array's shape is not that of images or labels.
    #[error("{array}: shape {shape:?} where {expected} is expected")]
    NpyShape {
        /// File and array.
        array: String,
        /// Its shape.
        shape: Vec<u64>,
        /// The shapes supported.
        expected: &'static str,
    },
    /// An array of pixels holds NaN or an infinity.
    #[error("{array}: element {index} is not a finite number")]
    NotFinite {
        /// File and array.
        array: String,
        /// Position in the array, from 0.
        index: usize,
    },
    /// An LMDB database that is damaged, is no database of images, or cannot be written.
    #[error("{path}: {problem}", path = path.display())]
    Lmdb {
        /// The database: its folder, or the file in it.
        path: PathBuf,
        /// What is wrong, with the page or the entry.
        problem: String,
    },
    /// What is to be replaced by a database is something else.
    #[error("{path} exists and is no folder of databases written here; remove it, or name another", path = path.display())]
    NotReplaced {
        /// The path given.
        path: PathBuf,
    },
    /// A line of a list of images is not a path and a label.
    #[error("{path}, line {line}: expected the path of an image, a space and a label", path = path.display())]
    ListLine {
        /// The list.
        path: PathBuf,
        /// The line, from 1.
        line: usize,
    },
    /// A slice is not written `START:END:STEP`.
    #[error("{text:?} is not a slice START:END:STEP (STEP is at least 1)")]
    Slice {
        /// What was given.
        text: String,
    },
    /// More images are asked for than there are, or none.
    #[error("cannot take {asked} of {len} images")]
    Portion {
        /// What was asked for.
        asked: String,
        /// Images there are.
        len: usize,
    },
    /// A batch must hold at least one image, and a stream's not absurdly many.
    #[error("the batch size must be at least 1 (and at most 1048576 in training)")]
    BatchSize,
    /// A setting of a [`Transform`](crate::Transform) makes no sense.
    #[error("transform: {field} {problem}")]
    Transform {
        /// The setting.
        field: &'static str,
        /// What is wrong with it.
        problem: String,
    },
    /// Images of different sizes cannot make a batch.
    #[error("the images differ in size: a resize to one size, or a crop, is needed")]
    SizesDiffer,
    /// An image is smaller than the crop.
    #[error("{place}: a crop of {crop:?} does not fit in an image of {image:?} (height, width)")]
    CropTooLarge {
        /// The image or split.
        place: String,
        /// Height and width of the crop.
        crop: [usize; 2],
        /// Height and width of the image.
        image: [usize; 2],
    },
    /// An image would become absurdly large.
    #[error("{place}: resizing {image:?} to {resized:?} (height, width) makes too many pixels")]
    ResizeTooLarge {
        /// The image.
        place: String,
        /// Height and width of the image.
        image: [usize; 2],
        /// Height and width after the resize.
        resized: [usize; 2],
    },
    /// Images cannot be converted to the number of channels asked for.
    #[error("images of {from} channels cannot be made into {to} channels")]
    Channels {
        /// Channels of the images.
        from: usize,
        /// Channels asked for.
        to: usize,
    },
    /// The thread that loads batches ahead has ended.
    #[error("the thread that loads batches has ended unexpectedly")]
    Loader,
}
