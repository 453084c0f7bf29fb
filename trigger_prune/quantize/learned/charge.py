"""What the trained bits are charged, differentiable: the adder bits that they are expected to cost, or bit operations.

A product with a constant costs one adder per non-zero canonical signed digit of its code, as wide as its input. A code
of b bits has (b + 2) / 3 such digits on average; the derivative is the secant to zero bits, so that the last bit of a
weight, with which its last adder goes, is charged in full. Effective bit operations (EBOPs, arXiv:2405.00645) are bits
of the weight times bits of its input instead.
"""

from __future__ import annotations

import math
from typing import Any, Literal

import torch
from torch import Tensor, fx, nn
from torch.fx.passes.shape_prop import ShapeProp

from trigger_prune.quantize.graph import is_cat, module_of
from trigger_prune.quantize.learned.layers import LEARNED_LAYERS, LearnedQuantizer


class _Digits(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, bits: Tensor) -> Tensor:
        digits = torch.where(bits > 0, (bits + 2) / 3, torch.zeros_like(bits))
        ctx.save_for_backward(digits / bits.clamp_min(1.0))
        return digits

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Any:
        (secant,) = ctx.saved_tensors
        return gradient * secant


ChargeKind = Literal["adder_bits", "ebops"]


def expected_digits(weight: Tensor, quantized: Tensor, fraction: Tensor, kind: ChargeKind = "adder_bits") -> Tensor:
    """Expected canonical signed digits of every weight, its shape; with ``ebops`` its bits.

    The bits of a code are fraction + log2(weight): the gradient reaches both. With the fraction alone it would pay to
    lower it and to let the weight grow instead, without end and without saving a bit.
    """
    kept = quantized != 0
    smooth = fraction + torch.log2(torch.where(kept, weight, torch.ones_like(weight)).abs().clamp_min(1e-9))
    with torch.no_grad():
        exact = torch.round(fraction) + torch.floor(torch.log2(quantized.abs().clamp_min(1e-30))) + 1
    bits = torch.where(kept, smooth + (exact - smooth).detach(), torch.zeros_like(weight))
    if kind == "ebops":
        return torch.relu(bits)
    return _Digits.apply(torch.relu(bits))  # type: ignore[no-untyped-call,no-any-return]


class Charge:
    """Adder bits (or EBOPs) that a network with trained widths costs; called after the forward pass of a step."""

    def __init__(self, network: fx.GraphModule, kind: ChargeKind = "adder_bits") -> None:
        self.network = network
        self.kind = kind
        shape = network.meta["input_shape"]
        example = torch.zeros((1, *shape), device=next(network.parameters()).device)
        mode = network.training
        with torch.no_grad():
            ShapeProp(network.eval()).propagate(example)
        network.train(mode)
        self._nodes = [node for node in network.graph.nodes if node.op != "output"]
        self._modules = {node: module_of(network, node) for node in self._nodes}
        self._shapes = {node: tuple(node.meta["tensor_meta"].shape) for node in self._nodes}
        self._input_bits = torch.full((1,) * len(example.shape), float(network.meta["input_type"].width))

    def __call__(self) -> Tensor:
        """The sum over all trained layers, a scalar."""
        bits: dict[fx.Node, Tensor] = {}
        total = torch.zeros(())
        for node in self._nodes:
            module = self._modules[node]
            if isinstance(module, LEARNED_LAYERS):
                total = total + self._layer(node, module, bits[node.args[0]])
                continue
            bits[node] = self._widths(node, module, bits)
        return total

    def _widths(self, node: fx.Node, module: Any, bits: dict[fx.Node, Tensor]) -> Tensor:
        if isinstance(module, LearnedQuantizer):
            return module.widths(self._scale_before(node))
        if node.op == "placeholder":
            return self._input_bits
        sources = [bits[source] for source in node.all_input_nodes if source in bits]
        if len(sources) != len(node.all_input_nodes):
            return self._input_bits  # behind a layer and before its quantiser: nothing reads it
        if isinstance(module, nn.Flatten):
            (source,) = node.all_input_nodes
            return sources[0].expand(self._shapes[source]).flatten(1)
        if is_cat(node):
            wide = [
                bits[source].expand(1, self._shapes[source][1], *bits[source].shape[2:])
                for source in node.all_input_nodes
            ]
            return torch.cat(wide, dim=1)
        return sources[0] if len(sources) == 1 else torch.maximum(*sources)

    def _scale_before(self, node: fx.Node) -> Tensor | None:
        """log2 of the size of every channel in front of a quantiser, up to a constant: that of its weights."""
        (source,) = node.all_input_nodes
        if isinstance(self._modules[source], nn.ReLU):
            (source,) = source.all_input_nodes
        layer: Any = self._modules[source]
        if not isinstance(layer, LEARNED_LAYERS):
            return None
        values = (layer.weight * layer.weight_mask).flatten(1)
        if layer.bias is not None:
            values = torch.cat([values, layer.bias[:, None]], dim=1)
        size = 0.5 * torch.log2(values.square().sum(1).clamp_min(1e-12))
        return size.reshape(1, -1, *(1,) * (len(self._shapes[node]) - 2))

    def _layer(self, node: fx.Node, layer: Any, bits: Tensor) -> Tensor:
        weight = layer.weight
        digits = expected_digits(weight, layer.quantized_weight().detach(), layer.weight_fraction, self.kind)
        if isinstance(layer, nn.Linear):
            dense: Tensor = (digits.sum(0) * bits.expand(1, weight.shape[1])).sum()
            return dense
        positions = math.prod(self._shapes[node][2:])
        channels = bits.flatten(2).mean(2).expand(1, layer.in_channels).reshape(layer.groups, -1)
        per_input = digits.reshape(layer.groups, -1, *weight.shape[1:]).flatten(3).sum(3).sum(1)
        total: Tensor = positions * (per_input * channels).sum()
        return total
