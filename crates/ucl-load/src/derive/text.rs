//! A spec as text: a parameter for every tensor of all layers, how it is cut, and nothing else.

use super::cut::{Cut, Merge};
use indexmap::IndexMap;
use std::collections::BTreeSet;
use std::fmt::Write;
use ucl_parser::suggest::is_reserved;

/// A tensor of the checkpoint, all ranks together.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Tensor {
    pub(super) name: String,
    /// What tp=0 holds.
    pub(super) shape: Vec<u64>,
    pub(super) merge: Merge,
    pub(super) rows: Option<u64>,
    /// Whether the first pipeline stage's copy counts, of several.
    pub(super) first_stage: bool,
}

/// The name of the model.
pub(super) const MODEL: &str = "derived";
/// The name of the view and of its layout: one that Megatron-DeepSpeed's files may be in too.
pub(super) const VIEW: &str = "deepspeed";

/// Tensors whose names differ in one number, in every index from the first to the last.
struct Stack {
    before: String,
    after: String,
    first: u64,
    count: u64,
    tensor: Tensor,
}

/// Writes the spec.
///
/// # Errors
/// Names the tensors that a spec has no form for, a sentence each.
pub(super) fn spec(tensors: &[Tensor]) -> Result<String, Vec<String>> {
    let staged = tensors.iter().any(|tensor| tensor.first_stage);
    let mut writer = Writer { staged, ..Writer::default() };
    for stack in stacks(tensors) {
        writer.stack(&stack);
    }
    if writer.wrong.is_empty() { Ok(writer.text()) } else { Err(writer.wrong) }
}

/// Puts tensors of all layers together, where they are alike; the others stay alone.
fn stacks(tensors: &[Tensor]) -> Vec<Stack> {
    let mut found: IndexMap<(String, String), Vec<(u64, &Tensor)>> = IndexMap::new();
    for tensor in tensors {
        if let Some((before, number, after)) = number_in(&tensor.name) {
            found.entry((before, after)).or_default().push((number, tensor));
        }
    }
    for same in found.values_mut() {
        same.sort_by_key(|(number, _)| *number);
    }
    let is_stack = |same: &[(u64, &Tensor)]| {
        let alike = |one: &Tensor, other: &Tensor| {
            (&one.shape, &one.merge, one.rows) == (&other.shape, &other.merge, other.rows)
        };
        let next = |two: &[(u64, &Tensor)]| two[0].0 + 1 == two[1].0 && alike(two[0].1, two[1].1);
        same.len() > 1 && same.windows(2).all(next)
    };
    let mut out = Vec::new();
    for tensor in tensors {
        let split = number_in(&tensor.name);
        let same = split.as_ref().and_then(|(b, _, a)| found.get(&(b.clone(), a.clone())));
        match (split, same.filter(|same| is_stack(same))) {
            (Some((before, _, after)), Some(same)) => {
                let first = same.first().map_or(0, |one| one.0);
                if same.first().is_some_and(|one| one.1.name == tensor.name) {
                    let (count, tensor) = (same.len() as u64, tensor.clone());
                    out.push(Stack { before, after, first, count, tensor });
                }
            }
            _ => out.push(Stack {
                before: tensor.name.clone(),
                after: String::new(),
                first: 0,
                count: 0,
                tensor: tensor.clone(),
            }),
        }
    }
    out
}

/// The first part of a name that is a number, with what stands before and behind it.
fn number_in(name: &str) -> Option<(String, u64, String)> {
    let mut start = 0;
    for part in name.split('.') {
        let digits =
            !part.is_empty() && part.len() < 10 && part.bytes().all(|b| b.is_ascii_digit());
        // `07` would not come back as it was.
        if digits && (part.len() == 1 || !part.starts_with('0')) {
            let number = part.parse().ok()?;
            return Some((name[..start].to_owned(), number, name[start + part.len()..].to_owned()));
        }
        start += part.len() + 1;
    }
    None
}

