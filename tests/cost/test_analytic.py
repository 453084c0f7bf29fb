"""AnalyticCost: closed forms, invariances, and networks that were really mapped."""

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from trigger_prune.cost import analytic
from trigger_prune.cost.analytic import AnalyticCost
from trigger_prune.cost.network import NetworkSpec, WeightLayer
from trigger_prune.cost.report import CostStage, HardwareReport
from trigger_prune.errors import CostError
from trigger_prune.fixed_point import FixedPoint, Overflow, Rounding
from trigger_prune.target import Target

WEIGHT = FixedPoint(8, 2, True, Rounding.AP_RND_CONV, Overflow.AP_SAT)
INPUT = FixedPoint(8, 3, False, Rounding.AP_TRN, Overflow.AP_SAT)
TARGET = Target(clock_period_ns=2.5)


def layer(weight, bias=None, input_type=INPUT, output_type=None, **changes):
    codes = np.array(weight)
    bias = np.zeros(len(codes), dtype=np.int64) if bias is None else np.array(bias)
    relu = output_type is not None
    made = WeightLayer("fc", "dense", codes, WEIGHT, bias, WEIGHT, input_type, output_type, relu, 1)
    return replace(made, **changes)


def network(*layers):
    return NetworkSpec(layers, layers[0].input_type, (layers[0].weight.shape[1],), len(layers[-1].weight))


def estimate(*layers, **arguments):
    return AnalyticCost(**arguments).estimate(network(*layers), TARGET)


def test_one_adder():
    """x + y of 8 bits: one 8-bit adder that carries into a ninth; every input is used once."""
    report = estimate(layer([[1, 1]]))
    assert report.lut == round(analytic.ADDER_LUT * 9)
    assert report.ff == 8 + 8 + 9
    assert (report.latency_cycles, report.ii, report.dsp, report.bram18) == (2, 1, 0, 0)
    assert report.latency_ns == 5.0
    assert report.stage is CostStage.ANALYTIC


def test_sharing_law():
    """Sixteen equal rows use every input sixteen times."""
    one, sixteen = estimate(layer([[1, 1]] * 1)), estimate(layer([[1, 1]] * 16))
    assert one.details["layers"][0]["adder_bits"] * 16 == sixteen.details["layers"][0]["adder_bits"]
    assert sixteen.lut == round(analytic.ADDER_LUT * 9 * 16 * 16**-analytic.SHARING)


def test_relu_and_saturation_cost_what_their_bits_cost():
    signed = FixedPoint(8, 3, True, overflow=Overflow.AP_SAT)
    wide = FixedPoint(15, 5, False, overflow=Overflow.AP_SAT)
    tight = FixedPoint(8, 2, False, overflow=Overflow.AP_SAT)
    rows = [[1, 1]]
    plain = estimate(layer(rows, input_type=signed))
    with_relu = estimate(layer(rows, input_type=signed, output_type=wide))
    saturated = estimate(layer(rows, input_type=signed, output_type=tight))
    assert with_relu.details["layers"][0]["relu_bits"] == 9 - 1  # one bit dropped: sum LSB 2**-11, output LSB 2**-10
    assert with_relu.lut - plain.lut == pytest.approx(analytic.RELU_LUT * 8, abs=1)
    assert saturated.details["layers"][0]["saturation_bits"] == 0  # the sum ends at 1/16, well inside
    coarse = layer([[64, 64]], input_type=signed, output_type=tight)  # sums to 8 with LSB 2**-5
    assert estimate(coarse).details["layers"][0]["saturation_bits"] == 9 + 8
    wrapped = replace(coarse, output_type=replace(tight, overflow=Overflow.AP_WRAP))
    assert estimate(coarse).lut - estimate(wrapped).lut == pytest.approx(analytic.SATURATION_LUT * 17, abs=1)


def test_powers_of_two_and_zeros_are_free():
    free = estimate(layer([[64, 0, 0], [0, -32, 0]]))
    assert free.lut == 0
    assert free.ff == 2 * 8 + 8 + 9
    assert estimate(layer([[0, 0]], [5])).lut == 0


def test_nothing_changes_with_names_or_the_order_of_neurons():
    rng = np.random.default_rng(0)
    first, second = rng.integers(-90, 90, (12, 10)), rng.integers(-90, 90, (4, 12))
    order = rng.permutation(12)
    a = estimate(layer(first, output_type=INPUT), layer(second))
    b = estimate(layer(first[order], output_type=INPUT, name="other"), layer(second[:, order]))
    assert (a.lut, a.ff, a.latency_cycles) == (b.lut, b.ff, b.latency_cycles)


