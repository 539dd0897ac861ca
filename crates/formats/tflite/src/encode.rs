//! A model as the bytes of a FlatBuffer.

use std::collections::HashMap;

use flatbuffers::{FlatBufferBuilder, ForwardsUOffset, UnionWIPOffset, Vector, WIPOffset};

use crate::error::TfliteError;
use crate::model::{ModelDef, OperatorDef, Quantization, TensorDef};
use crate::schema::{Code, DECODE, Element, Field, IDENTIFIER, VERSION, slot};

/// Constants begin at multiples of this.
pub(crate) const ALIGNMENT: usize = 16;
/// Largest file: offsets have 31 bits.
pub(crate) const LARGEST: usize = (1 << 31) - 1;

type Offset = WIPOffset<flatbuffers::TableFinishedWIPOffset>;
type Tables<'a> = WIPOffset<Vector<'a, ForwardsUOffset<flatbuffers::TableFinishedWIPOffset>>>;
/// Scales and zero points.
type Scales<'a> = (WIPOffset<Vector<'a, f32>>, WIPOffset<Vector<'a, i64>>);

struct Encoder<'a> {
    fbb: FlatBufferBuilder<'a>,
    /// Scales (as bits) and zero points, which tensors share.
    scales: HashMap<(Vec<u32>, Vec<i64>), Scales<'a>>,
}

/// An operator and its version.
type Kind = (Code, i32);

/// The operator with the version that its elements ask for.
pub(crate) fn kind(model: &ModelDef, operator: &OperatorDef) -> Kind {
    // An operator on integers reads them first; so does one that makes floats of them.
    let first = operator.inputs.first().map_or(Element::F32, |&i| model.tensors[i].element);
    (operator.code, operator.code.version(first))
}

/// The bytes of `model`.
///
/// # Errors
/// [`TfliteError::TooLarge`] above 2 GiB.
pub(crate) fn encode(model: &ModelDef) -> Result<Vec<u8>, TfliteError> {
    let constants = model.tensors.iter().filter_map(|t| t.data.as_ref()).map(Vec::len).sum::<usize>();
    // Tables, names and padding are bounded well by what each tensor and operator takes.
    let bound = model.tensors.len().saturating_add(model.operators.len()).saturating_mul(1024);
    if constants.saturating_add(bound) > LARGEST {
        return Err(TfliteError::TooLarge { bytes: constants });
    }
    let mut encoder = Encoder { fbb: FlatBufferBuilder::with_capacity(1024), scales: HashMap::new() };
    encoder.model(model);
    Ok(encoder.fbb.finished_data().to_vec())
}

fn ints(values: &[usize]) -> Vec<i32> {
    // Shapes and numbers are bounded by the sizes that shape inference admits.
    values.iter().map(|&v| i32::try_from(v).unwrap_or(i32::MAX)).collect()
}

impl<'a> Encoder<'a> {
    fn model(&mut self, model: &ModelDef) {
        // The first buffer is empty, as readers expect: tensors without data name it.
        let mut buffers = vec![self.buffer(&[])];
        let mut numbers = Vec::new();
        for tensor in &model.tensors {
            numbers.push(match &tensor.data {
                None => 0,
                Some(data) => {
                    buffers.push(self.buffer(data));
                    buffers.len() - 1
                }
            });
        }
        let metadata: Vec<Offset> = model
            .metadata
            .iter()
            .map(|(name, content)| {
                buffers.push(self.buffer(content));
                let name = self.fbb.create_string(name);
                let start = self.fbb.start_table();
                self.fbb.push_slot_always(slot(0), name);
                self.fbb.push_slot(slot(1), (buffers.len() - 1) as u32, 0);
                self.fbb.end_table(start)
            })
            .collect();
        let (codes, kinds) = self.codes(model);
        let subgraph = self.subgraph(model, &numbers, &kinds);
        let subgraphs = self.fbb.create_vector(&[subgraph]);
        let (buffers, metadata) = (self.fbb.create_vector(&buffers), self.fbb.create_vector(&metadata));
        let description = self.fbb.create_string("slq");
        let start = self.fbb.start_table();
        self.fbb.push_slot_always(slot(0), VERSION);
        self.fbb.push_slot_always(slot(1), codes);
        self.fbb.push_slot_always(slot(2), subgraphs);
        self.fbb.push_slot_always(slot(3), description);
        self.fbb.push_slot_always(slot(4), buffers);
        self.fbb.push_slot_always(slot(6), metadata);
        let root = self.fbb.end_table(start);
        // Root offset and identifier, 8 bytes, come before: the file's length becomes a multiple of the alignment, which
        // constants count from its end.
        self.pad(8);
        self.fbb.finish(root, Some(IDENTIFIER));
    }

    /// Fills up so that what follows and takes `bytes` begins at a multiple of the alignment.
    fn pad(&mut self, bytes: usize) {
        while !(self.fbb.unfinished_data().len() + bytes).is_multiple_of(ALIGNMENT) {
            self.fbb.push(0u8);
        }
    }

    fn buffer(&mut self, data: &[u8]) -> Offset {
        let content = (!data.is_empty()).then(|| {
            self.pad(data.len());
            self.fbb.create_vector(data)
        });
        let start = self.fbb.start_table();
        if let Some(content) = content {
            self.fbb.push_slot_always(slot(0), content);
        }
        self.fbb.end_table(start)
    }

