//! Damaged and hostile files: errors, never a panic, and memory in proportion to the file.

use std::alloc::{GlobalAlloc, Layout, System};
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

use proptest::prelude::*;

/// Counts the bytes in use and their peak.
struct Counting;

static USED: AtomicUsize = AtomicUsize::new(0);
static PEAK: AtomicUsize = AtomicUsize::new(0);
/// One measurement at a time.
static TURN: Mutex<()> = Mutex::new(());

// SAFETY: every call is handed on to the system's allocator unchanged; only counters are kept beside.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        let used = USED.fetch_add(layout.size(), Relaxed) + layout.size();
        PEAK.fetch_max(used, Relaxed);
        // SAFETY: the caller's promise about `layout` is the one the system's allocator asks for.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        USED.fetch_sub(layout.size(), Relaxed);
        // SAFETY: `pointer` came from `alloc` above, hence from the system's allocator, with this layout.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// Reads `bytes` and gives the memory it took at most.
fn peak_of(bytes: &[u8]) -> usize {
    let before = USED.load(Relaxed);
    PEAK.store(before, Relaxed);
    drop(slq_onnx::read_bytes(bytes));
    PEAK.load(Relaxed).saturating_sub(before)
}

/// What a file of `len` bytes may take: a small multiple (a list of empty names has 24 bytes for two), and
/// room for messages and maps.
fn allowed(len: usize) -> usize {
    64 * len + (1 << 16)
}

fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures").join(name)
}

fn models() -> Vec<Vec<u8>> {
    let mut files: Vec<PathBuf> =
        std::fs::read_dir(fixture("")).unwrap().map(|e| e.unwrap().path()).collect();
    files.sort();
    let mut models: Vec<Vec<u8>> = files
        .iter()
        .filter(|f| f.extension().is_some_and(|e| e == "onnx"))
        .map(|f| std::fs::read(f).unwrap())
        .collect();
    // A palettized one as well.
    let mut graph = slq_onnx::read(fixture("opset13.onnx")).unwrap();
    let weight = graph.weights.get_mut("fc.w").unwrap();
    let palette = slq_graph::Palette::fully_fixed(vec![0.5, 1.5, 2.5], 5, vec![0; 240]);
    let palette =
        palette.or_else(|_| slq_graph::Palette::fully_fixed(vec![0.5; 15], 5, vec![0; 240])).unwrap();
    weight.tensor = slq_graph::Tensor::f32(vec![5, 48], palette.decode()).unwrap();
    weight.palette = Some(palette);
    models.push(slq_onnx::write_bytes(&graph, &slq_onnx::WriteOptions::default()).unwrap());
    models
}

#[test]
fn truncated_files_are_refused_or_read() {
    let _turn = TURN.lock();
    for model in models() {
        for len in 0..model.len() {
            let peak = peak_of(&model[..len]);
            assert!(peak <= allowed(len), "{peak} bytes for {len}");
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 512, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn random_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
        let _turn = TURN.lock();
        prop_assert!(peak_of(&bytes) <= allowed(bytes.len()));
    }

    #[test]
    fn altered_files_never_panic(
        which in any::<prop::sample::Index>(),
        changes in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..8),
    ) {
        let _turn = TURN.lock();
        let models = models();
        let mut model = models[which.index(models.len())].clone();
        for (place, byte) in changes {
            let place = place.index(model.len());
            model[place] = byte;
        }
        prop_assert!(peak_of(&model) <= allowed(model.len()));
    }
}

/// A field of wire type 2.
fn field(tag: u8, content: &[u8]) -> Vec<u8> {
    let mut bytes = vec![tag << 3 | 2];
    let mut len = content.len();
    while len >= 128 {
        bytes.push(len as u8 | 128);
        len >>= 7;
    }
    bytes.push(len as u8);
    bytes.extend_from_slice(content);
    bytes
}

