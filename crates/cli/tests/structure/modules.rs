//! The modules of a crate, what each re-exports, and the paths each mentions. Code under `#[cfg(test)]` is left out.

use std::collections::{BTreeMap, HashSet};
use std::path::{Path, PathBuf};

use super::tokens::{Token, tokens};

/// A path as it stands in the source, `crate::a::B`, with where it stands.
#[derive(Clone, Debug)]
pub struct Mention {
    pub path: Vec<String>,
    pub file: PathBuf,
    pub line: usize,
}

/// One module: a file or a block `mod x { .. }`.
#[derive(Debug, Default)]
pub struct Module {
    /// Names of its child modules.
    pub children: Vec<String>,
    /// Name -> path of every `use`: child modules may take these names from here.
    pub imports: BTreeMap<String, Vec<String>>,
    /// Every path in code, every `use` without a visibility, and every re-export that the module's own code uses.
    pub mentions: Vec<Mention>,
}

/// A crate's modules by their path (the root's path is empty).
pub type Modules = BTreeMap<Vec<String>, Module>;

/// Reads the crate whose root file is `root`.
pub fn read(root: &Path) -> Modules {
    let mut modules = Modules::new();
    read_file(root, Vec::new(), &mut modules);
    modules
}

fn read_file(file: &Path, path: Vec<String>, modules: &mut Modules) {
    let source = std::fs::read_to_string(file).unwrap_or_else(|e| panic!("{}: {e}", file.display()));
    let tokens = tokens(&source);
    Reader { file, tokens: &tokens, at: 0 }.block(path, modules);
}

struct Reader<'a> {
    file: &'a Path,
    tokens: &'a [Token],
    at: usize,
}

impl<'a> Reader<'a> {
    fn text(&self, ahead: usize) -> &'a str {
        self.tokens.get(self.at + ahead).map_or("", |t| &t.text)
    }

    /// Reads the module `path` up to the brace that closes it, or to the end of the file.
    fn block(&mut self, path: Vec<String>, modules: &mut Modules) {
        let mut module = Module::default();
        let (mut depth, mut renamed_file) = (0usize, None);
        let (mut words, mut passed_on) = (HashSet::new(), Vec::new());
        while self.at < self.tokens.len() {
            match self.text(0) {
                "{" => depth += 1,
                "}" if depth == 0 => break,
                "}" => depth -= 1,
                "#" => {
                    let attribute = self.attribute();
                    if is_test_only(&attribute) {
                        self.skip_item();
                    } else if let [name, _, text] = &attribute[..]
                        && name == "path"
                    {
                        renamed_file = Some(text.trim_matches('"').to_string());
                    }
                    continue;
                }
                "mod" if self.tokens.get(self.at + 1).is_some_and(Token::is_word) => {
                    self.module(&path, &mut module, renamed_file.take(), modules);
                    continue;
                }
                // `use<'a>` in a return type is no import.
                "use" if self.text(1) != "<" => {
                    self.import(&mut module, &mut passed_on);
                    continue;
                }
                _ if self.tokens[self.at].is_word() && self.text(1) == "::" && !self.follows_path() => {
                    words.insert(self.text(0));
                    self.mention(&mut module);
                    continue;
                }
                word => drop(words.insert(word)),
            }
            self.at += 1;
        }
        passed_on.retain(|(name, _)| words.contains(name.as_str()));
        module.mentions.extend(passed_on.into_iter().map(|(_, mention)| mention));
        modules.insert(path, module);
    }

    /// Whether the token before this one makes it the middle of a path or a macro's `$crate`.
    fn follows_path(&self) -> bool {
        self.at > 0 && self.tokens[self.at - 1].text == "::"
    }

    /// Reads `#[..]` or `#![..]` and returns the words and texts in it.
    fn attribute(&mut self) -> Vec<String> {
        self.at += if self.text(1) == "!" { 2 } else { 1 };
        let (mut depth, mut found) = (0, Vec::new());
        while self.at < self.tokens.len() {
            match self.text(0) {
                "[" => depth += 1,
                "]" => depth -= 1,
                text => found.push(text.to_string()),
            }
            self.at += 1;
            if depth == 0 {
                break;
            }
        }
        found
    }

    /// Skips an item: further attributes, then up to its `;` or its closing brace.
    fn skip_item(&mut self) {
        let mut depth = 0;
        while self.at < self.tokens.len() {
            if depth == 0 && self.text(0) == "#" {
                self.attribute();
                continue;
            }
            match self.text(0) {
                "{" | "(" | "[" => depth += 1,
                "}" | ")" | "]" => depth -= 1,
                _ => {}
            }
            let ends = depth == 0 && matches!(self.text(0), ";" | "}");
            self.at += 1;
            if ends {
                break;
            }
        }
    }

    /// Reads `mod x;` or `mod x { .. }`.
    fn module(&mut self, path: &[String], parent: &mut Module, file: Option<String>, modules: &mut Modules) {
        let name = self.text(1).to_string();
        let child: Vec<String> = path.iter().cloned().chain([name.clone()]).collect();
        parent.children.push(name.clone());
        let opens = self.text(2) == "{";
        self.at += 3;
        if opens {
            self.block(child, modules);
            self.at += 1;
            return;
        }
        let folder = self.file.parent().unwrap();
        let stem = self.file.file_stem().unwrap().to_string_lossy();
        let is_folder = matches!(&*stem, "lib" | "main" | "mod");
        let own = if is_folder { folder.to_path_buf() } else { folder.join(&*stem) };
        let renamed = file.map(|f| folder.join(f));
        let places = [own.join(format!("{name}.rs")), own.join(&name).join("mod.rs")];
        let found = renamed.into_iter().chain(places).find(|p| p.exists());
        let found = found.unwrap_or_else(|| panic!("{}: no file of `mod {name}`", self.file.display()));
        read_file(&found, child, modules);
    }

    /// Reads a `use` declaration. One with a visibility passes names on to others; its mentions go to `passed_on`.
    fn import(&mut self, module: &mut Module, passed_on: &mut Vec<(String, Mention)>) {
        let public = self.at > 0
            && match self.tokens[self.at - 1].text.as_str() {
                "pub" => true,
                ")" => self.tokens[..self.at].iter().rev().take(8).any(|t| t.text == "pub"),
                _ => false,
            };
        self.at += 1;
        let mut leaves = Vec::new();
        self.tree(Vec::new(), &mut leaves);
        self.at += 1;
        for (path, name, line) in leaves {
            let mention = Mention { path: path.clone(), file: self.file.into(), line };
            match (public, name) {
                (true, Some(name)) => {
                    passed_on.push((name.clone(), mention));
                    module.imports.insert(name, path);
                }
                (true, None) => panic!("{}:{line}: name what you re-export, not *", self.file.display()),
                (false, name) => {
                    module.mentions.push(mention);
                    module.imports.extend(name.map(|name| (name, path)));
                }
            }
        }
    }

    /// Reads a tree of a `use` declaration behind `prefix`: its leaves as (path, name in this module or none for `*`, line).
    fn tree(&mut self, prefix: Vec<String>, leaves: &mut Vec<(Vec<String>, Option<String>, usize)>) {
        let mut path = prefix;
        let line = self.tokens[self.at].line;
        loop {
            match self.text(0) {
                "::" => {}
                "{" => {
                    self.at += 1;
                    while self.text(0) != "}" {
                        assert!(
                            self.at < self.tokens.len(),
                            "{}:{line}: a use without an end",
                            self.file.display()
                        );
                        self.tree(path.clone(), leaves);
                        if self.text(0) == "," {
                            self.at += 1;
                        }
                    }
                    self.at += 1;
                    return;
                }
                "*" => {
                    self.at += 1;
                    leaves.push((path, None, line));
                    return;
                }
                "as" => {
                    let name = self.text(1).to_string();
                    self.at += 2;
                    leaves.push((path, Some(name), line));
                    return;
                }
                "," | "}" | ";" | "" => {
                    if path.last().is_some_and(|p| p == "self") && path.len() > 1 {
                        path.pop();
                    }
                    let name = path.last().cloned();
                    leaves.push((path, name, line));
                    return;
                }
                word => path.push(word.to_string()),
            }
            self.at += 1;
        }
    }

    /// Reads a path in code.
    fn mention(&mut self, module: &mut Module) {
        let line = self.tokens[self.at].line;
        let mut path = vec![self.text(0).to_string()];
        self.at += 1;
        while self.text(0) == "::" && self.tokens.get(self.at + 1).is_some_and(Token::is_word) {
            path.push(self.text(1).to_string());
            self.at += 2;
        }
        module.mentions.push(Mention { path, file: self.file.into(), line });
    }
}

