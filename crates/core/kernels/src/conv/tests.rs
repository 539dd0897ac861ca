use super::super::testing::*;
use super::*;
use proptest::prelude::*;

/// Calls `f(x, w, y)` with the indices of every product of the convolution.
fn visit(g: &ConvGeometry, mut f: impl FnMut(usize, usize, usize)) {
    let (oh, ow, cg, og) = (g.out_h(), g.out_w(), g.group_c(), g.group_out());
    for y in 0..g.out_len() {
        let (n, m, oy, ox) = (y / (g.out_c * oh * ow), y / (oh * ow) % g.out_c, y / ow % oh, y % ow);
        for c in 0..cg {
            for ky in 0..g.kh {
                for kx in 0..g.kw {
                    let iy = (oy * g.stride[0] + ky * g.dilation[0]) as isize - g.pads[0] as isize;
                    let ix = (ox * g.stride[1] + kx * g.dilation[1]) as isize - g.pads[1] as isize;
                    if iy >= 0 && ix >= 0 && iy < g.h as isize && ix < g.w as isize {
                        let x = ((n * g.c + m / og * cg + c) * g.h + iy as usize) * g.w + ix as usize;
                        f(x, ((m * cg + c) * g.kh + ky) * g.kw + kx, y);
                    }
                }
            }
        }
    }
}

fn check(g: ConvGeometry, seed: u64) {
    let (x, w) = (values(g.in_len(), seed), values(g.weight_len(), seed + 1));
    let (dy, bias) = (values(g.out_len(), seed + 2), values(g.out_c, seed + 3));
    let plane = g.out_h() * g.out_w();
    let (mut y, mut dx, mut dw) =
        (vec![0.0f64; g.out_len()], vec![0.0f64; g.in_len()], vec![0.0f64; g.weight_len()]);
    visit(&g, |i, j, o| {
        y[o] += x[i] as f64 * w[j] as f64;
        dx[i] += dy[o] as f64 * w[j] as f64;
        dw[j] += dy[o] as f64 * x[i] as f64;
    });
    let with_bias: Vec<f64> =
        y.iter().enumerate().map(|(o, v)| v + bias[o / plane % g.out_c] as f64).collect();
    let clipped: Vec<f64> = with_bias.iter().map(|v| v.clamp(-0.5, 0.75)).collect();
    let largest = y.iter().fold(0.0f64, |m, v| m.max(v.abs()));
    let mut db = vec![0.0f64; g.out_c];
    dy.iter().enumerate().for_each(|(o, &d)| db[o / plane % g.out_c] += d as f64);
    let plus = |v: &[f64]| -> Vec<f64> { v.iter().map(|v| v + 1.0).collect() };
    let onto: Vec<f64> = with_bias.iter().map(|v| (v + 1.0).clamp(-0.5, 0.75)).collect();
    let want = [&y[..], &clipped, &onto, &dx, &plus(&dx), &dw, &plus(&dw), &db, &plus(&db)];
    let names = [
        "y",
        "y with bias, clipped",
        "y added to, clipped",
        "dx",
        "dx added",
        "dw",
        "dw added",
        "db",
        "db added",
    ];
    for (isa, got) in on_all(|isa| {
        let mut conv = Conv::new(g, isa, ConvNeeds { data_gradient: true, weight_gradient: true });
        let mut y = vec![f32::NAN; g.out_len()];
        conv.forward(&x, &w, None, Post::None, &mut y);
        let mut clipped = vec![f32::NAN; g.out_len()];
        conv.forward(&x, &w, Some(&bias), Post::Clip(-0.5, 0.75), &mut clipped);
        let mut onto = vec![1.0; g.out_len()];
        if g.groups == 1 {
            conv.forward_onto(&x, &w, Some(&bias), Post::Clip(-0.5, 0.75), &mut onto);
        } else {
            onto = onto.iter().zip(&with_bias).map(|(o, w)| (*o + *w as f32).clamp(-0.5, 0.75)).collect();
        }
        let (mut dx, mut dx1) = (vec![f32::NAN; g.in_len()], vec![1.0; g.in_len()]);
        conv.backward_data(&w, &dy, &mut dx, Store::Overwrite);
        conv.backward_data(&w, &dy, &mut dx1, Store::Accumulate);
        let (mut dw, mut dw1) = (vec![f32::NAN; g.weight_len()], vec![1.0; g.weight_len()]);
        let (mut db, mut db1) = (vec![f32::NAN; g.out_c], vec![1.0; g.out_c]);
        conv.backward_weights(&x, &dy, &mut dw, Some(&mut db), Store::Overwrite);
        conv.backward_weights(&x, &dy, &mut dw1, Some(&mut db1), Store::Accumulate);
        [y, clipped, onto, dx, dx1, dw, dw1, db, db1].concat()
    }) {
        let mut at = 0;
        for (want, name) in want.iter().zip(names) {
            // Clipped values are small, the sums that they come from are not.
            let scale = if name.ends_with("clipped") { largest.max(1.0) } else { 1.0 };
            assert_close(&got[at..at + want.len()], want, 2e-5 * scale, &format!("{name} {isa} {g:?}"));
            at += want.len();
        }
        assert_eq!(at, got.len());
    }
}

