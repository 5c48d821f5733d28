//! The form before torch 1.6: pickles one after another, then the storages.
//!
//! In order: a magic number, a protocol number, a dict about the machine, the object, the list of
//! storage keys; then for each key an int64 count of elements and the elements.

use std::collections::HashMap;

use indexmap::IndexMap;

use super::cursor::Cursor;
use super::error::TorchErrorKind;
use super::extent::StorageExtent;
use super::machine;
use super::node::{Element, Node};
use super::pickle::Pickle;
use super::source::Source;
use super::zip::Parts;

/// The magic number, little-endian, as its pickle holds it.
pub(super) const MAGIC: [u8; 10] = [0x6c, 0xfc, 0x9c, 0x46, 0xf9, 0x20, 0x6a, 0xa8, 0x50, 0x19];
const PROTOCOL: i64 = 1001;

pub(super) fn read(source: &Source<'_>) -> Result<Parts, TorchErrorKind> {
    let mut cursor = Cursor::stream(source);
    let magic = part(&mut cursor, "magic number")?;
    let is_magic = matches!(magic.root().node(), Node::BigInt(bytes) if **bytes == MAGIC);
    if !is_magic {
        return Err(TorchErrorKind::PlainPickle);
    }
    let protocol = part(&mut cursor, "protocol number")?;
    if protocol.root().as_i64() != Some(PROTOCOL) {
        return Err(wrong("", "its protocol is not 1001"));
    }
    let machine = part(&mut cursor, "sys_info")?;
    let little = machine.root().get("little_endian").and_then(|value| value.as_bool());
    if little == Some(false) {
        return Err(TorchErrorKind::ByteOrder("sys_info".to_owned()));
    }
    let pickle = part(&mut cursor, "object")?;
    let keys = part(&mut cursor, "storage keys")?;
    let storages = storages(source, cursor.position(), &pickle, &keys)?;
    Ok(Parts { value: pickle, storages, saved_as: None })
}

fn part(cursor: &mut Cursor<'_>, what: &str) -> Result<Pickle, TorchErrorKind> {
    machine::read(cursor).map_err(|error| TorchErrorKind::Pickle { entry: what.to_owned(), error })
}

fn wrong(key: &str, what: &'static str) -> TorchErrorKind {
    TorchErrorKind::Legacy { key: key.to_owned(), what }
}

fn storages(
    source: &Source<'_>,
    start: u64,
    pickle: &Pickle,
    keys: &Pickle,
) -> Result<IndexMap<String, StorageExtent>, TorchErrorKind> {
    let mut elements: HashMap<&str, Element> = HashMap::new();
    for node in pickle.nodes() {
        if let Node::Storage(storage) = node {
            elements.entry(&storage.key).or_insert(storage.element);
        }
    }
    let mut found = IndexMap::new();
    let mut position = start;
    for key in keys.root().as_list().ok_or(wrong("", "its keys are not a list"))? {
        let key = match (key.as_str(), key.as_i64()) {
            (Some(key), _) => key.to_owned(),
            (None, Some(number)) => number.to_string(),
            _ => return Err(wrong("", "a key is not a string")),
        };
        let Some(element) = elements.get(&*key) else {
            return Err(wrong(&key, "no tensor uses it, so its type is not known"));
        };
        let unit = element.size_bytes().ok_or(wrong(&key, "its element type is not known"))?;
        let count = source.read(position, 8).map_err(|_| wrong(&key, "the file ends before it"))?;
        let count = count.try_into().map(u64::from_le_bytes).unwrap_or(u64::MAX);
        let offset = position + 8;
        let len = count.checked_mul(unit).filter(|len| *len <= source.len() - offset);
        let len = len.ok_or(wrong(&key, "the file ends inside it"))?;
        position = offset + len;
        let extent = StorageExtent { offset: source.base() + offset, len, crc32: None };
        if found.insert(key.clone(), extent).is_some() {
            return Err(wrong(&key, "it is listed twice"));
        }
    }
    if position != source.len() {
        return Err(wrong("", "bytes follow the last storage"));
    }
    Ok(found)
}
