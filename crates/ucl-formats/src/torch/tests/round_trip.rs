//! What is written is read back, and Python's own bytes are read as Python reads them.

use ucl_tensor::DType;

use super::super::{Node, NodeId, Pickle, TorchFile, TorchLayout, emit, same};
use super::{open, sample, sample_file};

/// `pickle.dumps` of Python 3.11, of
/// `{'t': (1, 2, 3, 4), 's': {5}, 'b': b'\xff\x00', 'big': 2**70, 'od': OrderedDict(a=1),
///   'p': PurePosixPath('a/b'), 'dd': defaultdict(list, {'k': [1.5]}), 'e': [True, None, 'é', x]}`
/// with itself as `x`.
const PROTOCOL_2: &[u8] = b"\
    \x80\x02}q\x00(X\x01\x00\x00\x00tq\x01(K\x01K\x02K\x03K\x04tq\x02X\x01\x00\x00\x00sq\x03\
    c__builtin__\x0aset\x0aq\x04]q\x05K\x05a\x85q\x06Rq\x07X\x01\x00\x00\x00bq\x08c_codecs\
    \x0aencode\x0aq\x09X\x03\x00\x00\x00\xc3\xbf\x00q\x0aX\x06\x00\x00\x00latin1q\x0b\x86q\
    \x0cRq\x0dX\x03\x00\x00\x00bigq\x0e\x8a\x09\x00\x00\x00\x00\x00\x00\x00\x00@X\x02\x00\
    \x00\x00odq\x0fccollections\x0aOrderedDict\x0aq\x10)Rq\x11X\x01\x00\x00\x00aq\x12K\x01sX\
    \x01\x00\x00\x00pq\x13cpathlib\x0aPurePosixPath\x0aq\x14h\x12h\x08\x86q\x15Rq\x16X\x02\
    \x00\x00\x00ddq\x17ccollections\x0adefaultdict\x0aq\x18c__builtin__\x0alist\x0aq\x19\x85\
    q\x1aRq\x1bX\x01\x00\x00\x00kq\x1c]q\x1dG?\xf8\x00\x00\x00\x00\x00\x00asX\x01\x00\x00\
    \x00eq\x1e]q\x1f(\x88NX\x02\x00\x00\x00\xc3\xa9q h\x00eu.";
const PROTOCOL_4: &[u8] = b"\
    \x80\x04\x95\xde\x00\x00\x00\x00\x00\x00\x00}\x94(\x8c\x01t\x94(K\x01K\x02K\x03K\x04t\
    \x94\x8c\x01s\x94\x8f\x94(K\x05\x90\x8c\x01b\x94C\x02\xff\x00\x94\x8c\x03big\x94\x8a\x09\
    \x00\x00\x00\x00\x00\x00\x00\x00@\x8c\x02od\x94\x8c\x0bcollections\x94\x8c\x0bOrderedDic\
    t\x94\x93\x94)R\x94\x8c\x01a\x94K\x01s\x8c\x01p\x94\x8c\x07pathlib\x94\x8c\x0dPurePosixP\
    ath\x94\x93\x94h\x0dh\x05\x86\x94R\x94\x8c\x02dd\x94h\x09\x8c\x0bdefaultdict\x94\x93\x94\
    \x8c\x08builtins\x94\x8c\x04list\x94\x93\x94\x85\x94R\x94\x8c\x01k\x94]\x94G?\xf8\x00\
    \x00\x00\x00\x00\x00as\x8c\x01e\x94]\x94(\x88N\x8c\x02\xc3\xa9\x94h\x00eu.";

#[test]
fn a_file_comes_back_as_it_was_laid_out() {
    let file = open(&sample_file()).unwrap();
    assert!(same(file.value.root(), sample().root()));
    let keys: Vec<_> = file.storages.keys().collect();
    assert_eq!(keys, ["0", "1"]);
    let extent = file.storages["1"];
    assert_eq!((extent.offset % 64, extent.len), (0, 5));
    extent.verify(crc32fast::hash(&[100, 101, 102, 103, 104])).unwrap();
    assert!(extent.verify(1).is_err());
    let root = file.value.root();
    assert!(root.as_dict().unwrap().ordered);
    assert_eq!(root.at(&["args", "hidden_size"]).unwrap().as_i64(), Some(32));
    assert!(root.get("args").unwrap().is_class("argparse", "Namespace"));
    let scale = file.extent(root.get("scale").unwrap().as_tensor().unwrap()).unwrap();
    assert_eq!((scale.dtype, scale.shape), (DType::F8E4M3, vec![5]));
}

#[test]
fn writing_is_deterministic() {
    assert_eq!(sample_file(), sample_file());
    let pickle = emit(&sample()).unwrap();
    let again = Pickle::parse(&pickle).unwrap();
    assert_eq!(emit(&again).unwrap(), pickle);
}

#[test]
fn only_the_headers_are_read() {
    let path = std::env::temp_dir().join(format!("ucl-torch-{}.pt", std::process::id()));
    let mut pickle = Pickle::new();
    let tensor = pickle.whole_tensor("0", DType::U8, &[1 << 24]).unwrap();
    pickle.set_root(tensor);
    let layout = TorchLayout::new("x", emit(&pickle).unwrap(), &[("0", 1 << 24)]).unwrap();
    let mut bytes = vec![7; layout.total_len() as usize];
    for (at, chunk) in layout.chunks(&[None]) {
        bytes[at as usize..][..chunk.len()].copy_from_slice(&chunk);
    }
    std::fs::write(&path, &bytes).unwrap();
    let file = TorchFile::open(&path).unwrap();
    assert!(file.header_bytes_read < 8 << 10, "{}", file.header_bytes_read);
    assert_eq!(file.storages["0"].crc32, None);
    // The same file inside another.
    bytes.splice(0..0, [1; 100]);
    std::fs::write(&path, &bytes).unwrap();
    assert!(TorchFile::open(&path).is_err());
    let inside = TorchFile::open_slice(&path, 100, bytes.len() as u64 - 100).unwrap();
    assert_eq!(inside.storages["0"].offset, file.storages["0"].offset + 100);
    assert!(TorchFile::open_slice(&path, 101, bytes.len() as u64 - 100).is_err());
    std::fs::remove_file(&path).unwrap();
    assert!(TorchFile::open(&path).is_err());
    assert!(TorchFile::open(&std::env::temp_dir()).is_err());
}