/// Whether an attribute's words are `cfg(test)` or a `cfg` that needs `test`.
fn is_test_only(words: &[String]) -> bool {
    let has = |word: &str| words.iter().any(|w| w == word);
    words.first().is_some_and(|w| w == "cfg") && has("test") && !has("not") && !has("any")
}

/// The module that the path, as it stands in `module`, leads to: re-exports are followed to where a name is defined.
/// None where it leads out of the crate.
pub fn resolve(modules: &Modules, module: &[String], path: &[String]) -> Option<Vec<String>> {
    follow(modules, module, path, 0)
}

fn follow(modules: &Modules, module: &[String], path: &[String], turns: usize) -> Option<Vec<String>> {
    let (mut at, mut rest) = match path.first()?.as_str() {
        "crate" => (Vec::new(), &path[1..]),
        "self" => (module.to_vec(), &path[1..]),
        "super" => (module.split_last()?.1.to_vec(), &path[1..]),
        first if modules[module].children.iter().any(|c| c == first) => (module.to_vec(), path),
        first if modules[module].imports.contains_key(first) => (module.to_vec(), path),
        _ => return None,
    };
    while let Some((name, more)) = rest.split_first() {
        if name == "super" {
            at.pop()?;
        } else if modules[&at].children.contains(name) {
            at.push(name.clone());
        } else {
            return Some(home(modules, at, name, turns));
        }
        rest = more;
    }
    Some(at)
}

/// The module that defines what `name` means in the module `at`.
fn home(modules: &Modules, at: Vec<String>, name: &str, turns: usize) -> Vec<String> {
    // A ring of imports does not compile, except by a name that two kinds of things share.
    match modules[&at].imports.get(name) {
        // What is imported from outside the crate counts as this module's own.
        Some(path) if turns < 20 => follow(modules, &at, path, turns + 1).unwrap_or(at),
        _ => at,
    }
}
