//! No crate has a circle of files that import each other.
//!
//! A file imports another where it names something of it by a path: in a `use`, or in the code. A `mod x;` is no import.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use syn::visit::{self, Visit};

/// A module by its path from the crate's root.
type Module = Vec<String>;
type Arrows = BTreeMap<Module, BTreeSet<Module>>;

/// The paths that one file names, each resolved from the module in which it stands.
struct Imports<'a> {
    file: &'a Module,
    modules: &'a BTreeMap<Module, PathBuf>,
    /// The module at hand: the file's, or one written inside it.
    at: Module,
    found: BTreeSet<Module>,
}

impl Imports<'_> {
    fn name(&mut self, path: &[String]) {
        let (mut base, rest) = match path.first().map(String::as_str) {
            Some("crate") => (Module::new(), &path[1..]),
            Some("self") => (self.at.clone(), &path[1..]),
            Some("super") => {
                let ups = path.iter().take_while(|segment| *segment == "super").count();
                (self.at[..self.at.len().saturating_sub(ups)].to_vec(), &path[ups..])
            }
            Some(child) if self.modules.contains_key(&joined(&self.at, child)) => (self.at.clone(), path),
            _ => return,
        };
        for segment in rest {
            let deeper = joined(&base, segment);
            if !self.modules.contains_key(&deeper) {
                break;
            }
            base = deeper;
        }
        // A module that is written inside a file belongs to that file.
        while !self.modules.contains_key(&base) {
            base.pop();
        }
        if base != *self.file {
            self.found.insert(base);
        }
    }

    fn name_tree(&mut self, tree: &syn::UseTree, before: &[String]) {
        match tree {
            syn::UseTree::Path(path) => self.name_tree(&path.tree, &joined(before, &path.ident.to_string())),
            syn::UseTree::Name(name) => self.name(&joined(before, &name.ident.to_string())),
            syn::UseTree::Rename(rename) => self.name(&joined(before, &rename.ident.to_string())),
            syn::UseTree::Glob(_) => self.name(before),
            syn::UseTree::Group(group) => group.items.iter().for_each(|tree| self.name_tree(tree, before)),
        }
    }
}

impl<'ast> Visit<'ast> for Imports<'_> {
    fn visit_item_use(&mut self, item: &'ast syn::ItemUse) {
        self.name_tree(&item.tree, &[]);
    }

    fn visit_path(&mut self, path: &'ast syn::Path) {
        let segments: Module = path.segments.iter().map(|segment| segment.ident.to_string()).collect();
        if segments.len() > 1 {
            self.name(&segments);
        }
        visit::visit_path(self, path);
    }

    fn visit_macro(&mut self, call: &'ast syn::Macro) {
        let tokens = call.tokens.to_string();
        let mut words = tokens.split(|c: char| !(c.is_alphanumeric() || c == '_' || c == ':')).peekable();
        while let Some(word) = words.next() {
            if !matches!(word, "crate" | "self" | "super") {
                continue;
            }
            let mut path = vec![word.to_owned()];
            while words.next_if_eq(&"::").is_some() {
                path.extend(words.next().map(str::to_owned));
            }
            if path.len() > 1 {
                self.name(&path);
            }
        }
        visit::visit_macro(self, call);
    }

    fn visit_item_mod(&mut self, item: &'ast syn::ItemMod) {
        let is_test = |attribute: &syn::Attribute| {
            attribute.path().is_ident("cfg")
                && attribute.parse_args::<syn::Ident>().is_ok_and(|condition| condition == "test")
        };
        if item.content.is_none() || item.attrs.iter().any(is_test) {
            return;
        }
        self.at.push(item.ident.to_string());
        visit::visit_item_mod(self, item);
        self.at.pop();
    }

    fn visit_visibility(&mut self, _: &'ast syn::Visibility) {}
}

fn joined(before: &[String], last: &str) -> Module {
    before.iter().cloned().chain([last.to_owned()]).collect()
}

