"""Findings of stage ``two_stage`` as plain values for JSON, and back.

Every dataclass becomes a dictionary of its fields, in depth; what a field is made of again is read off its annotation.
Numbers that JSON does not know are written as ``"inf"``, ``"-inf"`` and ``"nan"``, arrays and slots as lists.
"""

from __future__ import annotations

import json
import math
import types
from collections.abc import Mapping
from dataclasses import MISSING, fields, is_dataclass
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

import numpy as np
from numpy.typing import NDArray

from trigger_prune.cost.report import HardwareReport
from trigger_prune.errors import ReportFormatError
from trigger_prune.two_stage.findings import TwoStageFindings
from trigger_prune.two_stage.queue import QueueResult
from trigger_prune.two_stage.working_point import TwoStageWorkingPoint

FORMAT = 1
"""Raised when a field changes its meaning."""

_NUMBERS = {"inf": math.inf, "-inf": -math.inf, "nan": math.nan}


def findings_to_dict(findings: TwoStageFindings) -> dict[str, Any]:
    """Plain values; ``findings_from_dict`` restores findings with equal figures."""
    raw: dict[str, Any] = _plain(findings)
    # 3564 slots as runs, which a reader takes in at a glance
    return {"format": FORMAT, **raw, "filled": _runs(findings.filled)}


def findings_from_dict(raw: Mapping[str, Any]) -> TwoStageFindings:
    """Inverse of ``findings_to_dict``. Raises ReportFormatError for anything else, naming the field."""
    try:
        if raw["format"] != FORMAT:
            raise ReportFormatError(f"two-stage findings of format {raw['format']}, not {FORMAT}")
        values = {name: value for name, value in raw.items() if name != "format"}
        values["filled"] = [filled for filled, length in raw["filled"] for _ in range(length)]
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise ReportFormatError(f"not the findings of two stages: {error}") from None
    found: TwoStageFindings = _restored(TwoStageFindings, values, "findings")
    return found


def queue_to_dict(queue: QueueResult) -> dict[str, Any]:
    """Plain values; ``queue_from_dict`` restores an equal result."""
    raw: dict[str, Any] = _plain(queue)
    return raw


def queue_from_dict(raw: Mapping[str, Any]) -> QueueResult:
    """Inverse of ``queue_to_dict``. Raises ReportFormatError for anything else."""
    found: QueueResult = _restored(QueueResult, raw, "queue")
    return found


def working_point_to_dict(point: TwoStageWorkingPoint) -> dict[str, Any]:
    """Plain values; ``working_point_from_dict`` restores an equal working point."""
    raw: dict[str, Any] = _plain(point)
    return raw


def working_point_from_dict(raw: Mapping[str, Any]) -> TwoStageWorkingPoint:
    """Inverse of ``working_point_to_dict``. Raises ReportFormatError for anything else."""
    found: TwoStageWorkingPoint = _restored(TwoStageWorkingPoint, raw, "working_point")
    return found


def _runs(filled: tuple[bool, ...]) -> list[list[Any]]:
    values = np.asarray(filled, np.bool_)
    starts = np.flatnonzero(np.append(True, values[1:] != values[:-1]))
    lengths = np.diff(np.append(starts, len(values)))
    return [[bool(values[start]), int(length)] for start, length in zip(starts, lengths, strict=True)]


def _plain(value: Any) -> Any:
    if isinstance(value, HardwareReport):
        return json.loads(value.to_json())
    if is_dataclass(value) and not isinstance(value, type):
        return {field.name: _plain(getattr(value, field.name)) for field in fields(value)}
    if isinstance(value, Mapping):
        return {key: _plain(each) for key, each in value.items()}
    if isinstance(value, np.ndarray):
        return [_plain(each) for each in value.tolist()]
    if isinstance(value, tuple | list):
        return [_plain(each) for each in value]
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    return value


def _restored(kind: Any, raw: Any, where: str) -> Any:
    """``raw`` as a value of the annotation ``kind``; ``where`` names the field in errors."""
    origin, arguments = get_origin(kind), get_args(kind)
    if origin in (Union, types.UnionType):
        if raw is None and type(None) in arguments:
            return None
        (kind,) = (each for each in arguments if each is not type(None))
        return _restored(kind, raw, where)
    if kind is HardwareReport:
        return HardwareReport.from_json(json.dumps(raw))
    if is_dataclass(kind):
        if not isinstance(raw, Mapping):
            raise ReportFormatError(f"{where} is {raw!r}, no dictionary")
        hints = get_type_hints(kind)
        missing = {field.name for field in fields(kind) if field.default is MISSING} - raw.keys()
        extra = raw.keys() - hints.keys()
        if missing or extra:
            raise ReportFormatError(f"{where} lacks {sorted(missing)} and has {sorted(extra)} beside what is known")
        assert isinstance(kind, type)
        return kind(**{name: _restored(hints[name], value, f"{where}.{name}") for name, value in raw.items()})
    if origin is Literal:
        if raw not in arguments:
            raise ReportFormatError(f"{where} is {raw!r}, none of {arguments}")
        return raw
    return _restored_values(kind, raw, where)


def _restored_values(kind: Any, raw: Any, where: str) -> Any:
    origin, arguments = get_origin(kind), get_args(kind)
    try:
        if origin is tuple:
            kinds = [arguments[0]] * len(raw) if arguments[-1] is Ellipsis else list(arguments)
            return tuple(_restored(k, v, f"{where}[{i}]") for i, (k, v) in enumerate(zip(kinds, raw, strict=True)))
        if origin is dict:
            return {key: _restored(arguments[1], value, f"{where}.{key}") for key, value in raw.items()}
        if origin is np.ndarray:
            array: NDArray[np.float64] = np.array([_number(value) for value in raw], np.float64)
            return array
        if kind is float:
            return _number(raw)
        if not isinstance(raw, kind):
            raise TypeError(f"it is {raw!r}")
    except (TypeError, ValueError, AttributeError) as error:
        raise ReportFormatError(f"{where} is not what it should be: {error}") from None
    return raw


def _number(raw: Any) -> float:
    if isinstance(raw, str):
        return _NUMBERS[raw] if raw in _NUMBERS else float("not a number: " + raw)
    return float(raw)
