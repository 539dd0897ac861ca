//! Weights of layers, their tables and their biases.

use super::rewrite::Rewriting;
use super::scale::Scale;
use crate::error::TfliteError;
use crate::model::{OperatorDef, Quantization, TensorDef, floats, floats_of, int_bytes};
use crate::report::Unpacked;
use crate::schema::{Code, Element};
use crate::tables::{HEADER, PER_TABLE};

/// Largest integer of a weight: the range is symmetric.
const MOST: f32 = 127.0;
/// Integers that a bias may take, so that sums stay within 32 bits.
const BIAS: f32 = (1 << 29) as f32;

impl Rewriting<'_> {
    /// A layer: its input, weight and bias.
    pub(super) fn layer(&mut self, operator: &OperatorDef) -> Result<(), TfliteError> {
        let &[x, weight, bias] = operator.inputs.as_slice() else {
            let what = "a layer without weight or bias".into();
            return Err(TfliteError::ReadBack { what });
        };
        let input = self.tensor(x)?;
        let scale = self.scale(x)?;
        let biases = floats(&self.old.tensors[bias]).unwrap_or_default();
        let axis = if operator.code == Code::DepthwiseConv2d { 3 } else { 0 };
        let least: Vec<f32> = biases.iter().map(|b| b.abs() / (scale.scale * BIAS)).collect();
        let decoder = self.decoders.get(&weight).copied();
        let packed = match decoder {
            Some(decoder) => self.packed(weight, decoder, axis, &least)?,
            None => None,
        };
        let (kernel, scales) = packed.unwrap_or_else(|| self.dense(weight, decoder, axis, &least));
        let bias = self.bias(bias, &biases, scale, &scales);
        let output = self.tensor(operator.outputs[0])?;
        let inputs = vec![input, kernel, bias];
        self.new.operators.push(OperatorDef { inputs, outputs: vec![output], ..operator.clone() });
        Ok(())
    }

    /// The bias as integers of 32 bits.
    fn bias(&mut self, old: usize, values: &[f32], input: Scale, weight: &[f32]) -> usize {
        let scales: Vec<f32> = weight.iter().map(|w| input.scale * w).collect();
        let of = |(i, &v): (usize, &f32)| {
            let scale = scales[i % scales.len()];
            (f64::from(v) / f64::from(scale)).round() as i32
        };
        let data = int_bytes(&values.iter().enumerate().map(of).collect::<Vec<i32>>());
        let tensor = &self.old.tensors[old];
        let number = self.new.add(&tensor.name, tensor.shape.clone(), Element::I32, Some(data));
        self.new.tensors[number].quantization = Some(Quantization::symmetric(scales, 0));
        number
    }

    /// A weight as codes and tables of integers, and the scales of its tables. `None` where its tables do not follow the
    /// channels, or would take more than the weight's own integers.
    fn packed(
        &mut self,
        weight: usize,
        decoder: &OperatorDef,
        axis: usize,
        least: &[f32],
    ) -> Result<Option<(usize, Vec<f32>)>, TfliteError> {
        let tensor = &self.old.tensors[weight];
        let Some(tables) = Tables::of(&self.old.tensors[decoder.inputs[1]], tensor) else { return Ok(None) };
        let (channels, elements) = (tensor.shape[axis], tensor.shape.iter().product::<usize>());
        let count = match tables.count {
            1 => 1,
            n if tables.axis == axis && channels.is_multiple_of(n) => channels,
            _ => return Ok(None),
        };
        let codes = self.old.tensors[decoder.inputs[0]].data.as_ref().map_or(0, Vec::len);
        let several = if count > 1 { PER_TABLE * count } else { 0 };
        let table_bytes = HEADER + count * tables.size + several;
        if codes + table_bytes >= elements {
            return Ok(None);
        }
        let table = |i: usize| tables.table(i * tables.count / count);
        let largest = (0..count).map(|i| most(table(i).iter().copied())).collect();
        let mut scales = steps(largest, least);
        if let [scale] = scales.as_mut_slice() {
            *scale = closest(table(0), &self.codes(decoder, tables.header[5], elements), *scale);
        }
        let key = (decoder.inputs[1], scales.iter().map(|s| s.to_bits()).collect());
        let values = match self.weights.get(&key) {
            Some(&there) => there,
            None => {
                let mut data = tables.header.to_vec();
                for (i, &scale) in scales.iter().enumerate() {
                    data.extend(table(i).iter().map(|&v| integer(v, scale)));
                }
                let name = &self.old.tensors[decoder.inputs[1]].name;
                let number = self.new.add(name, vec![data.len()], Element::U8, Some(data));
                self.weights.insert(key, number);
                number
            }
        };
        let codes = self.tensor(decoder.inputs[0])?;
        let decoded = self.new.add(&tensor.name, tensor.shape.clone(), Element::I8, None);
        let follows = if count > 1 { axis } else { 0 };
        self.new.tensors[decoded].quantization = Some(Quantization::symmetric(scales.clone(), follows));
        let inputs = vec![codes, values];
        self.new.operators.push(OperatorDef { inputs, outputs: vec![decoded], ..decoder.clone() });
        for packed in self.report.packed.iter_mut().filter(|p| p.weight == tensor.name) {
            (packed.tables, packed.table_bytes) = (count, table_bytes);
        }
        Ok(Some((decoded, scales)))
    }

    /// A weight as integers with a scale for each output channel, and the scales.
    fn dense(
        &mut self,
        weight: usize,
        decoder: Option<&OperatorDef>,
        axis: usize,
        least: &[f32],
    ) -> (usize, Vec<f32>) {
        let tensor = &self.old.tensors[weight];
        let values = match decoder {
            None => floats(tensor).unwrap_or_default(),
            Some(decoder) => {
                let reason = "tables of integers serve one weight or one channel each, and these do neither, or would take more \
                              than integers of 8 bits";
                let name = tensor.name.clone();
                if self.report.packed.iter().any(|p| p.weight == name) {
                    self.report.packed.retain(|p| p.weight != name);
                    self.report.unpacked.push(Unpacked { weight: name, reason: reason.into() });
                }
                self.decoded(tensor, decoder)
            }
        };
        let channels = tensor.shape[axis];
        let inner: usize = tensor.shape[axis + 1..].iter().product();
        let channel = |i: usize| i / inner % channels;
        let mut largest = vec![0.0f32; channels];
        for (i, value) in values.iter().enumerate() {
            largest[channel(i)] = largest[channel(i)].max(value.abs());
        }
        let scales = steps(largest, least);
        let key = (weight, scales.iter().map(|s| s.to_bits()).collect());
        if let Some(&there) = self.weights.get(&key) {
            return (there, scales);
        }
        let data = values.iter().enumerate().map(|(i, &v)| integer(v, scales[channel(i)])).collect();
        let number = self.new.add(&tensor.name, tensor.shape.clone(), Element::I8, Some(data));
        self.new.tensors[number].quantization = Some(Quantization::symmetric(scales.clone(), axis));
        self.weights.insert(key, number);
        (number, scales)
    }

    /// The values that a decoder makes.
    fn decoded(&self, weight: &TensorDef, decoder: &OperatorDef) -> Vec<f32> {
        let Some(tables) = Tables::of(&self.old.tensors[decoder.inputs[1]], weight) else {
            return Vec::new();
        };
        let count = weight.shape.iter().product::<usize>();
        let value = |(i, code): (usize, usize)| {
            let table = if tables.axis == 0 { i / (count / tables.count) } else { i % tables.count };
            tables.table(table)[code]
        };
        self.codes(decoder, tables.header[5], count).into_iter().enumerate().map(value).collect()
    }

    /// The first `count` codes that a decoder reads, of `bits` bits.
    fn codes(&self, decoder: &OperatorDef, bits: u8, count: usize) -> Vec<usize> {
        let bytes = self.old.tensors[decoder.inputs[0]].data.as_deref().unwrap_or_default();
        let bits = usize::from(bits);
        let bit = |i: usize| usize::from(bytes[i / 8] >> (7 - i % 8) & 1);
        (0..count).map(|i| (0..bits).fold(0, |code, b| code << 1 | bit(i * bits + b))).collect()
    }
}

