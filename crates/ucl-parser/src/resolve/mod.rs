//! From files to a program: what is inherited, what replaces it, and what every name means.

mod dims;
mod expr_names;
mod items;
mod layout;
mod line;
mod lower;
mod model;
mod rename;
mod report;
mod sets;
pub(crate) mod spans;
mod suggest;
mod test;
mod tree;
mod view;

pub(crate) use report::{Replaced, Report};

use crate::ast;
use ucl_ir::Program;

/// A model's file and those of its ancestors.
pub(crate) struct Chain<'a> {
    /// What the model is called.
    pub(crate) name: String,
    /// The models that it extends, nearest first.
    pub(crate) ancestors: Vec<String>,
    /// The files, its own first.
    pub(crate) files: Vec<&'a ast::File>,
}

impl<'a> Chain<'a> {
    /// The files, the model's own first, and whether it is that.
    fn own_first(&self) -> impl Iterator<Item = (&'a ast::File, bool)> {
        self.files.iter().enumerate().map(|(number, file)| (*file, number == 0))
    }

    /// Whether the model is made for any other, and added to the next in the chain.
    fn is_for_any(&self) -> bool {
        let own = self.files.first().and_then(|file| file.model.as_ref());
        own.and_then(|model| model.extends.as_ref()).is_some_and(|name| name.value == "any")
    }

    /// The files, the root's first, and whether it is the model's own.
    fn root_first(&self) -> impl Iterator<Item = (&'a ast::File, bool)> {
        self.files.iter().enumerate().rev().map(|(number, file)| (*file, number == 0))
    }
}

/// The program of a model, as far as its mistakes allow; spans are still those of the files.
pub(crate) fn resolve(chain: &Chain<'_>, report: &mut Report) -> Program {
    let model = model::resolve(chain, report);
    let mut views = view::resolve(chain, &model, report);
    let layouts = layout::resolve(chain, &model, &mut views, report);
    let names = test::Names {
        model: &model,
        views: &views,
        layouts: &layouts,
        for_any: chain.is_for_any(),
    };
    let tests = test::resolve(chain, &names, report);
    Program { model, views, layouts, tests, sources: Vec::new() }
}

/// `a`, `b` and `c`, for a reader.
pub(crate) fn list(names: &[String]) -> String {
    let quoted: Vec<String> = names.iter().map(|name| format!("`{name}`")).collect();
    match quoted.split_last() {
        None => "nothing".to_owned(),
        Some((only, [])) => only.clone(),
        Some((last, others)) => format!("{} and {last}", others.join(", ")),
    }
}
