"""Errors of the ratio of two estimates of one layer that differ in the reuse factor alone.

What both estimates have wrong in common (the compiler, the data types, the input) cancels in their ratio. How much that
is, the sweeps tell that hold the same layer at several reuse factors: wa-hls4ml-search and N-TORC.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from itertools import combinations

from trigger_prune.cost.calibration.prediction_interval import interval, ratio, widest_seen_half_width
from trigger_prune.cost.calibration.predictions import Prediction, by_quantity
from trigger_prune.cost.calibration.samples import Samples
from trigger_prune.cost.hls import dense_resource
from trigger_prune.cost.hls.design import HlsLayer, HlsSetting
from trigger_prune.cost.hls.shared_error import RATIO_OF, RATIO_QUANTITIES

_UNIT = 1e6
"""Counts that stand for a ratio of 1: far above the one that ``ratio`` adds to small counts."""


def ratio_errors(samples: Samples, predictions: Iterable[Prediction]) -> list[Prediction]:
    """One pair per two reuse factors above 1 of a layer: ``true`` / ``predicted`` is the error of the ratio.

    ``network`` is the layer. ``predictions`` are of held-out samples.
    """
    layers = {o.fingerprint: (s.layer, s.setting) for s, o in zip(samples.layers, samples.layer_origins, strict=True)}
    alike: dict[tuple[object, ...], list[tuple[int, Prediction]]] = {}
    for found in predictions:
        if found.family != dense_resource.FAMILY or found.quantity not in RATIO_QUANTITIES:
            continue
        layer, setting = layers[found.fingerprint]
        if layer.reuse_factor > 1 and found.true > 0:
            key = (found.quantity, found.project, *_but_reuse_factor(layer, setting))
            alike.setdefault(key, []).append((layer.reuse_factor, found))
    pairs = []
    for key, group in alike.items():
        for (_, first), (_, second) in combinations(sorted(group, key=lambda entry: entry[0]), 2):
            error = math.log(ratio(first) / ratio(second))
            pairs.append(_as_prediction(first, str(key), error))
    return pairs


def ratio_spread(samples: Samples, predictions: Sequence[Prediction]) -> dict[str, dict[str, tuple[float, float]]]:
    """Factors of 90 % on the ratio, as one family of a calibration; empty without such layers.

    As the sweeps are few, at least those of the worst.
    """
    found = by_quantity(ratio_errors(samples, predictions))
    if not found:
        return {}
    spread = {}
    for quantity, pairs in found.items():
        half = max(math.log(interval(pairs)[1]), widest_seen_half_width(pairs))
        spread[quantity] = (math.exp(-half), math.exp(half))
    return {RATIO_OF[dense_resource.FAMILY]: spread}


def _but_reuse_factor(layer: HlsLayer, setting: HlsSetting) -> tuple[object, ...]:
    weights = layer.weight_type.width if layer.weight_type else None
    return layer.n_in, layer.n_out, layer.input_type.width, weights, layer.input_size, str(setting)


def _as_prediction(like: Prediction, network: str, error: float) -> Prediction:
    return Prediction(
        RATIO_OF[like.family],
        like.quantity,
        like.name,
        like.project,
        network,
        like.tool,
        like.fingerprint,
        _UNIT,
        _UNIT * math.exp(error),
    )
