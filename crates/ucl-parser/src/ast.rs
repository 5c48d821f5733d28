//! A spec as it is written: nothing resolved, every part with its span.

use ucl_ir::{BinaryOp, Compare, Document, MergeOp, Mesh, PadFill, Span, ValueOp};

/// A value and where it stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Spanned<T> {
    /// The value.
    pub value: T,
    /// Its place.
    pub span: Span,
}

/// A name or a path.
pub type Name = Spanned<String>;

/// A whole file.
#[derive(Clone, Debug, PartialEq)]
pub struct File {
    /// The number after `ucl`.
    pub version: Spanned<u64>,
    /// Its model; missing only if it could not be read.
    pub model: Option<Model>,
    /// Its views.
    pub views: Vec<View>,
    /// Its layouts.
    pub layouts: Vec<Layout>,
    /// Its tests.
    pub tests: Vec<Test>,
}

/// `model NAME extends NAME { … }`
#[derive(Clone, Debug, PartialEq)]
pub struct Model {
    /// Its name.
    pub name: Name,
    /// What it extends; `any` as written.
    pub extends: Option<Name>,
    /// Its statements, in order.
    pub items: Vec<ModelItem>,
    /// All of it.
    pub span: Span,
}

/// A statement of a model.
#[derive(Clone, Debug, PartialEq)]
pub enum ModelItem {
    /// `type "llama", "mistral"`
    Types(Types),
    /// `set dense of l : l < kd`
    Set(SetDecl),
    /// `dims a, b = c d`
    Dims(Vec<DimDecl>),
    /// A parameter.
    Param(Param),
    /// `each l { … }`
    Each(Each),
    /// `drop P, Q`
    Drop(Vec<Name>),
    /// `require P, Q`
    Require(Vec<Name>),
    /// `from config { … }`
    From(From),
}

/// `type "llama", "mistral"`
#[derive(Clone, Debug, PartialEq)]
pub struct Types {
    /// The values of `model_type`.
    pub names: Vec<Name>,
    /// All of it.
    pub span: Span,
}

/// `set NAME of DIM : …`
#[derive(Clone, Debug, PartialEq)]
pub struct SetDecl {
    /// Its name.
    pub name: Name,
    /// The dim whose indices are in it or not.
    pub dim: Name,
    /// Which are in it; `None` where nothing is said.
    pub def: Option<SetRule>,
    /// All of it.
    pub span: Span,
}

/// Which indices are in a set.
#[derive(Clone, Debug, PartialEq)]
pub enum SetRule {
    /// Those for which a condition holds.
    When(Cond),
    /// `not NAME`: those that are not in another one.
    Not(Name),
}

/// `name = …` in `dims`.
#[derive(Clone, Debug, PartialEq)]
pub struct DimDecl {
    /// The dim.
    pub name: Name,
    /// What it is.
    pub def: Option<DimValue>,
}

/// The right side of a dim.
#[derive(Clone, Debug, PartialEq)]
pub enum DimValue {
    /// A fixed size.
    Size(Spanned<u64>),
    /// A product or a sum.
    Sum(Sum),
}

/// `path? : dims tied path bias? dims`
#[derive(Clone, Debug, PartialEq)]
pub struct Param {
    /// Its path.
    pub path: Name,
    /// Whether a `?` follows.
    pub optional: bool,
    /// Its dims.
    pub dims: Vec<Name>,
    /// The parameter that it may be tied to.
    pub tied: Option<Name>,
    /// Its bias.
    pub bias: Option<Bias>,
    /// All of it.
    pub span: Span,
}

/// `bias? dims`
#[derive(Clone, Debug, PartialEq)]
pub struct Bias {
    /// Whether a `?` follows.
    pub optional: bool,
    /// Its dims.
    pub dims: Vec<Name>,
    /// All of it.
    pub span: Span,
}

/// `each l in dense { … }`
#[derive(Clone, Debug, PartialEq)]
pub struct Each {
    /// The dim.
    pub dim: Name,
    /// The set, where not all indices have what is inside.
    pub set: Option<Name>,
    /// Parameters and further `each`.
    pub items: Vec<EachItem>,
    /// All of it.
    pub span: Span,
}

/// A statement inside `each`.
#[derive(Clone, Debug, PartialEq)]
pub enum EachItem {
    /// A parameter.
    Param(Param),
    /// A nested `each`.
    Each(Each),
}

/// `from config { k = expr … }`
#[derive(Clone, Debug, PartialEq)]
pub struct From {
    /// The document.
    pub document: Spanned<Document>,
    /// The lines.
    pub lines: Vec<(Name, Expr)>,
    /// All of it.
    pub span: Span,
}

/// A number that follows from others.
#[derive(Clone, Debug, PartialEq)]
pub struct Expr {
    /// What it is.
    pub kind: ExprKind,
    /// Its place.
    pub span: Span,
}

