//! Checks that bytes hold a model: the structure by the FlatBuffers library's verifier, then every tensor and operator.

use flatbuffers::{ForwardsUOffset, InvalidFlatbuffer, Vector, Verifiable, Verifier, VerifierOptions};

use crate::encode::{ALIGNMENT, kind};
use crate::error::TfliteError;
use crate::model::{ModelDef, OperatorDef, Quantization, TensorDef};
use crate::reader::Table;
use crate::schema::{Code, DECODE, Field, IDENTIFIER, slot};

type Many<T> = ForwardsUOffset<Vector<'static, ForwardsUOffset<T>>>;
type Numbers<T> = ForwardsUOffset<Vector<'static, T>>;
type Checked = Result<(), InvalidFlatbuffer>;

/// Declares tables by their fields, so that the verifier can follow them.
macro_rules! tables {
    ($($table:ident { $($name:literal $index:literal: $kind:ty),* $(,)? })*) => {$(
        struct $table;
        impl Verifiable for $table {
            fn run_verifier(verifier: &mut Verifier<'_, '_>, at: usize) -> Checked {
                verifier.visit_table(at)?$(.visit_field::<$kind>($name, slot($index), false)?)*.finish();
                Ok(())
            }
        }
    )*};
}

tables! {
    ModelTable {
        "version" 0: u32, "operator_codes" 1: Many<CodeTable>, "subgraphs" 2: Many<SubGraphTable>,
        "description" 3: ForwardsUOffset<&str>, "buffers" 4: Many<BufferTable>, "metadata" 6: Many<MetadataTable>,
    }
    CodeTable {
        "deprecated_builtin_code" 0: i8, "custom_code" 1: ForwardsUOffset<&str>, "version" 2: i32, "builtin_code" 3: i32,
    }
    SubGraphTable {
        "tensors" 0: Many<TensorTable>, "inputs" 1: Numbers<i32>, "outputs" 2: Numbers<i32>,
        "operators" 3: Many<OperatorTable>, "name" 4: ForwardsUOffset<&str>,
    }
    TensorTable {
        "shape" 0: Numbers<i32>, "type" 1: i8, "buffer" 2: u32, "name" 3: ForwardsUOffset<&str>,
        "quantization" 4: ForwardsUOffset<QuantizationTable>, "has_rank" 8: bool,
    }
    QuantizationTable { "scale" 2: Numbers<f32>, "zero_point" 3: Numbers<i64>, "quantized_dimension" 6: i32 }
    OperatorTable {
        "opcode_index" 0: u32, "inputs" 1: Numbers<i32>, "outputs" 2: Numbers<i32>, "builtin_options_type" 3: u8,
    }
    BufferTable { "data" 0: Numbers<u8> }
    MetadataTable { "name" 0: ForwardsUOffset<&str>, "buffer" 1: u32 }
}

/// Checks that `bytes` hold `model`.
///
/// # Errors
/// [`TfliteError::ReadBack`] with the first difference.
pub(crate) fn same(model: &ModelDef, bytes: &[u8]) -> Result<(), TfliteError> {
    let differs = |what: String| TfliteError::ReadBack { what };
    // Large networks have more tables than the default admits; each takes a few bytes of the file.
    let options = VerifierOptions {
        max_tables: bytes.len(),
        max_apparent_size: usize::MAX,
        ..VerifierOptions::default()
    };
    ForwardsUOffset::<ModelTable>::run_verifier(&mut Verifier::new(&options, bytes), 0)
        .map_err(|e| differs(e.to_string().replace('\n', " ")))?;
    if bytes.get(4..8) != Some(IDENTIFIER.as_bytes()) {
        return Err(differs("its identifier is missing".into()));
    }
    compare(model, bytes).map_err(differs)
}