#[derive(Default)]
struct Writer {
    /// Dims with their sizes, in the order of their use.
    dims: IndexMap<String, u64>,
    /// For each dim of numbers in names: the text before it, the first, how many.
    layers: Vec<(String, (String, u64, u64))>,
    /// Parameters of each block, by the dim of the block; nothing for none.
    blocks: IndexMap<Option<String>, Vec<String>>,
    before: Vec<String>,
    equations: Vec<String>,
    paths: BTreeSet<String>,
    /// What paths lie below.
    above: BTreeSet<String>,
    exact: BTreeSet<String>,
    uneven: BTreeSet<String>,
    pads: IndexMap<String, u64>,
    averages: Vec<String>,
    /// Whether stages hold copies of which the first counts.
    staged: bool,
    wrong: Vec<String>,
}

impl Writer {
    fn stack(&mut self, stack: &Stack) {
        let tensor = &stack.tensor;
        if tensor.name.is_empty() || tensor.name.contains(['{', '}', '*', '"', '\n', '\r']) {
            let text = format!("{:?}: such a name can't be written in a spec", tensor.name);
            return self.wrong.push(text);
        }
        let layer = (stack.count > 0).then(|| self.layer(stack));
        let (spelled, path) = match &layer {
            None => (stack.before.clone(), stack.before.clone()),
            Some(dim) => {
                let hole = match stack.first {
                    0 => format!("{{{dim}}}"),
                    first => format!("{{{dim} + {first}}}"),
                };
                (format!("{}{hole}{}", stack.before, stack.after), stack.after.clone())
            }
        };
        let long = format!("{}{}", stack.before, stack.after);
        let path = self.path(&path, &long);
        let mut taken = BTreeSet::new();
        let mut shape = Vec::new();
        let mut terms: Vec<Vec<String>> = vec![Vec::new()];
        for (axis, size) in tensor.shape.iter().enumerate() {
            match &tensor.merge {
                Merge::Cut(cut) if cut.axis == axis => match self.cut(cut, tensor, &mut taken) {
                    Ok((factor, parts)) => {
                        shape.push(factor);
                        let so_far = terms.remove(0);
                        terms =
                            parts.into_iter().map(|part| [so_far.clone(), part].concat()).collect();
                    }
                    Err(why) => return self.wrong.push(format!("{:?}: {why}", tensor.name)),
                },
                _ => {
                    let dim = match tensor.rows.filter(|_| axis == 0) {
                        Some(rows) => self.rows(rows, *size, &mut taken),
                        None => self.dim("d", *size, &mut taken),
                    };
                    shape.push(dim.clone());
                    terms.iter_mut().for_each(|term| term.push(dim.clone()));
                }
            }
        }
        let paths: Vec<String> = match terms.len() {
            1 => vec![path],
            _ => (1..=terms.len()).map(|part| format!("{path}.part{part}")).collect(),
        };
        let params = paths.iter().zip(&terms);
        let params: Vec<String> =
            params.map(|(path, dims)| format!("{path} : {}", dims.join(" "))).collect();
        // What comes before the layers stays there.
        match layer.is_none() && (self.layers.is_empty() || tensor.first_stage) {
            true => self.before.extend(params),
            false => self.blocks.entry(layer).or_default().extend(params),
        }
        self.equations.push(format!("\"{spelled}\" : {} = {}", shape.join(" "), paths.join(" | ")));
        if tensor.merge == Merge::Average {
            self.averages.extend(paths);
        }
    }

    /// The dim that counts the layers of a stack.
    fn layer(&mut self, stack: &Stack) -> String {
        let key = (stack.before.clone(), stack.first, stack.count);
        if let Some((dim, _)) = self.layers.iter().find(|(_, known)| *known == key) {
            return dim.clone();
        }
        let dim = match self.layers.len() {
            0 => "l".to_owned(),
            more => format!("l{}", more + 1),
        };
        self.dims.insert(dim.clone(), stack.count);
        self.layers.push((dim.clone(), key));
        dim
    }

