//! Recognition of the layout of a folder, or of a zip archive of one.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use crate::cifar::Cifar;
use crate::decode::is_image;
use crate::storage::Files;
use crate::tree::{Tree, below};
use crate::{DataError, Dataset, OpenOptions, Split, classes, idx};

/// The largest IDX or CIFAR file that is read.
const MAX_FILE: u64 = 1 << 30;

const TRAIN: &[&str] = &["train", "training"];
const TEST: &[&str] = &["test", "testing", "val", "valid", "validation"];

/// The part of an IDX dataset a file is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum IdxPart {
    TrainImages,
    TrainLabels,
    TestImages,
    TestLabels,
}

/// The parts by the ends of their names; a prefix such as `emnist-letters-` names the dataset.
const IDX_NAMES: [(&str, IdxPart); 6] = [
    ("train-images-idx3-ubyte", IdxPart::TrainImages),
    ("train-labels-idx1-ubyte", IdxPart::TrainLabels),
    ("t10k-images-idx3-ubyte", IdxPart::TestImages),
    ("test-images-idx3-ubyte", IdxPart::TestImages),
    ("t10k-labels-idx1-ubyte", IdxPart::TestLabels),
    ("test-labels-idx1-ubyte", IdxPart::TestLabels),
];

fn idx_part(name: &str) -> Option<IdxPart> {
    split_idx_name(name).map(|(_, part)| part)
}

/// The prefix of an IDX file's name, and the part that it is.
fn split_idx_name(name: &str) -> Option<(String, IdxPart)> {
    let name = name.to_ascii_lowercase().replace(".idx", "-idx");
    let stem = name.strip_suffix(".gz").unwrap_or(&name);
    let found = IDX_NAMES.iter().find_map(|(end, part)| Some((stem.strip_suffix(end)?, *part)));
    let (prefix, part) = found?;
    (prefix.is_empty() || prefix.ends_with(['-', '_'])).then(|| (prefix.to_owned(), part))
}

/// Whether a file is of the CIFAR layout, and of its test part.
fn cifar_part(name: &str) -> Option<(Cifar, bool)> {
    let number = name.strip_prefix("data_batch_").and_then(|rest| rest.strip_suffix(".bin"));
    match name {
        "test_batch.bin" => Some((Cifar::Ten, true)),
        "train.bin" => Some((Cifar::Hundred, false)),
        "test.bin" => Some((Cifar::Hundred, true)),
        _ => number.and_then(|n| n.parse::<u8>().ok()).map(|_| (Cifar::Ten, false)),
    }
}

/// Opens whatever layout a tree has.
pub(crate) fn open(tree: Tree, options: &OpenOptions) -> Result<Dataset, DataError> {
    let root = root(&tree);
    let idx: BTreeMap<IdxPart, usize> =
        tree.files_in(&root).filter_map(|(i, name)| Some((idx_part(name)?, i))).collect();
    if !idx.is_empty() {
        one_idx_dataset(&tree, &root)?;
        return open_idx(&tree, &idx);
    }
    let cifar: Vec<(usize, Cifar, bool)> = tree
        .files_in(&root)
        .filter_map(|(i, name)| cifar_part(name).map(|(cifar, test)| (i, cifar, test)))
        .collect();
    if let Some(&(_, kind, _)) = cifar.first() {
        return open_cifar(&tree, &root, kind, &cifar);
    }
    open_images(tree, &root, options)
}

/// The folder that the dataset lies in: the top, or below the only folder there is.
fn root(tree: &Tree) -> String {
    let mut root = String::new();
    loop {
        let known = |prefix: &str| {
            tree.files_in(prefix).any(|(_, name)| idx_part(name).is_some() || cifar_part(name).is_some())
        };
        let only = match tree.subfolders(&root).take(2).collect::<Vec<_>>()[..] {
            [only] if !known(&root) && !is_split(only) => only.to_owned(),
            _ => return root,
        };
        let inner = below_root(&root, &only);
        // A folder with nothing but files in it is a class.
        if tree.subfolders(&inner).next().is_none() && !known(&inner) {
            return root;
        }
        root = inner;
    }
}