/// Every module of a crate that has a file of its own, and is no test.
fn modules(source: &Path) -> BTreeMap<Module, PathBuf> {
    let mut found = BTreeMap::new();
    let mut folders = vec![source.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(&folder).expect("a folder of sources").flatten() {
            let path = entry.path();
            if path.is_dir() {
                folders.push(path);
                continue;
            }
            let relative = path.strip_prefix(source).expect("below the sources").with_extension("");
            let mut module: Module =
                relative.iter().map(|part| part.to_string_lossy().into_owned()).collect();
            if matches!(module.last().map(String::as_str), Some("mod" | "lib")) {
                module.pop();
            }
            if module == ["main"] && source.join("lib.rs").exists() {
                continue;
            }
            if module == ["main"] {
                module.pop();
            }
            let is_test = module.last().is_some_and(|name| name.ends_with("tests"));
            if path.extension().is_some_and(|e| e == "rs") && !is_test {
                found.insert(module, path);
            }
        }
    }
    found
}

fn arrows(source: &Path) -> Arrows {
    let modules = modules(source);
    let read = |(module, path): (&Module, &PathBuf)| {
        let text = std::fs::read_to_string(path).expect("a source file");
        let file = syn::parse_file(&text).expect("a source file that compiles");
        let mut imports =
            Imports { file: module, modules: &modules, at: module.clone(), found: BTreeSet::new() };
        imports.visit_file(&file);
        (module.clone(), imports.found)
    };
    modules.iter().map(read).collect()
}

fn reachable(arrows: &Arrows, from: &Module) -> BTreeSet<Module> {
    let (mut seen, mut open) = (BTreeSet::new(), vec![from.clone()]);
    while let Some(module) = open.pop() {
        for next in arrows.get(&module).into_iter().flatten() {
            if seen.insert(next.clone()) {
                open.push(next.clone());
            }
        }
    }
    seen
}

/// Each circle by the modules in it.
fn circles(arrows: &Arrows) -> BTreeSet<BTreeSet<String>> {
    let reach: BTreeMap<&Module, BTreeSet<Module>> =
        arrows.keys().map(|module| (module, reachable(arrows, module))).collect();
    let circle = |module: &&Module| {
        let members = reach[*module].iter().filter(|other| reach[*other].contains(*module));
        members.map(|other| other.join("::")).collect::<BTreeSet<_>>()
    };
    arrows.keys().filter(|module| reach[*module].contains(*module)).map(|module| circle(&module)).collect()
}

#[test]
fn no_crate_has_an_import_circle() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let workspace = std::fs::read_to_string(root.join("Cargo.toml")).expect("the workspace's manifest");
    let members = workspace.split("members = [").nth(1).and_then(|t| t.split(']').next()).expect("members");
    let crates: Vec<&str> = members.split('"').skip(1).step_by(2).collect();
    assert!(crates.len() > 9, "{crates:?}");
    let found: Vec<_> = crates
        .into_iter()
        .flat_map(|folder| {
            let circles = circles(&arrows(&root.join(folder).join("src")));
            circles.into_iter().map(move |circle| format!("{folder}: {circle:?}"))
        })
        .collect();
    assert!(found.is_empty(), "files that import each other in a circle:\n{}", found.join("\n"));
}

#[test]
fn a_circle_is_found_in_uses_paths_and_macros() {
    let folder = std::env::temp_dir().join(format!("toolfleet-circles-{}", std::process::id()));
    std::fs::create_dir_all(folder.join("deep")).expect("a folder");
    let file = |name: &str, text: &str| std::fs::write(folder.join(name), text).expect("a file");
    file("lib.rs", "mod a; mod b; mod c; mod deep; mod alone;");
    file("a.rs", "use crate::{b::{B}, alone::Alone}; #[cfg(test)] mod tests { use crate::c::C; }");
    file("b.rs", "pub struct B; fn f() { super::a::g() }");
    file("c.rs", "mod inner { fn f() { println!(\"{}\", super::super::deep::leaf::X) } }");
    file("deep/mod.rs", "mod leaf; use leaf::X;");
    file("deep/leaf.rs", "pub const X: i32 = crate::c::Y;");
    file("alone.rs", "pub(in crate::a) struct Alone;");
    let found = circles(&arrows(&folder));
    std::fs::remove_dir_all(&folder).expect("the folder goes");
    let circle = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<BTreeSet<_>>();
    assert_eq!(found, BTreeSet::from([circle(&["a", "b"]), circle(&["c", "deep::leaf"])]));
}