#[test]
fn large_files_have_zip64_fields() {
    let layout = TorchLayout::new("x", b"N.".to_vec(), &[("0", 5 << 30), ("1", 3)]).unwrap();
    let offsets = layout.storage_offsets();
    assert!(offsets[1] > 5 << 30 && offsets[1].is_multiple_of(64));
    let chunks = layout.chunks(&[None, None]);
    let (at, last) = chunks.last().unwrap();
    assert_eq!(at + last.len() as u64, layout.total_len());
    assert_eq!(chunks[1].0, offsets[0] + (5 << 30));
}

#[test]
fn names_that_cannot_be_members_are_refused() {
    for root in ["", "a/b", "a\n", "a\\b"] {
        assert!(TorchLayout::new(root, vec![], &[("0", 1)]).is_err(), "{root:?}");
    }
    assert!(TorchLayout::new("x", vec![], &[("0", 1), ("0", 1)]).is_err());
    assert!(TorchLayout::new("x", vec![], &[("0", u64::MAX)]).is_err());
}

#[test]
fn python_is_read_in_protocol_2_and_4() {
    for bytes in [PROTOCOL_2, PROTOCOL_4] {
        let pickle = Pickle::parse(bytes).unwrap();
        let root = pickle.root();
        let get = |key| root.get(key).unwrap();
        assert_eq!(get("t").as_shape(), Some(vec![1, 2, 3, 4]));
        assert_eq!(get("s").index(0).unwrap().as_i64(), Some(5));
        assert_eq!(get("b").as_bytes(), Some(&[0xff, 0x00][..]));
        assert!(matches!(get("big").node(), Node::BigInt(bytes) if bytes.len() == 9));
        assert!(get("od").as_dict().unwrap().ordered);
        assert_eq!(get("od").get("a").unwrap().as_i64(), Some(1));
        assert!(get("p").is_class("pathlib", "PurePosixPath"));
        assert_eq!(get("p").argument(1).unwrap().as_str(), Some("b"));
        let default = get("dd");
        assert!(default.argument(0).unwrap().as_global().unwrap().name.ends_with("list"));
        assert_eq!(default.at(&["k"]).unwrap().index(0).unwrap().as_f64(), Some(1.5));
        let last = get("e").index(3).unwrap();
        assert_eq!(last.id(), root.id(), "a cycle");
        let again = Pickle::parse(&emit(&pickle).unwrap()).unwrap();
        assert!(same(root, again.root()));
    }
}

#[test]
fn enums_and_sizes_read_as_numbers() {
    let mut pickle = Pickle::new();
    let two = pickle.int(2);
    let stage = pickle.call("deepspeed.runtime.zero.config", "ZeroStageEnum", &[two]);
    let size = pickle.size(&[3, 4]);
    let member = pickle.global("megatron.core.enums", "ModelType.encoder");
    let kind = pickle.dtype(DType::BF16).unwrap();
    let root = pickle.tuple(&[stage, size, member, kind]);
    pickle.set_root(root);
    let again = Pickle::parse(&emit(&pickle).unwrap()).unwrap();
    let root = again.root();
    assert!(same(root, pickle.root()));
    assert_eq!(root.index(0).unwrap().as_i64(), Some(2));
    assert_eq!(root.index(1).unwrap().as_shape(), Some(vec![3, 4]));
    assert!(
        root.index(2).unwrap().as_global().unwrap().is("megatron.core.enums", "ModelType.encoder")
    );
    assert_eq!(root.index(3).unwrap().as_dtype(), Some(DType::BF16));
}

#[test]
fn integers_of_every_length_come_back() {
    let mut pickle = Pickle::new();
    let mut numbers = vec![0, -1, i64::MAX, i64::MIN];
    for shift in 0..63 {
        numbers.extend([
            1i64 << shift,
            -(1i64 << shift),
            (1i64 << shift) - 1,
            -(1i64 << shift) - 1,
        ]);
    }
    let items: Vec<NodeId> = numbers.iter().map(|number| pickle.int(*number)).collect();
    let root = pickle.list(items);
    pickle.set_root(root);
    let again = Pickle::parse(&emit(&pickle).unwrap()).unwrap();
    let read: Vec<i64> = again.root().items().unwrap().filter_map(|item| item.as_i64()).collect();
    assert_eq!(read, numbers);
}

#[test]
fn grafts_replace_and_keep_sharing() {
    let source = sample();
    let mut target = Pickle::new();
    let root = target.graft(source.root(), |target, value| {
        value.as_tensor().map(|tensor| target.str(&format!("was in {}", tensor.storage.key)))
    });
    target.set_root(root);
    assert_eq!(target.root().get("weight").unwrap().as_str(), Some("was in 0"));
    assert_eq!(target.root().at(&["args", "hidden_size"]).unwrap().as_i64(), Some(32));
    let cyclic = Pickle::parse(PROTOCOL_4).unwrap();
    let mut copy = Pickle::new();
    let root = copy.graft(cyclic.root(), |_, _| None);
    copy.set_root(root);
    assert!(same(cyclic.root(), copy.root()));
}
