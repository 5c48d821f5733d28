//! Pickles that lie, loop or attack: an error or a harmless tree, never a panic, never a call.

use super::super::emit::EmitError;
use super::super::error::PickleProblem;
use super::super::{Made, Node, Object, Pickle, Set, emit, same};
use super::{exercise_pickle, sample};

fn refused(bytes: &[u8]) -> PickleProblem {
    Pickle::parse(bytes).expect_err("a hostile pickle").kind
}

#[test]
fn a_call_of_os_system_is_a_record() {
    let pickle = Pickle::parse(b"cposix\nsystem\n(S'touch /tmp/ucl-was-here'\ntR.").unwrap();
    assert!(pickle.root().is_class("posix", "system"));
    assert_eq!(pickle.root().argument(0).unwrap().as_str(), Some("touch /tmp/ucl-was-here"));
    assert!(!std::path::Path::new("/tmp/ucl-was-here").exists());
}

#[test]
fn truncation_is_an_error_at_every_byte() {
    let whole = emit(&sample()).unwrap();
    for end in 0..whole.len() {
        assert!(Pickle::parse(&whole[..end]).is_err(), "cut at {end}");
    }
}

#[test]
fn no_flipped_bit_panics() {
    let whole = emit(&sample()).unwrap();
    for at in 0..whole.len() {
        for bit in 0..8 {
            let mut bytes = whole.clone();
            bytes[at] ^= 1 << bit;
            if let Ok(pickle) = Pickle::parse(&bytes) {
                exercise_pickle(&pickle);
            }
        }
    }
}

#[test]
fn no_short_program_panics() {
    // Every pair of opcodes after a stack with one of each kind.
    let prefix = b"\x80\x04](}c__main__\nf\n)\x8f(K\x01NU\x01x";
    for first in 0..=255u8 {
        for second in 0..=255u8 {
            let program = [&prefix[..], &[first, second, b'a', b'\n', b'.']].concat();
            if let Ok(pickle) = Pickle::parse(&program) {
                exercise_pickle(&pickle);
            }
        }
    }
}

#[test]
fn declared_sizes_are_checked_before_memory_is_taken() {
    for opcode in [b"\x8d", b"\x8e", b"\x95", b"\x96"] {
        let bytes = [&opcode[..], &u64::MAX.to_le_bytes(), b"x."].concat();
        assert!(matches!(refused(&bytes), PickleProblem::End { .. }));
    }
    assert!(matches!(refused(b"X\xff\xff\xff\xffx."), PickleProblem::End { .. }));
    assert!(matches!(refused(b"\x8b\x00\x00\x00\x80x."), PickleProblem::Limit { .. }));
    let endless = vec![b'9'; 2 << 20];
    assert!(matches!(refused(&[b"I", &endless[..]].concat()), PickleProblem::Limit { .. }));
}

#[test]
fn misused_opcodes_are_errors() {
    let cases: [&[u8]; 18] = [
        b"]K\x01K\x02s.",                    // SETITEM on a list
        b"}K\x01a.",                         // APPEND on a dict
        b"}(K\x01u.",                        // SETITEMS with half a pair
        b"K\x01}b.",                         // BUILD on an integer
        b"}}b.",                             // BUILD on a dict
        b"h\x07.",                           // GET of nothing
        b"j\xff\xff\xff\xff.",               // the same, far away
        b"0.",                               // POP of nothing
        b"N(0R.",                            // REDUCE of nothing
        b"(NR.",                             // REDUCE through a mark
        b"K\x01K\x02\x93.",                  // STACK_GLOBAL of integers
        b"X\x03\0\0\0a\nbX\x01\0\0\0c\x93.", // a line break in a name
        b"\x82\x01.",                        // EXT1
        b"\x80\x06.",                        // protocol 6
        b"\x97.",                            // NEXT_BUFFER
        b"NN.",                              // two values
        b"N.N",                              // more after the end
        b"(o.",                              // OBJ without a class
    ];
    for bytes in cases {
        refused(bytes);
    }
    assert!(matches!(refused(b"\xff"), PickleProblem::UnknownOpcode(0xff)));
    assert!(matches!(refused(b"}(U\x01aNU\x01aNu."), PickleProblem::DuplicateKey(_)));
}

