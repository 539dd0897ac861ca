//! What a pickle describes: values in an arena, which refer to each other by position. A pickle may nest and share them as it
//! likes, and even close circles; nothing here follows references further than it has to.

/// The position of a value.
pub(crate) type Id = u32;

/// A value of a pickle.
#[derive(Debug, Clone)]
pub(crate) enum Value {
    None,
    Bool,
    Int(i64),
    Float,
    Text(String),
    Bytes,
    List(Vec<Id>),
    Tuple(Vec<Id>),
    Dict(Vec<(Id, Id)>),
    /// A name of Python's, `module.name`.
    Global(String),
    /// A call that was not made: what would be called, its arguments, and the items set on the object afterwards (an
    /// `OrderedDict` is made by a call and filled later).
    Call {
        of: Id,
        arguments: Id,
        items: Vec<(Id, Id)>,
    },
    /// Something that lies outside the pickle: the storage of a tensor.
    Persistent(Id),
}

/// All values of a pickle.
#[derive(Debug, Default)]
pub(crate) struct Heap(pub(crate) Vec<Value>);

impl Heap {
    /// The value at `id`.
    pub(crate) fn get(&self, id: Id) -> &Value {
        self.0.get(id as usize).unwrap_or(&Value::None)
    }

    pub(crate) fn text(&self, id: Id) -> Option<&str> {
        match self.get(id) {
            Value::Text(text) | Value::Global(text) => Some(text),
            _ => None,
        }
    }

    pub(crate) fn number(&self, id: Id) -> Option<usize> {
        match self.get(id) {
            Value::Int(n) => usize::try_from(*n).ok(),
            _ => None,
        }
    }

    /// The items of a tuple.
    pub(crate) fn tuple(&self, id: Id) -> Option<&[Id]> {
        match self.get(id) {
            Value::Tuple(items) => Some(items),
            _ => None,
        }
    }

    /// The key and value pairs of a dict, or of an object that was filled like one.
    pub(crate) fn pairs(&self, id: Id) -> Option<&[(Id, Id)]> {
        match self.get(id) {
            Value::Dict(pairs) | Value::Call { items: pairs, .. } => Some(pairs),
            _ => None,
        }
    }
}
