"""Checks that a report makes sense, without refusing what is real.

Real and accepted: no DSP (2-bit weights), latency 0 (a design of one cycle), more used than the part offers, a missed
clock, latencies the tool could not bound.
"""

from __future__ import annotations

from collections.abc import Iterable

from trigger_prune.errors import ReportFormatError
from trigger_prune.synthesis.parsers.csynth import CsynthReport, Instance, Resources

_CYCLES = ("latency_best", "latency_average", "latency_worst")


def check_csynth(report: CsynthReport, source: str) -> None:
    """Raise ReportFormatError, which names the file, when the values of one report contradict each other."""
    name = f"{source}: the report of {report.top}"
    if not 0 < report.target_clock_ns < 1e6:
        raise ReportFormatError(f"{name} states a target clock of {report.target_clock_ns} ns")
    cycles = [value for key in _CYCLES if (value := getattr(report, key)) is not None]
    if cycles != sorted(cycles):
        raise ReportFormatError(f"{name} orders best, average and worst latency as {cycles} cycles")
    if _above(report.interval_min, report.interval_max):
        raise ReportFormatError(f"{name} has intervals from {report.interval_min} to {report.interval_max} cycles")
    depth, worst, used = report.pipeline_depth, report.latency_worst, report.used
    if depth is not None and worst is not None and worst + 1 < depth:
        raise ReportFormatError(f"{name} states a latency of {worst} cycles with a pipeline of {depth} stages")
    for case in ("best", "average", "worst"):
        _check_absolute(report, case, name)
    # Multipliers and memories have registers of their own: a module of these alone may need no LUT and no flip-flop.
    if worst and used.lut == used.ff == 0 and not used.dsp and not used.bram18:
        raise ReportFormatError(f"{name} states no resources at all for a design of {worst} cycles")
    check_instances(report.instances, used, name)


def check_instances(instances: Iterable[Instance], used: Resources, where: str) -> None:
    """Raise ReportFormatError when the modules inside take more than the whole."""
    for key in ("lut", "ff", "dsp", "bram18", "uram"):
        inside = sum(getattr(instance.used, key) or 0 for instance in instances if instance.level == 1)
        whole = getattr(used, key)
        if whole is not None and inside > whole:
            raise ReportFormatError(f"{where}: its instances take {inside} {key}, more than the {whole} in total")


def check_not_empty(lut: int | None, *, source: str, widest_weight_bits: int) -> None:
    """Raise ReportFormatError when a network with weights of more than 2 bits is said to need no LUT at all.

    Such a report is of a design whose logic was optimised away (outputs unconnected, weights not loaded). Weights of
    one or two bits may leave nothing but wires.
    """
    if lut == 0 and widest_weight_bits > 2:
        raise ReportFormatError(
            f"{source} states 0 LUT although the network has weights of {widest_weight_bits} bits",
            hint="the logic was optimised away: check that weights are loaded and outputs are connected",
        )


def _check_absolute(report: CsynthReport, case: str, name: str) -> None:
    """The tool's own latency in ns is that in cycles at the target clock, or at the estimate where it is slower."""
    cycles, time_ns = getattr(report, f"latency_{case}"), getattr(report, f"latency_{case}_ns")
    if cycles is None or time_ns is None:
        return
    clocks = {report.target_clock_ns, max(report.target_clock_ns, report.estimated_clock_ns or 0.0)}
    # Three digits are printed; 2 % covers their rounding.
    if all(abs(time_ns - cycles * clock) > 0.02 * max(time_ns, cycles * clock) + 0.01 for clock in clocks):
        raise ReportFormatError(f"{name} states a {case} latency of {cycles} cycles and of {time_ns:g} ns")


def _above(low: int | None, high: int | None) -> bool:
    return low is not None and high is not None and low > high
