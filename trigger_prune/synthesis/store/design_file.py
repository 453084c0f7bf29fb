"""An ``HlsDesign`` without weights as JSON text: what was synthesised, where the network itself is not shared."""

from __future__ import annotations

import json
from dataclasses import asdict, fields
from typing import Any, get_args

from trigger_prune.cost.hls.design import HlsDesign, HlsLayer, HlsSetting, IoType, LayerKind, Strategy
from trigger_prune.cost.hls.features import FEATURE_NAMES, LayerCounts, TreeCounts, WeightFeatures
from trigger_prune.errors import ArtefactError, FixedPointError
from trigger_prune.fixed_point import FixedPoint

_TYPES = ("input_type", "output_type", "accum_type", "weight_type", "bias_type")
_REQUIRED_TYPES = ("input_type", "output_type")
_SIZES = ("kernel", "stride", "input_size", "output_size")
_COUNTS = ("n_in", "n_out", "reuse_factor", "table_size", "parallelization_factor")
_WORDS = ("name", "kind", "strategy", "implementation")


def design_to_json(design: HlsDesign) -> str:
    """JSON text. Raises ArtefactError for a design that holds weights (``cost.hls.weightless`` takes them out)."""
    if any(layer.weight is not None or layer.bias is not None for layer in design.layers):
        raise ArtefactError("a design is stored without weights, and this one has some")
    raw = {"setting": asdict(design.setting), "layers": [_layer_values(layer) for layer in design.layers]}
    return json.dumps(raw, separators=(",", ":"), allow_nan=False)


def design_from_json(text: str) -> HlsDesign:
    """Inverse of ``design_to_json``. Raises ArtefactError on anything else."""
    try:
        raw = json.loads(text)
        setting = HlsSetting(**raw["setting"])
        if setting.tool not in ("vivado_hls", "vitis_hls") or setting.io_type not in get_args(IoType):
            raise ValueError(f"no setting of a compiler: {setting}")
        _ = setting.release
        return HlsDesign(tuple(_layer(entry) for entry in raw["layers"]), setting)
    except (ValueError, TypeError, KeyError, AttributeError, OverflowError, RecursionError, FixedPointError) as error:
        raise ArtefactError(f"not a stored design: {error}") from None


def _layer_values(layer: HlsLayer) -> dict[str, Any]:
    types = {name: getattr(layer, name) for name in _TYPES}
    return {
        **{name: getattr(layer, name) for name in (*_WORDS, *_COUNTS)},
        **{name: None if fixed is None else str(fixed) for name, fixed in types.items()},
        **{name: list(getattr(layer, name)) for name in _SIZES},
        "n_zeros": layer.n_zeros,
        "features": None if layer.features is None else asdict(layer.features),
    }


def _layer(raw: dict[str, Any]) -> HlsLayer:
    if raw["kind"] not in get_args(LayerKind) or raw["strategy"] not in get_args(Strategy):
        raise ValueError(f"no layer of kind {raw['kind']!r} and strategy {raw['strategy']!r}")
    values: dict[str, Any] = {name: str(raw[name]) for name in _WORDS}
    values |= {name: _whole(raw[name]) for name in _COUNTS}
    values |= {name: tuple(_whole(size) for size in raw[name]) for name in _SIZES}
    for name in _TYPES:
        if raw[name] is not None or name in _REQUIRED_TYPES:
            values[name] = FixedPoint.parse(raw[name])
    zeros, features = raw["n_zeros"], raw["features"]
    return HlsLayer(
        **values,
        n_zeros=None if zeros is None else _whole(zeros),
        features=None if features is None else _features(features),
    )


def _features(raw: dict[str, Any]) -> WeightFeatures:
    if set(raw) != {entry.name for entry in fields(WeightFeatures)}:
        raise ValueError("its counts are those of another version")
    values: dict[str, Any] = {name: _whole(raw[name]) for name in FEATURE_NAMES if name != "constant_bits"}
    values["counts"] = None if raw["counts"] is None else _counts(raw["counts"])
    return WeightFeatures(constant_bits=float(raw["constant_bits"]), **values)


def _counts(raw: dict[str, Any]) -> LayerCounts:
    outputs = tuple((_whole(a), _whole(b), _whole(c), _whole(d)) for a, b, c, d in raw["outputs"])
    trees, scales = raw["trees"], None
    if raw["scales"] is not None:
        many, two, biases = raw["scales"]
        scales = (_whole(many), _whole(two), _whole(biases))
    return LayerCounts(
        outputs=outputs,
        constant_widths=tuple((_whole(bits), _whole(number)) for bits, number in raw["constant_widths"]),
        adder_value_bits=_whole(raw["adder_value_bits"]),
        multiplier_widths=tuple((_whole(bits), _whole(number)) for bits, number in raw["multiplier_widths"]),
        trees=None if trees is None else _trees(trees),
        scales=scales,
    )


def _trees(raw: dict[str, Any]) -> TreeCounts:
    values: dict[str, Any] = {name: tuple(map(_whole, raw[name])) for name in ("level_bits", "live_bits")}
    values |= {name: _whole(raw[name]) for name in ("adder_bits", "terms", "inputs", "varying")}
    return TreeCounts(**values)


def _whole(value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value < 1 << 40:
        raise ValueError(f"{value!r} is no count")
    return value
