from types import SimpleNamespace

import numpy as np
import pytest
import torch

from trigger_prune.fixed_point import FixedPoint
from trigger_prune.models.conv1d import Conv1dNet
from trigger_prune.models.conv2d import Conv2dNet
from trigger_prune.models.deep_sets import DeepSets
from trigger_prune.models.mlp import Mlp
from trigger_prune.quantize.convert import quantize_model
from trigger_prune.quantize.freeze import freeze
from trigger_prune.quantize.layers import weight_layers
from trigger_prune.synthesis.rtl.cost import RtlCost
from trigger_prune.synthesis.rtl.simulate import rtl_outputs
from trigger_prune.synthesis.rtl.trace import probe_events, trace_network
from trigger_prune.target import Target

INPUT = FixedPoint(8, 3)
PRECISION = SimpleNamespace(weight_bits=6, activation_bits=6, rounding="AP_TRN")

DESIGNS = {
    "mlp": (Mlp((10,), 4, hidden=(12, 8)), (10,)),
    "conv2d": (Conv2dNet((1, 5, 5), 4, channels=(3,), hidden=(6,)), (1, 5, 5)),
    "conv1d": (Conv1dNet((2, 8), 4, channels=(3,), hidden=(6,)), (2, 8)),
    "deep_sets": (DeepSets((3, 4), 4, phi=(8, 6), rho=(8,)), (3, 4)),
}


@pytest.mark.parametrize("name", sorted(DESIGNS))
def test_the_models_of_the_toolkit_are_measured_and_simulate_what_torch_computes(name, tmp_path):
    torch.manual_seed(3)
    model, shape = DESIGNS[name]
    for module in model.modules():  # batch normalisation that does something
        if hasattr(module, "running_var") and module.running_var is not None:
            torch.nn.init.uniform_(module.running_var, 0.5, 2.0)
            torch.nn.init.normal_(module.running_mean, 0.0, 0.3)
    events = torch.from_numpy(INPUT.quantize(torch.randn(100, *shape).numpy())).float()
    network = quantize_model(model.eval(), events, INPUT, PRECISION)
    for layer in weight_layers(network).values():
        if layer.weight.requires_grad:
            magnitude = layer.weight.detach().abs()
            layer.weight_mask.copy_(magnitude >= torch.quantile(magnitude, 0.6))
    cost = RtlCost(pipeline_stages=4)
    report = cost.measure(network, Target())
    assert report.latency_cycles == 5
    assert report.lut > 200
    assert (report.dsp, report.bram18) == (0, 0)
    assert {layer.name for layer in report.layers} == set(weight_layers(network))

    frozen = freeze(network, double=True)
    comb = trace_network(frozen, INPUT, shape)
    project = cost.write(comb, tmp_path, Target())
    assert project.register_bits >= report.ff
    probes = probe_events(INPUT, shape, n_random=100)
    with torch.no_grad():
        expected = frozen(torch.from_numpy(probes)).numpy()
    assert len(np.unique(expected, axis=0)) > 10
    assert np.array_equal(rtl_outputs(project, probes, simulator="yosys").outputs, expected)
