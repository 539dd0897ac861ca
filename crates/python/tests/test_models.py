"""slq.Model and slq.Runtime."""

import threading

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis.extra import numpy as hnp

import slq


def test_a_model_says_what_it_holds(lenet):
    (value,) = lenet.inputs
    assert value.dtype == "float32" and value.shape[1:] == (1, 28, 28) and not isinstance(value.shape[0], int)
    assert lenet.outputs[0].shape[1] == 10
    assert lenet.size.dense == 4 * 431_080 and lenet.size.ratio == pytest.approx(1.0)
    names = [layer.name for layer in lenet.layers]
    quantizable = [layer for layer in lenet.layers if layer.quantizable]
    assert len(quantizable) == 4 and all(layer.bits == 32 for layer in quantizable)
    assert set(names) <= set(lenet.weights)
    weight = lenet.weight(quantizable[0].name)
    assert weight.shape == quantizable[0].shape and weight.dtype == np.float32
    assert lenet.palette(quantizable[0].name) is None
    assert "431080" in repr(lenet)
    with pytest.raises(slq.ModelError, match="nothing"):
        lenet.weight("nothing")


@pytest.mark.parametrize("file", ["a.onnx", "a.slq"])
def test_a_model_survives_a_file(lenet, tmp_path, file, pixels):
    path = tmp_path / file
    assert lenet.save(path) == path.stat().st_size
    again = slq.Model.open(path)
    name = lenet.layers[0].name
    assert (again.weight(name) == lenet.weight(name)).all()
    assert np.array_equal(slq.Runtime(path)(pixels), slq.Runtime(lenet)(pixels))


@pytest.mark.parametrize(
    ("name", "error"),
    [
        ("missing.onnx", slq.ModelError),
        ("net.h5", slq.ModelError),
        ("zoo:nothing", slq.ModelError),
        ("", slq.ModelError),
        ("a\0b.onnx", (slq.Error, ValueError)),
    ],
)
def test_what_is_no_model_is_refused(name, error):
    with pytest.raises(error):
        slq.Model.open(name)


def test_a_damaged_file_is_refused(lenet, tmp_path):
    path = tmp_path / "a.slq"
    lenet.save(path)
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(slq.ModelError, match=r"a\.slq"):
        slq.Model.open(path)
    with pytest.raises(slq.ModelError, match=r"a\.slq"):
        slq.Runtime(path)
    with pytest.raises(slq.ModelError):
        lenet.save(tmp_path / "a.h5")
    with pytest.raises(slq.Error):
        lenet.save(tmp_path / "no" / "folder" / "a.onnx")


def test_a_packed_network_runs_as_the_decoded_one(lenet, tmp_path, pixels):
    small = slq.compress(lenet, bits=4).model
    small.save(tmp_path / "a.slq")
    packed = slq.Runtime(tmp_path / "a.slq", expand="none")
    assert len(packed.packed) == 4 and packed.bytes < small.size.dense
    outputs = packed(pixels)
    assert outputs.shape == (32, 10) and outputs.dtype == np.float32
    assert np.allclose(outputs, slq.Runtime(small, expand="all")(pixels), atol=1e-4)
    assert np.array_equal(outputs, packed(pixels.astype(np.float64)))
    assert np.array_equal(outputs, packed(np.asfortranarray(pixels)))
    assert np.array_equal(outputs, packed(**{packed.inputs[0].name: pixels}))
    # Sums are split by the size of the batch.
    assert np.allclose(outputs[:3], packed(pixels[:3]), atol=1e-5)


def test_layers_decode_from_their_palettes(lenet):
    small = slq.compress(lenet, bits=3, granularity="channel").model
    for layer in small.layers:
        if layer.quantizable:
            codebook, codes = small.palette(layer.name)
            assert codebook.shape == (layer.shape[0], 8) and codes.shape == layer.shape and layer.bits == 3
            assert np.array_equal(slq.decode(codes, codebook), small.weight(layer.name))
            assert np.array_equal(slq.encode(small.weight(layer.name), codebook).shape, codes.shape)


