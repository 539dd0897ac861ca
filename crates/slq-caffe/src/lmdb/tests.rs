use proptest::prelude::*;

use super::*;

fn image(i: usize, side: usize) -> Datum {
    let pixels = (0..side * side).map(|p| (p * 7 + i) as u8).collect();
    Datum { channels: 1, height: side, width: side, label: (i % 10) as i64, data: DatumData::Pixels(pixels) }
}

fn write(folder: &std::path::Path, images: &[Datum]) {
    let mut writer = LmdbWriter::create(folder).unwrap();
    images.iter().for_each(|d| writer.push(d).unwrap());
    writer.finish().unwrap();
}

#[test]
fn what_is_written_reads_back_in_order() {
    // Small images share pages, those of side 64 have their own; 2000 of them need a tree of three levels.
    for (count, side) in [(0, 1), (1, 5), (3, 28), (700, 28), (40, 64), (2000, 28)] {
        let folder = tempfile::tempdir().unwrap();
        let images: Vec<Datum> = (0..count).map(|i| image(i, side)).collect();
        write(folder.path(), &images);
        let read = Lmdb::open(folder.path()).unwrap();
        assert_eq!((read.len(), read.is_empty()), (count, count == 0));
        for (i, expected) in images.iter().enumerate() {
            assert_eq!(read.datum(i).unwrap().as_ref(), Some(expected), "image {i} of {count}");
        }
        assert_eq!(read.datum(count).unwrap(), None);
    }
}

#[test]
fn floats_and_encoded_images_survive() {
    let folder = tempfile::tempdir().unwrap();
    let floats =
        Datum { channels: 1, height: 1, width: 2, label: 3, data: DatumData::Floats(vec![0.5, -2.0]) };
    let encoded = Datum { label: 4, data: DatumData::Encoded(vec![0xff, 0xd8]), ..Datum::default() };
    write(folder.path(), &[floats.clone(), encoded.clone()]);
    let read = Lmdb::open(&folder.path().join("data.mdb")).unwrap();
    assert_eq!(read.datum(0).unwrap(), Some(floats));
    assert_eq!(read.datum(1).unwrap(), Some(encoded));
}

#[test]
fn a_datum_whose_extents_lie_is_refused() {
    let wrong = proto::Datum {
        channels: Some(3),
        height: Some(2),
        width: Some(2),
        data: Some(vec![0; 11]),
        ..Default::default()
    };
    assert!(Datum::decode(&wrong.encode_to_vec()).unwrap_err().contains("11 elements"));
    let negative = proto::Datum { channels: Some(-1), ..Default::default() };
    assert!(Datum::decode(&negative.encode_to_vec()).unwrap_err().contains("negative"));
}

fn read_all(bytes: &[u8]) -> Result<usize, crate::CaffeError> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("data.mdb");
    std::fs::write(&path, bytes).unwrap();
    let read = Lmdb::open(&path)?;
    for i in 0..read.len() {
        read.datum(i)?;
    }
    Ok(read.len())
}

fn sample() -> Vec<u8> {
    let folder = tempfile::tempdir().unwrap();
    let images: Vec<Datum> = (0..30).map(|i| image(i, if i % 10 == 0 { 60 } else { 20 })).collect();
    write(folder.path(), &images);
    std::fs::read(folder.path().join("data.mdb")).unwrap()
}

#[test]
fn truncations_are_errors() {
    let whole = sample();
    for length in (0..whole.len()).step_by(997) {
        let error = read_all(&whole[..length]).unwrap_err().to_string();
        assert!(error.contains("data.mdb"), "{error}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    #[test]
    fn changed_bytes_never_panic(changes in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..6), front in any::<bool>()) {
        let mut bytes = sample();
        for (at, value) in changes {
            // Half of the time in the descriptions, where changes do most.
            let at = if front { at.index(2 * 4096) % 160 + 4096 } else { at.index(bytes.len()) };
            bytes[at] = value;
        }
        let _ = read_all(&bytes);
    }
}
