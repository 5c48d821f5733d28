//! A whole pickle: the arena, its root, and the constructors of values.

use std::sync::Arc;

use ucl_tensor::DType;

use super::cursor::Cursor;
use super::error::{PickleError, PickleProblem};
use super::machine;
use super::names;
use super::node::{Dict, Element, Global, Made, Node, NodeId, Object, Pair, Set, Storage, Tensor};
use super::value::Value;

/// A pickle as data. Reading one runs nothing: classes are names, calls are records.
///
/// A [`NodeId`] belongs to the pickle that made it; methods panic on numbers of others.
#[derive(Clone, Debug)]
pub struct Pickle {
    pub(super) nodes: Vec<Node>,
    root: NodeId,
}

const NONE: NodeId = NodeId(0);
const FALSE: NodeId = NodeId(1);
const TRUE: NodeId = NodeId(2);

impl Default for Pickle {
    fn default() -> Pickle {
        Pickle::new()
    }
}

impl Pickle {
    /// A pickle of `None`, to be built up.
    pub fn new() -> Pickle {
        let nodes = vec![Node::None, Node::Bool(false), Node::Bool(true)];
        Pickle { nodes, root: NONE }
    }

    /// Reads a pickle of protocol 0 to 5, such as the `.metadata` of a distributed checkpoint.
    ///
    /// # Errors
    /// If it is damaged, larger than the limits of [`limits`](super::limits), or followed by more.
    pub fn parse(bytes: &[u8]) -> Result<Pickle, PickleError> {
        let mut cursor = Cursor::new(bytes);
        let pickle = machine::read(&mut cursor)?;
        match cursor.left() {
            0 => Ok(pickle),
            left => Err(PickleError {
                offset: cursor.position(),
                op: "STOP",
                kind: PickleProblem::Trailing(left),
            }),
        }
    }