/// The kinds of [`Expr`].
#[derive(Clone, Debug, PartialEq)]
pub enum ExprKind {
    /// A number; `true` and `false` are 1 and 0.
    Int(i64),
    /// A key, a dim, an axis.
    Key(String),
    /// `a ?? b`
    Or(Box<Expr>, Box<Expr>),
    /// `a if c else b`, in this order.
    If(Box<Expr>, Box<Expr>, Box<Expr>),
    /// `a op b`
    Binary(BinaryOp, Box<Expr>, Box<Expr>),
    /// `not a`
    Not(Box<Expr>),
    /// `-a`
    Neg(Box<Expr>),
}

/// A condition.
#[derive(Clone, Debug, PartialEq)]
pub enum Cond {
    /// `a = b` and the like.
    Compare(Compare, Expr, Expr),
    /// `a and b`
    And(Box<Cond>, Box<Cond>),
    /// `a or b`
    Or(Box<Cond>, Box<Cond>),
}

/// `view NAME extends NAME when … { … }`
#[derive(Clone, Debug, PartialEq)]
pub struct View {
    /// Its name.
    pub name: Name,
    /// What it extends.
    pub extends: Option<Name>,
    /// When it is a candidate.
    pub when: Option<Cond>,
    /// Its statements; `None` where it is written without braces.
    pub items: Option<Vec<ViewItem>>,
    /// All of it.
    pub span: Span,
}

/// A statement of a view.
#[derive(Clone, Debug, PartialEq)]
pub enum ViewItem {
    /// An equation.
    Equation(Equation),
    /// `under "a." or "b." : l { … }`
    Under(Under),
    /// `rename "a" to "b" : l`
    Rename(Rename),
    /// `ignore "a"`
    Ignore(Template),
    /// `base "a"`
    Base(Spanned<String>),
    /// `dims qkv = …`
    Dims(Vec<DimDecl>),
    /// `shift P by x`, `scale P by x`
    Value(Value),
    /// `from config { … }`
    From(From),
    /// `class "Llama2Policy" for "llama"`
    Class(Class),
}

/// `class "Llama2Policy" for "llama" in fp16`
#[derive(Clone, Debug, PartialEq)]
pub struct Class {
    /// The class.
    pub name: Name,
    /// The values of `model_type` that it is for.
    pub types: Vec<Name>,
    /// The type of weights that it takes, where it takes one alone.
    pub dtype: Option<Name>,
}

/// `"name" or "name" when tied : shape declared shape = a | b`
#[derive(Clone, Debug, PartialEq)]
pub struct Equation {
    /// Its names.
    pub spellings: Vec<Spelling>,
    /// The order in memory.
    pub shape: Shape,
    /// What the header shows.
    pub declared: Option<Shape>,
    /// The parameters.
    pub terms: Vec<Name>,
    /// All of it.
    pub span: Span,
}

/// A name of an equation.
#[derive(Clone, Debug, PartialEq)]
pub struct Spelling {
    /// The name.
    pub template: Template,
    /// Whether `when tied` follows.
    pub when_tied: bool,
}

/// A quoted name with holes.
#[derive(Clone, Debug, PartialEq)]
pub struct Template {
    /// Its parts.
    pub parts: Vec<Spanned<Part>>,
    /// All of it, quotes included.
    pub span: Span,
}

/// A part of a [`Template`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Part {
    /// Text.
    Text(String),
    /// `{l + 2}`
    Index(String, u64),
    /// `{#l + 2}`
    Count(String, u64),
    /// `{weight,bias}`
    WeightBias,
    /// `*`
    Any,
}

/// `under …`
#[derive(Clone, Debug, PartialEq)]
pub struct Under {
    /// Its prefixes.
    pub prefixes: Vec<Template>,
    /// What stands in front of the shapes inside.
    pub shape: Shape,
    /// What is inside.
    pub items: Vec<ViewItem>,
    /// All of it.
    pub span: Span,
}

/// `rename …`
#[derive(Clone, Debug, PartialEq)]
pub struct Rename {
    /// What is replaced; `None` is `rename base`.
    pub from: Option<Template>,
    /// By what.
    pub to: Template,
    /// Indices that move into the shape.
    pub moved: Vec<Name>,
    /// All of it.
    pub span: Span,
}

/// `shift P, Q by x`
#[derive(Clone, Debug, PartialEq)]
pub struct Value {
    /// Shift or scale.
    pub op: ValueOp,
    /// The parameters, exactly these.
    pub params: Vec<Name>,
    /// x.
    pub by: Expr,
    /// All of it.
    pub span: Span,
}

/// Stored dims, outermost first.
#[derive(Clone, Debug, PartialEq, Default)]
pub struct Shape {
    /// The dims.
    pub factors: Vec<Factor>,
    /// All of it; empty at the place where it would stand for a scalar.
    pub span: Span,
}