/// Whether a folder is named like a split.
fn is_split(folder: &str) -> bool {
    TRAIN.iter().chain(TEST).any(|name| folder.eq_ignore_ascii_case(name))
}

/// Both splits, or the one there is as both.
fn pair(
    train: Option<Split>,
    test: Option<Split>,
    names: Vec<String>,
    place: &Tree,
) -> Result<Dataset, DataError> {
    let dataset = Dataset::of_parts(train, test, names, place.top())?;
    dataset.ok_or_else(|| DataError::Empty { place: place.place("") })
}

/// Refuses a folder with IDX files of several prefixes.
fn one_idx_dataset(tree: &Tree, root: &str) -> Result<(), DataError> {
    let mut first: Option<(String, String)> = None;
    for (_, name) in tree.files_in(root) {
        let Some((prefix, _)) = split_idx_name(name) else { continue };
        match &first {
            None => first = Some((prefix, name.to_owned())),
            Some((before, _)) if *before == prefix => {}
            Some((_, before)) => {
                return Err(DataError::SeveralIdx {
                    path: tree.top().into(),
                    first: before.clone(),
                    second: name.to_owned(),
                });
            }
        }
    }
    Ok(())
}

fn open_idx(tree: &Tree, parts: &BTreeMap<IdxPart, usize>) -> Result<Dataset, DataError> {
    let split =
        |images: IdxPart, labels: IdxPart, missing: &str| match (parts.get(&images), parts.get(&labels)) {
            (None, None) => Ok(None),
            (Some(&i), Some(&l)) => {
                let (images, labels) = (tree.read(i, MAX_FILE)?, tree.read(l, MAX_FILE)?);
                idx::read((&tree.name(i), &images), (&tree.name(l), &labels)).map(Some)
            }
            (Some(&present), None) | (None, Some(&present)) => Err(DataError::MissingFile {
                path: tree.top().into(),
                present: tree.files[present].path.clone(),
                missing: missing.into(),
            }),
        };
    let missing = |images: IdxPart, stem: &str| match parts.contains_key(&images) {
        true => format!("{stem}-labels-idx1-ubyte"),
        false => format!("{stem}-images-idx3-ubyte"),
    };
    let train = split(IdxPart::TrainImages, IdxPart::TrainLabels, &missing(IdxPart::TrainImages, "train"))?;
    let test = split(IdxPart::TestImages, IdxPart::TestLabels, &missing(IdxPart::TestImages, "t10k"))?;
    pair(train, test, Vec::new(), tree)
}

fn open_cifar(
    tree: &Tree,
    root: &str,
    kind: Cifar,
    files: &[(usize, Cifar, bool)],
) -> Result<Dataset, DataError> {
    let split = |test: bool| -> Result<Option<Split>, DataError> {
        let mut read = Vec::new();
        for &(file, _, _) in files.iter().filter(|&&(_, k, t)| k == kind && t == test) {
            read.push((tree.name(file), tree.read(file, MAX_FILE)?));
        }
        if read.is_empty() { Ok(None) } else { kind.read(&read).map(Some) }
    };
    let names_file = match kind {
        Cifar::Ten => "batches.meta.txt",
        Cifar::Hundred => "fine_label_names.txt",
    };
    let mut names = Vec::new();
    if let Some((file, _)) = tree.files_in(root).find(|(_, name)| *name == names_file) {
        let text = String::from_utf8_lossy(&tree.read(file, 1 << 16)?).into_owned();
        names = text.lines().map(str::trim).filter(|l| !l.is_empty()).map(str::to_owned).collect();
    }
    let mut dataset = pair(split(false)?, split(true)?, Vec::new(), tree)?;
    dataset.classes = kind.classes();
    // A file of names of another length does not belong to these classes.
    dataset.class_names = if names.len() == dataset.classes { names } else { Vec::new() };
    Ok(dataset)
}

