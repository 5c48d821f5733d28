//! The slices of a rank, read straight from the files.

use crate::bind::Unbound;
use crate::checkpoint::Checkpoint;
use crate::failure::Failure;
use std::ops::Range;
use ucl_exec::{ExecError, Options, Reader};
use ucl_formats::Format;
use ucl_ir::Mesh;
use ucl_plan::{Bound, Naming, Plan, States, Sure, Target, Work, view_of_class};
use ucl_tensor::DType;

/// What to load.
#[derive(Clone, Debug)]
pub struct Wanted {
    /// A view of the model, whose names and shapes the slices have; the source's own if none is named.
    pub view: Option<String>,
    /// The mesh that the model is cut over; an axis that is left out has one rank.
    pub mesh: Mesh,
    /// The type of the weights; as they are if none is named.
    pub dtype: Option<DType>,
    /// Weights alone, or the optimizer's states too.
    pub states: States,
}

/// A checkpoint as the ranks of a mesh see it: planned and proven, nothing read yet.
pub struct Ranks<'a> {
    plan: Plan<'a>,
    ranks: Vec<Mesh>,
}

/// A tensor of a rank.
#[derive(Clone, Copy, Debug)]
pub struct Slice<'r> {
    /// Its name in the view.
    pub name: &'r str,
    /// Its state: `param` for the model's own weights, `fp32` for masters, else the optimizer's word.
    pub state: &'r str,
    /// Its element type.
    pub dtype: DType,
    /// Its shape on the rank.
    pub shape: &'r [u64],
    /// Its number among the slices of all ranks.
    pub number: usize,
}

impl Checkpoint {
    /// What every rank of a mesh holds of it.
    ///
    /// ```no_run
    /// # use std::path::Path;
    /// # use ucl_load::{Checkpoint, Source, States, Wanted};
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let checkpoint = Checkpoint::open(Path::new("run/global_step400"), &Source::default())?;
    /// let mesh = [("tp".to_owned(), 4)].into_iter().collect();
    /// let wanted = Wanted { view: Some("mcore".into()), mesh, dtype: None, states: States::Weights };
    /// let ranks = checkpoint.ranks(wanted)?;
    /// let reader = ranks.reader(&Default::default());
    /// for slice in ranks.slices(2) {
    ///     let mut bytes = vec![0; slice.bytes() as usize];
    ///     reader.read(slice.number, 0..slice.elements(), &mut bytes)?;
    /// }
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// What is wrong with the checkpoint, with the mesh, or with the view.
    pub fn ranks(&self, wanted: Wanted) -> Result<Ranks<'_>, Unbound> {
        self.sound(wanted.states)?;
        let naming = wanted.view.map_or(Naming::Stored, Naming::View);
        let target = Target {
            stages: Vec::new(),
            format: Format::Slices,
            mesh: wanted.mesh,
            naming,
            dtype: wanted.dtype,
            states: wanted.states,
            max_file_bytes: u64::MAX,
        };
        let plan = self.plan_cut(target)?;
        let ranks = plan.ranks().cloned().collect();
        Ok(Ranks { plan, ranks })
    }

    /// Plans a target that is cut over a mesh. Where only the data-parallel ranks change, nobody has to
    /// say how fused tensors are cut over the others.
    ///
    /// # Errors
    /// As [`Checkpoint::ranks`].
    pub fn plan_cut(&self, mut target: Target) -> Result<Plan<'_>, Unbound> {
        if let (Format::FastGen, Naming::View(name)) = (target.format, &target.naming) {
            self.known_view(&target.naming)?;
            let view = view_of_class(self.programs(), self.inventory(), name);
            target.naming = Naming::View(view.map_err(Failure::one)?.name.clone());
        }
        let by_its_source = match target.naming {
            Naming::Stored => self.by_its_source(),
            _ => None,
        };
        let mut bound = match by_its_source {
            Some(bound) => bound,
            None => self.bind_cut(&target)?,
        };
        bound.notes.extend(self.beyond_its_description(&bound, &target));
        let program = bound.spec.map(|(program, _)| program);
        let plan = Plan::new(bound, target).map_err(|wrong| {
            let sources = program.map_or_else(Vec::new, |program| program.sources.clone());
            Failure::in_specs(wrong, sources)
        })?;
        Ok(plan)
    }

    /// A universal folder by what its source said of its cuts, if nothing else was said of it: no model could
    /// be told then, and its sizes do not follow from whole tensors either.
    fn by_its_source(&self) -> Option<Bound<'_>> {
        let made = self.inventory().universal.as_ref()?;
        let said = !self.said().set.is_empty() || self.inventory().documents.contains_key("config");
        made.source.cuts.as_ref().filter(|_| !said)?;
        self.by_itself(&Naming::Stored)?.ok()
    }

    fn bind_cut(&self, target: &Target) -> Result<Bound<'_>, Unbound> {
        match &target.naming {
            Naming::Stored => self.bind(&Naming::Universal).or_else(|unbound| {
                let cut = |mesh: &Mesh| {
                    let mut cut: Vec<_> = mesh.clone().into_iter().collect();
                    cut.retain(|(axis, size)| axis != "dp" && *size > 1);
                    cut.sort();
                    cut
                };
                match cut(&target.mesh) == cut(&self.inventory().mesh) {
                    true => self.bind(&Naming::Stored).map_err(|_| unbound),
                    false => Err(unbound),
                }
            }),
            naming => self.bind(naming),
        }
    }

    /// What a checkpoint that describes itself does not tell: where else than between its own ranks a
    /// tensor may be cut. Half a head has the right shape too.
    fn beyond_its_description(&self, bound: &Bound<'_>, target: &Target) -> Option<String> {
        let size = |mesh: &Mesh| mesh.get("tp").copied().unwrap_or(1);
        let universal = self.inventory().universal.as_ref();
        let of = universal.map_or(&self.inventory().mesh, |made| &made.source.mesh);
        let (own, new) = (size(of), size(&target.mesh));
        let told = bound.sure != Some(Sure::Described) || new > 0 && own.is_multiple_of(new);
        (!told).then(|| {
            format!(
                "The checkpoint describes how its {own} tensor ranks cut it, not where a head ends: over {new} every \
                 described dim is cut into equal shares, as DeepSpeed's own universal load does. A model's spec knows \
                 its heads (`--spec FILE`, `ucl specs`)."
            )
        })
    }
}