/// A stored dim, or a factor inside one.
#[derive(Clone, Debug, PartialEq)]
pub struct Factor {
    /// What it is.
    pub kind: FactorKind,
    /// Its place.
    pub span: Span,
}

/// The kinds of [`Factor`].
#[derive(Clone, Debug, PartialEq)]
pub enum FactorKind {
    /// `1`
    One,
    /// A dim.
    Name(String),
    /// `( … | … )`
    Group(Sum),
}

/// `a b | c`
#[derive(Clone, Debug, PartialEq)]
pub struct Sum {
    /// Its alternatives.
    pub alternatives: Vec<Vec<Factor>>,
    /// All of it.
    pub span: Span,
}

/// `layout NAME for NAME, NAME extends NAME { … }`
#[derive(Clone, Debug, PartialEq)]
pub struct Layout {
    /// Its name.
    pub name: Name,
    /// The views that it serves.
    pub views: Vec<Name>,
    /// What it extends.
    pub extends: Option<Name>,
    /// Its statements.
    pub rules: Vec<LayoutRule>,
    /// All of it.
    pub span: Span,
}

/// A statement of a layout.
#[derive(Clone, Debug, PartialEq)]
pub enum LayoutRule {
    /// `mesh tp, etp = tp`
    Mesh(Vec<(Name, Option<Name>)>),
    /// `shard a, b of P over tp uneven`, `stage l over pp global`: one for the whole line.
    Shard(Shard),
    /// `pad v to m * tp with zero`
    Pad {
        /// The dim.
        dim: Name,
        /// Padded to the least multiple of this.
        to: Expr,
        /// What a writer puts there.
        with: PadFill,
        /// All of it.
        span: Span,
    },
    /// `copy tied when …`
    CopyTied(Cond),
    /// `average P over tp`, `sum P over tp`
    Merge {
        /// How.
        op: MergeOp,
        /// The parameters.
        params: Vec<Name>,
        /// The axis.
        over: Name,
        /// All of it.
        span: Span,
    },
    /// `keep P at tp=0`
    Keep {
        /// The parameters.
        params: Vec<Name>,
        /// The axis.
        over: Name,
        /// The coordinate.
        at: u64,
        /// All of it.
        span: Span,
    },
    /// `require …`
    Require(Cond, Span),
}

/// `shard …` or `stage …`
#[derive(Clone, Debug, PartialEq)]
pub struct Shard {
    /// The dims.
    pub dims: Vec<Name>,
    /// Only in these.
    pub of: Vec<Name>,
    /// The axes.
    pub over: Vec<Name>,
    /// What happens where sizes do not divide.
    pub rest: Rest,
    /// Whether `global` follows.
    pub global: bool,
    /// Whether it is `stage`.
    pub stage: bool,
    /// All of it.
    pub span: Span,
}

/// What happens where sizes do not divide.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Rest {
    /// `uneven`, `uneven by 32`, `uneven in k`
    pub uneven: Option<Uneven>,
    /// `repeat`
    pub repeat: bool,
}

/// What the first ranks get one more of.
#[derive(Clone, Debug, PartialEq)]
pub enum Uneven {
    /// Indices, or runs of so many.
    Runs(Option<Spanned<u64>>),
    /// Indices within each one of a dim.
    Within(Name),
}

/// `test { … }`
#[derive(Clone, Debug, PartialEq)]
pub struct Test {
    /// Its statements.
    pub items: Vec<TestItem>,
    /// All of it.
    pub span: Span,
}

/// A statement of a test.
#[derive(Clone, Debug, PartialEq)]
pub enum TestItem {
    /// `l = 2`
    Size(Name, Spanned<u64>),
    /// `on tp=1, tp=2 pp=2`
    On(Vec<Spanned<Mesh>>),
    /// `expect …`
    Expect(Box<Expect>),
}

/// `expect hf on tp=1 at tp=0 "name" …` and what it pins.
#[derive(Clone, Debug, PartialEq)]
pub struct Expect {
    /// The view.
    pub view: Name,
    /// The layout, behind `by`.
    pub layout: Option<Name>,
    /// The mesh.
    pub mesh: Spanned<Mesh>,
    /// The rank.
    pub rank: Spanned<Mesh>,
    /// The stored name.
    pub name: Spanned<String>,
    /// What is pinned.
    pub pin: Pin,
    /// All of it.
    pub span: Span,
}

/// What an [`Expect`] pins.
#[derive(Clone, Debug, PartialEq)]
pub enum Pin {
    /// `[3, 16] = attn.k [l=0 k=0 d=0 h=3]`
    Element {
        /// The element in the stored shape.
        index: Vec<u64>,
        /// The parameter.
        param: Name,
        /// The element in the parameter.
        at: Spanned<Mesh>,
    },
    /// `: 12 8`
    Shape(Spanned<Vec<u64>>),
}
