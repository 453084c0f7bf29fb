"""What the log of an HLS run says about the design: order and types of the modules, targets, directives."""

from __future__ import annotations

import re
from dataclasses import dataclass, field

from trigger_prune.cost.calibration.module_names import FunctionName, parse_template
from trigger_prune.cost.hls.design import ForcedMultiplier

_TOOL = re.compile(r"(Vitis|Vivado)(?:\(TM\))? (?:HLS|v\+\+)[^\n]*? v?(\d{4}\.\d(?:\.\d)?)")
_MODULE = re.compile(r"-- Implementing module '([^']+)'")
_TEMPLATE = re.compile(r"in function '(nnet::\w+<.+?>)(?:\.\d+)*' \(")
_TARGET = re.compile(r"Pipelining result ?: Target II = (\w+), Final II = (\d+)")
_FORCED = re.compile(
    r"config_op\b[^\n]*?-impl[ =](dsp|fabric)[^\n]*?\bmul\b|config_op\b[^\n]*?\bmul\b[^\n]*?-impl[ =](dsp|fabric)"
)


@dataclass(frozen=True)
class HlsLog:
    """Facts of a log; what it does not say is None or empty.

    modules       names in the order of computation
    functions     configuration (``config2``) -> C++ function with its types
    target_ii     module -> interval that was asked for, which is the reuse factor in strategy latency
    """

    tool: str | None = None
    version: str | None = None
    modules: tuple[str, ...] = ()
    functions: dict[str, FunctionName] = field(default_factory=dict)
    target_ii: dict[str, int] = field(default_factory=dict)
    forced_multiplier: ForcedMultiplier | None = None


def read_hls_log(text: str) -> HlsLog:
    """Facts of the last synthesis in a log; a log of anything else says nothing."""
    tool = _TOOL.search(text)
    modules: list[str] = []
    targets: dict[str, int] = {}
    functions: dict[str, FunctionName] = {}
    forced: ForcedMultiplier | None = None
    for line in text.splitlines():
        if match := _MODULE.search(line):
            modules.append(match.group(1))
        elif (match := _TARGET.search(line)) and modules and match.group(1).isdigit():
            targets.setdefault(modules[-1], int(match.group(1)))
        elif match := _TEMPLATE.search(line):
            function = parse_template(match.group(1))
            if function.config is not None:
                functions.setdefault(function.config, function)
        elif match := _FORCED.search(line):
            forced = match.group(1) or match.group(2)  # type: ignore[assignment]  # the pattern has no other choice
    return HlsLog(
        f"{tool.group(1).lower()}_hls" if tool else None,
        tool.group(2) if tool else None,
        tuple(dict.fromkeys(modules)),
        functions,
        targets,
        forced,
    )
