use super::super::testing::*;
use super::*;
use proptest::prelude::*;

fn base() -> PoolGeometry {
    PoolGeometry {
        n: 1,
        c: 1,
        h: 6,
        w: 6,
        kernel: [3, 3],
        stride: [2, 2],
        pads: [0; 4],
        dilation: [1, 1],
        ceil: false,
        count_include_pad: true,
    }
}

#[test]
fn output_sizes() {
    let size = |h: usize, k: usize, s: usize, p: usize, ceil: bool| {
        PoolGeometry { h, w: h, kernel: [k; 2], stride: [s; 2], pads: [p; 4], ceil, ..base() }.out_h()
    };
    assert_eq!(size(24, 2, 2, 0, true), 12);
    assert_eq!(size(55, 3, 2, 0, true), 27);
    assert_eq!(size(32, 3, 2, 0, true), 16);
    assert_eq!(size(32, 3, 2, 0, false), 15);
    assert_eq!(size(112, 3, 2, 1, false), 56);
    // Three windows of stride 3 would cover 7 + 2, but the last would start in the padding.
    assert_eq!(size(6, 2, 3, 1, true), 3);
    assert_eq!(size(5, 2, 3, 1, true), 2);
    assert_eq!(size(2, 5, 1, 1, false), 0);
}

#[test]
fn divisors_follow_pytorch() {
    // torch.nn.functional.avg_pool2d(torch.ones(1, 1, 4, 4), 3, 2, 1, ceil_mode=True)
    let g = PoolGeometry { h: 4, w: 4, pads: [1; 4], ceil: true, ..base() };
    assert_eq!(g.out_h(), 3);
    let mut y = vec![0.0; 9];
    avg_forward(Isa::Scalar, &g, &[1.0; 16], &mut y);
    let (a, b, c) = (4.0 / 9.0, 6.0 / 9.0, 2.0 / 6.0);
    let want = [a, b, c, b, 1.0, 0.5, c, 0.5, 0.25];
    assert_close(&y, &want, 1e-6, "padding counted");
    let g = PoolGeometry { count_include_pad: false, ..g };
    avg_forward(Isa::Scalar, &g, &[1.0; 16], &mut y);
    assert_eq!(y, [1.0; 9]);
}

#[test]
fn ties_and_not_a_number() {
    let g = PoolGeometry { h: 2, w: 2, kernel: [2, 2], ..base() };
    let general = PoolGeometry { h: 2, w: 2, kernel: [2, 2], stride: [1, 1], ..base() };
    for isa in Isa::supported() {
        for g in [g, general] {
            let (mut y, mut a) = ([0.0], [9]);
            max_forward(isa, &g, &[1.0, 2.0, 2.0, 2.0], &mut y, Some(&mut a));
            assert_eq!((y, a), ([2.0], [1]));
            max_forward(isa, &g, &[f32::NEG_INFINITY; 4], &mut y, Some(&mut a));
            assert_eq!((y, a), ([f32::NEG_INFINITY], [0]));
            max_forward(isa, &g, &[1.0, f32::NAN, 2.0, f32::NAN], &mut y, Some(&mut a));
            assert!(y[0].is_nan() && a == [1]);
        }
    }
}

fn geometry() -> impl Strategy<Value = PoolGeometry> {
    let axis = (1usize..4, 1usize..4, 1usize..3, 0usize..2, 0usize..2, 1usize..14);
    ((1usize..3, 1usize..4), axis.clone(), axis, any::<bool>(), any::<bool>()).prop_filter_map(
        "windows fit",
        |((n, c), y, x, ceil, count_include_pad)| {
            let pads = [y.3.min(y.0 / 2), x.3.min(x.0 / 2), y.4.min(y.0 / 2), x.4.min(x.0 / 2)];
            let g = PoolGeometry {
                n,
                c,
                h: y.5,
                w: x.5,
                kernel: [y.0, x.0],
                stride: [y.1, x.1],
                pads,
                dilation: [y.2, x.2],
                ceil,
                count_include_pad,
            };
            (g.out_len() > 0).then_some(g)
        },
    )
}

