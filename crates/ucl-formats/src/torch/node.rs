//! What a pickle is made of, as data: an arena of nodes that refer to each other by number.
//!
//! Numbers instead of pointers make sharing and cycles harmless: nothing recurses, not even drop.

use std::sync::Arc;

use ucl_tensor::DType;

/// The number of a node in its [`Pickle`](super::Pickle).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct NodeId(pub(super) u32);

impl NodeId {
    pub(super) fn index(self) -> usize {
        self.0 as usize
    }
}

/// A pair of a dict: key, value.
pub type Pair = (NodeId, NodeId);

/// One value of a pickle.
#[derive(Clone, Debug)]
pub enum Node {
    /// Python's `None`.
    None,
    /// `True` or `False`.
    Bool(bool),
    /// An integer that fits in 64 bits.
    Int(i64),
    /// A larger integer: minimal two's complement, little-endian.
    BigInt(Box<[u8]>),
    /// A float.
    Float(f64),
    /// A string.
    Str(Box<str>),
    /// A string that is not UTF-8, as it was stored: paths with lone surrogates.
    RawStr(Box<[u8]>),
    /// A bytes object.
    Bytes(Box<[u8]>),
    /// A list.
    List(Vec<NodeId>),
    /// A tuple.
    Tuple(Box<[NodeId]>),
    /// A dict or a `collections.OrderedDict`.
    Dict(Dict),
    /// A set or a frozenset, in stored order.
    Set(Set),
    /// A class, function or other thing named by module and name; never looked up.
    Global(Global),
    /// A tensor: a view of a storage.
    Tensor(Box<Tensor>),
    /// A storage met by itself.
    Storage(Arc<Storage>),
    /// An instance of any class that is not known here.
    Object(Box<Object>),
}

impl Node {
    /// What it is, in a word, for messages.
    pub fn kind(&self) -> &'static str {
        match self {
            Node::None => "None",
            Node::Bool(_) => "a boolean",
            Node::Int(_) | Node::BigInt(_) => "an integer",
            Node::Float(_) => "a float",
            Node::Str(_) | Node::RawStr(_) => "a string",
            Node::Bytes(_) => "bytes",
            Node::List(_) => "a list",
            Node::Tuple(_) => "a tuple",
            Node::Dict(_) => "a dict",
            Node::Set(_) => "a set",
            Node::Global(_) => "a class or function",
            Node::Tensor(_) => "a tensor",
            Node::Storage(_) => "a storage",
            Node::Object(_) => "an object",
        }
    }

    /// Visits the nodes it refers to, in the order they are written.
    pub(super) fn for_each_child(&self, mut visit: impl FnMut(NodeId)) {
        match self {
            Node::List(items) => items.iter().for_each(|id| visit(*id)),
            Node::Tuple(items) => items.iter().for_each(|id| visit(*id)),
            Node::Set(set) => set.items.iter().for_each(|id| visit(*id)),
            Node::Dict(dict) => {
                dict.pairs.iter().flat_map(|pair| [pair.0, pair.1]).for_each(&mut visit);
                dict.state.into_iter().for_each(visit);
            }
            Node::Tensor(tensor) => tensor.made.for_each_child(visit),
            Node::Object(object) => object.for_each_child(visit),
            _ => {}
        }
    }
}

/// A dict: pairs in insertion order. String and integer keys are unique.
#[derive(Clone, Debug, Default)]
pub struct Dict {
    /// Keys and values in order.
    pub pairs: Vec<Pair>,
    /// Whether it is a `collections.OrderedDict`.
    pub ordered: bool,
    /// Attributes of an OrderedDict (`_metadata` of a module's state dict).
    pub state: Option<NodeId>,
}

/// A set or frozenset.
#[derive(Clone, Debug, Default)]
pub struct Set {
    /// Members in stored order.
    pub items: Vec<NodeId>,
    /// Whether it is a frozenset.
    pub frozen: bool,
}

/// A module and a name in it. The name may be dotted: `Class.MEMBER`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Global {
    /// `torch._utils`.
    pub module: Box<str>,
    /// `_rebuild_tensor_v2`.
    pub name: Box<str>,
}

