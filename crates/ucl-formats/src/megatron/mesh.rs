//! Which ranks wrote a step, and whether all their files are here.

use super::names::{Files, Numbers};
use super::rank::RankFile;
use super::whose;
use crate::inventory::{Mesh, Problem};
use crate::ranks::{MIXED, Opened, agreed, count};
use std::collections::BTreeSet;
use std::path::Path;

/// More ranks than this are no number but damage.
const MOST_RANKS: u64 = 1 << 20;
/// So many names of missing folders are listed.
const LISTED: usize = 12;

/// Where a file's rank is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Rank {
    pub(super) pp: u64,
    pub(super) tp: u64,
    pub(super) ep: u64,
}

/// The degrees of a step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Degrees {
    pub(super) tp: u64,
    pub(super) pp: u64,
    /// Virtual stages of each stage.
    pub(super) vpp: u64,
    pub(super) ep: u64,
    /// Tensor ranks of experts.
    pub(super) etp: u64,
}

/// A rank with its file.
pub(super) struct Held {
    pub(super) rank: Rank,
    pub(super) numbers: Numbers,
    pub(super) file: Opened<RankFile>,
}

/// Everything that was opened of a step.
pub(super) struct Step<'a> {
    pub(super) root: &'a Path,
    pub(super) degrees: Degrees,
    /// By rank; what belongs to none was named.
    pub(super) ranks: Vec<Held>,
}

impl<'a> Step<'a> {
    /// Works out the degrees and compares them with the folders that are here.
    pub(super) fn of(
        root: &'a Path,
        files: &Files,
        opened: Vec<(usize, Opened<RankFile>)>,
        problems: &mut Vec<Problem>,
    ) -> Step<'a> {
        let numbers: Vec<&Numbers> = files.models.keys().collect();
        let degrees = Degrees::of(root, &numbers, &opened, problems);
        let mut ranks: Vec<Held> = Vec::new();
        for (index, file) in opened {
            let Some(numbers) = numbers.get(index) else { continue };
            match degrees.place(numbers) {
                Some(rank) => ranks.push(Held { rank, numbers: (*numbers).clone(), file }),
                None => problems.push(surplus(&file.path, degrees)),
            }
        }
        ranks.sort_by_key(|held| held.rank);
        for twice in ranks.windows(2).filter(|pair| pair[0].rank == pair[1].rank) {
            let message = format!("it is of the same rank as {}", twice[0].file.path.display());
            problems.push(Problem::new(&twice[1].file.path, message).help(MIXED));
        }
        let present = files.models.keys().filter_map(|numbers| degrees.place(numbers)).collect();
        degrees.all_present(root, &present, problems);
        whose::check(degrees, &ranks, problems);
        Step { root, degrees, ranks }
    }

    /// The files' contents.
    pub(super) fn contents(&self) -> impl Iterator<Item = &RankFile> {
        self.ranks.iter().map(|held| &held.file.content)
    }
}

impl Degrees {
    fn of(
        root: &Path,
        numbers: &[&Numbers],
        opened: &[(usize, Opened<RankFile>)],
        problems: &mut Vec<Problem>,
    ) -> Degrees {
        let mut of = |what: &str, value: &dyn Fn(&RankFile) -> Option<u64>| {
            let said =
                opened.iter().filter_map(|(_, file)| Some((value(&file.content)?, &file.path)));
            agreed(said, problems, |theirs, witness, usual| {
                format!("{} wrote it, {} wrote {witness}", count(theirs, what), count(usual, what))
            })
        };
        let tp = of("tensor rank", &|rank| {
            rank.arg("tensor_model_parallel_size").or_else(|| rank.arg("model_parallel_size"))
        });
        let pp = of("stage", &|rank| rank.arg("pipeline_model_parallel_size"));
        let ep = of("expert rank", &|rank| rank.arg("expert_model_parallel_size"));
        let etp = of("tensor rank of experts", &|rank| rank.arg("expert_tensor_parallel_size"));
        let vpp = of("virtual stage", &|rank| Some(rank.chunks.len() as u64));
        let mut degrees = Degrees { tp: 1, pp: 1, vpp: vpp.unwrap_or(1).max(1), ep: 1, etp: 1 };
        match tp {
            Some(tp) => {
                (degrees.tp, degrees.pp, degrees.ep) = (tp, pp.unwrap_or(1), ep.unwrap_or(1));
            }
            None => degrees.infer(numbers, opened),
        }
        degrees.etp = etp.unwrap_or(degrees.tp);
        degrees.believe(root, opened, problems)
    }