/// Calls `f(plane, output, input index or none for padding inside h + pads)` for every element of every window.
fn visit(g: &PoolGeometry, mut f: impl FnMut(usize, usize, Option<usize>)) {
    let (oh, ow) = (g.out_h(), g.out_w());
    for plane in 0..g.n * g.c {
        for o in 0..oh * ow {
            for ky in 0..g.kernel[0] {
                for kx in 0..g.kernel[1] {
                    let y = (o / ow * g.stride[0] + ky * g.dilation[0]) as isize - g.pads[0] as isize;
                    let x = (o % ow * g.stride[1] + kx * g.dilation[1]) as isize - g.pads[1] as isize;
                    if y >= (g.h + g.pads[2]) as isize || x >= (g.w + g.pads[3]) as isize {
                        continue;
                    }
                    let inside = y >= 0 && x >= 0 && y < g.h as isize && x < g.w as isize;
                    f(
                        plane,
                        plane * oh * ow + o,
                        inside.then(|| plane * g.h * g.w + y as usize * g.w + x as usize),
                    );
                }
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(60))]
    #[test]
    fn matches_the_definition(g in geometry(), seed in 0u64..1000) {
        let x = values(g.in_len(), seed);
        let dy = values(g.out_len(), seed + 1);
        let mut max = vec![(f64::NEG_INFINITY, None); g.out_len()];
        let (mut sum, mut all, mut real) = (vec![0.0; g.out_len()], vec![0.0; g.out_len()], vec![0.0; g.out_len()]);
        visit(&g, |_, o, i| {
            all[o] += 1.0f64;
            if let Some(i) = i {
                real[o] += 1.0;
                sum[o] += x[i] as f64;
                if max[o].1.is_none() || x[i] as f64 > max[o].0 {
                    max[o] = (x[i] as f64, Some(i));
                }
            }
        });
        let divisor = if g.count_include_pad { &all } else { &real };
        let avg: Vec<f64> = sum.iter().zip(divisor).map(|(s, d)| s / d.max(1.0)).collect();
        let (mut dmax, mut davg) = (vec![0.0; g.in_len()], vec![0.0; g.in_len()]);
        visit(&g, |_, o, i| if let Some(i) = i { davg[i] += dy[o] as f64 / divisor[o] });
        for (o, m) in max.iter().enumerate() {
            if let Some(i) = m.1 { dmax[i] += dy[o] as f64 }
        }
        for isa in Isa::supported() {
            let mut y = vec![0.0; g.out_len()];
            let mut a = vec![0; g.out_len()];
            let mut dx = vec![0.0; g.in_len()];
            max_forward(isa, &g, &x, &mut y, Some(&mut a));
            for (o, m) in max.iter().enumerate() {
                if m.1.is_some() { prop_assert_eq!(y[o] as f64, m.0) }
            }
            let mut same = vec![0.0; g.out_len()];
            max_forward(isa, &g, &x, &mut same, None);
            prop_assert_eq!(&same, &y);
            max_backward(isa, &g, &dy, &a, &mut dx, Store::Overwrite);
            assert_close(&dx, &dmax, 1e-6, "max gradient");
            avg_forward(isa, &g, &x, &mut y);
            assert_close(&y, &avg, 1e-6, "average");
            avg_backward(isa, &g, &dy, &mut dx, Store::Overwrite);
            assert_close(&dx, &davg, 1e-6, "average gradient");
            avg_backward(isa, &g, &dy, &mut dx, Store::Accumulate);
            let twice: Vec<f64> = davg.iter().map(|v| 2.0 * v).collect();
            assert_close(&dx, &twice, 1e-6, "accumulated");
        }
    }
}

#[test]
fn threads_and_larger_planes() {
    let g = PoolGeometry { n: 5, c: 7, h: 24, w: 26, kernel: [2, 2], ..base() };
    let x = values(g.in_len(), 1);
    let results = on_all(|isa| {
        let mut y = vec![0.0; g.out_len()];
        let mut a = vec![0; g.out_len()];
        max_forward(isa, &g, &x, &mut y, Some(&mut a));
        let mut dx = vec![0.0; g.in_len()];
        max_backward(isa, &g, &y, &a, &mut dx, Store::Overwrite);
        let mut mean = vec![0.0; g.n * g.c];
        global_avg_forward(isa, g.h * g.w, &x, &mut mean);
        let mut back = vec![0.0; g.in_len()];
        global_avg_backward(isa, g.h * g.w, &mean, &mut back, Store::Overwrite);
        [y, dx, mean, back].concat()
    });
    assert!(results.windows(2).all(|r| r[0].1 == r[1].1), "pooling has the same bits everywhere");
    let mean: f64 = x[..24 * 26].iter().map(|&v| v as f64).sum::<f64>() / 624.0;
    let at = g.out_len() + g.in_len();
    assert!((results[0].1[at] as f64 - mean).abs() < 1e-7);
    assert_eq!(results[0].1[at + g.n * g.c], results[0].1[at] / 624.0);
}
