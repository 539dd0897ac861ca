//! Rust source as words and signs: enough to find modules, attributes and paths. Comments, texts and lifetimes are dropped.

/// A word or a sign, and its line.
#[derive(Clone, Debug, PartialEq)]
pub struct Token {
    pub text: String,
    pub line: usize,
}

impl Token {
    /// Whether this is an identifier or keyword.
    pub fn is_word(&self) -> bool {
        self.text.starts_with(|c: char| c.is_alphabetic() || c == '_')
    }
}

/// The tokens of `source`. `::` is one sign, every other sign one character; a text literal keeps its quotes, a
/// character literal and a number disappear.
pub fn tokens(source: &str) -> Vec<Token> {
    let chars: Vec<char> = source.chars().collect();
    let (mut out, mut at, mut line) = (Vec::new(), 0, 1);
    while at < chars.len() {
        let rest = &chars[at..];
        let (length, text) = next(rest);
        if let Some(text) = text {
            out.push(Token { text, line });
        }
        line += rest[..length].iter().filter(|&&c| c == '\n').count();
        at += length;
    }
    out
}

/// How many characters the first token of `rest` takes, and its text where it is kept.
fn next(rest: &[char]) -> (usize, Option<String>) {
    let starts = |text: &str| text.chars().enumerate().all(|(i, c)| rest.get(i) == Some(&c));
    if starts("//") {
        return (rest.iter().position(|&c| c == '\n').unwrap_or(rest.len()), None);
    }
    if starts("/*") {
        return (block_comment(rest), None);
    }
    let hashes = rest.iter().skip_while(|&&c| c == 'b' || c == 'r').take_while(|&&c| c == '#').count();
    let prefix = rest.iter().take_while(|&&c| c == 'b' || c == 'r').count();
    if prefix <= 2
        && rest.get(prefix + hashes) == Some(&'"')
        && (hashes == 0 || rest[..prefix].contains(&'r'))
    {
        let raw = rest[..prefix].contains(&'r');
        let end = text_end(&rest[prefix + hashes + 1..], hashes, raw) + prefix + hashes + 1;
        return (end, Some(rest[prefix + hashes..end].iter().collect()));
    }
    let c = rest[0];
    if c == '\'' {
        return (quoted(rest), None);
    }
    if c.is_alphabetic() || c == '_' {
        let length = rest.iter().take_while(|c| c.is_alphanumeric() || **c == '_').count();
        return (length, Some(rest[..length].iter().collect()));
    }
    if c.is_ascii_digit() {
        return (rest.iter().take_while(|c| c.is_alphanumeric() || **c == '_').count(), None);
    }
    if starts("::") {
        return (2, Some("::".into()));
    }
    (1, (!c.is_whitespace()).then(|| c.to_string()))
}

/// The length of a block comment with all that is nested in it.
fn block_comment(rest: &[char]) -> usize {
    let (mut depth, mut at) = (0, 0);
    while at + 1 < rest.len() {
        match (rest[at], rest[at + 1]) {
            ('/', '*') => depth += 1,
            ('*', '/') => depth -= 1,
            _ => {
                at += 1;
                continue;
            }
        }
        at += 2;
        if depth == 0 {
            return at;
        }
    }
    rest.len()
}

/// Where a text literal ends, from behind its opening quote to behind its closing one.
fn text_end(rest: &[char], hashes: usize, raw: bool) -> usize {
    let mut at = 0;
    while at < rest.len() {
        if rest[at] == '\\' && !raw {
            at += 2;
        } else if rest[at] == '"' && rest[at + 1..].iter().take_while(|&&c| c == '#').count() >= hashes {
            return at + 1 + hashes;
        } else {
            at += 1;
        }
    }
    rest.len()
}

/// The length of a character literal, or of a lifetime.
fn quoted(rest: &[char]) -> usize {
    if rest.get(1) == Some(&'\\') {
        return 2 + rest[3..].iter().position(|&c| c == '\'').map_or(0, |p| p + 2);
    }
    if rest.get(2) == Some(&'\'') {
        return 3;
    }
    1 + rest[1..].iter().take_while(|c| c.is_alphanumeric() || **c == '_').count()
}

#[test]
fn comments_texts_and_lifetimes_are_no_tokens() {
    let source = r##"use a::b; // crate::x
/* super::y /* nested */ */ fn f<'a>(c: &'a str) -> char { let t = r#"crate::"z"#; '\'' ; 'x'; b"q\"r"; 1.5e3 }"##;
    let found: Vec<String> = tokens(source).into_iter().map(|t| t.text).collect();
    let joined = found.join(" ");
    assert_eq!(
        joined,
        "use a :: b ; fn f < > ( c : & str ) - > char { let t = \"crate::\"z\"# ; ; ; \"q\\\"r\" ; . }"
    );
    assert_eq!(tokens(source).last().unwrap().line, 2);
}