    /// Without arguments the names of folders count. A second number is an expert rank if all files
    /// hold the same names, and a stage if they do not.
    fn infer(&mut self, numbers: &[&Numbers], opened: &[(usize, Opened<RankFile>)]) {
        let most = |place: usize| {
            let found = numbers.iter().filter_map(|numbers| numbers.get(place));
            found.max().map_or(1, |most| most.saturating_add(1))
        };
        let names = |file: &Opened<RankFile>| -> BTreeSet<String> {
            file.content.chunks.iter().flatten().map(|weight| weight.name.clone()).collect()
        };
        let mut all = opened.iter().map(|(_, file)| names(file));
        let first = all.next();
        let same = all.all(|other| Some(&other) == first.as_ref());
        (self.tp, self.pp, self.ep) = match (most(2), same) {
            (1, true) => (most(0), 1, most(1)),
            (third, _) => (most(0), most(1), third),
        };
    }

    /// Numbers that can't be degrees, and experts whose parts the names of folders don't tell.
    fn believe(
        self,
        root: &Path,
        opened: &[(usize, Opened<RankFile>)],
        problems: &mut Vec<Problem>,
    ) -> Degrees {
        let Degrees { tp, pp, vpp, ep, etp } = self;
        let product = [tp, pp, vpp, ep].into_iter().try_fold(1_u64, u64::checked_mul);
        if product.is_none_or(|ranks| !(1..=MOST_RANKS).contains(&ranks)) || etp == 0 {
            let message = format!(
                "its files say that {} of {} wrote it, {} with {} of experts",
                count(pp, "stage"),
                count(tp, "tensor rank"),
                count(ep, "expert rank"),
                count(etp, "tensor rank")
            );
            problems.push(Problem::new(root, message));
            return Degrees { tp: 1, pp: 1, vpp: 1, ep: 1, etp: 1 };
        }
        let extended = opened.iter().any(|(_, file)| {
            let args = file.content.args.as_ref();
            args.and_then(|args| args.get("moe_extended_tp")?.as_bool()) == Some(true)
        });
        if !tp.is_multiple_of(etp) || extended && ep > 1 {
            let message = format!(
                "its experts are cut over {}, everything else over {}: the names of folders do not \
                 tell the parts of experts",
                if extended {
                    "tensor and expert ranks together".to_owned()
                } else {
                    count(etp, "tensor rank")
                },
                count(tp, "tensor rank"),
            );
            problems.push(
                Problem::new(root, message).help(
                    "Save once more with `--ckpt-format torch_dist`, which records every part.",
                ),
            );
            return Degrees { etp: tp, ..self };
        }
        self
    }

    /// The rank that a folder's numbers mean.
    fn place(self, numbers: &Numbers) -> Option<Rank> {
        let mut numbers = numbers.iter().copied();
        let mut next = |degree: u64| if degree > 1 { numbers.next() } else { Some(0) };
        let first = next(u64::MAX)?;
        let rank = Rank { tp: first, pp: next(self.pp)?, ep: next(self.ep)? };
        // Converters write the number of the only stage too.
        let rest = numbers.all(|number| number == 0);
        (rest && rank.tp < self.tp && rank.pp < self.pp && rank.ep < self.ep).then_some(rank)
    }

