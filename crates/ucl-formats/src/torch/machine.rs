//! The pickle machine, on data: each opcode makes or fills a node, none calls anything.

use std::collections::HashMap;

use super::cursor::Cursor;
use super::error::{PickleError, PickleProblem};
use super::limits::{MAX_FOLDED_BYTES, MAX_INTEGER_BYTES, MAX_NODES, MAX_OPS};
use super::node::{Dict, Made, Node, NodeId, Object, Pair, Set};
use super::opcode as op;
use super::pickle::Pickle;
use super::{fold, keys, text};

/// Reads one pickle; the cursor is left behind its STOP.
pub(super) fn read(cursor: &mut Cursor<'_>) -> Result<Pickle, PickleError> {
    let start = cursor.position();
    let mut machine = Machine::new();
    let mut offset = 0;
    let mut code = None;
    let outcome = machine.run(cursor, &mut |at, byte| (offset, code) = (at - start, Some(byte)));
    outcome.map_err(|kind| {
        let op = code.map_or("none", |code| op::name(code).unwrap_or("unknown"));
        PickleError { offset, op, kind }
    })?;
    Ok(machine.pickle)
}

pub(super) struct Machine {
    pub(super) pickle: Pickle,
    stack: Vec<NodeId>,
    /// Stack heights at the open marks.
    marks: Vec<usize>,
    memo: HashMap<u32, NodeId>,
    /// Bytes copied by folding.
    folded: u64,
}

type Done = Result<(), PickleProblem>;

impl Machine {
    fn new() -> Machine {
        let (pickle, memo) = (Pickle::new(), HashMap::new());
        Machine { pickle, stack: Vec::new(), marks: Vec::new(), memo, folded: 0 }
    }

    fn run(&mut self, cursor: &mut Cursor<'_>, trace: &mut dyn FnMut(u64, u8)) -> Done {
        for _ in 0..MAX_OPS {
            let at = cursor.position();
            let code = cursor.byte()?;
            trace(at, code);
            if code == op::STOP {
                let root = self.pop()?;
                if !self.stack.is_empty() || !self.marks.is_empty() {
                    return Err(PickleProblem::Stack);
                }
                self.pickle.set_root(root);
                return keys::check(&self.pickle);
            }
            self.step(code, cursor)?;
        }
        Err(PickleProblem::Limit { what: "opcodes", limit: MAX_OPS })
    }

    fn step(&mut self, code: u8, cursor: &mut Cursor<'_>) -> Done {
        match code {
            op::PROTO => match cursor.byte()? {
                0..=5 => Ok(()),
                newer => Err(PickleProblem::Protocol(newer)),
            },
            op::FRAME => {
                let (needed, left) = (cursor.u64()?, cursor.left());
                if needed > left { Err(PickleProblem::End { needed, left }) } else { Ok(()) }
            }
            op::NONE => self.known(self.pickle.none()),
            op::NEWTRUE => self.known(self.pickle.bool(true)),
            op::NEWFALSE => self.known(self.pickle.bool(false)),
            op::MARK => {
                self.marks.push(self.stack.len());
                Ok(())
            }
            op::POP => {
                if self.marks.last() == Some(&self.stack.len()) {
                    self.marks.pop();
                    return Ok(());
                }
                self.pop().map(drop)
            }
            op::POP_MARK => self.pop_mark().map(drop),
            op::DUP => {
                let top = self.top()?;
                self.known(top)
            }
            op::EXT1 | op::EXT2 | op::EXT4 => Err(PickleProblem::Refused("extension codes")),
            op::NEXT_BUFFER | op::READONLY_BUFFER => {
                Err(PickleProblem::Refused("out-of-band buffers"))
            }
            op::PERSID => Err(PickleProblem::Refused("persistent ids in text")),
            _ => self.step_scalar(code, cursor),
        }
    }

