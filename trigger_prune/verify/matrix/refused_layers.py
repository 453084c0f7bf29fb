"""Layers that hls4ml converts silently wrong, or not at all: what the documentation says of their refusal."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class RefusedLayer:
    """One kind of layer that ``quantize_model`` refuses, and what to use."""

    layer: str
    reason: str
    instead: str


REFUSED_LAYERS: tuple[RefusedLayer, ...] = (
    RefusedLayer(
        "Softmax, LogSoftmax, Sigmoid",
        "with granularity 'name' hls4ml gives its exponential table 10 of the accumulator's bits: constant outputs",
        "logits; arg max or a threshold is applied outside the network",
    ),
    RefusedLayer(
        "AdaptiveAvgPool1d, AdaptiveAvgPool2d, AvgPool1d, AvgPool2d, mean",
        "an adaptive one gives other values (io_parallel) or dies of SIGILL (io_stream); hls4ml cannot read the others",
        "the mean over positions as a frozen depthwise Conv1d, as in the reference model deep_sets",
    ),
    RefusedLayer(
        "Linear on (positions, features)",
        "hls4ml takes the size of the matrix from all axes: an error in io_parallel, other values in io_stream",
        "Conv1d with kernel size 1 on (features, positions), or Flatten before the layer",
    ),
    RefusedLayer(
        "MultiheadAttention, einsum, matmul of activations, LayerNorm",
        "hls4ml converts attention by einsum to other values, and no other form at all",
        "a processor (cost.backend: runtime), or a model without attention",
    ),
)
