"""slq.compress, calibrate, evaluate, compare."""

import json
import multiprocessing
import os
import signal
import subprocess
import sys
import threading
import warnings

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import slq

QUICK = {"iterations_per_round": 3, "batch": 16}


def test_slq_on_arrays_shares_all_weights(lenet, mnist, tmp_path):
    events = []
    done = slq.compress(
        lenet, mnist, bits=2, progress=events.append, output=tmp_path / "small.onnx", partition_images=50, **QUICK
    )
    for layer in done.model.layers:
        if layer.quantizable:
            assert layer.bits == 2 and layer.distinct <= 4
    assert done.before.images == done.after.images == 100
    assert 0 <= done.after.top1 <= 1 and done.ratio == pytest.approx(done.size.ratio) and done.ratio > 12
    assert "smaller" in repr(done)
    kinds = {event.kind for event in events}
    assert {"baseline", "round", "step", "round_end", "final"} <= kinds
    steps = [event for event in events if event.kind == "step"]
    assert steps[0].done == 1 and steps[0].total == 3 and steps[0].loss > 0 and "step" in repr(steps[0])
    saved = slq.Model.open(tmp_path / "small.onnx")
    name = next(layer.name for layer in done.model.layers if layer.quantizable)
    assert np.array_equal(saved.weight(name), done.model.weight(name))
    assert done.report["outputs"][0]["verified"] is not None
    assert slq.evaluate(done.model, mnist).top1 == done.after.top1


def test_the_same_seed_gives_the_same_bits(lenet, mnist):
    def weights(seed):
        model = slq.compress(lenet, mnist, bits=3, seed=seed, **QUICK).model
        return np.concatenate([model.weight(layer.name).ravel() for layer in model.layers])

    assert np.array_equal(weights(0), weights(0))
    assert not np.array_equal(weights(0), weights(1))


def test_float_images_are_inputs_as_they_are(lenet, mnist):
    x_train, y_train, x_test, y_test = mnist
    floats = [x[:, None] * np.float32(1 / 255) for x in (x_train, x_test)]
    done = slq.compress(lenet, (floats[0], y_train, floats[1], y_test), bits=4, **QUICK)
    # uint8 images of a built-in architecture become 0 to 1.
    same = slq.compress(lenet, mnist, bits=4, **QUICK)
    assert done.after.top1 == same.after.top1
    last = np.ascontiguousarray(np.moveaxis(floats[0], 1, 3))
    again = slq.compress(lenet, ((last, y_train), (np.moveaxis(floats[1], 1, 3), y_test)), bits=4, **QUICK)
    assert again.after == done.after


def test_one_pair_is_trained_and_measured_on_with_a_warning(lenet, mnist):
    with pytest.warns(slq.SlqWarning, match="training images"):
        done = slq.compress(lenet, mnist[:2], bits=4, **QUICK)
    assert done.after.images == 256 and any("training images" in note for note in done.notes)


def test_without_data_weights_are_clustered(lenet):
    done = slq.compress(lenet, bits=4)
    assert done.before is None and done.report["method"] == "kmeans" and done.report["damage"]["snr_db"] > 10
    compared = slq.compare(lenet, done.model)
    assert compared.inputs == 64 and compared.snr_db > 10 and 0 < min(compared.weights.values()) < 0.5
    assert slq.compare(lenet, lenet).snr_db is None


@pytest.mark.parametrize("kind", ["pixels", "floats", "dict", "path", "random"])
def test_calibration_takes_every_kind_of_inputs(lenet, mnist, pixels, kind, tmp_path):
    name = lenet.inputs[0].name
    np.save(tmp_path / "x.npy", pixels)
    images = {
        "pixels": mnist[0][:32],
        "floats": pixels,
        "dict": {name: pixels},
        "path": tmp_path / "x.npy",
        "random": "random:32",
    }[kind]
    layers = []
    done = slq.calibrate(lenet, images, bits=3, progress=lambda e: layers.append(e.name) if e.kind == "layer" else None)
    assert done.report["method"] == "calibrate" and len(layers) == 4
    assert all(layer.bits == 3 for layer in done.model.layers if layer.quantizable)
    assert slq.compare(lenet, done.model, pixels).snr_db > 5


