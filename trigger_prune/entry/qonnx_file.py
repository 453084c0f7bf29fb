"""A QONNX file (of QONNX tools, Brevitas or this toolkit) becomes a quantised network, bit for bit."""

from __future__ import annotations

from pathlib import Path

import onnx

from trigger_prune.entry.entered import EnteredNetwork
from trigger_prune.entry.onnx_constants import is_qonnx, load_model
from trigger_prune.entry.onnx_graph import take_over
from trigger_prune.errors import ModelError
from trigger_prune.fixed_point import FixedPoint


def read_qonnx(
    source: Path | onnx.ModelProto,
    *,
    name: str | None = None,
    input_type: FixedPoint | None = None,
    output: str | None = None,
    nearest_power_of_two: bool = False,
) -> EnteredNetwork:
    """The quantised network of a QONNX model.

    input_type            of the events as they reach the network; by default the Quant node on the input says it, and
                          is left to the data side, where its rounding happens
    output                tensor to take as the output instead of the file's
    nearest_power_of_two  scales that are no powers of two are replaced; each one is noted, and ``exact`` is False

    Outputs are those of exact arithmetic: qonnx and ONNX runtime in float32 agree where sums stay below 2**24 steps.

    Raises UnsupportedLayerError naming node, reason and remedy for what has no exact fixed-point form, ModelError for
    a file that cannot be read or lacks Quant nodes.
    """
    model = load_model(source)
    if not is_qonnx(model):
        raise ModelError(
            f"{source if isinstance(source, Path) else 'the model'} has no Quant node: it is a float model",
            hint="enter it as floats (--kind onnx); it is quantised with calibration events",
        )
    replaced: list[str] = []
    network, notes = take_over(
        model,
        exact=True,
        input_type=input_type,
        output=output,
        nearest=replaced.append if nearest_power_of_two else None,
    )
    path = source if isinstance(source, Path) else None
    return EnteredNetwork(
        name or (path.stem if path else model.graph.name or "model"),
        "qonnx",
        network,
        path,
        (*notes, *dict.fromkeys(replaced)),
        exact=not replaced,
    )