impl Ranks<'_> {
    /// The coordinates of the model-parallel ranks, by number. Data-parallel ranks hold the same.
    pub fn coordinates(&self) -> &[Mesh] {
        &self.ranks
    }

    /// What a rank holds, in the order of the model: each tensor in all its states.
    pub fn slices(&self, rank: usize) -> impl Iterator<Item = Slice<'_>> {
        let tensors = self.plan.tensors().iter().enumerate();
        tensors.filter(move |(_, tensor)| tensor.file == rank).map(|(number, tensor)| Slice {
            name: &tensor.name,
            state: &tensor.state,
            dtype: tensor.dtype,
            shape: &tensor.shape,
            number,
        })
    }

    /// Reads slices, or windows of them.
    pub fn reader(&self, options: &Options) -> Reader<'_> {
        Reader::new(&self.plan, options)
    }

    /// Reads a whole slice.
    ///
    /// # Errors
    /// See [`Reader::read`].
    pub fn read(&self, slice: &Slice<'_>) -> Result<Vec<u8>, ExecError> {
        let mut bytes = vec![0; usize::try_from(slice.bytes()).unwrap_or(usize::MAX)];
        let elements: Range<u64> = 0..slice.elements();
        self.reader(&Options::default()).read(slice.number, elements, &mut bytes)?;
        Ok(bytes)
    }
}

impl Slice<'_> {
    /// Its number of elements.
    pub fn elements(&self) -> u64 {
        self.shape.iter().product()
    }

    /// Its length in bytes.
    pub fn bytes(&self) -> u64 {
        self.elements() * self.dtype.size_bytes()
    }
}
