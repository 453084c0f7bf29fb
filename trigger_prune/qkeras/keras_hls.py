"""hls4ml's Keras route, with the type of every wire written out."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path
from typing import Any

import hls4ml
import yaml

from trigger_prune.errors import ExportError
from trigger_prune.fixed_point import FixedPoint
from trigger_prune.qkeras.arithmetic import node_types
from trigger_prune.qkeras.description import KerasDescription, QuantNode, WeightNode
from trigger_prune.target import LayerLayout, Target


def write_project(model: Any, description: KerasDescription, request: dict[str, Any]) -> None:
    """Write the project into ``request["folder"]``; sums keep every bit.

    request   ``folder``, ``name``, ``backend`` and ``target``, a ``Target`` as plain values
    Raises ExportError with hls4ml's message, or where hls4ml would replace a strategy or a reuse factor.
    """
    _require_convertible(description)
    folder = Path(request["folder"])
    target = Target.from_dict(request["target"])
    layouts = [target.layout(node.source or node.name) for node in description.weights]
    try:
        with Path(os.devnull).open("w") as nowhere, contextlib.redirect_stdout(nowhere):
            config = hls4ml.utils.config_from_keras_model(model, granularity="name", backend=request["backend"])
            _write_types(config, description)
            config["Model"] |= {"Strategy": target.strategy, "ReuseFactor": target.reuse_factor}
            for node, layout in zip(description.weights, layouts, strict=True):
                config["LayerName"][node.name] |= {"Strategy": layout.strategy, "ReuseFactor": layout.reuse_factor}
            converted = hls4ml.converters.convert_from_keras_model(
                model,
                hls_config=config,
                output_dir=str(folder),
                project_name=request["name"],
                backend=request["backend"],
                io_type=target.io_type,
                part=target.part,
                clock_period=target.clock_period_ns,
            )
            _require_layout(converted, layouts)
            converted.write()
    except ExportError:
        raise
    except Exception as error:
        # hls4ml raises plain Exception, AssertionError, KeyError and others for what it cannot convert.
        raise ExportError(f"hls4ml cannot convert the QKeras model: {type(error).__name__}: {error}") from error
    _tidy(folder)


def _require_convertible(description: KerasDescription) -> None:
    """hls4ml's Keras front end takes no notice of these, and would give other numbers."""
    if description.input_type is None:
        raise ExportError("the model's input type is not known", hint="give --input-type, e.g. 'ap_fixed<16,6>'")
    for node in description.weights:
        if any(step != 1 for step in node.dilation):
            raise ExportError(f"layer {node.name!r} is dilated, which hls4ml ignores", hint="use dilation 1")


def _write_types(config: dict[str, Any], description: KerasDescription) -> None:
    types = node_types(description)
    layers = config["LayerName"]
    for node in description.nodes:
        if isinstance(node, WeightNode):
            precision = layers[node.name]["Precision"]
            precision |= {"weight": _text(node.kernel_type), "accum": "auto", "result": "auto"}
            if node.bias_type is not None:
                precision["bias"] = _text(node.bias_type)
    for name, fixed in (types | _converted_sums(description, types)).items():
        layers[name].setdefault("Precision", {})["result"] = _text(fixed)


def _converted_sums(description: KerasDescription, types: dict[str, FixedPoint]) -> dict[str, FixedPoint]:
    """Result types of layers whose sums a quantized_bits converts.

    hls4ml 1.3 takes such an activation for a linear one and drops it, type and all, behind a layer whose result type is
    left to it: the layer must convert its sums itself.
    """
    found: dict[str, FixedPoint] = {}
    for node in description.nodes:
        if not isinstance(node, QuantNode) or not node.fixed.signed or node.inputs[0] in types:
            continue
        (source,) = node.inputs
        if sum(source in other.inputs for other in description.nodes) > 1 or source == description.output:
            raise ExportError(
                f"layer {source!r}: hls4ml would drop {node.name!r}, and the sums are used unconverted as well",
                hint="give every use of the layer the same QActivation",
            )
        found[source] = node.fixed
    return found


def _text(fixed: FixedPoint) -> str:
    return str(fixed).replace("ap_", "").replace("AP_", "")


def _require_layout(converted: Any, layouts: list[LayerLayout]) -> None:
    laid_out = [layer for layer in converted.get_layers() if layer.weights and layer.get_attr("strategy") is not None]
    if len(laid_out) != len(layouts):
        raise ExportError(f"hls4ml sees {len(laid_out)} weight layers, the model has {len(layouts)}")
    for layer, wanted in zip(laid_out, layouts, strict=True):
        strategy, factor = layer.get_attr("strategy"), layer.get_attr("reuse_factor")
        if strategy.lower() != wanted.strategy.lower() or factor != wanted.reuse_factor:
            raise ExportError(
                f"hls4ml lays out layer {layer.name!r} with strategy {strategy!r} and reuse factor {factor} instead of "
                f"{wanted.strategy!r} and {wanted.reuse_factor}"
            )


class _PlainLoader(yaml.SafeLoader):
    """Reads hls4ml's own file without running the Python constructors in it."""


_PlainLoader.add_multi_constructor("tag:yaml.org,2002:python/", lambda loader, suffix, node: None)
_PlainLoader.add_multi_constructor("!keras_model", lambda loader, suffix, node: None)


def _tidy(folder: Path) -> None:
    """Make the project portable: hls4ml writes absolute paths and a copy of the model, which it cannot read back."""
    path = folder / "hls4ml_config.yml"
    config = yaml.load(path.read_text(), _PlainLoader)
    config |= {"KerasModel": None, "OutputDir": "."}
    path.write_text(yaml.safe_dump(config, sort_keys=True))
    (folder / "keras_model.keras").unlink(missing_ok=True)
