//! What is in a checkpoint: the universal parameters over named dims.

use crate::{Cond, Expr, Span, Sum};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// A model with everything that it inherits.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Model {
    /// Its name, `llama`.
    pub name: String,
    /// The values of `model_type` in a Hugging Face `config.json` that mean this model.
    pub types: Vec<String>,
    /// The models that it extends, nearest first.
    pub ancestors: Vec<String>,
    /// Its dims, in the order of declaration.
    pub dims: Vec<Dim>,
    /// Its sets of indices, in the order of declaration.
    pub sets: Vec<Set>,
    /// Its parameters in forward order, biases as parameters of their own (`attn.q.bias`).
    pub params: Vec<Param>,
    /// How dims and flags follow from documents.
    pub bindings: Vec<Binding>,
    /// Where it is declared.
    pub span: Span,
}

impl Model {
    /// For each parameter, by path, the number of its run of parameters under the same `each`.
    pub fn blocks(&self) -> BTreeMap<String, usize> {
        let mut block = 0;
        let mut blocks = BTreeMap::new();
        for (number, param) in self.params.iter().enumerate() {
            if number > 0 && param.each != self.params[number - 1].each {
                block += 1;
            }
            blocks.insert(param.path.clone(), block);
        }
        blocks
    }
}

/// A named dim.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Dim {
    /// Its name.
    pub name: String,
    /// What it is.
    pub def: DimDef,
    /// Where it is declared.
    pub span: Span,
}

/// What a dim is.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum DimDef {
    /// An atom, of unknown or fixed size.
    Atom(Option<u64>),
    /// A name for a product or a sum of other dims.
    Composite(Sum),
}

/// Indices of a dim that have parameters which the others lack: layers that differ.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Set {
    /// Its name.
    pub name: String,
    /// The dim, an atom.
    pub dim: String,
    /// Which of its indices are in the set.
    pub def: SetDef,
    /// Where it is declared.
    pub span: Span,
}

/// Which indices are in a set.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum SetDef {
    /// Those that a checkpoint has parameters of the set for: nothing else tells.
    Named,
    /// Those for which the condition holds; the dim's name stands for the index.
    When(Cond),
    /// Those that are not in the set of this name.
    Not(String),
}

/// A universal parameter.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Param {
    /// Its path, `attn.q` or `attn.q.bias`.
    pub path: String,
    /// The dims of the `each` blocks around it, outermost first; they are part of its name.
    pub each: Vec<String>,
    /// The set of indices that have it; `None` where all have.
    pub set: Option<String>,
    /// Its own dims, outermost first: atoms or composites that are products.
    pub dims: Vec<String>,
    /// Whether a checkpoint may lack it (for all its indices at once).
    pub optional: bool,
    /// The parameter that it is a copy of when the checkpoint is tied.
    pub tied: Option<String>,
    /// Whether it stands before the first `each`: then it lives on the first pipeline stage.
    pub before_each: bool,
    /// Where it is declared.
    pub span: Span,
}

impl Param {
    /// Whether `list`, as written in a spec, means this parameter: `P` means `P` and all `P.…`,
    /// and `bias` alone means the bias of every parameter.
    pub fn is_under(&self, list: &str) -> bool {
        self.path == list
            || self.path.strip_prefix(list).is_some_and(|rest| rest.starts_with('.'))
            || (list == "bias" && self.path.ends_with(".bias"))
    }
}

/// A document that a checkpoint may carry.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Document {
    /// Hugging Face's `config.json`.
    Config,
    /// Megatron's pickled arguments, with what a reader adds (`original_vocab_size`).
    Args,
    /// Meta's `params.json`.
    Params,
}

/// `name = expr` in a `from` block.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Binding {
    /// The document that the keys are of.
    pub document: Document,
    /// A dim, another number (`m`, `c1`, `tp`), or `tied`.
    pub name: String,
    /// Its value.
    pub expr: Expr,
    /// Where it stands.
    pub span: Span,
}
