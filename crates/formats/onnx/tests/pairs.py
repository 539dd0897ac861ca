"""Checks pairs of files that are given as arguments."""

import sys


def report(check):
    """Exits with 1 and a line for each pair for which `check(first, second)` gives a problem or fails."""
    failed = False
    for first, second in zip(sys.argv[1::2], sys.argv[2::2]):
        try:
            problem = check(first, second)
        except Exception as error:  # each pair is reported
            problem = str(error)
        if problem:
            failed = True
            print(f"{second}: {problem}", file=sys.stderr)
    sys.exit(failed)
