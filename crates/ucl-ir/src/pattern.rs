//! The field's words for how a tensor is stored, computed from a rule and a layout.

use crate::{Atoms, Factor, Layout, MergeOp, Program, Rule, Segment, Shard, Sum, View};
use std::fmt;

/// One word for what a rule does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Pattern {
    /// Several parameters one after the other.
    Fuse,
    /// Several parameters in turns: the sum is inside a product, as in `(k (q|1|1) d) h`.
    FuseQkv,
    /// The order of dims is not the parameter's.
    Transpose,
    /// A stored dim is cut.
    Shard {
        /// The stored dim, from 0.
        along: usize,
        /// The dim that is cut there.
        dim: String,
        /// Over these axes.
        over: Vec<String>,
    },
    /// The same on every rank along these axes.
    Replicate(Vec<String>),
    /// Replicas along this axis differ and are averaged.
    Average(String),
    /// Parts along this axis add up.
    Sum(String),
    /// On the ranks of this coordinate alone.
    Keep {
        /// The axis.
        over: String,
        /// The coordinate along it.
        at: u64,
    },
    /// A dim is padded; the padding is dropped.
    DropPadding(String),
    /// A copy of another parameter while the checkpoint is tied.
    Tie(String),
    /// The tensor is dropped.
    Ignore,
    /// Stored once, whole.
    Unique,
}

impl fmt::Display for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Pattern::Fuse => write!(f, "fuse"),
            Pattern::FuseQkv => write!(f, "fuse-qkv"),
            Pattern::Transpose => write!(f, "transpose"),
            Pattern::Shard { along, dim, over } => {
                write!(f, "shard-along-dim {along} ({dim} over {})", over.join(", "))
            }
            Pattern::Replicate(axes) => write!(f, "replicate over {}", axes.join(", ")),
            Pattern::Average(axis) => write!(f, "average over {axis}"),
            Pattern::Sum(axis) => write!(f, "sum over {axis}"),
            Pattern::Keep { over, at } => write!(f, "on {over}={at} alone"),
            Pattern::DropPadding(dim) => write!(f, "drop-padding {dim}"),
            Pattern::Tie(original) => write!(f, "tie to {original}"),
            Pattern::Ignore => write!(f, "ignore"),
            Pattern::Unique => write!(f, "unique"),
        }
    }
}

/// The words for a rule of a view, on ranks that are laid out so; without a layout tensors are whole.
pub fn patterns(
    program: &Program,
    view: &View,
    layout: Option<&Layout>,
    rule: &Rule,
) -> Vec<Pattern> {
    let reader = Reader { program, view, atoms: Atoms::new(&view.composites), rule };
    let mut found = Vec::new();
    if rule.terms.len() > 1 {
        let turns = rule.shape.iter().any(|factor| reader.is_in_turns(factor, false));
        found.push(if turns { Pattern::FuseQkv } else { Pattern::Fuse });
    }
    if reader.is_transposed() {
        found.push(Pattern::Transpose);
    }
    if let Some(layout) = layout {
        reader.placed(layout, &mut found);
    }
    let tied = rule.terms.iter().find_map(|term| program.model.param(term)?.tied.clone());
    found.extend(tied.map(Pattern::Tie));
    if found.is_empty() {
        found.push(Pattern::Unique);
    }
    found
}

struct Reader<'a> {
    program: &'a Program,
    view: &'a View,
    atoms: Atoms<'a>,
    rule: &'a Rule,
}

