//! Preprocessing, where it comes from, and what is said of it.

use serde::{Deserialize, Serialize};
use slq_compress::Accuracy;
use slq_data::{AxisOrder, Resize, Split, Transform};
use slq_graph::{Dim, Graph};

/// Where preprocessing comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum PreprocessingSource {
    /// Flags or options.
    Flags,
    /// The model's file.
    Stored,
    /// A prototxt's `transform_param`.
    Prototxt,
    /// The usual one that the network classifies best with.
    Detected,
    /// The default of built-in architectures: pixels from 0 to 1.
    Default,
    /// The format's default, for want of data to detect it on.
    Assumed,
}

/// Preprocessing, and where it comes from.
#[derive(Debug, Clone)]
pub struct Preprocessing {
    /// The preprocessing.
    pub transform: Transform,
    /// Where it comes from.
    pub source: PreprocessingSource,
    /// How it was detected, if it was.
    pub detection: Option<Detection>,
    /// What was added so that images get the network's size and channels; `None` where they have them.
    pub fitted: Option<String>,
    /// Images that were too few to detect it on.
    pub too_few: Option<usize>,
    /// Why it may be wrong, in a sentence: the float network classifies training images badly with it.
    pub doubt: Option<String>,
}

impl From<Detection> for Preprocessing {
    fn from(detection: Detection) -> Self {
        Self {
            detection: Some(detection.clone()),
            ..Self::new(detection.transform, PreprocessingSource::Detected)
        }
    }
}

impl Preprocessing {
    /// Preprocessing that nothing was added to.
    pub fn new(transform: Transform, source: PreprocessingSource) -> Self {
        Self { transform, source, detection: None, fitted: None, too_few: None, doubt: None }
    }

    /// The same with what was found in place of what was assumed.
    pub(crate) fn found(self, detection: Detection) -> Self {
        Self { fitted: self.fitted, ..detection.into() }
    }

    /// Brings images of another size or number of channels to those that the network declares, as ImageNet's networks are
    /// evaluated: the short side to 8/7 of the input's, then the central crop. What options and files say is kept.
    pub(crate) fn fitted_to(mut self, graph: &Graph, split: &Split) -> Self {
        let shape = graph.inputs.first().and_then(|i| i.shape.as_deref());
        let Some([_, Dim::Known(channels), Dim::Known(h), Dim::Known(w)]) = shape else { return self };
        let transform = &mut self.transform;
        let mut notes = Vec::new();
        let (mut channels, mut h, mut w) = (channels, h, w);
        if transform.axis_order == AxisOrder::ChannelsLast
            || (!matches!(channels, 1 | 3) && matches!(w, 1 | 3))
        {
            (channels, h, w) = (w, channels, h);
            transform.axis_order = AxisOrder::ChannelsLast;
            notes.push("channels last, as the network takes them".into());
        }
        if transform.resize.is_none() && transform.crop.is_none() {
            let size = (split.height(), split.width());
            if size != (Some(*h), Some(*w)) {
                let short = (*h.max(w) * 8).div_ceil(7);
                (transform.resize, transform.crop) = (Some(Resize::ShortSide(short)), Some((*h, *w)));
                notes.push(format!(
                    "resized to a short side of {short}, central {h}x{w} (--resize and --crop set it)"
                ));
            }
        }
        let colours = (transform.channels.unwrap_or(split.channels()), *channels);
        if matches!(colours, (1, 3) | (3, 1)) && transform.channels.is_none() {
            transform.channels = Some(*channels);
            notes.push(if *channels == 1 {
                "colour made grey".into()
            } else {
                "grey repeated as colour".into()
            });
        }
        self.fitted = (!notes.is_empty()).then(|| notes.join(", "));
        self
    }

    /// A sentence for what was detected, assumed or added; `None` where a file or a flag says all.
    pub fn note(&self) -> Option<String> {
        let fitted = self.fitted.as_ref().map(|f| format!("images fitted to the network's input: {f}"));
        let texts: Vec<String> = self.origin().into_iter().chain(fitted).collect();
        (!texts.is_empty()).then(|| texts.join("; "))
    }

    fn origin(&self) -> Option<String> {
        match (&self.detection, self.source) {
            (Some(d), _) => Some(match d.accuracy {
                Some(accuracy) => format!(
                    "preprocessing detected: {}, with which the network classifies {:.1} % of {} training images; {} \
                     pins it",
                    d.name,
                    100.0 * accuracy.top1,
                    d.images,
                    d.flags
                ),
                None => format!(
                    "preprocessing detected: {}, with which activations of {} images have the statistics stored in \
                     batch-norm; {} pins it",
                    d.name, d.images, d.flags
                ),
            }),
            (None, PreprocessingSource::Assumed) => Some(format!(
                "preprocessing assumed: the network's file says nothing of it{}; --scale, --mean and --std set it",
                self.too_few
                    .map_or(String::new(), |n| format!(", and {n} images are too few to find it out")),
            )),
            _ => None,
        }
    }
}

/// The part of a report about preprocessing.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PreprocessingReport {
    /// Factor on pixels; `None` for 1/255 on 8-bit images.
    pub scale: Option<f32>,
    /// Means.
    pub mean: Vec<f32>,
    /// Deviations.
    pub std: Vec<f32>,
    /// Where they come from.
    pub source: PreprocessingSource,
}

impl From<&Preprocessing> for PreprocessingReport {
    fn from(from: &Preprocessing) -> Self {
        let t = &from.transform;
        Self { scale: t.scale, mean: t.mean.clone(), std: t.std.clone(), source: from.source }
    }
}

/// Preprocessing that was found, and how sure that is.
#[derive(Debug, Clone)]
pub struct Detection {
    /// The preprocessing, with the crops and sizes it was asked with.
    pub transform: Transform,
    /// What it is called.
    pub name: &'static str,
    /// The flags that pin it.
    pub flags: &'static str,
    /// The float network's accuracy with it, on [`Detection::images`] training images; `None` where it was found by
    /// batch-norm statistics, without labels.
    pub accuracy: Option<Accuracy>,
    /// Images of the final comparison.
    pub images: usize,
}

#[cfg(test)]
mod tests {
    use slq_graph::{DType, ValueInfo};

    use super::*;

    #[test]
    fn images_are_fitted_to_channels_first_and_last() {
        let split = Split::from_bytes(vec![0; 3 * 25], vec![0], [3, 5, 5]).unwrap();
        let dims = |d: [usize; 3]| Some(std::iter::once(Dim::Unknown).chain(d.map(Dim::Known)).collect());
        let fitted = |shape| {
            let mut graph = Graph::default();
            graph.inputs.push(ValueInfo { name: "x".into(), dtype: DType::F32, shape: dims(shape) });
            let source = PreprocessingSource::Assumed;
            Preprocessing::new(Transform::default(), source).fitted_to(&graph, &split).transform
        };
        let last = Transform { axis_order: AxisOrder::ChannelsLast, ..Transform::default() };
        assert_eq!(fitted([5, 5, 3]), last);
        assert_eq!(fitted([4, 4, 3]).crop, Some((4, 4)));
        assert_eq!(fitted([4, 4, 1]).channels, Some(1));
        assert_eq!(fitted([3, 4, 4]).crop, Some((4, 4)));
    }
}