def test_shifting_all_weights_costs_nothing():
    weight = np.random.default_rng(1).integers(-20, 20, (6, 9))
    narrow, shifted = estimate(layer(weight)), estimate(layer(weight * 4))
    assert (narrow.lut, narrow.ff) == (shifted.lut, shifted.ff)


def test_pruning_weights_or_neurons_never_costs_more():
    rng = np.random.default_rng(2)
    first, second = rng.integers(-90, 90, (16, 12)), rng.integers(-90, 90, (5, 16))
    luts = []
    for sparsity in (0.0, 0.3, 0.6, 0.9, 1.0):
        kept = np.abs(first) >= np.quantile(np.abs(first), sparsity) if sparsity < 1 else np.zeros_like(first)
        luts.append(estimate(layer(first * kept, output_type=INPUT), layer(second)).layers[0].lut)
    assert luts == sorted(luts, reverse=True)
    assert luts[-1] == 0
    dropped = second.copy()
    dropped[:, 8:] = 0
    halved = estimate(layer(first, output_type=INPUT), layer(dropped))
    small = estimate(layer(first[:8], output_type=INPUT), layer(dropped[:, :8]))
    assert (halved.lut, halved.ff) == (small.lut, small.ff)


def test_positions_multiply():
    weight = np.random.default_rng(3).integers(-30, 30, (4, 2, 3))
    zero = FixedPoint(8, 3, True)
    one = layer(weight, input_type=zero, kind="conv1d")
    spec = NetworkSpec((one,), zero, (2, 3), 4)
    five = NetworkSpec((replace(one, positions=5),), zero, (2, 7), 20)
    lut = AnalyticCost().estimate(spec, TARGET).lut
    assert AnalyticCost().estimate(five, TARGET).lut == pytest.approx(5 * lut, abs=3)
    as_dense = estimate(layer(weight.reshape(4, 6), input_type=zero))
    assert as_dense.lut == lut


def test_fewer_adders_per_stage_give_more_stages_and_registers():
    weight = np.random.default_rng(4).integers(-90, 90, (8, 32))
    reports = [estimate(layer(weight), adders_per_stage=n) for n in (20.0, 5.0, 2.5)]
    assert [r.lut for r in reports] == [reports[0].lut] * 3
    cycles = [r.latency_cycles for r in reports]
    assert cycles[0] == 2
    assert cycles[0] < cycles[1] < cycles[2]
    assert reports[0].ff < reports[1].ff < reports[2].ff


def test_stage_count_in_closed_form():
    """Eight inputs, three levels of adders of 8 + 1, 8 + 2, 8 + 3 bits: 3 x 1.07 + 0.025 x 30 = 3.96."""
    ones = layer([[1] * 8])
    assert estimate(ones, adders_per_stage=3.97).latency_cycles == 2
    assert estimate(ones, adders_per_stage=3.95).latency_cycles == 3
    # the cut at half of it lies behind the first level: four sums of 9 bits
    assert estimate(ones, adders_per_stage=3.95).ff == 8 * 8 + 4 * 9 + 11


def test_layers_add_up_and_the_report_survives_json():
    rng = np.random.default_rng(5)
    report = estimate(layer(rng.integers(-9, 9, (6, 8)), output_type=INPUT), layer(rng.integers(-9, 9, (3, 6))))
    assert report.lut == sum(part.lut for part in report.layers)
    assert report.ff == sum(part.ff for part in report.layers)
    assert HardwareReport.from_json(report.to_json()) == report


@pytest.mark.parametrize("value", [0.0, -1.0, float("nan")])
def test_impossible_stage_length(value):
    with pytest.raises(CostError, match="adders_per_stage"):
        AnalyticCost(adders_per_stage=value)


def test_too_wide_accumulators_name_the_layer():
    wide = FixedPoint(45, 10, False)
    with pytest.raises(CostError, match="layer fc"):
        estimate(layer([[127, 127]], input_type=wide))


