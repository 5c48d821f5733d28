//! A program as a spec again: one file, nothing inherited from elsewhere, every line with the field's
//! words for it and the place that it comes from.
//!
//! Compiling the text gives an equal program, spans apart. This is what a universal checkpoint
//! carries.

mod expr;
mod layout;
mod model;
mod test;
mod view;

use crate::{Cond, Factor, Program, Span, View};
use std::fmt::{self, Write};

impl fmt::Display for Cond {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&expr::cond(self))
    }
}

/// A shape as it is written, `(k (q|1|1) d) h`.
pub fn shape_text(shape: &[Factor]) -> String {
    expr::factors(shape)
}

impl fmt::Display for Program {
    /// The whole program; views that do not exist for the model are named at most, and layouts that
    /// serve no other are left out.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "ucl 1")?;
        self.origin(f)?;
        model::write(&self.model, f)?;
        let views: Vec<_> = self.views.values().filter(|view| view.lacking.is_empty()).collect();
        for view in self.views.values().filter(|view| !view.lacking.is_empty()) {
            let lacking = view.lacking.join(", ");
            writeln!(f, "\n# No view `{}` here: it has no equation for {lacking}.", view.name)?;
            if views.iter().any(|other| is_extended(self, view, other)) {
                view::write_name(self, view, f)?;
            }
        }
        for view in &views {
            view::write(self, view, view::base(self, view), view::family(self, view), f)?;
        }
        for layout in self.layouts.values() {
            let serves: Vec<&str> = views
                .iter()
                .filter(|view| view::is_named(self, view, layout))
                .map(|view| view.name.as_str())
                .collect();
            if !serves.is_empty() {
                layout::write(layout, &serves, f)?;
            }
        }
        self.tests.iter().try_for_each(|test| test::write(test, f))
    }
}

/// Whether the text of a view extends another by name, or one of those that this one extends.
fn is_extended(program: &Program, name: &View, view: &View) -> bool {
    let family = view::family(program, view).filter(|_| view::base(program, view).is_none());
    family.is_some_and(|family| family == name || family.ancestors.contains(&name.name))
}

impl Program {
    /// The model, one view, and the layouts that serve it, as a spec; `None` if there is no such view.
    pub fn view_text(&self, view: &str) -> Option<String> {
        let view = self.views.get(view)?;
        let mut text = String::from("ucl 1\n");
        let layouts = view.layouts.iter().filter_map(|name| self.layouts.get(name));
        self.origin(&mut text)
            .and_then(|()| model::write(&self.model, &mut text))
            .and_then(|()| view::write(self, view, None, None, &mut text))
            .and_then(|()| {
                layouts.into_iter().try_for_each(|l| layout::write(l, &[&view.name], &mut text))
            })
            .ok()?;
        Some(text)
    }

    fn origin(&self, f: &mut impl Write) -> fmt::Result {
        if self.sources.is_empty() {
            return writeln!(f);
        }
        let files: Vec<&str> = self.sources.iter().map(|source| source.name.as_str()).collect();
        writeln!(
            f,
            "# {}, with everything that it inherits: {}.\n",
            self.model.name,
            files.join(", ")
        )
    }

    /// Where a line stands, `decoder.ucl:42`; `None` without the text.
    pub fn place(&self, span: Span) -> Option<String> {
        let source = self.sources.get(usize::try_from(span.source).ok()?)?;
        let before = source.text.get(..usize::try_from(span.start).ok()?)?;
        Some(format!("{}:{}", source.name, before.matches('\n').count() + 1))
    }
}
