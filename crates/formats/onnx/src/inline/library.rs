//! The functions of a model, and which of them can be written out.

use std::collections::{BTreeMap, HashMap, HashSet};

use prost::bytes::Bytes;

use super::kept::Kept;
use super::node::{Part, Parts, body, check_depth, domain, named, names_of_body};
use crate::attribute::decode;
use crate::error::OnnxError;
use crate::proto::{AttributeHead, FunctionProto, NodeProto, OperatorSet, kind};

/// Domains whose operators have a meaning without functions.
const STANDARD: [&str; 5] =
    ["", "ai.onnx.ml", "ai.onnx.training", "ai.onnx.preview.training", "com.microsoft"];

/// A function of a model.
pub struct Function {
    /// How it is called in messages.
    pub label: String,
    pub name: String,
    pub domain: String,
    pub inputs: Vec<String>,
    pub outputs: Vec<String>,
    pub nodes: Vec<Parts>,
    /// Attributes that have a value where a call gives none, with their types.
    pub defaults: HashMap<String, (i32, Bytes)>,
    /// Attributes that its nodes take over, and their types there.
    pub references: Vec<(String, i32)>,
    /// Operator sets that it declares.
    pub imports: BTreeMap<String, i64>,
    /// Functions that it calls.
    pub calls: Vec<usize>,
    /// Why no call of it is written out.
    pub kept: Option<Kept>,
}

/// The functions of a model.
pub struct Library {
    pub functions: Vec<Function>,
    by_name: HashMap<(String, String, String), usize>,
}

impl Library {
    /// The functions in `encoded`, for a network of the operator sets `imports`.
    pub fn new(encoded: &[Bytes], imports: &[OperatorSet]) -> Result<Self, OnnxError> {
        let decoded = |b: &Bytes| decode(b.clone(), || "a function".into());
        let protos: Vec<FunctionProto> = encoded.iter().map(decoded).collect::<Result<_, _>>()?;
        let mut library = Self { functions: Vec::new(), by_name: HashMap::new() };
        let mut twice = HashSet::new();
        for (i, f) in protos.iter().enumerate() {
            let text = |s: &Option<String>| s.clone().unwrap_or_default();
            let key = (domain(&f.domain).to_string(), text(&f.name), text(&f.overload));
            if let Some(first) = library.by_name.insert(key, i) {
                twice.extend([first, i]);
            }
        }
        let mut versions = versions(imports);
        for (i, proto) in protos.into_iter().enumerate() {
            let mut function = library.function(proto, &versions)?;
            if twice.contains(&i) {
                function.kept = Some(Kept::Duplicate);
            }
            if function.kept.is_none() {
                // A domain that the network does not use has the version of the first function that does.
                for (domain, version) in &function.imports {
                    versions.entry(domain.clone()).or_insert(*version);
                }
            }
            library.functions.push(function);
        }
        library.find_recursion();
        Ok(library)
    }

    /// The function that a node calls.
    pub fn called(&self, node: &NodeProto) -> Option<usize> {
        let text = |s: &Option<String>| s.clone().unwrap_or_default();
        let key = (domain(&node.domain).to_string(), text(&node.op_type), text(&node.overload));
        self.by_name.get(&key).copied()
    }

    fn function(
        &self,
        proto: FunctionProto,
        versions: &BTreeMap<String, i64>,
    ) -> Result<Function, OnnxError> {
        let own = domain(&proto.domain).to_string();
        let name = proto.name.unwrap_or_default();
        let label = if own.is_empty() { name.clone() } else { format!("{own}.{name}") };
        let nodes: Vec<Parts> = proto.node.iter().map(Parts::decode).collect::<Result<_, _>>()?;
        let mut defaults = HashMap::new();
        for bytes in proto.attribute_proto {
            let head: AttributeHead =
                decode(bytes.clone(), || format!("an attribute of function `{label}`"))?;
            defaults.insert(head.name.unwrap_or_default(), (head.kind.unwrap_or(0), bytes));
        }
        let mut look = Look::new(self);
        let mut scope = HashSet::new();
        for name in proto.input.iter().chain(nodes.iter().flat_map(|p| &p.node.output)) {
            if !name.is_empty() && !scope.insert(name.clone()) {
                look.refuse(Kept::DefinedTwice(name.clone()));
            }
        }
        if let Some(missing) = proto.output.iter().find(|o| !scope.contains(*o)) {
            look.refuse(Kept::OutputUnwritten(missing.clone()));
        }
        let mut scopes = vec![scope];
        nodes.iter().try_for_each(|parts| look.node(parts, &mut scopes))?;
        let imports = self::versions(&proto.opset_import);
        let mut domains: Vec<String> = std::mem::take(&mut look.domains).into_iter().collect();
        domains.sort_unstable();
        for domain in domains {
            match (imports.get(&domain), versions.get(&domain)) {
                (None, _) => look.refuse(Kept::NoOperatorSet(domain)),
                (Some(&theirs), Some(&ours)) if theirs != ours => {
                    look.refuse(Kept::OperatorSet { domain, theirs, ours });
                }
                _ => {}
            }
        }
        if STANDARD.contains(&own.as_str()) {
            look.kept = Some(Kept::StandardDomain(own.clone()));
        }
        let Look { kept, references, calls, .. } = look;
        let (inputs, outputs) = (proto.input, proto.output);
        Ok(Function {
            label,
            name,
            domain: own,
            inputs,
            outputs,
            nodes,
            defaults,
            references,
            imports,
            calls,
            kept,
        })
    }

