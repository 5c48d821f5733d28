//! A plan made by hand, and what it must come to, one element at a time.

#![allow(dead_code, unreachable_pub, clippy::unwrap_used)]

use std::ops::Range;
use std::path::PathBuf;

use smallvec::SmallVec;
use ucl_exec::{Outcome, SmallFiles};
use ucl_plan::{Check, Loop, Move, MoveRole, TargetFile, TargetTensor, Work};
use ucl_tensor::{DType, cast};

/// A move of a box of a whole tensor.
#[derive(Clone, Debug)]
pub struct Piece {
    pub role: MoveRole,
    pub source: usize,
    pub dtype: DType,
    /// The byte in the source of the first element of the box.
    pub from: i64,
    /// Bytes in the source from one element to the next, by dim.
    pub strides: Vec<i64>,
    /// The box in the tensor.
    pub ranges: Vec<Range<u64>>,
    pub scale: f64,
    pub shift: f64,
}

impl Piece {
    /// A write of a whole tensor from a dense source.
    pub fn dense(source: usize, from: u64, dtype: DType, shape: &[u64]) -> Piece {
        let mut stride = dtype.size_bytes() as i64;
        let mut strides: Vec<i64> = Vec::new();
        for len in shape.iter().rev() {
            strides.insert(0, stride);
            stride *= *len as i64;
        }
        Piece {
            role: MoveRole::Write,
            source,
            dtype,
            from: from as i64,
            strides,
            ranges: shape.iter().map(|len| 0..*len).collect(),
            scale: 1.0,
            shift: 0.0,
        }
    }
}

#[derive(Default)]
pub struct FakeWork {
    pub sources: Vec<PathBuf>,
    pub files: Vec<TargetFile>,
    pub tensors: Vec<TargetTensor>,
    pub checks: Vec<Check>,
    pub pieces: Vec<Vec<Piece>>,
}

impl FakeWork {
    /// Adds a tensor at the end of the last file.
    pub fn tensor(&mut self, dtype: DType, shape: &[u64], pieces: Vec<Piece>) {
        let file = self.files.len() - 1;
        let mut tensor = TargetTensor {
            name: format!("t{}", self.tensors.len()),
            state: "fp32".to_owned(),
            dtype,
            shape: shape.to_vec(),
            file,
            offset: self.files[file].len,
        };
        self.files[file].len += tensor.len() * dtype.size_bytes();
        tensor.file = file;
        self.tensors.push(tensor);
        self.pieces.push(pieces);
    }

    pub fn file(&mut self, path: &str, header: &[u8]) {
        self.files.push(TargetFile {
            path: path.to_owned(),
            len: header.len() as u64,
            fixed: vec![(0, header.to_vec())],
            sealed: false,
        });
    }

    /// The bytes of the files, by single steps.
    pub fn expected(&self) -> Vec<Vec<u8>> {
        let sources: Vec<Vec<u8>> =
            self.sources.iter().map(|path| std::fs::read(path).unwrap()).collect();
        let mut files: Vec<Vec<u8>> = self
            .files
            .iter()
            .map(|file| {
                let mut bytes = vec![0; file.len as usize];
                for (offset, fixed) in &file.fixed {
                    bytes[*offset as usize..][..fixed.len()].copy_from_slice(fixed);
                }
                bytes
            })
            .collect();
        for (tensor, pieces) in self.tensors.iter().zip(&self.pieces) {
            let size = tensor.dtype.size_bytes() as usize;
            let mut sums = vec![None; tensor.len() as usize];
            for piece in pieces {
                for (element, from) in visits(piece, &tensor.shape) {
                    let stored = match sources.get(piece.source) {
                        Some(source) => &source[from..][..piece.dtype.size_bytes() as usize],
                        None => &[],
                    };
                    let out =
                        &mut files[tensor.file][tensor.offset as usize + element * size..][..size];
                    match piece.role {
                        MoveRole::Write if piece.scale == 1.0 && piece.shift == 0.0 => {
                            cast(piece.dtype, stored, tensor.dtype, out).unwrap();
                        }
                        MoveRole::Write => {
                            let value = (wide(piece.dtype, stored) - piece.shift) / piece.scale;
                            cast(DType::F64, &value.to_le_bytes(), tensor.dtype, out).unwrap();
                        }
                        MoveRole::Average(count, _) => {
                            let (sum, _) = sums[element].unwrap_or((0.0, count));
                            sums[element] = Some((sum + wide(piece.dtype, stored), count));
                        }
                        MoveRole::Sum => {
                            let (sum, _) = sums[element].unwrap_or((0.0, 1));
                            sums[element] = Some((sum + wide(piece.dtype, stored), 1));
                        }
                        // The fakes have none: products have tests of their own, against numpy.
                        MoveRole::Product(_) => panic!("a fake without products"),
                        MoveRole::Synth(seed) => {
                            let mut made = [0; 4];
                            ucl_tensor::synth(seed, from as u64, 1, DType::F32, &mut made).unwrap();
                            cast(DType::F32, &made, tensor.dtype, out).unwrap();
                        }
                        MoveRole::Equal(_) | MoveRole::Rounded(_) => {}
                    }
                }
            }
            for (element, sum) in sums.into_iter().enumerate() {
                let Some((sum, count)) = sum else { continue };
                let out =
                    &mut files[tensor.file][tensor.offset as usize + element * size..][..size];
                let mean: f64 = sum / f64::from(count);
                cast(DType::F64, &mean.to_le_bytes(), tensor.dtype, out).unwrap();
            }
        }
        files
    }
}