def test_calibration_loses_less_than_clustering(lenet, mnist, pixels):
    calibrated = slq.calibrate(lenet, pixels, bits=2).model
    clustered = slq.compress(lenet, bits=2).model
    x = (mnist[2][:, None] / 255).astype(np.float32)
    assert slq.compare(lenet, calibrated, x).snr_db > slq.compare(lenet, clustered, x).snr_db


def test_the_sample_keeps_its_accuracy_at_four_bits():
    model, (x_train, _, x_test, y_test) = slq.Model.sample(), slq.load_data("mnist-10k")
    assert x_train.shape == (8000, 28, 28) and x_train.dtype == np.uint8 and y_test.dtype == np.int64
    before = slq.evaluate(model, "mnist-10k")
    done = slq.calibrate(model, x_train[:256], bits=4)
    after = slq.evaluate(done.model, (x_test, y_test))
    assert before.images == after.images == 2000
    assert before.top1 > 0.97 and after.top1 > before.top1 - 0.01


@pytest.mark.parametrize(
    ("given", "word"),
    [
        ({"bits": 9}, "bits"),
        ({"bits": 0}, "bits"),
        ({"bits": -1}, "bits"),
        ({"bits": "four"}, "bits"),
        ({"bits": 4.5}, "bits"),
        ({"method": "magic"}, "magic"),
        ({"lr": float("nan")}, "lr"),
        ({"lr": -1, "method": "slq"}, "lr"),
        ({"bit": 4}, "did you mean 'bits'"),
        ({"rate": 0.01}, "rate.*calibrate"),
        ({"granularity": "row"}, "granularity"),
        ({"layers": {"nothing*": 3}}, "nothing"),
        ({"layers": {"*": 99}}, "layers"),
        ({"ternary": True, "bits": 3}, "ternary"),
        ({"target_size": "50 parsecs"}, "parsecs"),
        ({"target_size": "20x", "bits": 3}, "budget"),
        ({"max_drop": 200}, "max_drop"),
        ({"batch": 0}, "batch"),
        ({"epochs_per_round": 1, "iterations_per_round": 1}, "exclude"),
        ({"tune_lr": 0.1}, "tune_lr"),
        ({"seed": -1}, "seed"),
        ({"isa": "quantum"}, "isa"),
        ({"checkpoint_seconds": -1}, "checkpoint_seconds"),
        ({"resume": True}, "run_dir"),
        ({"scale": "big"}, "scale"),
        ({"no_join": 3}, "no_join"),
        ({"resize": "axb"}, "resize"),
        ({"lr": object()}, "lr"),
        ({"codebook_size": 1}, "codebook_size"),
        ({"progress": 7}, "progress"),
    ],
)
def test_bad_settings_are_named(lenet, mnist, given, word):
    with pytest.raises(slq.SettingError, match=word):
        slq.compress(lenet, mnist, **given)


def test_every_listed_setting_is_known(lenet):
    names = slq.settings()
    assert {"bits", "lr", "rate", "mean", "sparsity", "run_dir", "lr_policy", "distill", "without"} <= set(names)
    for name in names:
        try:
            slq.compress(lenet, **{name: object()})
        except slq.SettingError as error:
            assert name in str(error)
        except TypeError:
            pytest.fail(name)


