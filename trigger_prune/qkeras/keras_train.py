"""Fine-tuning in Keras: pruned weights stay zero, and the result is on the grids again."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import tensorflow as tf
import tf_keras
from numpy.typing import NDArray

from trigger_prune.errors import ModelError
from trigger_prune.qkeras.description import KerasDescription, WeightNode
from trigger_prune.qkeras.keras_build import set_codes


@dataclass(frozen=True)
class TrainSetting:
    """``loss`` is ``classification`` (on logits) or ``mse``; ``validation_fraction`` of the events judge."""

    epochs: int
    batch_size: int = 256
    learning_rate: float = 1e-3
    loss: str = "classification"
    validation_fraction: float = 0.2
    seed: int = 0


def finetune(
    model: Any, description: KerasDescription, events: dict[str, NDArray[Any]], setting: TrainSetting
) -> tuple[KerasDescription, dict[str, list[float]]]:
    """Train ``model`` in place and return its description, and per epoch ``loss``, ``val_loss`` and so on.

    events   ``features`` in Keras order, ``targets`` (class numbers, or values), optionally ``weights``
    The last entry of every ``val_`` list is that of the result, weights on their grids. Raises ModelError when the
    model and the description do not belong together.
    """
    tf_keras.utils.set_random_seed(setting.seed)
    _check(model, description)
    features = events["features"]
    targets = _in_keras_order(events["targets"], description, model, setting.loss)
    weights = events.get("weights", np.ones(len(features)))
    order = np.random.default_rng(setting.seed).permutation(len(features))
    n_validation = int(len(features) * setting.validation_fraction)
    judged, trained = order[:n_validation], order[n_validation:]
    loss, metrics = _loss(setting.loss, int(np.prod(model.output_shape[1:])))
    model.compile(tf_keras.optimizers.Adam(setting.learning_rate), loss, weighted_metrics=metrics)
    validation = (features[judged], targets[judged], weights[judged]) if n_validation else None
    fitted = model.fit(
        features[trained],
        targets[trained],
        sample_weight=weights[trained],
        batch_size=setting.batch_size,
        epochs=setting.epochs,
        validation_data=validation,
        callbacks=[_KeepMasks(description)],
        verbose=0,
    )
    history = {name: [float(value) for value in values] for name, values in fitted.history.items()}
    tuned = on_grid(model, description)
    set_codes(model, tuned)
    if validation is not None:
        found = model.evaluate(*validation[:2], sample_weight=validation[2], verbose=0, return_dict=True)
        for name, value in found.items():
            history.setdefault(f"val_{name}", []).append(float(value))
    return tuned, history


def on_grid(model: Any, description: KerasDescription) -> KerasDescription:
    """The description with the model's present weights, masked and rounded to codes."""
    tuned = {node.name: _rounded(model.get_layer(node.name), node) for node in description.weights}
    return replace(description, nodes=tuple(tuned.get(node.name, node) for node in description.nodes))


def _rounded(layer: Any, node: WeightNode) -> WeightNode:
    values = layer.get_weights()
    kernel = node.kernel_type.to_code(values[0]) * node.mask
    if node.bias is None or node.bias_type is None or node.bias_fixed:
        return replace(node, kernel=kernel)
    bias = node.bias_type.to_code(values[1])
    if node.bias_odd:
        odd = 2 * np.floor(values[1] / node.bias_type.lsb / 2).astype(np.int64) + 1
        bias = np.clip(odd, node.bias_type.min_code + 1, node.bias_type.max_code)
    return replace(node, kernel=kernel, bias=bias)


def _in_keras_order(targets: NDArray[Any], description: KerasDescription, model: Any, loss: str) -> NDArray[Any]:
    """Values of each event in the order and shape of the model's outputs; class numbers of one logit as a column."""
    shape = model.output_shape[1:]
    if loss != "mse":
        return targets.reshape(-1, 1) if shape == (1,) else targets
    values = targets.reshape(len(targets), -1)
    if values.shape[1] != int(np.prod(shape)):
        raise ModelError(f"targets of {values.shape[1]} values for {int(np.prod(shape))} outputs")
    if description.output_order is not None:
        ordered = np.empty_like(values)
        ordered[:, list(description.output_order)] = values
        values = ordered
    return values.reshape(-1, *shape)


def _check(model: Any, description: KerasDescription) -> None:
    for node in description.weights:
        try:
            shape = model.get_layer(node.name).kernel.shape
        except (ValueError, AttributeError):
            raise ModelError(f"the model has no layer {node.name!r} with weights") from None
        if tuple(shape) != node.kernel.shape:
            raise ModelError(f"layer {node.name!r} has a kernel {tuple(shape)}, its description {node.kernel.shape}")


class _KeepMasks(tf_keras.callbacks.Callback):  # type: ignore[misc]
    """After every step: pruned weights are zero, weights lie in the range of their type, fixed biases are as before."""

    def __init__(self, description: KerasDescription) -> None:
        super().__init__()
        self._nodes = description.weights

    def on_train_begin(self, logs: Any = None) -> None:
        self._masks = {node.name: tf.constant(node.mask.astype(np.float32)) for node in self._nodes}
        self.on_train_batch_end(0)

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        for node in self._nodes:
            layer = self.model.get_layer(node.name)
            if not node.trainable:
                continue
            low, high = node.kernel_type.min_value, node.kernel_type.max_value
            layer.kernel.assign(tf.clip_by_value(layer.kernel * self._masks[node.name], low, high))
            if node.bias_fixed and node.bias is not None and node.bias_type is not None:
                layer.bias.assign(node.bias * node.bias_type.lsb)


def _loss(name: str, n_outputs: int) -> tuple[Any, list[Any]]:
    if name == "mse":
        return tf_keras.losses.MeanSquaredError(), []
    if name != "classification":
        raise ModelError(f"loss {name!r} is unknown", hint="classification or mse")
    if n_outputs == 1:
        return tf_keras.losses.BinaryCrossentropy(from_logits=True), [
            tf_keras.metrics.BinaryAccuracy(name="accuracy", threshold=0.0)
        ]
    return tf_keras.losses.SparseCategoricalCrossentropy(from_logits=True), [
        tf_keras.metrics.SparseCategoricalAccuracy(name="accuracy")
    ]