fn wide(dtype: DType, bytes: &[u8]) -> f64 {
    let mut out = [0; 8];
    cast(dtype, bytes, DType::F64, &mut out).unwrap();
    f64::from_le_bytes(out)
}

/// (element of the tensor, byte of the source) of every element of a piece.
fn visits(piece: &Piece, shape: &[u64]) -> Vec<(usize, usize)> {
    let mut at = vec![(0_u64, piece.from)];
    for ((range, stride), len) in piece.ranges.iter().zip(&piece.strides).zip(shape) {
        at = at
            .iter()
            .flat_map(|(element, from)| {
                range.clone().map(move |index| {
                    (element * len + index, from + (index - range.start) as i64 * stride)
                })
            })
            .collect();
    }
    at.into_iter().map(|(element, from)| (element as usize, from as usize)).collect()
}

impl Work for FakeWork {
    fn sources(&self) -> &[PathBuf] {
        &self.sources
    }
    fn files(&self) -> &[TargetFile] {
        &self.files
    }
    fn tensors(&self) -> &[TargetTensor] {
        &self.tensors
    }
    fn checks(&self) -> &[Check] {
        &self.checks
    }
    fn window(&self, tensor: usize, elements: Range<u64>) -> Vec<Move> {
        let shape = &self.tensors[tensor].shape;
        let mut moves = Vec::new();
        for piece in &self.pieces[tensor] {
            for part in boxes(shape, elements.start, elements.end) {
                moves.extend(meet(piece, shape, &part, elements.start));
            }
        }
        moves.sort_by_key(|step| matches!(step.role, MoveRole::Equal(_) | MoveRole::Rounded(_)));
        moves
    }
}

/// The part of a piece in a box, over a window that starts at an element.
fn meet(piece: &Piece, shape: &[u64], part: &[Range<u64>], start: u64) -> Option<Move> {
    let (mut from, mut to) = (piece.from, 0_i64);
    let mut loops: SmallVec<[Loop; 6]> = SmallVec::new();
    let mut row = 1;
    let mut strides = vec![0; shape.len()];
    for (stride, len) in strides.iter_mut().zip(shape).rev() {
        *stride = row;
        row *= *len as i64;
    }
    for dim in 0..shape.len() {
        let (mine, window) = (&piece.ranges[dim], &part[dim]);
        let (low, high) = (mine.start.max(window.start), mine.end.min(window.end));
        if low >= high {
            return None;
        }
        from += (low - mine.start) as i64 * piece.strides[dim];
        to += low as i64 * strides[dim];
        loops.push(Loop { count: high - low, from: piece.strides[dim], to: strides[dim] });
    }
    // Adjacent dims that are dense on both sides are one.
    let mut fused: SmallVec<[Loop; 6]> = SmallVec::new();
    for one in loops {
        match fused.last_mut() {
            Some(outer)
                if outer.from == one.from * one.count as i64
                    && outer.to == one.to * one.count as i64 =>
            {
                *outer = Loop { count: outer.count * one.count, ..one };
            }
            _ => fused.push(one),
        }
    }
    Some(Move {
        role: piece.role,
        source: piece.source,
        dtype: piece.dtype,
        from: from as u64,
        to: (to - start as i64) as u64,
        loops: fused,
        scale: piece.scale,
        shift: piece.shift,
    })
}

/// The boxes that a range of row-major numbers is made of.
fn boxes(shape: &[u64], low: u64, high: u64) -> Vec<Vec<Range<u64>>> {
    if low >= high {
        return Vec::new();
    }
    let Some((_, rest)) = shape.split_first() else { return vec![Vec::new()] };
    let row: u64 = rest.iter().product();
    let with = |index: u64, inner: Vec<Vec<Range<u64>>>| {
        inner.into_iter().map(move |part| ahead(index..index + 1, part))
    };
    let (first, last, before, after) = (low / row, high / row, low % row, high % row);
    if first == last {
        return with(first, boxes(rest, before, after)).collect();
    }
    let mut all = Vec::new();
    let mut begin = first;
    if before > 0 {
        all.extend(with(first, boxes(rest, before, row)));
        begin += 1;
    }
    if begin < last {
        let full: Vec<Range<u64>> = rest.iter().map(|len| 0..*len).collect();
        all.push(ahead(begin..last, full));
    }
    if after > 0 {
        all.extend(with(last, boxes(rest, 0, after)));
    }
    all
}

fn ahead(first: Range<u64>, mut rest: Vec<Range<u64>>) -> Vec<Range<u64>> {
    rest.insert(0, first);
    rest
}

/// A generator of test cases, the same in every run.
pub struct Random(pub u64);

impl Random {
    pub fn below(&mut self, limit: u64) -> u64 {
        self.0 =
            self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % limit
    }

    pub fn bytes(&mut self, len: usize) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(len + 8);
        while bytes.len() < len {
            bytes.extend((self.below(1 << 31) as u32).to_le_bytes());
        }
        bytes.truncate(len);
        bytes
    }

    /// F32 values of ordinary size.
    pub fn floats(&mut self, len: usize) -> Vec<u8> {
        (0..len).flat_map(|_| (self.below(2001) as f32 / 100.0 - 10.0).to_le_bytes()).collect()
    }
}

/// Adds no file.
pub fn nothing(_: &Outcome) -> SmallFiles {
    Ok(Vec::new())
}
