//! How a framework names and shapes the parameters.

use crate::{Binding, Cond, Expr, Shape, Span, Sum, Template};
use indexmap::IndexMap;
use serde::{Deserialize, Serialize};

/// A view with everything that it inherits, for one model.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct View {
    /// Its name, `hf`.
    pub name: String,
    /// The views that it extends, nearest first.
    pub ancestors: Vec<String>,
    /// It is a candidate only where this holds; its own, or else that of the nearest ancestor that has one.
    pub when: Option<Cond>,
    /// The equations.
    pub rules: Vec<Rule>,
    /// Tensors that are dropped.
    pub ignores: Vec<Ignore>,
    /// Prefixes that all names may come without.
    pub bases: Vec<String>,
    /// Composite dims as this view sees them: the model's, redefined or added to by the view.
    pub composites: IndexMap<String, Sum>,
    /// Steps on values.
    pub values: Vec<ValueRule>,
    /// How dims follow from documents, beside the model's own.
    pub bindings: Vec<Binding>,
    /// The classes that load what is written by it, by `model_type`. A view with any is for no other
    /// types.
    pub classes: IndexMap<String, Class>,
    /// The layouts that serve it, in order of declaration; none means one whole.
    pub layouts: Vec<String>,
    /// Required parameters that it does not spell. A view that lacks one cannot be used.
    pub lacking: Vec<String>,
    /// Where it is declared (the nearest declaration).
    pub span: Span,
}

/// An equation: the stored tensor of this name and shape is these parameters.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Rule {
    /// Its names; a writer takes the first that applies.
    pub spellings: Vec<Spelling>,
    /// The order in memory.
    pub shape: Shape,
    /// The shape that the header shows where it differs from the order in memory.
    pub declared: Option<Shape>,
    /// The parameters, one for each alternative of the shape's sum.
    pub terms: Vec<String>,
    /// Where it stands.
    pub span: Span,
}

/// One name of a rule.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Spelling {
    /// The name.
    pub template: Template,
    /// Whether it counts only in the tied state.
    pub when_tied: bool,
}

/// A class that loads what a view writes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Class {
    /// Its name.
    pub name: String,
    /// The type of weights that it takes, one of [`FLOATS`], where it takes one alone.
    pub dtype: Option<String>,
    /// Where it stands.
    pub span: Span,
}

/// The names of types that weights may be said to have.
pub const FLOATS: [&str; 3] = ["fp32", "bf16", "fp16"];

/// Names whose tensors are dropped.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Ignore {
    /// The name; may hold `*`.
    pub template: Template,
    /// Where it stands.
    pub span: Span,
}

/// stored = universal + x, or universal * x, for exactly one parameter.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ValueRule {
    /// Shift or scale.
    pub op: ValueOp,
    /// The parameter's exact path.
    pub param: String,
    /// x.
    pub by: Expr,
    /// Where it stands.
    pub span: Span,
}

/// A step on values.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ValueOp {
    /// Addition; moments stay.
    Shift,
    /// Multiplication; a first moment is divided, a second moment by the square.
    Scale,
}