#[test]
fn persistent_ids_must_be_storages() {
    for id in ["N", "]", "(U\x07storaget", "(U\x07storageNU\x010U\x03cpuK\x05t"] {
        refused(format!("{id}Q.").as_bytes());
    }
    let storage: &[u8] = b"(U\x07storagectorch\nFloatStorage\nU\x010U\x03cpuK\x05tQ";
    assert!(Pickle::parse(&[storage, b"."].concat()).is_ok());
    let tensor = |args: &[u8]| {
        let call: &[u8] = b"ctorch._utils\n_rebuild_tensor_v2\n(";
        Pickle::parse(&[call, storage, args, b"tR."].concat())
    };
    assert!(tensor(b"K\x00(K\x05t(K\x01t\x89N").is_ok());
    let wrong: [&[u8]; 5] =
        [b"", b"K\x00", b"K\x00(K\x05t(t\x89N", b"J\xff\xff\xff\xff))", b"K\x00NN\x89N"];
    for args in wrong {
        assert!(tensor(args).is_err(), "{args:?}");
    }
}

#[test]
fn memo_bombs_stay_small() {
    // Each tuple holds the one before twice: 2^200 leaves if it were a tree.
    let mut bytes = b")q\0".to_vec();
    for _ in 0..200 {
        bytes.extend(b"0h\0h\0\x86q\0");
    }
    bytes.push(b'.');
    let pickle = Pickle::parse(&bytes).unwrap();
    let again = Pickle::parse(&emit(&pickle).unwrap()).unwrap();
    assert!(again.len() < 1000);
    assert!(same(pickle.root(), again.root()));
}

#[test]
fn repeated_folds_are_limited() {
    // One long list, made a set again and again.
    let mut bytes = b"c__builtin__\nset\nq\x000](".to_vec();
    bytes.extend(vec![b'N'; 1 << 20]);
    bytes.extend(b"eq\x010(");
    for _ in 0..10_000 {
        bytes.extend(b"h\0h\x01\x85R0");
    }
    bytes.extend(b"t.");
    assert!(matches!(refused(&bytes), PickleProblem::Limit { .. }));
}

#[test]
fn deep_nesting_does_not_use_the_stack() {
    const DEEP: usize = 100_000;
    let lists = [vec![b']'; DEEP], vec![b'a'; DEEP - 1]].concat();
    let tuples = [vec![b')'], vec![0x85; DEEP]].concat();
    let objects =
        [&b"c__main__\nf\nq\x000)"[..], &b"q\x010h\0h\x01R\x85q\x01".repeat(DEEP)].concat();
    assert!(format!("{:?}", Pickle::parse(&[&lists[..], b"."].concat())).len() > DEEP);
    for bytes in [lists, tuples, objects] {
        let pickle = Pickle::parse(&[&bytes[..], b"."].concat()).unwrap();
        let again = Pickle::parse(&emit(&pickle).unwrap()).unwrap();
        assert!(same(pickle.root(), again.root()));
        let mut copy = Pickle::new();
        copy.graft(pickle.root(), |_, _| None);
    }
}

#[test]
fn cycles_come_back() {
    let cases: [&[u8]; 4] = [
        b"]q\0h\0a.",                           // a list in itself
        b"}q\0K\x01h\0s.",                      // a dict in itself
        b"c__main__\nC\n)\x81q\0}U\x01xh\0sb.", // an object in its state
        b"]q\0h\0\x85q\x01ah\x010.",            // a list through a tuple
    ];
    for bytes in cases {
        let pickle = Pickle::parse(bytes).unwrap();
        let again = Pickle::parse(&emit(&pickle).unwrap()).unwrap();
        assert!(same(pickle.root(), again.root()));
        exercise_pickle(&pickle);
    }
    // A tuple that a list in it leads back to: the tuple is the root.
    let mut pickle = Pickle::new();
    let list = pickle.list(Vec::new());
    let tuple = pickle.tuple(&[list, pickle.none()]);
    let Node::List(items) = pickle.node_mut(list) else { panic!() };
    items.push(tuple);
    pickle.set_root(tuple);
    let again = Pickle::parse(&emit(&pickle).unwrap()).unwrap();
    assert!(same(pickle.root(), again.root()));
    // An object that a list in its arguments leads back to.
    let class = pickle.global("__main__", "C");
    let list = pickle.list(Vec::new());
    let args = pickle.tuple(&[list]);
    let mut object = Object::new(class, args, Made::Call);
    object.state = Some(list);
    let object = pickle.push(Node::Object(Box::new(object)));
    let Node::List(items) = pickle.node_mut(list) else { panic!() };
    items.push(object);
    pickle.set_root(object);
    let again = Pickle::parse(&emit(&pickle).unwrap()).unwrap();
    assert!(same(pickle.root(), again.root()));
}

#[test]
fn a_set_in_itself_cannot_be_written() {
    let mut pickle = Pickle::new();
    let set = pickle.set(Vec::new());
    *pickle.node_mut(set) = Node::Set(Set { items: vec![set], frozen: false });
    pickle.set_root(set);
    assert_eq!(emit(&pickle), Err(EmitError::Cycle));
}
