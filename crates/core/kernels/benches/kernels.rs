//! Convolutions and products of the networks that `docs/kernels.md` tabulates, pass by pass.
//!
//! `cargo bench -p slq-engine --bench kernels`; the counter shows multiply-adds in a second.

use divan::Bencher;
use divan::counter::ItemsCount;
use slq_kernels::conv::{Conv, ConvGeometry, ConvNeeds, Post};
use slq_kernels::gemm::{Factor, gemm};
use slq_kernels::packed::{Order, PackedMatrix};
use slq_kernels::{Isa, Store};

fn main() {
    divan::main();
}

const LAYERS: [&str; 14] = [
    "lenet conv1",
    "lenet conv2",
    "resnet20 16",
    "resnet20 32",
    "resnet20 64",
    "resnet18 128",
    "resnet18 512",
    "depthwise 32",
    "vertical 16-6",
    "vertical 32-13",
    "vertical 64-28",
    "horizontal 6-16",
    "horizontal 13-32",
    "horizontal 28-64",
];

fn layer(name: &str) -> ConvGeometry {
    let square = |n, c, side, out_c, k, pad| ConvGeometry {
        n,
        c,
        h: side,
        w: side,
        out_c,
        kh: k,
        kw: k,
        stride: [1; 2],
        pads: [pad; 4],
        dilation: [1; 2],
        groups: 1,
    };
    // Factors of a layer of ResNet-20 that is split by its spatial axes.
    let vertical =
        |c, side, rank| ConvGeometry { kw: 1, pads: [1, 0, 1, 0], ..square(128, c, side, rank, 3, 1) };
    let horizontal = |rank, side, out_c| ConvGeometry {
        kh: 1,
        pads: [0, 1, 0, 1],
        ..square(128, rank, side, out_c, 3, 1)
    };
    match name {
        "vertical 16-6" => vertical(16, 32, 6),
        "vertical 32-13" => vertical(32, 16, 13),
        "vertical 64-28" => vertical(64, 8, 28),
        "horizontal 6-16" => horizontal(6, 32, 16),
        "horizontal 13-32" => horizontal(13, 16, 32),
        "horizontal 28-64" => horizontal(28, 8, 64),
        "lenet conv1" => square(64, 1, 28, 20, 5, 0),
        "lenet conv2" => square(64, 20, 12, 50, 5, 0),
        "resnet20 16" => square(128, 16, 32, 16, 3, 1),
        "resnet20 32" => square(128, 32, 16, 32, 3, 1),
        "resnet20 64" => square(128, 64, 8, 64, 3, 1),
        "resnet18 128" => square(16, 128, 28, 128, 3, 1),
        "resnet18 512" => square(16, 512, 7, 512, 3, 1),
        _ => ConvGeometry { groups: 32, ..square(16, 32, 112, 32, 3, 1) },
    }
}

fn values(len: usize) -> Vec<f32> {
    (0..len).map(|i| (i * 7919 % 1000) as f32 / 500.0 - 1.0).collect()
}

fn conv(g: ConvGeometry) -> Conv {
    Conv::new(g, Isa::detect(), ConvNeeds { data_gradient: true, weight_gradient: true })
}

#[divan::bench(args = LAYERS)]
fn forward(bencher: Bencher<'_, '_>, name: &str) {
    let g = layer(name);
    let (x, w, mut y) = (values(g.in_len()), values(g.weight_len()), values(g.out_len()));
    let mut conv = conv(g);
    bencher.counter(ItemsCount::new(g.macs())).bench_local(|| conv.forward(&x, &w, None, Post::Relu, &mut y));
}

#[divan::bench(args = LAYERS)]
fn data_gradient(bencher: Bencher<'_, '_>, name: &str) {
    let g = layer(name);
    let (mut dx, w, dy) = (values(g.in_len()), values(g.weight_len()), values(g.out_len()));
    let mut conv = conv(g);
    bencher
        .counter(ItemsCount::new(g.macs()))
        .bench_local(|| conv.backward_data(&w, &dy, &mut dx, Store::Overwrite));
}

#[divan::bench(args = LAYERS)]
fn weight_gradient(bencher: Bencher<'_, '_>, name: &str) {
    let g = layer(name);
    let (x, mut dw, dy) = (values(g.in_len()), values(g.weight_len()), values(g.out_len()));
    let mut conv = conv(g);
    bencher
        .counter(ItemsCount::new(g.macs()))
        .bench_local(|| conv.backward_weights(&x, &dy, &mut dw, None, Store::Overwrite));
}

#[divan::bench(args = [(64, 500, 800), (16, 4096, 9216), (1024, 1024, 1024)])]
fn product(bencher: Bencher<'_, '_>, (m, n, k): (usize, usize, usize)) {
    let (a, b, mut c) = (values(m * k), values(k * n), vec![0.0; m * n]);
    bencher.counter(ItemsCount::new(m * n * k)).bench_local(|| {
        gemm(Isa::detect(), [m, n, k], 1.0, Factor::plain(&a), Factor::transposed(&b), 0.0, &mut c);
    });
}

/// The product of `product` with the second factor packed, for bits of a code.
#[divan::bench(args = [(1, 4096, 9216, 4), (1, 4096, 9216, 8), (4, 4096, 9216, 4), (16, 4096, 9216, 4), (64, 4096, 9216, 4)])]
fn packed_product(bencher: Bencher<'_, '_>, (m, n, k, bits): (usize, usize, usize, u32)) {
    let book = values(1 << bits);
    let codes: Vec<u8> = (0..n * k).map(|i| (i * 7919 % (1 << bits)) as u8).collect();
    let matrix = PackedMatrix::new([n, k], Order::Rows, &book, 1, &codes).expect("codes below 2^bits");
    let (x, mut y) = (values(m * k), vec![0.0; m * n]);
    bencher
        .counter(ItemsCount::new(m * n * k))
        .bench_local(|| matrix.multiply(Isa::detect(), &x, [1.0, 0.0], &mut y));
}
