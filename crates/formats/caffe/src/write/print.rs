//! Messages in the text format as Caffe's own tools print it, which protobuf libraries of all ages read.

use std::fmt::Write as _;

use prost_reflect::{DynamicMessage, Kind, ReflectMessage as _, Value};

/// `message` as text, fields in the order of their numbers, those that are set only.
pub(super) fn print(message: &DynamicMessage) -> String {
    let mut text = String::new();
    fields(&mut text, message, 0);
    text
}

fn fields(text: &mut String, message: &DynamicMessage, depth: usize) {
    for field in message.descriptor().fields().filter(|f| message.has_field(f)) {
        let value = message.get_field(&field);
        let values = match value.as_ref() {
            Value::List(values) => values.as_slice(),
            one => std::slice::from_ref(one),
        };
        for value in values {
            for _ in 0..depth {
                text.push_str("  ");
            }
            text.push_str(field.name());
            if let Value::Message(inner) = value {
                text.push_str(" {\n");
                fields(text, inner, depth + 1);
                for _ in 0..depth {
                    text.push_str("  ");
                }
                text.push_str("}\n");
            } else {
                text.push_str(": ");
                scalar(text, value, &field.kind());
                text.push('\n');
            }
        }
    }
}

fn scalar(text: &mut String, value: &Value, kind: &Kind) {
    let written = match (value, kind) {
        (Value::EnumNumber(n), Kind::Enum(e)) => match e.get_value(*n) {
            Some(v) => write!(text, "{}", v.name()),
            None => write!(text, "{n}"),
        },
        (Value::Bool(v), _) => write!(text, "{v}"),
        (Value::I32(v), _) => write!(text, "{v}"),
        (Value::I64(v), _) => write!(text, "{v}"),
        (Value::U32(v), _) => write!(text, "{v}"),
        (Value::U64(v), _) => write!(text, "{v}"),
        // The shortest digits that read back as the same number.
        (Value::F32(v), _) => write!(text, "{v}"),
        (Value::F64(v), _) => write!(text, "{v}"),
        (Value::String(v), _) => return quoted(text, v.as_bytes()),
        (Value::Bytes(v), _) => return quoted(text, v),
        _ => Ok(()),
    };
    debug_assert!(written.is_ok(), "a string takes everything");
}

fn quoted(text: &mut String, bytes: &[u8]) {
    text.push('"');
    for &byte in bytes {
        match byte {
            b'"' | b'\\' => {
                text.push('\\');
                text.push(byte.into());
            }
            b' '..=b'~' => text.push(byte.into()),
            _ => {
                let _ = write!(text, "\\{byte:03o}");
            }
        }
    }
    text.push('"');
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::proto::{LayerParameter, POOL, PowerParameter};

    fn dynamic(layer: &LayerParameter) -> DynamicMessage {
        let mut message = DynamicMessage::new(POOL.get_message_by_name("caffe.LayerParameter").unwrap());
        message.transcode_from(layer).unwrap();
        message
    }

    #[test]
    fn a_layer_looks_as_caffe_prints_it() {
        let text =
            "name: \"pool\"\ntop: \"a\"\ntop: \"b\"\npooling_param {\n  pool: AVE\n  kernel_size: 3\n}\n";
        let layer: LayerParameter = crate::text::parse("t".as_ref(), text, "LayerParameter").unwrap();
        assert_eq!(print(&dynamic(&layer)), text);
    }

    proptest! {
        #[test]
        fn strings_and_numbers_read_back(name in "\\PC*", shift in any::<f32>(), scale in -1e30f32..1e30) {
            prop_assume!(shift.is_finite());
            let layer = LayerParameter {
                name: Some(name),
                power_param: Some(PowerParameter { shift: Some(shift), scale: Some(scale), power: None }),
                ..LayerParameter::default()
            };
            let back: LayerParameter =
                crate::text::parse("t".as_ref(), &print(&dynamic(&layer)), "LayerParameter").unwrap();
            prop_assert_eq!(back, layer);
        }
    }
}
