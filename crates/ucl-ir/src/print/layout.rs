//! Layouts.

use super::expr;
use crate::{Layout, MergeOp, PadFill, Shard, Uneven};
use std::fmt::{self, Write};

pub(super) fn write(layout: &Layout, views: &[&str], f: &mut impl Write) -> fmt::Result {
    write!(f, "\nlayout {}", layout.name)?;
    if !views.is_empty() {
        write!(f, " for {}", views.join(", "))?;
    }
    writeln!(f, " {{")?;
    let axes: Vec<String> = layout
        .axes
        .iter()
        .map(|axis| match &axis.same_as {
            None => axis.name.clone(),
            Some(other) => format!("{} = {other}", axis.name),
        })
        .collect();
    if !axes.is_empty() {
        writeln!(f, "  mesh {}", axes.join(", "))?;
    }
    for run in layout.shards.chunk_by(same_but_dim) {
        shard(run, f)?;
    }
    for pad in &layout.pads {
        let with = match pad.with {
            PadFill::Zero => "",
            PadFill::Last => " with last",
            PadFill::Mean => " with mean",
        };
        writeln!(f, "  pad {} to {}{with}", pad.dim, expr::expr(&pad.to))?;
    }
    if let Some(when) = &layout.copy_tied {
        writeln!(f, "  copy tied when {}", expr::cond(when))?;
    }
    for merge in &layout.merges {
        let op = match merge.op {
            MergeOp::Average => "average",
            MergeOp::Sum => "sum",
        };
        writeln!(f, "  {op} {} over {}", merge.params.join(", "), merge.over)?;
    }
    for keep in &layout.keeps {
        writeln!(f, "  keep {} at {}={}", keep.params.join(", "), keep.over, keep.at)?;
    }
    for (cond, _) in &layout.requires {
        writeln!(f, "  require {}", expr::cond(cond))?;
    }
    writeln!(f, "}}")
}

fn same_but_dim(a: &Shard, b: &Shard) -> bool {
    (&a.over, &a.of, &a.rest, a.global, a.stage) == (&b.over, &b.of, &b.rest, b.global, b.stage)
}

fn shard(run: &[Shard], f: &mut impl Write) -> fmt::Result {
    let Some(first) = run.first() else { return Ok(()) };
    let dims: Vec<&str> = run.iter().map(|shard| shard.dim.as_str()).collect();
    write!(f, "  {} {}", if first.stage { "stage" } else { "shard" }, dims.join(", "))?;
    if !first.of.is_empty() {
        write!(f, " of {}", first.of.join(", "))?;
    }
    write!(f, " over {}", first.over.join(", "))?;
    match &first.rest.uneven {
        None => {}
        Some(Uneven::Runs(1)) => write!(f, " uneven")?,
        Some(Uneven::Runs(run)) => write!(f, " uneven by {run}")?,
        Some(Uneven::Within(dim)) => write!(f, " uneven in {dim}")?,
    }
    f.write_str(if first.rest.repeat { " repeat" } else { "" })?;
    writeln!(f, "{}", if first.global { " global" } else { "" })
}
