//! Every source file, and every path that one names.

use std::path::Path;

use proc_macro2::{Spacing, TokenStream, TokenTree};
use syn::spanned::Spanned;
use syn::visit::{self, Visit};

use crate::check::Source;

/// All Rust files below a folder of the crate.
pub(crate) fn sources(folder: &str) -> Vec<Source> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut list = Vec::new();
    let mut open = vec![root.join(folder)];
    while let Some(next) = open.pop() {
        for entry in std::fs::read_dir(next).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                open.push(path);
            } else if path.extension().is_some_and(|name| name == "rs") {
                let name = path.strip_prefix(root).unwrap().to_str().unwrap().replace('\\', "/");
                list.push(Source { path: name, text: std::fs::read_to_string(&path).unwrap() });
            }
        }
    }
    list.sort_by(|a, b| a.path.cmp(&b.path));
    list
}

/// A path as written, and where.
pub(crate) struct Named {
    pub(crate) segments: Vec<String>,
    /// Modules inside the file that surround it.
    pub(crate) inside: Vec<String>,
    pub(crate) line: usize,
}

/// Every path in a file but for what only tests see.
pub(crate) fn named(text: &str) -> Result<Vec<Named>, syn::Error> {
    let file = syn::parse_file(text)?;
    let mut walk = Walk { found: Vec::new(), inside: Vec::new() };
    if !is_test(&file.attrs) {
        walk.visit_file(&file);
    }
    Ok(walk.found)
}

struct Walk {
    found: Vec<Named>,
    inside: Vec<String>,
}

impl Walk {
    fn push(&mut self, segments: Vec<String>, line: usize) {
        self.found.push(Named { segments, inside: self.inside.clone(), line });
    }

    fn tree(&mut self, tree: &syn::UseTree, before: &[String]) {
        let with = |ident: &syn::Ident| [before, &[ident.to_string()]].concat();
        match tree {
            syn::UseTree::Path(path) => self.tree(&path.tree, &with(&path.ident)),
            syn::UseTree::Name(name) => self.push(with(&name.ident), name.ident.span().start().line),
            syn::UseTree::Rename(name) => self.push(with(&name.ident), name.ident.span().start().line),
            syn::UseTree::Glob(star) => self.push(before.to_vec(), star.span().start().line),
            syn::UseTree::Group(group) => group.items.iter().for_each(|item| self.tree(item, before)),
        }
    }

    /// Paths in a macro's tokens, which syn does not take apart: `a :: b :: c`.
    fn tokens(&mut self, stream: TokenStream) {
        let mut path: Vec<String> = Vec::new();
        let mut line = 0;
        let mut colons = 0;
        for token in stream {
            match token {
                TokenTree::Ident(ident) => {
                    if colons != 2 {
                        self.flush(&mut path, line);
                        line = ident.span().start().line;
                    }
                    path.push(ident.to_string());
                    colons = 0;
                }
                TokenTree::Punct(punct)
                    if punct.as_char() == ':' && (colons == 1 || punct.spacing() == Spacing::Joint) =>
                {
                    colons += 1;
                }
                other => {
                    self.flush(&mut path, line);
                    colons = 0;
                    if let TokenTree::Group(group) = other {
                        self.tokens(group.stream());
                    }
                }
            }
        }
        self.flush(&mut path, line);
    }

    fn flush(&mut self, path: &mut Vec<String>, line: usize) {
        if path.len() > 1 {
            self.push(std::mem::take(path), line);
        }
        path.clear();
    }
}

impl<'ast> Visit<'ast> for Walk {
    fn visit_item(&mut self, item: &'ast syn::Item) {
        if !is_test(attributes(item)) {
            visit::visit_item(self, item);
        }
    }

    fn visit_item_mod(&mut self, module: &'ast syn::ItemMod) {
        self.inside.push(module.ident.to_string());
        visit::visit_item_mod(self, module);
        self.inside.pop();
    }

    fn visit_item_use(&mut self, item: &'ast syn::ItemUse) {
        self.tree(&item.tree, &[]);
    }

    fn visit_path(&mut self, path: &'ast syn::Path) {
        let segments = path.segments.iter().map(|segment| segment.ident.to_string()).collect();
        self.push(segments, path.span().start().line);
        visit::visit_path(self, path);
    }

    fn visit_macro(&mut self, invoked: &'ast syn::Macro) {
        self.visit_path(&invoked.path);
        self.tokens(invoked.tokens.clone());
    }
}

/// `#[cfg(test)]`, or `#[cfg(any(test, …))]` for what fuzzers have as well.
pub(crate) fn is_test(attributes: &[syn::Attribute]) -> bool {
    let first_is_test = |list: &syn::MetaList| {
        list.path.is_ident("any")
            && list.tokens.clone().into_iter().next().is_some_and(|token| token.to_string() == "test")
    };
    attributes.iter().any(|attribute| {
        attribute.path().is_ident("cfg")
            && attribute.parse_args::<syn::Meta>().is_ok_and(|condition| match &condition {
                syn::Meta::Path(path) => path.is_ident("test"),
                syn::Meta::List(list) => first_is_test(list),
                syn::Meta::NameValue(_) => false,
            })
    })
}

fn attributes(item: &syn::Item) -> &[syn::Attribute] {
    use syn::Item::{Const, Enum, Fn, Impl, Macro, Mod, Static, Struct, Trait, Type, Use};
    match item {
        Const(item) => &item.attrs,
        Enum(item) => &item.attrs,
        Fn(item) => &item.attrs,
        Impl(item) => &item.attrs,
        Macro(item) => &item.attrs,
        Mod(item) => &item.attrs,
        Static(item) => &item.attrs,
        Struct(item) => &item.attrs,
        Trait(item) => &item.attrs,
        Type(item) => &item.attrs,
        Use(item) => &item.attrs,
        _ => &[],
    }
}
