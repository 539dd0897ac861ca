//! Calls of functions, written out as the functions' nodes.

use std::collections::{BTreeMap, HashMap, HashSet};

use prost::Message;
use prost::bytes::Bytes;

use super::kept::{Kept, MAX_DEPTH, MAX_STEPS, Stop};
use super::library::{Function, Library};
use super::names::Names;
use super::node::{MAX_BODIES, Part, Parts, body, check_depth, initializer, named, names_of_body};
use crate::attribute::decode;
use crate::error::OnnxError;
use crate::proto::{AttributeHead, AttributeProto, NodeProto};

/// Names in a function and its bodies, from the outside to the inside, and what they become.
type Scopes = Vec<HashMap<String, String>>;

/// What the names of a function become; and values, each with the name that a copy of it gets.
type Scope = (HashMap<String, String>, Vec<(String, String)>);

/// The work of writing out calls.
pub struct Expansion<'a> {
    library: &'a Library,
    /// Names of values, and of nodes.
    pub values: Names,
    pub labels: Names,
    /// `Constant`s of functions: each is made once, however often its function is called.
    pub constants: Vec<Bytes>,
    /// The constant for each function and value in it.
    shared: HashMap<(usize, String), String>,
    /// Functions with calls that stay, and the first reason for each.
    pub kept: BTreeMap<String, Kept>,
    /// Functions of which calls were written out.
    pub used: HashSet<usize>,
    steps: usize,
    bytes: usize,
    limit: usize,
}

/// What a call gives its function's nodes.
struct Call<'c> {
    function: &'c Function,
    /// In front of the names of its nodes and values.
    prefix: String,
    /// Attributes of the function.
    attributes: HashMap<&'c str, &'c Bytes>,
    place: Place,
}

/// How deep a node stands.
#[derive(Clone, Copy, Default)]
struct Place {
    /// Calls that lead to it.
    calls: usize,
    /// Bodies around it.
    bodies: usize,
}

impl<'a> Expansion<'a> {
    /// For calls of functions in `library`; the nodes made may take `limit` bytes.
    pub fn new(library: &'a Library, limit: usize) -> Self {
        Self {
            library,
            limit,
            values: Names::default(),
            labels: Names::default(),
            constants: Vec::new(),
            shared: HashMap::new(),
            kept: BTreeMap::new(),
            used: HashSet::new(),
            steps: 0,
            bytes: 0,
        }
    }

    /// The `nodes` of a network or body `depth` bodies deep, with their calls written out.
    pub fn nodes(&mut self, nodes: &[Bytes], depth: usize) -> Result<Vec<Bytes>, Stop> {
        let mut made = Vec::with_capacity(nodes.len());
        for bytes in nodes {
            let mut node: NodeProto = decode(bytes.clone(), || "a node".into())?;
            if self.library.called(&node).is_some() {
                self.emit(node, &mut made, Place { calls: 0, bodies: depth })?;
                continue;
            }
            let parts = Parts::decode(bytes)?;
            let mut changed = false;
            for (part, attribute) in parts.attributes.into_iter().zip(&mut node.attribute) {
                let Part::Bodies(mut holder) = part else { continue };
                check_depth(&parts.node, depth)?;
                for bytes in holder.g.iter_mut().chain(&mut holder.graphs) {
                    let mut inner = body(bytes)?;
                    let before = std::mem::take(&mut inner.node);
                    inner.node = self.nodes(&before, depth + 1)?;
                    if inner.node != before {
                        (*bytes, changed) = (inner.encode_to_vec().into(), true);
                    }
                }
                if changed {
                    *attribute = holder.encode_to_vec().into();
                }
            }
            made.push(if changed { node.encode_to_vec().into() } else { bytes.clone() });
        }
        Ok(made)
    }

    /// Adds a node to `made`, or what it calls.
    fn emit(&mut self, node: NodeProto, made: &mut Vec<Bytes>, place: Place) -> Result<(), Stop> {
        if let Some(index) = self.library.called(&node) {
            let function = &self.library.functions[index];
            let kept = match &function.kept {
                Some(reason) => Some(reason.clone()),
                None => self.call(index, &node, made, place)?,
            };
            match kept {
                None => return Ok(()),
                Some(reason) => drop(self.kept.entry(function.label.clone()).or_insert(reason)),
            }
        }
        let bytes: Bytes = node.encode_to_vec().into();
        self.spend(1, bytes.len())?;
        made.push(bytes);
        Ok(())
    }

    fn spend(&mut self, steps: usize, bytes: usize) -> Result<(), Stop> {
        self.steps = self.steps.saturating_add(steps);
        self.bytes = self.bytes.saturating_add(bytes);
        match () {
            () if self.steps > MAX_STEPS => Err(Stop::Kept(Kept::TooManySteps)),
            () if self.bytes > self.limit => Err(Stop::Kept(Kept::TooManyBytes(self.limit))),
            () => Ok(()),
        }
    }

