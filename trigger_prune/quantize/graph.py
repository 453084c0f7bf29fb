"""From a user's plain ``nn.Module`` to a graph of the layers that can be quantised and deployed.

``SUPPORTED`` is the one table of layers: the errors, the documentation and the tests read it.
"""

from __future__ import annotations

import copy
import operator
from dataclasses import dataclass
from typing import Any

import torch
from torch import fx, nn
from torch.nn import functional

from trigger_prune.errors import ModelError, UnsupportedLayerError
from trigger_prune.quantize.batch_norm import NORMS, fold_batch_norm
from trigger_prune.quantize.float_only import refuse_float_only
from trigger_prune.quantize.input_slices import is_slice, normalise_slices
from trigger_prune.quantize.layers import QUANTIZERS, WEIGHT_LAYERS


@dataclass(frozen=True)
class LayerSupport:
    """What happens to one kind of layer. Layouts in which hls4ml cannot build it are in export/support.py."""

    layer: str
    treatment: str
    remark: str = ""


SUPPORTED: tuple[LayerSupport, ...] = (
    LayerSupport("Linear", "quantised weights", remark="on one vector per event"),
    LayerSupport("Conv1d", "quantised weights"),
    LayerSupport("Conv2d", "quantised weights"),
    LayerSupport("BatchNorm1d", "folded into the layer before it"),
    LayerSupport("BatchNorm2d", "folded into the layer before it"),
    LayerSupport("ReLU", "followed by an activation quantiser"),
    LayerSupport("Flatten", "kept"),
    LayerSupport("MaxPool1d", "kept"),
    LayerSupport("MaxPool2d", "kept"),
    LayerSupport("Dropout", "removed after training"),
    LayerSupport("Identity", "removed"),
    LayerSupport("add", "followed by an activation quantiser"),
    LayerSupport("cat", "kept", remark="along the feature axis"),
    LayerSupport("slice", "kept", remark="x[:, a:b] of the network's input; one port of the hls4ml project for each"),
)

PASS_THROUGH = (nn.Flatten, nn.MaxPool1d, nn.MaxPool2d)
"""Modules whose output has exactly the fixed-point type of their input."""

_WEIGHTED = (nn.Linear, nn.Conv1d, nn.Conv2d)
_REMOVED = (nn.Dropout, nn.Dropout1d, nn.Dropout2d, nn.Identity)
_OTHERS = (*NORMS, *_REMOVED, nn.ReLU, *PASS_THROUGH)
_RELU_CALLS = (functional.relu, torch.relu)
_DROPOUT_CALLS = (functional.dropout, functional.dropout1d, functional.dropout2d)
_ADD_CALLS = (operator.add, torch.add)
_MEAN_HINT = "write the mean over positions as a frozen depthwise Conv1d, as models/deep_sets.py does"
_LOGITS_HINT = "export logits; arg max, softmax or a threshold is applied outside the network"
_SHAPE_HINT = "use nn.Flatten; the graph may not depend on shapes"
_HINTS = {
    "mean": _MEAN_HINT,
    "adaptiveavgpool1d": f"hls4ml converts it silently wrong; {_MEAN_HINT}",
    "adaptiveavgpool2d": f"hls4ml converts it silently wrong; {_MEAN_HINT}",
    "avgpool1d": _MEAN_HINT,
    "avgpool2d": _MEAN_HINT,
    "softmax": _LOGITS_HINT,
    "logsoftmax": _LOGITS_HINT,
    "sigmoid": _LOGITS_HINT,
    "view": _SHAPE_HINT,
    "reshape": _SHAPE_HINT,
    "size": _SHAPE_HINT,
    "getattr": _SHAPE_HINT,
    "linear": "use nn.Linear",
    "conv1d": "use nn.Conv1d",
    "conv2d": "use nn.Conv2d",
    "parametrizedlinear": "call torch.nn.utils.parametrize.remove_parametrizations first",
    "parametrizedconv1d": "call torch.nn.utils.parametrize.remove_parametrizations first",
    "parametrizedconv2d": "call torch.nn.utils.parametrize.remove_parametrizations first",
    "quantlinear": "the network is quantised already",
    "quantconv1d": "the network is quantised already",
    "quantconv2d": "the network is quantised already",
    "fixedquantizer": "the network is quantised already",
}
"""Remedies by name of layer or function, in lower case and without underscores."""


