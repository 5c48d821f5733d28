//! One window of a tensor: its moves are read and made, its checks compared.

use std::ops::Range;
use std::sync::Arc;

use ucl_plan::{Move, MoveRole, TargetTensor, Work};
use ucl_tensor::{
    Affine, Against, CastError, DType, Differences, Total, Walk, WalkError, accumulate, cast,
    compare, convert, convert_synth, settle,
};

use crate::error::ExecError;
use crate::outcome::CheckResult;
use crate::product::{self, Loaded, Products};
use crate::read::{Part, Reads};
use crate::source::{Again, Sources};
use crate::workers::Share;

/// Runs at least this long are read to where they belong, without a buffer between.
const STRAIGHT: u64 = 64 << 10;

/// What one worker reuses from window to window.
#[derive(Debug, Default)]
pub(crate) struct Scratch {
    read: Vec<u8>,
    totals: Vec<Total>,
    /// The matrices of the product that was added last.
    product: Option<(usize, Arc<Loaded>)>,
}

/// What a check found in a window.
pub(crate) type Found = (usize, Differences);

/// Fills windows of the tensors of a plan.
pub(crate) struct Filler<'a> {
    pub(crate) work: &'a dyn Work,
    pub(crate) sources: &'a Sources<'a>,
    pub(crate) share: Share,
    products: Products,
}

