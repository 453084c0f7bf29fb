"""Reuse factor and strategy layer by layer: what the target says is what hls4ml writes and the estimate assumes."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from torch import fx

from trigger_prune.cost.hls.from_spec import design_from_spec
from trigger_prune.errors import ConfigError, ExportError
from trigger_prune.export.hls4ml_project import write_hls4ml_project
from trigger_prune.quantize.describe import describe_network
from trigger_prune.target import LayerLayout, Target


def _reuse_factors(project: Path) -> list[tuple[str, int]]:
    """Strategy and reuse factor of every dense layer, in the order in which the firmware calls them."""
    text = (project / "firmware" / "parameters.h").read_text()
    blocks = re.findall(r"struct config\d+ : nnet::dense_config \{.*?\n\};", text, re.S)
    result = []
    for block in blocks:
        strategy = re.search(r"strategy = nnet::(\w+);", block)
        factor = re.search(r"reuse_factor = (\d+);", block)
        assert strategy and factor
        result.append((strategy[1], int(factor[1])))
    return result


def test_every_layer_gets_its_own_layout(mlp: fx.GraphModule, tmp_path: Path) -> None:
    first, second, _ = [layer.name for layer in describe_network(mlp).layers]
    target = Target(layers=(LayerLayout(first, "Latency", 4), LayerLayout(second, "Resource", 8)))
    project = write_hls4ml_project(mlp, tmp_path / "project", target, "tagger")
    assert _reuse_factors(project) == [("latency", 4), ("resource", 8), ("latency", 1)]
    design = design_from_spec(describe_network(mlp), target)
    dense = [(layer.strategy, layer.reuse_factor) for layer in design.layers if layer.kind == "dense"]
    assert dense == [("latency", 4), ("resource", 8), ("latency", 1)]


def test_an_impossible_factor_of_one_layer_is_refused(mlp: fx.GraphModule, tmp_path: Path) -> None:
    second = describe_network(mlp).layers[1].name
    target = Target(layers=(LayerLayout(second, "Resource", 7),))
    with pytest.raises(ExportError, match=f"reuse factor 7 of layer '{second}'"):
        write_hls4ml_project(mlp, tmp_path / "project", target, "tagger")


def test_a_layer_that_does_not_exist_is_named(mlp: fx.GraphModule, tmp_path: Path) -> None:
    target = Target(layers=(LayerLayout("dense9", "Latency", 2),))
    with pytest.raises(ConfigError, match="dense9"):
        design_from_spec(describe_network(mlp), target)
    with pytest.raises(ExportError, match="dense9"):
        write_hls4ml_project(mlp, tmp_path / "project", target, "tagger")


def test_a_target_survives_plain_values_and_old_ones_keep_their_form() -> None:
    target = Target(layers=(LayerLayout("dense1", "Resource", 8),))
    assert Target.from_dict(json.loads(json.dumps(target.to_dict()))) == target
    assert set(Target().to_dict()) == {"part", "clock_period_ns", "strategy", "reuse_factor", "io_type"}
