//! Tensors that tensor ranks hold in a way that a spec has no form for, put together in the inventory
//! before any spec sees it.

use super::affine::Map;
use super::counted;
use super::cut::{Found, Merge, Ranks, Used, decide};
use super::info::Info;
use super::tiles::{Tile, Tiling, tiling};
use super::{INFO, listed, tensors, text};
use std::collections::{BTreeMap, BTreeSet};
use ucl_formats::Inventory;
use ucl_formats::inventory::{Chunk, Data, FileId, Mesh, Stored, row_major};

/// A state of a tensor is in no more boxes of files.
const MOST_CHUNKS: usize = 1 << 19;

/// The axis that is undone.
const AXIS: &str = "tp";

/// The names of tensors that [`lay`] put together: DeepSpeed stores none in boxes.
pub(super) fn laid(inventory: &Inventory) -> BTreeSet<&str> {
    let boxes = inventory.tensors.iter().filter(|stored| matches!(stored.data, Data::Boxes(_)));
    boxes.map(|stored| stored.name.as_str()).collect()
}

/// Whether a tensor is one to put together.
pub(super) fn is_meant(found: &Found) -> bool {
    match &found.merge {
        Merge::Laid(_) => true,
        Merge::Cut(cut) => !text::holds(cut, found.rows),
        Merge::Replicated | Merge::Average => false,
    }
}

/// Puts together what a spec can't. What contradicts itself stays as it is, and says so when it is asked
/// for. Gives a sentence about what was done.
pub fn lay(inventory: &mut Inventory) -> Option<String> {
    let info = Info::read(inventory.documents.get(INFO)?).ok()?;
    let mut done: BTreeMap<String, Vec<Stored>> = BTreeMap::new();
    for (name, (shapes, _)) in &tensors(inventory).0 {
        let tensor = Ranks { name, shapes, laid: false };
        let Ok(found) = decide(&info, &tensor, &mut Used::default()) else { continue };
        if let Some(Ok(whole)) = is_meant(&found).then(|| placed(inventory, name, shapes, found)) {
            done.insert(name.clone(), whole);
        }
    }
    if done.is_empty() {
        return None;
    }
    let names: Vec<String> = done.keys().map(|name| format!("{name:?}")).collect();
    let before = std::mem::take(&mut inventory.tensors);
    for stored in before {
        match done.get_mut(&stored.name) {
            // All of a name's at the place of its first.
            Some(whole) => inventory.tensors.append(whole),
            None => inventory.tensors.push(stored),
        }
    }
    let (count, verb) =
        (counted(names.len(), "parameter"), if names.len() == 1 { "lies" } else { "lie" });
    Some(format!(
        "{count} {verb} on the tensor ranks in a way that a spec has no form for: {}. `universal_checkpoint_info` says which element lies where; they are put together by that, and every spec sees them whole",
        listed(&names)
    ))
}

/// Why a tensor that is to be put together was not.
pub(super) fn why_not(
    inventory: &Inventory,
    name: &str,
    shapes: &[Vec<u64>],
    found: Found,
) -> String {
    let again = "it was not put together";
    placed(inventory, name, shapes, found).err().unwrap_or_else(|| again.to_owned())
}

/// By state and place, what each tensor rank holds.
type States<'a> = Vec<((&'a str, Mesh), BTreeMap<u64, &'a Stored>)>;

/// What a tensor is, whole, in all its states.
fn placed(
    inventory: &Inventory,
    name: &str,
    shapes: &[Vec<u64>],
    found: Found,
) -> Result<Vec<Stored>, String> {
    let map = match found.merge {
        Merge::Laid(map) => map,
        Merge::Cut(cut) => shapes
            .first()
            .and_then(|shape| Map::of(&cut, shape))
            .ok_or_else(|| format!("its parts {:?} are too large", cut.parts))?,
        Merge::Replicated | Merge::Average => return Err("it is whole on every rank".to_owned()),
    };
    let tiling = tiling(&map)?;
    let mut states: States<'_> = Vec::new();
    for stored in inventory.tensors.iter().filter(|stored| stored.name == name) {
        let mut at = stored.at.clone();
        let rank = at.shift_remove(AXIS).unwrap_or(0);
        let key = (stored.state.as_str(), at);
        let position = states.iter().position(|(known, _)| *known == key);
        let position = position.unwrap_or_else(|| {
            states.push((key, BTreeMap::new()));
            states.len() - 1
        });
        if states[position].1.insert(rank, stored).is_some() {
            return Err(format!("tp={rank} has its state `{}` twice", stored.state));
        }
    }
    let mut out = Vec::new();
    for ((state, at), ranks) in states {
        if !ranks.keys().copied().eq(0..map.parts.len() as u64) {
            return Err(format!("its state `{state}` is not on every tensor rank"));
        }
        let ranks: Vec<&Stored> = ranks.into_values().collect();
        out.extend(whole(&map, &tiling, &ranks, &at)?);
    }
    Ok(out)
}

