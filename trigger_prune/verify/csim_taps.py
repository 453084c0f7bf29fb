"""Makes the generated C++ write down the output of every layer, to find the first one that differs.

hls4ml's own trace needs a project exported for it; taps are put into a copy of any project.
"""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np

from trigger_prune.errors import ToolError
from trigger_prune.verify.wires import Wire, WireKind

TAP_FILE_VARIABLE = "TRIGGER_PRUNE_TAP_FILE"

_LAYER_CALL = re.compile(r"^\s*nnet::(?P<function>\w+)<[^;]*>\((?P<arguments>[^;]*)\);\s*//\s*(?P<name>\w+)\s*$")
_ARRAY = re.compile(r"^\s*(?P<type>\w+)\s+(?P<variable>\w+)\[(?P<size>[\d*]+)\][;,]?\s*$")
_STREAM = re.compile(r"^\s*hls::stream<(?P<type>\w+)>\s*&?(?P<variable>\w+)(\(.*\);|,)?\s*$")
_SATURATING = re.compile(r"^\s*typedef\s+[^;]*AP_SAT[^;]*\s(?P<type>\w+);")
_WEIGHTED = re.compile(r"^(dense|conv|depthwise|pointwise|separable)")
_ACTIVATION = re.compile(r"^(relu|linear|add|subtract)")

_HEADER = """\
#include <cstdio>
#include <cstdlib>
#include <vector>
#include "hls_stream.h"
namespace tap {
inline std::FILE *open(const char *name) {
    static std::FILE *file = std::fopen(std::getenv("%s"), "w");
    std::fprintf(file, "\\n%%s", name);
    return file;
}
template <class T> void layer(T *values, const char *name, unsigned rows, unsigned columns) {
    std::FILE *file = open(name);
    std::fprintf(file, " %%u", rows);
    for (unsigned i = 0; i < rows * columns; i++) std::fprintf(file, " %%.17g", double(values[i]));
    std::fflush(file);
}
template <class T> void layer(hls::stream<T> &stream, const char *name, unsigned, unsigned) {
    std::vector<T> items;
    while (!stream.empty()) items.push_back(stream.read());
    std::FILE *file = open(name);
    std::fprintf(file, " %%u", unsigned(items.size()));
    for (T &item : items) {
        for (unsigned i = 0; i < T::size; i++) std::fprintf(file, " %%.17g", double(item[i]));
        stream.write(item);
    }
    std::fflush(file);
}
} // namespace tap
"""


def insert_taps(top: Path) -> None:
    """Put a tap behind every layer call of ``firmware/NAME.cpp`` that computes a sum or an activation.

    Raises ToolError when no layer call is recognised.
    """
    saturating = set()
    for line in (top.parent / "defines.h").read_text().splitlines():
        if match := _SATURATING.match(line):
            saturating.add(match["type"])
    (top.parent / "layer_taps.h").write_text(_HEADER % TAP_FILE_VARIABLE)
    declared: dict[str, tuple[str, str]] = {}
    lines = []
    count = 0
    for line in top.read_text().splitlines():
        lines.append(line)
        declaration = _ARRAY.match(line) or _STREAM.match(line)
        if declaration:
            declared[declaration["variable"]] = (declaration["type"], declaration.groupdict().get("size", "1"))
        call = _LAYER_CALL.match(line)
        output = next((a for a in reversed(call["arguments"].split(", ")) if a in declared), None) if call else None
        if call is None or output is None:
            continue
        kind = _kind(call["function"], declared[output][0] in saturating)
        if kind is not None:
            lines.append(
                f'    tap::layer({output}, "{kind} {call["name"]}", {_rows_and_columns(declared[output][1])});'
            )
            count += 1
    if not count:
        raise ToolError(f"{top.name} holds no layer call that is known")
    text = "\n".join(lines) + "\n"
    top.write_text(text.replace('#include "parameters.h"', '#include "parameters.h"\n#include "layer_taps.h"', 1))


def read_taps(path: Path, *, channels_last: bool) -> list[Wire]:
    """The wires that a tapped library wrote for one event, channels first."""
    wires = []
    for line in path.read_text().splitlines()[1:]:
        kind, name, rows, *values = line.split()
        table = np.array(values, dtype=np.float64).reshape(int(rows), -1)
        wire_kind: WireKind = "sum" if kind == "sum" else "quantised"
        wires.append(Wire(name, wire_kind, (table.T if channels_last else table).reshape(1, -1)))
    return wires


def _kind(function: str, saturates: bool) -> WireKind | None:
    """What a layer's output is. hls4ml merges a quantiser into the layer before it, a sum's type never saturates."""
    if _WEIGHTED.match(function):
        return "quantised" if saturates else "sum"
    return "quantised" if saturates and _ACTIVATION.match(function) else None


def _rows_and_columns(size: str) -> str:
    """``12*32`` is 12 positions of 32 channels, ``8*6*3`` 48 positions of 3, ``64`` one row."""
    *positions, channels = (int(factor) for factor in size.split("*"))
    return f"{int(np.prod(positions))}, {channels}"
