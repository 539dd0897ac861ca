//! The stack machine of Python's pickle, protocols 0 to 5, without the part that calls Python (PEP 307, PEP 574).

use std::collections::HashMap;

use crate::value::{Heap, Id, Value};

/// Most values of a pickle: those of some 200 000 tensors.
const MOST: usize = 5_000_000;

/// What is wrong, and at which byte.
pub(crate) type Fault = (usize, String);

/// A pickle under way.
struct Machine<'a> {
    bytes: &'a [u8],
    at: usize,
    heap: Heap,
    stack: Vec<Id>,
    marks: Vec<usize>,
    memo: HashMap<u64, Id>,
}

/// What a pickle holds.
#[derive(Debug)]
pub(crate) struct Pickle {
    /// Its values.
    pub(crate) heap: Heap,
    /// The one that it is about.
    pub(crate) root: Id,
    /// Bytes it takes.
    pub(crate) length: usize,
}

/// The pickle at the start of `bytes`.
pub(crate) fn unpickle(bytes: &[u8]) -> Result<Pickle, Fault> {
    let mut machine = Machine {
        bytes,
        at: 0,
        heap: Heap::default(),
        stack: Vec::new(),
        marks: Vec::new(),
        memo: HashMap::new(),
    };
    loop {
        let start = machine.at;
        let op = machine.byte()?;
        if op == b'.' {
            let root = machine.pop().map_err(|(_, reason)| (start, reason))?;
            return Ok(Pickle { heap: machine.heap, root, length: machine.at });
        }
        machine.step(op).map_err(|(_, reason)| (start, reason))?;
        if machine.heap.0.len() + machine.stack.len() + machine.marks.len() + machine.memo.len() > MOST {
            return Err((start, "it builds more values than a checkpoint has".into()));
        }
    }
}

