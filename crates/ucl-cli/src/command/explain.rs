//! `ucl explain`: where each slice of a tensor is stored.

use crate::args::ExplainArgs;
use crate::failure::{Stop, refuse};
use crate::session::{Answer, Session};
use crate::show::{self, Table};
use crate::source::Opened;
use crate::target;
use serde_json::json;
use std::path::Path;
use ucl_formats::Format;
use ucl_ir::Mesh;
use ucl_plan::{Plan, Slice, States, Target, Work};

pub(super) fn run(args: &ExplainArgs, session: &mut Session<'_, '_>) -> Result<Answer, Stop> {
    let opened = Opened::new(&args.checkpoint, &args.source)?;
    opened.sound(States::Weights)?;
    let naming = target::naming(&args.view);
    let target = Target {
        stages: Vec::new(),
        mesh: Mesh::new(),
        format: Format::Universal,
        naming,
        dtype: None,
        states: States::All,
        max_file_bytes: u64::MAX,
    };
    let plan = opened.plan(target, session)?;
    let slices = plan.explain(&args.name);
    if slices.is_empty() {
        return Err(unknown(&args.name, &plan));
    }
    session.say(&opened.recognised(&plan.bound))?;
    session.say(&text(&slices, &plan, &opened.inventory().root))?;
    session.answer(json!({
        "source": opened.json(Some(&plan.bound)), "name": args.name, "slices": slices,
    }))?;
    Ok(Answer::Yes)
}

/// The slices by target tensor and state.
fn text(slices: &[Slice], plan: &Plan<'_>, root: &Path) -> String {
    let mut out = format!("files are in {}\n", show::name(&root.display().to_string()));
    let mut rest = slices;
    while let Some(first) = rest.first() {
        let same = |slice: &Slice| slice.tensor == first.tensor && slice.state == first.state;
        let count = rest.iter().take_while(|slice| same(slice)).count();
        let (these, others) = rest.split_at(count);
        let target = plan.tensors().iter().find(|tensor| tensor.name == first.tensor);
        let shape = target.map_or_else(String::new, |tensor| show::shape(&tensor.shape));
        out.push_str(&format!(
            "\n{} {shape}, {}\n",
            show::name(&first.tensor),
            show::name(&first.state)
        ));
        let mut table = Table::default();
        for slice in these {
            let file = slice.file.strip_prefix(root).unwrap_or(&slice.file);
            table.row([
                format!("  {}", show::name(&slice.indices.join(" "))),
                slice.role.to_owned(),
                format!("{} {}", show::number(slice.elements), slice.dtype),
                show::name(&slice.rank),
                show::name(&slice.stored),
                format!("{} @ {}", show::name(&file.display().to_string()), slice.offset),
                strides(slice),
            ]);
        }
        out.push_str(&table.lines(&[2]).join("\n"));
        out.push('\n');
        rest = others;
    }
    out
}

fn strides(slice: &Slice) -> String {
    let strides: Vec<String> = slice.strides.iter().map(i64::to_string).collect();
    if strides.is_empty() { String::new() } else { format!("strides {} B", strides.join(" ")) }
}

fn unknown(name: &str, plan: &Plan<'_>) -> Stop {
    let names: Vec<&str> = plan
        .tensors()
        .iter()
        .map(|tensor| tensor.name.as_str())
        .chain(plan.bound.inventory.tensors.iter().map(|stored| stored.name.as_str()))
        .collect();
    let near = show::nearest(name, names.iter().copied());
    let help = match near.as_slice() {
        [] => format!("its names look like {}", show::list(names.first().copied(), 1)),
        near => format!("did you mean {}?", show::list(near.iter().copied(), 4)),
    };
    refuse(format!("there is no tensor `{}`", show::name(name)), help)
}