fn compare(model: &ModelDef, bytes: &[u8]) -> Result<(), String> {
    let missing = |what: &str| format!("its {what} cannot be read");
    let root = Table::root(bytes).ok_or_else(|| missing("root"))?;
    let buffers = root.tables(4).ok_or_else(|| missing("buffers"))?;
    let codes = root.tables(1).ok_or_else(|| missing("operator codes"))?;
    let graphs = root.tables(2).ok_or_else(|| missing("sub-graph"))?;
    let [graph] = graphs.as_slice() else { return Err(missing("sub-graph")) };
    if graph.numbers(1).as_ref() != Some(&model.inputs) || graph.numbers(2).as_ref() != Some(&model.outputs) {
        return Err("inputs or outputs differ".into());
    }
    let tensors = graph.tables(0).unwrap_or_default();
    let operators = graph.tables(3).unwrap_or_default();
    if tensors.len() != model.tensors.len() || operators.len() != model.operators.len() {
        return Err("the numbers of tensors or operators differ".into());
    }
    for (found, expected) in tensors.iter().zip(&model.tensors) {
        if !same_tensor(found, expected, &buffers) {
            return Err(format!("tensor '{}' differs", expected.name));
        }
    }
    for (i, (found, expected)) in operators.iter().zip(&model.operators).enumerate() {
        if !same_operator(found, (expected, kind(model, expected).1), &codes) {
            return Err(format!("operator {i} ({:?}) differs", expected.code));
        }
    }
    let metadata = root.tables(6).unwrap_or_default();
    let entry = |t: &Table| Some((t.text(0)?.to_string(), content(&buffers, t.int(1)?)?.to_vec()));
    let found: Option<Vec<_>> = metadata.iter().map(entry).collect();
    if found.as_ref() != Some(&model.metadata) {
        return Err("its properties differ".into());
    }
    Ok(())
}

/// The bytes of buffer `number`, which begin where constants may.
fn content<'a>(buffers: &[Table<'a>], number: i32) -> Option<&'a [u8]> {
    let buffer = buffers.get(usize::try_from(number).ok()?)?;
    match buffer.data(0) {
        None => Some(&[]),
        Some((at, data)) => at.is_multiple_of(ALIGNMENT).then_some(data),
    }
}

fn same_tensor(found: &Table, expected: &TensorDef, buffers: &[Table]) -> bool {
    let data = content(buffers, found.int(2).unwrap_or(0));
    let quantization = |q: Table| {
        let axis = usize::try_from(q.int(6).unwrap_or(0)).ok()?;
        Some(Quantization { scales: q.floats(2)?, zeros: q.longs(3)?, axis })
    };
    found.text(3) == Some(&expected.name)
        && found.numbers(0).as_ref() == Some(&expected.shape)
        && found.byte(1).unwrap_or(0) == expected.element as i8
        && data == Some(expected.data.as_deref().unwrap_or_default())
        && found.table(4).and_then(quantization) == expected.quantization
}

fn same_operator(found: &Table, (expected, version): (&OperatorDef, i32), codes: &[Table]) -> bool {
    let code = usize::try_from(found.int(0).unwrap_or(0)).ok().and_then(|i| codes.get(i));
    let number = code.map(|c| c.int(3).unwrap_or(0));
    let custom = code.and_then(|c| c.text(1));
    let options = &expected.options;
    let table = found.table(4);
    let same_field = |field: &Field| {
        let Some(table) = &table else { return false };
        match *field {
            Field::Byte(index, value) => table.byte(index.into()).unwrap_or(0) == value,
            Field::Flag(index, value) => (table.byte(index.into()).unwrap_or(0) != 0) == value,
            Field::Int(index, value, default) => table.int(index.into()).unwrap_or(default) == value,
            Field::Float(index, value) => table.float(index.into()).unwrap_or(0.0) == value,
        }
    };
    number == Some(expected.code.number())
        && code.map(|c| c.int(2).unwrap_or(1)) == Some(version)
        && custom == (expected.code == Code::Custom).then_some(DECODE)
        && found.numbers(1).as_ref() == Some(&expected.inputs)
        && found.numbers(2).as_ref() == Some(&expected.outputs)
        && found.byte(3).unwrap_or(0) as u8 == options.member
        && options.fields.iter().all(same_field)
}
