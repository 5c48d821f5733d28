//! Which models one that `extends any` is made for.

use crate::ast::{EachItem, File, ModelItem, ViewItem};

/// Whether what the file drops, requires, adds and renames goes with a model: its own file and those it
/// extends. Views apart, which are looked for before.
pub(crate) fn goes_with(any: &File, model: &[&File]) -> bool {
    let known: Vec<&str> = model.iter().flat_map(|file| declared(file)).collect();
    let own = declared(any);
    let is_known = |path: &str| {
        path.split('.').next_back() == Some("bias")
            || known.iter().any(|known| {
                known
                    .strip_prefix(path)
                    .is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
            })
    };
    let mut needed = Vec::new();
    for item in any.model.iter().flat_map(|model| &model.items) {
        if let ModelItem::Drop(paths) | ModelItem::Require(paths) = item {
            needed.extend(paths.iter().map(|path| path.value.as_str()));
        }
    }
    let has_base = |name: &str| {
        let views =
            model.iter().flat_map(|file| &file.views).filter(|view| view.name.value == name);
        let mut items = views.flat_map(|view| view.items.iter().flatten());
        items.any(|item| matches!(item, ViewItem::Base(_)))
    };
    let bases_are_there = any.views.iter().all(|view| {
        let mut items = view.items.iter().flatten();
        let renames = items.any(|item| matches!(item, ViewItem::Rename(r) if r.from.is_none()));
        !renames || view.extends.as_ref().is_none_or(|name| has_base(&name.value))
    });
    needed.iter().all(|path| is_known(path))
        && !own.iter().any(|path| known.contains(path) && !needed.contains(path))
        && bases_are_there
}

/// The paths of the parameters that a file declares, biases apart.
fn declared(file: &File) -> Vec<&str> {
    let mut paths = Vec::new();
    let mut blocks = Vec::new();
    for item in file.model.iter().flat_map(|model| &model.items) {
        match item {
            ModelItem::Param(param) => paths.push(param.path.value.as_str()),
            ModelItem::Each(each) => blocks.push(each),
            _ => {}
        }
    }
    while let Some(block) = blocks.pop() {
        for item in &block.items {
            match item {
                EachItem::Param(param) => paths.push(param.path.value.as_str()),
                EachItem::Each(each) => blocks.push(each),
            }
        }
    }
    paths
}