    fn step_scalar(&mut self, code: u8, cursor: &mut Cursor<'_>) -> Done {
        let node = match code {
            op::BININT => Node::Int(i64::from(i32::from_le_bytes(cursor.array()?))),
            op::BININT1 => Node::Int(i64::from(cursor.byte()?)),
            op::BININT2 => Node::Int(i64::from(u16::from_le_bytes(cursor.array()?))),
            op::LONG1 | op::LONG4 => {
                let length =
                    if code == op::LONG1 { u64::from(cursor.byte()?) } else { cursor.u32()? };
                if length > MAX_INTEGER_BYTES {
                    let what = "bytes in an integer";
                    return Err(PickleProblem::Limit { what, limit: MAX_INTEGER_BYTES });
                }
                text::integer(cursor.take(length)?)
            }
            op::BINFLOAT => Node::Float(f64::from_be_bytes(cursor.array()?)),
            op::SHORT_BINUNICODE | op::BINUNICODE | op::BINUNICODE8 => {
                let length = match code {
                    op::SHORT_BINUNICODE => u64::from(cursor.byte()?),
                    op::BINUNICODE => cursor.u32()?,
                    _ => cursor.u64()?,
                };
                text::string(cursor.take(length)?)
            }
            // A string of Python 2: text if it can be.
            op::SHORT_BINSTRING | op::BINSTRING => {
                let short = code == op::SHORT_BINSTRING;
                let length = if short { u64::from(cursor.byte()?) } else { cursor.u32()? };
                text::old_string(cursor.take(length)?)
            }
            op::SHORT_BINBYTES | op::BINBYTES | op::BINBYTES8 | op::BYTEARRAY8 => {
                let length = match code {
                    op::SHORT_BINBYTES => u64::from(cursor.byte()?),
                    op::BINBYTES => cursor.u32()?,
                    _ => cursor.u64()?,
                };
                let bytes = Node::Bytes(cursor.take(length)?.into());
                if code == op::BYTEARRAY8 {
                    let bytes = self.pickle.push(bytes);
                    let made = self.pickle.call("__builtin__", "bytearray", &[bytes]);
                    return self.known(made);
                }
                bytes
            }
            op::INT => text::int_line(cursor.line()?)?,
            op::LONG => text::long_line(cursor.line()?)?,
            op::FLOAT => text::float_line(cursor.line()?)?,
            op::STRING => text::string_line(cursor.line()?)?,
            op::UNICODE => text::unicode_line(cursor.line()?)?,
            op::GLOBAL => {
                let module = cursor.line()?.to_vec();
                Node::Global(text::global(&module, cursor.line()?)?)
            }
            _ => return self.step_memo(code, cursor),
        };
        self.make(node)
    }

    fn step_memo(&mut self, code: u8, cursor: &mut Cursor<'_>) -> Done {
        match code {
            op::PUT | op::BINPUT | op::LONG_BINPUT | op::MEMOIZE => {
                let slot = match code {
                    op::PUT => text::memo_line(cursor.line()?)?,
                    op::BINPUT => u32::from(cursor.byte()?),
                    op::LONG_BINPUT => u32::from_le_bytes(cursor.array()?),
                    _ => self.memo.len() as u32,
                };
                let top = self.top()?;
                self.memo.insert(slot, top);
                Ok(())
            }
            op::GET | op::BINGET | op::LONG_BINGET => {
                let slot = match code {
                    op::GET => text::memo_line(cursor.line()?)?,
                    op::BINGET => u32::from(cursor.byte()?),
                    _ => u32::from_le_bytes(cursor.array()?),
                };
                let found = self.memo.get(&slot).copied();
                self.known(found.ok_or(PickleProblem::Memo(u64::from(slot)))?)
            }
            _ => self.step_container(code, cursor),
        }
    }

    fn step_container(&mut self, code: u8, cursor: &mut Cursor<'_>) -> Done {
        match code {
            op::EMPTY_LIST => self.make(Node::List(Vec::new())),
            op::EMPTY_TUPLE => self.make(Node::Tuple(Box::new([]))),
            op::EMPTY_DICT => self.make(Node::Dict(Dict::default())),
            op::EMPTY_SET => self.make(Node::Set(Set::default())),
            op::LIST => {
                let items = self.pop_mark()?;
                self.make(Node::List(items))
            }
            op::TUPLE => {
                let items = self.pop_mark()?;
                self.make(Node::Tuple(items.into()))
            }
            op::TUPLE1 | op::TUPLE2 | op::TUPLE3 => {
                let items = self.pop_many(usize::from(code - op::TUPLE1) + 1)?;
                self.make(Node::Tuple(items.into()))
            }
            op::DICT => {
                let pairs = in_pairs(self.pop_mark()?)?;
                self.make(Node::Dict(Dict { pairs, ..Dict::default() }))
            }
            op::FROZENSET => {
                let items = self.pop_mark()?;
                self.make(Node::Set(Set { items, frozen: true }))
            }
            op::APPEND | op::APPENDS | op::ADDITEMS => {
                let items = if code == op::APPEND { vec![self.pop()?] } else { self.pop_mark()? };
                let target = self.top()?;
                match self.pickle.node_mut(target) {
                    Node::List(list) if code != op::ADDITEMS => list.extend(items),
                    Node::Set(set) if code == op::ADDITEMS && !set.frozen => {
                        set.items.extend(items);
                    }
                    Node::Object(object) => object.items.extend(items),
                    other => return Err(wrong("a list, a set or an object", other)),
                }
                Ok(())
            }
            op::SETITEM | op::SETITEMS => {
                let flat = if code == op::SETITEM { self.pop_many(2)? } else { self.pop_mark()? };
                let pairs = in_pairs(flat)?;
                let target = self.top()?;
                match self.pickle.node_mut(target) {
                    Node::Dict(dict) => dict.pairs.extend(pairs),
                    Node::Object(object) => object.pairs.extend(pairs),
                    other => return Err(wrong("a dict or an object", other)),
                }
                Ok(())
            }
            _ => self.step_object(code, cursor),
        }
    }

