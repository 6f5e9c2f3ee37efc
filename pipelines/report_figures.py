"""Small figures for the report as inline SVG: curves, histograms, intervals; they take the page's own ink."""

from __future__ import annotations

import base64
import math
from collections import Counter
from collections.abc import Sequence

from markupsafe import Markup

INK, SOFT, ACCENT = "var(--ink)", "var(--soft)", "var(--accent)"


def data_uri(png: bytes) -> str:
    """A PNG as text that a page can carry inside itself."""
    return "data:image/png;base64," + base64.b64encode(png).decode()


def number(value: float | None) -> str:
    """Three significant digits, without an exponent where people would not write one; a dash where undefined."""
    if value is None or not math.isfinite(value):
        return "–"
    if value == round(value) or abs(value) >= 1000:
        text = f"{value:,.0f}" if abs(value) < 1e7 else f"{value:.3g}"
    else:
        text = f"{value:.3g}" if abs(value) < 1e-3 else f"{value:.{_digits(value)}f}"
    return text.replace(",", "\N{NARROW NO-BREAK SPACE}").replace("-", "\N{MINUS SIGN}")


def ticks(low: float, high: float, count: int = 4) -> list[float]:
    """About `count` round numbers from `low` to `high`."""
    rough = (high - low) / count
    power = 10 ** math.floor(math.log10(rough))
    step = next(factor * power for factor in (1, 2, 5, 10) if factor * power >= rough * 0.999)
    first = math.ceil(low / step - 1e-9)
    return [round(index * step, 10) for index in range(first, math.floor(high / step + 1e-9) + 1)]


def curve(
    points: Sequence[Sequence[float]], *, x_label: str, y_label: str, marks: Sequence[float] = (), dots: bool = False
) -> Markup:
    """A line through (x, y) points; `marks` are dashed verticals (a run that was resumed there).

    More than 300 points are drawn as means over equal stretches, on top of a faint band of their extremes.
    """
    known = [(float(x), float(y)) for x, y in points if y is not None and math.isfinite(y)]
    if len(known) < 2:
        return Markup("")
    width, height, left, bottom, top = 460, 220, 52, 38, 10
    x_low, x_high = min(x for x, _ in known), max(x for x, _ in known)
    y_low, y_high = _padded([y for _, y in known])

    def at(x: float, y: float) -> tuple[float, float]:
        right = left + (x - x_low) / ((x_high - x_low) or 1) * (width - left - 12)
        return right, height - bottom - (y - y_low) / (y_high - y_low) * (height - bottom - top)

    stretches = _stretches(known, 300)
    drawn = []
    for y in ticks(y_low, y_high):
        drawn.append(_line(left, at(x_low, y)[1], width - 12, at(x_low, y)[1], SOFT, 0.5))
        drawn.append(_text(left - 6, at(x_low, y)[1] + 4, f"{y:g}", "end"))
    drawn += [_text(at(x, y_low)[0], height - bottom + 16, f"{x:g}", "middle") for x in ticks(x_low, x_high, 5)]
    for mark in marks:
        drawn.append(_line(at(mark, y_low)[0], top, at(mark, y_low)[0], height - bottom, INK, 1, dash="4 3"))
        drawn.append(_text(at(mark, y_low)[0] + 4, top + 10, "resumed", "start"))
    if len(stretches) < len(known):
        upper = [at(x, max(ys)) for x, ys in stretches]
        lower = [at(x, min(ys)) for x, ys in reversed(stretches)]
        drawn.append(Markup('<polygon points="{}" fill="{}" opacity="0.18"/>').format(_joined(upper + lower), ACCENT))
    line = [at(x, sum(ys) / len(ys)) for x, ys in stretches]
    drawn.append(
        Markup('<polyline points="{}" fill="none" stroke="{}" stroke-width="1.8"/>').format(_joined(line), ACCENT)
    )
    if dots:
        drawn += [Markup('<circle cx="{:.1f}" cy="{:.1f}" r="3" fill="{}"/>').format(x, y, ACCENT) for x, y in line]
    drawn.append(_text((left + width) / 2, height - 4, x_label, "middle"))
    drawn.append(_text(12, (height - bottom) / 2, y_label, "middle", turned=True))
    return _svg(width, height, drawn, f"{y_label} over {x_label}")