    /// The table of operator codes, and the position of each code in it.
    fn codes(&mut self, model: &ModelDef) -> (Tables<'a>, HashMap<Kind, u32>) {
        let (mut tables, mut positions) = (Vec::new(), HashMap::new());
        for operator in &model.operators {
            let kind = kind(model, operator);
            if positions.contains_key(&kind) {
                continue;
            }
            positions.insert(kind, tables.len() as u32);
            let (code, version) = kind;
            let custom = (code == Code::Custom).then(|| self.fbb.create_string(DECODE));
            let start = self.fbb.start_table();
            // Numbers above 127 would stand as 127 here; all of ours are below.
            self.fbb.push_slot(slot(0), i8::try_from(code.number()).unwrap_or(i8::MAX), 0);
            if let Some(name) = custom {
                self.fbb.push_slot_always(slot(1), name);
            }
            self.fbb.push_slot(slot(2), version, 1);
            self.fbb.push_slot(slot(3), code.number(), 0);
            tables.push(self.fbb.end_table(start));
        }
        (self.fbb.create_vector(&tables), positions)
    }

    fn subgraph(&mut self, model: &ModelDef, buffers: &[usize], codes: &HashMap<Kind, u32>) -> Offset {
        let tensors: Vec<Offset> =
            model.tensors.iter().zip(buffers).map(|(t, &buffer)| self.tensor(t, buffer)).collect();
        let operators: Vec<Offset> = model
            .operators
            .iter()
            .map(|o| self.operator(o, codes.get(&kind(model, o)).copied().unwrap_or(0)))
            .collect();
        let (tensors, operators) = (self.fbb.create_vector(&tensors), self.fbb.create_vector(&operators));
        let inputs = self.fbb.create_vector(&ints(&model.inputs));
        let outputs = self.fbb.create_vector(&ints(&model.outputs));
        let name = self.fbb.create_string(&model.name);
        let start = self.fbb.start_table();
        self.fbb.push_slot_always(slot(0), tensors);
        self.fbb.push_slot_always(slot(1), inputs);
        self.fbb.push_slot_always(slot(2), outputs);
        self.fbb.push_slot_always(slot(3), operators);
        self.fbb.push_slot_always(slot(4), name);
        self.fbb.end_table(start)
    }

    fn tensor(&mut self, tensor: &TensorDef, buffer: usize) -> Offset {
        let shape = self.fbb.create_vector(&ints(&tensor.shape));
        let name = self.fbb.create_string(&tensor.name);
        let quantization = tensor.quantization.as_ref().map(|q| self.quantization(q));
        let start = self.fbb.start_table();
        self.fbb.push_slot_always(slot(0), shape);
        self.fbb.push_slot(slot(1), tensor.element as i8, Element::F32 as i8);
        self.fbb.push_slot(slot(2), buffer as u32, 0);
        self.fbb.push_slot_always(slot(3), name);
        if let Some(quantization) = quantization {
            self.fbb.push_slot_always(slot(4), quantization);
        }
        self.fbb.push_slot(slot(8), true, false);
        self.fbb.end_table(start)
    }

    fn quantization(&mut self, quantization: &Quantization) -> Offset {
        let Quantization { scales, zeros, axis } = quantization;
        let key = (scales.iter().map(|s| s.to_bits()).collect(), zeros.clone());
        let (scale, zero) = match self.scales.get(&key) {
            Some(shared) => *shared,
            None => {
                let made = (self.fbb.create_vector(scales), self.fbb.create_vector(zeros));
                self.scales.insert(key, made);
                made
            }
        };
        let start = self.fbb.start_table();
        self.fbb.push_slot_always(slot(2), scale);
        self.fbb.push_slot_always(slot(3), zero);
        // Fields 4 and 5 are the union of details, absent here.
        self.fbb.push_slot(slot(6), *axis as i32, 0);
        self.fbb.end_table(start)
    }

    fn operator(&mut self, operator: &OperatorDef, code: u32) -> Offset {
        let inputs = self.fbb.create_vector(&ints(&operator.inputs));
        let outputs = self.fbb.create_vector(&ints(&operator.outputs));
        let options = (operator.options.member != 0).then(|| self.options(&operator.options.fields));
        let start = self.fbb.start_table();
        self.fbb.push_slot(slot(0), code, 0);
        self.fbb.push_slot_always(slot(1), inputs);
        self.fbb.push_slot_always(slot(2), outputs);
        if let Some(options) = options {
            self.fbb.push_slot_always(slot(3), operator.options.member);
            self.fbb.push_slot_always(slot(4), options);
        }
        self.fbb.end_table(start)
    }

    fn options(&mut self, fields: &[Field]) -> WIPOffset<UnionWIPOffset> {
        let start = self.fbb.start_table();
        for field in fields {
            match *field {
                Field::Byte(index, value) => self.fbb.push_slot(slot(index), value, 0),
                Field::Flag(index, value) => self.fbb.push_slot(slot(index), value, false),
                Field::Int(index, value, default) => self.fbb.push_slot(slot(index), value, default),
                Field::Float(index, value) => self.fbb.push_slot(slot(index), value, 0.0),
            }
        }
        self.fbb.end_table(start).as_union_value()
    }
}
