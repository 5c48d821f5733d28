//! A pickle back into bytes: protocol 2, with the opcodes that `torch.load(weights_only=True)`
//! knows wherever the content allows.
//!
//! Works off a list of steps instead of recursing. A value that is used twice is written once and
//! fetched from the memo; lists, dicts and objects enter the memo before their content, so cycles
//! end there.

use std::collections::HashMap;

use thiserror::Error;

use super::limits::MAX_PICKLE_BYTES;
use super::node::{Global, Made, Node, NodeId, Object, Pair, Storage};
use super::opcode as op;
use super::pickle::Pickle;

/// Why a pickle cannot be written.
#[derive(Debug, Error, PartialEq, Eq)]
pub enum EmitError {
    /// Larger than readers accept.
    #[error("the pickle is too large to be written")]
    TooLarge,
    /// A set or tuple that contains itself directly.
    #[error("a set or tuple contains itself")]
    Cycle,
    /// A storage seen through a view, which only files before torch 1.6 have.
    #[error("storage {0:?} is a view of another, as in files before torch 1.6")]
    View(String),
    /// A line break in the name of a class.
    #[error("{0:?} is not a name of a class")]
    Name(String),
}

/// The bytes of a pickle. Equal pickles give equal bytes.
///
/// # Errors
/// If it contains something protocol 2 has no words for; see [`EmitError`].
pub fn emit(pickle: &Pickle) -> Result<Vec<u8>, EmitError> {
    let root = pickle.root().id();
    let (uses, links) = uses(pickle, root);
    let mut emitter = Emitter {
        pickle,
        out: vec![op::PROTO, 2],
        // Each link is one step, each value at most three more; values that lead back to
        // themselves are entered a few times.
        max_steps: (links + pickle.len()) * 16,
        uses,
        memo: HashMap::new(),
        strings: HashMap::new(),
        globals: HashMap::new(),
        slots: 0,
        steps: vec![Step::Op(op::STOP), Step::Node(root)],
    };
    emitter.run()?;
    Ok(emitter.out)
}

/// How often each node is referred to from what the root reaches: 0, 1, or 2 for more. And the
/// number of references.
fn uses(pickle: &Pickle, root: NodeId) -> (Vec<u8>, usize) {
    let mut uses = vec![0u8; pickle.len()];
    let mut links = 0;
    let mut open = vec![root];
    while let Some(id) = open.pop() {
        links += 1;
        let count = &mut uses[id.index()];
        *count = (*count + 1).min(2);
        if *count == 1 {
            pickle.node(id).for_each_child(|child| open.push(child));
        }
    }
    (uses, links)
}

enum Step {
    Node(NodeId),
    Op(u8),
    /// All parts of a tuple, set or object are on the stack.
    Close(NodeId),
}

struct Emitter<'a> {
    pickle: &'a Pickle,
    out: Vec<u8>,
    uses: Vec<u8>,
    /// Memo slots of nodes that are used more than once.
    memo: HashMap<NodeId, u32>,
    /// Memo slots of strings and names, by content.
    strings: HashMap<&'a str, u32>,
    globals: HashMap<(&'a str, &'a str), u32>,
    slots: u32,
    steps: Vec<Step>,
    max_steps: usize,
}

type Done = Result<(), EmitError>;

impl<'a> Emitter<'a> {
    fn run(&mut self) -> Done {
        while let Some(step) = self.steps.pop() {
            if self.out.len() as u64 > MAX_PICKLE_BYTES {
                return Err(EmitError::TooLarge);
            }
            // Only what contains itself without a list, dict or object between gets here.
            if self.steps.len() > self.max_steps {
                return Err(EmitError::Cycle);
            }
            match step {
                Step::Op(code) => self.out.push(code),
                Step::Node(id) => self.node(id)?,
                Step::Close(id) => self.close(id)?,
            }
        }
        Ok(())
    }

