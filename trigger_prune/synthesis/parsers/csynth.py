"""What a C synthesis report states, whichever of the tool's formats it was read from."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Resources:
    """Used or available resources; None = the report does not state it. BRAM in units of 18 Kbit."""

    lut: int | None
    ff: int | None
    dsp: int | None
    bram18: int | None
    uram: int | None


NOTHING_STATED = Resources(None, None, None, None, None)


@dataclass(frozen=True)
class Loop:
    """One loop. Latencies in clock cycles; None = not bounded by the tool, or not stated.

    level                nesting depth, 0 = outermost
    ii_achieved          initiation interval; None for a loop that is not pipelined
    """

    name: str
    level: int
    trip_min: int | None
    trip_max: int | None
    latency_min: int | None
    latency_max: int | None
    iteration_latency_min: int | None
    iteration_latency_max: int | None
    ii_achieved: int | None
    ii_target: int | None = None


@dataclass(frozen=True)
class Instance:
    """One module inside another. Latencies and intervals in clock cycles, of the module alone.

    level      nesting depth below the top, 1 = instantiated by the top itself
    """

    name: str
    module: str
    level: int = 1
    latency_min: int | None = None
    latency_max: int | None = None
    latency_min_ns: float | None = None
    latency_max_ns: float | None = None
    interval_min: int | None = None
    interval_max: int | None = None
    pipeline_type: str | None = None
    used: Resources = NOTHING_STATED


@dataclass(frozen=True)
class CsynthReport:
    """One module's report. Latencies and intervals in clock cycles of the target clock; None = not bounded by the tool.

    ``estimated_clock_ns`` leaves out ``clock_uncertainty_ns``: the tool counts the target as met when their sum does
    not exceed ``target_clock_ns``. ``..._ns`` latencies are the tool's own, at the slower of target and estimate.
    ``instances`` are what the report says about the modules inside; empty when it says nothing.
    """

    version: str
    family: str
    part: str
    top: str
    target_clock_ns: float
    clock_uncertainty_ns: float | None
    estimated_clock_ns: float | None
    pipeline_type: str | None
    latency_best: int | None
    latency_average: int | None
    latency_worst: int | None
    interval_min: int | None
    interval_max: int | None
    used: Resources
    available: Resources
    tool: str = ""
    flow_target: str | None = None
    target_interval: int | None = None
    pipeline_interval: int | None = None
    pipeline_depth: int | None = None
    latency_best_ns: float | None = None
    latency_average_ns: float | None = None
    latency_worst_ns: float | None = None
    loops: tuple[Loop, ...] = ()
    instances: tuple[Instance, ...] = ()
