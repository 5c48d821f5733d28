//! Reading values: a pickle and a node number, with the questions readers ask.

use std::slice;

use ucl_tensor::DType;

use super::names;
use super::node::{Dict, Global, Made, Node, NodeId, Object, Pair, Storage, Tensor};
use super::pickle::Pickle;

/// A value in a pickle. Cheap to copy.
#[derive(Clone, Copy, Debug)]
pub struct Value<'a> {
    pickle: &'a Pickle,
    id: NodeId,
}

impl<'a> Value<'a> {
    pub(super) fn new(pickle: &'a Pickle, id: NodeId) -> Value<'a> {
        Value { pickle, id }
    }

    /// Its number in the pickle.
    pub fn id(self) -> NodeId {
        self.id
    }

    /// The pickle it is in.
    pub fn pickle(self) -> &'a Pickle {
        self.pickle
    }

    /// The node itself.
    pub fn node(self) -> &'a Node {
        self.pickle.node(self.id)
    }

    /// What it is, in a word, for messages.
    pub fn kind(self) -> &'static str {
        self.node().kind()
    }

    /// Whether it is `None`.
    pub fn is_none(self) -> bool {
        matches!(self.node(), Node::None)
    }

    /// The boolean.
    pub fn as_bool(self) -> Option<bool> {
        match self.node() {
            Node::Bool(value) => Some(*value),
            _ => None,
        }
    }

    /// The integer; also of a boolean, and of an enum member made from one integer.
    pub fn as_i64(self) -> Option<i64> {
        match self.node() {
            Node::Int(value) => Some(*value),
            Node::Bool(value) => Some(i64::from(*value)),
            Node::Object(_) => match self.sole_argument()?.node() {
                Node::Int(value) => Some(*value),
                _ => None,
            },
            _ => None,
        }
    }

    /// The integer if it is not negative; see [`Value::as_i64`].
    pub fn as_u64(self) -> Option<u64> {
        match self.node() {
            Node::BigInt(bytes) => match &**bytes {
                [low @ .., 0] => Some(u64::from_le_bytes(low.try_into().ok()?)),
                _ => None,
            },
            _ => u64::try_from(self.as_i64()?).ok(),
        }
    }

    /// The number, of a float or an integer.
    pub fn as_f64(self) -> Option<f64> {
        match self.node() {
            Node::Float(value) => Some(*value),
            Node::Int(value) => Some(*value as f64),
            _ => None,
        }
    }

    /// The string; also of an enum member made from one string.
    pub fn as_str(self) -> Option<&'a str> {
        match self.node() {
            Node::Str(value) => Some(value),
            Node::Object(_) => match self.sole_argument()?.node() {
                Node::Str(value) => Some(value),
                _ => None,
            },
            _ => None,
        }
    }

    /// The bytes.
    pub fn as_bytes(self) -> Option<&'a [u8]> {
        match self.node() {
            Node::Bytes(value) => Some(value),
            _ => None,
        }
    }

    /// The items of a list.
    pub fn as_list(self) -> Option<Items<'a>> {
        match self.node() {
            Node::List(items) => Some(self.items_of(items)),
            _ => None,
        }
    }

    /// The items of a tuple or a `torch.Size`.
    pub fn as_tuple(self) -> Option<Items<'a>> {
        match self.node() {
            Node::Tuple(items) => Some(self.items_of(items)),
            Node::Object(_) if self.is_class("torch", "Size") => match self.argument(0)?.node() {
                Node::Tuple(items) => Some(self.items_of(items)),
                Node::List(items) => Some(self.items_of(items)),
                _ => None,
            },
            _ => None,
        }
    }

    /// The items of a list, tuple, `torch.Size`, set, or of an object that was appended to.
    pub fn items(self) -> Option<Items<'a>> {
        match self.node() {
            Node::Set(set) => Some(self.items_of(&set.items)),
            Node::Object(object) if !object.items.is_empty() => Some(self.items_of(&object.items)),
            _ => self.as_list().or_else(|| self.as_tuple()),
        }
    }

    /// The item at an index of what [`Value::items`] gives.
    pub fn index(self, index: usize) -> Option<Value<'a>> {
        self.items()?.nth(index)
    }

    /// The sizes of a tuple, list or `torch.Size` of integers that are not negative.
    pub fn as_shape(self) -> Option<Vec<u64>> {
        self.items()?.map(Value::as_u64).collect()
    }

    /// The pairs of a dict, OrderedDict, defaultdict or other object that was filled like a dict,
    /// in insertion order.
    pub fn pairs(self) -> Option<Pairs<'a>> {
        match self.node() {
            Node::Dict(dict) => Some(self.pairs_of(&dict.pairs)),
            Node::Object(object) if !object.pairs.is_empty() || self.is_dict_class() => {
                Some(self.pairs_of(&object.pairs))
            }
            _ => None,
        }
    }

    /// The dict, to tell an OrderedDict from a dict.
    pub fn as_dict(self) -> Option<&'a Dict> {
        match self.node() {
            Node::Dict(dict) => Some(dict),
            _ => None,
        }
    }

    /// The value of a string key. Looks at each pair: for many keys, iterate.
    pub fn get(self, key: &str) -> Option<Value<'a>> {
        let found = self.pairs()?.find(|(name, _)| name.as_plain_str() == Some(key));
        found.map(|(_, value)| value)
    }

    /// The value of an integer key.
    pub fn get_int(self, key: i64) -> Option<Value<'a>> {
        let is_key = |name: Value<'_>| matches!(name.node(), Node::Int(number) if *number == key);
        let found = self.pairs()?.find(|(name, _)| is_key(*name));
        found.map(|(_, value)| value)
    }

    /// The value at the end of a path of string keys or, in objects, attributes.
    pub fn at(self, path: &[&str]) -> Option<Value<'a>> {
        path.iter().try_fold(self, |value, key| value.get(key).or_else(|| value.attr(key)))
    }

    /// The attributes of an object or OrderedDict, in order; those of `__slots__` after the others.
    pub fn attrs(self) -> impl Iterator<Item = (&'a str, Value<'a>)> + use<'a> {
        let state = match self.node() {
            Node::Object(object) => object.state,
            Node::Dict(dict) => dict.state,
            Node::Tensor(tensor) => tensor.made.state,
            _ => None,
        };
        let mut parts: [&'a [Pair]; 2] = [&[], &[]];
        match state.map(|id| self.pickle.node(id)) {
            Some(Node::Dict(dict)) => parts[0] = &dict.pairs,
            Some(Node::Tuple(both)) if both.len() == 2 => {
                for (part, id) in parts.iter_mut().zip(both.iter()) {
                    if let Node::Dict(dict) = self.pickle.node(*id) {
                        *part = &dict.pairs;
                    }
                }
            }
            _ => {}
        }
        parts
            .into_iter()
            .flat_map(move |pairs| self.pairs_of(pairs))
            .filter_map(|(name, value)| Some((name.as_plain_str()?, value)))
    }

    /// An attribute of an object.
    pub fn attr(self, name: &str) -> Option<Value<'a>> {
        self.attrs().find(|(found, _)| *found == name).map(|(_, value)| value)
    }

    /// The state of an object, whatever it is.
    pub fn state(self) -> Option<Value<'a>> {
        self.as_object()?.state.map(|id| self.with(id))
    }

    /// The object.
    pub fn as_object(self) -> Option<&'a Object> {
        match self.node() {
            Node::Object(object) => Some(object),
            _ => None,
        }
    }

    /// An argument of an object's call.
    pub fn argument(self, index: usize) -> Option<Value<'a>> {
        match self.pickle.node(self.as_object()?.args) {
            Node::Tuple(args) => args.get(index).map(|id| self.with(*id)),
            _ => None,
        }
    }

    /// The class an object was made from. Sees through `copyreg._reconstructor`.
    pub fn class(self) -> Option<&'a Global> {
        let class = match self.pickle.node(self.as_object()?.class) {
            Node::Global(class) => class,
            _ => return None,
        };
        if &*class.name == "_reconstructor" && matches!(&*class.module, "copy_reg" | "copyreg") {
            return self.argument(0)?.as_global();
        }
        Some(class)
    }

    /// Whether it is an object of that class.
    pub fn is_class(self, module: &str, name: &str) -> bool {
        self.class().is_some_and(|class| class.is(module, name))
    }

    /// The module and name of a class, function or constant.
    pub fn as_global(self) -> Option<&'a Global> {
        match self.node() {
            Node::Global(global) => Some(global),
            _ => None,
        }
    }

    /// The element type of a `torch.float32` constant.
    pub fn as_dtype(self) -> Option<DType> {
        names::dtype(self.as_global()?)
    }

    /// The tensor or parameter.
    pub fn as_tensor(self) -> Option<&'a Tensor> {
        match self.node() {
            Node::Tensor(tensor) => Some(tensor),
            _ => None,
        }
    }

    /// The storage, if one was pickled by itself.
    pub fn as_storage(self) -> Option<&'a Storage> {
        match self.node() {
            Node::Storage(storage) => Some(storage),
            _ => None,
        }
    }

    fn as_plain_str(self) -> Option<&'a str> {
        match self.node() {
            Node::Str(value) => Some(value),
            _ => None,
        }
    }

    fn sole_argument(self) -> Option<Value<'a>> {
        let object = self.as_object()?;
        match self.pickle.node(object.args) {
            Node::Tuple(args) if args.len() == 1 && object.made == Made::Call => {
                Some(self.with(args[0]))
            }
            _ => None,
        }
    }

    fn is_dict_class(self) -> bool {
        self.class().is_some_and(|class| {
            &*class.module == "collections" && matches!(&*class.name, "defaultdict" | "OrderedDict")
        })
    }

    fn with(self, id: NodeId) -> Value<'a> {
        Value { pickle: self.pickle, id }
    }

    fn items_of(self, items: &'a [NodeId]) -> Items<'a> {
        Items { pickle: self.pickle, ids: items.iter() }
    }

    fn pairs_of(self, pairs: &'a [Pair]) -> Pairs<'a> {
        Pairs { pickle: self.pickle, ids: pairs.iter() }
    }
}

/// The items of a list, tuple or set.
#[derive(Clone, Debug)]
pub struct Items<'a> {
    pickle: &'a Pickle,
    ids: slice::Iter<'a, NodeId>,
}

impl<'a> Iterator for Items<'a> {
    type Item = Value<'a>;

    fn next(&mut self) -> Option<Value<'a>> {
        self.ids.next().map(|id| self.pickle.value(*id))
    }

    fn nth(&mut self, index: usize) -> Option<Value<'a>> {
        self.ids.nth(index).map(|id| self.pickle.value(*id))
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        self.ids.size_hint()
    }
}

impl ExactSizeIterator for Items<'_> {}

/// The pairs of a dict.
#[derive(Clone, Debug)]
pub struct Pairs<'a> {
    pickle: &'a Pickle,
    ids: slice::Iter<'a, Pair>,
}

impl<'a> Iterator for Pairs<'a> {
    type Item = (Value<'a>, Value<'a>);

    fn next(&mut self) -> Option<Self::Item> {
        let (key, value) = self.ids.next()?;
        Some((self.pickle.value(*key), self.pickle.value(*value)))
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        self.ids.size_hint()
    }
}

impl ExactSizeIterator for Pairs<'_> {}
