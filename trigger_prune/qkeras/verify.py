"""torch = QKeras = hls4ml (Keras route) = hls4ml (ONNX route), event by event."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from torch import fx

from trigger_prune.errors import TriggerPruneError, VerificationError
from trigger_prune.export.hls4ml_project import channels_last, project_inputs, write_hls4ml_project
from trigger_prune.qkeras.bridge import check_suffix, keras_order, qkeras_description, torch_order
from trigger_prune.qkeras.description import KerasDescription, description_file, save_description
from trigger_prune.qkeras.session import Session
from trigger_prune.quantize.convert import input_shape_of, input_type_of
from trigger_prune.target import Target
from trigger_prune.verify.csim import compile_csim, run_csim
from trigger_prune.verify.representations import torch_outputs

_NAME = "network"


@dataclass(frozen=True)
class BridgePair:
    """One representation against the torch network; ``failure`` says why it did not run."""

    name: str
    events: int
    mismatches: int | None
    failure: str | None = None

    @property
    def ok(self) -> bool:
        """True when all outputs of all events are equal."""
        return self.mismatches == 0


def verify_qkeras(
    network: fx.GraphModule,
    features: NDArray[np.float32],
    target: Target,
    *,
    model: Path | None = None,
    backends: Sequence[str] = ("Vitis",),
    with_onnx: bool = True,
) -> tuple[BridgePair, ...]:
    """Outputs of every representation compared with the torch network's in float64, all of ``features`` each.

    features   ``(events, *input_shape)`` on the grid of the inputs
    model      the saved QKeras model of ``network``; None: it is made, saved and loaded for the comparison
    backends   of hls4ml; each gives a pair by the Keras route and, unless ``with_onnx`` is False, one by the ONNX route
    A representation that cannot be written or run is a failure in its pair. Raises VerificationError when there is no
    event, or one off the input grid.
    """
    _check(network, features)
    reference = _Reference(features, torch_outputs(network, features, double=True))
    with tempfile.TemporaryDirectory(prefix="trigger_prune_qkeras_verify_") as name:
        work = Path(name)
        folders = {backend: work / f"keras_{backend}" for backend in backends}
        pairs = _keras_pairs(network, reference, target, model, folders, work)
        if with_onnx:
            pairs += [_onnx_pair(network, reference, target, backend, work) for backend in backends]
    return tuple(pairs)


@dataclass(frozen=True)
class _Reference:
    features: NDArray[np.float32]
    outputs: NDArray[np.float64]

    def pair(self, name: str, run: Callable[[], NDArray[np.float64]]) -> BridgePair:
        n_events = len(self.features)
        try:
            found = run()
        except TriggerPruneError as error:
            return BridgePair(name, n_events, None, str(error))
        if found.shape != self.outputs.shape:
            return BridgePair(name, n_events, None, f"outputs have shape {found.shape}, torch's {self.outputs.shape}")
        # NaN differs from everything, itself included, and so counts as a mismatch
        return BridgePair(name, n_events, int((found != self.outputs).any(axis=1).sum()))


def _keras_pairs(
    network: fx.GraphModule,
    reference: _Reference,
    target: Target,
    model: Path | None,
    folders: dict[str, Path],
    work: Path,
) -> list[BridgePair]:
    """QKeras and the projects made from its model, all by one process of TensorFlow."""
    names = ["qkeras", *(f"hls4ml_keras_{backend.lower()}" for backend in folders)]
    with Session() as session:
        try:
            if model is None:
                model = work / "model.h5"
                made = qkeras_description(network)
                save_description(made, description_file(model))
                session.build(made)
                session.save(model)
            check_suffix(model)
            session.load(model, input_type_of(network))
            session.predict(keras_order(reference.features))
            session.save()
            for backend, folder in folders.items():
                session.project(folder, name=_NAME, backend=backend, target=target.to_dict(), collect=True)
            reply = session.run()
        except TriggerPruneError as error:
            return [BridgePair(name, len(reference.features), None, str(error)) for name in names]
        description, outputs = session.description(), session.outputs()
    pairs = [reference.pair(names[0], lambda: torch_order(outputs, description))]
    for name, folder in zip(names[1:], folders.values(), strict=True):
        failure = reply.get(str(folder.absolute()))
        if failure is not None:
            pairs.append(BridgePair(name, len(reference.features), None, failure))
        else:
            inputs = keras_order(reference.features)
            pairs.append(reference.pair(name, partial(_simulated, folder, inputs, work / name, description)))
    return pairs


def _onnx_pair(network: fx.GraphModule, reference: _Reference, target: Target, backend: str, work: Path) -> BridgePair:
    def run() -> NDArray[np.float64]:
        folder = write_hls4ml_project(network, work / f"onnx_{backend}", target, _NAME, backend=backend)
        inputs = project_inputs(reference.features, last=channels_last(network))
        return _simulated(folder, inputs, work / f"onnx_run_{backend}", None)

    return reference.pair(f"hls4ml_onnx_{backend.lower()}", run)


def _simulated(
    project: Path, inputs: NDArray[np.float32], work: Path, description: KerasDescription | None
) -> NDArray[np.float64]:
    work.mkdir()
    found = run_csim(compile_csim(project, work), inputs.astype(np.float64), work)
    return found if description is None else torch_order(found, description)


def _check(network: fx.GraphModule, features: NDArray[np.float32]) -> None:
    if len(features) == 0 or features.shape[1:] != input_shape_of(network):
        raise VerificationError(
            f"events of shape {features.shape}: the network takes one or more of {input_shape_of(network)}"
        )
    if not input_type_of(network).contains(features).all():
        raise VerificationError(
            f"an event is not on the grid of {input_type_of(network)}", hint="apply the input transform to the events"
        )