class _Tracer(fx.Tracer):
    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        return isinstance(m, (*WEIGHT_LAYERS, *QUANTIZERS)) or super().is_leaf_module(m, module_qualified_name)


def trace(model: nn.Module) -> fx.GraphModule:
    """A copy of ``model`` as a graph in eval mode. Raises ModelError when its forward cannot be traced."""
    try:
        model = copy.deepcopy(model).eval()
    except (RuntimeError, TypeError) as error:
        raise ModelError(
            f"{type(model).__name__} cannot be copied: {error}",
            hint="make weight normalisation and torch.nn.utils.prune masks permanent (remove_weight_norm, remove)",
        ) from error
    tracer = _Tracer()
    try:
        graph = tracer.trace(model)
    except (TypeError, ValueError, RuntimeError, fx.proxy.TraceError) as error:
        raise ModelError(
            f"the forward of {type(model).__name__} cannot be traced: {error}",
            hint="write it without branches that depend on values; torch.fx records each operation once",
        ) from error
    return fx.GraphModule(tracer.root, graph)


def prepare(model: nn.Module) -> fx.GraphModule:
    """Trace, bring functional calls to module form, fold BatchNorm, drop Dropout, and check every layer.

    The result computes what ``model.eval()`` computes (up to rounding of the folded BatchNorm) with the layers of
    ``SUPPORTED`` only. Raises ModelError, or UnsupportedLayerError naming layer and remedy.
    """
    network = trace(model)
    refuse_float_only(type(model).__name__, network)
    _calls_to_modules(network)
    _check_borders(network)
    normalise_slices(network)
    _check_layers(network)
    for node in list(network.graph.nodes):
        if isinstance(module_of(network, node), _REMOVED):
            node.replace_all_uses_with(node.args[0])
            network.graph.erase_node(node)
    _undo_inplace(network)
    fold_batch_norm(network)
    network.delete_all_unused_submodules()
    network.graph.lint()
    network.recompile()
    return network


def module_of(network: fx.GraphModule, node: fx.Node) -> nn.Module | None:
    """The module a node calls, or None for any other node."""
    return network.get_submodule(str(node.target)) if node.op == "call_module" else None


def is_add(node: fx.Node) -> bool:
    """True for ``a + b`` in any of its spellings."""
    return (node.op == "call_function" and node.target in _ADD_CALLS) or (
        node.op == "call_method" and node.target == "add"
    )


def is_cat(node: fx.Node) -> bool:
    """True for torch.cat."""
    return node.op == "call_function" and node.target in (torch.cat, torch.concat)


def add_module(network: fx.GraphModule, wish: str, module: nn.Module) -> str:
    """Give ``network`` a new submodule; returns its name, ``wish`` or, where that is taken, ``wish_1`` and so on."""
    name, number = wish, 0
    while hasattr(network, name):
        number += 1
        name = f"{wish}_{number}"
    network.add_submodule(name, module)
    return name


def _calls_to_modules(network: fx.GraphModule) -> None:
    for node in list(network.graph.nodes):
        module = _as_module(node)
        if module is None:
            continue
        name = add_module(network, node.name, module)
        with network.graph.inserting_before(node):
            replacement = network.graph.call_module(name, (node.args[0] if node.args else node.kwargs["input"],))
        node.replace_all_uses_with(replacement)
        network.graph.erase_node(node)
    network.recompile()


def _as_module(node: fx.Node) -> nn.Module | None:
    function = node.target if node.op == "call_function" else None
    method = node.target if node.op == "call_method" else None
    arguments = {k: v for k, v in node.kwargs.items() if k != "input"}
    if function in _RELU_CALLS or method == "relu":
        return nn.ReLU(inplace=bool(arguments.get("inplace", node.args[1] if len(node.args) > 1 else False)))
    if function in _DROPOUT_CALLS:
        if arguments.get("training", node.args[2] if len(node.args) > 2 else True):
            raise UnsupportedLayerError(
                f"{node.name}: this dropout also acts in evaluation",
                hint="pass training=self.training, or use nn.Dropout",
            )
        return nn.Identity()
    if function is torch.flatten or method == "flatten":
        flatten = nn.Flatten(*node.args[1:], **{"start_dim": 0, **arguments} if len(node.args) < 2 else arguments)  # type: ignore[arg-type]
        _require_flat(node.name, flatten)
        return flatten
    return None


