//! The model written again, operator by operator.

use std::collections::{BTreeMap, HashMap};

use super::operators::{Way, way};
use super::scale::Scale;
use crate::error::TfliteError;
use crate::model::{ModelDef, OperatorDef, TensorDef, floats};
use crate::ranges::ends;
use crate::report::{Integers, Report};
use crate::schema::{Code, Element, Options};

/// A model on its way to integers.
pub(super) struct Rewriting<'a> {
    pub(super) old: &'a ModelDef,
    pub(super) scales: &'a [Option<Scale>],
    pub(super) new: ModelDef,
    pub(super) report: &'a mut Report,
    /// Decoders by the old numbers of the weights that they make.
    pub(super) decoders: HashMap<usize, &'a OperatorDef>,
    /// New numbers of integer activations and of constants that stay, by their old numbers.
    moved: HashMap<usize, usize>,
    /// New numbers of float copies of activations, by their old numbers.
    as_floats: HashMap<usize, usize>,
    /// Constants of floats as integers: by old number, scale and zero point.
    constants: HashMap<(usize, u32, i32), usize>,
    /// Weights and tables as integers: by old number and scales.
    pub(super) weights: HashMap<(usize, Vec<u32>), usize>,
}

/// `old` with integers at these `scales`, one for each activation.
pub(super) fn rewrite(
    old: &ModelDef,
    scales: &[Option<Scale>],
    inputs: usize,
    report: &mut Report,
) -> Result<ModelDef, TfliteError> {
    let new = ModelDef { name: old.name.clone(), metadata: old.metadata.clone(), ..ModelDef::default() };
    let mut rewriting = Rewriting {
        old,
        scales,
        new,
        report,
        decoders: HashMap::new(),
        moved: HashMap::new(),
        as_floats: HashMap::new(),
        constants: HashMap::new(),
        weights: HashMap::new(),
    };
    let mut in_floats: BTreeMap<String, usize> = BTreeMap::new();
    for &input in &old.inputs {
        let tensor = rewriting.tensor(input)?;
        rewriting.new.inputs.push(tensor);
    }
    for operator in &old.operators {
        match way(operator.code) {
            Way::Decode => drop(rewriting.decoders.insert(operator.outputs[0], operator)),
            Way::Layer => rewriting.layer(operator)?,
            Way::Floats => {
                *in_floats.entry(format!("{:?}", operator.code)).or_default() += 1;
                rewriting.in_floats(operator)?;
            }
            Way::Given(given) => rewriting.given(operator, given)?,
            Way::Free | Way::Tied => rewriting.plain(operator)?,
        }
    }
    for &output in &old.outputs {
        let tensor = rewriting.tensor(output)?;
        rewriting.new.outputs.push(tensor);
    }
    let covered = |(t, s): (&TensorDef, &Option<Scale>)| s.map(|s| (t.name.clone(), s.covers()));
    let covers = old.tensors.iter().zip(scales).filter_map(covered).collect();
    let Rewriting { new, report, .. } = rewriting;
    report.integers = Some(Integers { in_floats, inputs, covers });
    Ok(new)
}