    fn node(&mut self, id: NodeId) -> Done {
        if let Some(slot) = self.memo.get(&id) {
            self.fetch(*slot);
            return Ok(());
        }
        let pickle = self.pickle;
        match pickle.node(id) {
            Node::None => self.out.push(op::NONE),
            Node::Bool(value) => self.out.push(if *value { op::NEWTRUE } else { op::NEWFALSE }),
            Node::Int(value) => self.int(*value),
            Node::BigInt(bytes) => self.big_int(bytes),
            Node::Float(value) => {
                self.out.push(op::BINFLOAT);
                self.out.extend(value.to_be_bytes());
            }
            Node::Str(text) => self.string(text)?,
            Node::RawStr(bytes) => self.sized(op::BINUNICODE, bytes)?,
            Node::Bytes(bytes) => {
                let text: String = bytes.iter().map(|byte| char::from(*byte)).collect();
                self.global("_codecs", "encode")?;
                self.sized(op::BINUNICODE, text.as_bytes())?;
                self.string("latin1")?;
                self.out.extend([op::TUPLE2, op::REDUCE]);
                self.remember(id);
            }
            Node::List(items) => {
                self.out.push(op::EMPTY_LIST);
                self.remember_filled(id, !items.is_empty());
                self.fill(op::APPENDS, items.iter().copied());
            }
            Node::Tuple(items) => {
                if items.len() > 3 {
                    self.out.push(op::MARK);
                }
                self.steps.push(Step::Close(id));
                self.visit(items.iter().copied());
            }
            Node::Dict(dict) => {
                if dict.ordered {
                    self.global("collections", "OrderedDict")?;
                    self.out.extend([op::EMPTY_TUPLE, op::REDUCE]);
                } else {
                    self.out.push(op::EMPTY_DICT);
                }
                self.remember_filled(id, !dict.pairs.is_empty() || dict.state.is_some());
                self.fill_object(&[], &dict.pairs, dict.state);
            }
            Node::Set(set) => {
                self.global("__builtin__", if set.frozen { "frozenset" } else { "set" })?;
                self.out.push(op::EMPTY_LIST);
                self.steps.push(Step::Close(id));
                self.fill(op::APPENDS, set.items.iter().copied());
            }
            Node::Global(global) => self.dotted(global)?,
            Node::Storage(storage) => {
                self.storage(storage)?;
                self.remember(id);
            }
            Node::Tensor(tensor) => self.object(id, &tensor.made),
            Node::Object(object) => self.object(id, object),
        }
        Ok(())
    }

    fn object(&mut self, id: NodeId, object: &Object) {
        self.steps.push(Step::Close(id));
        let keywords = match object.made {
            Made::NewKeywords(keywords) => Some(keywords),
            Made::Call | Made::New => None,
        };
        self.visit([object.class, object.args].into_iter().chain(keywords));
    }

    fn close(&mut self, id: NodeId) -> Done {
        let pickle = self.pickle;
        let object = match pickle.node(id) {
            Node::Tensor(tensor) => Some(&tensor.made),
            Node::Object(object) => Some(&**object),
            _ => None,
        };
        match pickle.node(id) {
            Node::Tuple(items) => self.out.push(match items.len() {
                0 => op::EMPTY_TUPLE,
                1 => op::TUPLE1,
                2 => op::TUPLE2,
                3 => op::TUPLE3,
                _ => op::TUPLE,
            }),
            Node::Set(_) => self.out.extend([op::TUPLE1, op::REDUCE]),
            _ => self.out.push(match object.map(|object| object.made) {
                Some(Made::New) => op::NEWOBJ,
                // Not of protocol 2, but protocol 2 has no other word for it and Python reads it.
                Some(Made::NewKeywords(_)) => op::NEWOBJ_EX,
                Some(Made::Call) | None => op::REDUCE,
            }),
        }
        // A part of it may have led back to it; then it has been written there.
        if let Some(slot) = self.memo.get(&id) {
            self.out.push(op::POP);
            self.fetch(*slot);
            return Ok(());
        }
        self.remember_filled(id, object.is_some_and(Object::is_filled));
        if let Some(object) = object {
            self.fill_object(&object.items, &object.pairs, object.state);
        }
        Ok(())
    }

    /// Plans the content of what is on top of the stack: items, then pairs, then the state.
    fn fill_object(&mut self, items: &[NodeId], pairs: &[Pair], state: Option<NodeId>) {
        if let Some(state) = state {
            self.steps.extend([Step::Op(op::BUILD), Step::Node(state)]);
        }
        for (code, ids) in [
            (op::SETITEMS, pairs.iter().flat_map(|pair| [pair.0, pair.1]).collect::<Vec<_>>()),
            (op::APPENDS, items.to_vec()),
        ] {
            if !ids.is_empty() {
                self.steps.push(Step::Op(code));
                self.visit(ids.into_iter());
                self.steps.push(Step::Op(op::MARK));
            }
        }
    }

    /// Writes a mark and plans the items and the opcode that takes them.
    fn fill(
        &mut self,
        code: u8,
        items: impl DoubleEndedIterator<Item = NodeId> + ExactSizeIterator,
    ) {
        if items.len() > 0 {
            self.out.push(op::MARK);
            self.steps.push(Step::Op(code));
            self.visit(items);
        }
    }

    fn visit(&mut self, ids: impl DoubleEndedIterator<Item = NodeId>) {
        self.steps.extend(ids.rev().map(Step::Node));
    }

