"""What a stored synthesis is found by: everything that changes its figures, and nothing else."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, fields, is_dataclass
from typing import TYPE_CHECKING, Any

from trigger_prune.target import Target

if TYPE_CHECKING:
    from torch import fx

KEY_FORMAT = 1

LIMITS = frozenset(
    {
        "timeout_s",
        "memory_limit_mib",
        "settings_script",
        "licences",
        "tool_version",
        "work_dir",
        "keep_dir",
        "log_dir",
    }
)
"""Options of a cost model that decide whether and where it runs, not what it finds. The version enters as ``tool``."""


def key_of(parts: Mapping[str, Any]) -> str:
    """SHA-256 (hex) of the canonical JSON of the key's parts."""
    canonical = json.dumps(parts, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(canonical.encode()).hexdigest()


def key_parts(
    network: fx.GraphModule,
    content_hash: str,
    *,
    flow: str,
    options: Mapping[str, Any],
    target: Target,
    tool: Mapping[str, str],
) -> dict[str, Any]:
    """The parts of a key as plain JSON values.

    flow       what turns the network into hardware (``rtl``, ``hls``); several backends may share one
    options    of ``cost_options``
    tool       name and version of the tool, and of the generators in front of it
    """
    parts = {
        "format": KEY_FORMAT,
        "flow": flow,
        "network": network_digest(network, content_hash),
        "content_hash": content_hash,
        "options": dict(options),
        "target": target.to_dict(),
        "tool": dict(tool),
    }
    plain: dict[str, Any] = json.loads(json.dumps(parts, sort_keys=True, allow_nan=False))
    return plain


def network_digest(network: fx.GraphModule, content_hash: str) -> str:
    """SHA-256 (hex) of a quantised network: its integers, and how the layers are wired.

    ``content_hash`` covers the weight layers and their types; the graph adds what lies between them (pooling, sums,
    concatenations, strides), so that two networks with equal weights and other wiring never share a key.
    """
    from torch import fx

    from trigger_prune.quantize.graph import module_of

    place: dict[fx.Node, int] = {}
    lines = [content_hash]
    for number, node in enumerate(network.graph.nodes):
        place[node] = number
        module = module_of(network, node)
        if module is not None:
            what = f"{type(module).__name__}({module.extra_repr()})"
            for name in ("stride", "padding", "dilation", "groups"):
                what += f" {name}={getattr(module, name, None)}"
        else:
            what = node.op if node.op in ("placeholder", "output") else getattr(node.target, "__name__", str(node.op))
        sources = [place[source] for source in node.all_input_nodes]
        constants = {name: value for name, value in node.kwargs.items() if not isinstance(value, fx.Node)}
        lines.append(f"{what} {sources} {constants}")
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()


def cost_options(model: object) -> dict[str, Any]:
    """Options of a cost model that can change its figures: its dataclass fields without limits.

    A field whose metadata says ``{"limit": True}`` is left out too. A field this module does not know counts, which can
    cost a second synthesis but never gives a wrong figure.
    """
    if not is_dataclass(model):
        return {}
    return {
        entry.name: _plain(getattr(model, entry.name))
        for entry in fields(model)
        if entry.name not in LIMITS
        and not entry.metadata.get("limit")
        and entry.name not in ("name", "stage")
        and entry.compare
    }


def _plain(value: Any) -> Any:
    if is_dataclass(value) and not isinstance(value, type):
        return _plain(asdict(value))
    if isinstance(value, tuple | list):
        return [_plain(item) for item in value]
    if isinstance(value, dict):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, bool | int | float | str) or value is None:
        return value
    return str(value)
