//! Strided copies, casts, comparisons and sums against loops that do one element at a time.

#![allow(clippy::unwrap_used)]

use ucl_tensor::{
    Affine, Against, DType, Step, Total, Walk, WalkError, accumulate, cast, compare,
    compare_values, convert, convert_synth, copy, settle, synth,
};

/// A generator of test cases, the same in every run.
struct Random(u64);

impl Random {
    fn below(&mut self, limit: u64) -> u64 {
        self.0 =
            self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % limit
    }

    fn bytes(&mut self, len: usize) -> Vec<u8> {
        (0..len).map(|_| self.below(256) as u8).collect()
    }
}

struct Case {
    steps: Vec<Step>,
    from: i64,
    to: i64,
    source_len: usize,
    target_len: usize,
}

/// Loops whose target is a permuted box in a larger window, and whose source is another.
fn case(random: &mut Random, size: u64) -> Case {
    let dims = random.below(5) as usize;
    let limit = [1, 3000, 90, 20, 9][dims];
    let counts: Vec<u64> = (0..dims).map(|_| 1 + random.below(limit)).collect();
    let side = |random: &mut Random, unit: i64| {
        let mut order: Vec<usize> = (0..dims).collect();
        for index in (1..dims).rev() {
            order.swap(index, random.below(index as u64 + 1) as usize);
        }
        if random.below(2) == 0 {
            order = (0..dims).rev().collect();
        }
        let (mut strides, mut base) = (vec![0; dims], 0);
        let mut stride = unit * if random.below(3) == 0 { 2 } else { 1 };
        for index in order {
            strides[index] = stride;
            let span = stride * (counts[index] as i64 - 1);
            stride = stride * counts[index] as i64 + unit * random.below(2) as i64 * 3;
            if random.below(6) == 0 {
                strides[index] = -strides[index];
                base += span;
            }
        }
        (strides, base, stride)
    };
    let (from_strides, from, source_len) = side(random, size as i64);
    let (to_strides, to, target_len) = side(random, 1);
    let skip = random.below(7) as i64;
    let steps = counts.iter().zip(from_strides.iter().zip(&to_strides));
    let steps = steps.map(|(count, (from, to))| Step { count: *count, from: *from, to: *to });
    Case {
        steps: steps.collect(),
        from: from + skip,
        to: to + 1,
        source_len: (source_len + skip + size as i64) as usize,
        target_len: target_len as usize + 2,
    }
}

/// (source byte, target element) of every element.
fn visits(case: &Case) -> Vec<(usize, usize)> {
    let mut at = vec![(case.from, case.to)];
    for step in &case.steps {
        at = at
            .iter()
            .flat_map(|(from, to)| {
                (0..step.count as i64).map(move |i| (from + i * step.from, to + i * step.to))
            })
            .collect();
    }
    at.into_iter().map(|(from, to)| (from as usize, to as usize)).collect()
}

fn walk(case: &Case, size: usize) -> Walk {
    let steps = case.steps.iter().copied();
    Walk::new(steps, (case.from, case.source_len), (case.to, case.target_len), size).unwrap()
}

#[test]
fn copies_are_what_single_steps_make() {
    let mut random = Random(1);
    for round in 0..1500 {
        let size = 1 << (round % 5);
        let case = case(&mut random, size as u64);
        let source = random.bytes(case.source_len);
        let mut expected = vec![0xee; case.target_len * size];
        for (from, to) in visits(&case) {
            expected[to * size..][..size].copy_from_slice(&source[from..][..size]);
        }
        let mut target = vec![0xee; case.target_len * size];
        copy(&walk(&case, size), &source, &mut target);
        assert!(target == expected, "{:?}", case.steps);
    }
}

#[test]
fn casts_and_comparisons_are_what_single_steps_make() {
    let mut random = Random(2);
    let types = [DType::F32, DType::BF16, DType::F16, DType::F64, DType::F8E4M3];
    for round in 0..1000 {
        let (from_type, to_type) = (types[round % 5], types[round / 5 % 5]);
        let (from_size, size) = (from_type.size_bytes() as usize, to_type.size_bytes() as usize);
        let case = case(&mut random, from_size as u64);
        let source = random.bytes(case.source_len);
        let mut expected = vec![0; case.target_len * size];
        for (from, to) in visits(&case) {
            let bytes = &source[from..][..from_size];
            cast(from_type, bytes, to_type, &mut expected[to * size..][..size]).unwrap();
        }
        let walk = walk(&case, from_size);
        let mut target = vec![0; case.target_len * size];
        convert(&walk, Affine::IDENTITY, (from_type, &source), (to_type, &mut target)).unwrap();
        assert!(target == expected, "{from_type} {to_type} {:?}", case.steps);

        let all = visits(&case);
        let same = |window: &[u8]| {
            let sides = ((from_type, &source[..]), (to_type, window));
            compare(&walk, Affine::IDENTITY, Against::Window, sides.0, sides.1).unwrap()
        };
        let found = same(&target);
        assert_eq!((found.compared, found.mismatched, found.first), (all.len() as u64, 0, None));
        let place = all[random.below(all.len() as u64) as usize].1;
        target[place * size] ^= 1;
        let found = same(&target);
        assert_eq!((found.mismatched, found.first), (1, Some(place as u64)));
    }
}