/// One state: what counts, then what ranks hold a second time.
fn whole(map: &Map, tiling: &Tiling, ranks: &[&Stored], at: &Mesh) -> Result<Vec<Stored>, String> {
    let Some(first) = ranks.first() else { return Ok(Vec::new()) };
    if let Some(other) = ranks.iter().find(|other| other.dtype != first.dtype) {
        return Err(format!(
            "its state `{}` is {} on tp=0 and {} elsewhere",
            first.state,
            first.dtype.name(),
            other.dtype.name()
        ));
    }
    let spans: Vec<Vec<Span>> =
        ranks.iter().map(|stored| spans(stored)).collect::<Result<_, _>>()?;
    let size = first.dtype.size_bytes();
    let chunks = |tiles: &mut dyn Iterator<Item = &(usize, Tile)>| -> Result<Vec<Chunk>, String> {
        let mut chunks = Vec::new();
        for (rank, tile) in tiles {
            cut(tile, spans.get(*rank).map_or(&[], Vec::as_slice), size, &mut chunks)?;
        }
        Ok(chunks)
    };
    let stored = |rank: usize, boxes: Vec<Chunk>| {
        let mut at = at.clone();
        at.insert(AXIS.to_owned(), rank as u64);
        let (shape, data) = (map.logical.clone(), Data::Boxes(boxes));
        Stored { shape, at, data, ..Stored::clone(first) }
    };
    // What counts bears the first rank's number, as a copy that counts does.
    let mut out = vec![stored(0, chunks(&mut tiling.first.iter())?)];
    let ranks: BTreeSet<usize> = tiling.copies.iter().map(|(rank, _)| *rank).collect();
    for rank in ranks {
        let own = chunks(&mut tiling.copies.iter().filter(|(of, _)| *of == rank))?;
        out.push(stored(rank, own));
    }
    Ok(out)
}

/// Consecutive elements of a part's row-major order, at steps in a file.
struct Span {
    start: u64,
    len: u64,
    file: FileId,
    offset: u64,
    step: i64,
}

/// Where a part's elements are, ascending.
fn spans(stored: &Stored) -> Result<Vec<Span>, String> {
    let size = stored.dtype.size_bytes();
    match &stored.data {
        Data::Runs(runs) => {
            let span = |run: &ucl_formats::inventory::Run| Span {
                start: run.start,
                len: run.len,
                file: run.file,
                offset: run.offset,
                step: 1,
            };
            Ok(runs.iter().map(span).collect())
        }
        Data::Boxes(_) => Err("it is stored in boxes already".to_owned()),
        Data::Strided { file, offset, strides } => {
            let shape = &stored.shape;
            let elements: u64 = shape.iter().product();
            let dense = row_major(shape);
            let is_dense =
                (0..shape.len()).all(|dim| shape[dim] == 1 || strides[dim] == dense[dim]);
            if is_dense || elements == 0 {
                return Ok(vec![Span {
                    start: 0,
                    len: elements,
                    file: *file,
                    offset: *offset,
                    step: 1,
                }]);
            }
            // A transpose, or a view with holes: row by row.
            let (Some(len), Some(step)) = (shape.last().copied(), strides.last().copied()) else {
                return Ok(Vec::new());
            };
            let rows = elements / len;
            if rows > MOST_CHUNKS as u64 {
                return Err(format!("it is stored in {rows} rows that do not lie together"));
            }
            let span = |row: u64| {
                let (mut rest, mut at) = (row, 0_i64);
                for dim in (0..shape.len() - 1).rev() {
                    at += (rest % shape[dim]) as i64 * strides[dim];
                    rest /= shape[dim];
                }
                let offset = offset.saturating_add_signed(at * size as i64);
                Span { start: row * len, len, file: *file, offset, step }
            };
            Ok((0..rows).map(span).collect())
        }
    }
}

/// Cuts a box where the file ends what lies together.
fn cut(tile: &Tile, spans: &[Span], size: u64, out: &mut Vec<Chunk>) -> Result<(), String> {
    let last = tile.dest + tile.reach();
    let from = spans.partition_point(|span| span.start + span.len <= tile.dest);
    for span in spans[from..].iter().take_while(|span| span.start <= last) {
        let mut inside = Vec::new();
        within(tile.clone(), span.start, span.start + span.len, &mut inside);
        for tile in inside {
            if out.len() >= MOST_CHUNKS {
                return Err(format!("it lies in the files in more than {MOST_CHUNKS} boxes"));
            }
            let by = |stride: &u64| (*stride as i64).saturating_mul(span.step);
            let start = (tile.dest - span.start) * size * span.step.unsigned_abs();
            out.push(Chunk {
                strides: tile.strides.iter().map(by).collect(),
                offset: span.offset + start,
                offsets: tile.offsets,
                shape: tile.shape,
                file: span.file,
            });
        }
    }
    Ok(())
}

impl Tile {
    /// From its first to its last element in the part.
    fn reach(&self) -> u64 {
        self.shape.iter().zip(&self.strides).map(|(size, by)| (size - 1) * by).sum()
    }
}

/// The boxes of those elements of a box whose places are in `a..b`.
fn within(tile: Tile, a: u64, b: u64, out: &mut Vec<Tile>) {
    let (lo, reach) = (tile.dest, tile.reach());
    if lo + reach < a || lo >= b {
        return;
    }
    if lo >= a && lo + reach < b {
        return out.push(tile);
    }
    let dims = (0..tile.shape.len()).filter(|dim| tile.shape[*dim] > 1);
    let Some(dim) = dims.max_by_key(|dim| tile.strides[*dim]) else { return };
    let (count, by, first) = (tile.shape[dim], tile.strides[dim].max(1), tile.offsets[dim]);
    let inner = reach - (count - 1) * by;
    // Indices that lie inside, and those that meet it.
    let inside_from = a.saturating_sub(lo).div_ceil(by).min(count);
    let inside_to = b.saturating_sub(lo + inner).div_ceil(by).min(count);
    let meets_from = a.saturating_sub(lo + inner).div_ceil(by).min(count);
    let meets_to = b.saturating_sub(lo).div_ceil(by).min(count);
    let mut edges: Vec<u64> = Vec::new();
    if inside_from < inside_to {
        edges.extend((meets_from..inside_from).chain(inside_to..meets_to));
        out.push(tile.narrow(dim, first + inside_from, first + inside_to));
    } else {
        edges.extend(meets_from..meets_to);
    }
    for index in edges {
        within(tile.narrow(dim, first + index, first + index + 1), a, b, out);
    }
}
