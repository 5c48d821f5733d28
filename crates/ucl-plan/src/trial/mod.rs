//! A spec held against itself and against the numbers that it pins: what `ucl test` runs.
//!
//! | module | what |
//! | --- | --- |
//! | `code` | numbers that tell which element they are |
//! | `memory` | a checkpoint in memory, made by a view on a mesh |
//! | `run` | a plan run one element at a time |
//! | `round` | round trips, and ways that have to meet |
//! | `pin` | `expect` lines |
//! | `mutant`, `unpinned` | lines that could be wrong without any `expect` noticing |
//!
//! Writing and reading follow from the same line, so a line that is wrong both ways passes every round
//! trip: only an `expect` can tell.

mod code;
mod memory;
mod mutant;
mod pin;
mod round;
mod run;
mod unpinned;

pub use unpinned::unpinned;

use crate::bind::UNKNOWN_SIZE;
use memory::Way;
use std::collections::BTreeMap;
use std::sync::LazyLock;
use ucl_ir::{Diagnostic, Expect, Layout, Mesh, Pin, Program, Test, View};

/// One thing to try.
pub struct Trial<'p> {
    program: &'p Program,
    test: &'p Test,
    kind: Kind<'p>,
}

enum Kind<'p> {
    /// A view on a mesh, to everything else.
    Round { view: &'p View, layout: Option<&'p Layout>, mesh: &'p Mesh },
    /// The universal form to every view.
    Universal,
    /// An `expect`.
    Expect(&'p Expect),
}

/// What came of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It holds; a few words on what was tried.
    Passed(String),
    /// It does not.
    Failed(Vec<Diagnostic>),
    /// The mesh does not fit the view, or the view has no layout for it; says why.
    Skipped(String),
}

/// All that a program's `test` blocks ask for.
pub fn trials(program: &Program) -> Vec<Trial<'_>> {
    let mut trials = Vec::new();
    for test in &program.tests {
        let mut add = |kind| trials.push(Trial { program, test, kind });
        add(Kind::Universal);
        for view in round::usable(program) {
            for mesh in meshes(test) {
                let layouts = view.layouts.iter().filter_map(|name| program.layouts.get(name));
                let layouts: Vec<&Layout> = layouts.collect();
                if layouts.is_empty() {
                    add(Kind::Round { view, layout: None, mesh });
                }
                for layout in layouts {
                    add(Kind::Round { view, layout: Some(layout), mesh });
                }
            }
        }
        test.expects.iter().for_each(|expect| add(Kind::Expect(expect)));
    }
    trials
}

/// The meshes of a test; one rank where it names none.
fn meshes(test: &Test) -> impl Iterator<Item = &Mesh> {
    static ONE: LazyLock<Mesh> = LazyLock::new(Mesh::new);
    let one = test.meshes.is_empty().then_some(&*ONE);
    test.meshes.iter().chain(one)
}

impl Trial<'_> {
    /// Tries it.
    pub fn run(&self) -> Verdict {
        match self.kind {
            Kind::Expect(expect) => match pin::check(self.program, self.test, expect) {
                Ok(()) => Verdict::Passed(String::new()),
                Err(wrong) => Verdict::Failed(vec![wrong]),
            },
            Kind::Universal => {
                let mesh = Mesh::new();
                let view = round::usable(self.program).next();
                self.both(view.map(|view| (view, None)), &mesh, round::from_universal)
            }
            Kind::Round { view, layout, mesh } => match pin::lacking(layout, mesh) {
                Some(axis) => Verdict::Skipped(format!("no axis `{axis}`")),
                None => self.both(Some((view, layout)), mesh, round::round_trip),
            },
        }
    }

    /// Untied, and tied where the model has a parameter that may be.
    fn both(
        &self,
        way: Option<(&View, Option<&Layout>)>,
        mesh: &Mesh,
        attempt: fn(Way<'_>) -> Result<usize, Vec<Diagnostic>>,
    ) -> Verdict {
        let Some((view, layout)) = way else {
            return Verdict::Skipped("no view spells the whole model".to_owned());
        };
        let set: BTreeMap<String, u64> = self.test.sizes.clone().into_iter().collect();
        let may_tie = self.program.model.params.iter().any(|param| param.tied.is_some());
        let mut reached = 0;
        for tied in if may_tie { &[false, true][..] } else { &[false] } {
            let way = Way { program: self.program, view, layout, mesh, set: &set, tied: *tied };
            match attempt(way) {
                Ok(views) => reached = views,
                Err(wrong) if wrong.iter().all(|one| one.code == "ucl::fit") => {
                    let why: Vec<String> = wrong.into_iter().map(|one| one.message).collect();
                    return Verdict::Skipped(why.join("; "));
                }
                Err(mut wrong) => {
                    for one in &mut wrong {
                        let state = if *tied { "tied" } else { "untied" };
                        one.message = match one.code {
                            UNKNOWN_SIZE => format!("{} (the test gives no size)", one.message),
                            _ => format!("{self}, {state}: {}", one.message),
                        };
                    }
                    return Verdict::Failed(wrong);
                }
            }
        }
        let views = match reached {
            0 => String::new(),
            1 => "one view".to_owned(),
            views => format!("{views} views"),
        };
        Verdict::Passed(match (&self.kind, reached) {
            (Kind::Universal, _) => format!("to {views}"),
            (_, 0) => "to universal".to_owned(),
            _ => format!("to universal and {views}"),
        })
    }

    /// Whether it is an `expect`.
    pub fn is_expect(&self) -> bool {
        matches!(self.kind, Kind::Expect(_))
    }
}

impl std::fmt::Display for Trial<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match &self.kind {
            Kind::Universal => write!(f, "universal"),
            Kind::Round { view, layout, mesh } => {
                write!(f, "{} on {}", view.name, coordinates(mesh))?;
                match layout {
                    Some(layout) if view.layouts.len() > 1 => write!(f, " by {}", layout.name),
                    _ => Ok(()),
                }
            }
            Kind::Expect(expect) => {
                write!(f, "expect {} ", expect.view)?;
                expect.layout.iter().try_for_each(|layout| write!(f, "by {layout} "))?;
                write!(f, "on {} ", coordinates(&expect.mesh))?;
                write!(f, "at {} \"{}\" ", coordinates(&expect.rank), expect.name)?;
                match &expect.pin {
                    Pin::Element { index, .. } => write!(f, "{index:?}"),
                    Pin::Shape(shape) => {
                        let shape: Vec<String> = shape.iter().map(u64::to_string).collect();
                        write!(f, ": {}", shape.join(" "))
                    }
                }
            }
        }
    }
}

/// `tp=2 pp=2`
fn coordinates(mesh: &Mesh) -> String {
    if mesh.is_empty() {
        return "one rank".to_owned();
    }
    let parts: Vec<String> = mesh.iter().map(|(axis, size)| format!("{axis}={size}")).collect();
    parts.join(" ")
}