/// The tables of a decoder, as floats.
struct Tables<'a> {
    header: &'a [u8],
    values: Vec<f32>,
    size: usize,
    count: usize,
    axis: usize,
}

impl<'a> Tables<'a> {
    fn of(stored: &'a TensorDef, decoded: &TensorDef) -> Option<Self> {
        let (header, values) = stored.data.as_deref()?.split_at_checked(HEADER)?;
        let values = floats_of(values);
        let (count, axis) = decoded.quantization.as_ref().map_or((1, 0), |q| (q.scales.len(), q.axis));
        Some(Self { header, size: values.len() / count.max(1), values, count, axis })
    }

    fn table(&self, i: usize) -> &[f32] {
        &self.values[i * self.size..(i + 1) * self.size]
    }
}

/// Scales that are tried for a table: from the smallest that reaches its largest value to a quarter more.
const TRIED: u16 = 128;

/// A scale of at least `least` at which the values of a table, as often as `codes` names them, are moved least by rounding, in
/// squares.
fn closest(table: &[f32], codes: &[usize], least: f32) -> f32 {
    let mut named = vec![0u64; table.len()];
    codes.iter().for_each(|&code| named[code] += 1);
    let moved = |scale: f32| -> f64 {
        let one = |(&v, &n): (&f32, &u64)| {
            let whole = f32::from(integer(v, scale).cast_signed()) * scale;
            n as f64 * f64::from(whole - v).powi(2)
        };
        table.iter().zip(&named).map(one).sum()
    };
    let scales = (0..=TRIED).map(|i| least * (1.0 + 0.25 * f32::from(i) / f32::from(TRIED)));
    scales.map(|s| (moved(s), s)).min_by(|a, b| a.0.total_cmp(&b.0)).map_or(least, |best| best.1)
}

