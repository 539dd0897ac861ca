#!/bin/sh
# LeNet on Fashion-MNIST with Caffe's files: database, training, fine-tuning, five SLQ rounds.
# Needs Debian's package dataset-fashion-mnist. Usage: run.sh [SEED] [FOLDER FOR WHAT IS MADE]
set -e
here=$(cd "$(dirname "$0")" && pwd)
seed=${1:-0}
out=${2:-lenet-fashion-mnist}
slq=${SLQ:-slq}
mkdir -p "$out"
cp "$here"/*.prototxt "$out"
cd "$out"

[ -d fashion.lmdb ] || "$slq" convert fashion-mnist fashion.lmdb
"$slq" train --solver solver.prototxt --seed "$seed" -o "lenet-$seed.caffemodel"
"$slq" train --solver fine_solver.prototxt --weights "lenet-$seed.caffemodel" --seed "$seed" -o "fine-$seed.caffemodel"
"$slq" compress --solver round_solver.prototxt --weights "fine-$seed.caffemodel" --published --bits 5 --seed "$seed" \
    -o "lenet-$seed-5bit.caffemodel" -o "lenet-$seed-5bit.onnx"
"$slq" eval train_test.prototxt --weights "lenet-$seed-5bit.caffemodel"
