//! Calls that are read as values: tensors, OrderedDict, sets, bytes. All others stay records.

use std::sync::Arc;

use super::error::PickleProblem;
use super::limits::{MAX_DIMS, MAX_NAME_BYTES};
use super::machine::Machine;
use super::names;
use super::node::{Dict, Element, Global, Made, Node, NodeId, Object, Pair, Set, Storage, Tensor};
use super::pickle::Pickle;

/// What a call becomes. Nothing is looked up by the names: they are compared.
pub(super) fn call(
    machine: &mut Machine,
    class: NodeId,
    args: NodeId,
) -> Result<Node, PickleProblem> {
    let made = || Object::new(class, args, Made::Call);
    let pickle = &machine.pickle;
    let (Node::Global(function), Node::Tuple(list)) = (pickle.node(class), pickle.node(args))
    else {
        return Ok(Node::Object(Box::new(made())));
    };
    if let Some(tensor) = tensor(pickle, function, list, made())? {
        let copied = tensor.size.len() + tensor.stride.len();
        machine.charge(copied * size_of::<u64>())?;
        return Ok(Node::Tensor(Box::new(tensor)));
    }
    let folded = match (&*function.module, &*function.name, &**list) {
        ("collections", "OrderedDict", list) => ordered_dict(pickle, list),
        ("builtins" | "__builtin__", "set" | "frozenset", list) => set(pickle, function, list),
        ("builtins" | "__builtin__", "bytes", []) => Some(Node::Bytes(Box::new([]))),
        ("builtins" | "__builtin__", "getattr", [object, name]) => member(pickle, *object, *name),
        ("_codecs", "encode", [text, encoding]) => latin1(pickle, *text, *encoding),
        _ => None,
    };
    let Some(folded) = folded else { return Ok(Node::Object(Box::new(made()))) };
    machine.charge(match &folded {
        Node::Dict(dict) => dict.pairs.len() * size_of::<Pair>(),
        Node::Set(set) => set.items.len() * size_of::<NodeId>(),
        Node::Bytes(bytes) => bytes.len(),
        Node::Global(global) => global.module.len() + global.name.len(),
        _ => 0,
    })?;
    Ok(folded)
}

/// The storage a persistent id names: `('storage', class, key, location, numel)`, and in files
/// before torch 1.6 a view `None` or `(key, offset, numel)` after it.
pub(super) fn storage(pickle: &Pickle, id: NodeId) -> Result<Storage, PickleProblem> {
    let bad = PickleProblem::PersistentId;
    let Node::Tuple(parts) = pickle.node(id) else { return Err(bad("not a tuple")) };
    let (tag, class, key, location, numel, view) = match &**parts {
        [tag, class, key, location, numel] => (tag, class, key, location, numel, None),
        [tag, class, key, location, numel, view] => (tag, class, key, location, numel, Some(view)),
        _ => return Err(bad("not of 5 or 6 parts")),
    };
    let value = |id: &NodeId| pickle.value(*id);
    if value(tag).as_str() != Some("storage") {
        return Err(bad("not tagged 'storage'"));
    }
    let class = value(class).as_global().ok_or(bad("its class is not a class"))?;
    let key = match pickle.node(*key) {
        Node::Str(key) => key.clone(),
        // Keys were numbers for a while.
        Node::Int(key) => key.to_string().into(),
        _ => return Err(bad("its key is not a string")),
    };
    let location = value(location).as_str().ok_or(bad("its location is not a string"))?;
    let numel = value(numel).as_u64().ok_or(bad("its length is not a length"))?;
    let view = match view.map(value).filter(|view| !view.is_none()) {
        None => None,
        Some(view) => {
            let part = |index| view.index(index).and_then(|part| part.as_u64());
            Some(part(1).zip(part(2)).ok_or(bad("its view is not (key, offset, length)"))?)
        }
    };
    Ok(Storage {
        class: class.clone(),
        key,
        location: location.into(),
        numel,
        element: names::storage_element(class),
        view,
    })
}

/// The tensor a call of one of torch's rebuilders makes; `None` for other functions.
fn tensor(
    pickle: &Pickle,
    function: &Global,
    args: &[NodeId],
    made: Object,
) -> Result<Option<Tensor>, PickleProblem> {
    match (&*function.module, &*function.name) {
        ("torch._utils", "_rebuild_tensor" | "_rebuild_tensor_v2" | "_rebuild_tensor_v3") => {
            view(pickle, &function.name, args, made).map(Some)
        }
        ("torch._utils", "_rebuild_parameter" | "_rebuild_parameter_with_state") => {
            // Parameters of unknown tensor classes stay records.
            let Some(Node::Tensor(data)) = args.first().map(|id| pickle.node(*id)) else {
                return Ok(None);
            };
            let wanted = args.get(1).and_then(|id| pickle.value(*id).as_bool());
            let requires_grad = wanted.unwrap_or(data.requires_grad);
            Ok(Some(Tensor { made, requires_grad, ..(**data).clone() }))
        }
        ("torch._tensor" | "torch.tensor", "_rebuild_from_type_v2" | "_rebuild_from_type") => {
            let parts = match args {
                [inner, _, inner_args, ..] => (pickle.node(*inner), pickle.node(*inner_args)),
                _ => return Err(PickleProblem::Tensor("_rebuild_from_type_v2 needs 4")),
            };
            let (Node::Global(inner), Node::Tuple(inner_args)) = parts else { return Ok(None) };
            // One level is all torch writes; more would recurse at the file's wish.
            if &*inner.module != "torch._utils" {
                return Ok(None);
            }
            tensor(pickle, inner, inner_args, made)
        }
        _ => Ok(None),
    }
}

