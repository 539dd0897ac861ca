//! Cycles among the modules of a crate, folder by folder.

use std::collections::{BTreeMap, HashSet, VecDeque};

use super::modules::{Mention, Modules, resolve};

/// The name of a folder's own file (`mod.rs`, `lib.rs`) among its children.
const OWN: &str = "(its own file)";

/// Who imports whom in one folder, each with a place where that can be seen.
type Graph = BTreeMap<String, BTreeMap<String, Mention>>;

/// Which cycles.
#[derive(Clone, Copy)]
pub enum Kind {
    /// Among the child modules of one folder, each with all that is in it.
    Siblings,
    /// Through a folder's own file: it imports a child that imports it, in one step or several.
    Parent,
}

/// A paragraph for each folder whose modules form a cycle: the cycle's path, with the place of every import.
pub fn cycles(modules: &Modules, kind: Kind) -> Vec<String> {
    let folders = modules.iter().filter(|(_, module)| !module.children.is_empty());
    folders
        .filter_map(|(folder, _)| {
            let mut graph = graph(modules, folder);
            let cycle = match kind {
                Kind::Parent => cycle_through(&graph, OWN)?,
                Kind::Siblings => {
                    graph.remove(OWN);
                    graph.keys().filter_map(|start| cycle_through(&graph, start)).min_by_key(Vec::len)?
                }
            };
            let steps = cycle.iter().map(|(from, to, at)| {
                let file = at.file.file_name().unwrap_or_default().to_string_lossy();
                format!("    {from} imports {to} ({file}, line {}: {})", at.line, at.path.join("::"))
            });
            let place = if folder.is_empty() { "the crate's root".into() } else { folder.join("::") };
            Some(format!("  in {place}:\n{}", steps.collect::<Vec<_>>().join("\n")))
        })
        .collect()
}

/// The imports among the children of `folder`, each child with all that is in it, and the folder's own file.
fn graph(modules: &Modules, folder: &[String]) -> Graph {
    let part = |path: &[String]| path.get(folder.len()).cloned().unwrap_or_else(|| OWN.into());
    let mut graph = Graph::new();
    for (path, module) in modules.iter().filter(|(path, _)| path.starts_with(folder)) {
        for mention in &module.mentions {
            let Some(target) = resolve(modules, path, &mention.path) else { continue };
            let (from, to) = (part(path), part(&target));
            if target.starts_with(folder) && from != to {
                graph.entry(from).or_default().entry(to).or_insert_with(|| mention.clone());
            }
        }
    }
    graph
}

/// The shortest cycle through `start`, as its imports in order.
fn cycle_through<'a>(graph: &'a Graph, start: &'a str) -> Option<Vec<(&'a str, &'a str, &'a Mention)>> {
    let (mut queue, mut seen) = (VecDeque::from([(start, Vec::new())]), HashSet::new());
    while let Some((at, path)) = queue.pop_front() {
        for (to, mention) in graph.get(at).into_iter().flatten() {
            let mut path = path.clone();
            path.push((at, to.as_str(), mention));
            if to == start {
                return Some(path);
            }
            if seen.insert(to) {
                queue.push_back((to, path));
            }
        }
    }
    None
}