impl Machine<'_> {
    fn fail<T>(&self, reason: impl Into<String>) -> Result<T, Fault> {
        Err((self.at, reason.into()))
    }

    fn take(&mut self, count: usize) -> Result<&[u8], Fault> {
        let end = self.at.checked_add(count).filter(|&end| end <= self.bytes.len());
        let Some(end) = end else { return self.fail("it ends too early") };
        let found = &self.bytes[self.at..end];
        self.at = end;
        Ok(found)
    }

    fn byte(&mut self) -> Result<u8, Fault> {
        Ok(self.take(1)?[0])
    }

    /// A little-endian number of `width` bytes.
    fn number(&mut self, width: usize) -> Result<u64, Fault> {
        let bytes = self.take(width)?;
        Ok(bytes.iter().rev().fold(0, |n, &b| (n << 8) | u64::from(b)))
    }

    fn length(&mut self, width: usize) -> Result<usize, Fault> {
        let n = self.number(width)?;
        usize::try_from(n).or_else(|_| self.fail("a length is out of range"))
    }

    /// The rest of the line.
    fn line(&mut self) -> Result<String, Fault> {
        let rest = &self.bytes[self.at..];
        let Some(end) = rest.iter().position(|&b| b == b'\n') else { return self.fail("it ends too early") };
        self.at += end + 1;
        Ok(String::from_utf8_lossy(&rest[..end]).into_owned())
    }

    fn text(&mut self, width: usize) -> Result<Value, Fault> {
        let length = self.length(width)?;
        Ok(Value::Text(String::from_utf8_lossy(self.take(length)?).into_owned()))
    }

    fn pop(&mut self) -> Result<Id, Fault> {
        match self.stack.pop() {
            Some(value) => Ok(value),
            None => self.fail("it takes a value from an empty stack"),
        }
    }

    fn top(&self) -> Result<Id, Fault> {
        self.stack.last().copied().ok_or_else(|| (self.at, "it looks at an empty stack".into()))
    }

    /// The value on top, to change.
    fn top_mut(&mut self) -> Result<&mut Value, Fault> {
        let top = self.top()?;
        let at = self.at;
        self.heap.0.get_mut(top as usize).ok_or_else(|| (at, "it looks at an empty stack".into()))
    }

    fn push(&mut self, value: Value) -> Result<(), Fault> {
        self.stack.push(self.heap.0.len() as Id);
        self.heap.0.push(value);
        Ok(())
    }

    /// Everything above the last mark.
    fn marked(&mut self) -> Result<Vec<Id>, Fault> {
        match self.marks.pop() {
            Some(mark) if mark <= self.stack.len() => Ok(self.stack.split_off(mark)),
            _ => self.fail("a mark is missing"),
        }
    }

    fn tuple(&mut self, count: usize) -> Result<(), Fault> {
        let Some(start) = self.stack.len().checked_sub(count) else {
            return self.fail("it takes a value from an empty stack");
        };
        let items = self.stack.split_off(start);
        self.push(Value::Tuple(items))
    }

    fn step(&mut self, op: u8) -> Result<(), Fault> {
        match op {
            // Frames and protocol versions say nothing that is needed here.
            0x80 => self.take(1).map(drop),
            0x95 => self.take(8).map(drop),
            b'(' => {
                self.marks.push(self.stack.len());
                Ok(())
            }
            b'0' => self.pop().map(drop),
            b'1' => self.marked().map(drop),
            b'2' => {
                let top = self.top()?;
                self.stack.push(top);
                Ok(())
            }
            _ => self.memorise(op),
        }
    }

    fn memorise(&mut self, op: u8) -> Result<(), Fault> {
        let key = match op {
            b'q' | b'h' => self.number(1)?,
            b'r' | b'j' => self.number(4)?,
            b'p' | b'g' => match self.line()?.trim().parse() {
                Ok(key) => key,
                Err(_) => return self.fail("a place in the memo is no number"),
            },
            0x94 => self.memo.len() as u64,
            _ => return self.literal(op),
        };
        if matches!(op, b'h' | b'j' | b'g') {
            let Some(&found) = self.memo.get(&key) else {
                return self.fail(format!("nothing is at place {key} of the memo"));
            };
            self.stack.push(found);
            return Ok(());
        }
        let top = self.top()?;
        self.memo.insert(key, top);
        Ok(())
    }

    fn literal(&mut self, op: u8) -> Result<(), Fault> {
        let value = match op {
            b'N' => Value::None,
            0x88 | 0x89 => Value::Bool,
            b'K' => Value::Int(self.number(1)? as i64),
            b'M' => Value::Int(self.number(2)? as i64),
            b'J' => Value::Int(i64::from(self.number(4)? as u32 as i32)),
            b'I' | b'L' => match self.line()?.trim().trim_end_matches('L') {
                "00" | "01" if op == b'I' => Value::Bool,
                text => text.parse().map_or(Value::None, Value::Int),
            },
            0x8a | 0x8b => {
                let width = self.length(if op == 0x8a { 1 } else { 4 })?;
                let bytes = self.take(width)?;
                long(bytes).map_or(Value::None, Value::Int)
            }
            b'F' => self.line().map(|_| Value::Float)?,
            b'G' => self.take(8).map(|_| Value::Float)?,
            b'X' => self.text(4)?,
            0x8c | b'U' => self.text(1)?,
            0x8d => self.text(8)?,
            b'T' => self.text(4)?,
            b'S' | b'V' => Value::Text(self.line()?.trim_matches(['\'', '"']).to_owned()),
            b'C' | b'B' | 0x8e | 0x96 => {
                let length = self.length(match op {
                    b'C' => 1,
                    b'B' => 4,
                    _ => 8,
                })?;
                self.take(length).map(|_| Value::Bytes)?
            }
            _ => return self.container(op),
        };
        self.push(value)
    }

    fn container(&mut self, op: u8) -> Result<(), Fault> {
        match op {
            b']' => self.push(Value::List(Vec::new())),
            b'}' | 0x8f => self.push(Value::Dict(Vec::new())),
            b')' => self.push(Value::Tuple(Vec::new())),
            0x85..=0x87 => self.tuple(usize::from(op - 0x84)),
            b't' => {
                let items = self.marked()?;
                self.push(Value::Tuple(items))
            }
            b'l' | 0x91 => {
                let items = self.marked()?;
                self.push(Value::List(items))
            }
            b'd' => {
                let pairs = pairs(self.marked()?);
                self.push(Value::Dict(pairs))
            }
            b'a' => {
                let item = self.pop()?;
                self.append(vec![item])
            }
            b'e' | 0x90 => {
                let items = self.marked()?;
                self.append(items)
            }
            b's' => {
                let value = self.pop()?;
                let key = self.pop()?;
                self.set(vec![(key, value)])
            }
            b'u' => {
                let pairs = pairs(self.marked()?);
                self.set(pairs)
            }
            _ => self.object(op),
        }
    }

    fn append(&mut self, items: Vec<Id>) -> Result<(), Fault> {
        // What is appended to anything else than a list belongs to an object that is ignored.
        if let Value::List(list) = self.top_mut()? {
            list.extend(items);
        }
        Ok(())
    }

    fn set(&mut self, pairs: Vec<(Id, Id)>) -> Result<(), Fault> {
        if let Value::Dict(found) | Value::Call { items: found, .. } = self.top_mut()? {
            found.extend(pairs);
        }
        Ok(())
    }

    /// Calls, which are kept as data.
    fn object(&mut self, op: u8) -> Result<(), Fault> {
        match op {
            b'c' => {
                let name = format!("{}.{}", self.line()?, self.line()?);
                self.push(Value::Global(name))
            }
            0x93 => {
                let (name, module) = (self.pop()?, self.pop()?);
                let part = |id| self.heap.text(id).unwrap_or("?");
                let name = format!("{}.{}", part(module), part(name));
                self.push(Value::Global(name))
            }
            b'R' | 0x81 => {
                let (arguments, of) = (self.pop()?, self.pop()?);
                self.call(of, arguments)
            }
            0x92 => {
                let (_, arguments, of) = (self.pop()?, self.pop()?, self.pop()?);
                self.call(of, arguments)
            }
            b'o' | b'i' => {
                let name = match op {
                    b'i' => Some(format!("{}.{}", self.line()?, self.line()?)),
                    _ => None,
                };
                let mut items = self.marked()?;
                let of = match name {
                    Some(name) => {
                        self.push(Value::Global(name))?;
                        self.pop()?
                    }
                    None if items.is_empty() => return self.fail("an object has no class"),
                    None => items.remove(0),
                };
                self.push(Value::Tuple(items))?;
                let arguments = self.pop()?;
                self.call(of, arguments)
            }
            // The state of an object: nothing that a tensor needs.
            b'b' => self.pop().map(drop),
            b'Q' => {
                let id = self.pop()?;
                self.push(Value::Persistent(id))
            }
            other => self.fail(format!("instruction 0x{other:02x} is none that a checkpoint needs")),
        }
    }

    fn call(&mut self, of: Id, arguments: Id) -> Result<(), Fault> {
        self.push(Value::Call { of, arguments, items: Vec::new() })
    }
}

