//! Tensors that are not of the model that their config is of.

use crate::failure::{Stop, refuse};
use crate::show;
use ucl_plan::Foreign;

/// Whose config counts.
#[derive(Clone, Copy)]
pub(crate) enum Config {
    /// The checkpoint's, if it has one.
    Own,
    /// That of `--config`; whether the checkpoint has one too.
    Given { own: bool },
}

/// Why there is no Hugging Face model to write. `is_folder` says that the source was one already.
pub(crate) fn refused(foreign: &Foreign, config: Config, is_folder: bool) -> Stop {
    let Foreign { model_type, model, view, unclaimed } = foreign;
    let name = unclaimed.first().map_or("", String::as_str);
    let message = format!(
        "config.json says model_type {:?}, which is of the spec `{}`, and the tensors are not that model's: its view `{}` does not claim {}, {}{:?}",
        show::name(model_type),
        show::name(model),
        show::name(view),
        show::count(unclaimed.len() as u64, "name"),
        if unclaimed.len() == 1 { "" } else { "such as " },
        show::name(name),
    );
    let todo = match config {
        Config::Given { own: false } => {
            "give --config the folder of the model that was trained; without --config the tensors keep their names, and no config is written"
        }
        Config::Given { own: true } => {
            "give --config the folder of the model that was trained; without --config the checkpoint's own config.json counts"
        }
        Config::Own if is_folder => {
            "give the folder of the right config: --config DIR; `--view stored` writes both as they are"
        }
        Config::Own => {
            "give the folder of the model that was trained: --config DIR; `--to universal` keeps the tensors under their own names"
        }
    };
    refuse(
        message,
        format!("transformers would fill what it does not find with random values; {todo}"),
    )
}
