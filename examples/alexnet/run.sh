#!/bin/sh
# The published procedure with AlexNet, on a small image folder that is made here. Usage: run.sh [FOLDER FOR WHAT IS MADE]
# With ImageNet in an LMDB and bvlc_alexnet.caffemodel, only the `compress` line remains, with your own solver.
set -e
here=$(cd "$(dirname "$0")" && pwd)
out=${1:-alexnet}
slq=${SLQ:-slq}
mkdir -p "$out"
[ -d "$out/images" ] ||
    cargo run --release --quiet --manifest-path "$here/../../Cargo.toml" -p slq-nn --example image_folder -- "$out/images"
cp "$here"/*.prototxt "$out"
cd "$out"

[ -d images.lmdb ] || "$slq" convert images images.lmdb
"$slq" train --solver train_solver.prototxt
"$slq" compress --solver solver.prototxt --weights alexnet_iter_60.caffemodel --published --bits 5 -o alexnet_5bit.caffemodel
"$slq" eval train_val.prototxt --weights alexnet_5bit.caffemodel
