//! Nested strided loops over two buffers: checked once, then walked without overflow in the order that
//! suits caches.

use smallvec::SmallVec;

/// One loop of a [`Walk`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Step {
    /// How often.
    pub count: u64,
    /// Bytes from one element to the next in the source.
    pub from: i64,
    /// Elements from one to the next in the target.
    pub to: i64,
}

/// Loops that leave their buffers, or count too much.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum WalkError {
    /// The source is too short.
    #[error("reads bytes {low}..{high} of a source of {len} bytes")]
    Source {
        /// The lowest byte.
        low: i128,
        /// One past the highest.
        high: i128,
        /// The length of the buffer.
        len: usize,
    },
    /// The target is too short.
    #[error("fills elements {low}..{high} of a window of {len}")]
    Target {
        /// The lowest element.
        low: i128,
        /// One past the highest.
        high: i128,
        /// The length of the window.
        len: usize,
    },
    /// There are more accesses than elements in the target.
    #[error("visits elements of a window of {0} more than once")]
    Repeats(usize),
}

/// Loops whose every access is inside of its buffers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Walk {
    pub(crate) from: isize,
    pub(crate) to: isize,
    pub(crate) unit: usize,
    pub(crate) steps: SmallVec<[Step; 8]>,
}

/// Elements of a row that are done before the next row of a tile.
const TILE: u64 = 64;

impl Walk {
    /// Checks loops over elements of `size` bytes that start at byte `from` of a source of `source_len`
    /// bytes and at element `to` of a target of `target_len` elements.
    ///
    /// # Errors
    ///
    /// When an access would be outside of a buffer.
    pub fn new(
        steps: impl IntoIterator<Item = Step>,
        (from, source_len): (i64, usize),
        (to, target_len): (i64, usize),
        size: usize,
    ) -> Result<Walk, WalkError> {
        let mut walk = Walk { from: 0, to: 0, unit: size, steps: SmallVec::new() };
        let (mut source, mut target) = ([from.into(); 2], [to.into(); 2]);
        let mut elements = 1_u64;
        for step in steps {
            match step.count {
                0 => return Ok(Walk { steps: smallvec::smallvec![step], ..walk }),
                1 => continue,
                _ => walk.steps.push(step),
            }
            elements = elements.saturating_mul(step.count);
            reach(&mut source, step.from, step.count);
            reach(&mut target, step.to, step.count);
        }
        let [low, high] = [source[0], source[1].saturating_add(size as i128)];
        if low < 0 || high > source_len as i128 {
            return Err(WalkError::Source { low, high, len: source_len });
        }
        let [low, high] = [target[0], target[1].saturating_add(1)];
        if low < 0 || high > target_len as i128 {
            return Err(WalkError::Target { low, high, len: target_len });
        }
        if elements > target_len as u64 {
            return Err(WalkError::Repeats(target_len));
        }
        (walk.from, walk.to) = (from as isize, to as isize);
        walk.fuse();
        Ok(walk)
    }

    /// The number of elements.
    pub fn elements(&self) -> u64 {
        self.steps.iter().map(|step| step.count).product()
    }

    /// Makes loops one where the inner ends where the next round of the outer begins.
    fn fuse(&mut self) {
        self.steps.sort_by_key(|step| std::cmp::Reverse(step.to.unsigned_abs()));
        let mut fused: SmallVec<[Step; 8]> = SmallVec::new();
        for step in &self.steps {
            let spans = |outer: i64, inner: i64| {
                i128::from(outer) == i128::from(inner) * i128::from(step.count)
            };
            match fused.last_mut() {
                Some(outer) if spans(outer.from, step.from) && spans(outer.to, step.to) => {
                    *outer = Step { count: outer.count * step.count, ..*step };
                }
                _ => fused.push(*step),
            }
        }
        self.steps = fused;
    }

    /// Whether consecutive elements of the innermost loop are neighbours on both sides.
    pub(crate) fn dense(&self) -> bool {
        self.steps.last().is_none_or(|step| step.from == self.unit as i64 && step.to == 1)
    }

    /// The same walk, where a short dense row is one element and targets count bytes.
    pub(crate) fn by_bytes(mut self) -> Walk {
        let size = self.unit;
        self.to *= size as isize;
        if self.dense()
            && let Some(row) = self.steps.last()
            && self.steps.len() > 1
        {
            let bytes = row.count.saturating_mul(size as u64);
            if bytes <= 64 && bytes.is_power_of_two() {
                self.unit = bytes as usize;
                self.steps.pop();
            }
        }
        for step in &mut self.steps {
            step.to *= size as i64;
        }
        self
    }

    /// Calls `row` with (offset in the source, offset in the target, count) for rows along the returned
    /// step; together they are all the elements.
    pub(crate) fn rows(mut self, mut row: impl FnMut(Step, isize, isize)) {
        let Some(mut inner) = self.steps.pop() else {
            row(Step { count: 1, from: self.unit as i64, to: 1 }, self.from, self.to);
            return;
        };
        // A long loop inside costs less than a short one, unless rows are plain copies.
        let plain = inner.from == self.unit as i64;
        if inner.count < 16
            && !plain
            && let Some(longest) = self.steps.iter_mut().max_by_key(|step| step.count)
            && longest.count >= 16
        {
            std::mem::swap(longest, &mut inner);
        }
        // Where rows jump in the source but another loop does not, the two go in tiles, so that each
        // line of the source is used up while it is cached.
        let near = self.steps.iter().enumerate().min_by_key(|(_, step)| step.from.unsigned_abs());
        let tile = near
            .filter(|(_, step)| {
                step.from.unsigned_abs() < inner.from.unsigned_abs()
                    && step.from.unsigned_abs() <= 64
                    && inner.from.unsigned_abs() > 64
            })
            .map(|(index, _)| index);
        let Some(tile) = tile else {
            return odometer(&self.steps, self.from, self.to, &mut |from, to| row(inner, from, to));
        };
        let outer = self.steps.remove(tile);
        let lines = (64 / outer.from.unsigned_abs().max(1)).clamp(4, 64);
        odometer(&self.steps, self.from, self.to, &mut |from, to| {
            for line in (0..outer.count).step_by(lines as usize) {
                for start in (0..inner.count).step_by(TILE as usize) {
                    let part = Step { count: TILE.min(inner.count - start), ..inner };
                    for line in line..outer.count.min(line + lines) {
                        let at = |base: isize, outer: i64, inner: i64| {
                            base + line as isize * outer as isize + start as isize * inner as isize
                        };
                        row(part, at(from, outer.from, inner.from), at(to, outer.to, inner.to));
                    }
                }
            }
        });
    }
}

/// Stretches the lowest and highest start of an access by a loop.
fn reach(range: &mut [i128; 2], stride: i64, count: u64) {
    // Both factors are below 2^64, their product is below 2^127.
    let far = i128::from(stride).saturating_mul(i128::from(count - 1));
    let end = if far < 0 { &mut range[0] } else { &mut range[1] };
    *end = end.saturating_add(far);
}

fn odometer(steps: &[Step], from: isize, to: isize, body: &mut impl FnMut(isize, isize)) {
    match steps {
        [] => body(from, to),
        [step, rest @ ..] => {
            for index in 0..step.count as isize {
                let (from, to) = (from + index * step.from as isize, to + index * step.to as isize);
                odometer(rest, from, to, body);
            }
        }
    }
}