    /// Writes out a call of function `index`, or says why not.
    fn call(
        &mut self,
        index: usize,
        node: &NodeProto,
        made: &mut Vec<Bytes>,
        place: Place,
    ) -> Result<Option<Kept>, Stop> {
        if place.calls >= MAX_DEPTH {
            return Err(Stop::Kept(Kept::TooDeep));
        }
        let function = &self.library.functions[index];
        self.spend(1 + function.inputs.len() + function.outputs.len() + function.nodes.len(), 0)?;
        let given = given(node)?;
        if let Some(reason) = misfit(function, node, &given) {
            return Ok(Some(reason));
        }
        let defaults = function.defaults.iter().map(|(name, (_, bytes))| (name.as_str(), bytes));
        let attributes =
            defaults.chain(given.iter().map(|(name, (_, bytes))| (name.as_str(), bytes))).collect();
        let prefix = node.name.iter().chain(&node.output).chain(&node.op_type).find(|n| !n.is_empty());
        let place = Place { calls: place.calls + 1, ..place };
        let call = Call { function, prefix: prefix.cloned().unwrap_or_default(), attributes, place };
        let (scope, copies) = self.scope(index, node, &call)?;
        let mut scopes = vec![scope];
        self.used.insert(index);
        for parts in function.nodes.iter().filter(|p| !p.is_constant()) {
            let node = self.renamed(parts, &call, &mut scopes)?;
            self.emit(node, made, place)?;
        }
        for (from, to) in copies {
            let copy = NodeProto {
                op_type: Some("Identity".into()),
                input: vec![from],
                output: vec![to],
                ..NodeProto::default()
            };
            self.emit(copy, made, place)?;
        }
        Ok(None)
    }

    /// What the names of a function become, and the values that an `Identity` has to hand out: inputs, constants, and what
    /// goes to several outputs.
    fn scope(&mut self, index: usize, node: &NodeProto, call: &Call) -> Result<Scope, Stop> {
        let function = call.function;
        let mut scope = HashMap::new();
        for (i, formal) in function.inputs.iter().enumerate().filter(|(_, f)| !f.is_empty()) {
            scope.insert(formal.clone(), node.input.get(i).cloned().unwrap_or_default());
        }
        for parts in function.nodes.iter().filter(|p| p.is_constant()) {
            let local = &parts.node.output[0];
            scope.insert(local.clone(), self.constant(index, local, parts)?);
        }
        let mut copies = Vec::new();
        for (formal, actual) in function.outputs.iter().zip(&node.output).filter(|(_, a)| !a.is_empty()) {
            match scope.get(formal) {
                Some(from) => copies.push((from.clone(), actual.clone())),
                None => drop(scope.insert(formal.clone(), actual.clone())),
            }
        }
        for local in function.nodes.iter().flat_map(|p| &p.node.output).filter(|o| !o.is_empty()) {
            if !scope.contains_key(local) {
                scope.insert(local.clone(), self.fresh(call, local)?);
            }
        }
        Ok((scope, copies))
    }

    /// The network's name of a function's constant, which is made where this is its first call.
    fn constant(&mut self, index: usize, local: &str, parts: &Parts) -> Result<String, Stop> {
        let key = (index, local.to_string());
        if let Some(name) = self.shared.get(&key) {
            return Ok(name.clone());
        }
        let function = &self.library.functions[index];
        let name = self.values.fresh(format!("{}/{local}", function.name));
        let plain = parts.attributes.iter().filter_map(|part| match part {
            Part::Plain(bytes) => Some(bytes.clone()),
            _ => None,
        });
        let (attribute, output) = (plain.collect(), vec![name.clone()]);
        let node = NodeProto { output, attribute, name: None, ..parts.node.clone() };
        self.constants.push(node.encode_to_vec().into());
        self.shared.insert(key, name.clone());
        Ok(name)
    }

    /// A name for a value of a function.
    fn fresh(&mut self, call: &Call, local: &str) -> Result<String, Stop> {
        self.spend(1, call.prefix.len() + local.len())?;
        Ok(self.values.fresh(format!("{}/{local}", call.prefix)))
    }

