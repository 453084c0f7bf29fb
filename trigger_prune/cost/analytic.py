"""``AnalyticCost``: LUTs, registers and latency from the integer weights alone, in milliseconds.

It models one flow, the distributed arithmetic of the ``rtl`` backend (alkaid's shift-and-add Verilog, mapped by Yosys):
multiplications become adders, so DSP and block RAM are 0 and every clock cycle takes a new event. It does not model an
HLS compiler: csynth counts differ in kind, not only in size.

LUT of a layer = ADDER_LUT x adder bits x (terms per input)**-SHARING + RELU_LUT x ReLU bits
                 + SATURATION_LUT x saturation bits

* adder bits: of balanced adder trees over canonical signed digits, nothing shared (``adder_tree.build_trees``);
* terms per input: how often an input is used. The more, the more partial sums the outputs share;
* ReLU and saturation bits: ``conversion_bits``. Rounding came out at no cost of its own, as part of the last adder.

The pipeline is cut where alkaid cuts it: equal delays of at most ``adders_per_stage``, an adder of w bits taking
1.07 + 0.025 w. Registers are the bits alive at those cuts, plus the input and output ranks.

Calibration: alkaid 0.8.2 and pyosys 0.70 on 50 random dense networks of one to three layers (4-48 inputs and outputs,
4-8 bit weights, 5-10 bit inputs, 0-95 % sparse); the 45 of them from 143 to 16 941 LUT were fitted in the logarithm
(median error 5 %, nine in ten within 15 %). The errors stated below are those of another sample; both are printed by
``benchmarks/cost_model.py --fit``. They hold for weights that look random: where the rows of a wide layer are alike,
alkaid shares more and the estimate is too high (``benchmarks/real_networks.py``: 2.8 times for the 252 inputs of CICADA
v1p1p2, within 19 % for ten of twelve real trigger networks).
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from trigger_prune.cost.adder_tree import bit_widths
from trigger_prune.cost.dataflow import LiveLayer, live_layers
from trigger_prune.cost.delay_model import DelayModel
from trigger_prune.cost.network import NetworkSpec
from trigger_prune.cost.report import CostStage, HardwareReport, LayerCost
from trigger_prune.errors import CostError
from trigger_prune.fixed_point import Overflow
from trigger_prune.target import Target

if TYPE_CHECKING:
    from torch import nn

TOOL_VERSION = "1"
"""Changes with every change of the formulas or constants, so that stored reports are not mixed."""

ADDER_LUT = 0.884
SHARING = 0.073
RELU_LUT = 1.10
SATURATION_LUT = 1.14

LUT_ERROR_MEDIAN = 0.09
LUT_ERROR_90 = 0.14
FF_ERROR_MEDIAN = 0.18
FF_ERROR_90 = 0.51
"""Relative errors on 23 random networks of 156 to 11 792 LUT, looked at once, after everything was fixed."""


@dataclass(frozen=True)
class ConversionBits:
    """Bits that ReLU and saturation (a comparison and a selection) work on, over all outputs of one position."""

    relu: int
    saturation: int


def conversion_bits(live: LiveLayer) -> ConversionBits:
    """Bits of the conversions behind one layer. Only a conversion that can change a value counts."""
    layer, sums, varies = live.layer, live.sums, live.alive
    fixed = layer.output_type
    dropped = _dropped_bits(live)
    kept = np.maximum(bit_widths(sums.low, sums.high) - np.maximum(dropped, live.trees.zero_lsbs), 0)
    relu = int(kept[varies & (sums.low < 0) & (sums.high > 0)].sum()) if layer.relu else 0
    if fixed is None or fixed.overflow is Overflow.AP_WRAP:
        return ConversionBits(relu, 0)
    low, high = np.ldexp(sums.low.astype(np.float64), -dropped), np.ldexp(sums.high.astype(np.float64), -dropped)
    types = [each or fixed for each in layer.output_channels] or [fixed] * len(high)
    comparisons = (high > np.array([each.max_code for each in types])).astype(np.int64)
    if not layer.relu:
        comparisons += low < np.array([each.min_code for each in types])
    widths = np.array([each.width for each in types])
    return ConversionBits(relu, int((comparisons * (kept + widths))[varies].sum()))


def _dropped_bits(live: LiveLayer) -> NDArray[np.int64]:
    """Low bits of every output's accumulator that its conversion drops, ``(out,)``; negative where it adds some."""
    layer = live.layer
    if layer.output_type is None:
        return np.zeros(len(layer.weight), dtype=np.int64)
    hull = layer.output_type
    types = layer.output_channels or (hull,) * len(layer.weight)
    return np.array([layer.accumulator_fraction - (fixed or hull).fraction for fixed in types], dtype=np.int64)


