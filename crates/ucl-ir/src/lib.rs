//! Floor 1: the compiled form of a spec.
//!
//! A [`Program`] is plain data: a model, its views and its layouts with inheritance resolved. It is
//! the whole contract between the language and what works with it. Numbers appear only after
//! binding, in `ucl-plan`.

#![forbid(unsafe_code)]

mod atoms;
mod diagnostic;
mod expr;
mod layout;
mod model;
mod name;
mod pattern;
mod print;
mod program;
mod shape;
mod span;
mod view;

pub use atoms::{Atoms, TwoSums};
pub use diagnostic::{Diagnostic, Label};
pub use expr::{BinaryOp, Compare, Cond, Expr};
pub use layout::{Axis, Keep, Layout, Merge, MergeOp, Mesh, Pad, PadFill, Rest, Shard, Uneven};
pub use model::{Binding, Dim, DimDef, Document, Model, Param, Set, SetDef};
pub use name::{Capture, Segment, Template};
pub use pattern::{Pattern, patterns};
pub use print::shape_text;
pub use program::{Expect, Pin, Program, Test};
pub use shape::{Factor, Shape, Sum};
pub use span::{Source, Span};
pub use view::{Class, FLOATS, Ignore, Rule, Spelling, ValueOp, ValueRule, View};