    /// A node of a function or of a body in it, as it stands in the network.
    fn renamed(&mut self, parts: &Parts, call: &Call, scopes: &mut Scopes) -> Result<NodeProto, Stop> {
        let mut node = parts.node.clone();
        for name in node.input.iter_mut().chain(&mut node.output) {
            *name = looked_up(scopes, name);
        }
        let local = node.name.as_ref().or(node.op_type.as_ref()).cloned().unwrap_or_default();
        self.spend(1, call.prefix.len() + local.len())?;
        node.name = Some(self.labels.fresh(format!("{}/{local}", call.prefix)));
        for part in &parts.attributes {
            match part {
                Part::Plain(bytes) => node.attribute.push(bytes.clone()),
                Part::Reference { name, to, .. } => {
                    // An attribute that neither call nor function give is none of the node's.
                    let Some(bytes) = call.attributes.get(to.as_str()) else { continue };
                    let value: AttributeProto = decode((*bytes).clone(), || format!("attribute `{to}`"))?;
                    let value = AttributeProto { name: Some(name.clone()), ..value };
                    self.spend(1, value.encoded_len())?;
                    node.attribute.push(value.encode_to_vec().into());
                }
                Part::Bodies(attribute) => {
                    let mut attribute = attribute.clone();
                    for bytes in attribute.g.iter_mut().chain(&mut attribute.graphs) {
                        *bytes = self.body(bytes, call, scopes)?;
                    }
                    node.attribute.push(attribute.encode_to_vec().into());
                }
            }
        }
        Ok(node)
    }

    /// A body in a function, as it stands in the network.
    fn body(&mut self, bytes: &Bytes, call: &Call, scopes: &mut Scopes) -> Result<Bytes, Stop> {
        // The function's own names are one scope, each body around this one another.
        let place = Place { bodies: call.place.bodies + scopes.len(), ..call.place };
        if place.bodies > MAX_BODIES {
            return Err(Stop::Kept(Kept::TooDeep));
        }
        let mut body = body(bytes)?;
        self.spend(1 + body.node.len() + body.initializer.len() + body.input.len(), bytes.len())?;
        // Types of values between the nodes, under their old names.
        body.value_info.clear();
        let nodes: Vec<Parts> = body.node.iter().map(Parts::decode).collect::<Result<_, OnnxError>>()?;
        let mut locals = names_of_body(&body)?;
        locals.extend(nodes.iter().flat_map(|p| &p.node.output).filter(|o| !o.is_empty()).cloned());
        let mut scope = HashMap::new();
        for local in locals {
            let new = self.fresh(call, &local)?;
            scope.insert(local, new);
        }
        scopes.push(scope);
        for bytes in body.input.iter_mut().chain(&mut body.output) {
            let mut value = named(bytes)?;
            value.name = value.name.map(|name| looked_up(scopes, &name));
            *bytes = value.encode_to_vec().into();
        }
        for bytes in &mut body.initializer {
            let mut tensor = initializer(bytes)?;
            tensor.name = tensor.name.map(|name| looked_up(scopes, &name));
            *bytes = tensor.encode_to_vec().into();
        }
        let mut made = Vec::with_capacity(nodes.len());
        for parts in &nodes {
            let node = self.renamed(parts, call, scopes)?;
            self.emit(node, &mut made, place)?;
        }
        body.node = made;
        scopes.pop();
        Ok(body.encode_to_vec().into())
    }
}

/// What a name of a function or body becomes.
fn looked_up(scopes: &Scopes, name: &str) -> String {
    scopes.iter().rev().find_map(|scope| scope.get(name)).cloned().unwrap_or_default()
}

/// The attributes of a call, with their types.
fn given(node: &NodeProto) -> Result<HashMap<String, (i32, Bytes)>, OnnxError> {
    let head = |bytes: &Bytes| {
        let head: AttributeHead = decode(bytes.clone(), || "an attribute of a call".into())?;
        // One that refers to another has no value.
        let kind = head.kind.filter(|_| head.ref_attr_name.as_ref().is_none_or(String::is_empty));
        Ok((head.name.unwrap_or_default(), (kind.unwrap_or(0), bytes.clone())))
    };
    node.attribute.iter().map(head).collect()
}

/// Why a call does not fit its function.
fn misfit(function: &Function, node: &NodeProto, given: &HashMap<String, (i32, Bytes)>) -> Option<Kept> {
    let arity = |what, given: &[String], wanted: &[String]| {
        let (given, wanted) = (given.len(), wanted.len());
        (given > wanted).then_some(Kept::Arity { what, given, wanted })
    };
    let kind = |name: &str| given.get(name).or_else(|| function.defaults.get(name)).map(|(kind, _)| *kind);
    let other = |(name, wanted): &&(String, i32)| kind(name).is_some_and(|k| k != *wanted);
    let omitted = |(formal, actual): &(&String, &String)| {
        let input = function.inputs.iter().position(|i| i == *formal);
        !actual.is_empty() && input.is_some_and(|i| node.input.get(i).is_none_or(String::is_empty))
    };
    arity("inputs", &node.input, &function.inputs)
        .or_else(|| arity("outputs", &node.output, &function.outputs))
        .or_else(|| function.references.iter().find(other).map(|(name, _)| Kept::AttributeType(name.clone())))
        .or_else(|| {
            let mut outputs = function.outputs.iter().zip(&node.output);
            outputs.find(omitted).map(|(formal, _)| Kept::InputOmitted(formal.clone()))
        })
}
