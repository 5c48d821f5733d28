//! Optimizer states that a file numbers in the order of the model's modules: a view knows that order.

use ucl_formats::{Format, Survey, plain};
use ucl_ir::{Mesh, Program};
use ucl_plan::{HUGGING_FACE_VIEW, Naming, Plan, Said, States, Target, Work, bind};

/// Names the states of transformers' Trainer, whose files of weights are sorted by name.
///
/// torch numbers parameters as transformers registers its modules, and so are the lines of the view `hf`
/// written. Where the weights are of no such view, or of several, the states stay left out.
pub(crate) fn order(survey: &mut Survey, programs: &[Program], said: &Said) {
    let inventory = &survey.inventory;
    if inventory.unordered.is_empty() || !inventory.adapters.is_empty() {
        return;
    }
    let Ok(bound) = bind(programs, inventory, said, &Naming::Universal) else { return };
    let Some((program, view)) = bound.spec.filter(|(_, view)| view.name == HUGGING_FACE_VIEW)
    else {
        return;
    };
    let text = format!("the view `{}` of `{}`", view.name, program.model.name);
    let target = Target {
        stages: Vec::new(),
        format: Format::Universal,
        mesh: Mesh::new(),
        naming: Naming::View(view.name.clone()),
        dtype: None,
        states: States::Weights,
        max_file_bytes: u64::MAX,
    };
    let Ok(plan) = Plan::new(bound, target) else { return };
    let names: Vec<String> = plan.tensors().iter().map(|tensor| tensor.name.clone()).collect();
    drop(plan);
    plain::in_order(&names, &text, survey);
}
