//! The target cut into tasks: windows of large tensors, and rows of small ones.

use ucl_plan::{MoveRole, TargetTensor, Work};

use crate::digest::BLOCK;
use crate::error::ExecError;
use crate::read::Part;
use crate::workers::Share;

/// What one worker does at a time: a window of one tensor, or several whole small ones.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Task {
    /// Index into the plan's files.
    pub(crate) file: usize,
    /// The first tensor.
    pub(crate) tensor: usize,
    /// How many tensors.
    pub(crate) tensors: usize,
    /// The byte in the tensor where the window starts; a multiple of a block.
    pub(crate) start: u64,
    /// Bytes of the window, or of all tensors together.
    pub(crate) len: usize,
}

/// Small tensors in a task.
const TENSORS: usize = 256;

/// The bytes of a tensor.
pub(crate) fn bytes(tensor: &TargetTensor) -> Option<u64> {
    let counts = tensor.shape.iter();
    counts.copied().try_fold(tensor.dtype.size_bytes(), u64::checked_mul)
}

/// Cuts a plan's tensors into tasks, in their order.
///
/// # Errors
///
/// When a tensor does not fit in its file.
pub(crate) fn tasks(work: &dyn Work, share: Share) -> Result<Vec<Task>, ExecError> {
    let mut tasks: Vec<Task> = Vec::new();
    for (index, tensor) in work.tensors().iter().enumerate() {
        let wrong = |reason: &str| ExecError::Plan {
            tensor: tensor.name.clone(),
            reason: reason.to_owned(),
        };
        let len = bytes(tensor).ok_or_else(|| wrong("its size overflows"))?;
        let file = work.files().get(tensor.file).ok_or_else(|| wrong("it has no file"))?;
        if tensor.offset.checked_add(len).is_none_or(|end| end > file.len) {
            return Err(wrong("it does not fit in its file"));
        }
        if len == 0 {
            continue;
        }
        if len > share.window as u64 {
            let window = if strewn(work, index, share) { share.wide } else { share.window };
            tasks.extend((0..len).step_by(window).map(|start| Task {
                file: tensor.file,
                tensor: index,
                tensors: 1,
                start,
                len: window.min((len - start) as usize),
            }));
            continue;
        }
        let len = len as usize;
        match tasks.last_mut() {
            Some(task)
                if task.start == 0
                    && task.tensors < TENSORS
                    && task.file == tensor.file
                    && task.tensor + task.tensors == index
                    && task.len + len <= share.window =>
            {
                task.tensors += 1;
                task.len += len;
            }
            _ => tasks.push(Task { file: tensor.file, tensor: index, tensors: 1, start: 0, len }),
        }
    }
    Ok(tasks)
}

/// Whether windows of the usual size would read many short extents, as a transpose does: larger ones
/// then read longer ones.
fn strewn(work: &dyn Work, tensor: usize, share: Share) -> bool {
    if share.wide <= share.window {
        return false;
    }
    let size = work.tensors()[tensor].dtype.size_bytes();
    let moves = work.window(tensor, 0..share.window as u64 / size);
    let reads =
        moves.iter().filter(|step| !matches!(step.role, MoveRole::Synth(_) | MoveRole::Product(_)));
    reads.map(Part::of).any(|part| {
        part.reads().is_some_and(|reads| {
            let used = part.elements().saturating_mul(part.size);
            let wasteful = reads.bytes() > used.saturating_mul(2);
            let short = reads.len < BLOCK as u64 / 16 && !reads.rounds.is_empty();
            wasteful || short
        })
    })
}
