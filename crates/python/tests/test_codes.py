"""slq.cluster, encode, decode."""

import threading

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

import slq

FINITE = st.floats(-1e6, 1e6, width=32)


def error_of(values, codebook):
    return float((np.abs(values.astype(np.float64)[:, None] - codebook.astype(np.float64)).min(1) ** 2).sum())


@settings(max_examples=60, deadline=None)
@given(hnp.arrays(np.float32, st.integers(1, 60), elements=FINITE), st.integers(1, 8))
def test_clusters_are_nearest_and_no_worse_than_quantiles(values, k):
    k = min(k, len(values))
    found = slq.cluster(values, k)
    assert found.codebook.dtype == np.float32 and found.codes.dtype == np.uint8
    assert found.codes.shape == values.shape and len(found.codebook) <= k
    decoded = found.codebook[found.codes]
    nearest = error_of(values, found.codebook)
    scale = float((values.astype(np.float64) ** 2).sum()) + 1e-30
    assert abs(float(((values.astype(np.float64) - decoded) ** 2).sum()) - nearest) <= 1e-9 * scale
    assert nearest <= error_of(values, np.quantile(values, np.linspace(0, 1, k)).astype(np.float32)) + 1e-5 * scale


def test_the_optimum_of_a_small_case_is_known():
    found = slq.cluster([0.0, 1.0, 10.0, 11.0, 20.0], 3)
    assert found.codebook.tolist() == [0.5, 10.5, 20.0]
    assert found.codes.tolist() == [0, 0, 1, 1, 2]
    assert found.sse == pytest.approx(1.0) and found.lower_bound <= found.sse
    weighted = slq.cluster([0.0, 1.0, 10.0], 2, weights=[3, 1, 1])
    assert weighted.codebook.tolist() == [0.25, 10.0]
    pinned = slq.cluster([0.2, 1.0, 5.0], 2, fixed=[0.0])
    assert 0.0 in pinned.codebook.tolist()


@pytest.mark.parametrize("algorithm", ["exact", "fast", "lloyd", "published"])
def test_algorithms_by_name(algorithm):
    values = np.random.default_rng(0).normal(size=1000)
    found = slq.cluster(values, 8, algorithm=algorithm)
    assert found.sse <= 3 * slq.cluster(values, 8).sse


def test_layouts_and_widths_are_the_same_numbers():
    values = np.random.default_rng(1).normal(size=(30, 40)).astype(np.float16)
    expected = slq.cluster(values.astype(np.float32), 5)
    for same in [values, values.astype(np.float64), np.asfortranarray(values), values.astype(">f4"), values.tolist()]:
        found = slq.cluster(same, 5)
        assert found.codebook.tolist() == expected.codebook.tolist()
        assert (found.codes == expected.codes).all() and found.codes.shape == (30, 40)
    strided = np.repeat(values, 2, axis=1)[:, ::2]
    assert not strided.flags.c_contiguous
    assert slq.cluster(strided, 5).sse == expected.sse
    assert slq.cluster(values[::-1], 5).sse == pytest.approx(expected.sse)


def test_many_clusters_need_wider_codes():
    values = np.arange(5000, dtype=np.float32)
    found = slq.cluster(values, 300)
    assert found.codes.dtype == np.uint16 and len(found.codebook) == 300


@pytest.mark.parametrize(
    ("values", "k", "weights", "error", "word"),
    [
        ([], 2, None, slq.ClusterError, "no values"),
        (np.zeros((0, 3), np.float32), 1, None, slq.ClusterError, "no values"),
        ([1.0], 2, None, slq.ClusterError, "2 clusters"),
        ([1.0, np.nan], 1, None, slq.ClusterError, "value 1"),
        ([1.0, np.inf], 1, None, slq.ClusterError, "value 1"),
        ([1.0, 1e300], 1, None, slq.ClusterError, "float32"),
        ([1.0, 2.0], 1, [1.0], slq.ClusterError, "weights"),
        ([1.0, 2.0], 1, [1.0, -1.0], slq.ClusterError, "weight 1"),
        ([1.0, 2.0], 1, [0.0, 0.0], slq.ClusterError, "zero"),
        ([1.0, 2.0], 0, None, slq.SettingError, "'k'"),
        ([1.0, 2.0], -1, None, slq.SettingError, "'k'"),
        ([1.0, 2.0], 2**70, None, slq.SettingError, "'k'"),
        ([1.0, 2.0], 1.5, None, slq.SettingError, "'k'"),
        ([1.0, 2.0], "2", None, slq.SettingError, "'k'"),
        (["a"], 1, None, slq.ClusterError, "values"),
        ([1j], 1, None, slq.ClusterError, "complex"),
        ([[1.0], [1.0, 2.0]], 1, None, slq.ClusterError, "values"),
        (None, 1, None, slq.ClusterError, "values"),
        ([True], 1, None, slq.ClusterError, "bool"),
        (np.array(["2020-01-01"], "datetime64[D]"), 1, None, slq.ClusterError, "datetime"),
    ],
)
def test_what_cannot_be_clustered_is_refused(values, k, weights, error, word):
    with pytest.raises(error, match=word):
        slq.cluster(values, k, weights)


