"""Designs without weights as text: what was written comes back, and nothing else is taken for one."""

from __future__ import annotations

import json
from dataclasses import fields, replace

import numpy as np
import pytest

from trigger_prune.cost.hls.design import HlsDesign, HlsLayer, HlsSetting
from trigger_prune.cost.hls.model import design_hash
from trigger_prune.cost.hls.weightless import without_weights
from trigger_prune.errors import ArtefactError
from trigger_prune.fixed_point import FixedPoint, Overflow, Rounding
from trigger_prune.synthesis.store.design_file import design_from_json, design_to_json

VALUE = FixedPoint(10, 4, True, Rounding.AP_RND_CONV, Overflow.AP_SAT)
SETTING = HlsSetting("vitis_hls", "2023.2", "xcvu13p-flga2577-2-e", "virtexuplus", 2.5, 0.7, "io_stream", "dsp")


def design() -> HlsDesign:
    rng = np.random.default_rng(0)
    codes = rng.integers(-500, 500, (4, 3, 3))
    conv = HlsLayer(
        "conv", "conv1d", 3, 4, VALUE, FixedPoint(24, 12), "latency", 1, FixedPoint(24, 12), codes, FixedPoint(10, 2),
        rng.integers(-9, 9, 4), FixedPoint(8, 3), 7, None, (3,), (1,), (12,), (10,), parallelization_factor=2,
    )  # fmt: skip
    wide, matrix = FixedPoint(20, 8), rng.integers(-7, 8, (5, 8))
    dense = HlsLayer("fc", "dense", 8, 5, VALUE, wide, "resource", 4, wide, weight=matrix, weight_type=FixedPoint(4, 1))
    added = replace(dense, name="da", strategy="distributed_arithmetic", reuse_factor=1)
    scale = HlsLayer("bn", "batchnorm", 5, 5, wide, VALUE, weight=matrix[0, :5], weight_type=FixedPoint(4, 1))
    softmax = HlsLayer("softmax", "softmax", 5, 5, VALUE, VALUE, table_size=512, implementation="latency")
    return without_weights(HlsDesign((conv, dense, added, scale, softmax), SETTING))


def test_a_design_comes_back() -> None:
    written = design()
    again = design_from_json(design_to_json(written))
    assert design_hash(again) == design_hash(written)
    assert again.setting == SETTING
    for old, new in zip(written.layers, again.layers, strict=True):
        for entry in fields(HlsLayer):
            assert getattr(old, entry.name) == getattr(new, entry.name), (old.name, entry.name)


def test_weights_are_refused() -> None:
    weighted = replace(design().layers[0], weight=np.ones((4, 3, 3), dtype=np.int64))
    with pytest.raises(ArtefactError, match="without weights"):
        design_to_json(HlsDesign((weighted,), SETTING))
    biased = replace(design().layers[0], bias=np.ones(4, dtype=np.int64))
    with pytest.raises(ArtefactError, match="without weights"):
        design_to_json(HlsDesign((biased,), SETTING))


def test_what_is_no_design_is_refused() -> None:
    text = design_to_json(design())
    plain = json.loads(text)
    broken = ["", "[]", "{}", text[: len(text) // 2], text.replace("2023.2", "today"), text.replace("vitis_hls", "gcc")]
    broken += [text.replace('"dense"', '"dance"'), text.replace("ap_fixed", "float"), text.replace('"u3"', '"u4"')]
    for path, value in (
        (("layers", 0, "n_in"), -3),
        (("layers", 0, "n_out"), 2.5),
        (("layers", 0, "kernel"), ["3"]),
        (("layers", 0, "input_type"), None),
        (("layers", 0, "features", "u3"), True),
        (("layers", 0, "features", "counts", "outputs"), [[1, 2, 3]]),
        (("layers", 2, "features", "counts", "trees", "terms"), None),
        (("layers", 3, "features", "counts", "scales"), [1, 2]),
        (("layers", 1, "features"), 5),
        (("setting", "surprise"), 1),
    ):
        changed = json.loads(text)
        place = changed
        for step in path[:-1]:
            place = place[step]
        place[path[-1]] = value
        broken.append(json.dumps(changed))
    assert plain["layers"][2]["features"]["counts"]["trees"]["terms"] > 0
    for each in broken:
        with pytest.raises(ArtefactError, match="not a stored design"):
            design_from_json(each)
