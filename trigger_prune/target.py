"""What the network must fit into: the FPGA (``Target``) and the limits (``Budget``)."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from trigger_prune.errors import ConfigError


@dataclass(frozen=True)
class LayerLayout:
    """How hls4ml lays out one layer. Raises ConfigError for a reuse factor below 1."""

    layer: str
    strategy: str
    reuse_factor: int

    def __post_init__(self) -> None:
        if self.reuse_factor < 1:
            raise ConfigError(f"layer {self.layer}: reuse factor {self.reuse_factor} is below 1")


@dataclass(frozen=True)
class Target:
    """The FPGA, its clock and how hls4ml lays the network out on it.

    ``layers`` names the weight layers that differ from ``strategy`` and ``reuse_factor``.
    """

    part: str = "xcvu13p-flga2577-2-e"
    clock_period_ns: float = 5.0
    strategy: str = "Latency"
    reuse_factor: int = 1
    io_type: str = "io_parallel"
    layers: tuple[LayerLayout, ...] = ()

    def __post_init__(self) -> None:
        if not 0 < self.clock_period_ns < math.inf:
            raise ConfigError(f"clock period {self.clock_period_ns} ns is not positive and finite")
        if self.reuse_factor < 1:
            raise ConfigError(f"reuse factor {self.reuse_factor} is below 1")

    def layout(self, layer: str) -> LayerLayout:
        """Strategy and reuse factor of a weight layer."""
        own = LayerLayout(layer, self.strategy, self.reuse_factor)
        return next((entry for entry in self.layers if entry.layer == layer), own)

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON; ``layers`` only where there are any, so that older keys and files stay what they
        are."""
        values = asdict(self)
        if not self.layers:
            del values["layers"]
        return values

    @classmethod
    def from_dict(cls, raw: Mapping[str, Any]) -> Target:
        """Inverse of ``to_dict``."""
        return cls(**{**raw, "layers": tuple(LayerLayout(**entry) for entry in raw.get("layers", ()))})


@dataclass(frozen=True)
class Budget:
    """Upper limits; None = no limit. Latency counts clock cycles at the target's clock.

    ``latency_p99_us`` and ``event_time_us`` limit the run time on a processor (cost stage ``runtime``).
    Raises ConfigError for a negative limit.
    """

    lut: int | None = None
    ff: int | None = None
    dsp: int | None = None
    bram18: int | None = None
    latency_cycles: int | None = None
    ii: int | None = None
    uram: int | None = None
    latency_p99_us: float | None = None
    event_time_us: float | None = None

    def __post_init__(self) -> None:
        for name, limit in vars(self).items():
            if limit is not None and not limit >= 0:
                raise ConfigError(f"the budget's {name} limit {limit} is negative")
