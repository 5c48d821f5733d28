//! The class that loads what a view writes, and the type of weights that it takes.

use crate::cut::Cut;
use crate::plan::Plan;
use crate::target::Target;
use serde_json::Value;
use ucl_formats::{Format, Inventory};
use ucl_ir::{Diagnostic, Program, View};
use ucl_tensor::DType;

/// The `model_type` that a checkpoint's config says.
pub fn model_type(inventory: &Inventory) -> Option<&str> {
    inventory.documents.get("config")?.get("model_type").and_then(Value::as_str)
}

/// The view that classes of a model's type load: the named one or one that extends it.
///
/// # Errors
/// No class is for the type, or no config says it.
pub fn view_of_class<'p>(
    programs: &'p [Program],
    inventory: &Inventory,
    name: &str,
) -> Result<&'p View, Diagnostic> {
    let family = |view: &&View| view.name == name || view.ancestors.iter().any(|a| a == name);
    let views = programs.iter().flat_map(|program| program.views.values().filter(family));
    let usable: Vec<&View> = views.filter(|view| view.lacking.is_empty()).collect();
    let mut known: Vec<String> =
        usable.iter().flat_map(|view| view.classes.keys()).map(|of| format!("{of:?}")).collect();
    known.sort();
    known.dedup();
    if known.is_empty() {
        let message = format!("no class loads what the view `{name}` writes");
        return Err(Diagnostic::new("ucl::match", message).help("leave --view out"));
    }
    let refused = |message: String, help: String| {
        let help = format!("{help}. `{name}` has classes for: {}", known.join(", "));
        Diagnostic::new("ucl::match", message).help(help)
    };
    let Some(of) = model_type(inventory) else {
        return Err(refused(
            "the class that loads the model follows from the `model_type` in its config.json, and there is none"
                .to_owned(),
            "--config DIR takes it from the folder of the model that was trained".to_owned(),
        ));
    };
    usable.into_iter().find(|view| view.classes.contains_key(of)).ok_or_else(|| {
        refused(
            format!("no class loads models of the type {of:?} from the view `{name}`"),
            "`--to hf` writes any model that the specs know".to_owned(),
        )
    })
}

/// The type that the weights get because the class takes no other.
///
/// # Errors
/// Another one was asked for; a class loads all of its model or nothing.
pub(crate) fn of_class(cut: &Cut, target: &Target) -> Result<Option<DType>, Vec<Diagnostic>> {
    let class = cut.class.as_ref().filter(|_| target.format == Format::FastGen);
    let Some(class) = class else { return Ok(None) };
    if !cut.absent.is_empty() {
        let message = format!("`{}` loads no model without {}", class.name, cut.absent.join(", "));
        let found = Diagnostic::new("ucl::cover", message).at(class.span, "by this line");
        return Err(vec![found.help("`--to hf` writes the model as it is")]);
    }
    let Some(own) = class.dtype.as_deref().and_then(DType::parse) else { return Ok(None) };
    match target.dtype {
        Some(dtype) if dtype != own => {
            let message =
                format!("`{}` computes in {own} alone, and --dtype asks for {dtype}", class.name);
            let help = format!("leave --dtype out: the weights are cast to {own}");
            Err(vec![
                Diagnostic::new("ucl::cast", message).at(class.span, "by this line").help(help),
            ])
        }
        _ => Ok(Some(own)),
    }
}

impl Plan<'_> {
    /// Says what FastGen itself will not have, though nothing here has to be cut.
    pub(crate) fn refused_by_class(&self) -> Vec<String> {
        let of = self.cut.broken.iter().filter(|_| self.target.format == Format::FastGen);
        let said = of.map(|(dim, size, run)| {
            format!(
                "`{dim}` is {size} and no multiple of {run}: FastGen's engine refuses such a model, on one rank too."
            )
        });
        said.collect()
    }

    /// Says what type the weights have because the class takes no other.
    pub(crate) fn cast_for_class(&self) -> Option<String> {
        let class = self.cut.class.as_ref()?;
        let own = class.dtype.as_deref().and_then(DType::parse)?;
        let was = self.own_types().into_iter().flatten().find(|was| *was != own)?;
        Some(format!(
            "`{}` computes in {own}, whatever the config says: the weights are cast from {was}.",
            class.name
        ))
    }
}