def test_settings_arrive(lenet, mnist):
    first = lenet.layers[0].name
    done = slq.compress(
        lenet,
        mnist,
        method="slq",
        layers={first: "skip"},
        granularity="channel",
        lr=0.002,
        lr_policy="fixed",
        freeze_batch_norm=False,
        mean=0.5,
        std=[0.5],
        schedule=[4, 8, 12, 16],
        **QUICK,
    )
    bits = [layer.bits for layer in done.model.layers if layer.quantizable]
    assert 32 in bits and len(done.report["rounds"]) == 4
    assert done.report["preprocessing"]["mean"] == [0.5] and done.report["preprocessing"]["source"] == "flags"
    small = slq.calibrate(lenet, "random:16", bits=2, without=["descent"], rate=0.01)
    assert small.report["bits"] == 2
    tuned = slq.compress(lenet, mnist, bits=4, tune_iterations=2, distill=True, **QUICK)
    assert tuned.after is not None
    sized = slq.compress(lenet, target_size="20x", method="kmeans")
    assert sized.ratio >= 20


def test_settings_that_would_have_no_effect_are_refused(lenet):
    with pytest.raises(slq.SettingError, match="images"):
        slq.compress(lenet, mean=0.5)
    with pytest.raises(slq.SettingError, match="teacher"):
        slq.compress(lenet, teacher=lenet)


@pytest.mark.parametrize(
    ("data", "word"),
    [
        ((np.zeros((4, 28, 28), np.uint8),), "1 parts"),
        (7, "int"),
        ((np.zeros((4, 28, 28), np.uint8), np.zeros(3, int)), "4 images"),
        ((np.zeros((0, 28, 28), np.uint8), np.zeros(0, int)), "no images"),
        ((np.zeros((4, 0, 28), np.uint8), np.zeros(4, int)), "dimensions"),
        ((np.zeros((4, 28, 28), np.uint8), np.zeros(4)), "integers"),
        ((np.zeros((4, 28, 28), np.uint8), np.zeros((4, 10), int)), "one axis"),
        ((np.zeros((4, 28, 28), np.uint8), np.full(4, -1)), "label -1"),
        ((np.zeros((4, 28, 28), np.uint8), np.full(4, 10)), "label 10"),
        ((np.zeros((4, 28, 28), np.int64), np.zeros(4, int)), "int64"),
        ((np.full((4, 1, 28, 28), np.nan, np.float32), np.zeros(4, int)), "finite"),
        ((np.zeros((4, 784), np.float32), np.zeros(4, int)), "shape"),
        ((np.zeros((4, 28, 28), object), np.zeros(4, int)), "array of numbers"),
        ("no/such/folder", "no/such/folder"),
    ],
)
def test_data_that_does_not_fit_is_refused(lenet, data, word):
    with pytest.raises(slq.DataError, match=word):
        slq.compress(lenet, data)


def test_float_images_of_another_size_are_not_resized_in_silence(lenet):
    data = (np.zeros((4, 1, 32, 32), np.float32), np.zeros(4, int))
    with pytest.raises(slq.Error, match="size"):
        slq.compress(lenet, data, **QUICK)


@pytest.mark.parametrize(
    ("images", "word"),
    [
        (None, "images"),
        (np.zeros((0, 1, 28, 28), np.float32), "no samples"),
        (np.zeros((4, 1, 28, 28), np.int32), "int32"),
        ({"other": np.zeros((4, 1, 28, 28), np.float32)}, "other"),
        ((np.zeros((4, 28, 28), np.uint8), np.zeros(4, int)), "labels"),
        ("random:0", "random:0"),
        (np.float32(3), ""),
    ],
)
def test_inputs_that_do_not_fit_are_refused(lenet, images, word):
    with pytest.raises(slq.Error, match=word) as caught:
        slq.calibrate(lenet, images)
    assert not isinstance(caught.value, slq.InternalError)


