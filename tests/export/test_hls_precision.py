"""The strings of every layer, and hls4ml's C simulation of the float network with exactly those strings."""

from __future__ import annotations

import re
from pathlib import Path

import hls4ml
import numpy as np
import pytest
import small_networks
import torch
import yaml
from torch import fx, nn

from trigger_prune.errors import ExportError
from trigger_prune.export.hls4ml_project import project_inputs, write_hls4ml_project
from trigger_prune.export.hls_precision import (
    float_twin,
    layer_precisions,
    precision_config,
    write_precision_config,
)
from trigger_prune.export.quiet import quiet
from trigger_prune.fixed_point import FixedPoint
from trigger_prune.quantize.accumulators import accumulator_type
from trigger_prune.quantize.convert import input_shape_of
from trigger_prune.quantize.describe import describe_network
from trigger_prune.quantize.layers import weight_layers
from trigger_prune.target import Target
from trigger_prune.train.evaluate import predict
from trigger_prune.verify.csim import compile_csim, run_csim

TARGET = Target(part="xcvu9p-flga2104-2L-e", clock_period_ns=2.5)


class _Conv(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(2, 3, (3, 3))
        self.relu = nn.ReLU()
        self.pool = nn.MaxPool2d((2, 2))
        self.flat = nn.Flatten()
        self.head = nn.Linear(3 * 2 * 2, 2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(self.flat(self.pool(self.relu(self.conv(x)))))


class _Linear(nn.Module):
    """A quantiser without a ReLU in front, a layer without bias."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Linear(5, 6, bias=False)
        self.second = nn.Linear(6, 4)
        self.relu = nn.ReLU()
        self.head = nn.Linear(4, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(self.relu(self.second(self.first(x))))


def conv_network(**options: object) -> fx.GraphModule:
    torch.manual_seed(4)
    return small_networks.quantised(_Conv(), (2, 6, 6), **options)


def linear_network(**options: object) -> fx.GraphModule:
    torch.manual_seed(5)
    return small_networks.quantised(_Linear(), (5,), **options)


def _types(project: Path) -> dict[str, FixedPoint]:
    text = (project / "firmware" / "defines.h").read_text()
    found = re.findall(r"typedef (ap_u?fixed<[^>]*>) (\w+);", text)
    return {name: FixedPoint.parse(kind) for kind, name in found}


def _project_of_twin(network: fx.GraphModule, folder: Path) -> Path:
    """hls4ml's project of the float network, every precision given by ``precision_config``."""
    config = precision_config(network, TARGET)
    with quiet():
        model = hls4ml.converters.convert_from_pytorch_model(
            float_twin(network),
            input_shape=tuple(input_shape_of(network)),
            hls_config={**config, "InputShape": tuple(input_shape_of(network))},
            output_dir=str(folder),
            project_name="twin",
            backend="Vitis",
            io_type="io_parallel",
            part=TARGET.part,
            clock_period=TARGET.clock_period_ns,
        )
        # the file of the project would hold the network as a pickled Python object
        model.config.config |= {"PytorchModel": None, "InputShape": list(input_shape_of(network))}
        model.config.config["HLSConfig"] |= {"InputShape": None, "PytorchModel": None}
        model.write()
    return folder


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "rounding"), [("mlp", "AP_TRN"), ("linear", "AP_RND_CONV"), ("conv", "AP_TRN"), ("conv", "AP_RND_CONV")]
)
def test_float_network_with_these_strings_gives_the_bits_of_the_quantised_one(
    name: str, rounding: str, tmp_path: Path
) -> None:
    make = {"mlp": small_networks.mlp, "linear": linear_network, "conv": conv_network}[name]
    network = make(rounding=rounding, weight_bits=4, activation_bits=4)
    project = _project_of_twin(network, tmp_path / "twin")
    features = small_networks.events(small_networks.INPUT_8, 300, *input_shape_of(network))
    compiled = compile_csim(project, tmp_path)
    last = len(input_shape_of(network)) > 1
    simulated = run_csim(compiled, project_inputs(features, last=last), tmp_path, processes=1)
    expected = predict(network, torch.from_numpy(features))
    np.testing.assert_array_equal(simulated, expected)
    # the twin itself is another network: the strings, not its weights, make the bits
    floats = predict(float_twin(network), torch.from_numpy(features))
    assert np.abs(floats - expected).max() > 10 * 2.0**-8