/// The images of one split, by class folder.
type ByClass = BTreeMap<String, Vec<u32>>;

fn open_images(tree: Tree, root: &str, options: &OpenOptions) -> Result<Dataset, DataError> {
    let find = |names: &[&str]| {
        let folders = names.iter().flat_map(|name| {
            tree.subfolders(root)
                .filter(|folder| folder.eq_ignore_ascii_case(name))
                .map(|f| below_root(root, f))
        });
        let folders: Vec<String> = folders.collect();
        // A test folder without class folders has no labels, and gives way to a validation folder.
        let labelled = folders.iter().find(|folder| tree.subfolders(folder).next().is_some());
        labelled.or(folders.first()).cloned()
    };
    let places: Vec<String> = match (find(TRAIN), find(TEST)) {
        (None, None) => vec![root.to_owned()],
        (train, test) => train.into_iter().chain(test).collect(),
    };
    let mut splits: Vec<ByClass> = Vec::new();
    for place in places {
        splits.push(by_class(&tree, &place, options.unlabelled)?);
    }
    let folders: BTreeSet<&String> = splits.iter().flat_map(BTreeMap::keys).collect();
    let folders: Vec<String> = folders.into_iter().cloned().collect();
    let numbered = classes::number(tree.top(), &folders, options.classes.as_deref())?;
    let tree = Arc::new(tree);
    let mut surveyed = Vec::new();
    for images in splits {
        let (mut files, mut labels) = (Vec::new(), Vec::new());
        for (folder, members) in images {
            labels.resize(labels.len() + members.len(), numbered.index[&folder]);
            files.extend(members);
        }
        surveyed.push((Files::survey(Arc::clone(&tree), files)?, labels));
    }
    // Grey test images beside coloured training images get three channels too.
    let channels = surveyed.iter().map(|(files, _)| files.channels()).max().unwrap_or(1);
    let mut loaded = Vec::new();
    for (files, labels) in surveyed {
        loaded.push(Split::whole(files.load(channels)?, labels));
    }
    let mut loaded = loaded.into_iter();
    let (first, second) = (loaded.next(), loaded.next());
    pair(first, second, numbered.names, &tree)
}

fn below_root(root: &str, folder: &str) -> String {
    if root.is_empty() { folder.into() } else { format!("{root}/{folder}") }
}

/// The images below `place`, by the folder directly below it; `unlabelled` ones without folders are one class without a
/// name.
fn by_class(tree: &Tree, place: &str, unlabelled: bool) -> Result<ByClass, DataError> {
    let mut images: ByClass = tree.subfolders(place).map(|class| (class.to_owned(), Vec::new())).collect();
    let mut loose = Vec::new();
    for (i, entry) in tree.files.iter().enumerate() {
        let Some(rest) = below(place, &entry.path).filter(|rest| is_image(rest)) else { continue };
        match rest.split_once('/') {
            Some((class, _)) => images.entry(class.to_owned()).or_default().push(i as u32),
            None => loose.push(i as u32),
        }
    }
    if images.is_empty() && !loose.is_empty() {
        if unlabelled {
            return Ok(BTreeMap::from([(String::new(), loose)]));
        }
        return Err(DataError::NoClasses { folder: tree.place(place) });
    }
    if images.values().all(Vec::is_empty) {
        return match tree.files.first() {
            Some(first) if images.is_empty() => Err(DataError::Unrecognised {
                path: tree.top().into(),
                found: format!("no images; the first file is {:?}", first.path),
            }),
            _ => Err(DataError::Empty { place: tree.place(place) }),
        };
    }
    match images.iter().find(|(_, members)| members.is_empty()) {
        Some((class, _)) => Err(DataError::EmptyClass { folder: tree.place(&below_root(place, class)) }),
        None => Ok(images),
    }
}
