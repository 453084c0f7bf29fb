"""Verilog expressions between the words of an object, the ports of a core and its score."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from trigger_prune.errors import CostError
from trigger_prune.two_stage.firmware.design import FirmwareDesign
from trigger_prune.two_stage.firmware.verilog.cores import Core


@dataclass(frozen=True)
class Reading:
    """What a core reads of an object: ``expression`` over the vector ``object``, ``bits`` wide."""

    bits: int
    expression: str


@dataclass(frozen=True)
class ScoreCircuit:
    """From the port of a core to its score.

    outputs               (name, expression over ``model_out``) of every output that counts
    output_bits           width of these, signed
    signal, background    names of those whose largest are subtracted; the one output alone is ``signal`` of a head
    score_bits            width of the signed score, in steps of ``2 ** -fraction``
    """

    outputs: tuple[tuple[str, str], ...]
    output_bits: int
    signal: tuple[str, ...]
    background: tuple[str, ...]
    score_bits: int
    fraction: int


def reading(design: FirmwareDesign, core: Core) -> Reading:
    """Bits of an object in the order of ``model_inp``; word w is ``object[w x width +: width]``.

    alkaid leaves out of the port what the network does not depend on. Raises CostError for bits that no word has.
    """
    fixed = design.input_type
    words = np.arange(design.words_per_object).reshape(design.feature_shape)[list(core.model.kept_inputs)].ravel()
    parts = []
    for word, port in zip(words.tolist(), core.inputs, strict=True):
        if port.width == 0:
            continue
        low = fixed.fraction - port.fraction
        high = low + port.width - 1
        if low < 0 or high >= fixed.width:
            raise CostError(f"{core.module} reads bits {low} to {high} of word {word}, which is a {fixed}")
        parts.append(f"object[{word * fixed.width + high}:{word * fixed.width + low}]")
    return Reading(sum(port.width for port in core.inputs), "{" + ", ".join(reversed(parts)) + "}")


def score_circuit(core: Core) -> ScoreCircuit:
    """Outputs of a core on the common grid of its score."""
    score, fraction = core.model.score, core.model.score_fraction
    starts = np.concatenate([[0], np.cumsum([port.width for port in core.outputs])]).tolist()
    signal: tuple[int, ...] = (0,)
    background: tuple[int, ...] = ()
    if score.kind == "difference":
        signal, background = score.signal_outputs, score.background_outputs
    used = sorted({*signal, *background})
    widths = []
    for k in used:
        port = core.outputs[k]
        widths.append(port.width + fraction - port.fraction + int(not port.signed) if port.width else 1)
    bits = max(1, *widths)
    return ScoreCircuit(
        tuple((f"z{k}", _aligned(core, k, int(starts[k]), fraction, bits)) for k in used),
        bits,
        tuple(f"z{k}" for k in signal),
        tuple(f"z{k}" for k in background),
        bits + int(bool(background)),
        fraction,
    )


def _aligned(core: Core, output: int, start: int, fraction: int, bits: int) -> str:
    """Output with ``fraction`` fraction bits and ``bits`` in all. Bits dropped below are 0: values lie on the grid."""
    port = core.outputs[output]
    zeros, dropped = max(fraction - port.fraction, 0), max(port.fraction - fraction, 0)
    kept = port.width - dropped
    if kept <= 0:
        return f"{bits}'d0"
    top = start + port.width - 1
    sign = f"model_out[{top}]" if port.signed else "1'b0"
    parts = [f"model_out[{top}:{start + dropped}]"]
    if extended := bits - kept - zeros:
        parts.insert(0, f"{{{extended}{{{sign}}}}}")
    if zeros:
        parts.append(f"{zeros}'d0")
    return "{" + ", ".join(parts) + "}"
