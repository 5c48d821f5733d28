//! Wrong input: one clear message each, exit code 2, and nothing left behind.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod consolidated;
mod destination;
mod disk;
mod files;
mod flags;
mod headers;
mod hostile;
mod huggingface;
mod lora;
mod megatron;
mod model;
mod place;
mod ranks;
mod scene;
mod sizes;
mod universal;