def test_masked_values_are_refused():
    masked = np.ma.array([1.0, 2.0, 3.0], mask=[False, True, False])
    with pytest.raises(slq.ClusterError, match="masked"):
        slq.cluster(masked, 2)


def test_a_tensor_elsewhere_is_refused():
    class Elsewhere:
        device = type("device", (), {"type": "cuda", "__str__": lambda _: "cuda:0"})()

    with pytest.raises(slq.ClusterError, match="cuda"):
        slq.cluster(Elsewhere(), 2)


@settings(max_examples=60, deadline=None)
@given(
    hnp.arrays(np.float32, hnp.array_shapes(max_dims=3, max_side=6, min_side=0), elements=FINITE),
    hnp.arrays(np.float32, st.integers(1, 300), elements=FINITE),
)
def test_codes_are_nearest_and_decode_back(values, codebook):
    codes = slq.encode(values, codebook)
    assert codes.shape == values.shape
    assert codes.dtype == (np.uint8 if len(codebook) <= 256 else np.uint16)
    decoded = slq.decode(codes, codebook)
    assert decoded.dtype == np.float32 and decoded.shape == values.shape
    assert (decoded == codebook[codes]).all()
    wide = np.abs(values.astype(np.float64)[..., None] - codebook.astype(np.float64)).min(-1)
    assert (np.abs(values.astype(np.float64) - decoded) <= wide * (1 + 1e-6) + 1e-30).all()


def test_groups_have_codebooks_of_their_own():
    codebook = np.array([[0.0, 1.0], [10.0, 20.0]], np.float32)
    codes = slq.encode([[0.2, 0.9, 0.6], [11.0, 14.0, 16.0]], codebook)
    assert codes.tolist() == [[0, 1, 1], [0, 0, 1]]
    assert slq.decode(codes, codebook).tolist() == [[0, 1, 1], [10, 10, 20]]


@pytest.mark.parametrize(
    ("codes", "codebook", "word"),
    [
        ([2], [0.0, 1.0], "2"),
        ([-1], [0.0], "0 to 65535"),
        ([70000], [0.0], "0 to 65535"),
        ([0.5], [0.0], "integers"),
        ([0], [], "empty"),
        ([0], np.zeros((2, 0)), "empty"),
        ([0], np.zeros((1, 1, 1)), "axis"),
        ([0, 0, 0], np.zeros((2, 1)), "evenly"),
    ],
)
def test_codes_that_mean_nothing_are_refused(codes, codebook, word):
    with pytest.raises(slq.ClusterError, match=word):
        slq.decode(codes, codebook)


def test_values_that_have_no_code_are_refused():
    with pytest.raises(slq.ClusterError, match="finite"):
        slq.encode([np.nan], [0.0])
    with pytest.raises(slq.ClusterError):
        slq.encode([0.0], [np.inf])


def test_other_threads_go_on_while_it_works():
    values = np.random.default_rng(2).normal(size=400_000).astype(np.float32)
    counted, stop = [0], threading.Event()

    def count():
        while not stop.is_set():
            counted[0] += 1

    thread = threading.Thread(target=count)
    thread.start()
    before = counted[0]
    slq.cluster(values, 64)
    during = counted[0] - before
    stop.set()
    thread.join()
    assert during > 0


@settings(max_examples=150, deadline=None)
@given(
    st.one_of(
        st.none(),
        st.booleans(),
        st.integers(),
        st.text(max_size=5),
        st.lists(st.one_of(st.none(), st.floats(), st.integers(), st.text(max_size=2)), max_size=4),
        hnp.arrays(hnp.scalar_dtypes(), hnp.array_shapes(min_dims=0, max_dims=4, min_side=0, max_side=3)),
    ),
    st.one_of(st.integers(-2, 5), st.floats(), st.none()),
)
def test_no_argument_ends_the_interpreter(values, k):
    for call in [lambda: slq.cluster(values, k), lambda: slq.encode(values, values), lambda: slq.decode(values, [0.0])]:
        try:
            call()
        except slq.InternalError:
            raise
        except slq.Error:
            pass