impl Global {
    /// Whether it is that name in that module.
    pub fn is(&self, module: &str, name: &str) -> bool {
        &*self.module == module && &*self.name == name
    }
}

/// How an object is made from its class and arguments.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Made {
    /// `class(*args)`.
    Call,
    /// `class.__new__(class, *args)`.
    New,
    /// `class.__new__(class, *args, **kwargs)`; the node is the kwargs.
    NewKeywords(NodeId),
}

/// An opaque instance: a record of what Python would have done, kept so that it can be written back.
#[derive(Clone, Debug)]
pub struct Object {
    /// The class or function, usually a [`Node::Global`].
    pub class: NodeId,
    /// The arguments, usually a [`Node::Tuple`].
    pub args: NodeId,
    /// How it is made.
    pub made: Made,
    /// What `__setstate__` or `__dict__` would get.
    pub state: Option<NodeId>,
    /// Items appended (list subclasses, deques).
    pub items: Vec<NodeId>,
    /// Pairs set (dict subclasses, defaultdict).
    pub pairs: Vec<Pair>,
}

impl Object {
    /// An object without state or items.
    pub fn new(class: NodeId, args: NodeId, made: Made) -> Object {
        Object { class, args, made, state: None, items: Vec::new(), pairs: Vec::new() }
    }

    /// Whether something is put into it after it is made.
    pub(super) fn is_filled(&self) -> bool {
        self.state.is_some() || !self.items.is_empty() || !self.pairs.is_empty()
    }

    /// Whether two objects are equal but for what they refer to.
    pub(super) fn same_alone(&self, other: &Object) -> bool {
        std::mem::discriminant(&self.made) == std::mem::discriminant(&other.made)
            && self.state.is_some() == other.state.is_some()
            && self.items.len() == other.items.len()
            && self.pairs.len() == other.pairs.len()
    }

    fn for_each_child(&self, mut visit: impl FnMut(NodeId)) {
        visit(self.class);
        visit(self.args);
        if let Made::NewKeywords(keywords) = self.made {
            visit(keywords);
        }
        self.items.iter().for_each(|id| visit(*id));
        self.pairs.iter().flat_map(|pair| [pair.0, pair.1]).for_each(&mut visit);
        self.state.into_iter().for_each(visit);
    }
}

/// A tensor as pickled: where its elements lie in a storage.
#[derive(Clone, Debug)]
pub struct Tensor {
    /// The storage it looks into; tensors of one storage name the same key.
    pub storage: Arc<Storage>,
    /// The element type; `None` for types this program has no name for (quantised, sub-byte).
    pub dtype: Option<DType>,
    /// First element, in elements from the start of the storage.
    pub offset: u64,
    /// Sizes, in elements.
    pub size: Box<[u64]>,
    /// Strides, in elements.
    pub stride: Box<[i64]>,
    /// Whether gradients are wanted.
    pub requires_grad: bool,
    /// The call it was read from, to be written back unchanged.
    pub made: Object,
}

/// A storage as a persistent id names it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Storage {
    /// Its class: `torch FloatStorage`, `torch.storage UntypedStorage`.
    pub class: Global,
    /// Its key: the member `data/<key>` of a zip.
    pub key: Box<str>,
    /// Where it lived: `cpu`, `cuda:3`. Kept, not used.
    pub location: Box<str>,
    /// Length in elements; in bytes for an untyped storage.
    pub numel: u64,
    /// What the class says about elements.
    pub element: Element,
    /// A part of the storage, in elements: (first, length). Only in files before torch 1.6.
    pub view: Option<(u64, u64)>,
}

/// What a storage class says about its elements.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Element {
    /// A typed class.
    Typed(DType),
    /// `UntypedStorage`: plain bytes, the tensor says the type.
    Untyped,
    /// A type ucl has no name for; the number is the bytes of one element, 0 if not known.
    Unsupported(u64),
}

impl Element {
    /// Bytes of one element as `numel` counts them; `None` if not known.
    pub fn size_bytes(self) -> Option<u64> {
        match self {
            Element::Typed(dtype) => Some(dtype.size_bytes()),
            Element::Untyped => Some(1),
            Element::Unsupported(0) => None,
            Element::Unsupported(size) => Some(size),
        }
    }
}