    /// Marks the functions that call themselves: those that are left when functions that call none of those left, and then
    /// functions that none of those left calls, are taken away again and again.
    fn find_recursion(&mut self) {
        let calls: Vec<Vec<usize>> = self.functions.iter().map(|f| f.calls.clone()).collect();
        let mut called_by = vec![Vec::new(); calls.len()];
        for (caller, callees) in calls.iter().enumerate() {
            callees.iter().for_each(|&callee| called_by[callee].push(caller));
        }
        let mut left = vec![true; calls.len()];
        peel(&calls, &called_by, &mut left);
        peel(&called_by, &calls, &mut left);
        for (function, _) in self.functions.iter_mut().zip(left).filter(|(_, left)| *left) {
            if !STANDARD.contains(&function.domain.as_str()) {
                function.kept = Some(Kept::Recursive);
            }
        }
    }
}

/// Takes away nodes without successors among those left until each has one.
fn peel(successors: &[Vec<usize>], predecessors: &[Vec<usize>], left: &mut [bool]) {
    let mut count: Vec<usize> =
        successors.iter().map(|list| list.iter().filter(|&&s| left[s]).count()).collect();
    let mut free: Vec<usize> = (0..left.len()).filter(|&i| left[i] && count[i] == 0).collect();
    while let Some(i) = free.pop() {
        left[i] = false;
        for &p in predecessors[i].iter().filter(|&&p| left[p]) {
            count[p] -= 1;
            if count[p] == 0 {
                free.push(p);
            }
        }
    }
}

fn versions(imports: &[OperatorSet]) -> BTreeMap<String, i64> {
    imports.iter().map(|i| (domain(&i.domain).to_string(), i.version.unwrap_or(0))).collect()
}

/// What is found in the nodes of a function.
struct Look<'a> {
    library: &'a Library,
    domains: HashSet<String>,
    references: Vec<(String, i32)>,
    calls: Vec<usize>,
    kept: Option<Kept>,
}

impl<'a> Look<'a> {
    fn new(library: &'a Library) -> Self {
        Self { library, domains: HashSet::new(), references: Vec::new(), calls: Vec::new(), kept: None }
    }

    /// The first reason counts.
    fn refuse(&mut self, reason: Kept) {
        self.kept.get_or_insert(reason);
    }

    /// Looks at a node, which may read what `scopes` define, and into its bodies.
    fn node(&mut self, parts: &Parts, scopes: &mut Vec<HashSet<String>>) -> Result<(), OnnxError> {
        let (own, called) = (domain(&parts.node.domain), self.library.called(&parts.node));
        self.calls.extend(called);
        if called.is_none() || STANDARD.contains(&own) {
            self.domains.insert(own.into());
        }
        self.reads(&parts.node.input, scopes);
        for part in &parts.attributes {
            match part {
                Part::Plain(_) => {}
                Part::Reference { to, kind, .. } => self.reference(to, *kind),
                Part::Bodies(attribute) => {
                    check_depth(&parts.node, scopes.len() - 1)?;
                    for bytes in attribute.g.iter().chain(&attribute.graphs) {
                        self.body(bytes, scopes)?;
                    }
                }
            }
        }
        Ok(())
    }

    fn reference(&mut self, to: &str, code: i32) {
        let simple =
            (kind::FLOAT..=kind::TENSOR).contains(&code) || (kind::FLOATS..=kind::TENSORS).contains(&code);
        if !simple {
            self.refuse(Kept::AttributeKind(to.into()));
        }
        self.references.push((to.into(), code));
    }

    fn reads(&mut self, names: &[String], scopes: &[HashSet<String>]) {
        let known = |name: &String| name.is_empty() || scopes.iter().rev().any(|s| s.contains(name));
        if let Some(name) = names.iter().find(|n| !known(n)) {
            self.refuse(Kept::Undefined(name.clone()));
        }
    }

    fn body(&mut self, bytes: &Bytes, scopes: &mut Vec<HashSet<String>>) -> Result<(), OnnxError> {
        let body = body(bytes)?;
        if !body.sparse_initializer.is_empty() || !body.quantization_annotation.is_empty() {
            self.refuse(Kept::Sparse);
        }
        let mut scope: HashSet<String> = names_of_body(&body)?.into_iter().collect();
        let nodes: Vec<Parts> = body.node.iter().map(Parts::decode).collect::<Result<_, _>>()?;
        for name in nodes.iter().flat_map(|p| &p.node.output).filter(|o| !o.is_empty()) {
            if !scope.insert(name.clone()) {
                self.refuse(Kept::DefinedTwice(name.clone()));
            }
        }
        scopes.push(scope);
        nodes.iter().try_for_each(|parts| self.node(parts, scopes))?;
        let outputs = body.output.iter().map(|o| Ok(named(o)?.name.unwrap_or_default()));
        let outputs = outputs.collect::<Result<Vec<_>, OnnxError>>()?;
        // What a body hands out is its own: a value of the function could be one that a call leaves out.
        self.reads(&outputs, &scopes[scopes.len() - 1..]);
        scopes.pop();
        Ok(())
    }
}
