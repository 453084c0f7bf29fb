"""``ForeignDesign``: a network of another framework as a finished adder graph. There are no layers to prune in it."""

from __future__ import annotations

import json
import shutil
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from trigger_prune.errors import ArtefactError, FixedPointError, ModelError
from trigger_prune.fixed_point import FixedPoint
from trigger_prune.physics.scores import Score

_FACTS, _COMB, _GOLDEN = "design.json", "comb.json.gz", "golden.npz"


@dataclass(frozen=True)
class ForeignDesign:
    """A network as alkaid's adder graph, in a folder of its own; it can be the full model of a two-stage trigger.

    folder       holds the adder graph, the golden events and this description (``save``, ``load``)
    input_type   of every input, and ``input_shape`` of one event
    n_outputs    outputs of one event, flattened
    made_by      framework and versions, for reports
    events       golden events whose outputs the framework computed; ``differ`` of them were computed otherwise by the
                 adder graph (0 unless something is wrong)
    score        the number that the trigger compares with a threshold, or None where only outputs are known
    """

    name: str
    folder: Path
    input_type: FixedPoint
    input_shape: tuple[int, ...]
    n_outputs: int
    made_by: str
    events: int
    differ: int
    score: Score | None = None

    @cached_property
    def comb(self) -> Any:
        """alkaid's ``CombLogic``. Raises ToolError when alkaid is missing, ArtefactError for a damaged file."""
        from trigger_prune.synthesis.rtl.trace import alkaid_version

        alkaid_version()
        from alkaid.types import CombLogic

        try:
            return CombLogic.load(self.folder / _COMB)
        except (OSError, ValueError, KeyError, TypeError, EOFError) as error:
            raise ArtefactError(
                f"{self.folder / _COMB} is no adder graph: {error}", hint="enter the model again"
            ) from error

    @property
    def content_hash(self) -> str:
        """SHA-256 (hex) of the adder graph's file, decompressed."""
        import gzip
        import hashlib

        return hashlib.sha256(gzip.decompress((self.folder / _COMB).read_bytes())).hexdigest()

    def golden(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Golden events ``(n, *input_shape)`` and the framework's outputs ``(n, n_outputs)``."""
        with np.load(self.folder / _GOLDEN) as file:
            return file["inputs"], file["outputs"]

    def outputs(self, features: NDArray[np.floating]) -> NDArray[np.float64]:
        """Outputs ``(n, n_outputs)`` for events on the input grid, to the last bit of the hardware.

        Raises ModelError for another shape, FixedPointError for values off the grid.
        """
        from trigger_prune.synthesis.rtl.trace import predict

        if features.shape[1:] != self.input_shape:
            raise ModelError(f"the events have shape {features.shape[1:]}, {self.name} takes {self.input_shape}")
        if not self.input_type.contains(features).all():
            raise FixedPointError(
                f"events off the grid of {self.input_type}, the input type of {self.name}",
                hint="quantise them first: input_type.quantize(events)",
            )
        return predict(self.comb, features)

    def scores(self, features: NDArray[np.floating]) -> NDArray[np.float64]:
        """Scores ``(n,)``. Raises ModelError when the design has no score."""
        if self.score is None:
            raise ModelError(f"{self.name} has no score", hint="give one: design.with_score(Score(...))")
        outputs = self.outputs(features)
        return self.score.of(outputs, features if self.score.kind == "reconstruction" else None)

    def with_score(self, score: Score) -> ForeignDesign:
        """The same design with a score of its outputs."""
        return replace(self, score=score)

    def save(self, folder: Path) -> ForeignDesign:
        """Write the design into a new folder; returns the design that lives there. Raises ModelError if it exists."""
        if folder.exists():
            raise ModelError(f"{folder} exists already", hint="choose a new folder")
        folder.parent.mkdir(parents=True, exist_ok=True)
        temporary = folder.with_name(f".{folder.name}.writing")
        shutil.rmtree(temporary, ignore_errors=True)
        temporary.mkdir()
        try:
            for name in (_COMB, _GOLDEN):
                shutil.copyfile(self.folder / name, temporary / name)
            facts = {
                **asdict(self),
                "folder": None,
                "input_type": str(self.input_type),
                "score": None if self.score is None else self.score.to_dict(),
            }
            (temporary / _FACTS).write_text(json.dumps(facts, indent=2))
            temporary.rename(folder)
        finally:
            shutil.rmtree(temporary, ignore_errors=True)
        return replace(self, folder=folder)

    @classmethod
    def load(cls, folder: Path) -> ForeignDesign:
        """Inverse of ``save``. Raises ArtefactError."""
        try:
            raw = json.loads((folder / _FACTS).read_text())
            raw |= {
                "folder": folder,
                "input_type": FixedPoint.parse(raw["input_type"]),
                "input_shape": tuple(raw["input_shape"]),
                "score": None if raw["score"] is None else Score.from_dict(raw["score"]),
            }
            return cls(**raw)
        except (OSError, ValueError, KeyError, TypeError, FixedPointError) as error:
            raise ArtefactError(f"{folder} holds no design: {error}", hint="enter the model again") from error