def _require_flat(name: str, flatten: nn.Flatten) -> None:
    if (flatten.start_dim, flatten.end_dim) != (1, -1):
        raise UnsupportedLayerError(f"{name}: flatten must start at dimension 1 and run to the last")


def _check_borders(network: fx.GraphModule) -> None:
    placeholders = [node for node in network.graph.nodes if node.op == "placeholder"]
    if len(placeholders) != 1:
        raise UnsupportedLayerError(
            f"the network takes {len(placeholders)} inputs; exactly one is supported",
            hint="concatenate the inputs into one array of features; x[:, :8] and x[:, 8:] are its parts",
        )
    output = next(node for node in network.graph.nodes if node.op == "output")
    if not isinstance(output.args[0], fx.Node):
        raise UnsupportedLayerError(
            f"the network returns a {type(output.args[0]).__name__}; exactly one tensor is supported",
            hint="return the logits as one tensor",
        )


def _check_layers(network: fx.GraphModule) -> None:
    seen: set[str] = set()
    for node in network.graph.nodes:
        if node.op in ("placeholder", "output"):
            continue
        if is_add(node):
            _check_add(node)
        elif is_cat(node):
            _check_cat(node)
        elif not is_slice(node):
            _check_module(node, module_of(network, node), seen)


def _check_add(node: fx.Node) -> None:
    if len(node.args) != 2 or node.kwargs or not all(isinstance(arg, fx.Node) for arg in node.args):
        raise UnsupportedLayerError(
            f"{node.name}: only the sum of two wires is supported, {node.format_node()}",
            hint="a constant belongs into the bias of a layer",
        )


def _check_cat(node: fx.Node) -> None:
    """Brings the call to the form ``cat([wires], dim=dim)`` as well."""
    tensors = node.args[0] if node.args else node.kwargs.get("tensors", ())
    dim = node.args[1] if len(node.args) > 1 else node.kwargs.get("dim", node.kwargs.get("axis", 0))
    wires = list(tensors) if isinstance(tensors, (list, tuple)) else []
    if not wires or not all(isinstance(wire, fx.Node) for wire in wires):
        raise UnsupportedLayerError(f"{node.name}: cat takes a list of wires")
    if dim not in (1, -1):
        raise UnsupportedLayerError(
            f"{node.name}: cat along dimension {dim} is not supported", hint="concatenate features: dim=1"
        )
    node.args, node.kwargs = (wires,), {"dim": dim}


def _check_module(node: fx.Node, module: nn.Module | None, seen: set[str]) -> None:
    name = str(node.target)
    # Exactly these types: a subclass (a parametrised layer, say) may compute something else.
    if type(module) in _WEIGHTED:
        if name in seen:
            raise UnsupportedLayerError(f"layer {name!r} is called twice", hint="give each call a layer of its own")
        seen.add(name)
        if getattr(module, "padding_mode", "zeros") != "zeros":
            raise UnsupportedLayerError(
                f"layer {name!r} has padding_mode {module.padding_mode!r}",  # type: ignore[union-attr]
                hint="only 'zeros' can be deployed",
            )
    elif isinstance(module, nn.Flatten):
        _require_flat(name, module)
    elif not isinstance(module, _OTHERS):
        what = type(module).__name__ if module is not None else getattr(node.target, "__name__", name)
        raise UnsupportedLayerError(
            f"layer {name if module is not None else node.name!r} is a {what}, which is not supported",
            hint=_HINTS.get(
                what.lower().replace("_", ""), f"supported: {', '.join(entry.layer for entry in SUPPORTED)}"
            ),
        )


def _undo_inplace(network: fx.GraphModule) -> None:
    """Hardware wires do not change: a ReLU in place is an ordinary one unless something else reads the wire."""
    found = [(node, module_of(network, node)) for node in network.graph.nodes]
    for node, module in found:
        if isinstance(module, nn.ReLU) and module.inplace:
            source: Any = node.args[0]
            if len(source.users) > 1:
                raise UnsupportedLayerError(
                    f"ReLU {node.name!r} overwrites {source.name!r}, which is also used elsewhere",
                    hint="use ReLU without inplace=True",
                )
            network.set_submodule(str(node.target), nn.ReLU())
