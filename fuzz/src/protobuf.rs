//! Changes to files that consist of Protocol Buffers (ONNX, caffemodel, solver states) that keep them well-formed: a changed
//! byte mostly breaks a length, and all behind it is lost.

/// A field of a message.
#[derive(Debug, Clone, PartialEq)]
struct Field {
    number: u64,
    value: Value,
}

#[derive(Debug, Clone, PartialEq)]
enum Value {
    Number(u64),
    Fixed4([u8; 4]),
    Fixed8([u8; 8]),
    Bytes(Vec<u8>),
    Message(Vec<Field>),
}

/// Deepest nesting that is told apart from bytes.
const DEPTH: usize = 12;
/// Numbers at which something may go wrong.
const NUMBERS: [u64; 24] = [
    0,
    1,
    2,
    3,
    4,
    5,
    7,
    8,
    11,
    16,
    17,
    127,
    255,
    256,
    65536,
    i32::MAX as u64,
    1 << 31,
    u32::MAX as u64,
    1 << 32,
    i64::MAX as u64,
    1 << 63,
    u64::MAX - 2,
    u64::MAX - 1,
    u64::MAX,
];
const FLOATS: [f32; 10] =
    [0.0, -0.0, 1.0, -1.0, 0.5, 1e-40, 1e38, f32::INFINITY, f32::NEG_INFINITY, f32::NAN];
/// Operators and attributes of ONNX.
const WORDS: &str = "Abs Add And ArgMax ArgMin AveragePool BatchNormalization Cast CastLike Ceil Clip Concat Constant \
    ConstantOfShape Conv ConvTranspose CumSum DepthToSpace DequantizeLinear Div Dropout Einsum Elu Equal Erf Exp Expand Flatten \
    Floor GRU Gather GatherElements GatherND Gelu Gemm GlobalAveragePool GlobalMaxPool Greater GridSample GroupNormalization \
    HardSigmoid HardSwish Identity If InstanceNormalization LRN LSTM LayerNormalization LeakyRelu Less Log LogSoftmax Loop MatMul \
    Max MaxPool Mean Min Mish Mod Mul Neg NonMaxSuppression NonZero Not OneHot PRelu Pad Pow QuantizeLinear RNN Range Reciprocal \
    ReduceMax ReduceMean ReduceProd ReduceSum Relu Reshape Resize Round Scan ScatterElements ScatterND Selu Shape Sigmoid Sign \
    Size Slice Softmax Softplus Softsign SpaceToDepth Split Sqrt Squeeze Sub Sum Tanh Tile TopK Transpose Trilu Unsqueeze \
    Upsample Where Xor allowzero alpha auto_pad axes axis beta blocksize ceil_mode count_include_pad dilations direction epsilon \
    exclusive group hidden_size keepdims kernel_shape largest linear_before_reset mode momentum num_outputs output_padding \
    output_shape pads perm scales size sizes split starts ends steps storage_order strides to training_mode transA transB value \
    SAME_UPPER SAME_LOWER VALID NOTSET nearest linear cubic bidirectional reverse x y";

fn number(bytes: &mut &[u8]) -> Option<u64> {
    let mut value = 0u64;
    for shift in (0..64).step_by(7) {
        let (&first, rest) = bytes.split_first()?;
        *bytes = rest;
        value |= u64::from(first & 0x7f) << shift;
        if first < 0x80 {
            return Some(value);
        }
    }
    None
}

fn put(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

/// The fields of a message; `None` for bytes that are none, or would be others once written again.
fn read(bytes: &[u8], depth: usize) -> Option<Vec<Field>> {
    let (mut rest, mut fields) = (bytes, Vec::new());
    while !rest.is_empty() {
        let tag = number(&mut rest)?;
        let value = match tag & 7 {
            0 => Value::Number(number(&mut rest)?),
            1 => Value::Fixed8(*take(&mut rest, 8)?.first_chunk()?),
            2 => {
                let length = usize::try_from(number(&mut rest)?).ok()?;
                let content = take(&mut rest, length)?;
                let text = content.iter().all(|b| (b' '..=b'~').contains(b));
                let message = if text || depth == 0 { None } else { read(content, depth - 1) };
                message.map_or_else(|| Value::Bytes(content.to_vec()), Value::Message)
            }
            5 => Value::Fixed4(*take(&mut rest, 4)?.first_chunk()?),
            _ => return None,
        };
        fields.push(Field { number: tag >> 3, value });
    }
    let mut again = Vec::with_capacity(bytes.len());
    write(&fields, &mut again);
    (again == bytes && fields.iter().all(|f| (1..200).contains(&f.number))).then_some(fields)
}

fn take<'a>(bytes: &mut &'a [u8], count: usize) -> Option<&'a [u8]> {
    let (taken, rest) = bytes.split_at_checked(count)?;
    *bytes = rest;
    Some(taken)
}