def test_what_progress_raises_ends_the_job(lenet, mnist):
    class Enough(Exception):
        pass

    seen = []

    def progress(event):
        seen.append(event)
        if event.kind == "step":
            raise Enough

    with pytest.raises(Enough):
        slq.compress(lenet, mnist, **QUICK, progress=progress)
    assert seen[-1].kind == "step" and seen[-1].done == 1
    layers = []

    def one(event):
        layers.append(event.kind)
        if event.kind == "layer":
            raise Enough

    with pytest.raises(Enough):
        slq.calibrate(lenet, "random:16", progress=one)
    assert layers.count("layer") == 1


def test_ctrl_c_ends_a_job_with_keyboard_interrupt(lenet, mnist):
    # A shell lets what it starts in the background ignore the signal.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    timer = threading.Timer(0.5, lambda: os.kill(os.getpid(), signal.SIGINT))
    timer.start()
    try:
        with pytest.raises(KeyboardInterrupt):
            slq.compress(lenet, mnist, epochs_per_round=10_000)
    finally:
        timer.cancel()
        signal.signal(signal.SIGINT, before)
    assert slq.compress(lenet, bits=8).ratio > 3


def test_a_stopped_job_goes_on_to_the_same_bits(lenet, mnist, tmp_path):
    def stop(event):
        if event.kind == "round_end":
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        slq.compress(lenet, mnist, **QUICK, run_dir=tmp_path / "run", progress=stop)
    with pytest.raises(slq.FileError, match="already holds a run"):
        slq.compress(lenet, mnist, **QUICK, run_dir=tmp_path / "run")
    kinds = []
    resumed = slq.compress(
        lenet, mnist, **QUICK, run_dir=tmp_path / "run", resume=True, progress=lambda e: kinds.append(e.kind)
    ).model
    assert "resumed" in kinds
    whole = slq.compress(lenet, mnist, **QUICK).model
    assert all(np.array_equal(resumed.weight(layer.name), whole.weight(layer.name)) for layer in whole.layers)


def test_a_bar_shows_what_happens(lenet, mnist, capsys):
    with slq.Bar() as bar:
        for event in _events(lenet, mnist):
            bar(event)
    assert "top-1" in capsys.readouterr().err


def _events(lenet, mnist):
    events = []
    slq.compress(lenet, mnist, **QUICK, progress=events.append)
    return events


def _in_a_fork(queue):
    try:
        queue.put(slq.compress("zoo:lenet", bits=4).ratio)
    except BaseException as error:
        queue.put(repr(error))


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system does not fork")
def test_a_forked_process_has_threads_of_its_own(lenet):
    expected = slq.compress(lenet, bits=4).ratio
    context = multiprocessing.get_context("fork")
    queue = context.Queue()
    process = context.Process(target=_in_a_fork, args=(queue,))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        process.start()
    try:
        assert queue.get(timeout=120) == expected
    finally:
        process.kill()
        process.join()


def test_the_package_imports_without_torch_and_quickly():
    code = "import sys, slq; assert not {'torch', 'tqdm', 'onnx'} & set(sys.modules); print(slq.__version__)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == slq.__version__


def test_the_report_is_that_of_the_program(lenet):
    report = slq.compress(lenet, bits=5).report
    assert json.loads(json.dumps(report)) == report
    assert {"method", "bits", "size", "rounds", "damage", "seconds", "quantized_fraction"} <= set(report)


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.dictionaries(
        st.sampled_from(slq.settings()),
        st.one_of(
            st.none(),
            st.booleans(),
            st.integers(-(2**70), 2**70),
            st.floats(),
            st.text(max_size=4),
            st.lists(st.floats(), max_size=3),
        ),
        min_size=1,
        max_size=3,
    )
)
def test_no_setting_ends_the_interpreter(tmp_path_factory, given):
    given.pop("run_dir", None)
    given["bits"] = given.get("bits") or 9  # refused behind all others, so that no job begins
    folder = os.getcwd()
    os.chdir(tmp_path_factory.mktemp("settings"))
    try:
        slq.compress("zoo:lenet", **given)
    except slq.InternalError:
        raise
    except slq.Error:
        pass
    finally:
        os.chdir(folder)