#[test]
fn masters_are_compared_after_rounding() {
    let master: Vec<u8> =
        (0..1000_u32).flat_map(|i| (i as f32 * 0.37 + 1.0).to_le_bytes()).collect();
    let mut stored = vec![0; 2000];
    cast(DType::F32, &master, DType::BF16, &mut stored).unwrap();
    let steps = [Step { count: 1000, from: 2, to: 1 }];
    let walk = Walk::new(steps, (0, 2000), (0, 1000), 2).unwrap();
    let rounded = |stored: &[u8]| {
        let sides = ((DType::BF16, stored), (DType::F32, &master[..]));
        compare(&walk, Affine::IDENTITY, Against::Source, sides.0, sides.1).unwrap()
    };
    assert_eq!(rounded(&stored).mismatched, 0);
    stored[1998] ^= 1;
    let found = rounded(&stored);
    assert_eq!((found.mismatched, found.first), (1, Some(999)));
    assert!(found.max_abs_diff > 0.0 && found.max_abs_diff < 4.0);
}

#[test]
fn values_are_mapped_back() {
    let stored: Vec<u8> = [1.5_f32, -0.5, 3.0].iter().flat_map(|v| v.to_le_bytes()).collect();
    let walk = Walk::new([Step { count: 3, from: 4, to: 1 }], (0, 12), (0, 3), 4).unwrap();
    let affine = Affine { scale: 0.5, shift: 1.0 };
    let mut universal = vec![0; 12];
    convert(&walk, affine, (DType::F32, &stored), (DType::F32, &mut universal)).unwrap();
    let expected: Vec<u8> = [1.0_f32, -3.0, 4.0].iter().flat_map(|v| v.to_le_bytes()).collect();
    assert_eq!(universal, expected);
    for against in [Against::Window, Against::Source] {
        let sides = ((DType::F32, &stored[..]), (DType::F32, &universal[..]));
        assert_eq!(compare(&walk, affine, against, sides.0, sides.1).unwrap().mismatched, 0);
    }
}

#[test]
fn means_of_equal_values_are_the_values() {
    let source: Vec<u8> = [0.1_f32, 2.5, -7e30].iter().flat_map(|v| v.to_le_bytes()).collect();
    let walk = Walk::new([Step { count: 3, from: 4, to: 1 }], (0, 12), (1, 5), 4).unwrap();
    let mut totals = vec![Total::EMPTY; 5];
    for _ in 0..3 {
        accumulate(&walk, Affine::IDENTITY, (DType::F32, &source), &mut totals, (3, 9)).unwrap();
    }
    let mut window = vec![7; 20];
    settle(&totals, DType::F32, &mut window);
    assert_eq!(window[4..16], source);
    assert_eq!((&window[..4], &window[16..]), (&[7; 4][..], &[7; 4][..]));
    assert!(totals[1..4].iter().all(|total| total.low == total.high && total.tag == 9));
}

#[test]
fn made_values_follow_their_addresses() {
    let mut whole = vec![0; 4 * 6000];
    synth(5, 0, 1, DType::F32, &mut whole).unwrap();
    // A transposed 60 × 100.
    let steps = [Step { count: 100, from: 1, to: 60 }, Step { count: 60, from: 100, to: 1 }];
    let walk = Walk::new(steps, (0, usize::MAX), (0, 6000), 1).unwrap();
    let mut window = vec![0; 2 * 6000];
    let target = (DType::BF16, &mut window[..]);
    convert_synth(&walk, Affine::IDENTITY, 5, DType::F32, target).unwrap();
    for row in 0..60 {
        for column in 0..100 {
            let mut rounded = [0; 2];
            let value = &whole[4 * (row * 100 + column)..][..4];
            cast(DType::F32, value, DType::BF16, &mut rounded).unwrap();
            assert_eq!(window[2 * (column * 60 + row)..][..2], rounded);
        }
    }
}

#[test]
fn values_of_two_types_are_compared_as_numbers() {
    let left: Vec<u8> =
        [0.0_f32, f32::NAN, 1.0, 1.001].iter().flat_map(|v| v.to_le_bytes()).collect();
    let right: Vec<u8> =
        [0x8000_u16, 0x7fc1, 0x3f80, 0x3f80].iter().flat_map(|v| v.to_le_bytes()).collect();
    let found = compare_values((DType::F32, &left), (DType::BF16, &right)).unwrap();
    assert_eq!((found.compared, found.mismatched, found.first), (4, 1, Some(3)));
    assert!(compare_values((DType::F32, &left), (DType::I32, &left)).is_err());
    let found = compare_values((DType::I64, &[1; 16]), (DType::I64, &[[1; 8], [2; 8]].concat()));
    assert_eq!(found.unwrap().first, Some(1));
}

#[test]
fn walks_outside_of_their_buffers_are_refused() {
    let row = |count, from, to| [Step { count, from, to }];
    let new = |steps, from, to| Walk::new(steps, from, to, 4);
    assert!(new(row(4, 4, 1), (0, 16), (0, 4)).is_ok());
    assert!(matches!(new(row(4, 4, 1), (1, 16), (0, 4)), Err(WalkError::Source { .. })));
    assert!(matches!(new(row(4, -4, 1), (8, 16), (0, 4)), Err(WalkError::Source { .. })));
    assert!(matches!(new(row(4, 4, 1), (0, 16), (1, 4)), Err(WalkError::Target { .. })));
    assert!(matches!(new(row(4, 4, -1), (0, 16), (2, 4)), Err(WalkError::Target { .. })));
    assert!(matches!(new(row(9, 0, 0), (0, 16), (2, 4)), Err(WalkError::Repeats(4))));
    assert!(new(row(u64::MAX, i64::MAX, i64::MAX), (0, 16), (0, 4)).is_err());
    assert_eq!(new(row(0, i64::MAX, 1), (0, 0), (0, 0)).unwrap().elements(), 0);
}