    fn step_object(&mut self, code: u8, cursor: &mut Cursor<'_>) -> Done {
        match code {
            op::STACK_GLOBAL => {
                let both = self.pop_many(2)?;
                let (Node::Str(module), Node::Str(name)) =
                    (self.pickle.node(both[0]), self.pickle.node(both[1]))
                else {
                    let found = self.pickle.node(both[0]).kind();
                    return Err(PickleProblem::Type { expected: "two strings", found });
                };
                let global = text::global(module.as_bytes(), name.as_bytes())?;
                self.make(Node::Global(global))
            }
            op::BINPERSID => {
                let id = self.pop()?;
                let storage = fold::storage(&self.pickle, id)?;
                self.make(Node::Storage(storage.into()))
            }
            op::REDUCE => {
                let both = self.pop_many(2)?;
                let node = fold::call(self, both[0], both[1])?;
                self.make(node)
            }
            op::NEWOBJ => {
                let both = self.pop_many(2)?;
                self.make_object(both[0], both[1], Made::New)
            }
            op::NEWOBJ_EX => {
                let all = self.pop_many(3)?;
                self.make_object(all[0], all[1], Made::NewKeywords(all[2]))
            }
            op::INST => {
                let module = cursor.line()?.to_vec();
                let global = text::global(&module, cursor.line()?)?;
                let args = self.pop_mark()?;
                let class = self.pickle.push(Node::Global(global));
                let args = self.pickle.push(Node::Tuple(args.into()));
                self.make_object(class, args, Made::Call)
            }
            op::OBJ => {
                let mut args = self.pop_mark()?;
                if args.is_empty() {
                    return Err(PickleProblem::Stack);
                }
                let class = args.remove(0);
                let args = self.pickle.push(Node::Tuple(args.into()));
                self.make_object(class, args, Made::Call)
            }
            op::BUILD => {
                let state = self.pop()?;
                let target = self.top()?;
                let slot = match self.pickle.node_mut(target) {
                    Node::Object(object) => &mut object.state,
                    Node::Tensor(tensor) => &mut tensor.made.state,
                    Node::Dict(dict) if dict.ordered => &mut dict.state,
                    other => return Err(wrong("an object", other)),
                };
                match slot.replace(state) {
                    None => Ok(()),
                    Some(_) => Err(PickleProblem::Refused("objects with two states")),
                }
            }
            unknown => Err(PickleProblem::UnknownOpcode(unknown)),
        }
    }

    /// Takes note of bytes that a fold copies, so that a shared value cannot be copied for ever.
    pub(super) fn charge(&mut self, bytes: usize) -> Done {
        self.folded += bytes as u64;
        if self.folded > MAX_FOLDED_BYTES {
            let what = "bytes in repeated values";
            return Err(PickleProblem::Limit { what, limit: MAX_FOLDED_BYTES });
        }
        Ok(())
    }

    fn make_object(&mut self, class: NodeId, args: NodeId, made: Made) -> Done {
        self.make(Node::Object(Box::new(Object::new(class, args, made))))
    }

    fn make(&mut self, node: Node) -> Done {
        if self.pickle.len() as u64 >= MAX_NODES {
            return Err(PickleProblem::Limit { what: "values", limit: MAX_NODES });
        }
        let id = self.pickle.push(node);
        self.known(id)
    }

    fn known(&mut self, id: NodeId) -> Done {
        self.stack.push(id);
        Ok(())
    }

    /// Values above the last mark.
    fn above(&self) -> usize {
        self.stack.len() - self.marks.last().copied().unwrap_or(0)
    }

    fn top(&self) -> Result<NodeId, PickleProblem> {
        let top = self.stack.last().filter(|_| self.above() > 0);
        top.copied().ok_or(PickleProblem::Stack)
    }

    fn pop(&mut self) -> Result<NodeId, PickleProblem> {
        let top = self.top()?;
        self.stack.pop();
        Ok(top)
    }

    fn pop_many(&mut self, count: usize) -> Result<Vec<NodeId>, PickleProblem> {
        if self.above() < count {
            return Err(PickleProblem::Stack);
        }
        Ok(self.stack.split_off(self.stack.len() - count))
    }

    fn pop_mark(&mut self) -> Result<Vec<NodeId>, PickleProblem> {
        let mark = self.marks.pop().ok_or(PickleProblem::Stack)?;
        Ok(self.stack.split_off(mark))
    }
}

fn wrong(expected: &'static str, found: &Node) -> PickleProblem {
    PickleProblem::Type { expected, found: found.kind() }
}

fn in_pairs(flat: Vec<NodeId>) -> Result<Vec<Pair>, PickleProblem> {
    let (pairs, rest) = flat.as_chunks::<2>();
    if !rest.is_empty() {
        return Err(PickleProblem::Stack);
    }
    Ok(pairs.iter().map(|pair| (pair[0], pair[1])).collect())
}
