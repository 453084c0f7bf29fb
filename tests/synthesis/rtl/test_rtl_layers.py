import numpy as np
import pytest
import torch
from rtl_networks import fill, networks, quantizer
from torch import nn

from trigger_prune.cost.report import LayerCost
from trigger_prune.fixed_point import FixedPoint
from trigger_prune.synthesis.rtl.cost import RtlCost
from trigger_prune.synthesis.rtl.layers import share_out
from trigger_prune.synthesis.rtl.trace import trace_layers, trace_network
from trigger_prune.target import Target

INPUT = FixedPoint(8, 3)


@pytest.mark.parametrize("sparsity", [0.0, 0.6])
@pytest.mark.parametrize("name", sorted(networks()))
def test_the_layers_make_up_the_whole_network(name, sparsity):
    network, shape = networks()[name]
    fill(network, sparsity=sparsity)
    comb, costs = trace_layers(network, INPUT, shape)
    assert comb.cost == trace_network(network, INPUT, shape).cost
    # Before alkaid's last clean-up the graph is a little larger.
    assert sum(costs.values()) == pytest.approx(comb.cost, rel=0.01)
    weight_layers = [n for n, m in network.named_modules() if isinstance(m, nn.Linear | nn.Conv1d | nn.Conv2d)]
    assert list(costs) == weight_layers


def test_a_layer_costs_what_the_network_that_ends_after_it_costs_more():
    network = fill(
        nn.Sequential(nn.Linear(6, 5), nn.ReLU(), quantizer(), nn.Linear(5, 4), nn.ReLU(), quantizer(), nn.Linear(4, 2))
    )
    _, costs = trace_layers(network, INPUT, (6,))
    prefixes = [float(trace_network(network[:end], INPUT, (6,)).cost) for end in (3, 6, 7)]
    assert list(costs.values()) == pytest.approx(np.diff([0.0, *prefixes]).tolist(), rel=0.01)


def test_a_neuron_that_nothing_reads_costs_nothing():
    network = fill(nn.Sequential(nn.Linear(6, 4), nn.ReLU(), quantizer(), nn.Linear(4, 2)))
    _, before = trace_layers(network, INPUT, (6,))
    with torch.no_grad():
        network[3].weight[:, 1] = 0
    _, unread = trace_layers(network, INPUT, (6,))
    with torch.no_grad():
        network[0].weight[1] = 0
        network[0].bias[1] = 0
    _, gone = trace_layers(network, INPUT, (6,))
    # What is left differs by the sums that the solver may share with the neuron before it is found to be dead.
    assert unread["0"] == pytest.approx(gone["0"], rel=0.1)
    assert unread["0"] < 0.9 * before["0"]


def test_logic_before_the_first_layer_has_a_name_of_its_own():
    network = fill(nn.Sequential(quantizer(4, 2, signed=True, rounding="AP_RND"), nn.Linear(4, 2)))
    _, costs = trace_layers(network, INPUT, (4,))
    assert list(costs) == ["input", "1"]
    assert costs["input"] > 0


def test_whole_luts_that_add_up():
    rng = np.random.default_rng(0)
    for _ in range(50):
        costs = {str(i): float(c) for i, c in enumerate(rng.random(int(rng.integers(1, 8))) * rng.integers(0, 2))}
        total = int(rng.integers(0, 1000))
        shares = share_out(total, costs)
        if not any(costs.values()):
            assert shares == ()
            continue
        assert sum(layer.lut for layer in shares) == total
        for layer in shares:
            assert abs(layer.lut - total * costs[layer.name] / sum(costs.values())) < 1
    assert share_out(10, {"a": 1.0, "b": 2.0}) == (LayerCost("a", lut=3), LayerCost("b", lut=7))


def test_the_report_says_that_layers_are_not_measured():
    network, shape = networks()["mlp"]
    report = RtlCost().measure_frozen(fill(network, sparsity=0.6), INPUT, shape, Target())
    assert [layer.name for layer in report.layers] == ["0", "3"]
    assert sum(layer.lut for layer in report.layers) == report.lut
    assert all(layer.ff is None and layer.latency_cycles is None for layer in report.layers)
    assert "no measurement per layer" in report.details["layers_note"]
