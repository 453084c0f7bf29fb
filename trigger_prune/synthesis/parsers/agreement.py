"""Whether two reports on one design say the same."""

from __future__ import annotations

from trigger_prune.errors import ReportFormatError
from trigger_prune.synthesis.parsers.csynth import CsynthReport
from trigger_prune.synthesis.parsers.csynth_summary import SynthesisSummary

_SCHEDULE = ("latency_min", "latency_max")
_SAME = (
    *("top", "part", "family", "target_clock_ns", "clock_uncertainty_ns", "estimated_clock_ns"),
    *("latency_best", "latency_worst", "interval_min", "interval_max", "used", "available"),
)


def require_agreement(first: CsynthReport, first_source: str, second: CsynthReport, second_source: str) -> None:
    """Raise ReportFormatError, which names both files, when two reports on one module contradict each other.

    What one of them does not state is no contradiction.
    """
    if not (first.version.startswith(second.version) or second.version.startswith(first.version)):
        raise _differ("version", first.version, first_source, second.version, second_source)
    for name in _SAME:
        a, b = getattr(first, name), getattr(second, name)
        if name in ("used", "available"):
            for key in vars(a):
                if None not in (getattr(a, key), getattr(b, key)) and getattr(a, key) != getattr(b, key):
                    raise _differ(f"{name} {key}", getattr(a, key), first_source, getattr(b, key), second_source)
        elif None not in (a, b) and a != b:
            raise _differ(name, a, first_source, b, second_source)
    _require_same_instances(first, first_source, second, second_source)


def _require_same_instances(first: CsynthReport, first_source: str, second: CsynthReport, second_source: str) -> None:
    """Instances that both reports list by the same name directly below the module."""
    others = {instance.name: instance for instance in second.instances if instance.level == 1}
    for instance in first.instances:
        other = others.get(instance.name)
        if instance.level != 1 or other is None:
            continue
        pairs = [(name, getattr(instance, name), getattr(other, name)) for name in ("module", *_SCHEDULE)]
        pairs += [(key, value, getattr(other.used, key)) for key, value in vars(instance.used).items()]
        for name, a, b in pairs:
            if None not in (a, b) and a != b:
                raise _differ(f"{name} of {instance.name}", a, first_source, b, second_source)


def require_summary_agrees(report: CsynthReport, source: str, summary: SynthesisSummary, summary_source: str) -> None:
    """The same for the summary of a design, which states the resources and the worst latency of the top."""
    whole = summary.whole
    pairs = [("top", report.top, summary.top), ("latency_worst", report.latency_worst, whole.latency_max)]
    pairs += [(f"used {key}", getattr(report.used, key), getattr(whole.used, key)) for key in vars(whole.used)]
    for name, a, b in pairs:
        if None not in (a, b) and a != b:
            raise _differ(name, a, source, b, summary_source)


def _differ(name: str, a: object, first_source: str, b: object, second_source: str) -> ReportFormatError:
    return ReportFormatError(
        f"{first_source} and {second_source} contradict each other: {name} is {a} and {b}",
        hint="one of them is of another run or was damaged: remove it, or synthesise again",
    )