def reliability(points: Sequence[Sequence[float]]) -> Markup:
    """A reliability diagram of (mean probability, share with the finding, cases): dots on or off the dashed diagonal.

    The area of a dot is its share of the cases, and their number stands above it.
    """
    if not points:
        return Markup("")
    side, left, bottom, top = 300, 46, 38, 24
    across, tall, every = side - left - 22, side - bottom - top, sum(count for _, _, count in points)

    def at(x: float, y: float) -> tuple[float, float]:
        return left + x * across, side - bottom - y * tall

    drawn = [_line(*at(0, 0), *at(1, 1), INK, 1, dash="4 3")]
    for tick in ticks(0, 1):
        drawn.append(_line(*at(0, tick), *at(1, tick), SOFT, 0.5))
        drawn.append(_text(left - 6, at(0, tick)[1] + 4, f"{tick:g}", "end"))
        drawn.append(_text(at(tick, 0)[0], side - bottom + 16, f"{tick:g}", "middle"))
    for probability, share, count in points:
        x, y = at(probability, share)
        radius = max(2.5, 18 * math.sqrt(count / every))
        drawn.append(
            Markup('<circle cx="{:.1f}" cy="{:.1f}" r="{:.1f}" fill="{}" opacity="0.6"/>').format(x, y, radius, ACCENT)
        )
        drawn.append(_text(x, y - radius - 3, str(int(count)), "middle"))
    drawn.append(_text(left + across / 2, side - 4, "predicted probability", "middle"))
    drawn.append(_text(12, top + tall / 2, "share with the finding", "middle", turned=True))
    return _svg(side, side, drawn, "reliability diagram")


def lines(
    drawn: Sequence[tuple[str, Sequence[tuple[float, float]], bool, bool]], *, ticks: Sequence[tuple[float, str]],
    x_label: str, y_label: str,
) -> Markup:  # fmt: skip
    """Several lines of shares (0 to 1) on one axis, with their names below.

    Args:
        drawn: name, (x, y) points, whether it is in the accent's ink, whether it is dashed.
        ticks: place on the x axis and what stands there; the first and last are its ends.
    """
    if not drawn:
        return Markup("")
    width, height, left, bottom, top = 460, 220, 52, 38, 10
    x_low, x_high = ticks[0][0], ticks[-1][0]

    def at(x: float, y: float) -> tuple[float, float]:
        return left + (x - x_low) / (x_high - x_low) * (width - left - 12), height - bottom - y * (
            height - bottom - top
        )

    parts = []
    for y in (0, 0.25, 0.5, 0.75, 1):
        parts.append(_line(left, at(x_low, y)[1], width - 12, at(x_low, y)[1], SOFT, 0.5))
        parts.append(_text(left - 6, at(x_low, y)[1] + 4, f"{y:g}", "end"))
    parts += [_text(at(x, 0)[0], height - bottom + 16, text, "middle") for x, text in ticks]
    for row, (name, points, accent, dashed) in enumerate(drawn):
        ink, dash = ACCENT if accent else SOFT, "5 3" if dashed else "none"
        parts.append(
            Markup('<polyline points="{}" fill="none" stroke="{}" stroke-width="2" stroke-dasharray="{}"/>').format(
                _joined([at(x, y) for x, y in points]), ink, dash
            )
        )
        y = height + 8 + 16 * row
        parts += [_line(left, y, left + 28, y, ink, 2, dash=dash), _text(left + 36, y + 4, name, "start")]
    parts.append(_text((left + width) / 2, height - 4, x_label, "middle"))
    parts.append(_text(12, (height - bottom) / 2, y_label, "middle", turned=True))
    return _svg(width, height + 16 * len(drawn) + 4, parts, f"{y_label} over {x_label}")