    /// Where a rank's tensors are. Axes of size 1 are left out.
    pub(super) fn at(self, rank: Rank, chunk: u64) -> Mesh {
        let mut at = Mesh::new();
        let mut add = |axis: &str, size: u64, coordinate: u64| {
            if size > 1 {
                at.insert(axis.to_owned(), coordinate);
            }
        };
        add("pp", self.pp, rank.pp);
        add("vpp", self.vpp, chunk);
        add("ep", self.ep, rank.ep);
        add("tp", self.tp, rank.tp);
        if self.etp != self.tp {
            add("etp", self.etp, rank.tp % self.etp);
        }
        at
    }

    /// The whole mesh. Experts have tensor ranks of their own only where these are others.
    pub(super) fn mesh(self) -> Mesh {
        let Degrees { tp, pp, vpp, ep, etp } = self;
        let mut mesh: Mesh = [("tp", tp), ("pp", pp)].map(|(a, n)| (a.to_owned(), n)).into();
        let more = [("vpp", vpp, vpp > 1), ("ep", ep, ep > 1), ("etp", etp, etp != tp)];
        mesh.extend(more.into_iter().filter(|one| one.2).map(|one| (one.0.to_owned(), one.1)));
        mesh
    }

    /// Names the folders that are missing. Of experts' ranks those write that are the first of their
    /// data ranks; where experts have fewer tensor ranks these are not all pairs, but all parts.
    fn all_present(self, root: &Path, present: &BTreeSet<Rank>, problems: &mut Vec<Problem>) {
        let Degrees { tp, pp, ep, etp, .. } = self;
        let mut missing: BTreeSet<Rank> = BTreeSet::new();
        for stage in 0..pp {
            let has = |holds: &dyn Fn(&Rank) -> bool| {
                present.iter().any(|rank| rank.pp == stage && holds(rank))
            };
            if etp == tp {
                let pairs =
                    (0..tp).flat_map(|tp| (0..ep).map(move |ep| Rank { pp: stage, tp, ep }));
                missing.extend(pairs.filter(|rank| !present.contains(rank)));
                continue;
            }
            for part in (0..tp).filter(|part| !has(&|rank| rank.tp == *part)) {
                missing.insert(Rank { pp: stage, tp: part, ep: part / etp % ep });
            }
            for index in 0..etp * ep {
                let (part, expert) = (index % etp, index / etp);
                if !has(&|rank| rank.ep == expert && rank.tp % etp == part) {
                    missing.insert(Rank { pp: stage, tp: index % tp, ep: expert });
                }
            }
        }
        if missing.is_empty() {
            return;
        }
        let names = missing.iter().take(LISTED).map(|rank| self.name(*rank));
        let mut names = names.collect::<Vec<_>>().join(", ");
        if missing.len() > LISTED {
            names += &format!(" and {} more", missing.len() - LISTED);
        }
        let verb = if missing.len() == 1 { "is" } else { "are" };
        let message = format!("{names} {verb} missing: {self} wrote this step");
        problems.push(
            Problem::new(root, message)
                .help("Copy every rank's folder into one; each node may have kept its own."),
        );
    }

    fn name(self, rank: Rank) -> String {
        let mut name = format!("mp_rank_{:02}", rank.tp);
        for (size, number) in [(self.pp, rank.pp), (self.ep, rank.ep)] {
            if size > 1 {
                name += &format!("_{number:03}");
            }
        }
        name
    }
}

impl std::fmt::Display for Degrees {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let axes = self.mesh().into_iter().filter(|(axis, _)| axis != "vpp");
        let axes: Vec<_> = axes.map(|(axis, size)| format!("{axis} {size}")).collect();
        write!(formatter, "{}", axes.join(", "))
    }
}

fn surplus(path: &Path, degrees: Degrees) -> Problem {
    let folder = path.parent().and_then(Path::file_name).unwrap_or_default().to_string_lossy();
    let message = format!("{folder} belongs to no rank: {degrees} wrote this step");
    Problem::new(path, message)
        .help("It may be left from a run on more ranks: move it away if its date says so.")
}
