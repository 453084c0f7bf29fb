"""``HlsDesign``: an hls4ml network as the HLS compiler sees it, in the form the estimates read.

It says for every layer what hls4ml's generated headers say (sizes, types, reuse factor, strategy) and, where they are
known, the integer weights. Plain numpy; no tool is run.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

import numpy as np
from numpy.typing import NDArray

from trigger_prune.cost.report import HardwareReport
from trigger_prune.fixed_point import FixedPoint

if TYPE_CHECKING:  # features are computed from layers
    from trigger_prune.cost.hls.features import WeightFeatures

LayerKind = Literal[
    "dense",
    "conv1d",
    "conv2d",
    "batchnorm",
    "relu",
    "leaky_relu",
    "softmax",
    "sigmoid",
    "tanh",
    "linear",
    "max_pool",
    "average_pool",
    "global_pool",
    "add",
    "concatenate",
    "zero_padding",
    "other",
]
Strategy = Literal["latency", "resource", "resource_unrolled", "distributed_arithmetic"]
IoType = Literal["io_parallel", "io_stream"]
ForcedMultiplier = Literal["dsp", "fabric"]


@dataclass(frozen=True)
class HlsSetting:
    """Compiler, part and clock.

    tool                   vivado_hls (to 2020.1) or vitis_hls (from 2020.2)
    version                as the report states it, e.g. ``2019.2`` or ``2024.1``
    part, family           full part number; product family as reports name it (``virtexuplus``, ``zynq``), or ""
    clock_uncertainty_ns   None = the tool's default
    forced_multiplier      a directive (``config_op mul -impl``) that puts every multiplier in DSPs or in LUTs
    """

    tool: Literal["vivado_hls", "vitis_hls"]
    version: str
    part: str
    family: str
    clock_period_ns: float
    clock_uncertainty_ns: float | None = None
    io_type: IoType = "io_parallel"
    forced_multiplier: ForcedMultiplier | None = None

    @property
    def release(self) -> tuple[int, int]:
        """Year and number of the release: ``2019.2.1`` is (2019, 2)."""
        year, number = self.version.split(".")[:2]
        return int(year), int(number)


@dataclass(frozen=True, eq=False)
class HlsLayer:
    """One function of the design.

    n_in, n_out     dense: inputs and outputs; convolution: channels and filters; else: elements in and out of one
                    position (io_stream) or of the whole array (io_parallel)
    input_type      of an element of the input; ``output_type`` of the result; ``accum_type`` of the accumulator
    weight          int64 codes ``(out, in)`` or ``(out, in / groups, *kernel)``; None = unknown
    bias            int64 codes ``(out,)``, or None
    n_zeros         zero weights, as the header states them (None = unknown)
    features        what is known of weights that are themselves unknown (``features.WeightFeatures``)
    kernel, stride, input_size, output_size     convolution and pooling; () otherwise
    parallelization_factor      output positions of a convolution that io_parallel computes at a time
    table_size      entries of an activation table; ``implementation`` of a softmax (stable, latency, argmax, legacy)
    """

    name: str
    kind: LayerKind
    n_in: int
    n_out: int
    input_type: FixedPoint
    output_type: FixedPoint
    strategy: Strategy = "latency"
    reuse_factor: int = 1
    accum_type: FixedPoint | None = None
    weight: NDArray[np.int64] | None = None
    weight_type: FixedPoint | None = None
    bias: NDArray[np.int64] | None = None
    bias_type: FixedPoint | None = None
    n_zeros: int | None = None
    features: WeightFeatures | None = None
    kernel: tuple[int, ...] = ()
    stride: tuple[int, ...] = ()
    input_size: tuple[int, ...] = ()
    output_size: tuple[int, ...] = ()
    table_size: int = 1024
    implementation: str = "stable"
    parallelization_factor: int = 1

    @property
    def n_weights(self) -> int:
        """Multiplications for one output position, zeros included (kernel x channels x filters)."""
        if self.kind not in ("dense", "conv1d", "conv2d"):
            return 0
        return self.n_in * self.n_out * int(np.prod(self.kernel, initial=1))


@dataclass(frozen=True, eq=False)
class HlsDesign:
    """The layers in order of computation, and the setting they are compiled in."""

    layers: tuple[HlsLayer, ...]
    setting: HlsSetting


@dataclass(frozen=True)
class LayerEstimate:
    """Predicted cost of one layer or design, not rounded; None = not modelled.

    ``latency_cycles`` of a layer is what its module report would state (0 = combinational).
    """

    lut: float | None
    ff: float | None
    dsp: float | None
    bram18: float | None
    latency_cycles: float | None
    ii: float | None


@dataclass(frozen=True, eq=False)
class LayerSample:
    """A layer with its measured module report. ``project`` is the unit of every train/test split."""

    layer: HlsLayer
    setting: HlsSetting
    measured: LayerEstimate
    project: str


@dataclass(frozen=True, eq=False)
class DesignSample:
    """A design with its measured whole-network report (stage csynth), and the vsynth report if there is one."""

    design: HlsDesign
    measured: HardwareReport
    project: str
    name: str = ""
    vsynth: HardwareReport | None = None
    notes: tuple[str, ...] = field(default=())
