use super::*;

/// Strided access of a vector type against the same lane by lane, with margins that nobody may read or write.
fn strided<L: Lanes>() {
    let number = |i: usize| L::Elem::of(1.0 + i as f64);
    for step in 1..=6 {
        for mask in [0u32, 1, 0b101, 0x8001, 0x7ffe, 0xffff, 0x5a5a, 0x00ff].map(|mask| mask & (u32::MAX >> (32 - L::N))) {
            let source: Vec<_> = (0..L::N * step).map(number).collect();
            let (mut got, mut expected) = ([L::Elem::ZERO; MAX_LANES], [L::Elem::ZERO; MAX_LANES]);
            // SAFETY: the level is available, and the arrays have all lanes.
            unsafe {
                L::gather(source.as_ptr(), mask, step).store(got.as_mut_ptr());
                super::gather::<L>(source.as_ptr(), mask, step).store(expected.as_mut_ptr());
            }
            assert_eq!(got, expected, "gather, step {step}, mask {mask:b}");
            for accumulate in [false, true] {
                let [mut got, mut expected] = [(); 2].map(|()| (100..100 + L::N * step + 8).map(number).collect::<Vec<_>>());
                // SAFETY: as above.
                unsafe {
                    let value = L::load(source.as_ptr());
                    value.scatter(got.as_mut_ptr(), mask, step, accumulate);
                    super::scatter(value, expected.as_mut_ptr(), mask, step, accumulate);
                }
                assert_eq!(got, expected, "scatter, step {step}, mask {mask:b}");
            }
        }
    }
}

/// Elements dealt out to vectors against the same one by one, with margins that nobody may read, and put together again.
fn dealt<L: Lanes, const S: usize>() {
    let source: Vec<_> = (0..L::N * S).map(|i| L::Elem::of(1.0 + i as f64)).collect();
    let full = u32::MAX >> (32 - L::N);
    let patterns = [0u32, 1, 0x8001, 0x7ffe, 0xffff, 0x5a5a, 0x00ff].map(|mask| (mask & full) as u16);
    for (n, &pattern) in patterns.iter().enumerate() {
        let masks: [u16; 4] = std::array::from_fn(|r| if r == 0 { pattern } else { patterns[(n + 3 * r) % patterns.len()] });
        // What no lane asks for lies beyond the array.
        let asked = (0..L::N * S).filter(|i| masks[i % S] >> (i / S) & 1 != 0);
        let (first, last) = asked.fold((usize::MAX, 0), |(first, last), i| (first.min(i), last.max(i + 1)));
        let page = source[first.min(last)..last].to_vec();
        // SAFETY: the level is available, and the arrays have the elements.
        let dealt = unsafe { L::deal::<S>(page.as_ptr().wrapping_sub(first.min(last)), &masks) };
        for (r, v) in dealt.into_iter().enumerate() {
            let mut got = [L::Elem::ZERO; MAX_LANES];
            // SAFETY: as above.
            unsafe { v.store(got.as_mut_ptr()) };
            for (i, &got) in got.iter().enumerate().take(L::N) {
                let expected = if masks[r] >> i & 1 != 0 { source[i * S + r] } else { L::Elem::ZERO };
                assert_eq!(got, expected, "{S} phases, lane {i} of {r}");
            }
        }
    }
    let mut together = vec![L::Elem::ZERO; L::N * S];
    // SAFETY: as above.
    unsafe {
        let lines = L::interleave(L::deal::<S>(source.as_ptr(), &[full as u16; 4]));
        lines.iter().zip(together.chunks_exact_mut(L::N)).for_each(|(line, to)| line.store(to.as_mut_ptr()));
    }
    assert_eq!(together, source, "{S} phases");
}

/// Lanes moved by one, and some of them kept.
fn moved<L: Lanes>() {
    let source: Vec<_> = (0..L::N).map(|i| L::Elem::of(1.0 + i as f64)).collect();
    let [mut up, mut down] = [[L::Elem::ZERO; MAX_LANES]; 2];
    // SAFETY: the level is available, and the arrays have all lanes.
    unsafe {
        L::load(source.as_ptr()).up().store(up.as_mut_ptr());
        L::load(source.as_ptr()).down().store(down.as_mut_ptr());
    }
    for i in 0..L::N {
        assert_eq!(up[i], if i == 0 { L::Elem::ZERO } else { source[i - 1] });
        assert_eq!(down[i], source.get(i + 1).copied().unwrap_or(L::Elem::ZERO));
    }
    for mask in [0, 1, 0b101, u32::MAX >> (33 - L::N), u32::MAX >> (32 - L::N)] {
        // SAFETY: as above.
        unsafe { L::load(source.as_ptr()).kept(mask).store(up.as_mut_ptr()) };
        for i in 0..L::N {
            assert_eq!(up[i], if mask >> i & 1 != 0 { source[i] } else { L::Elem::ZERO }, "{mask:b}");
        }
    }
}

/// Columns of a square, and the slopes of a function on the way.
fn columns<L: Lanes>() {
    let (row, size) = (L::N + 3, L::N);
    let source: Vec<_> = (0..row * size).map(|i| L::Elem::of((i * 7 % 11) as f64 - 5.0)).collect();
    // SAFETY: the level is available, and the array has the rows.
    unsafe {
        let (above, below) = (L::splat(L::Elem::of(3.0)), L::splat(L::Elem::of(-0.5)));
        let v = L::columns(source.as_ptr(), row, |v| v.scaled(v, above, below));
        for (c, v) in v.iter().enumerate().take(size) {
            let mut got = [L::Elem::ZERO; MAX_LANES];
            v.store(got.as_mut_ptr());
            for (r, &got) in got.iter().enumerate().take(size) {
                let x = source[r * row + c];
                assert_eq!(got, x * L::Elem::of(if x >= L::Elem::ZERO { 3.0 } else { -0.5 }), "row {r}, column {c}");
            }
        }
        for count in 1..=size {
            let mut to = vec![L::Elem::of(9.0); size];
            L::load(source.as_ptr()).store_first(to.as_mut_ptr(), count);
            assert!(to[..count] == source[..count] && to[count..].iter().all(|&v| v == L::Elem::of(9.0)));
        }
    }
}

#[test]
fn vectors_of_every_level_do_what_lanes_do() {
    macro_rules! check {
        ($($vector:ty),*) => { $(
            strided::<$vector>();
            moved::<$vector>();
            dealt::<$vector, 2>();
            dealt::<$vector, 3>();
            dealt::<$vector, 4>();
            columns::<$vector>();
        )* };
    }
    check!(scalar::Quad<f32>, scalar::Quad<f64>);
    #[cfg(target_arch = "x86_64")]
    if Level::Avx2.is_available() {
        check!(avx2::F32x8, avx2::F64x4);
    }
    #[cfg(target_arch = "x86_64")]
    if Level::Avx512.is_available() {
        check!(avx512::F32x16, avx512::F64x8);
    }
    #[cfg(target_arch = "aarch64")]
    if Level::Neon.is_available() {
        check!(neon::F32x4, neon::F64x2);
    }
}
