"""Settings: keyword arguments with the names of the program's flags, with underscores."""

import difflib
import json
import os
from typing import Any

import numpy as np

from ._slq import DATA_SETTINGS, METHOD_SETTINGS, SettingError

_JOB = [
    "checkpoint_seconds",
    "collapse_batch_norm",
    "dense",
    "half_floats",
    "int8",
    "isa",
    "legacy_blobs",
    "method",
    "overwrite",
    "resume",
    "round_up_widths",
    "run_dir",
    "runtime",
    "seed",
    "verify",
]


def settings() -> list[str]:
    """The names of all settings of ``slq.compress``: those of the flags of ``slq compress --help``, with underscores."""
    return sorted({*_JOB, *DATA_SETTINGS, *METHOD_SETTINGS})


def _plain(value: Any) -> Any:
    """What JSON does not know."""
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, np.ndarray):
        return value.tolist()
    if isinstance(value, os.PathLike):
        return os.fspath(value)
    raise TypeError(f"a {type(value).__name__} is no setting")


def _layers(rules: Any) -> Any:
    """Rules as a dict of patterns, or as texts ``GLOB=BITS``."""
    if isinstance(rules, dict):
        return [f"{pattern}={bits}" for pattern, bits in rules.items()]
    return [rules] if isinstance(rules, str) else rules


def as_json(given: dict[str, Any], known: list[str]) -> str:
    """The settings as JSON; refuses names that are not ``known``."""
    parts = []
    for name, value in given.items():
        if name not in known:
            close = difflib.get_close_matches(name.replace("-", "_"), known, n=1)
            hint = f"did you mean '{close[0]}'?" if close else "slq.settings() lists their names"
            raise SettingError(f"there is no setting '{name}' here; {hint}")
        if name == "layers" and value is not None:
            value = _layers(value)
        if name == "distill" and isinstance(value, bool):
            # As the flag without a temperature; 0 learns from labels.
            value = 1.0 if value else 0.0
        try:
            text = json.dumps(value, default=_plain, allow_nan=False)
        except (TypeError, ValueError, RecursionError) as cause:
            raise SettingError(f"setting '{name}': {cause}") from cause
        parts.append(f"{json.dumps(name)}: {text}")
    return "{" + ", ".join(parts) + "}"
