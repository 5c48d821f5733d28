//! Formats as targets: which files a checkpoint of a format has, and where in them each tensor is.
//!
//! Formats of whole tensors lay these out by themselves ([`Format::files`]); those that are cut over a
//! mesh are told what every rank holds ([`Run`], [`Format::lay_out`]).

mod draft;
mod random;
mod run;
mod seal;
mod slices;

pub use run::{Buffer, Held, Part, Rank, Run, RunFile, RunLayout, Split, Uncut, WriteError};
pub use seal::Seal;

pub(crate) use draft::{Draft, open_carried};
pub(crate) use random::repeated;

use crate::dcp::torch_dist::Optimizer;
use crate::deepspeed::write::Zero;
use crate::inventory::Role;
use crate::safetensors::Layout;
use crate::{huggingface, universal};
use indexmap::IndexMap;
use ucl_tensor::DType;

/// A format that can be written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Format {
    /// A universal folder.
    #[default]
    Universal,
    /// A folder that transformers loads.
    HuggingFace,
    /// A step of DeepSpeed's engine.
    DeepSpeed(Zero),
    /// DeepSpeed's own universal folder.
    DeepSpeedUniversal,
    /// A step of Megatron-LM, a file for each rank.
    Megatron,
    /// A step of Megatron-core's sharded saves.
    TorchDist(Optimizer),
    /// PyTorch's distributed checkpoint (DCP), as a run of FSDP saves it.
    Dcp,
    /// A folder that the steps of DeepSpeed-Chat load.
    DeepSpeedChat,
    /// What DeepSpeed-FastGen serialises.
    FastGen,
    /// What every rank holds, to be read and not written.
    Slices,
}

/// A tensor to write.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wanted {
    /// Its name.
    pub name: String,
    /// Its state.
    pub state: String,
    /// Its element type.
    pub dtype: DType,
    /// Its shape.
    pub shape: Vec<u64>,
    /// What it is.
    pub role: Role,
    /// Whether it has to be in the file of the tensor before it.
    pub joined: bool,
}

impl Wanted {
    /// Its number of elements.
    pub fn elements(&self) -> u64 {
        self.shape.iter().product()
    }

    /// Its length in bytes.
    pub fn bytes(&self) -> u64 {
        self.elements() * self.dtype.size_bytes()
    }

    /// What a header says of it.
    pub(crate) fn entry(&self) -> (String, DType, Vec<u64>) {
        (self.name.clone(), self.dtype, self.shape.clone())
    }
}

/// A file, laid out.
#[derive(Debug)]
pub struct Laid {
    /// Its path in the folder.
    pub path: String,
    /// Its length in bytes.
    pub len: u64,
    /// What is known of it, by offset: a header, or all of it if it holds no tensors.
    pub fixed: Vec<(u64, Vec<u8>)>,
    /// The tensors in it, as indices into those that are wanted, with their absolute byte offsets, in
    /// the order of these.
    pub tensors: Vec<(usize, u64)>,
    /// What closes it once the sums of its tensors are known.
    pub seal: Option<Seal>,
}

impl Laid {
    /// A safetensors file of these tensors.
    pub(crate) fn safetensors(path: String, tensors: &[usize], layout: Layout) -> Laid {
        let mut placed: Vec<(usize, u64)> = tensors.iter().copied().zip(layout.offsets).collect();
        placed.sort_by_key(|(_, offset)| *offset);
        let fixed = vec![(0, layout.header)];
        Laid { path, len: layout.len, fixed, tensors: placed, seal: None }
    }

    /// A file of text.
    pub(crate) fn text(path: String, text: String) -> Laid {
        let fixed = vec![(0, text.into_bytes())];
        Laid { path, len: fixed[0].1.len() as u64, fixed, tensors: Vec::new(), seal: None }
    }
}