    /// A path that no other parameter has, nor lies above or below.
    fn path(&mut self, short: &str, long: &str) -> String {
        let above = |path: &str| -> Vec<String> {
            path.match_indices('.').map(|(at, _)| path[..at].to_owned()).collect()
        };
        let clashes = |writer: &Writer, path: &String| {
            writer.paths.contains(path)
                || writer.above.contains(path)
                || above(path).iter().any(|path| writer.paths.contains(path))
        };
        let mut path = word_path(short);
        if clashes(self, &path) {
            path = word_path(long);
        }
        let plain = path.clone();
        let mut number = 2;
        while clashes(self, &path) {
            path = format!("{plain}_{number}");
            number += 1;
        }
        self.above.extend(above(&path));
        self.paths.insert(path.clone());
        path
    }

    /// A dim of this size that the tensor does not have yet.
    fn dim(&mut self, kind: &str, size: u64, taken: &mut BTreeSet<String>) -> String {
        let names = std::iter::once(String::new())
            .chain((b'b'..=b'z').map(|letter| char::from(letter).to_string()))
            .chain((2..).map(|number: u32| format!("_{number}")));
        let mut names = names.map(|more| format!("{kind}{size}{more}"));
        let free = names.find(|name| !taken.contains(name)).unwrap_or_default();
        taken.insert(free.clone());
        self.dims.insert(free.clone(), size);
        free
    }

    /// A dim of so many rows that is stored with padding.
    fn rows(&mut self, rows: u64, stored: u64, taken: &mut BTreeSet<String>) -> String {
        let mut beside = taken.clone();
        loop {
            let dim = self.dim("v", rows, &mut beside);
            if *self.pads.entry(dim.clone()).or_insert(stored) == stored {
                taken.insert(dim.clone());
                return dim;
            }
        }
    }

    /// The factor of a cut dim, and the dims that each part has of it.
    fn cut(
        &mut self,
        cut: &Cut,
        tensor: &Tensor,
        taken: &mut BTreeSet<String>,
    ) -> Result<(String, Vec<Vec<String>>), String> {
        let around = |size: u64, writer: &mut Writer, taken: &mut BTreeSet<String>| {
            (size != 1).then(|| writer.dim("d", size, taken))
        };
        let outer = around(cut.outer, self, taken);
        let inner = around(cut.inner, self, taken);
        let mut parts = Vec::new();
        for widths in &cut.parts {
            let unit = unit(widths).ok_or_else(|| {
                format!(
                    "its widths {widths:?} over tp are not equal, and not such that the first ranks have one more; a spec has no form for it"
                )
            })?;
            let sum: u64 = widths.iter().sum();
            let dim = match tensor.rows.filter(|_| cut.axis == 0) {
                Some(_) if unit > 1 => {
                    return Err(format!("its rows are padded and cut as {widths:?}"));
                }
                Some(rows) => self.rows(rows, sum, taken),
                None => self.dim("c", sum / unit, taken),
            };
            match widths.windows(2).all(|two| two[0] == two[1]) {
                true => self.exact.insert(dim.clone()),
                false => self.uneven.insert(dim.clone()),
            };
            let unit = around(unit, self, taken);
            parts.push(std::iter::once(dim).chain(unit).collect::<Vec<String>>());
        }
        let sums: Vec<String> = parts.iter().map(|part| part.join(" ")).collect();
        let sum = sums.join(" | ");
        let whole = |outer: &str, inner: &str| {
            let sum = if parts.len() > 1 { format!("({sum})") } else { sum.clone() };
            [outer, &sum, inner]
                .iter()
                .filter(|p| !p.is_empty())
                .map(|p| (*p).to_owned())
                .collect::<Vec<_>>()
                .join(" ")
        };
        let (before, behind) = (outer.as_deref().unwrap_or(""), inner.as_deref().unwrap_or(""));
        let product = whole(before, behind);
        let factor = match (parts.len(), product.contains(' ')) {
            (1, false) => product,
            (1, true) => format!("({product})"),
            _ if before.is_empty() && behind.is_empty() => product,
            _ => format!("({product})"),
        };
        let parts = parts
            .into_iter()
            .map(|part| outer.iter().cloned().chain(part).chain(inner.iter().cloned()).collect());
        Ok((factor, parts.collect()))
    }

