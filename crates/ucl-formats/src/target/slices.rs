//! The slices of every rank as a format without bytes of its own, for programs that load them.

use super::{Buffer, Run, RunFile, RunLayout};

/// One file for each rank, that is never written: every tensor in every state.
pub(super) fn lay_out(run: &Run<'_>) -> RunLayout {
    let files = run.ranks.iter().enumerate().map(|(number, rank)| {
        let mut file = RunFile {
            path: format!("{number}"),
            len: 0,
            fixed: vec![],
            buffers: vec![],
            seal: None,
        };
        for (tensor, held) in rank.tensors.iter().enumerate() {
            let states = held.states.keys().map(String::as_str).filter(|state| *state != "param");
            for state in std::iter::once("param").chain(states) {
                let buffer = Buffer::whole(run, (number, tensor), state);
                let bytes = buffer.bytes();
                file.buffers.push((file.len, buffer));
                file.len += bytes;
            }
        }
        file
    });
    RunLayout { files: files.collect(), ..RunLayout::default() }
}