fn view(
    pickle: &Pickle,
    function: &str,
    args: &[NodeId],
    made: Object,
) -> Result<Tensor, PickleProblem> {
    let bad = PickleProblem::Tensor;
    let [storage, offset, size, stride, rest @ ..] = args else {
        return Err(bad("fewer than 4"));
    };
    let Node::Storage(storage) = pickle.node(*storage) else {
        return Err(bad("the first is not a storage"));
    };
    let offset = pickle.value(*offset).as_u64().ok_or(bad("the offset is not a number"))?;
    let size = dims(pickle, *size)?;
    let size: Option<Box<[u64]>> = size.iter().map(|id| pickle.value(*id).as_u64()).collect();
    let stride = dims(pickle, *stride)?;
    let stride: Option<Box<[i64]>> = stride.iter().map(|id| pickle.value(*id).as_i64()).collect();
    let (Some(size), Some(stride)) = (size, stride) else {
        return Err(bad("a size or stride is not a number"));
    };
    if size.len() != stride.len() {
        return Err(bad("sizes and strides differ in number"));
    }
    let mut dtype = match storage.element {
        Element::Typed(dtype) => Some(dtype),
        Element::Untyped | Element::Unsupported(_) => None,
    };
    let mut metadata = rest.get(2);
    if function == "_rebuild_tensor_v3" {
        let named = rest.get(2).ok_or(bad("_rebuild_tensor_v3 without a dtype"))?;
        dtype = pickle.value(*named).as_dtype();
        metadata = rest.get(3);
    }
    // Conjugate and negative bits: the elements are not the stored ones.
    if metadata.is_some_and(|id| pickle.value(*id).pairs().is_some_and(|pairs| pairs.len() > 0)) {
        dtype = None;
    }
    Ok(Tensor {
        storage: Arc::clone(storage),
        dtype,
        offset,
        size,
        stride,
        requires_grad: rest.first().and_then(|id| pickle.value(*id).as_bool()).unwrap_or(false),
        made,
    })
}

/// The items of a tuple, list or `torch.Size`, not more than a tensor can have.
fn dims(pickle: &Pickle, id: NodeId) -> Result<Vec<NodeId>, PickleProblem> {
    let Some(items) = pickle.value(id).items() else {
        return Err(PickleProblem::Tensor("sizes and strides are not tuples"));
    };
    if items.len() > MAX_DIMS {
        return Err(PickleProblem::Limit { what: "dims in a tensor", limit: MAX_DIMS as u64 });
    }
    Ok(items.map(|item| item.id()).collect())
}

fn ordered_dict(pickle: &Pickle, args: &[NodeId]) -> Option<Node> {
    let pairs = match args {
        [] => Vec::new(),
        // Python 2 lists the pairs.
        [pairs] => {
            let pair = |id: &NodeId| match pickle.node(*id) {
                Node::List(both) if both.len() == 2 => Some((both[0], both[1])),
                Node::Tuple(both) if both.len() == 2 => Some((both[0], both[1])),
                _ => None,
            };
            let Node::List(pairs) = pickle.node(*pairs) else { return None };
            pairs.iter().map(pair).collect::<Option<Vec<Pair>>>()?
        }
        _ => return None,
    };
    Some(Node::Dict(Dict { pairs, ordered: true, state: None }))
}

fn set(pickle: &Pickle, class: &Global, args: &[NodeId]) -> Option<Node> {
    let items = match args {
        [] => Vec::new(),
        [items] => match pickle.node(*items) {
            Node::List(items) => items.clone(),
            _ => return None,
        },
        _ => return None,
    };
    Some(Node::Set(Set { items, frozen: &*class.name == "frozenset" }))
}

/// `getattr(class, 'MEMBER')`: how enums and nested classes are named before protocol 4.
fn member(pickle: &Pickle, object: NodeId, name: NodeId) -> Option<Node> {
    let (Node::Global(object), Node::Str(name)) = (pickle.node(object), pickle.node(name)) else {
        return None;
    };
    let plain = !name.is_empty() && name.chars().all(|c| c == '_' || c.is_alphanumeric());
    let length = object.module.len() + object.name.len() + 1 + name.len();
    if !plain || length > MAX_NAME_BYTES {
        return None;
    }
    let name = format!("{}.{name}", object.name).into();
    Some(Node::Global(Global { module: object.module.clone(), name }))
}

/// `_codecs.encode(text, 'latin1')`: how bytes are written before protocol 3.
fn latin1(pickle: &Pickle, text: NodeId, encoding: NodeId) -> Option<Node> {
    let (Node::Str(text), Node::Str(encoding)) = (pickle.node(text), pickle.node(encoding)) else {
        return None;
    };
    if !matches!(&**encoding, "latin1" | "latin-1") {
        return None;
    }
    let bytes: Option<Box<[u8]>> = text.chars().map(|c| u8::try_from(c).ok()).collect();
    bytes.map(Node::Bytes)
}
