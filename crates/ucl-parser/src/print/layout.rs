//! `layout NAME { … }`

use super::expr;
use std::fmt::Write;
use ucl_ir::{Layout, MergeOp, PadFill, Rest, Shard, View};

/// It serves by name every view that it served by inheritance.
pub(super) fn print(layout: &Layout, views: &[&View], out: &mut String) {
    let _ = write!(out, "\nlayout {}", layout.name);
    let served = views.iter().filter(|view| view.layouts.contains(&layout.name));
    let served: Vec<&str> = served.map(|view| view.name.as_str()).collect();
    if !served.is_empty() {
        let _ = write!(out, " for {}", served.join(", "));
    }
    out.push_str(" {\n");
    let axes = layout.axes.iter().map(|axis| match &axis.same_as {
        Some(other) => format!("{} = {other}", axis.name),
        None => axis.name.clone(),
    });
    let axes: Vec<String> = axes.collect();
    if !axes.is_empty() {
        let _ = writeln!(out, "  mesh {}", axes.join(", "));
    }
    for shard in &layout.shards {
        let _ = writeln!(out, "  {}", cut(shard));
    }
    for pad in &layout.pads {
        let with = match pad.with {
            PadFill::Zero => "",
            PadFill::Last => " with last",
            PadFill::Mean => " with mean",
        };
        let _ = writeln!(out, "  pad {} to {}{with}", pad.dim, expr::print(&pad.to));
    }
    if let Some(when) = &layout.copy_tied {
        let _ = writeln!(out, "  copy tied when {}", expr::cond(when));
    }
    for merge in &layout.merges {
        let op = match merge.op {
            MergeOp::Average => "average",
            MergeOp::Sum => "sum",
        };
        let _ = writeln!(out, "  {op} {} over {}", merge.params.join(", "), merge.over);
    }
    for (cond, _) in &layout.requires {
        let _ = writeln!(out, "  require {}", expr::cond(cond));
    }
    out.push_str("}\n");
}

fn cut(shard: &Shard) -> String {
    let word = if shard.stage { "stage" } else { "shard" };
    let of =
        if shard.of.is_empty() { String::new() } else { format!(" of {}", shard.of.join(", ")) };
    let rest = match shard.rest {
        Rest::Exact => "",
        Rest::Uneven => " uneven",
        Rest::Repeat => " repeat",
    };
    let global = if shard.global { " global" } else { "" };
    format!("{word} {}{of} over {}{rest}{global}", shard.dim, shard.over.join(", "))
}
