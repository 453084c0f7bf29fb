"""Representations of a network that can be executed, one file each. Importing one registers it by name.

``IN_ORDER`` is the order of a verdict: the cheap ones first.
"""

from trigger_prune.verify.runs import alkaid, hls4ml_csim, onnxruntime, qonnx, torch_float32
from trigger_prune.verify.runs._base import Events, Exported, Representation

IN_ORDER: tuple[Representation, ...] = (
    torch_float32.TORCH_FLOAT32,
    qonnx.QONNX,
    onnxruntime.ONNXRUNTIME,
    hls4ml_csim.HLS4ML_CSIM,
    alkaid.ALKAID,
)

__all__ = ["IN_ORDER", "Events", "Exported", "Representation"]