/// What is done with the bytes of a part.
enum Act<'w> {
    /// They fill the window.
    Fill(&'w mut [u8]),
    /// They are added up.
    Add(&'w mut [Total], (u32, u32)),
    /// They are compared with the window.
    Compare(&'w [u8], Against, &'w mut Differences),
}

impl<'a> Filler<'a> {
    pub(crate) fn new(work: &'a dyn Work, sources: &'a Sources<'a>, share: Share) -> Filler<'a> {
        Filler { work, sources, share, products: Products::default() }
    }

    /// Fills `window` with `elements` of a tensor and gives what its checks found, and how many of the
    /// values that were cast are not finite.
    pub(crate) fn fill(
        &self,
        scratch: &mut Scratch,
        tensor: usize,
        elements: Range<u64>,
        window: &mut [u8],
    ) -> Result<(Vec<Found>, u64), ExecError> {
        let moves = self.work.window(tensor, elements.clone());
        let target = &self.work.tensors()[tensor];
        if moves.iter().any(|step| matches!(step.role, MoveRole::Product(_))) {
            return self.merge(scratch, tensor, elements, window);
        }
        self.zero_gaps(target, &moves, window)?;
        let mut found = Vec::new();
        let mut writes: Vec<&Move> = Vec::with_capacity(moves.len());
        for step in &moves {
            match step.role {
                MoveRole::Write => writes.push(step),
                MoveRole::Synth(seed) => {
                    synthesise(step, seed, target, window).map_err(|why| wrong(target, why))?;
                }
                _ => {}
            }
        }
        self.write(scratch, target, writes, window)?;
        if moves.iter().any(|step| matches!(step.role, MoveRole::Average(..) | MoveRole::Sum)) {
            self.add_up(scratch, tensor, elements, window, &mut found)?;
        }
        let is_cast = |step: &Move| step.role == MoveRole::Write && step.dtype != target.dtype;
        let is_cast = moves.iter().any(is_cast);
        let not_finite = if is_cast { target.dtype.not_finite(window) } else { 0 };
        self.checked(scratch, target, &moves, window, |check, differences| {
            found.push((check, differences));
        })?;
        Ok((found, not_finite))
    }

    /// Fills a window to whose values products are added: in F32, a few elements at a time, each rounded
    /// to the target's type at the end. Checks hold the values as they were before.
    fn merge(
        &self,
        scratch: &mut Scratch,
        tensor: usize,
        elements: Range<u64>,
        window: &mut [u8],
    ) -> Result<(Vec<Found>, u64), ExecError> {
        let target = &self.work.tensors()[tensor];
        let wide = TargetTensor { dtype: product::TYPE, ..target.clone() };
        let size = target.dtype.size_bytes() as usize;
        let (mut bytes, mut values) = (Vec::new(), Vec::new());
        let mut found = Vec::new();
        for start in elements.clone().step_by(self.share.totals) {
            let end = elements.end.min(start + self.share.totals as u64);
            let moves = self.work.window(tensor, start..end);
            bytes.clear();
            bytes.resize((end - start) as usize * 4, 0);
            let first = start - elements.start;
            let writes = moves.iter().filter(|step| step.role == MoveRole::Write).collect();
            self.write(scratch, &wide, writes, &mut bytes)?;
            self.checked(scratch, &wide, &moves, &bytes, |check, mut differences| {
                differences.first = differences.first.map(|at| at + first);
                found.push((check, differences));
            })?;
            product::floats(&bytes, &mut values);
            for step in &moves {
                let MoveRole::Product(number) = step.role else { continue };
                let loaded = self.product(scratch, number)?;
                loaded.add(step, &mut values).map_err(|why| wrong(target, why))?;
            }
            product::bytes_of(&values, &mut bytes);
            let part = &mut window[first as usize * size..][..values.len() * size];
            cast(product::TYPE, &bytes, target.dtype, part).map_err(|why| wrong(target, why))?;
        }
        Ok((found, target.dtype.not_finite(window)))
    }

    /// The matrices of a product.
    fn product(&self, scratch: &mut Scratch, number: usize) -> Result<Arc<Loaded>, ExecError> {
        if let Some((known, loaded)) = &scratch.product
            && *known == number
        {
            return Ok(Arc::clone(loaded));
        }
        // What a worker no longer needs goes before what it needs next.
        scratch.product = None;
        let Some(product) = self.work.products().get(number) else {
            let reason = format!("there is no product {number}");
            return Err(ExecError::Plan { tensor: String::new(), reason });
        };
        let loaded = self.products.get(number, product, |factor| {
            let matrix = TargetTensor {
                name: product.label.clone(),
                state: "low-rank pair".to_owned(),
                dtype: product::TYPE,
                shape: vec![product.rank, factor.len],
                file: 0,
                offset: 0,
            };
            let mut bytes = vec![0; matrix.len() as usize * 4];
            let writes = factor.moves.iter().filter(|step| step.role == MoveRole::Write).collect();
            self.write(scratch, &matrix, writes, &mut bytes)?;
            let mut differ = Vec::new();
            self.checked(scratch, &matrix, &factor.moves, &bytes, |check, differences| {
                if differences.mismatched > 0 {
                    differ.push(self.fatal(check, &differences));
                }
            })?;
            if differ.is_empty() { Ok(bytes) } else { Err(ExecError::Check(differ)) }
        })?;
        scratch.product = Some((number, Arc::clone(&loaded)));
        Ok(loaded)
    }

    /// A check that stops the run, of no window.
    fn fatal(&self, check: usize, differences: &Differences) -> CheckResult {
        CheckResult {
            label: self.work.checks().get(check).map_or_else(String::new, |c| c.label.clone()),
            compared: differences.compared,
            mismatched: differences.mismatched,
            max_abs_diff: differences.max_abs_diff,
            first: None,
            fatal: true,
        }
    }

    /// Makes the checks among moves on a window, and gives what each found.
    fn checked(
        &self,
        scratch: &mut Scratch,
        target: &TargetTensor,
        moves: &[Move],
        window: &[u8],
        mut found: impl FnMut(usize, Differences),
    ) -> Result<(), ExecError> {
        for step in moves {
            let (check, against) = match step.role {
                MoveRole::Equal(check) => (check, Against::Window),
                MoveRole::Rounded(check) => (check, Against::Source),
                _ => continue,
            };
            let mut differences = Differences::default();
            let mut act = Act::Compare(window, against, &mut differences);
            self.part(scratch, target, step, Part::of(step), &mut act)?;
            found(check, differences);
        }
        Ok(())
    }

    /// Makes the window zero, unless every element will be written.
    fn zero_gaps(
        &self,
        target: &TargetTensor,
        moves: &[Move],
        window: &mut [u8],
    ) -> Result<(), ExecError> {
        let len = window.len() as u64 / target.dtype.size_bytes();
        let writes =
            moves.iter().filter(|step| matches!(step.role, MoveRole::Write | MoveRole::Synth(_)));
        let written = writes
            .map(|step| Part::of(step).elements())
            .fold(0_u64, |sum, elements| sum.saturating_add(elements));
        if written > len {
            let reason = format!("{written} elements are written to a window of {len}");
            return Err(wrong(target, reason));
        }
        if written < len {
            window.fill(0);
        }
        Ok(())
    }

    /// Makes the moves that fill the window, in the order of their sources.
    fn write(
        &self,
        scratch: &mut Scratch,
        target: &TargetTensor,
        mut moves: Vec<&Move>,
        window: &mut [u8],
    ) -> Result<(), ExecError> {
        moves.sort_by_key(|step| (step.source, step.from));
        let mut rest = &moves[..];
        while let Some((step, later)) = rest.split_first() {
            let part = Part::of(step);
            if self.straight(target, step, &part, window)? {
                rest = later;
                continue;
            }
            let taken = self.together(scratch, target, rest, window)?;
            if taken > 0 {
                rest = &rest[taken..];
                continue;
            }
            self.part(scratch, target, step, part, &mut Act::Fill(window))?;
            rest = later;
        }
        Ok(())
    }

    /// Reads a move of long runs right into the window, if it is one.
    fn straight(
        &self,
        target: &TargetTensor,
        step: &Move,
        part: &Part,
        window: &mut [u8],
    ) -> Result<bool, ExecError> {
        let run = part.run();
        let dense = run > 0 && (run >= STRAIGHT || part.steps.len() < 2);
        if !dense || step.dtype != target.dtype || !affine(step).is_identity() {
            return Ok(false);
        }
        let size = part.size as usize;
        // The checks of a walk, over rows instead of elements.
        let len = window.len() / size;
        let walk =
            Walk::new(part.steps.iter().copied(), (part.from, usize::MAX), (part.to, len), size);
        walk.map_err(|why| wrong(target, why))?;
        let outer = &part.steps[..part.steps.len().saturating_sub(1)];
        self.rows(step.source, outer, (part.from, part.to), run as usize, size, window)?;
        Ok(true)
    }

    fn rows(
        &self,
        source: usize,
        steps: &[ucl_tensor::Step],
        (from, to): (i64, i64),
        run: usize,
        size: usize,
        window: &mut [u8],
    ) -> Result<(), ExecError> {
        let Some((step, inner)) = steps.split_first() else {
            let start = to as usize * size;
            return self.sources.read(
                source,
                &mut window[start..start + run],
                from as u64,
                Again::Never,
            );
        };
        for round in 0..step.count as i64 {
            let at = (from + round * step.from, to + round * step.to);
            self.rows(source, inner, at, run, size, window)?;
        }
        Ok(())
    }

    /// Reads the extents of several moves at once, where they are close in one source; gives how many.
    fn together(
        &self,
        scratch: &mut Scratch,
        target: &TargetTensor,
        moves: &[&Move],
        window: &mut [u8],
    ) -> Result<usize, ExecError> {
        let mut group: Vec<(&Move, Part, Reads)> = Vec::new();
        let (mut start, mut end) = (0, 0);
        for step in moves {
            let part = Part::of(step);
            let Some(reads) = part.reads() else { break };
            let Some(stop) = reads.end() else { break };
            if group.is_empty() {
                (start, end) = (reads.start, stop);
            } else if step.source != moves[0].source
                || reads.start < start
                || reads.start > end + 4096
            {
                break;
            }
            if (end.max(stop) - start) as u64 > self.share.read as u64 {
                break;
            }
            end = end.max(stop);
            group.push((step, part, reads));
        }
        if group.len() < 2 {
            return Ok(0);
        }
        let bytes = (end - start) as usize;
        let buffer = room(&mut scratch.read, bytes);
        let offset =
            u64::try_from(start).map_err(|_| wrong(target, "it reads before its source"))?;
        self.sources.read(moves[0].source, buffer, offset, Again::Perhaps)?;
        let taken = group.len();
        for (step, part, reads) in group {
            let skip = (reads.start - start) as usize;
            let bytes = &buffer[skip..skip + reads.len as usize];
            act(step, &part, &reads, bytes, target.dtype, &mut Act::Fill(window))
                .map_err(|why| wrong(target, why))?;
        }
        Ok(taken)
    }

    /// Reads a part, in pieces if it is large, and acts on it.
    fn part(
        &self,
        scratch: &mut Scratch,
        target: &TargetTensor,
        step: &Move,
        part: Part,
        action: &mut Act<'_>,
    ) -> Result<(), ExecError> {
        if part.elements() == 0 {
            return Ok(());
        }
        let reads = part.reads().ok_or_else(|| wrong(target, "its strides overflow"))?;
        let budget = self.share.read as u64;
        if reads.bytes() > budget
            && let Some(pieces) = part.cut(reads.bytes(), budget)
        {
            for piece in pieces {
                self.part(scratch, target, step, piece, action)?;
            }
            return Ok(());
        }
        let len = reads.len as usize;
        let buffer = room(&mut scratch.read, reads.bytes() as usize);
        reads.each(&mut |file, at| {
            let offset =
                u64::try_from(file).map_err(|_| wrong(target, "it reads before its source"))?;
            self.sources.read(step.source, &mut buffer[at..at + len], offset, Again::Perhaps)
        })?;
        act(step, &part, &reads, buffer, target.dtype, action).map_err(|why| wrong(target, why))
    }

    /// Makes the moves that add up, a few elements at a time.
    fn add_up(
        &self,
        scratch: &mut Scratch,
        tensor: usize,
        elements: Range<u64>,
        window: &mut [u8],
        found: &mut Vec<Found>,
    ) -> Result<(), ExecError> {
        let target = &self.work.tensors()[tensor];
        if !target.dtype.is_float() {
            return Err(wrong(target, format!("{} values are averaged", target.dtype)));
        }
        let size = target.dtype.size_bytes() as usize;
        let mut totals = std::mem::take(&mut scratch.totals);
        for start in elements.clone().step_by(self.share.totals) {
            let end = elements.end.min(start + self.share.totals as u64);
            totals.clear();
            totals.resize((end - start) as usize, Total::EMPTY);
            for step in &self.work.window(tensor, start..end) {
                let (divisor, tag) = match step.role {
                    MoveRole::Average(count, check) => (count, check as u32 + 1),
                    MoveRole::Sum => (1, 0),
                    _ => continue,
                };
                let mut act = Act::Add(&mut totals, (divisor, tag));
                self.part(scratch, target, step, Part::of(step), &mut act)?;
            }
            let first = (start - elements.start) as usize;
            settle(&totals, target.dtype, &mut window[first * size..][..totals.len() * size]);
            report_spread(&totals, first as u64, found);
        }
        scratch.totals = totals;
        Ok(())
    }
}

/// Tells the checks of averaged elements how far their sources are apart.
fn report_spread(totals: &[Total], first: u64, found: &mut Vec<Found>) {
    let mut current: Option<Found> = None;
    for (index, total) in totals.iter().enumerate().filter(|(_, total)| total.tag > 0) {
        let check = total.tag as usize - 1;
        if current.as_ref().is_none_or(|(known, _)| *known != check) {
            found.extend(current.replace((check, Differences::default())));
        }
        if let Some((_, differences)) = &mut current {
            differences.compared += 1;
            let nan = total.sum.is_nan();
            if total.low != total.high || nan {
                let high = if nan { f64::NAN } else { total.high };
                differences.add(first + index as u64, total.low, high);
            }
        }
    }
    found.extend(current);
}

fn affine(step: &Move) -> Affine {
    Affine { scale: step.scale, shift: step.shift }
}

/// The two ways in which a move can be wrong.
#[derive(Debug, thiserror::Error)]
enum Wrong {
    #[error(transparent)]
    Walk(#[from] WalkError),
    #[error(transparent)]
    Cast(#[from] CastError),
}

fn wrong(target: &TargetTensor, reason: impl ToString) -> ExecError {
    let name = match target.state.as_str() {
        "" => target.name.clone(),
        state => format!("{} ({state})", target.name),
    };
    ExecError::Plan { tensor: name, reason: reason.to_string() }
}

fn act(
    step: &Move,
    part: &Part,
    reads: &Reads,
    buffer: &[u8],
    dtype: DType,
    action: &mut Act<'_>,
) -> Result<(), Wrong> {
    let size = dtype.size_bytes() as usize;
    let walk = |len| {
        let steps = reads.steps.iter().copied();
        Walk::new(steps, (reads.from, buffer.len()), (part.to, len), part.size as usize)
    };
    let source = (step.dtype, buffer);
    match action {
        Act::Fill(window) => {
            convert(&walk(window.len() / size)?, affine(step), source, (dtype, window))?;
        }
        Act::Add(totals, how) => {
            accumulate(&walk(totals.len())?, affine(step), source, totals, *how)?;
        }
        Act::Compare(window, against, differences) => {
            let walk = walk(window.len() / size)?;
            let found = compare(&walk, affine(step), *against, source, (dtype, window))?;
            differences.merge(&found);
        }
    }
    Ok(())
}

fn synthesise(
    step: &Move,
    seed: u64,
    target: &TargetTensor,
    window: &mut [u8],
) -> Result<(), Wrong> {
    let len = window.len() / target.dtype.size_bytes() as usize;
    let Part { from, to, steps, .. } = Part::of(step);
    let walk = Walk::new(steps, (from, usize::MAX), (to, len), 1)?;
    convert_synth(&walk, affine(step), seed, step.dtype, (target.dtype, window))?;
    Ok(())
}

/// The first `len` bytes of a buffer, which grows as needed and never shrinks.
fn room(buffer: &mut Vec<u8>, len: usize) -> &mut [u8] {
    if buffer.len() < len {
        buffer.resize(len, 0);
    }
    &mut buffer[..len]
}
