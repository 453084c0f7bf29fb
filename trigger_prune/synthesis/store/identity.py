"""Which tool a cost model would run, as it enters the key of a stored synthesis."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from importlib.metadata import PackageNotFoundError, version

from trigger_prune.cost._base import CostModel

REVISION = {"rtl": 1, "hls": 1}
"""Flow -> revision of what this package itself puts in front of the tool: raised when it would give other figures for
the same network, so that earlier entries are not found any more."""

GENERATORS = {"rtl": ("alkaid", "pyosys"), "hls": ("hls4ml", "qonnx")}
"""Flow -> packages whose versions decide about the figures."""

FLOW_OF = {"rtl": "rtl", "csynth": "hls", "vsynth": "hls", "cosim": "hls", "pnr": "hls"}
"""Backend -> flow. Backends of one flow share entries: who has run Vivado has run csynth too."""


@dataclass(frozen=True)
class ToolIdentity:
    """``parts`` enter the key. ``version`` is the tool's own, as its reports state it; None = not known before."""

    flow: str
    parts: Mapping[str, str] = field(default_factory=dict)
    version: str | None = None


def tool_identity(model: CostModel) -> ToolIdentity | None:
    """Identity of the model's tool, or None when nothing it measures can be stored.

    A cost model says itself what it runs by a method ``identity()`` that gives names and versions (``{"tool":
    "vitis_hls", "version": "2023.2"}``), or None when it does not know. The ``rtl`` backend needs none: its tools are
    packages.
    """
    flow = FLOW_OF.get(model.name)
    if flow is None:
        return None
    own: Callable[[], Mapping[str, str] | None] | None = getattr(model, "identity", None)
    stated = {} if own is None else own()
    if stated is None or (own is None and flow != "rtl"):
        return None
    generators = {name: _package_version(name) for name in GENERATORS[flow]}
    parts = {**generators, **stated, "revision": str(REVISION[flow])}
    return ToolIdentity(flow, parts, stated.get("version"))


def _package_version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return "absent"