fn geometry() -> impl Strategy<Value = ConvGeometry> {
    let axis = (1usize..6, 1usize..4, 1usize..3, 0usize..4, 0usize..4, 1usize..20);
    ((1usize..4, 1usize..4, 1usize..6, 1usize..20), axis.clone(), axis).prop_filter_map(
        "the kernel fits",
        |((n, groups, cg, og), y, x)| {
            let g = ConvGeometry {
                n,
                c: cg * groups,
                h: y.5,
                w: x.5,
                out_c: og * groups,
                kh: y.0,
                kw: x.0,
                stride: [y.1, x.1],
                pads: [y.3, x.3, y.4, x.4],
                dilation: [y.2, x.2],
                groups,
            };
            (g.out_len() > 0).then_some(g)
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(50))]
    #[test]
    fn any_geometry(g in geometry(), seed in 0u64..1000) {
        check(g, seed);
    }

    #[test]
    fn any_depthwise(g in geometry(), groups in 2usize..4, seed in 0u64..1000) {
        check(ConvGeometry { c: groups, out_c: groups, groups, ..g }, seed);
    }
}

fn square(
    n: usize,
    c: usize,
    side: usize,
    out_c: usize,
    k: usize,
    stride: usize,
    pad: usize,
) -> ConvGeometry {
    ConvGeometry {
        n,
        c,
        h: side,
        w: side,
        out_c,
        kh: k,
        kw: k,
        stride: [stride; 2],
        pads: [pad; 4],
        dilation: [1; 2],
        groups: 1,
    }
}

#[test]
fn shapes_of_networks() {
    check(square(3, 1, 28, 20, 5, 1, 0), 1);
    check(square(2, 20, 12, 50, 5, 1, 0), 2);
    check(square(2, 16, 32, 16, 3, 1, 1), 3);
    check(square(2, 16, 32, 32, 3, 2, 1), 4);
    check(square(3, 64, 8, 64, 3, 1, 1), 5);
    check(square(1, 3, 47, 24, 11, 4, 0), 6);
    check(square(2, 130, 7, 70, 3, 1, 1), 7);
    check(square(2, 33, 14, 65, 1, 1, 0), 8);
    check(square(2, 1, 14, 1, 3, 1, 1), 12);
    check(square(2, 32, 14, 64, 1, 2, 0), 9);
    check(ConvGeometry { groups: 2, ..square(1, 48, 13, 64, 5, 1, 2) }, 10);
}

#[test]
fn winograd() {
    check(square(3, 16, 16, 32, 3, 1, 1), 20);
    check(square(17, 20, 7, 13, 3, 1, 1), 21);
    check(square(2, 12, 15, 50, 3, 1, 0), 22);
    check(square(2, 64, 18, 40, 3, 1, 2), 23);
    check(ConvGeometry { groups: 2, ..square(2, 32, 13, 48, 3, 1, 1) }, 24);
    check(ConvGeometry { h: 9, pads: [0, 2, 1, 0], ..square(3, 16, 22, 16, 3, 1, 1) }, 25);
    check(square(1, 100, 24, 100, 3, 1, 1), 26);
    check(square(4, 20, 12, 50, 5, 1, 0), 27);
    check(square(2, 16, 13, 24, 5, 1, 2), 28);
    check(ConvGeometry { groups: 2, pads: [4, 1, 0, 3], ..square(2, 40, 9, 24, 5, 1, 0) }, 29);
}

#[test]
fn straight() {
    let separable = |g: ConvGeometry, kernel: [usize; 2]| ConvGeometry {
        kh: kernel[0],
        kw: kernel[1],
        pads: [kernel[0] / 2, kernel[1] / 2, kernel[0] / 2, kernel[1] / 2],
        ..g
    };
    for (side, rows) in [(8, 34), (16, 17), (32, 7), (32, 100)] {
        check(separable(square(3, 9, side, rows, 1, 1, 0), [3, 1]), 40);
        check(separable(square(3, 9, side, rows, 1, 1, 0), [1, 3]), 41);
    }
    check(square(2, 7, 16, 9, 3, 1, 1), 42);
    check(square(2, 5, 32, 13, 1, 1, 0), 43);
    check(ConvGeometry { groups: 3, ..square(2, 15, 16, 6, 5, 1, 2) }, 44);
    check(ConvGeometry { h: 32, stride: [2, 1], ..separable(square(2, 6, 32, 10, 1, 1, 0), [3, 1]) }, 45);
    check(ConvGeometry { dilation: [2, 3], pads: [2, 3, 2, 3], ..square(2, 6, 16, 10, 3, 1, 0) }, 46);
}

