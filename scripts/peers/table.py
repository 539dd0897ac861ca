"""Tables in Markdown."""

import numpy as np

from . import evaluate

HEAD = """\
| tool | setting | bytes | after zstd -19 | top-1 % | difference to float | KL | processor s | wall s | peak MB |
|---|---|---|---|---|---|---|---|---|---|"""


def number(value):
    """Digits in groups of three."""
    return f"{value:,}".replace(",", " ")


def table(rows, base):
    """All rows, by tool and falling size; `base` is the float network's hits."""
    lines = [HEAD, f"| float | | | | {100 * base.mean():.2f} | | | | | |"]
    for row in rows:
        if row.error:
            lines.append(f"| {row.peer} | {row.setting} | | | fails: {row.error.replace('|', '/')} | | | | | |")
            continue
        gain, error = row.difference
        lines.append(
            f"| {row.peer} | {row.setting} | {number(row.bytes)} | {number(row.zstd)} | {100 * row.right.mean():.2f} | "
            f"{gain:+.2f} ± {error:.2f} | {row.kl_test:.3f} | {row.seconds:.0f} | {row.wall:.0f} | {row.peak:.0f} |"
        )
    return "\n".join(lines)


def frontier(rows):
    """Rows that no other row beats in bytes and accuracy at once, by bytes."""
    found, best = [], -np.inf
    for row in sorted((r for r in rows if not r.error), key=lambda r: (r.bytes, -r.difference[0])):
        if row.difference[0] > best:
            found.append(row)
            best = row.difference[0]
    return found


def beside(rows, ours="slq"):
    """For every peer's row our file that is no larger and diverges least on the calibration inputs, compared image by image."""
    lines = [
        "| tool, setting | its bytes | its difference to float | ours of at most so many bytes | bytes | ours - it | verdict |",
        "|---|---|---|---|---|---|---|",
    ]
    own = [r for r in rows if r.peer == ours and not r.error]
    for row in sorted((r for r in rows if r.peer != ours and not r.error), key=lambda r: -r.bytes):
        fitting = [r for r in own if r.bytes <= row.bytes]
        start = f"| {row.peer}, {row.setting} | {number(row.bytes)} | {row.difference[0]:+.2f} ± {row.difference[1]:.2f} |"
        if not fitting:
            lines.append(f"{start} none | | | we have no file so small |")
            continue
        chosen = min(fitting, key=lambda r: r.kl)
        gain, error = evaluate.paired(chosen.right, row.right)
        verdict = "ahead" if gain > error else "level" if gain >= -error else "**behind**"
        lines.append(f"{start} {chosen.setting} | {number(chosen.bytes)} | {gain:+.2f} ± {error:.2f} | {verdict} |")
    return "\n".join(lines)
