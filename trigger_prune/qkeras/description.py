"""A Keras model as integers: what the torch side and the TensorFlow process exchange, and its file.

Everything is in Keras order: channels last, inputs before outputs. Codes count in units of their type's LSB.
"""

from __future__ import annotations

import json
import os
import zipfile
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from trigger_prune.errors import ArtefactError, FixedPointError
from trigger_prune.fixed_point import FixedPoint

FORMAT = 1
SUFFIX = ".bridge.npz"

Codes = NDArray[np.int64]
WeightKind = Literal["dense", "conv1d", "conv2d"]
PlainKind = Literal["relu", "flatten", "max_pool", "zero_pad", "add", "concatenate", "softmax", "sigmoid"]


@dataclass(frozen=True, eq=False)
class WeightNode:
    """QDense, QConv1D or QConv2D.

    kernel      codes ``(in, out)``, ``(k, in, out)`` or ``(kh, kw, in, out)`` of ``kernel_type``
    mask        False where a weight is pruned, shape of ``kernel``
    bias        codes ``(out,)`` of ``bias_type``, or None for both
    bias_odd    every bias is an odd multiple of its LSB, so that no sum lies half-way between two output codes
    bias_fixed  the bias is there for rounding only and is not trained
    source      name of the torch layer; empty for a model that was not made from one
    """

    name: str
    inputs: tuple[str, ...]
    kind: WeightKind
    kernel: Codes
    kernel_type: FixedPoint
    mask: NDArray[np.bool_]
    bias: Codes | None = None
    bias_type: FixedPoint | None = None
    stride: tuple[int, ...] = ()
    dilation: tuple[int, ...] = ()
    padding: Literal["valid", "same"] = "valid"
    trainable: bool = True
    bias_odd: bool = False
    bias_fixed: bool = False
    source: str = ""


@dataclass(frozen=True)
class QuantNode:
    """QActivation: ``quantized_relu`` for an unsigned type, ``quantized_bits`` for a signed one.

    fixed   rounding AP_RND_CONV (what QKeras does), overflow AP_SAT, or AP_SAT_SYM for ``symmetric``
    """

    name: str
    inputs: tuple[str, ...]
    fixed: FixedPoint


@dataclass(frozen=True)
class PlainNode:
    """A layer without weights and types of its own.

    size   windows of ``max_pool`` or, for ``zero_pad``, rows and columns of zeros before and behind, one per axis
    fixed  the type of its output where one is known, for hls4ml
    """

    name: str
    inputs: tuple[str, ...]
    kind: PlainKind
    size: tuple[int, ...] = ()
    stride: tuple[int, ...] = ()
    fixed: FixedPoint | None = None


Node = WeightNode | QuantNode | PlainNode


@dataclass(frozen=True, eq=False)
class KerasDescription:
    """Nodes in order of computation.

    input_shape    of one event, channels last, without the batch axis
    input_type     of every input; None for a model that does not say
    output_order   torch output i is Keras output ``output_order[i]``; None: the same order
    """

    input_name: str
    input_shape: tuple[int, ...]
    input_type: FixedPoint | None
    nodes: tuple[Node, ...]
    output: str
    output_order: tuple[int, ...] | None = None

    @property
    def weights(self) -> tuple[WeightNode, ...]:
        """The layers with weights, in order."""
        return tuple(node for node in self.nodes if isinstance(node, WeightNode))


def description_file(model: Path) -> Path:
    """Where the description of a Keras model lies: beside it, ``NAME.bridge.npz``."""
    return model.with_name(model.stem + SUFFIX)


