"""``hls4ml_config.yml``: part, clock, and per layer precision, reuse factor and strategy."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from trigger_prune.errors import FixedPointError, ReportFormatError
from trigger_prune.fixed_point import FixedPoint

FILE = "hls4ml_config.yml"


class _PlainLoader(yaml.SafeLoader):
    """Reads hls4ml's own file without running the Python constructors in it."""


_PlainLoader.add_multi_constructor("!", lambda loader, suffix, node: None)
_PlainLoader.add_multi_constructor("tag:yaml.org,2002:python/", lambda loader, suffix, node: None)


@dataclass(frozen=True)
class ProjectConfig:
    """What the user asked hls4ml for. The types and reuse factors of what was synthesised may differ: headers are
    edited by hand, and hls4ml replaces what it cannot do."""

    project_name: str
    backend: str
    part: str | None
    clock_period_ns: float | None
    io_type: str
    model: Mapping[str, Any]
    layers: Mapping[str, Mapping[str, Any]]

    def layer_type(self, layer: str, variable: str) -> FixedPoint | None:
        """Type of ``weight``, ``bias``, ``accum``, ``result`` of a layer; the model's default where the layer has none.

        None when hls4ml chooses it itself (``auto``), or when it is none that the estimates know.
        """
        stated = self.layers.get(layer, {}).get("Precision")
        text = stated.get(variable) if isinstance(stated, dict) else stated
        if text is None:
            default = self.model.get("Precision")
            text = default.get("default") if isinstance(default, dict) else default
        try:
            return None if text in (None, "auto") else FixedPoint.parse(str(text))
        except FixedPointError:
            return None

    def reuse_factor(self, layer: str) -> int:
        """Reuse factor of a layer."""
        return int(self.layers.get(layer, {}).get("ReuseFactor") or self.model.get("ReuseFactor") or 1)

    def parallelization_factor(self, layer: str) -> int:
        """Output positions of a convolution that are computed side by side."""
        return int(self.layers.get(layer, {}).get("ParallelizationFactor") or 1)

    def strategy(self, layer: str) -> str:
        """Strategy of a layer, lower case."""
        return str(self.layers.get(layer, {}).get("Strategy") or self.model.get("Strategy") or "Latency").lower()


def read_project_config(path: Path) -> ProjectConfig:
    """Read the file. Raises ReportFormatError when it is no hls4ml configuration."""
    try:
        raw = yaml.load(path.read_text(), _PlainLoader)
        hls = raw.get("HLSConfig") or {}
        clock = raw.get("ClockPeriod")
        return ProjectConfig(
            project_name=str(raw.get("ProjectName") or "myproject"),
            backend=str(raw.get("Backend") or "Vivado"),
            part=raw.get("Part") or raw.get("XilinxPart"),
            clock_period_ns=None if clock is None else float(clock),
            io_type=str(raw.get("IOType") or "io_parallel"),
            model=hls.get("Model") or {},
            layers={str(name): keys or {} for name, keys in (hls.get("LayerName") or {}).items()},
        )
    except (OSError, UnicodeDecodeError, yaml.YAMLError, AttributeError, TypeError, ValueError) as error:
        first_line = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise ReportFormatError(f"{path} is no hls4ml configuration: {first_line}") from None