    fn text(&self) -> String {
        let mut text = String::from("ucl 1\n\n");
        let mut line = |more: String| {
            let _ = writeln!(text, "{more}");
        };
        line(format!("model {MODEL} {{"));
        for (dim, size) in &self.dims {
            line(format!("  dims {dim} = {size}"));
        }
        line(String::new());
        let block = |params: &[String], by: &str| -> String {
            params.iter().map(|param| format!("{by}{param}\n")).collect()
        };
        line(block(&self.before, "  "));
        for (layer, params) in &self.blocks {
            match layer {
                Some(dim) => line(format!("  each {dim} {{\n{}  }}", block(params, "    "))),
                None => line(block(params, "  ")),
            }
        }
        line("}\n".to_owned());
        line(format!("view {VIEW} {{\n{}}}\n", block(&self.equations, "  ")));
        let stages = self.layers.first().filter(|_| self.staged).map(|(dim, _)| dim);
        let axes = if stages.is_some() { "tp, pp" } else { "tp" };
        line(format!("layout {VIEW} for {VIEW} {{\n  mesh {axes}"));
        let cuts = [(&self.exact, ""), (&self.uneven, " uneven")];
        for (dims, rest) in cuts {
            // A dim that is cut evenly in one tensor and unevenly in another is uneven.
            let dims: Vec<&str> = dims
                .iter()
                .filter(|dim| !rest.is_empty() || !self.uneven.contains(*dim))
                .map(String::as_str)
                .collect();
            if !dims.is_empty() {
                line(format!("  shard {} over tp{rest}", dims.join(", ")));
            }
        }
        if let Some(dim) = stages {
            line(format!("  stage {dim} over pp uneven global"));
        }
        for (dim, stored) in &self.pads {
            line(format!("  pad {dim} to {stored}"));
        }
        if !self.averages.is_empty() {
            line(format!("  average {} over tp", self.averages.join(", ")));
        }
        line("}".to_owned());
        text
    }
}

/// Whether a spec has a form for a cut of a tensor with so many true rows, if it has padding.
pub(super) fn holds(cut: &Cut, rows: Option<u64>) -> bool {
    let padded = rows.is_some() && cut.axis == 0;
    cut.parts.iter().all(|widths| unit(widths).is_some_and(|unit| unit == 1 || !padded))
}

/// How many elements of a cut stay together: 1 where the ranks have the same or the first ones one more.
fn unit(widths: &[u64]) -> Option<u64> {
    let sum: u64 = widths.iter().sum();
    let ranks = widths.len() as u64;
    let common = widths.iter().fold(0, |a, b| common(a, *b)).max(1);
    [1, common].into_iter().find(|unit| {
        let (each, more) = (sum / unit / ranks, sum / unit % ranks);
        let width = |rank: usize| (each + u64::from((rank as u64) < more)) * unit;
        widths.iter().enumerate().all(|(rank, held)| *held == width(rank))
    })
}

fn common(a: u64, b: u64) -> u64 {
    if b == 0 { a } else { common(b, a % b) }
}

/// A tensor's name as a path: parts that are no words of a spec become some.
fn word_path(name: &str) -> String {
    let parts = name.split('.').filter(|part| !part.is_empty());
    let word = |part: &str| {
        let kept: String = part
            .chars()
            .map(|letter| if letter.is_ascii_alphanumeric() { letter } else { '_' })
            .collect();
        match kept.chars().next() {
            Some(first) if first.is_ascii_digit() => format!("n{kept}"),
            _ if is_reserved(&kept) => format!("{kept}_"),
            _ => kept,
        }
    };
    let path: Vec<String> = parts.map(word).collect();
    if path.is_empty() { "param".to_owned() } else { path.join(".") }
}
