"""One process of TensorFlow: the steps that it is to do, one after the other, with one model."""

from __future__ import annotations

import json
import sys
import tempfile
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from trigger_prune import errors
from trigger_prune.errors import ToolError
from trigger_prune.fixed_point import FixedPoint
from trigger_prune.qkeras.description import KerasDescription, load_description, save_description
from trigger_prune.verify._processes import run_all

INSTALL_HINT = "pip install 'trigger_prune[qkeras]'"
_TIMEOUT_S = 3600.0
_ENVIRONMENT = {"TF_USE_LEGACY_KERAS": "1", "TF_CPP_MIN_LOG_LEVEL": "3"}
_EXACT = {"CUDA_VISIBLE_DEVICES": "-1", "TF_ENABLE_ONEDNN_OPTS": "0"}
"""A GPU multiplies with fewer bits and oneDNN may transform a convolution: neither keeps integers exact."""


class Session:
    """Collects steps and runs them in one process; files they exchange live as long as the ``with`` block."""

    def __enter__(self) -> Session:
        self._folder = tempfile.TemporaryDirectory(prefix="trigger_prune_qkeras_")
        self.work = Path(self._folder.name)
        self._steps: list[dict[str, Any]] = []
        self._exact = False
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._folder.cleanup()

    def build(self, description: KerasDescription) -> None:
        """Go on with a new model of ``description``."""
        save_description(description, self.work / "built.npz")
        self._add("build", description=str(self.work / "built.npz"))

    def load(self, model: Path, input_type: FixedPoint | None = None, *, fold_batch_norm: bool = False) -> None:
        """Go on with a saved model."""
        text = None if input_type is None else str(input_type)
        self._add("load", model=str(model.absolute()), input_type=text, fold_batch_norm=fold_batch_norm)

    def save(self, model: Path | None = None) -> None:
        """Write the model, if a name is given, and keep its description for ``description``."""
        path = None if model is None else str(model.absolute())
        self._add("save", model=path, description=str(self.work / "saved.npz"))

    def predict(self, features: NDArray[Any]) -> None:
        """Keep the model's outputs for ``outputs``; features in Keras order."""
        np.save(self.work / "features.npy", features)
        self._exact = True
        self._add("predict", features=str(self.work / "features.npy"), outputs=str(self.work / "outputs.npy"))

    def finetune(self, arrays: dict[str, NDArray[Any]], setting: dict[str, Any]) -> None:
        """Train the model; ``features``, ``targets`` and perhaps ``weights`` of the events."""
        np.savez(self.work / "events.npz", **arrays)  # type: ignore[arg-type]
        self._add("finetune", events=str(self.work / "events.npz"), setting=setting)

    def project(self, folder: Path, **request: Any) -> None:
        """Write an hls4ml project into the new folder ``folder``."""
        self._add("project", folder=str(folder.absolute()), **request)

    def run(self) -> dict[str, Any]:
        """Do the steps. Raises the package's error that one of them raised, ToolError when the process died or
        TensorFlow is not installed."""
        request, reply_file = self.work / "request.json", self.work / "reply.json"
        request.write_text(json.dumps(self._steps))
        self._steps = []
        reply_file.unlink(missing_ok=True)
        command = [sys.executable, "-m", "trigger_prune.qkeras.worker", str(request), str(reply_file)]
        environment = _ENVIRONMENT | (_EXACT if self._exact else {})
        [ended] = run_all([command], what="QKeras", timeout_s=_TIMEOUT_S, env=environment)
        if ended.status or not reply_file.is_file():
            last = "\n".join(ended.stderr.strip().splitlines()[-5:])
            raise ToolError(f"the QKeras process ended with status {ended.signal_name or ended.status}:\n{last}")
        reply: dict[str, Any] = json.loads(reply_file.read_text())
        if reply.get("error") == "missing":
            raise ToolError(f"QKeras is not installed: {reply['message']}", hint=INSTALL_HINT)
        if "error" in reply:
            raise getattr(errors, reply["error"], ToolError)(reply["message"], hint=reply["hint"])
        return reply

    def description(self) -> KerasDescription:
        """What ``save`` kept."""
        return load_description(self.work / "saved.npz")

    def outputs(self) -> NDArray[np.float64]:
        """What ``predict`` kept."""
        found: NDArray[np.float64] = np.load(self.work / "outputs.npy")
        return found

    def _add(self, step: str, **values: Any) -> None:
        self._steps.append({"step": step, **values})