impl Rewriting<'_> {
    /// The scale of an activation.
    ///
    /// # Errors
    /// [`TfliteError::NoRange`] where it has none.
    pub(super) fn scale(&self, old: usize) -> Result<Scale, TfliteError> {
        let missing = || TfliteError::NoRange { value: self.old.tensors[old].name.clone() };
        self.scales[old].ok_or_else(missing)
    }

    /// The new number of a tensor: an activation of integers, or a constant as it is.
    pub(super) fn tensor(&mut self, old: usize) -> Result<usize, TfliteError> {
        if let Some(&there) = self.moved.get(&old) {
            return Ok(there);
        }
        let tensor = &self.old.tensors[old];
        let number = match self.scales[old] {
            None => {
                self.new.tensors.push(tensor.clone());
                self.new.tensors.len() - 1
            }
            Some(scale) => self.integers(&tensor.name, &tensor.shape, scale),
        };
        self.moved.insert(old, number);
        if let Some(&source) = self.as_floats.get(&old) {
            self.emit(Code::Quantize, vec![source], number);
        }
        Ok(number)
    }

    /// A new activation.
    fn integers(&mut self, name: &str, shape: &[usize], scale: Scale) -> usize {
        let number = self.new.add(name, shape.to_vec(), Element::I8, None);
        self.new.tensors[number].quantization = Some(scale.quantization());
        number
    }

    fn emit(&mut self, code: Code, inputs: Vec<usize>, output: usize) {
        let options = Options::of(code);
        self.new.operators.push(OperatorDef { code, inputs, outputs: vec![output], options });
    }

    /// The new number of an operator's input; constants of floats become integers of `scale`, or of one that covers them.
    fn operand(&mut self, old: usize, scale: Option<Scale>) -> Result<usize, TfliteError> {
        let tensor = &self.old.tensors[old];
        let Some(values) = floats(tensor) else { return self.tensor(old) };
        let scale = scale.unwrap_or_else(|| Scale::of(ends(&values).unwrap_or_default()));
        let key = (old, scale.scale.to_bits(), scale.zero);
        if let Some(&there) = self.constants.get(&key) {
            return Ok(there);
        }
        let number = self.integers(&tensor.name, &tensor.shape, scale);
        self.new.tensors[number].data =
            Some(values.iter().map(|&v| scale.integer(v).cast_unsigned()).collect());
        self.constants.insert(key, number);
        Ok(number)
    }

    /// An operator on integers.
    fn plain(&mut self, operator: &OperatorDef) -> Result<(), TfliteError> {
        let output = self.tensor(operator.outputs[0])?;
        let inputs = self.operands(operator)?;
        self.new.operators.push(OperatorDef { inputs, outputs: vec![output], ..operator.clone() });
        Ok(())
    }

    fn operands(&mut self, operator: &OperatorDef) -> Result<Vec<usize>, TfliteError> {
        let tied = match way(operator.code) {
            Way::Tied => Some(self.scale(operator.outputs[0])?),
            _ => None,
        };
        operator.inputs.iter().map(|&input| self.operand(input, tied)).collect()
    }

    /// An operator whose result has a scale of its own.
    fn given(&mut self, operator: &OperatorDef, given: Scale) -> Result<(), TfliteError> {
        let old = operator.outputs[0];
        if self.scale(old)? == given {
            return self.plain(operator);
        }
        let inputs = self.operands(operator)?;
        let tensor = &self.old.tensors[old];
        let own = self.integers(&format!("{}.own", tensor.name), &tensor.shape, given);
        self.new.operators.push(OperatorDef { inputs, outputs: vec![own], ..operator.clone() });
        let output = self.tensor(old)?;
        self.emit(Code::Quantize, vec![own], output);
        Ok(())
    }

    /// An operator on floats, between conversions.
    fn in_floats(&mut self, operator: &OperatorDef) -> Result<(), TfliteError> {
        let mut inputs = Vec::new();
        for &input in &operator.inputs {
            inputs.push(if self.scales[input].is_some() { self.float(input)? } else { self.tensor(input)? });
        }
        let old = operator.outputs[0];
        let tensor = &self.old.tensors[old];
        let output =
            self.new.add(&format!("{}.float", tensor.name), tensor.shape.clone(), Element::F32, None);
        self.new.operators.push(OperatorDef { inputs, outputs: vec![output], ..operator.clone() });
        // Integers are made of it where something reads those.
        self.as_floats.insert(old, output);
        Ok(())
    }

    /// An activation as floats.
    fn float(&mut self, old: usize) -> Result<usize, TfliteError> {
        if let Some(&there) = self.as_floats.get(&old) {
            return Ok(there);
        }
        let source = self.tensor(old)?;
        let tensor = &self.old.tensors[old];
        let number =
            self.new.add(&format!("{}.float", tensor.name), tensor.shape.clone(), Element::F32, None);
        self.emit(Code::Dequantize, vec![source], number);
        self.as_floats.insert(old, number);
        Ok(number)
    }
}
