//! Prototxt files: protobuf's text format to typed messages, with errors that name layer and line.

use std::fs::File;
use std::io::Read;
use std::path::Path;

use prost_reflect::DynamicMessage;

use crate::error::CaffeError;
use crate::proto::POOL;

/// The largest prototxt read, in bytes. ResNet-152's has about 150 KB.
const MAX_BYTES: u64 = 16 << 20;
/// Deepest nesting of messages; Caffe's own files reach five.
const MAX_DEPTH: usize = 32;
/// Most layers of one net.
const MAX_LAYERS: usize = 20_000;

/// The message `caffe.NAME` written at `path`.
pub(crate) fn read<M: prost::Message + Default>(path: &Path, name: &str) -> Result<M, CaffeError> {
    let file = File::open(path).map_err(CaffeError::io("open", path))?;
    let bytes = file.metadata().map_err(CaffeError::io("read", path))?.len();
    if bytes > MAX_BYTES {
        return Err(CaffeError::TooLarge { path: path.into(), bytes, limit: MAX_BYTES });
    }
    let mut text = Vec::new();
    file.take(MAX_BYTES + 1).read_to_end(&mut text).map_err(CaffeError::io("read", path))?;
    let text = decode(text).map_err(|(line, reason)| CaffeError::Text {
        path: path.into(),
        place: format!("line {line}"),
        reason: reason.into(),
    })?;
    parse(path, &text, name)
}

/// The characters of a text file, without a byte order mark. Text in another encoding than UTF-8 is read byte by byte:
/// the format itself is ASCII, and comments and the net's name play no part. The error carries the line.
fn decode(mut bytes: Vec<u8>) -> Result<String, (usize, &'static str)> {
    if bytes.starts_with(&[0xff, 0xfe]) || bytes.starts_with(&[0xfe, 0xff]) {
        return Err((1, "a byte order mark of UTF-16; save the file as UTF-8"));
    }
    if bytes.starts_with(&[0xef, 0xbb, 0xbf]) {
        bytes.drain(..3);
    }
    let control = |b: &u8| *b < 0x20 && !b.is_ascii_whitespace() && *b != 0x0b;
    if let Some(at) = bytes.iter().position(control) {
        let line = 1 + bytes[..at].iter().filter(|&&b| b == b'\n').count();
        return Err((line, "not text; the order is prototxt first, caffemodel second"));
    }
    Ok(lenient(bytes))
}

/// Bytes as characters: as UTF-8 where they are, one by one elsewhere. A name gets the same characters in the prototxt
/// and in the caffemodel.
pub(crate) fn lenient(bytes: Vec<u8>) -> String {
    String::from_utf8(bytes).unwrap_or_else(|e| e.into_bytes().into_iter().map(char::from).collect())
}

/// The message `caffe.NAME` in `text`; `path` is for errors only.
pub(crate) fn parse<M: prost::Message + Default>(
    path: &Path,
    text: &str,
    name: &str,
) -> Result<M, CaffeError> {
    let fail = |place: String, reason: String| CaffeError::Text { path: path.into(), place, reason };
    let blocks = scan(text).map_err(|(line, reason)| fail(format!("line {line}"), reason))?;
    if blocks.len() > MAX_LAYERS {
        return Err(fail("layers".into(), format!("more than {MAX_LAYERS} layers")));
    }
    let message = dynamic(text, name).map_err(|reason| {
        let (place, reason) = locate(text, &blocks, name).unwrap_or((name.into(), reason));
        fail(place, reason)
    })?;
    message.transcode_to().map_err(|e| fail(name.into(), e.to_string()))
}

fn dynamic(text: &str, name: &str) -> Result<DynamicMessage, String> {
    let descriptor = POOL.get_message_by_name(&format!("caffe.{name}")).ok_or("no such message")?;
    DynamicMessage::parse_text_format(descriptor, text).map_err(|e| explain_fork(e.to_string()))
}

/// Settings of Caffe's well-known forks, and what Caffe has in their place.
const FORKS: [(&str, &str); 4] = [
    ("ceil_mode", "write `round_mode: FLOOR` for `ceil_mode: false`; leave the line out for `true`"),
    ("scale_filler", "Caffe has a `Scale` layer behind the `BatchNorm` layer"),
    ("bias_filler", "Caffe has a `Scale` layer with `bias_term: true` behind the `BatchNorm` layer"),
    ("scale_bias", "Caffe has a `Scale` layer with `bias_term: true` behind the `BatchNorm` layer"),
];

/// Says of a field that Caffe's schema lacks that a fork of Caffe may have it, and what to write instead.
fn explain_fork(reason: String) -> String {
    let mut quoted = reason.split('\'').skip(1).step_by(2);
    let (Some(field), Some(message)) = (quoted.next(), quoted.next()) else { return reason };
    if !reason.contains("not found for message") {
        return reason;
    }
    let message = message.trim_start_matches("caffe.");
    let known = FORKS.iter().find(|(name, _)| *name == field).map(|(_, advice)| *advice);
    let advice =
        known.unwrap_or("a misspelling, or a setting of a fork; write it as Caffe does, or leave it out");
    let fork = if known.is_some() { " but a setting of a fork" } else { "" };
    format!("`{field}` is not a field of Caffe's {message}{fork}: {advice}")
}

/// The first block that does not parse on its own, and why.
fn locate(text: &str, blocks: &[Block], name: &str) -> Option<(String, String)> {
    blocks.iter().find_map(|block| {
        let descriptor = POOL.get_message_by_name(&format!("caffe.{name}"))?;
        let field = descriptor.get_field_by_name(&block.field)?;
        let kind = field.kind().as_message()?.name().to_owned();
        let body = text.get(block.body.clone())?;
        let reason = dynamic(body, &kind).err()?;
        let place = match layer_name(body) {
            Some(layer) => format!("layer `{layer}` (line {})", block.line),
            None => format!("{} (line {})", block.field, block.line),
        };
        Some((place, reason))
    })
}