def save_description(description: KerasDescription, path: Path) -> None:
    """Write to ``path`` under a temporary name, then rename."""
    arrays: dict[str, NDArray[Any]] = {}
    nodes = [_node_to_dict(node, arrays) for node in description.nodes]
    header = {
        "format": FORMAT,
        "input_name": description.input_name,
        "input_shape": description.input_shape,
        "input_type": None if description.input_type is None else str(description.input_type),
        "output": description.output,
        "output_order": description.output_order,
        "nodes": nodes,
    }
    temporary = path.with_name(f".{path.name}.{os.getpid()}.npz")
    try:
        with temporary.open("wb") as file:
            np.savez_compressed(file, header=np.array(json.dumps(header)), **arrays)  # type: ignore[arg-type]
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def load_description(path: Path) -> KerasDescription:
    """Inverse of ``save_description``. Raises ArtefactError for a missing or damaged file."""
    try:
        with np.load(path) as stored:
            header = json.loads(str(stored["header"]))
            if header["format"] != FORMAT:
                raise ValueError(f"its format is {header['format']}, not {FORMAT}")
            return KerasDescription(
                header["input_name"],
                tuple(header["input_shape"]),
                _type(header["input_type"]),
                tuple(_node_from_dict(raw, stored) for raw in header["nodes"]),
                header["output"],
                None if header["output_order"] is None else tuple(header["output_order"]),
            )
    except (OSError, EOFError, ValueError, KeyError, TypeError, zipfile.BadZipFile, FixedPointError) as error:
        raise ArtefactError(
            f"{path} is no readable description of a QKeras model: {error}",
            hint="it is written beside the model by trigger-prune qkeras export",
        ) from error


def completed(found: KerasDescription, model: Path) -> KerasDescription:
    """What the description beside ``model``, if there is one, adds to what was read from the model: input type, masks,
    order of the outputs, torch's names, and types of weights that QKeras holds in wider ones.

    Raises ArtefactError when it is that of another model.
    """
    if not description_file(model).is_file():
        return found
    beside = load_description(description_file(model))
    known = {node.name: node for node in beside.weights}
    shapes = {node.name: node.kernel.shape for node in found.weights}
    if shapes != {name: node.kernel.shape for name, node in known.items()} or found.input_shape != beside.input_shape:
        raise ArtefactError(
            f"{description_file(model)} describes another model than {model}",
            hint="remove it, or write both again with trigger-prune qkeras export",
        )
    nodes = tuple(_with_masks(node, known[node.name]) if isinstance(node, WeightNode) else node for node in found.nodes)
    return replace(found, nodes=nodes, input_type=beside.input_type, output_order=beside.output_order)


def _with_masks(node: WeightNode, known: WeightNode) -> WeightNode:
    same_grid = node.kernel_type.fraction == known.kernel_type.fraction
    fits = same_grid and bool(known.kernel_type.contains(node.kernel * node.kernel_type.lsb).all())
    return replace(
        node,
        kernel_type=known.kernel_type if fits else node.kernel_type,
        # a weight that grew again is kept
        mask=known.mask | (node.kernel != 0),
        bias_odd=known.bias_odd and node.bias is not None and bool(np.all(node.bias % 2)),
        bias_fixed=known.bias_fixed,
        source=known.source,
    )


_ARRAYS = ("kernel", "mask", "bias")
_CLASSES: dict[str, type[Any]] = {"weight": WeightNode, "quant": QuantNode, "plain": PlainNode}
_TYPES = ("kernel_type", "bias_type", "fixed")


def _node_to_dict(node: Node, arrays: dict[str, NDArray[Any]]) -> dict[str, Any]:
    raw: dict[str, Any] = {}
    for key, value in vars(node).items():
        if key in _ARRAYS:
            if value is not None:
                arrays[f"{node.name}/{key}"] = value
        else:
            raw[key] = str(value) if isinstance(value, FixedPoint) else value
    return {"class": next(name for name, kind in _CLASSES.items() if type(node) is kind), **raw}


def _node_from_dict(raw: dict[str, Any], stored: Any) -> Any:
    values: dict[str, Any] = {
        key: tuple(value) if isinstance(value, list) else value for key, value in raw.items() if key != "class"
    }
    values |= {key: _type(values[key]) for key in _TYPES if key in values}
    for key in _ARRAYS:
        if f"{raw['name']}/{key}" in stored:
            values[key] = stored[f"{raw['name']}/{key}"]
    return _CLASSES[raw["class"]](**values)


def _type(text: str | None) -> FixedPoint | None:
    return None if text is None else FixedPoint.parse(text)