    /// The value that was pickled.
    pub fn root(&self) -> Value<'_> {
        self.value(self.root)
    }

    /// Makes a value the one that is pickled.
    pub fn set_root(&mut self, root: NodeId) {
        self.root = root;
    }

    /// A value by number.
    pub fn value(&self, id: NodeId) -> Value<'_> {
        Value::new(self, id)
    }

    /// A node by number.
    pub fn node(&self, id: NodeId) -> &Node {
        &self.nodes[id.index()]
    }

    /// A node, to be changed.
    pub fn node_mut(&mut self, id: NodeId) -> &mut Node {
        &mut self.nodes[id.index()]
    }

    /// Nodes there are, reachable or not.
    pub fn len(&self) -> usize {
        self.nodes.len()
    }

    /// Whether there is nothing but `None`.
    pub fn is_empty(&self) -> bool {
        self.root == NONE
    }

    pub(super) fn nodes(&self) -> &[Node] {
        &self.nodes
    }

    /// Adds a node as it is.
    ///
    /// # Panics
    /// At 2^32 nodes, far above what readers allow.
    pub fn push(&mut self, node: Node) -> NodeId {
        let id = u32::try_from(self.nodes.len()).expect("fewer than 2^32 nodes");
        self.nodes.push(node);
        NodeId(id)
    }

    /// `None`.
    pub fn none(&self) -> NodeId {
        NONE
    }

    /// `True` or `False`.
    pub fn bool(&self, value: bool) -> NodeId {
        if value { TRUE } else { FALSE }
    }

    /// An integer.
    pub fn int(&mut self, value: i64) -> NodeId {
        self.push(Node::Int(value))
    }

    /// A float.
    pub fn float(&mut self, value: f64) -> NodeId {
        self.push(Node::Float(value))
    }

    /// A string.
    pub fn str(&mut self, value: &str) -> NodeId {
        self.push(Node::Str(value.into()))
    }

    /// A bytes object.
    pub fn bytes(&mut self, value: &[u8]) -> NodeId {
        self.push(Node::Bytes(value.into()))
    }

    /// A list.
    pub fn list(&mut self, items: Vec<NodeId>) -> NodeId {
        self.push(Node::List(items))
    }

    /// A tuple.
    pub fn tuple(&mut self, items: &[NodeId]) -> NodeId {
        self.push(Node::Tuple(items.into()))
    }

    /// A dict.
    pub fn dict(&mut self, pairs: Vec<Pair>) -> NodeId {
        self.push(Node::Dict(Dict { pairs, ordered: false, state: None }))
    }

    /// A `collections.OrderedDict`.
    pub fn ordered_dict(&mut self, pairs: Vec<Pair>) -> NodeId {
        self.push(Node::Dict(Dict { pairs, ordered: true, state: None }))
    }

    /// A set.
    pub fn set(&mut self, items: Vec<NodeId>) -> NodeId {
        self.push(Node::Set(Set { items, frozen: false }))
    }

    /// A class, function or constant by name.
    pub fn global(&mut self, module: &str, name: &str) -> NodeId {
        self.push(Node::Global(Global { module: module.into(), name: name.into() }))
    }

    /// A `torch.Size`.
    pub fn size(&mut self, sizes: &[u64]) -> NodeId {
        let sizes = self.ints(sizes);
        self.call("torch", "Size", &[sizes])
    }

    /// The record of a call `module.name(*args)`: enums, `torch.device`.
    pub fn call(&mut self, module: &str, name: &str, args: &[NodeId]) -> NodeId {
        let class = self.global(module, name);
        let args = self.tuple(args);
        self.push(Node::Object(Box::new(Object::new(class, args, Made::Call))))
    }

    /// An instance of a class with these attributes.
    pub fn object(&mut self, module: &str, name: &str, attrs: Vec<Pair>) -> NodeId {
        let class = self.global(module, name);
        let args = self.tuple(&[]);
        let mut object = Object::new(class, args, Made::New);
        object.state = Some(self.dict(attrs));
        self.push(Node::Object(Box::new(object)))
    }

    /// An `argparse.Namespace`.
    pub fn namespace(&mut self, attrs: Vec<Pair>) -> NodeId {
        self.object("argparse", "Namespace", attrs)
    }

    /// A dtype constant, `torch.bfloat16`. `None` if torch has no such type.
    pub fn dtype(&mut self, dtype: DType) -> Option<NodeId> {
        names::dtype_name(dtype).map(|name| self.global("torch", name))
    }

    /// A tensor on the CPU in storage `key`, which holds `storage_numel` elements of its type.
    ///
    /// `offset` and `stride` are in elements. `None` if torch has no such type or the storage's
    /// bytes do not fit 64 bits.
    pub fn tensor(
        &mut self,
        key: &str,
        storage_numel: u64,
        dtype: DType,
        offset: u64,
        size: &[u64],
        stride: &[i64],
    ) -> Option<NodeId> {
        let typed = names::storage_class(dtype);
        let (module, name, element, numel) = match typed {
            Some(name) => ("torch", name, Element::Typed(dtype), storage_numel),
            None => {
                let bytes = storage_numel.checked_mul(dtype.size_bytes())?;
                ("torch.storage", "UntypedStorage", Element::Untyped, bytes)
            }
        };
        let storage = Arc::new(Storage {
            class: Global { module: module.into(), name: name.into() },
            key: key.into(),
            location: "cpu".into(),
            numel,
            element,
            view: None,
        });
        let mut args = vec![
            self.push(Node::Storage(Arc::clone(&storage))),
            self.int(i64::try_from(offset).ok()?),
            self.ints(size),
            self.signed(stride),
            self.bool(false),
            self.ordered_dict(Vec::new()),
        ];
        let rebuild = if typed.is_some() { "_rebuild_tensor_v2" } else { "_rebuild_tensor_v3" };
        if typed.is_none() {
            args.push(self.dtype(dtype)?);
        }
        let made = Object::new(
            self.global("torch._utils", rebuild),
            self.push(Node::Tuple(args.into())),
            Made::Call,
        );
        Some(self.push(Node::Tensor(Box::new(Tensor {
            storage,
            dtype: Some(dtype),
            offset,
            size: size.into(),
            stride: stride.into(),
            requires_grad: false,
            made,
        }))))
    }

    /// A contiguous tensor that fills its storage.
    pub fn whole_tensor(&mut self, key: &str, dtype: DType, size: &[u64]) -> Option<NodeId> {
        let mut stride = vec![1i64; size.len()];
        for dim in (1..size.len()).rev() {
            let length = i64::try_from(size[dim].max(1)).ok()?;
            stride[dim - 1] = stride[dim].checked_mul(length)?;
        }
        let numel = size.iter().try_fold(1u64, |product, &length| product.checked_mul(length))?;
        self.tensor(key, numel, dtype, 0, size, &stride)
    }

    /// Says of a tensor that its storage is on a device, `cuda:3`.
    pub fn put_on(&mut self, tensor: NodeId, device: &str) {
        let Node::Tensor(tensor) = &mut self.nodes[tensor.index()] else { return };
        let storage = Arc::new(Storage { location: device.into(), ..(*tensor.storage).clone() });
        tensor.storage = Arc::clone(&storage);
        let args = tensor.made.args;
        let Node::Tuple(args) = &self.nodes[args.index()] else { return };
        if let Some(named) = args.first().copied() {
            self.nodes[named.index()] = Node::Storage(storage);
        }
    }

    fn ints(&mut self, values: &[u64]) -> NodeId {
        let items: Vec<NodeId> = values
            .iter()
            .map(|&value| match i64::try_from(value) {
                Ok(small) => self.int(small),
                Err(_) => {
                    let mut bytes = value.to_le_bytes().to_vec();
                    bytes.push(0);
                    self.push(Node::BigInt(bytes.into()))
                }
            })
            .collect();
        self.push(Node::Tuple(items.into()))
    }

    fn signed(&mut self, values: &[i64]) -> NodeId {
        let items: Vec<NodeId> = values.iter().map(|&value| self.int(value)).collect();
        self.push(Node::Tuple(items.into()))
    }
}
