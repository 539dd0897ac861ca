"""A job started from Python is the one that the program makes of the same arguments."""

import os
import pathlib
import shutil
import subprocess
import time

import numpy as np
import pytest

import slq

tomllib = pytest.importorskip("tomllib", reason="of Python 3.11")

# The program that belongs to this package: SLQ_PROGRAM, as scripts/python-tests sets it.
PROGRAM = os.environ.get("SLQ_PROGRAM") or None


class Begun(Exception):
    """Ends a job as soon as it has begun: its recipe is written then."""


def stages_of(folder: pathlib.Path) -> dict:
    """The recipe of a run directory, without what names files."""
    recipe = tomllib.loads((folder / "recipe.toml").read_text())
    for name in ["model", "outputs"]:
        recipe.pop(name, None)
    recipe["data"].pop("data", None)
    return recipe


def begun(model, data, folder, **settings) -> dict:
    """The recipe of a job that is stopped at its first event."""

    def stop(event):
        raise Begun

    with pytest.raises(Begun):
        slq.compress(model, data, run_dir=folder, progress=stop, **settings)
    return stages_of(folder)


def first_quantize(recipe: dict) -> dict:
    return next(stage["quantize"] for stage in recipe["stages"] if "quantize" in stage)


def test_a_large_dataset_is_fine_tuned_on_and_learnt_from_the_float_network(tmp_path):
    recipe = begun(slq.Model.sample(), "mnist-10k", tmp_path / "run", bits=4)
    tune, quantize = recipe["stages"]
    assert list(tune) == ["fine-tune"] and "distill" not in tune["fine-tune"]["training"]
    training = quantize["quantize"]["slq"]["training"]
    assert training["distill"] == 4.0 and training["lr"] == 0.01
    # 8000 images: thirty passes in all, in five rounds.
    assert tune["fine-tune"]["training"]["length"] == {"epochs": 30.0}
    assert training["length"] == {"epochs": 6.0}


def test_settings_change_single_defaults(tmp_path):
    quick = begun(slq.Model.sample(), "mnist-10k", tmp_path / "quick", effort="quick", distill=False)
    assert len(quick["stages"]) == 1
    training = first_quantize(quick)["slq"]["training"]
    assert "distill" not in training and training["length"] == {"epochs": 1.5}
    both = begun(
        slq.Model.sample(),
        "mnist-10k",
        tmp_path / "both",
        iterations_per_round=3,
        fine_tune_epochs=2,
        freeze_batch_norm=True,
        reference=True,
        no_augmentation=True,
        seed=7,
    )
    assert both["stages"][0]["fine-tune"]["training"]["length"] == {"epochs": 2.0}
    assert first_quantize(both)["slq"]["training"]["batch-norm"] == "frozen"
    assert both["reference"] is True and both["seed"] == 7
    assert both["data"]["mirror"] is False and "pad-crop" not in both["data"]


def test_few_images_are_trained_on_gently(lenet, mnist, tmp_path):
    recipe = begun(lenet, mnist, tmp_path / "run")
    (stage,) = recipe["stages"]
    training = stage["quantize"]["slq"]["training"]
    assert training["batch"] == 16 and training["batch-norm"] == "frozen" and training["lr"] < 0.001


def test_the_published_settings_stand_alone(lenet, mnist, tmp_path):
    recipe = begun(lenet, mnist, tmp_path / "run", published=True, bits=5)
    (stage,) = recipe["stages"]
    assert stage["quantize"]["codebook-size"] == 17 and "distill" not in stage["quantize"]["slq"]["training"]


def test_labels_may_count_from_one(lenet, mnist):
    x_train, y_train, x_test, y_test = mnist
    short = {"iterations_per_round": 2, "bits": 4}
    plain = slq.compress(lenet, mnist, **short)
    shifted = slq.compress(lenet, (x_train, y_train + 1, x_test, y_test + 1), label_offset=1, **short)
    assert plain.after == shifted.after
    with pytest.raises(slq.DataError, match="label_offset"):
        slq.compress(lenet, (x_train, y_train + 1, x_test, y_test + 1), **short)