/// Alternating keys and values.
fn pairs(items: Vec<Id>) -> Vec<(Id, Id)> {
    let mut items = items.into_iter();
    std::iter::from_fn(|| Some((items.next()?, items.next()?))).collect()
}

/// A little-endian two's complement number; `None` where 64 bits do not hold it.
fn long(bytes: &[u8]) -> Option<i64> {
    if bytes.len() > 8 {
        return None;
    }
    let negative = bytes.last().is_some_and(|b| b & 0x80 != 0);
    let fill = if negative { 0xff } else { 0 };
    let mut all = [fill; 8];
    all[..bytes.len()].copy_from_slice(bytes);
    Some(i64::from_le_bytes(all))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_texts_and_containers() {
        // pickle.dumps({'a': (1, -2), 'b': [True, None]}, 2)
        let bytes = b"\x80\x02}q\x00(X\x01\x00\x00\x00aq\x01K\x01J\xfe\xff\xff\xff\x86q\x02X\x01\x00\x00\x00bq\x03]q\x04(\x88Neu.";
        let Pickle { heap, root, length } = unpickle(bytes).unwrap();
        assert_eq!(length, bytes.len());
        let [(a, first), (b, second)] = *heap.pairs(root).unwrap() else { panic!("{heap:?}") };
        assert_eq!((heap.text(a), heap.text(b)), (Some("a"), Some("b")));
        let [one, two] = *heap.tuple(first).unwrap() else { panic!("{heap:?}") };
        assert!(matches!((heap.get(one), heap.get(two)), (Value::Int(1), Value::Int(-2))));
        let Value::List(list) = heap.get(second) else { panic!("{heap:?}") };
        assert!(matches!((heap.get(list[0]), heap.get(list[1])), (Value::Bool, Value::None)));
    }

    #[test]
    fn calls_are_kept_and_never_made() {
        // os.system('true')
        let Pickle { heap, root, .. } = unpickle(b"cos\nsystem\n(S'true'\ntR.").unwrap();
        let Value::Call { of, .. } = heap.get(root) else { panic!("{heap:?}") };
        assert_eq!(heap.text(*of), Some("os.system"));
    }

    #[test]
    fn deep_nesting_and_circles_do_no_harm() {
        let deep = [&b")"[..], &vec![0x85; 1_000_000], b"."].concat();
        assert!(matches!(unpickle(&deep).unwrap().heap.0.len(), 1_000_001));
        // a = []; a.append(a)
        unpickle(b"]q\x00h\x00a.").unwrap();
        let many = [&vec![b'N'; MOST + 1][..], b"."].concat();
        assert!(unpickle(&many).unwrap_err().1.contains("more values"));
    }

    #[test]
    fn damage_is_named_with_its_byte() {
        for (bytes, at, word) in [
            (&b"\x80\x02}"[..], 3, "too early"),
            (b"N0.", 2, "empty stack"),
            (b"X\xff\xff\xff\xffa.", 0, "too early"),
            (b"h\x05.", 0, "memo"),
            (b"t.", 0, "mark"),
            (b"\xfe.", 0, "0xfe"),
        ] {
            let (found, reason) = unpickle(bytes).unwrap_err();
            assert!(found == at && reason.contains(word), "{bytes:?}: {found} {reason}");
        }
        assert_eq!(long(&[0xff; 8]), Some(-1));
        assert_eq!(long(&[0x80]), Some(-128));
        assert_eq!(long(&[1; 9]), None);
    }

    proptest::proptest! {
        #[test]
        fn no_bytes_panic(bytes in proptest::collection::vec(proptest::num::u8::ANY, 0..200)) {
            let _ = unpickle(&bytes);
        }
    }
}
