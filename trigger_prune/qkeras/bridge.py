"""QKeras from the outside: export, import, prediction, fine-tuning and the hls4ml project of a QKeras model.

TensorFlow is imported by processes of their own only. Events are ``(events, *input_shape)`` in torch's order.
"""

from __future__ import annotations

import shutil
import tempfile
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import fx

from trigger_prune.errors import ExportError, ModelError
from trigger_prune.fixed_point import FixedPoint
from trigger_prune.qkeras.binary_points import expressible
from trigger_prune.qkeras.description import KerasDescription, description_file, save_description
from trigger_prune.qkeras.from_torch import describe_for_qkeras
from trigger_prune.qkeras.session import Session
from trigger_prune.qkeras.to_torch import network_from, updated_network
from trigger_prune.target import Target

SUFFIXES = (".h5", ".keras")


@dataclass(frozen=True)
class FinetuneSetting:
    """``loss`` is ``classification`` (targets are class numbers) or ``mse``; ``validation_fraction`` judges."""

    epochs: int = 5
    batch_size: int = 256
    learning_rate: float = 1e-3
    loss: str = "classification"
    validation_fraction: float = 0.2
    seed: int = 0


def qkeras_description(network: fx.GraphModule) -> KerasDescription:
    """The QKeras model with the bits of ``network``, as integers. Raises ExportError, naming layer and remedy."""
    return expressible(describe_for_qkeras(network))


def export_qkeras(network: fx.GraphModule, model: Path) -> KerasDescription:
    """Write the QKeras model with the bits of ``network`` to ``model`` (.h5 or .keras), its description beside it.

    The model consists of stock layers of QKeras and Keras. Raises ExportError, naming the layer, for what QKeras cannot
    express; ToolError without the extra ``qkeras``.
    """
    check_suffix(model)
    description = qkeras_description(network)
    with Session() as session:
        session.build(description)
        session.save(model)
        session.run()
    save_description(description, description_file(model))
    return description


def describe_model(
    model: Path, input_type: FixedPoint | None = None, *, fold_batch_norm: bool = False
) -> KerasDescription:
    """What a saved QKeras model computes, read from the model itself.

    The description beside it, if there is one, only adds what the model does not say. ``input_type`` goes before its
    input type. Raises ModelError, naming the layer, for what has no integer counterpart.
    """
    _check_exists(model)
    with Session() as session:
        session.load(model, input_type, fold_batch_norm=fold_batch_norm)
        session.save()
        session.run()
        return session.description()


def import_qkeras(
    model: Path, input_type: FixedPoint | None = None, *, strip_head: bool = False, fold_batch_norm: bool = False
) -> fx.GraphModule:
    """A saved QKeras model as a quantised torch network with the same bits, pruned weights masked.

    strip_head        leave out a softmax or sigmoid at the end: the network returns logits
    fold_batch_norm   put batch normalisations into the weights before them and quantise those again: not the same bits
    Raises ModelError, naming layer and remedy, for what has no counterpart.
    """
    found = describe_model(model, input_type, fold_batch_norm=fold_batch_norm)
    return network_from(found, strip_head=strip_head)


def predict_qkeras(model: Path, features: NDArray[Any]) -> NDArray[np.float64]:
    """Outputs ``(events, outputs)`` of a saved QKeras model, in torch's order.

    Computes in float64 where the sums do not fit float32, or where it is not known.
    """
    _check_exists(model)
    with Session() as session:
        session.load(model)
        session.predict(keras_order(features))
        session.save()
        session.run()
        return torch_order(session.outputs(), session.description())


def finetune_qkeras(
    model: Path,
    tuned: Path,
    features: NDArray[Any],
    targets: NDArray[Any],
    setting: FinetuneSetting,
    weights: NDArray[Any] | None = None,
) -> dict[str, list[float]]:
    """Train a QKeras model in Keras, pruned weights held at zero, and write it to ``tuned`` with its description.

    targets   class numbers ``(events,)``, or values ``(events, outputs)`` for loss ``mse``
    Returns losses and accuracies per epoch; the last of every ``val_`` list is the result's, weights on their grids.
    Without a description beside the model, the weights that are exactly zero are the pruned ones.
    """
    _check_exists(model)
    check_suffix(tuned)
    with Session() as session:
        session.load(model)
        history, description = _finetune(session, features, targets, setting, weights, tuned)
    save_description(description, description_file(tuned))
    return history


def finetune_network(
    network: fx.GraphModule,
    features: NDArray[Any],
    targets: NDArray[Any],
    setting: FinetuneSetting,
    weights: NDArray[Any] | None = None,
) -> tuple[fx.GraphModule, dict[str, list[float]]]:
    """``network`` after training in Keras: the same structure, types and masks, new weights; and the history."""
    with Session() as session:
        session.build(qkeras_description(network))
        history, description = _finetune(session, features, targets, setting, weights, None)
    return updated_network(network, description), history


def write_keras_project(
    model: Path,
    out_dir: Path,
    target: Target,
    name: str,
    *,
    backend: str = "Vitis",
    input_type: FixedPoint | None = None,
) -> Path:
    """The hls4ml project of a saved QKeras model by hls4ml's Keras route, in the new folder ``out_dir``.

    Raises ExportError with hls4ml's message, and when ``out_dir`` exists.
    """
    _check_exists(model)
    if out_dir.exists():
        raise ExportError(f"{out_dir} exists already", hint="choose a new folder; nothing is overwritten")
    out_dir.parent.mkdir(parents=True, exist_ok=True)
    scratch = Path(tempfile.mkdtemp(prefix=f".{out_dir.name}.", dir=out_dir.parent))
    try:
        with Session() as session:
            session.load(model, input_type)
            session.project(scratch / "project", name=name, backend=backend, target=target.to_dict())
            session.run()
        (scratch / "project").rename(out_dir)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    return out_dir


def keras_order(features: NDArray[Any]) -> NDArray[Any]:
    """Events ``(events, channels, ...)`` channels last."""
    return np.ascontiguousarray(np.moveaxis(features, 1, -1)) if features.ndim > 2 else features


def torch_order(outputs: NDArray[np.float64], description: KerasDescription) -> NDArray[np.float64]:
    """Outputs of the Keras model in the order of the torch network."""
    return outputs if description.output_order is None else outputs[:, list(description.output_order)]


def check_suffix(model: Path) -> None:
    """Raise ExportError for a name that Keras does not save under."""
    if model.suffix not in SUFFIXES:
        raise ExportError(f"{model} is neither .h5 nor .keras", hint="QKeras models are saved as .h5 or .keras")


def _finetune(
    session: Session,
    features: NDArray[Any],
    targets: NDArray[Any],
    setting: FinetuneSetting,
    weights: NDArray[Any] | None,
    tuned: Path | None,
) -> tuple[dict[str, list[float]], KerasDescription]:
    if len(features) != len(targets) or len(features) == 0:
        raise ModelError(f"there are {len(features)} events and {len(targets)} targets")
    arrays = {"features": keras_order(features).astype(np.float32), "targets": targets}
    session.finetune(arrays | ({} if weights is None else {"weights": weights}), asdict(setting))
    session.save(tuned)
    history: dict[str, list[float]] = session.run()["history"]
    return history, session.description()


def _check_exists(model: Path) -> None:
    check_suffix(model)
    if not model.is_file():
        raise ModelError(f"{model} does not exist", hint="give a model saved by QKeras, .h5 or .keras")
