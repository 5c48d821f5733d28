//! A folder as transformers writes it: names of files, shards and their index, `config.json`.
//!
//! It is read as any folder of weights, by [`crate::plain`]; the states of an optimizer beside them by `states`.

mod config;
mod files;
mod states;
mod write;

pub use config::{changed, read_config, torch_name};
pub use files::{is_model_file, model_files};
pub(crate) use files::{other_entries, trainer_step};
pub(crate) use states::take as take_states;
pub use states::{STATES, States, states};
pub(crate) use write::files;
