//! Parts of a blob.

use super::writer::Writer;
use crate::proto::SliceParameter;

/// Keeps the ranges (axis, from, to, extent) of a blob: `Slice` layers, and `Silence` for the other pieces.
pub(super) fn keep(
    w: &mut Writer,
    name: &str,
    bottom: &str,
    top: &str,
    ranges: &[(usize, usize, usize, usize)],
) {
    let cuts: Vec<_> = ranges.iter().filter(|(_, from, to, extent)| *from > 0 || to < extent).collect();
    let mut bottom = bottom.to_owned();
    let mut silent = Vec::new();
    for (i, (axis, from, to, extent)) in cuts.iter().enumerate() {
        let kept = if i + 1 == cuts.len() { top.to_owned() } else { w.name(&format!("{name}.kept{axis}")) };
        let mut tops = Vec::new();
        let mut points = Vec::new();
        if *from > 0 {
            tops.push(w.name(&format!("{name}.before{axis}")));
            points.push(*from as u32);
            silent.extend(tops.last().cloned());
        }
        tops.push(kept.clone());
        if to < extent {
            tops.push(w.name(&format!("{name}.after{axis}")));
            points.push(*to as u32);
            silent.extend(tops.last().cloned());
        }
        let tops: Vec<&str> = tops.iter().map(String::as_str).collect();
        w.layer(name, "Slice", &[&bottom], &tops, |l| {
            let axis = Some(*axis as i32);
            l.slice_param = Some(SliceParameter { axis, slice_point: points, slice_dim: None });
        });
        bottom = kept;
    }
    if !silent.is_empty() {
        let silent: Vec<&str> = silent.iter().map(String::as_str).collect();
        w.layer(&format!("{name}.silence"), "Silence", &silent, &[], |_| ());
    }
}
