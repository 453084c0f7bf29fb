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
from torch.nn.utils.fusion import fuse_conv_bn_eval, fuse_linear_bn_eval

from trigger_prune.errors import ModelError, UnsupportedLayerError
from trigger_prune.quantize.layers import WEIGHT_LAYERS, FixedQuantizer


@dataclass(frozen=True)
class LayerSupport:
    """What happens to one kind of layer. ``deploys`` is False where hls4ml cannot take it from QONNX yet."""

    layer: str
    treatment: str
    deploys: bool = True
    remark: str = ""


SUPPORTED: tuple[LayerSupport, ...] = (
    LayerSupport("Linear", "quantised weights"),
    LayerSupport("Conv1d", "quantised weights", remark="kernel size 1, or without pooling, deploys"),
    LayerSupport("Conv2d", "quantised weights", deploys=False, remark="trains and quantises"),
    LayerSupport("BatchNorm1d", "folded into the layer before it"),
    LayerSupport("BatchNorm2d", "folded into the layer before it"),
    LayerSupport("ReLU", "followed by an activation quantiser"),
    LayerSupport("Flatten", "kept"),
    LayerSupport("MaxPool1d", "kept", deploys=False, remark="no QONNX route through hls4ml"),
    LayerSupport("MaxPool2d", "kept", deploys=False, remark="trains and quantises"),
    LayerSupport("Dropout", "removed after training"),
    LayerSupport("Identity", "removed"),
    LayerSupport("add", "followed by an activation quantiser", deploys=False, remark="trains and quantises"),
    LayerSupport("cat", "kept", deploys=False, remark="along the feature axis"),
)

PASS_THROUGH = (nn.Flatten, nn.MaxPool1d, nn.MaxPool2d)
"""Modules whose output has exactly the fixed-point type of their input."""

_WEIGHTED = (nn.Linear, nn.Conv1d, nn.Conv2d)
_NORMS = (nn.BatchNorm1d, nn.BatchNorm2d)
_REMOVED = (nn.Dropout, nn.Dropout1d, nn.Dropout2d, nn.Identity)
_KNOWN = (*_WEIGHTED, *_NORMS, *_REMOVED, nn.ReLU, *PASS_THROUGH, FixedQuantizer)
_RELU_CALLS = (functional.relu, torch.relu)
_HINTS = {
    "mean": "write the mean over positions as a frozen depthwise Conv1d, as models/deep_sets.py does",
    "Softmax": "export logits; arg max or a threshold is applied outside the network",
    "AdaptiveAvgPool1d": "hls4ml converts it silently wrong; write the mean as models/deep_sets.py does",
    "view": "use nn.Flatten",
    "reshape": "use nn.Flatten",
}


class _Tracer(fx.Tracer):
    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        return isinstance(m, (*WEIGHT_LAYERS, FixedQuantizer)) or super().is_leaf_module(m, module_qualified_name)


def trace(model: nn.Module) -> fx.GraphModule:
    """A copy of ``model`` as a graph in eval mode. Raises ModelError when its forward cannot be traced."""
    model = copy.deepcopy(model).eval()
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
    ``SUPPORTED`` only. Raises UnsupportedLayerError naming layer and remedy.
    """
    network = trace(model)
    _calls_to_modules(network)
    _check_layers(network)
    _fold_batch_norm(network)
    for node in list(network.graph.nodes):
        if isinstance(module_of(network, node), _REMOVED):
            node.replace_all_uses_with(node.args[0])
            network.graph.erase_node(node)
    network.delete_all_unused_submodules()
    network.graph.lint()
    network.recompile()
    return network


def module_of(network: fx.GraphModule, node: fx.Node) -> nn.Module | None:
    """The module a node calls, or None for any other node."""
    return network.get_submodule(str(node.target)) if node.op == "call_module" else None


def is_add(node: fx.Node) -> bool:
    """True for ``a + b`` in any of its spellings."""
    return (node.op == "call_function" and node.target in (operator.add, torch.add)) or (
        node.op == "call_method" and node.target == "add"
    )


def is_cat(node: fx.Node) -> bool:
    """True for torch.cat."""
    return node.op == "call_function" and node.target in (torch.cat, torch.concat)


def _calls_to_modules(network: fx.GraphModule) -> None:
    for node in list(network.graph.nodes):
        module: nn.Module | None = None
        if (node.op == "call_function" and node.target in _RELU_CALLS) or (
            node.op == "call_method" and node.target == "relu"
        ):
            module = nn.ReLU()
        elif (node.op == "call_function" and node.target is torch.flatten) or (
            node.op == "call_method" and node.target == "flatten"
        ):
            module = nn.Flatten(*node.args[1:], **{k: v for k, v in node.kwargs.items() if k != "input"})
            if module.start_dim != 1 or module.end_dim != -1:
                raise UnsupportedLayerError(f"{node.name}: flatten must start at dimension 1 and run to the last")
        if module is None:
            continue
        network.add_submodule(node.name, module)
        with network.graph.inserting_before(node):
            replacement = network.graph.call_module(node.name, (node.args[0] if node.args else node.kwargs["input"],))
        node.replace_all_uses_with(replacement)
        network.graph.erase_node(node)
    network.recompile()


def _check_layers(network: fx.GraphModule) -> None:
    placeholders = [node for node in network.graph.nodes if node.op == "placeholder"]
    if len(placeholders) != 1:
        raise UnsupportedLayerError(
            f"the network takes {len(placeholders)} inputs; exactly one is supported",
            hint="concatenate the inputs into one array of features",
        )
    seen: set[str] = set()
    for node in network.graph.nodes:
        if node.op in ("placeholder", "output") or is_add(node) or is_cat(node):
            continue
        module = module_of(network, node)
        if isinstance(module, _KNOWN):
            if isinstance(module, _WEIGHTED) and str(node.target) in seen:
                raise UnsupportedLayerError(
                    f"layer {node.target!r} is called twice", hint="give each call a layer of its own"
                )
            seen.add(str(node.target))
            continue
        what = type(module).__name__ if module is not None else getattr(node.target, "__name__", str(node.target))
        names = ", ".join(entry.layer for entry in SUPPORTED)
        raise UnsupportedLayerError(
            f"layer {str(node.target) if module is not None else node.name!r} is a {what}, which is not supported",
            hint=_HINTS.get(what, f"supported: {names}"),
        )


def _fold_batch_norm(network: fx.GraphModule) -> None:
    for node in list(network.graph.nodes):
        norm = module_of(network, node)
        if not isinstance(norm, _NORMS):
            continue
        source: Any = node.args[0]
        layer = module_of(network, source) if isinstance(source, fx.Node) else None
        if not isinstance(layer, _WEIGHTED) or len(source.users) != 1:
            raise UnsupportedLayerError(
                f"BatchNorm {node.target!r} does not directly follow a Linear or Conv layer of its own",
                hint="inputs are standardised by the toolkit; put BatchNorm between a weight layer and its ReLU",
            )
        if isinstance(layer, nn.Linear):
            fused: nn.Module = fuse_linear_bn_eval(layer, norm)
        else:
            fused = fuse_conv_bn_eval(layer, norm)
        network.set_submodule(str(source.target), fused)
        node.replace_all_uses_with(source)
        network.graph.erase_node(node)
    network.recompile()
