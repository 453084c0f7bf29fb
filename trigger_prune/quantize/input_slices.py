"""Ranges of the network's inputs: how a network that works on several inputs reads them from the one array of an event.

``x[:, a:b]``, ``x.narrow`` and ``torch.split`` along the feature axis become ``getitem(x, (:, a:b))`` on the network's
input. Such a node has no cost: it chooses wires. An hls4ml project gets one input port for each range.
"""

from __future__ import annotations

import operator
from itertools import pairwise
from typing import Any

import torch
from torch import fx

from trigger_prune.errors import UnsupportedLayerError

_NARROWS = (torch.narrow, "narrow")
_SPLITS = (torch.split, "split", torch.functional.split)
_HINT = "cut ranges out of the network's input along the feature axis: x[:, :8], x[:, 8:] or torch.split(x, [8, 8], 1)"


def is_slice(node: fx.Node) -> bool:
    """True for a range of the network's input, once ``normalise_slices`` has run."""
    return node.op == "call_function" and node.target is operator.getitem


def slice_bounds(node: fx.Node, n_features: int) -> tuple[int, int]:
    """First feature of the range and the one behind its last. Raises UnsupportedLayerError for an empty range."""
    key: Any = node.args[1]
    start, stop, _ = slice(key[1].start, key[1].stop).indices(n_features)
    if start >= stop:
        raise UnsupportedLayerError(f"{node.name}: the range {start}:{stop} of {n_features} features is empty")
    return start, stop


def normalise_slices(network: fx.GraphModule) -> None:
    """Bring every spelling of a range to one form, in place.

    Raises UnsupportedLayerError for a range of anything but the network's input, along another axis, with steps, or
    given by values.
    """
    for node in list(network.graph.nodes):
        if _is(node, _NARROWS):
            _require_input(node)
            dim, start, length = _arguments(node, ("dim", "start", "length"))
            _require_feature_axis(node, dim)
            _replace(network, node, start, start + length)
        elif _is(node, _SPLITS):
            _unfold_split(network, node)
    for node in network.graph.nodes:
        if is_slice(node) and not _reads_a_shape(node):
            _require_input(node)
            node.args = (node.args[0], (slice(None), _feature_range(node, node.args[1])))
    network.graph.lint()


def _is(node: fx.Node, targets: tuple[Any, ...]) -> bool:
    return node.op in ("call_function", "call_method") and node.target in targets


def _reads_a_shape(node: fx.Node) -> bool:
    """``x.shape[0]``: left alone, because the shape itself is what gets refused."""
    source: Any = node.args[0]
    return not isinstance(source, fx.Node) or source.target is getattr or source.target == "size"


def _require_input(node: fx.Node) -> None:
    source = node.args[0] if node.args else None
    if not isinstance(source, fx.Node) or source.op != "placeholder":
        raise UnsupportedLayerError(f"{node.name}: only the network's input can be cut into ranges", hint=_HINT)


def _arguments(node: fx.Node, names: tuple[str, ...]) -> list[int]:
    given = dict(zip(names, node.args[1:], strict=False)) | dict(node.kwargs)
    values = [given.get(name) for name in names]
    if not all(isinstance(value, int) for value in values):
        raise UnsupportedLayerError(f"{node.name}: a range must be given by numbers", hint=_HINT)
    return values  # type: ignore[return-value]


def _require_feature_axis(node: fx.Node, dim: Any) -> None:
    if dim != 1:
        raise UnsupportedLayerError(f"{node.name}: ranges along dimension {dim} are not supported", hint=_HINT)


def _replace(network: fx.GraphModule, node: fx.Node, start: int, stop: int) -> None:
    source: Any = node.args[0] if not _is(node, (operator.getitem,)) else node.args[0].args[0]  # type: ignore[union-attr]
    with network.graph.inserting_before(node):
        found = network.graph.call_function(operator.getitem, (source, (slice(None), slice(start, stop))))
    node.replace_all_uses_with(found)
    network.graph.erase_node(node)


def _unfold_split(network: fx.GraphModule, node: fx.Node) -> None:
    _require_input(node)
    names = ("split_size_or_sections", "dim")
    given = dict(zip(names, node.args[1:], strict=False)) | dict(node.kwargs)
    sizes = given.get(names[0], given.get("split_size"))
    _require_feature_axis(node, given.get("dim", 0))
    users = list(node.users)
    indices = [user.args[1] for user in users if is_slice(user)]
    if len(indices) != len(users) or not all(isinstance(index, int) for index in indices):
        raise UnsupportedLayerError(f"{node.name}: the parts of a split must be taken one by one", hint=_HINT)
    for user, index in zip(users, indices, strict=True):
        bounds = _bounds_of_part(node, sizes, index)
        _replace(network, user, *bounds)
    network.graph.erase_node(node)


def _bounds_of_part(node: fx.Node, sizes: Any, index: Any) -> tuple[int, int]:
    if isinstance(sizes, int) and index >= 0:
        return index * sizes, (index + 1) * sizes
    if isinstance(sizes, (list, tuple)) and all(isinstance(size, int) for size in sizes):
        edges = [sum(sizes[:k]) for k in range(len(sizes) + 1)]
        part: tuple[int, int] = list(pairwise(edges))[index]
        return part
    raise UnsupportedLayerError(f"{node.name}: a split must be given by numbers", hint=_HINT)


def _feature_range(node: fx.Node, key: Any) -> slice:
    whole = slice(None)
    if not isinstance(key, tuple) or len(key) < 2 or key[0] != whole or any(rest != whole for rest in key[2:]):
        raise UnsupportedLayerError(f"{node.name}: {node.format_node()} is no range of features", hint=_HINT)
    wanted = key[1]
    if (
        not isinstance(wanted, slice)
        or wanted.step not in (None, 1)
        or not all(bound is None or isinstance(bound, int) for bound in (wanted.start, wanted.stop))
    ):
        raise UnsupportedLayerError(f"{node.name}: {node.format_node()} is no range of features", hint=_HINT)
    return slice(wanted.start, wanted.stop)
