from contextlib import nullcontext
from itertools import pairwise

import numpy as np
import pytest
import torch
from rtl_networks import fill, networks, quantizer
from torch import nn

from trigger_prune.errors import CostError, ToolError, UnsupportedLayerError, VerificationError
from trigger_prune.fixed_point import FixedPoint
from trigger_prune.synthesis.rtl import trace as trace_module
from trigger_prune.synthesis.rtl.trace import check_trace, predict, probe_events, trace_network, without_msb_wrap_pass


def by_torch(network: nn.Module, events: np.ndarray) -> np.ndarray:
    with torch.no_grad():
        return network.double()(torch.from_numpy(events)).numpy().reshape(len(events), -1)


@pytest.mark.parametrize("input_type", [FixedPoint(8, 3), FixedPoint(4, 4, False)], ids=str)
@pytest.mark.parametrize("sparsity", [0.0, 0.7])
@pytest.mark.parametrize("name", networks())
def test_the_adder_graph_gives_the_bits_of_torch(name, sparsity, input_type):
    network, shape = networks()[name]
    fill(network, sparsity=sparsity)
    if name == "deep_sets":
        nn.init.constant_(network[3].weight, 0.25)
    events = probe_events(input_type, shape, n_random=500, seed=3)
    comb = trace_network(network, input_type, shape)
    assert comb.shape[0] == np.prod(shape)
    assert np.array_equal(predict(comb, events), by_torch(network, events))


def test_a_symbolically_traced_graph_module_is_traced_like_its_source():
    network, shape = networks()["residual"]
    fill(network)
    source = trace_network(network, FixedPoint(8, 3), shape)
    graph = trace_network(torch.fx.symbolic_trace(network), FixedPoint(8, 3), shape)
    assert graph.cost == source.cost
    check_trace(graph, network, FixedPoint(8, 3), shape)


def test_random_sparse_networks_with_dead_neurons_are_exact():
    # Dead and constant neurons are where alkaid's constant folding, table look-ups and solver fail unaided.
    for seed in range(60):
        generator = np.random.default_rng(seed)
        widths = [int(w) for w in generator.choice([1, 2, 4, 7], size=3)]
        modules: list[nn.Module] = []
        for n_in, n_out in pairwise(widths):
            modules += [
                nn.Linear(n_in, n_out),
                nn.ReLU(),
                quantizer(
                    int(generator.choice([1, 2, 4])),
                    int(generator.choice([-2, 0, 1, 3])),
                    signed=bool(generator.integers(2)),
                    rounding=str(generator.choice(["AP_TRN", "AP_RND", "AP_RND_CONV"])),
                    overflow=str(generator.choice(["AP_SAT", "AP_WRAP"])),
                ),
            ]
        network = fill(nn.Sequential(*modules, nn.Linear(widths[-1], 3)), sparsity=0.7, seed=seed)
        input_type = FixedPoint(6, 3, bool(seed % 2))
        assert check_trace(trace_network(network, input_type, (widths[0],)), network, input_type, (widths[0],)) > 300


def test_dead_input_dead_neuron_and_constant_output():
    network = fill(nn.Sequential(nn.Linear(4, 4), nn.ReLU(), quantizer(), nn.Linear(4, 3)))
    with torch.no_grad():
        network[0].weight[:, 1] = 0  # input 1 is used nowhere
        network[0].weight[2] = 0  # neuron 2 is a constant
        network[3].weight[1] = 0  # output 1 is its bias
        network[3].weight[2] = 0
        network[3].bias[2] = 0  # output 2 is zero
    comb = trace_network(network, FixedPoint(8, 3), (4,))
    check_trace(comb, network, FixedPoint(8, 3), (4,))
    assert comb.inp_kifs.sum(axis=0).tolist() == [8, 0, 8, 8]
    got = predict(comb, probe_events(FixedPoint(8, 3), (4,)))
    assert np.all(got[:, 1] == network[3].bias[1].item())
    assert np.all(got[:, 2] == 0)


def test_a_network_without_weights_is_its_constant():
    network = fill(nn.Sequential(nn.Linear(3, 4), nn.ReLU(), quantizer(4, 1, overflow="AP_WRAP"), nn.Linear(4, 2)))
    with torch.no_grad():
        network[0].weight.zero_()
        network[0].bias[:] = torch.tensor([2.75, 0.5, -1.0, 3.0])  # wraps at 2
    events = probe_events(FixedPoint(6, 3), (3,))
    got = predict(trace_network(network, FixedPoint(6, 3), (3,)), events)
    assert np.array_equal(got, by_torch(network, events))


def one_bit_network() -> tuple[nn.Module, FixedPoint, np.ndarray]:
    network = nn.Sequential(nn.Linear(1, 1, bias=False), nn.ReLU(), quantizer(1, 1, overflow="AP_WRAP")).eval()
    nn.init.constant_(network[0].weight, 2.0)
    input_type = FixedPoint(5, 2)
    return network, input_type, np.arange(-16, 16)[:, None] * input_type.lsb


def test_one_bit_activations_are_right_only_without_alkaids_faulty_pass(monkeypatch):
    network, input_type, events = one_bit_network()
    expected = np.floor(np.maximum(2 * events, 0)) % 2  # ap_ufixed<1,1,AP_TRN,AP_WRAP>, by hand
    assert np.array_equal(predict(trace_network(network, input_type, (1,)), events), expected)
    monkeypatch.setattr(trace_module, "without_msb_wrap_pass", nullcontext)
    unpatched = trace_network(network, input_type, (1,))
    assert int((predict(unpatched, events) != expected).sum()) == 8
    with pytest.raises(VerificationError, match="differs from the network"):
        check_trace(unpatched, network, input_type, (1,))


def test_the_pass_is_put_back_even_after_an_error():
    from alkaid.trace.passes import canon

    original = canon.canonicalize_msb_wraps
    with pytest.raises(RuntimeError), without_msb_wrap_pass():
        assert canon.canonicalize_msb_wraps is not original
        raise RuntimeError
    assert canon.canonicalize_msb_wraps is original


def test_an_alkaid_without_the_pass_is_refused(monkeypatch):
    from alkaid.trace.passes import canon

    monkeypatch.delattr(canon, "canonicalize_msb_wraps")
    with pytest.raises(ToolError, match="canonicalize_msb_wraps"):
        trace_network(*networks()["mlp"][:1], FixedPoint(8, 3), (16,))


def test_an_alkaid_that_no_longer_calls_the_pass_is_refused(monkeypatch):
    from alkaid.trace.passes import canon

    monkeypatch.setattr(canon, "canonicalize", lambda comb: comb)
    with pytest.raises(ToolError, match="canonicalize_msb_wraps"), without_msb_wrap_pass():
        pass


def test_unknown_layers_are_named():
    class Odd(nn.Module):
        def forward(self, x):
            return torch.linalg.vector_norm(x, dim=1)

    with pytest.raises(UnsupportedLayerError, match="vector_norm"):
        trace_network(Odd(), FixedPoint(4, 2), (3,))


def test_events_of_another_width_are_refused():
    network, shape = networks()["mlp"]
    comb = trace_network(fill(network), FixedPoint(8, 3), shape)
    with pytest.raises(CostError, match="takes 16 inputs, the events have 15"):
        predict(comb, np.zeros((4, 15)))
    assert predict(comb, np.zeros((0, 16))).shape == (0, 5)


def test_probe_events_reach_both_ends_of_the_type():
    events = probe_events(FixedPoint(5, 2), (3,))
    assert events.min() == -2.0
    assert events.max() == 1.875
    assert FixedPoint(5, 2).contains(events).all()