fn most(values: impl Iterator<Item = f32>) -> f32 {
    values.fold(0.0, |most: f32, v| most.max(v.abs()))
}

fn integer(value: f32, scale: f32) -> u8 {
    ((value / scale).round().clamp(-MOST, MOST) as i8).cast_unsigned()
}

/// Scales at which the `largest` values of each channel, or of all, are reached, and none below the `least` that biases of the
/// channels admit. A channel of zeros gets the largest scale of the others: its bias keeps its digits.
fn steps(largest: Vec<f32>, least: &[f32]) -> Vec<f32> {
    let all = most(largest.iter().copied());
    let other = if all > 0.0 { all } else { 1.0 };
    let single = largest.len() == 1;
    let floor =
        |i: usize| if single { most(least.iter().copied()) } else { least.get(i).copied().unwrap_or(0.0) };
    let step = |(i, m): (usize, f32)| {
        let scale = if m > 0.0 { m } else { other } / MOST;
        scale.max(floor(i)).max(f32::MIN_POSITIVE)
    };
    largest.into_iter().enumerate().map(step).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scales_reach_the_largest_weight_and_leave_room_for_the_bias() {
        let scales = steps(vec![1.27, 0.0, 2.54, 1e-6], &[0.0, 0.0, 0.0, 0.5]);
        assert_eq!(scales, [0.01, 0.02, 0.02, 0.5]);
        assert_eq!(steps(vec![1.27], &[0.0, 0.05, 0.02]), [0.05]);
        assert_eq!(steps(vec![0.0], &[]), [1.0 / 127.0]);
        // At the smallest scale the second value lies between two integers.
        let scale = closest(&[1.27, 0.635], &[0, 1, 1, 1], 0.01);
        for whole in [1.27 / scale, 0.635 / scale] {
            assert!((whole - whole.round()).abs() < 0.02, "{scale}");
        }
        assert_eq!([integer(1.27, 0.01), integer(-2.0, 0.01)], [127, (-127i8).cast_unsigned()]);
    }
}