@pytest.mark.parametrize("name", ["mlp", "conv"])
def test_strings_are_the_types_of_the_exported_project(name: str, tmp_path: Path) -> None:
    network = {"mlp": small_networks.mlp, "conv": conv_network}[name]()
    types = _types(write_hls4ml_project(network, tmp_path / "p", TARGET, "tagger"))
    entries = layer_precisions(network)
    weighted = [entry for entry in entries if entry.kind == "weights"]
    assert [fixed for key, fixed in types.items() if key.startswith("weight")] == [e.weight for e in weighted]
    assert [fixed for key, fixed in types.items() if key.startswith("bias")] == [e.bias for e in weighted]
    relus = [entry.result for entry in entries if entry.kind == "relu"]
    assert [fixed for key, fixed in types.items() if re.fullmatch(r"layer\d+_t", key)][: len(relus)] == relus
    # hls4ml's own accumulators assume every weight at its largest; the exact ones are never wider
    own = [fixed for key, fixed in types.items() if key.endswith("accum_t") and fixed.signed]
    for entry, fixed in zip(weighted, own, strict=True):
        assert entry.accum is not None
        assert entry.accum.fraction == fixed.fraction
        assert entry.accum.integer <= fixed.integer


def test_accumulators_are_exact_and_as_narrow_as_possible() -> None:
    network = small_networks.mlp()
    spec = describe_network(network)
    for layer in spec.layers:
        fixed = accumulator_type(layer)
        # brute force: the two worst orders of summation visit every partial extreme
        low, high = spec.input_type.min_code, spec.input_type.max_code
        if layer is not spec.layers[0]:
            assert layer.input_type is not None
            low, high = layer.input_type.min_code, layer.input_type.max_code
        worst = 0
        shift = layer.accumulator_fraction - layer.input_type.fraction - layer.weight_type.fraction
        for row, bias in zip(layer.weight, layer.bias, strict=True):
            products = [(min(w * low, w * high) << shift, max(w * low, w * high) << shift) for w in row.tolist()]
            offset = int(bias) << (layer.accumulator_fraction - layer.bias_type.fraction)
            worst = max(
                worst,
                sum(max(up, 0) for _, up in products) + max(offset, 0),
                -(sum(min(down, 0) for down, _ in products) + min(offset, 0)),
            )
        assert -fixed.min_code >= worst
        assert fixed.max_code >= worst
        assert 2 ** (fixed.width - 2) - 1 < worst  # a bit less would not hold it


def test_every_layer_has_every_string_that_hls4ml_asks_for() -> None:
    network = conv_network()
    config = precision_config(network, TARGET)["LayerName"]
    assert list(config) == ["x", "conv", "relu", "pool", "flat", "head"]
    assert set(config["conv"]["Precision"]) == {"weight", "bias", "result", "accum"}
    assert set(config["relu"]["Precision"]) == {"result", "table"}
    relu = next(entry for entry in layer_precisions(network) if entry.name == "relu")
    assert config["relu"]["Precision"]["result"] == f"ufixed<6,{relu.result.integer},TRN,SAT>"
    assert "auto" not in str(config)


def test_the_file_is_what_hls4ml_reads(tmp_path: Path) -> None:
    network = small_networks.mlp()
    path = write_precision_config(network, TARGET, tmp_path / "precision.yml")
    assert yaml.safe_load(path.read_text()) == precision_config(network, TARGET)
    assert [entry.name for entry in tmp_path.iterdir()] == ["precision.yml"]
    assert FixedPoint.parse(yaml.safe_load(path.read_text())["LayerName"]["head"]["Precision"]["weight"]) == (
        weight_layers(network)["head"].weight_type
    )


def test_a_sum_of_wires_has_no_string() -> None:
    class Residual(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first = nn.Linear(4, 4)
            self.second = nn.Linear(4, 4)
            self.head = nn.Linear(4, 2)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            y = torch.relu(self.first(x))
            return self.head(y + self.second(y))

    with pytest.raises(ExportError, match="add"):
        layer_precisions(small_networks.quantised(Residual(), (4,)))