@pytest.mark.parametrize(
    ("x", "word"),
    [
        (np.zeros((1, 1, 28, 28), np.uint8), "uint8"),
        (np.zeros((1, 1, 28, 28), np.int64), "int64"),
        (np.zeros((1, 1, 28, 28), np.complex64), "complex"),
        (np.zeros((1, 1, 27, 28), np.float32), ""),
        (np.zeros((1, 3, 28, 28), np.float32), ""),
        (np.zeros((28, 28), np.float32), ""),
        (np.float32(1), ""),
        (np.full((1, 1, 28, 28), 1e300), "float32"),
        ("images", ""),
        (None, ""),
    ],
)
def test_inputs_that_do_not_fit_are_refused(lenet, x, word):
    with pytest.raises(slq.Error, match=word) as caught:
        slq.Runtime(lenet)(x)
    assert not isinstance(caught.value, slq.InternalError) and str(caught.value)


def test_wrong_names_and_numbers_of_inputs(lenet, pixels):
    runtime = slq.Runtime(lenet)
    name = runtime.inputs[0].name
    for call in [
        lambda: runtime(),
        lambda: runtime(pixels, pixels),
        lambda: runtime(pixels, **{name: pixels}),
        lambda: runtime(other=pixels),
        lambda: runtime.run({}),
    ]:
        with pytest.raises(slq.DataError, match="input"):
            call()
    with pytest.raises(slq.SettingError, match="expand"):
        slq.Runtime(lenet, expand="some")


def test_no_samples_and_not_a_number_do_no_harm(lenet, pixels):
    runtime = slq.Runtime(lenet)
    try:
        assert runtime(pixels[:0]).shape == (0, 10)
    except slq.Error as error:
        assert not isinstance(error, slq.InternalError)
    broken = pixels.copy()
    broken[1] = np.nan
    outputs = runtime(broken)
    assert np.array_equal(outputs[0], runtime(pixels)[0])


def test_threads_may_share_a_runtime(lenet, pixels):
    runtime = slq.Runtime(lenet)
    expected, found = runtime(pixels), []
    threads = [threading.Thread(target=lambda: found.append(runtime(pixels))) for _ in range(4)]
    [t.start() for t in threads]
    [t.join() for t in threads]
    assert len(found) == 4 and all(np.array_equal(f, expected) for f in found)


@settings(max_examples=60, deadline=None)
@given(hnp.arrays(hnp.scalar_dtypes(), hnp.array_shapes(min_dims=0, max_dims=5, min_side=0, max_side=4)))
def test_no_input_ends_the_interpreter(lenet, x):
    try:
        slq.Runtime(lenet)(x)
    except slq.InternalError:
        raise
    except slq.Error:
        pass


def test_a_network_is_saved_for_onnxruntime(lenet, tmp_path):
    small = slq.compress(lenet, bits=4, runtime="ort", output=tmp_path / "job.onnx")
    assert any("codebook uniform" in note for note in small.notes) and any("packed: 1" in note for note in small.notes)
    with pytest.warns(slq.SlqWarning, match="onnxruntime keeps packed: 1"):
        small.save(tmp_path / "saved.onnx", runtime="ort")
    assert (tmp_path / "saved.onnx").read_bytes() == (tmp_path / "job.onnx").read_bytes()
    assert small.save(tmp_path / "plain.onnx") != (tmp_path / "saved.onnx").stat().st_size
    # Free codebooks are not evenly spaced: nothing stays packed, and that is said.
    with pytest.warns(slq.SlqWarning, match="no weight is packed"):
        slq.compress(lenet, bits=4).save(tmp_path / "free.onnx", runtime="ort")


@pytest.mark.parametrize(
    ("file", "options"),
    [
        ("a.onnx", {"runtime": "tensorrt"}),
        ("a.onnx", {"runtime": ""}),
        ("a.onnx", {"runtime": "ort", "dense": True}),
        ("a.slq", {"runtime": "ort"}),
    ],
)
def test_a_runtime_that_cannot_be_is_refused(lenet, tmp_path, file, options):
    with pytest.raises(slq.SettingError, match="runtime"):
        lenet.save(tmp_path / file, **options)
    assert not (tmp_path / file).exists()
    with pytest.raises(slq.SettingError, match="runtime"):
        slq.compress(lenet, bits=4, output=tmp_path / file, **options)