    fn storage(&mut self, storage: &'a Storage) -> Done {
        if storage.view.is_some() {
            return Err(EmitError::View(storage.key.to_string()));
        }
        self.out.push(op::MARK);
        self.string("storage")?;
        self.dotted(&storage.class)?;
        self.string(&storage.key)?;
        self.string(&storage.location)?;
        match i64::try_from(storage.numel) {
            Ok(numel) => self.int(numel),
            Err(_) => return Err(EmitError::TooLarge),
        }
        self.out.extend([op::TUPLE, op::BINPERSID]);
        Ok(())
    }

    /// A name; `Class.MEMBER` as `getattr(Class, 'MEMBER')`, since the opcode takes no dots.
    fn dotted(&mut self, global: &'a Global) -> Done {
        let mut parts = global.name.split('.');
        let first = parts.next().unwrap_or_default();
        for _ in parts.clone() {
            self.global("__builtin__", "getattr")?;
        }
        self.global(&global.module, first)?;
        for part in parts {
            self.string(part)?;
            self.out.extend([op::TUPLE2, op::REDUCE]);
        }
        Ok(())
    }

    fn global(&mut self, module: &'a str, name: &'a str) -> Done {
        if let Some(slot) = self.globals.get(&(module, name)) {
            self.fetch(*slot);
            return Ok(());
        }
        let bad = |part: &str| part.is_empty() || part.contains('\n');
        if bad(module) || bad(name) {
            return Err(EmitError::Name(format!("{module} {name}")));
        }
        self.out.push(op::GLOBAL);
        self.out.extend(module.bytes().chain([b'\n']).chain(name.bytes()).chain([b'\n']));
        let slot = self.put();
        self.globals.insert((module, name), slot);
        Ok(())
    }

    fn string(&mut self, text: &'a str) -> Done {
        if let Some(slot) = self.strings.get(text) {
            self.fetch(*slot);
            return Ok(());
        }
        self.sized(op::BINUNICODE, text.as_bytes())?;
        let slot = self.put();
        self.strings.insert(text, slot);
        Ok(())
    }

    fn int(&mut self, value: i64) {
        if let Ok(small) = u8::try_from(value) {
            self.out.extend([op::BININT1, small]);
        } else if let Ok(small) = u16::try_from(value) {
            self.out.push(op::BININT2);
            self.out.extend(small.to_le_bytes());
        } else if let Ok(small) = i32::try_from(value) {
            self.out.push(op::BININT);
            self.out.extend(small.to_le_bytes());
        } else {
            let bytes = value.to_le_bytes();
            // The sign must be seen in the last byte.
            let keep = (4..8).rev().find(|last| {
                let sign = if bytes[last - 1] & 0x80 == 0 { 0x00 } else { 0xff };
                bytes[*last] != sign
            });
            self.big_int(&bytes[..keep.map_or(8, |last| last + 1)]);
        }
    }

    fn big_int(&mut self, bytes: &[u8]) {
        match u8::try_from(bytes.len()) {
            Ok(length) => self.out.extend([op::LONG1, length]),
            Err(_) => {
                self.out.push(op::LONG4);
                self.out.extend((bytes.len() as u32).to_le_bytes());
            }
        }
        self.out.extend(bytes);
    }

    fn sized(&mut self, code: u8, bytes: &[u8]) -> Done {
        let length = u32::try_from(bytes.len()).map_err(|_| EmitError::TooLarge)?;
        self.out.push(code);
        self.out.extend(length.to_le_bytes());
        self.out.extend(bytes);
        Ok(())
    }

    /// What is filled after it is made is where cycles end, so it is remembered in any case.
    fn remember_filled(&mut self, id: NodeId, filled: bool) {
        if filled {
            let slot = self.put();
            self.memo.insert(id, slot);
        } else {
            self.remember(id);
        }
    }

    fn remember(&mut self, id: NodeId) {
        if self.uses[id.index()] > 1 {
            let slot = self.put();
            self.memo.insert(id, slot);
        }
    }

    fn put(&mut self) -> u32 {
        let slot = self.slots;
        self.slots += 1;
        self.slot(op::BINPUT, op::LONG_BINPUT, slot);
        slot
    }

    fn fetch(&mut self, slot: u32) {
        self.slot(op::BINGET, op::LONG_BINGET, slot);
    }

    fn slot(&mut self, short: u8, long: u8, slot: u32) {
        match u8::try_from(slot) {
            Ok(slot) => self.out.extend([short, slot]),
            Err(_) => {
                self.out.push(long);
                self.out.extend(slot.to_le_bytes());
            }
        }
    }
}