def histogram(values: Sequence[float], label: str) -> Markup:
    """How often values fall into twelve equal bins, with the median marked."""
    known = sorted(float(value) for value in values if math.isfinite(value))
    if not known or known[0] == known[-1]:
        return Markup("")
    low, high, bins = known[0], known[-1], 12
    counts = Counter(min(int((value - low) / (high - low) * bins), bins - 1) for value in known)
    width, height, bottom, top = 220, 120, 34, 14
    tallest, step = max(counts.values()), (width - 16) / bins
    drawn = []
    for index, count in sorted(counts.items()):
        tall = count / tallest * (height - bottom - top)
        drawn.append(_rect(8 + index * step + 0.5, height - bottom - tall, step - 1, tall))
    middle = known[len(known) // 2]
    at = 8 + (middle - low) / (high - low) * (width - 16)
    drawn.append(_line(at, top - 2, at, height - bottom, INK, 1, dash="3 2"))
    drawn.append(_text(min(max(at, 40), width - 40), top - 4, f"median {number(middle)}", "middle"))
    drawn.append(_line(8, height - bottom, width - 8, height - bottom, SOFT, 1))
    drawn += [_text(8, height - 20, number(low), "start"), _text(width - 8, height - 20, number(high), "end")]
    drawn.append(_text(width / 2, height - 4, label, "middle", bold=True))
    return _svg(width, height, drawn, f"histogram of {label}")


def bars(values: Sequence[str], label: str) -> Markup:
    """How often each of a few words occurs, the most frequent first; what does not fit is summed up."""
    counts = Counter(values).most_common()
    if len(counts) > 5:
        counts = [*counts[:4], (f"{len(counts) - 4} others", sum(count for _, count in counts[4:]))]
    width, row = 220, 17
    height = row * len(counts) + 22
    longest = max(count for _, count in counts)
    drawn = []
    for index, (word, count) in enumerate(counts):
        drawn.append(_rect(84, index * row + 3, count / longest * (width - 118), row - 5))
        drawn.append(_text(80, index * row + 13, word if len(word) < 14 else word[:12] + "…", "end"))
        drawn.append(_text(88 + count / longest * (width - 118), index * row + 13, str(count), "start"))
    drawn.append(_text(width / 2, height - 4, label, "middle", bold=True))
    return _svg(width, height, drawn, f"counts of {label}")


def intervals(rows: Sequence[tuple[str, float | None, float | None, float | None]], *, zero: bool = False) -> Markup:
    """Means with their intervals, one line each, on a common axis; `zero` draws the line of no difference."""
    known = [v for _, *values in rows for v in values if v is not None and math.isfinite(v)]
    if not known:
        return Markup("")
    low, high = _padded([*known, 0.0] if zero else known)
    width, left, row = 760, 330, 28
    height = row * len(rows) + 26

    def at(value: float) -> float:
        return left + (value - low) / (high - low) * (width - left - 90)

    drawn = []
    for tick in ticks(low, high, 6):
        drawn.append(_line(at(tick), 0, at(tick), height - 20, SOFT, 0.5))
        drawn.append(_text(at(tick), height - 6, f"{tick:g}", "middle"))
    if zero:
        drawn.append(_line(at(0), 0, at(0), height - 20, INK, 1, dash="4 3"))
    for index, (name, mean, lower, upper) in enumerate(rows):
        y = index * row + 15
        drawn.append(_text(left - 12, y + 4, name, "end"))
        if lower is not None and upper is not None and math.isfinite(lower) and math.isfinite(upper):
            drawn.append(_line(at(lower), y, at(upper), y, ACCENT, 5, opacity=0.4))
        if mean is not None and math.isfinite(mean):
            drawn.append(Markup('<circle cx="{:.1f}" cy="{}" r="5" fill="{}"/>').format(at(mean), y, ACCENT))
            sign = "+" if zero and mean > 0 else ""
            drawn.append(_text(width - 78, y + 4, sign + number(mean), "start", bold=True))
    return _svg(width, height, drawn, "means with intervals")


def _digits(value: float) -> int:
    return max(0, 2 - math.floor(math.log10(abs(value)))) if abs(value) >= 1 else 3


def _padded(values: Sequence[float]) -> tuple[float, float]:
    low, high = min(values), max(values)
    margin = (high - low) * 0.06 or abs(high) * 0.1 or 0.5
    return low - margin, high + margin


def _stretches(points: list[tuple[float, float]], most: int) -> list[tuple[float, list[float]]]:
    size = math.ceil(len(points) / most)
    parts = [points[start : start + size] for start in range(0, len(points), size)]
    return [(sum(x for x, _ in part) / len(part), [y for _, y in part]) for part in parts]


def _joined(points: Sequence[tuple[float, float]]) -> str:
    return " ".join(f"{x:.1f},{y:.1f}" for x, y in points)


def _svg(width: float, height: float, drawn: Sequence[Markup], title: str) -> Markup:
    head = Markup('<svg viewBox="0 0 {0} {1}" width="{0}" height="{1}" role="img" aria-label="{2}">')
    return head.format(width, height, title) + Markup("").join(drawn) + Markup("</svg>")


def _line(
    x1: float, y1: float, x2: float, y2: float, ink: str, thick: float, *, dash: str = "none", opacity: float = 1
) -> Markup:
    return Markup(
        '<line x1="{:.1f}" y1="{:.1f}" x2="{:.1f}" y2="{:.1f}" stroke="{}" stroke-width="{}" stroke-dasharray="{}"'
        ' opacity="{}"/>'
    ).format(x1, y1, x2, y2, ink, thick, dash, opacity)


def _rect(x: float, y: float, width: float, height: float) -> Markup:
    return Markup('<rect x="{:.1f}" y="{:.1f}" width="{:.1f}" height="{:.1f}" fill="{}" opacity="0.75"/>').format(
        x, y, width, height, ACCENT
    )


def _text(x: float, y: float, text: str, anchor: str, *, bold: bool = False, turned: bool = False) -> Markup:
    weight, turn = ("600" if bold else "400"), (f"rotate(-90 {x:.1f} {y:.1f})" if turned else "")
    return Markup('<text x="{:.1f}" y="{:.1f}" text-anchor="{}" font-weight="{}" transform="{}">{}</text>').format(
        x, y, anchor, weight, turn, text
    )