fn write(fields: &[Field], out: &mut Vec<u8>) {
    for Field { number, value } in fields {
        let kind = match value {
            Value::Number(_) => 0,
            Value::Fixed8(_) => 1,
            Value::Bytes(_) | Value::Message(_) => 2,
            Value::Fixed4(_) => 5,
        };
        put(out, number << 3 | kind);
        match value {
            Value::Number(value) => put(out, *value),
            Value::Fixed4(bytes) => out.extend_from_slice(bytes),
            Value::Fixed8(bytes) => out.extend_from_slice(bytes),
            Value::Bytes(bytes) => {
                put(out, bytes.len() as u64);
                out.extend_from_slice(bytes);
            }
            Value::Message(fields) => {
                let mut inner = Vec::new();
                write(fields, &mut inner);
                put(out, inner.len() as u64);
                out.extend_from_slice(&inner);
            }
        }
    }
}

/// Numbers that follow from a seed.
struct Random(u64);

impl Random {
    fn below(&mut self, n: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        ((self.0 >> 33) as usize) % n.max(1)
    }

    fn of<'a, T>(&mut self, all: &'a [T]) -> Option<&'a T> {
        all.get(self.below(all.len()))
    }
}

/// All lists of fields, outer ones first, by the positions that lead to them.
fn lists(fields: &[Field], path: &mut Vec<usize>, found: &mut Vec<Vec<usize>>) {
    if !fields.is_empty() {
        found.push(path.clone());
    }
    for (i, field) in fields.iter().enumerate() {
        if let Value::Message(inner) = &field.value {
            path.push(i);
            lists(inner, path, found);
            path.pop();
        }
    }
}

fn list<'a>(mut fields: &'a mut Vec<Field>, path: &[usize]) -> Option<&'a mut Vec<Field>> {
    for &i in path {
        let Value::Message(inner) = &mut fields.get_mut(i)?.value else { return None };
        fields = inner;
    }
    Some(fields)
}

/// All texts.
fn texts(fields: &[Field], found: &mut Vec<Vec<u8>>) {
    for field in fields {
        match &field.value {
            Value::Bytes(bytes) => found.push(bytes.clone()),
            Value::Message(inner) => texts(inner, found),
            _ => {}
        }
    }
}

fn change(value: &mut Value, pool: &[Vec<u8>], random: &mut Random) {
    match value {
        Value::Number(value) => {
            *value = match random.below(4) {
                0 => value.wrapping_add(1),
                1 => value.wrapping_sub(1),
                _ => NUMBERS[random.below(NUMBERS.len())],
            }
        }
        Value::Fixed4(bytes) => *bytes = FLOATS[random.below(FLOATS.len())].to_le_bytes(),
        Value::Fixed8(bytes) => *bytes = NUMBERS[random.below(NUMBERS.len())].to_le_bytes(),
        Value::Bytes(bytes) => match random.below(6) {
            0 => bytes.truncate(random.below(bytes.len() + 1)),
            1 if bytes.len() % 8 == 0 && !bytes.is_empty() => {
                let at = random.below(bytes.len() / 8) * 8;
                bytes[at..at + 8].copy_from_slice(&NUMBERS[random.below(NUMBERS.len())].to_le_bytes());
            }
            2 if bytes.len() % 4 == 0 && !bytes.is_empty() => {
                let at = random.below(bytes.len() / 4) * 4;
                bytes[at..at + 4].copy_from_slice(&FLOATS[random.below(FLOATS.len())].to_le_bytes());
            }
            3 => {
                let words: Vec<&str> = WORDS.split_whitespace().collect();
                *bytes = words[random.below(words.len())].as_bytes().to_vec();
            }
            4 => bytes.iter_mut().skip(random.below(64)).take(1).for_each(|b| *b ^= 1 << random.below(8)),
            _ => *bytes = random.of(pool).cloned().unwrap_or_default(),
        },
        Value::Message(inner) => inner.clear(),
    }
}

/// Changes some fields of a message, which stays one; `None` for bytes that are no message.
pub fn mutated(bytes: &[u8], seed: u64) -> Option<Vec<u8>> {
    let mut random = Random(seed);
    let mut fields = read(bytes, DEPTH).filter(|f| !f.is_empty())?;
    for _ in 0..=random.below(4) {
        let (mut places, mut pool) = (Vec::new(), Vec::new());
        lists(&fields, &mut Vec::new(), &mut places);
        texts(&fields, &mut pool);
        let other = random.of(&places).cloned().unwrap_or_default();
        let other = list(&mut fields, &other).and_then(|fields| random.of(fields).cloned());
        let place = random.of(&places).cloned().unwrap_or_default();
        let Some(fields) = list(&mut fields, &place).filter(|f| !f.is_empty()) else { continue };
        let at = random.below(fields.len());
        match random.below(12) {
            0 => drop(fields.remove(at)),
            1 => fields.insert(at, fields[at].clone()),
            2 => {
                let to = random.below(fields.len());
                fields.swap(at, to);
            }
            3 => {
                // Another field of the same number.
                let Some(other) = other else { continue };
                let same = fields.iter_mut().find(|f| f.number == other.number);
                if let Some(same) = same {
                    same.value = other.value;
                }
            }
            4 => fields.extend(other),
            5 => fields[at].number = 1 + random.below(24) as u64,
            _ => change(&mut fields[at].value, &pool, &mut random),
        }
    }
    let mut out = Vec::new();
    write(&fields, &mut out);
    Some(out)
}