#[test]
fn lines() {
    let thin = |n, c, [h, w]: [usize; 2], rows, kernel: [usize; 2]| {
        let pads = [kernel[0] / 2, kernel[1] / 2, kernel[0] / 2, kernel[1] / 2];
        let g = ConvGeometry { h, w, kh: kernel[0], kw: kernel[1], pads, ..square(n, c, 1, rows, 1, 1, 0) };
        let wide = Isa::detect() >= Isa::Avx2;
        assert_eq!(winograd::Winograd1d::forward(&g, Isa::detect()).is_some(), wide && h != 9, "{g:?}");
        g
    };
    for (side, rows) in
        [([8, 8], 34), ([16, 16], 43), ([32, 32], 45), ([28, 56], 44), ([8, 12], 46), ([9, 7], 47)]
    {
        check(thin(3, 12, side, rows, [3, 1]), 50);
        check(thin(3, 12, side, rows, [1, 3]), 51);
    }
    for pads in [[0, 0, 0, 0], [2, 0, 1, 0], [0, 0, 2, 0]] {
        check(ConvGeometry { pads, ..thin(2, 26, [13, 24], 18, [3, 1]) }, 52);
    }
    check(ConvGeometry { groups: 2, ..thin(3, 46, [16, 16], 40, [3, 1]) }, 53);
    check(ConvGeometry { groups: 2, ..thin(3, 46, [16, 16], 40, [1, 3]) }, 54);
    check(ConvGeometry { pads: [0, 0, 0, 2], ..thin(3, 26, [16, 16], 20, [1, 3]) }, 55);
}

/// `docs/kernels.md` quotes these figures.
#[test]
fn winograd_errors() {
    for (channels, [kh, kw], bound) in [
        (16, [3, 3], 2e-6),
        (128, [3, 3], 4e-6),
        (512, [3, 3], 8e-6),
        (20, [5, 5], 4e-6),
        (96, [5, 5], 8e-6),
        (24, [3, 1], 2e-6),
        (256, [1, 3], 4e-6),
    ] {
        let g = ConvGeometry {
            kh,
            kw,
            pads: [kh / 2, kw / 2, kh / 2, kw / 2],
            ..square(1, channels, 16, 16, 3, 1, 0)
        };
        let (x, w) = (values(g.in_len(), 1), values(g.weight_len(), 2));
        let mut want = vec![0.0f64; g.out_len()];
        visit(&g, |i, j, o| want[o] += x[i] as f64 * w[j] as f64);
        let mut got = vec![0.0; g.out_len()];
        Conv::new(g, Isa::detect(), ConvNeeds::default()).forward(&x, &w, None, Post::None, &mut got);
        let scale = want.iter().fold(0.0f64, |m, v| m.max(v.abs()));
        let worst = got.iter().zip(&want).fold(0.0f64, |m, (&g, w)| m.max((g as f64 - w).abs())) / scale;
        println!("{kh} x {kw}, {channels} channels: largest error {worst:.1e} of the largest value");
        assert!(worst < bound, "{channels} channels: {worst:e}");
    }
}

#[test]
fn depthwise() {
    for (stride, side, k) in [(1, 14, 3), (2, 14, 3), (2, 15, 3), (1, 7, 5), (1, 33, 3)] {
        check(ConvGeometry { groups: 20, ..square(2, 20, side, 20, k, stride, k / 2) }, 11);
    }
    check(ConvGeometry { groups: 4, ..square(2, 4, 9, 8, 3, 1, 1) }, 12);
    // Rows are cut into phases and columns are not: what a vector writes past the last row of one phase lies in the next.
    for (stride, h, w, k, pads) in
        [([2, 1], 48, 100, [3, 3], [0, 1, 0, 1]), ([3, 1], 13, 12, [3, 2], [1, 1, 2, 2])]
    {
        let g =
            ConvGeometry { groups: 3, h, w, stride, pads, kh: k[0], kw: k[1], ..square(2, 3, 1, 3, 1, 1, 0) };
        check(g, 14);
    }
    // The last tap lies further right than a vector is long.
    check(
        ConvGeometry { groups: 3, dilation: [1, 20], pads: [1, 20, 1, 20], ..square(2, 3, 22, 3, 3, 1, 0) },
        13,
    );
}

#[test]
fn nothing_and_too_large_kernels() {
    let g = square(1, 2, 3, 2, 5, 1, 0);
    assert_eq!((g.out_h(), g.out_len(), g.macs()), (0, 0, 0));
    let mut conv = Conv::new(g, Isa::detect(), ConvNeeds { data_gradient: true, weight_gradient: true });
    conv.forward(&[1.0; 18], &[1.0; 100], None, Post::None, &mut []);
    let mut dx = [1.0; 18];
    conv.backward_data(&[1.0; 100], &[], &mut dx, Store::Overwrite);
    assert_eq!(dx, [0.0; 18]);
    let mut dw = [1.0; 100];
    conv.backward_weights(&[1.0; 18], &[], &mut dw, None, Store::Overwrite);
    assert_eq!(dw, [0.0; 100]);
}

#[test]
fn macs_of_lenet() {
    assert_eq!(square(1, 1, 28, 20, 5, 1, 0).macs(), 288_000);
    assert_eq!(square(1, 20, 12, 50, 5, 1, 0).macs(), 1_600_000);
}