#[test]
fn many_empty_messages_cost_little() {
    let _turn = TURN.lock();
    // Nodes (1), initializers (5), inputs (11), outputs (12) and sparse initializers (15) of no content.
    for tag in [1, 5, 11, 12, 15] {
        let mut model = vec![8, 8]; // IR version
        model.extend(field(8, &[16, 13])); // operator set 13
        model.extend(field(7, &field(tag, &[]).repeat(100_000)));
        let peak = peak_of(&model);
        assert!(peak <= allowed(model.len()), "field {tag}: {peak} bytes for {}", model.len());
    }
}

/// `external.onnx` with its location, offset and length replaced by others of the same length.
fn external(folder: &Path, from: &str, to: &str) -> String {
    assert_eq!(from.len(), to.len());
    let mut model = std::fs::read(fixture("external.onnx")).unwrap();
    let places: Vec<usize> =
        (0..=model.len() - from.len()).filter(|&i| model[i..].starts_with(from.as_bytes())).collect();
    assert!(!places.is_empty(), "{from}");
    for i in places {
        model[i..i + to.len()].copy_from_slice(to.as_bytes());
    }
    let path = folder.join("model.onnx");
    std::fs::write(&path, model).unwrap();
    slq_onnx::read(&path).map(|_| "no error".into()).unwrap_or_else(|e| e.to_string())
}

#[test]
fn external_data_stay_in_the_folder_and_in_bounds() {
    let _turn = TURN.lock();
    let folder = tempfile::tempdir().unwrap();
    let inside = folder.path().join("model");
    std::fs::create_dir(&inside).unwrap();
    let data = std::fs::read(fixture("external.bin")).unwrap();
    std::fs::write(inside.join("external.bin"), &data).unwrap();
    std::fs::write(folder.path().join("ternal.bin"), &data).unwrap();
    let same = external(&inside, "external.bin", "external.bin");
    assert_eq!(same, "no error");
    for escape in ["../ternal.bin", "/xternal.bin/"] {
        let found = external(&inside, "external.bin", &escape[..12]);
        assert!(found.contains("not inside the model's folder"), "{escape}: {found}");
    }
    let missing = external(&inside, "external.bin", "external.bim");
    assert!(missing.contains("external.bim"), "{missing}");
    #[cfg(unix)]
    {
        std::os::unix::fs::symlink(folder.path().join("ternal.bin"), inside.join("external.lnk")).unwrap();
        let link = external(&inside, "external.bin", "external.lnk");
        assert!(link.contains("a link to") && link.contains("ternal.bin"), "{link}");
    }
    std::fs::write(inside.join("external.bin"), &data[..data.len() - 1]).unwrap();
    let short = external(&inside, "external.bin", "external.bin");
    assert!(short.contains("does not provide them"), "{short}");
    let length = external(&inside, "length", "offset");
    assert!(length.contains("does not provide them"), "{length}");
}

/// A model hub's cache: the model and its data are links into a folder of blobs.
#[cfg(unix)]
#[test]
fn links_of_a_model_and_its_data_into_one_folder_are_followed() {
    use std::os::unix::fs::symlink;
    let _turn = TURN.lock();
    let folder = tempfile::tempdir().unwrap();
    let (blobs, snapshot) = (folder.path().join("blobs"), folder.path().join("snapshots/1"));
    std::fs::create_dir_all(&snapshot).unwrap();
    std::fs::create_dir(&blobs).unwrap();
    for (name, blob) in [("external.onnx", "3c99"), ("external.bin", "77aa")] {
        std::fs::copy(fixture(name), blobs.join(blob)).unwrap();
        symlink(Path::new("../../blobs").join(blob), snapshot.join(name)).unwrap();
    }
    let graph = slq_onnx::read(snapshot.join("external.onnx")).unwrap();
    assert_eq!(graph.weights, slq_onnx::read(fixture("external.onnx")).unwrap().weights);
}

#[test]
fn a_file_beyond_the_limit_is_refused_before_it_is_read() {
    let _turn = TURN.lock();
    let file = tempfile::NamedTempFile::new().unwrap();
    file.as_file().set_len(slq_onnx::MAX_FILE_BYTES + 1).unwrap();
    let error = slq_onnx::read(file.path()).unwrap_err().to_string();
    assert!(error.contains("exceeds the 2 GiB"), "{error}");
}