/// The value of the first `name: "..."` outside inner messages.
fn layer_name(body: &str) -> Option<&str> {
    let mut depth = 0usize;
    let mut previous = "";
    let mut tokens = Tokens { text: body, at: 0 };
    while let Some((token, _)) = tokens.next().and_then(Result::ok) {
        match token {
            "{" | "<" => depth += 1,
            "}" | ">" => depth = depth.saturating_sub(1),
            ":" => continue,
            _ if depth == 0 && previous == "name" => {
                return Some(token.trim_matches(['"', '\'']));
            }
            _ => {}
        }
        previous = token;
    }
    None
}

/// A message at the outermost level: its field, the line where it begins and the bytes inside its braces.
struct Block {
    field: String,
    line: usize,
    body: std::ops::Range<usize>,
}

/// Finds the outermost messages and refuses nesting that would exhaust the parser's stack.
fn scan(text: &str) -> Result<Vec<Block>, (usize, String)> {
    let line_of = |at: usize| 1 + text.as_bytes()[..at].iter().filter(|&&b| b == b'\n').count();
    let mut blocks = Vec::new();
    let (mut depth, mut start, mut field, mut word) = (0usize, 0usize, "", "");
    // Lines are counted as the scan moves on: counting from the start for each block would be quadratic.
    let (mut line, mut counted) = (1usize, 0usize);
    for token in (Tokens { text, at: 0 }) {
        let (token, at) = token.map_err(|at| (line_of(at), "a string without an end".to_owned()))?;
        match token {
            "{" | "<" => {
                if depth == 0 {
                    (start, field) = (at + 1, word);
                    line += text.as_bytes()[counted..at].iter().filter(|&&b| b == b'\n').count();
                    counted = at;
                }
                depth += 1;
                if depth > MAX_DEPTH {
                    return Err((line_of(at), format!("more than {MAX_DEPTH} messages inside each other")));
                }
            }
            "}" | ">" => {
                depth =
                    depth.checked_sub(1).ok_or_else(|| (line_of(at), format!("`{token}` closes nothing")))?;
                if depth == 0 {
                    blocks.push(Block { field: field.into(), line, body: start..at });
                }
            }
            ":" => {}
            _ => word = token,
        }
    }
    if depth > 0 {
        return Err((line, format!("`{field}` is not closed")));
    }
    Ok(blocks)
}

/// Words, strings and single punctuation marks with their positions; comments are left out. An unterminated
/// string is an error that carries its position.
struct Tokens<'a> {
    text: &'a str,
    at: usize,
}

impl<'a> Iterator for Tokens<'a> {
    type Item = Result<(&'a str, usize), usize>;

    fn next(&mut self) -> Option<Self::Item> {
        let bytes = self.text.as_bytes();
        loop {
            match *bytes.get(self.at)? {
                b'#' => {
                    while bytes.get(self.at).is_some_and(|&b| b != b'\n') {
                        self.at += 1;
                    }
                }
                b if b.is_ascii_whitespace() => self.at += 1,
                _ => break,
            }
        }
        let start = self.at;
        let first = bytes[start];
        self.at += 1;
        if first == b'"' || first == b'\'' {
            loop {
                match bytes.get(self.at) {
                    None | Some(b'\n') => return Some(Err(start)),
                    Some(b'\\') => self.at += 2,
                    Some(&b) => {
                        self.at += 1;
                        if b == first {
                            break;
                        }
                    }
                }
            }
        } else if is_word(first) {
            while bytes.get(self.at).is_some_and(|&b| is_word(b)) {
                self.at += 1;
            }
        }
        // Only ASCII ends a token, so that this is a character boundary.
        Some(self.text.get(start..self.at).map(|t| (t, start)).ok_or(start))
    }
}

fn is_word(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'_' || !byte.is_ascii()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn encodings_of_texts() {
        assert_eq!(decode(b"\xef\xbb\xbfname: 'n'".to_vec()).unwrap(), "name: 'n'");
        assert_eq!(decode("# \u{5377}\n".into()).unwrap(), "# \u{5377}\n");
        assert_eq!(decode(b"r\xe9seau".to_vec()).unwrap(), "r\u{e9}seau");
        for (bytes, line, reason) in [(&b"\xff\xfen\0"[..], 1, "UTF-16"), (b"a\n\x01\x02", 2, "not text")] {
            let (at, why) = decode(bytes.to_vec()).unwrap_err();
            assert!(at == line && why.contains(reason), "{at} {why}");
        }
    }

    #[test]
    fn settings_of_forks_are_explained() {
        let read = |text: &str, name: &str| parse::<crate::proto::NetParameter>(Path::new("t"), text, name);
        let layer = |body: &str| {
            let error = read(&format!("layer {{ name: 'p' type: 'T' {body} }}"), "NetParameter").unwrap_err();
            error.to_string()
        };
        let error = layer("pooling_param { pool: MAX ceil_mode: false }");
        assert!(
            error.contains("layer `p`") && error.contains("fork") && error.contains("round_mode: FLOOR"),
            "{error}"
        );
        let error = layer("batch_norm_param { scale_filler { value: 1 } }");
        assert!(error.contains("BatchNormParameter") && error.contains("`Scale` layer"), "{error}");
        let error = layer("pooling_param { pol: MAX }");
        assert!(error.contains("`pol`") && error.contains("misspelling"), "{error}");
    }
}
