"""What a job says beside its result."""

import warnings


class SlqWarning(UserWarning):
    """Something was guessed, or is worth knowing: preprocessing that was detected, a network that is damaged."""


def say(notes: list[str], depth: int) -> None:
    """Warns with each note once, as the caller's caller at ``depth``."""
    for note in notes:
        warnings.warn(note, SlqWarning, stacklevel=depth + 1)
