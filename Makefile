# One entry for every habit: .ci/run and the README call these targets.

CARGO ?= cargo
.PHONY: all check test lint doc demo wheel python-test bench results golden fuzz torture site mpi-test mpi-quick web-test aarch64-test

all: lint doc site demo test mpi-quick

# Compiles everything, tests and benches included.
check:
	$(CARGO) check --workspace --all-targets --release

# All tests. Sets up the Python checkers and the data that Debian packages (see the script).
test:
	scripts/test

# Format, clippy, licences, duplicate versions, the stated Rust version.
lint:
	$(CARGO) fmt --all --check
	$(CARGO) clippy --workspace --all-targets --release -- -D warnings
	scripts/lint

doc:
	RUSTDOCFLAGS="-D warnings" $(CARGO) doc --workspace --no-deps --release

# The main job on the built-in sample.
demo:
	$(CARGO) run --release -- demo -o target/lenet-4bit.onnx --ternary target/lenet-ternary.onnx

# The Python package: target/wheels/slq-….whl.
wheel:
	scripts/wheel

# Tests of the installed wheel, and the notebook.
python-test:
	scripts/python-tests

# Images a second, slq beside PyTorch. Needs a Python with torch: make bench PYTHON=...
PYTHON ?= python3
bench:
	$(CARGO) build --profile dist --bin slq
	$(PYTHON) scripts/bench-pytorch.py --slq target/dist/slq

# Tables of docs/results, which take hours: make results PLANS="lenet-fashion resnet20"
PLANS ?= lenet-fashion lenet-mnist mlq-lenet
results:
	$(CARGO) build --profile dist --bin slq
	python=$$(scripts/checkers) && for plan in $(PLANS); do $$python scripts/measure.py $$plan --slq target/dist/slq || exit 1; done

# Short jobs of every method on three networks against their stored hashes (five minutes).
golden:
	$(CARGO) build --release --bin slq
	python3 scripts/golden.py target/release/slq target/golden --check

# Every fuzz target for so many seconds; needs cargo-fuzz.
SECONDS ?= 60
fuzz:
	scripts/fuzz $(SECONDS)

# Kills and stops jobs at random moments and compares what they end with, byte by byte (docs/reliability.md).
KILLS ?= 40
torture:
	$(CARGO) build --release --bin slq
	scripts/torture --slq target/release/slq --kills $(KILLS)

# The documentation as a site in target/site, its links checked; gets mdBook where it is missing.
site:
	scripts/site

# Builds the feature mpi with what `make test` has compiled, and a minute of jobs under mpirun; says where it cannot.
mpi-quick:
	scripts/mpi-quick

# All jobs of several processes, and 20 kills; needs openmpi-bin, libopenmpi-dev and libclang-dev, and says so.
mpi-test:
	scripts/mpi-test

# The WebAssembly module in node and the page in Chromium, beside onnxruntime-web (docs/browser.md); names what is missing.
web-test:
	scripts/web-test

# Tests of the kernels for aarch64 under qemu-user; names what is missing.
aarch64-test:
	scripts/aarch64-test