def test_measure_reads_the_integers_out_of_a_quantised_network():
    from trigger_prune.config.project import QuantizeConfig
    from trigger_prune.quantize.convert import quantize_model
    from trigger_prune.quantize.describe import describe_network
    from trigger_prune.quantize.layers import weight_layers

    torch.manual_seed(0)
    model = torch.nn.Sequential(torch.nn.Linear(6, 8), torch.nn.ReLU(), torch.nn.Linear(8, 3))
    events = torch.from_numpy(INPUT.quantize(np.random.default_rng(0).uniform(0, 4, (200, 6)))).float()
    quantised = quantize_model(model, events, INPUT, QuantizeConfig())
    report = AnalyticCost().measure(quantised, TARGET)
    assert report == AnalyticCost().estimate(describe_network(quantised), TARGET)
    for part in weight_layers(quantised).values():
        part.weight_mask[:, ::2] = 0
    assert AnalyticCost().measure(quantised, TARGET).lut < 0.7 * report.lut


def recorded():
    """Networks mapped by alkaid and Yosys (``benchmarks/cost_model.py --record``); no constant was fitted on them."""
    raw = json.loads((Path(__file__).parent / "mapped_networks.json").read_text())
    for entry in raw["networks"]:
        layers = []
        for i, part in enumerate(entry["layers"]):
            output = FixedPoint.parse(part["output_type"]) if part["output_type"] else None
            weight_type = FixedPoint.parse(part["weight_type"])
            layers.append(
                WeightLayer(
                    f"dense{i}", "dense", np.array(part["weight"]), weight_type, np.array(part["bias"]), weight_type,
                    FixedPoint.parse(part["input_type"]), output, output is not None, 1,
                )
            )  # fmt: skip
        yield network(*layers), entry


def test_mapped_networks_are_met_within_the_stated_error():
    cases = list(recorded())
    estimates = [AnalyticCost().estimate(spec, TARGET) for spec, _ in cases]
    mapped = np.array([[e["lut"], e["ff"], e["latency_cycles"]] for _, e in cases], dtype=float)
    found = np.array([[e.lut, e.ff, e.latency_cycles] for e in estimates], dtype=float)
    assert len(cases) >= 10
    error = np.abs(found / mapped - 1)
    assert np.median(error[:, 0]) <= 1.2 * analytic.LUT_ERROR_MEDIAN
    assert np.quantile(error[:, 0], 0.9) <= 1.2 * analytic.LUT_ERROR_90
    assert np.median(error[:, 1]) <= 1.2 * analytic.FF_ERROR_MEDIAN
    assert np.abs(found[:, 2] - mapped[:, 2]).max() <= 1
    # and it beats the number of non-zero weights, scaled as well as can be, by far
    nonzeros = np.array([spec.nonzeros for spec, _ in cases], dtype=float)
    scaled = nonzeros * np.exp(np.median(np.log(mapped[:, 0] / nonzeros)))
    assert np.median(error[:, 0]) < 0.5 * np.median(np.abs(scaled / mapped[:, 0] - 1))


@pytest.mark.slow
def test_a_network_mapped_here_and_now():
    from trigger_prune.quantize.layers import FixedQuantizer
    from trigger_prune.synthesis.rtl.cost import RtlCost

    rng = np.random.default_rng(11)
    act = FixedPoint(6, 3, False, Rounding.AP_TRN, Overflow.AP_SAT)
    first = layer(rng.integers(-60, 60, (12, 10)) * (rng.random((12, 10)) < 0.6), output_type=act)
    second = layer(rng.integers(-60, 60, (5, 12)), rng.integers(-60, 60, 5), input_type=act)
    modules = []
    for part in (first, second):
        linear = torch.nn.Linear(part.weight.shape[1], part.weight.shape[0], dtype=torch.float64)
        linear.weight.data = torch.from_numpy(part.weight * part.weight_type.lsb)
        linear.bias.data = torch.from_numpy(part.bias * part.bias_type.lsb)
        modules += [linear, torch.nn.ReLU(), FixedQuantizer(act)] if part.relu else [linear]
    measured = RtlCost().measure_frozen(torch.nn.Sequential(*modules), INPUT, (10,), TARGET)
    expected = estimate(first, second)
    assert expected.lut == pytest.approx(measured.lut, rel=1.5 * analytic.LUT_ERROR_90)
    assert expected.latency_cycles == pytest.approx(measured.latency_cycles, abs=1)
    assert measured.dsp == expected.dsp == 0


def test_cost_needs_no_torch():
    code = "import sys, trigger_prune.cost.analytic, trigger_prune.cost._base; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