def test_the_float_network_treated_equally_is_reported(lenet, mnist):
    done = slq.compress(lenet, mnist, reference=True, iterations_per_round=2, bits=4)
    steps = sum(r["iterations"] for r in done.report["rounds"])
    assert done.report["reference"]["iterations"] == steps > 0
    with pytest.raises(slq.SettingError, match="reference"):
        slq.compress(lenet, reference=True)


@pytest.mark.parametrize(
    ("given", "word"),
    [
        ({"effort": "huge"}, "effort.*quick"),
        ({"effort": "quick", "method": "kmeans"}, "effort.*kmeans"),
        ({"effort": "quick", "published": True}, "published"),
        ({"fine_tune_epochs": -1}, "fine_tune_epochs"),
        ({"fine_tune_epochs": 1, "method": "kmeans"}, "fine_tune_epochs"),
        ({"ternary": True, "published": True}, "published"),
        ({"label_offset": -1}, "label_offset"),
        ({"label_offset": 2**40}, "label_offset"),
    ],
)
def test_defaults_that_cannot_be_meant_are_refused(lenet, mnist, given, word):
    with pytest.raises(slq.SettingError, match=word):
        slq.compress(lenet, mnist, **given)


CASES = {
    "nothing": {},
    "bits": {"bits": 3},
    "effort": {"bits": 2, "effort": "thorough"},
    "quick": {"effort": "quick", "reference": True},
    "ternary": {"ternary": True, "granularity": "channel"},
    "published": {"published": True, "bits": 5},
    "lengths": {"iterations_per_round": 7, "fine_tune_epochs": 0.5, "lr": 0.003, "tune_epochs": 1},
    "labels as targets": {"distill": 0, "no_augmentation": True},
    "batch-norm": {"method": "mlq", "freeze_batch_norm": True, "layers": ["conv1*=skip"]},
    "inq": {"method": "inq", "bits": 5, "momentum": 0.8},
    "pruned": {"method": "deep-compression", "sparsity": 0.8, "tune_epochs": 2},
}


def flags(settings: dict) -> list[str]:
    """Settings as the program takes them."""
    given = []
    for name, value in settings.items():
        flag = "--" + name.replace("_", "-")
        values = value if isinstance(value, list) else [value]
        for one in values:
            given += [flag] if one is True else [flag, str(one)]
    return given


@pytest.mark.skipif(PROGRAM is None, reason="SLQ_PROGRAM names no slq program to compare with")
@pytest.mark.parametrize("case", CASES)
def test_the_recipe_is_that_of_the_program(case, tmp_path):
    model, data = tmp_path / "net.onnx", tmp_path / "images.npz"
    slq.Model.sample().save(model)
    x_train, y_train, x_test, y_test = slq.load_data("mnist-10k")
    np.savez(data, x_train=x_train[:5200], y_train=y_train[:5200], x_test=x_test[:200], y_test=y_test[:200])
    settings = CASES[case]
    ours = begun(str(model), str(data), tmp_path / "python", output=tmp_path / "a.onnx", **settings)
    arguments = ["compress", str(model), "--data", str(data), "-o", str(tmp_path / "b.onnx"), *flags(settings)]
    job = subprocess.Popen(
        [PROGRAM, *arguments, "--run-dir", str(tmp_path / "program")],
        stderr=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        text=True,
    )
    written = tmp_path / "program" / "recipe.toml"
    while job.poll() is None and not written.exists():
        time.sleep(0.02)
    job.kill()
    said = job.communicate()[1]
    assert written.exists(), said
    theirs = stages_of(tmp_path / "program")
    assert ours == theirs
    # Arrays in memory make the same job as the file.
    if case == "nothing":
        arrays = (x_train[:5200], y_train[:5200], x_test[:200], y_test[:200])
        assert begun(str(model), arrays, tmp_path / "arrays") == ours
    shutil.rmtree(tmp_path)