@dataclass(frozen=True)
class AnalyticCost:
    """The ``analytic`` backend: a cost by formula, no tool is run.

    adders_per_stage   longest delay of a pipeline stage, as in the ``rtl`` backend; None = what ``delay_model`` gives
                       the target's clock period

    Reuse factor, strategy and io_type of the target do not apply to the modelled hardware and are ignored.
    """

    adders_per_stage: float | None = 5.0
    delay_model: DelayModel = field(default_factory=DelayModel)
    name: str = field(default="analytic", init=False)
    stage: CostStage = field(default=CostStage.ANALYTIC, init=False)

    def __post_init__(self) -> None:
        if self.adders_per_stage is not None and not self.adders_per_stage > 0:
            raise CostError(f"adders_per_stage {self.adders_per_stage} is not positive")

    def measure(self, network: nn.Module, target: Target) -> HardwareReport:
        """Cost of a quantised network. Raises ModelError for a network that is not quantised, else as ``estimate``."""
        from trigger_prune.quantize.describe import describe_network

        return self.estimate(describe_network(network), target)

    def estimate(self, spec: NetworkSpec, target: Target) -> HardwareReport:
        """Cost of a network given as integers. Raises CostError for accumulators that can exceed 2**52."""
        layers = live_layers(spec)
        conversions = [conversion_bits(layer) for layer in layers]
        luts = [
            round(_lut(layer, bits) * layer.layer.positions) for layer, bits in zip(layers, conversions, strict=True)
        ]
        longest = self._longest_stage(target)
        latency, registers = _pipeline(spec, layers, conversions, longest)
        names = [layer.layer.name for layer in layers]
        return HardwareReport(
            stage=self.stage,
            tool="trigger_prune",
            tool_version=TOOL_VERSION,
            part=target.part,
            clock_period_ns=target.clock_period_ns,
            lut=sum(luts),
            ff=sum(registers),
            dsp=0,
            bram18=0,
            latency_cycles=latency,
            ii=1,
            content_hash=spec.content_hash(),
            layers=tuple(
                LayerCost(name, lut=lut, ff=ff, dsp=0, bram18=0)
                for name, lut, ff in zip(names, luts, registers, strict=True)
            ),
            details=_details(layers, conversions, longest),
        )

    def _longest_stage(self, target: Target) -> float:
        if self.adders_per_stage is not None:
            return self.adders_per_stage
        longest = self.delay_model.units(target.clock_period_ns)
        if longest <= 0:
            raise CostError(
                f"a clock period of {target.clock_period_ns:g} ns is shorter than a register takes by "
                f"{self.delay_model}",
                hint="choose a longer clock period, or give the delay model of your device",
            )
        return longest


def _details(
    layers: tuple[LiveLayer, ...], conversions: list[ConversionBits], adders_per_stage: float
) -> dict[str, Any]:
    return {
        "note": "estimate of alkaid Verilog mapped by Yosys; registers and latency assume its pipelining",
        "adders_per_stage": adders_per_stage,
        "lut_relative_error_median": LUT_ERROR_MEDIAN,
        "lut_relative_error_90": LUT_ERROR_90,
        "ff_relative_error_median": FF_ERROR_MEDIAN,
        "ff_relative_error_90": FF_ERROR_90,
        "delay_units": sum(layer_delay(live, bits) for live, bits in zip(layers, conversions, strict=True)),
        "layers": [
            {
                "name": live.layer.name,
                "delay_units": layer_delay(live, bits),
                "adder_bits": live.trees.adder_bits * live.layer.positions,
                "terms": live.trees.terms * live.layer.positions,
                "inputs_used": live.trees.inputs,
                "outputs_used": int(np.count_nonzero(live.alive)),
                "tree_depth": live.trees.depth,
                "relu_bits": bits.relu * live.layer.positions,
                "saturation_bits": bits.saturation * live.layer.positions,
            }
            for live, bits in zip(layers, conversions, strict=True)
        ],
    }


def layer_delay(live: LiveLayer, bits: ConversionBits) -> float:
    """Longest path through a layer in alkaid's units: its levels of adders, and its saturation."""
    return sum(1.07 + 0.025 * width for width in live.trees.level_bits) + (1.0 if bits.saturation else 0.0)


def _sharing(live: LiveLayer) -> float:
    trees = live.trees
    return float((trees.terms / trees.inputs) ** -SHARING) if trees.inputs else 1.0


def _lut(live: LiveLayer, bits: ConversionBits) -> float:
    adders = ADDER_LUT * live.trees.adder_bits * _sharing(live)
    return adders + RELU_LUT * bits.relu + SATURATION_LUT * bits.saturation


def _output_bits(live: LiveLayer) -> int:
    """Bits of the converted outputs, without low bits that are always 0 because the sum has none there."""
    zeros = np.maximum(live.trees.zero_lsbs - _dropped_bits(live), 0)
    return int(np.maximum(live.outputs.widths - zeros, 0)[live.alive].sum())


def _pipeline(
    spec: NetworkSpec, layers: tuple[LiveLayer, ...], conversions: list[ConversionBits], adders_per_stage: float
) -> tuple[int, list[int]]:
    """Latency in cycles, and register bits of every layer.

    The network is laid out as one line of events in time: after each level of adders, and after each conversion, so
    many bits are alive. Register ranks stand at the input, at the output and at equal distances between.
    """
    if not layers:
        return 0, []
    input_bits = layers[0].trees.inputs * spec.input_type.width
    if layers[0].layer.kind != "dense":
        input_bits = math.prod(spec.input_shape) * spec.input_type.width
    now = 0.0
    line: list[tuple[float, int, float]] = [(now, 0, float(input_bits))]
    for index, (live, bits) in enumerate(zip(layers, conversions, strict=True)):
        trees, positions = live.trees, live.layer.positions
        for width, alive in zip(trees.level_bits, trees.live_bits[1:], strict=True):
            now += 1.07 + 0.025 * width
            line.append((now, index, alive * _sharing(live) * positions))
        now += 1.0 if bits.saturation else 0.0
        line.append((now, index, _output_bits(live) * positions))
    stages = max(1, math.ceil(now / adders_per_stage - 1e-9))
    registers = [0.0] * len(layers)
    registers[0] += input_bits
    registers[-1] += line[-1][2]
    for cut in range(1, stages):
        _, index, bits_alive = [event for event in line if event[0] <= now * cut / stages + 1e-9][-1]
        registers[index] += bits_alive
    return stages + 1, [round(bits) for bits in registers]
