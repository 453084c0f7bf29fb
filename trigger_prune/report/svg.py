"""Matplotlib figures as inline SVG: text stays text, colours follow the page's scheme, ids never clash."""

from __future__ import annotations

import io
import math
import re
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from html import escape
from types import MappingProxyType
from typing import Any

from matplotlib import rc_context
from matplotlib.figure import Figure

_COLOUR_NAMES = ("ink", "muted", "grid", "paper", "before", "after", "good", "bad")
SERIES = tuple(f"series-{index}" for index in range(1, 7))
"""Names of the colours that tell lines apart."""

COLOUR = MappingProxyType({name: f"#fe{index:02x}ef" for index, name in enumerate((*_COLOUR_NAMES, *SERIES))})
"""Placeholder colour of each name: what matplotlib draws in is replaced by the style sheet's ``var(--name)``."""

_STYLE: Any = {
    "svg.fonttype": "none",
    "svg.hashsalt": "trigger_prune",
    "font.family": "sans-serif",
    "font.size": 11.5,
    # names come from users and may hold dollar signs
    "text.parse_math": False,
    "axes.unicode_minus": True,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.linewidth": 0.9,
    "axes.edgecolor": COLOUR["muted"],
    "axes.labelcolor": COLOUR["ink"],
    "axes.labelpad": 7.0,
    "axes.titlesize": 11.5,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.titlecolor": COLOUR["ink"],
    "axes.facecolor": "none",
    "figure.facecolor": "none",
    "axes.grid": True,
    "grid.color": COLOUR["grid"],
    "grid.linewidth": 0.8,
    "axes.axisbelow": True,
    "text.color": COLOUR["ink"],
    "xtick.color": COLOUR["muted"],
    "ytick.color": COLOUR["muted"],
    "xtick.labelcolor": COLOUR["ink"],
    "ytick.labelcolor": COLOUR["ink"],
    "xtick.labelsize": 10.5,
    "ytick.labelsize": 10.5,
    "lines.linewidth": 1.8,
    "legend.frameon": False,
    "legend.fontsize": 10.5,
    "legend.handlelength": 2.2,
}


@contextmanager
def drawing(width_px: float, height_px: float) -> Iterator[Figure]:
    """A figure in the report's style; one SVG unit is one CSS pixel. Close the context only after ``to_svg``."""
    with rc_context(_STYLE), warnings.catch_warnings():
        # glyphs of other scripts are set by the browser, not by matplotlib's font
        warnings.filterwarnings("ignore", message="Glyph .* missing from")
        yield Figure(figsize=(width_px / 72, height_px / 72), layout="constrained")


def to_svg(figure: Figure, prefix: str, title: str) -> str:
    """SVG text for a place inside HTML; all its ids begin with ``prefix``, ``title`` is what a screen reader says."""
    stream = io.StringIO()
    # no date and no version, so that equal numbers give equal pages
    metadata: Any = {"Date": None, "Creator": None, "Format": None, "Type": None}
    figure.savefig(stream, format="svg", metadata=metadata)
    text = stream.getvalue()
    width, height = (72 * size for size in figure.get_size_inches())
    body = text[text.index(">", text.index("<svg")) + 1 : text.rindex("</svg>")]
    # inside HTML a style element would apply to the whole page; the style sheet of the page has the rule
    body = re.sub(r"<metadata>.*?</metadata>|<style.*?</style>|<!--.*?-->", "", body, flags=re.DOTALL)
    body = _prefix_ids(body, prefix)
    body = re.sub(r"(font: [^;\"]*?\d(?:\.\d+)?px) [^;\"]*", r"\1 sans-serif", body)
    for name, colour in COLOUR.items():
        body = body.replace(colour, f"var(--{name})")
    body = re.sub(r'(?<= d=")[^"]*', lambda found: _round(found.group()), body)
    body = re.sub(r"\s*\n\s*", "\n", body)
    return (
        f'<svg class="plot" role="img" viewBox="0 0 {width:g} {height:g}" style="max-width: {width:g}px">'
        f"<title>{escape(title)}</title>{body}</svg>"
    )


def label(name: str) -> str:
    """A user's name as a legend entry: matplotlib leaves out entries that begin with an underscore."""
    return f"\u200b{name}" if name.startswith("_") else name


def power_of_ten(value: float, _position: float = 0.0) -> str:
    """Tick label of a log axis without mathematics markup."""
    exponent = round(math.log10(value))
    digits = str(exponent).translate(str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹"))
    return "1" if exponent == 0 else f"10{digits}"


def _prefix_ids(body: str, prefix: str) -> str:
    """Keep only the ids something refers to, and make them unique on a page with many figures."""
    used = set(re.findall(r'href="#([^"]+)"|url\(#([^)]+)\)', body))
    names = {name for pair in used for name in pair if name}

    def rename(found: re.Match[str]) -> str:
        return f' id="{prefix}-{found.group(1)}"' if found.group(1) in names else ""

    body = re.sub(r' id="([^"]+)"', rename, body)
    body = re.sub(r'href="#([^"]+)"', rf'href="#{prefix}-\1"', body)
    return re.sub(r"url\(#([^)]+)\)", rf"url(#{prefix}-\1)", body)


def _round(path: str) -> str:
    """Coordinates to a hundredth of a pixel: half the size, no visible difference."""
    return re.sub(r"-?\d+\.\d{3,}", lambda found: f"{float(found.group()):.2f}".rstrip("0").rstrip("."), path)
