"""Plots as SVG, no more than the benchmarks need: lines over a few points, bars."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

WIDTH, HEIGHT = 640, 320
LEFT, RIGHT, TOP, BOTTOM = 56, 190, 34, 36
COLOURS = ("#1f6feb", "#d1242f", "#1a7f37", "#9a6700", "#8250df", "#57606a")
INK = "#57606a"


def lines(
    title: str,
    across: Sequence[str],
    series: Sequence[tuple[str, Sequence[float]]],
    *,
    unit: str,
) -> str:
    """Return a plot of several series over the same, evenly set, points."""
    top = _nice(max(value for _, values in series for value in values))
    step = (WIDTH - LEFT - RIGHT) / max(1, len(across) - 1)
    parts = _frame(title, top, unit)
    for number, name in enumerate(across):
        parts.append(_text(LEFT + number * step, HEIGHT - BOTTOM + 18, name, "middle"))
    ends = []
    for number, (name, values) in enumerate(series):
        colour = COLOURS[number % len(COLOURS)]
        points = [
            (LEFT + place * step, _y(value, top)) for place, value in enumerate(values)
        ]
        path = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
        parts.append(
            f'<polyline points="{path}" fill="none" stroke="{colour}"'
            ' stroke-width="2"/>'
        )
        parts += [
            f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3" fill="{colour}"/>'
            for x, y in points
        ]
        ends.append((points[-1][1], name, colour))
    parts += _labels(ends)
    return _svg(parts)


def bars(
    title: str,
    groups: Sequence[tuple[str, Sequence[tuple[str, float]]]],
    *,
    unit: str,
) -> str:
    """Return stacked bars: of each group its parts, from below."""
    top = _nice(max(sum(value for _, value in parts) for _, parts in groups))
    names = list(dict.fromkeys(name for _, parts in groups for name, _ in parts))
    colour = {name: COLOURS[n % len(COLOURS)] for n, name in enumerate(names)}
    room = (WIDTH - LEFT - RIGHT) / len(groups)
    drawn = _frame(title, top, unit)
    for number, (group, parts) in enumerate(groups):
        x, below = LEFT + room * (number + 0.15), 0.0
        for name, value in parts:
            high, low = _y(below + value, top), _y(below, top)
            drawn.append(
                f'<rect x="{x:.1f}" y="{high:.1f}" width="{room * 0.7:.1f}"'
                f' height="{low - high:.1f}" fill="{colour[name]}"/>'
            )
            below += value
        middle = LEFT + room * (number + 0.5)
        for row, word in enumerate(group.split("\n")):
            y = HEIGHT - BOTTOM + 15 + 13 * row
            drawn.append(_text(middle, y, word, "middle"))
    for number, name in enumerate(reversed(names)):
        y = TOP + 14 + 18 * number
        drawn.append(
            f'<rect x="{WIDTH - RIGHT + 12}" y="{y - 9}" width="10" height="10"'
            f' fill="{colour[name]}"/>'
        )
        drawn.append(_text(WIDTH - RIGHT + 28, y, name, "start"))
    return _svg(drawn)


def _svg(parts: list[str]) -> str:
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}"'
        f' font-family="system-ui, sans-serif" font-size="12">\n'
        f'<rect width="{WIDTH}" height="{HEIGHT}" fill="#ffffff"/>\n'
        + "\n".join(parts)
        + "\n</svg>\n"
    )


def _frame(title: str, top: float, unit: str) -> list[str]:
    parts = [_text(LEFT, 20, title, "start", "#1f2328")]
    for quarter in range(5):
        value = top * quarter / 4
        y = _y(value, top)
        parts.append(
            f'<line x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y:.1f}" y2="{y:.1f}"'
            ' stroke="#d0d7de"/>'
        )
        label = f"{unit}{value:g}" if unit == "$" else f"{value:g} {unit}"
        parts.append(_text(LEFT - 6, y + 4, label, "end"))
    return parts


def _labels(ends: list[tuple[float, str, str]]) -> list[str]:
    """Name each line at its end, where no other name is."""
    parts, last = [], 0.0
    for y, name, colour in sorted(ends):
        last = max(y, last + 14)
        parts.append(_text(WIDTH - RIGHT + 10, last + 4, name, "start", colour))
    return parts


def _text(x: float, y: float, text: str, anchor: str, colour: str = INK) -> str:
    return (
        f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" fill="{colour}">'
        f"{escape(text)}</text>"
    )


def _y(value: float, top: float) -> float:
    return HEIGHT - BOTTOM - (HEIGHT - BOTTOM - TOP) * value / top


def _nice(value: float) -> float:
    """Return a round number that is not less."""
    scale = 1.0
    while scale * 10 <= value:
        scale *= 10
    while scale > value:
        scale /= 10
    return next(
        scale * step
        for step in (1, 1.2, 1.6, 2, 2.4, 3.2, 4, 6, 8, 10)
        if scale * step >= value
    )
