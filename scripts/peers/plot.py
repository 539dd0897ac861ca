"""One picture for each network: bytes against the difference of top-1 to float, in the style of slq's reports, as SVG."""

import math
from html import escape

from .table import frontier, number

WIDTH, HEIGHT, LEFT, RIGHT, TOP, BOTTOM = 640, 380, 62, 14, 14, 88
LEAST = -10.0
COLOURS = {  # on light and on dark ground
    "slq": ("#1d5fd0", "#7fabff"),
    "nncodec": ("#b4530b", "#ffa45c"),
    "coremltools": ("#11703a", "#6fd398"),
    "coreai-opt": ("#0f766e", "#5eead4"),
    "NNCF": ("#7c3aed", "#c4a6ff"),
    "onnxruntime": ("#b3261e", "#ff9b93"),
    "AIMET": ("#8a6d00", "#e6c84a"),
    "AI Edge Quantizer": ("#6b7280", "#9aa3b2"),
}
SHAPES = ["circle", "diamond", "square", "up", "cross"]


def style(names):
    dark = "".join(f".t{i}{{--t:{COLOURS[n][1]}}}" for i, n in enumerate(names))
    light = "".join(f".t{i}{{--t:{COLOURS[n][0]}}}" for i, n in enumerate(names))
    return (
        "<style>svg{--page:#fff;--ink:#1b1f26;--muted:#565d6b;--grid:#e6e9ee;font:13px system-ui,sans-serif}"
        f"{light}text{{fill:var(--muted)}}.e{{text-anchor:end}}.m{{text-anchor:middle}}.g{{stroke:var(--grid)}}"
        ".l{fill:none;stroke:var(--t);stroke-width:2}.p{fill:var(--t)}.z{stroke:var(--muted);stroke-dasharray:4 4}"
        "@media(prefers-color-scheme:dark){svg{--page:#14171c;--ink:#e7e9ee;--muted:#a4acba;--grid:#2a2f38}"
        f"{dark}}}</style>"
    )


def shape(kind, x, y, title):
    inside = f"<title>{escape(title)}</title>" if title else ""
    paths = {
        "diamond": f"M{x:.1f} {y - 5:.1f}l5 5-5 5-5-5z",
        "square": f"M{x - 4:.1f} {y - 4:.1f}h8v8h-8z",
        "up": f"M{x:.1f} {y - 5:.1f}l5 9h-10z",
        "cross": f"M{x - 5:.1f} {y - 2:.1f}h3v-3h4v3h3v4h-3v3h-4v-3h-3z",
        "down": f"M{x:.1f} {y + 5:.1f}l5-9h-10z",
    }
    if kind == "circle":
        return f'<circle class="p" cx="{x:.1f}" cy="{y:.1f}" r="4.5">{inside}</circle>'
    return f'<path class="p" d="{paths[kind]}">{inside}</path>'


def size(value):
    return f"{value / 1e6:g} MB" if value >= 1e6 else f"{value / 1e3:g} KB"


def picture(title, rows):
    """The SVG. Points below the least difference shown stand on the lower edge, with their point down."""
    rows = [r for r in rows if not r.error]
    names = [n for n in COLOURS if any(r.peer == n for r in rows)]
    low, high = (f(math.log(r.bytes) for r in rows) for f in (min, max))
    pad = 0.04 * (high - low) + 0.01
    low, high = low - pad, high + pad
    most = max(1.0, max(r.difference[0] for r in rows) + 0.5)
    x = lambda b: LEFT + (math.log(b) - low) / (high - low) * (WIDTH - LEFT - RIGHT)
    y = lambda d: TOP + (most - max(d, LEAST)) / (most - LEAST) * (HEIGHT - TOP - BOTTOM)
    bottom = HEIGHT - BOTTOM
    out = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" role="img" '
        f'aria-label="{escape(title)}: bytes against difference of top-1 to the float network">',
        style(names),
        f'<rect width="{WIDTH}" height="{HEIGHT}" fill="var(--page)"/>',
    ]
    for tick in range(int(LEAST), int(most) + 1, 2):
        out.append(f'<line class="{"z" if tick == 0 else "g"}" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y(tick):.1f}" y2="{y(tick):.1f}"/>')
        out.append(f'<text class="e" x="{LEFT - 8}" y="{y(tick) + 4.5:.1f}">{tick:+d}</text>')
    last = -100
    for power in range(3, 9):
        for factor in (1, 1.5, 2, 3, 4, 5, 7):
            value = factor * 10**power
            if low < math.log(value) < high and x(value) - last > 52:
                last = x(value)
                out.append(f'<line class="g" x1="{last:.1f}" x2="{last:.1f}" y1="{TOP}" y2="{bottom + 5}"/>')
                out.append(f'<text class="m" x="{last:.1f}" y="{bottom + 19}">{size(value)}</text>')
    out.append(f'<text class="m" x="{(LEFT + WIDTH) / 2:.0f}" y="{bottom + 38}">bytes of the file</text>')
    out.append(f'<text class="m" transform="translate(14 {(TOP + bottom) / 2:.0f}) rotate(-90)">top-1, points from float</text>')
    for i, name in enumerate(names):
        own = [r for r in rows if r.peer == name]
        kind = SHAPES[i % len(SHAPES)]
        points = " ".join(f"{x(r.bytes):.1f},{y(r.difference[0]):.1f}" for r in frontier(own))
        out.append(f'<g class="t{i}"><polyline class="l" points="{points}"/>')
        for r in own:
            text = f"{name}, {r.setting}: {number(r.bytes)} bytes, {r.difference[0]:+.2f} points"
            out.append(shape(kind if r.difference[0] >= LEAST else "down", x(r.bytes), y(r.difference[0]), text))
        column, line = i % 4, i // 4
        left, above = LEFT + 8 + 145 * column, bottom + 58 + 18 * line
        out.append(shape(kind, left, above - 4.5, "") + f'<text x="{left + 10}" y="{above}">{escape(name)}</text></g>')
    return "\n".join([*out, "</svg>", ""])
