//! Test images whose answer changed.

use slq::data::Split;
use slq::graph::Graph;
use slq::inference::{predict, split_tensor};
use slq::methods::TrainingData;
use slq::{Error, Isa, Transform};
use slq_report::{Change, Changes, Picture, Score};

/// Images shown of those that became wrong, became right, and changed from one wrong class to another.
const SHOWN: [usize; 3] = [16, 12, 8];
/// Images in a batch.
const BATCH: usize = 100;
/// Largest side of an image that is shown.
const LARGEST: usize = 4096;
/// Difference of two accuracies on the same images that rounding in other batches explains.
const SAME: f64 = 1e-3;

/// Changes, with the accuracy before that they were found with.
pub(super) struct Found {
    pub(super) changes: Changes,
    right_before: usize,
}

impl Found {
    /// Whether the answers before are those of the network with this accuracy.
    pub(super) fn pair_with(&mut self, before: Option<Score>) {
        let top1 = self.right_before as f64 / self.changes.images.max(1) as f64;
        let whole = self.changes.images == self.changes.of;
        self.changes.paired = before.is_some_and(|b| !whole || (b.top1 - top1).abs() < SAME);
    }
}

/// Asks both networks for at most `most` test images.
///
/// # Errors
/// [`Error::Engine`] and [`Error::Data`].
pub(super) fn changes(
    before: &Graph,
    after: &Graph,
    data: &TrainingData,
    most: usize,
    isa: Isa,
) -> Result<Found, Error> {
    let of = data.test.len();
    let test = if of > most { data.test.subset(&format!("0:{most}"))? } else { data.test.clone() };
    let batch = BATCH.min(test.len());
    let was = predict(before, &test, &data.transform, batch, isa)?;
    let is = predict(after, &test, &data.transform, batch, isa)?;
    let mut changes = Changes { images: test.len(), of, ..Changes::default() };
    let mut right_before = 0;
    let mut found: [Vec<usize>; 3] = Default::default();
    for (i, (&before, &after)) in was.iter().zip(&is).enumerate() {
        let label = i64::from(test.labels()[i]);
        let right = [before == label, after == label];
        right_before += usize::from(right[0]);
        if before == after {
            continue;
        }
        found[match right {
            [true, _] => 0,
            [_, true] => 1,
            _ => 2,
        }]
        .push(i);
    }
    [changes.worse, changes.better, changes.other] = [0, 1, 2].map(|group| found[group].len());
    for (group, shown) in found.iter().zip(SHOWN) {
        changes.pictures.extend(spread(group, shown).map(|i| {
            let label = i64::from(test.labels()[i]);
            Change {
                name: test.image_name(i),
                label: test.class_name(label),
                before: test.class_name(was[i]),
                after: test.class_name(is[i]),
                right: [was[i] == label, is[i] == label],
                picture: picture(&test, i),
            }
        }));
    }
    Ok(Found { changes, right_before })
}

/// At most `most` of the items, evenly over all of them: datasets often hold one class after the other.
fn spread(items: &[usize], most: usize) -> impl Iterator<Item = usize> {
    let count = items.len().min(most);
    (0..count).map(move |k| items[k * items.len() / count])
}

/// Image `i` as it is before preprocessing; `None` where it cannot be shown.
fn picture(test: &Split, i: usize) -> Option<Picture> {
    let one = test.subset(&format!("{i}:{}", i + 1)).ok()?;
    let image = split_tensor(&one, &Transform::default()).ok()?;
    let (&[_, channels, height, width], values) = (image.shape(), image.as_f32()?) else { return None };
    if height.max(width) > LARGEST || ![1, 3].contains(&channels) {
        return None;
    }
    // Bytes arrive as 0 to 1; floats of a dataset may have any range.
    let known = |v: &&f32| v.is_finite();
    let low =
        if test.is_float() { values.iter().filter(known).copied().fold(f32::MAX, f32::min) } else { 0.0 };
    let high =
        if test.is_float() { values.iter().filter(known).copied().fold(f32::MIN, f32::max) } else { 1.0 };
    let byte =
        |v: f32| (255.0 * (v - low) / (high - low).max(f32::MIN_POSITIVE)).round().clamp(0.0, 255.0) as u8;
    let plane = height * width;
    let pixels =
        (0..plane).flat_map(|p| (0..channels).map(move |c| (c, p))).map(|(c, p)| byte(values[c * plane + p]));
    Some(Picture {
        width: width as u32,
        height: height as u32,
        colour: channels == 3,
        pixels: pixels.collect(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pixels_of_bytes_come_back_and_floats_are_stretched() {
        let bytes: Vec<u8> = vec![0, 10, 20, 255, 1, 2, 3, 4, 5, 6, 7, 8];
        let colour = Split::from_bytes(bytes, vec![0], [3, 2, 2]).unwrap();
        let shown = picture(&colour, 0).unwrap();
        assert!(shown.colour && shown.pixels == [0, 1, 5, 10, 2, 6, 20, 3, 7, 255, 4, 8], "{shown:?}");
        let floats = Split::from_floats(vec![-1.0, 0.0, 1.0, 3.0], vec![0], [1, 2, 2]).unwrap();
        assert_eq!(picture(&floats, 0).unwrap().pixels, [0, 64, 128, 255]);
    }

    #[test]
    fn shown_images_are_spread_over_all_that_changed() {
        let items: Vec<usize> = (0..10).collect();
        assert_eq!(spread(&items, 4).collect::<Vec<_>>(), [0, 2, 5, 7]);
        assert_eq!(spread(&items[..3], 4).collect::<Vec<_>>(), [0, 1, 2]);
        assert_eq!(spread(&[], 4).count(), 0);
    }

    #[test]
    fn classes_have_their_names() {
        let (model, mut data) = slq::sample().unwrap();
        let names: Vec<String> = (0..10).map(|digit| format!("digit {digit}")).collect();
        data.test = data.test.with_class_names(&names).subset("::3").unwrap();
        let data = data.for_model(&model).unwrap();
        let mut blank = model.graph.clone();
        let name = blank.parameters()[0].to_owned();
        blank.weights[&name].tensor.as_f32_mut().unwrap().fill(0.0);
        let found = changes(&model.graph, &blank, &data, 200, Isa::detect()).unwrap().changes;
        assert!(!found.pictures.is_empty());
        for change in &found.pictures {
            assert!(
                [&change.label, &change.before, &change.after].iter().all(|c| c.starts_with("digit ")),
                "{change:?}"
            );
        }
    }

    #[test]
    fn the_same_network_changes_no_answer_and_zeroed_weights_do() {
        let (model, data) = slq::sample().unwrap();
        let data = data.for_model(&model).unwrap();
        let isa = Isa::detect();
        let same = changes(&model.graph, &model.graph, &data, 200, isa).unwrap();
        assert_eq!((same.changes.images, same.changes.of, same.changes.pictures.len()), (200, 2000, 0));
        let mut blank = model.graph.clone();
        let name = blank.parameters()[0].to_owned();
        blank.weights[&name].tensor.as_f32_mut().unwrap().fill(0.0);
        let found = changes(&model.graph, &blank, &data, 200, isa).unwrap().changes;
        assert!(
            found.worse > 100 && found.pictures.iter().filter(|c| c.right[0]).count() == SHOWN[0],
            "{}",
            found.worse
        );
        assert!(found.pictures.iter().all(|c| c.picture.is_some() && c.before != c.after));
    }
}
