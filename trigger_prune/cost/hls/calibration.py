"""``Calibration``: the free coefficients of the HLS estimates, with their provenance and errors, as one JSON file."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from functools import cache
from importlib import resources
from pathlib import Path
from typing import Any

from trigger_prune.errors import CostError

FORMAT = 1
SHIPPED = "hls_calibration.json"


@dataclass(frozen=True)
class Calibration:
    """Coefficients by family of formulas (``dense_latency``, ``dense_resource``, ``conv``, ``network`` ...).

    families     family -> coefficient -> value; a family that is missing uses its module's ``DEFAULTS``
    spread       family -> quantity -> (low, high): factors on an estimate that enclose 90 % of the truth
    provenance   where the samples came from: projects, tools, numbers of samples, date, version of the formulas
    errors       family -> quantity -> error measure -> value, from leaving one project out
    """

    families: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    spread: Mapping[str, Mapping[str, tuple[float, float]]] = field(default_factory=dict)
    provenance: Mapping[str, Any] = field(default_factory=dict)
    errors: Mapping[str, Mapping[str, Mapping[str, float]]] = field(default_factory=dict)

    def parameters(self, family: str, defaults: Mapping[str, float]) -> dict[str, float]:
        """Coefficients of one family: the fitted ones over the defaults. Raises CostError for an unknown name."""
        fitted = self.families.get(family, {})
        unknown = sorted(set(fitted) - set(defaults))
        if unknown:
            raise CostError(
                f"the calibration names coefficients that {family} does not have: {', '.join(unknown)}",
                hint="it was made by another version; run trigger-prune cost calibrate again",
            )
        return {**defaults, **fitted}

    def save(self, path: Path) -> None:
        """Write the JSON file under a temporary name, then rename it."""
        scratch = path.with_name(f".{path.name}.{os.getpid()}.new")
        scratch.write_text(json.dumps({"format": FORMAT, **asdict(self)}, indent=1, sort_keys=True) + "\n")
        scratch.replace(path)

    @classmethod
    def load(cls, path: Path) -> Calibration:
        """Read a file written by ``save``. Raises CostError when it is missing, damaged or of another format."""
        try:
            raw = json.loads(path.read_text())
        except (OSError, ValueError) as error:
            raise CostError(f"the calibration {path} cannot be read: {error}") from None
        if not isinstance(raw, dict) or raw.pop("format", None) != FORMAT:
            raise CostError(f"{path} is not a calibration of format {FORMAT}", hint="run trigger-prune cost calibrate")
        try:
            raw["spread"] = {
                family: {name: (float(low), float(high)) for name, (low, high) in table.items()}
                for family, table in raw["spread"].items()
            }
            return cls(**raw)
        except (TypeError, ValueError, KeyError, AttributeError) as error:
            raise CostError(f"the calibration {path} is damaged: {error}") from None


@cache
def shipped_calibration() -> Calibration:
    """The calibration that comes with the package."""
    with resources.as_file(resources.files("trigger_prune.cost.hls") / SHIPPED) as path:
        return Calibration.load(path)