impl Reader<'_> {
    /// Whether a sum with alternatives stands beside other dims in a product.
    fn is_in_turns(&self, factor: &Factor, beside: bool) -> bool {
        let sum = match factor {
            Factor::One => None,
            Factor::Name(name) => self.atoms.get(name),
            Factor::Group(sum) => Some(sum),
        };
        let Some(sum) = sum else { return false };
        if sum.alternatives.len() > 1 {
            return beside;
        }
        sum.alternatives.iter().any(|product| {
            let holds = |factor: &&Factor| !self.atoms.of(factor).is_empty();
            let several = product.iter().filter(holds).count() > 1
                || product
                    .iter()
                    .any(|other| matches!(other, Factor::Name(_)) && product.len() > 1);
            product.iter().any(|inner| self.is_in_turns(inner, beside || several))
        })
    }

    fn is_transposed(&self) -> bool {
        let Ok(alternatives) = self.atoms.alternatives(&self.rule.shape) else { return false };
        let composites = self.program.model.composites();
        alternatives.iter().zip(&self.rule.terms).any(|(stored, term)| {
            let Some(param) = self.program.model.param(term) else { return false };
            let mut order = Atoms::new(&composites).flatten(param.each.iter().chain(&param.dims));
            order.retain(|atom| stored.contains(atom));
            order != *stored
        })
    }

    fn placed(&self, layout: &Layout, found: &mut Vec<Pattern>) {
        let mut used: Vec<&str> = Vec::new();
        let axis = |name: &'_ str| -> String {
            let known = layout.axes.iter().find(|axis| axis.name == name);
            known.and_then(|axis| axis.same_as.clone()).unwrap_or_else(|| name.to_owned())
        };
        let names = self.rule.spellings.iter().flat_map(|s| &s.template.segments);
        let indices: Vec<&str> = names
            .filter_map(|segment| match segment {
                Segment::Index { dim, .. } => Some(dim.as_str()),
                _ => None,
            })
            .collect();
        for term in &self.rule.terms {
            for index in &indices {
                let cut = self.cut(layout, term, index);
                used.extend(cut.iter().flat_map(|shard| shard.over.iter().map(String::as_str)));
            }
            for (along, factor) in self.rule.shape.iter().enumerate() {
                let mut cuts = Vec::new();
                self.cuts(layout, term, factor, &mut cuts);
                for shard in cuts {
                    used.extend(shard.over.iter().map(String::as_str));
                    let (dim, over) = (shard.dim.clone(), shard.over.clone());
                    let pattern = Pattern::Shard { along, dim, over };
                    if !found.contains(&pattern) {
                        found.push(pattern);
                    }
                }
            }
        }
        let used: Vec<String> = used.into_iter().map(axis).collect();
        let under = |path: &String| {
            let params = self.rule.terms.iter().filter_map(|term| self.program.model.param(term));
            params.into_iter().any(|param| param.is_under(path))
        };
        let merges: Vec<_> =
            layout.merges.iter().filter(|merge| merge.params.iter().any(under)).collect();
        let keeps: Vec<_> =
            layout.keeps.iter().filter(|keep| keep.params.iter().any(under)).collect();
        let stages: Vec<&String> = layout
            .shards
            .iter()
            .filter(|shard| shard.stage)
            .flat_map(|shard| &shard.over)
            .collect();
        // An axis that cuts nothing at all is not worth a word.
        let cuts = |name: &String| layout.shards.iter().any(|shard| shard.over.contains(name));
        let rest = layout.axes.iter().filter(|axis| {
            axis.same_as.is_none()
                && cuts(&axis.name)
                && !used.contains(&axis.name)
                && !stages.contains(&&axis.name)
                && !merges.iter().any(|merge| merge.over == axis.name)
                && !keeps.iter().any(|keep| keep.over == axis.name)
        });
        let rest: Vec<String> = rest.map(|axis| axis.name.clone()).collect();
        if !rest.is_empty() {
            found.push(Pattern::Replicate(rest));
        }
        found.extend(merges.into_iter().map(|merge| match merge.op {
            MergeOp::Average => Pattern::Average(merge.over.clone()),
            MergeOp::Sum => Pattern::Sum(merge.over.clone()),
        }));
        found.extend(
            keeps.into_iter().map(|keep| Pattern::Keep { over: keep.over.clone(), at: keep.at }),
        );
        let atoms: Vec<String> = self.rule.shape.iter().flat_map(|f| self.atoms.of(f)).collect();
        let padded = layout.pads.iter().filter(|pad| {
            atoms.contains(&pad.dim) || self.rule.shape.contains(&Factor::Name(pad.dim.clone()))
        });
        found.extend(padded.map(|pad| Pattern::DropPadding(pad.dim.clone())));
    }

    /// The cuts in a stored dim: from outside in, nothing inside of what is cut.
    fn cuts<'l>(&self, layout: &'l Layout, term: &str, factor: &Factor, cuts: &mut Vec<&'l Shard>) {
        let inside: Option<&Sum> = match factor {
            Factor::One => None,
            Factor::Group(sum) => Some(sum),
            Factor::Name(name) => match self.cut(layout, term, name) {
                Some(shard) => return cuts.push(shard),
                None => self.view.composites.get(name),
            },
        };
        for factor in inside.iter().flat_map(|sum| &sum.alternatives).flatten() {
            self.cuts(layout, term, factor, cuts);
        }
    }

    /// The line that cuts a dim in a parameter. One with `of` takes the place of the general lines
    /// for the same dim or for the same axis.
    fn cut<'l>(&self, layout: &'l Layout, term: &str, dim: &str) -> Option<&'l Shard> {
        let param = self.program.model.param(term)?;
        let special = |shard: &&Shard| shard.of.iter().any(|path| param.is_under(path));
        let mut lines = layout.shards.iter().filter(|shard| shard.dim == dim);
        lines.clone().find(special).or_else(|| {
            lines.find(|shard| {
                let beaten = |other: &Shard| {
                    other.dim == dim || other.over.iter().any(|axis| shard.over.contains(axis))
                };
                shard.of.is_empty() && !layout.shards.iter().filter(special).any(beaten)
            })
        })
    }
}