impl Format {
    /// The files that hold these tensors, which come in the order of the model. `metadata` is what the
    /// source's files say of themselves beside their tensors.
    ///
    /// # Errors
    /// The format cannot hold the tensors.
    ///
    /// A format that is cut has no such files.
    pub fn files(
        self,
        tensors: &[Wanted],
        max_bytes: u64,
        metadata: &IndexMap<String, String>,
    ) -> Result<Vec<Laid>, WriteError> {
        match self {
            Format::Universal => Ok(universal::files(tensors, max_bytes)?),
            Format::HuggingFace => Ok(huggingface::files(tensors, max_bytes, metadata)?),
            Format::DeepSpeedChat => Ok(vec![crate::deepspeed::write::chat(tensors)?]),
            Format::DeepSpeed(_)
            | Format::DeepSpeedUniversal
            | Format::Megatron
            | Format::TorchDist(_)
            | Format::Dcp
            | Format::FastGen
            | Format::Slices => Ok(Vec::new()),
        }
    }

    /// Whether it is cut over a mesh.
    pub fn is_cut(self) -> bool {
        match self {
            Format::Universal | Format::HuggingFace | Format::DeepSpeedChat => false,
            Format::DeepSpeed(_)
            | Format::DeepSpeedUniversal
            | Format::Megatron
            | Format::TorchDist(_)
            | Format::Dcp
            | Format::FastGen
            | Format::Slices => true,
        }
    }

    /// Whether its tensors are whole whatever the mesh, which then only says who goes on.
    pub fn is_whole(self) -> bool {
        !self.is_cut() || matches!(self, Format::TorchDist(_) | Format::Dcp)
    }

    /// Whether it has one copy of the weights, which are the masters.
    pub fn trains_its_weights(self) -> bool {
        self == Format::Dcp
    }

    /// Whether its tensors are whole in its files, and cut over the mesh as they are loaded.
    pub fn is_cut_at_load(self) -> bool {
        self == Format::DeepSpeedUniversal
    }

    /// Whether it shares experts out over data-parallel ranks by itself, and wants all of them on each of the
    /// ranks that it is told.
    pub fn shares_experts_out(self) -> bool {
        matches!(self, Format::DeepSpeed(_) | Format::DeepSpeedUniversal)
    }

    /// Whether it is a model that transformers knows, by its config and its names.
    pub fn is_of_transformers(self) -> bool {
        matches!(self, Format::HuggingFace | Format::DeepSpeedChat)
    }

    /// The files of a run; none in a format that is not cut.
    ///
    /// # Errors
    /// What the format cannot hold.
    pub fn lay_out(self, run: &Run<'_>) -> Result<RunLayout, WriteError> {
        match self {
            Format::Universal | Format::HuggingFace | Format::DeepSpeedChat => {
                Ok(RunLayout::default())
            }
            Format::DeepSpeed(zero) => crate::deepspeed::write::lay_out(run, zero),
            Format::DeepSpeedUniversal => crate::deepspeed::write::lay_out_universal(run),
            Format::Megatron => crate::megatron::write::lay_out(run),
            Format::TorchDist(kind) => crate::dcp::torch_dist::lay_out(run, kind),
            Format::Dcp => crate::dcp::lay_out(run),
            Format::FastGen => crate::fastgen::lay_out(run),
            Format::Slices => Ok(slices::lay_out(run)),
        }
    }

    /// Where a file goes that goes along as it is; `None` if the format has no place for it.
    pub fn place(self, name: &str) -> Option<String> {
        match self {
            Format::Universal => Some(format!("extra/{name}")),
            Format::HuggingFace | Format::DeepSpeedChat => {
                huggingface::is_model_file(name).then(|| name.to_owned())
            }
            // Its config is pickled.
            Format::FastGen => {
                (name != "config.json" && huggingface::is_model_file(name)).then(|| name.to_owned())
            }
            // What goes along stands in the files that are laid out.
            Format::DeepSpeed(_)
            | Format::DeepSpeedUniversal
            | Format::Megatron
            | Format::TorchDist(_)
            | Format::Dcp
            | Format::Slices => None,
        }
    }
}
