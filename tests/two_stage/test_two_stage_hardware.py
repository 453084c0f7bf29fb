"""Cost of the shared engine against hand counts, hls4ml's own rules and public tables; FIFO and control by hand."""

import csv
import itertools
import re
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from two_stage_toys import report

from trigger_prune.config.project import CostConfig
from trigger_prune.cost.hls.model import HlsAnalyticCost
from trigger_prune.cost.network import NetworkSpec, WeightLayer
from trigger_prune.cost.report import RESOURCES, CostStage
from trigger_prune.errors import ConfigError, CostError, StageMismatchError
from trigger_prune.fixed_point import FixedPoint
from trigger_prune.target import Target
from trigger_prune.two_stage.buffer import BufferShape, buffer_cost, buffer_parts, control_cost, fifo_cost
from trigger_prune.two_stage.hardware import (
    engine_cost_model,
    full_options,
    full_options_from_reports,
    layout_of,
    light_cost,
    measured_cost,
    score_bits,
    word_bits,
)
from trigger_prune.two_stage.traffic import Engine
from trigger_prune.units import BUNCH_CROSSING_NS

TARGET = Target(part="xcvu9p-flga2104-2L-e", clock_period_ns=5.0)
SIZES = (16, 64, 32, 32, 5)
TABLE = Path(__file__).resolve().parents[3] / "shared" / "synthesis" / "dense_layers_wa_ntorc.csv"


def network(sizes, bits=16, seed=0):
    """A dense network with random weights; products of 16 bits and more are DSPs."""
    generator = np.random.default_rng(seed)
    weights, values = FixedPoint(bits, 4), FixedPoint(16, 6)
    layers = []
    for index, (n_in, n_out) in enumerate(itertools.pairwise(sizes)):
        last = index == len(sizes) - 2
        codes = generator.integers(weights.min_code, weights.max_code, (n_out, n_in), endpoint=True)
        zeros = np.zeros(n_out, np.int64)
        layers.append(
            WeightLayer(
                f"fc{index}", "dense", codes, weights, zeros, weights, values, None if last else values, not last, 1
            )
        )
    return NetworkSpec(tuple(layers), values, (sizes[0],), sizes[-1])


FULL = network(SIZES)


def test_only_the_multipliers_become_fewer():
    """DSP are n_in x n_out / RF of every layer, II the largest RF; latency grows, the rest falls less."""
    options = full_options("full", FULL, TARGET, "Resource", None, (9,))
    assert [option.reuse_factor for option in options] == [1, 2, 4, 8, 16, 32, 64]
    for option in options[1:]:
        factors = option.cost.details["reuse_factors"]
        wanted = sum(-(-a * b // factors[f"fc{i}"]) for i, (a, b) in enumerate(itertools.pairwise(SIZES)))
        assert option.cost.dsp == wanted
        assert option.cost.ii == option.reuse_factor == max(factors.values())
        # RF + 2 of each of the four layers, and a cycle to the next
        assert option.cost.latency_cycles >= sum(factor + 2 for factor in factors.values())
        assert option.cost.clock_period_ns == pytest.approx(BUNCH_CROSSING_NS / 9)
    # at reuse factor 1 there are no weight memories: another kind of design
    latencies = [option.cost.latency_cycles for option in options[1:]]
    assert latencies == sorted(latencies) and latencies[-1] > 5 * latencies[0]
    least, most = options[1].cost, options[5].cost
    assert least.dsp == 16 * most.dsp
    assert least.lut < 16 * most.lut
    assert least.ff < 8 * most.ff  # registers of inputs and outputs stay


def test_every_layer_takes_the_largest_factor_that_hls4ml_builds():
    """Sizes whose factors differ from layer to layer, against hls4ml's own list."""
    from hls4ml.backends.fpga.fpga_backend import FPGABackend

    class Bare(FPGABackend):
        def __init__(self):
            pass

    Bare.__abstractmethods__ = frozenset()
    sizes = (14, 30, 12, 7)
    uneven = network(sizes)
    for wanted in (1, 5, 9, 14, 33, 70, 5000):
        layout = layout_of(uneven, TARGET, "Resource", wanted, 9)
        for entry, (n_in, n_out) in zip(layout.layers, itertools.pairwise(sizes), strict=True):
            valid = Bare().get_valid_reuse_factors(n_in, n_out)
            assert entry.reuse_factor == max(factor for factor in valid if factor <= wanted)
        assert layout.reuse_factor == max(entry.reuse_factor for entry in layout.layers)
    options = full_options("full", uneven, TARGET, "Resource", (9, 10, 11), (9,))
    assert len({tuple(option.cost.details["reuse_factors"].items()) for option in options}) == len(options)
    assert all(option.cost.ii == option.reuse_factor <= 11 for option in options)


def test_hls4ml_builds_the_layout(tmp_path):
    """The generated project has the reuse factors that were estimated, not hls4ml's replacements of them."""
    from trigger_prune.export.hls4ml_project import write_hls4ml_project
    from trigger_prune.models.mlp import Mlp
    from trigger_prune.quantize.convert import quantize_model

    torch.manual_seed(0)
    kind = FixedPoint.parse("ap_fixed<9,3,AP_RND,AP_SAT>")
    x = torch.tensor(kind.quantize(np.random.default_rng(0).normal(size=(200, 14)))).float()
    model = Mlp((14,), 3, hidden=(10,))
    model.train()(x)
    precision = SimpleNamespace(weight_bits=6, activation_bits=7, rounding="AP_TRN")
    quantised = quantize_model(model.eval(), x, kind, precision)
    layout = layout_of(quantised, TARGET, "Resource", 18, 9)
    assert [entry.reuse_factor for entry in layout.layers] == [14, 10]
    text = (
        write_hls4ml_project(quantised, tmp_path / "project", layout, "engine") / "firmware" / "parameters.h"
    ).read_text()
    dense = re.findall(r": nnet::dense_config \{(.*?)\n\};", text, re.S)
    built = [int(re.search(r"reuse_factor = (\d+);", body).group(1)) for body in dense]
    assert built == [entry.reuse_factor for entry in layout.layers]
    assert all("nnet::resource" in body for body in dense)
    (option,) = full_options("full", quantised, TARGET, "Resource", (18,), (9,))
    assert option.cost.ii == max(built)
    assert word_bits(quantised) == 14 * 9


@pytest.mark.skipif(not TABLE.is_file(), reason="the public synthesis tables are not beside this checkout")
def test_public_syntheses_where_the_reuse_factor_varies():
    """Multipliers, interval, block RAM and latency at every reuse factor; LUTs do not fall as 1 / RF."""
    with TABLE.open() as handle:
        rows = [row for row in csv.DictReader(handle) if row["strategy"] == "resource" and row["success"] == "True"]
    rows = [row for row in rows if row["source"].startswith("wa") and row["prec_bits"] == "14.0"]
    rows = [row for row in rows if float(row["rf"]) > 1]
    model, errors, as_multipliers, blocks = HlsAnalyticCost(hls_version="2020.1"), [], [], []
    layers = {(int(float(row["n_in"])), int(float(row["n_out"]))) for row in rows}
    for n_in, n_out in sorted(layers)[::2]:
        mine = {
            int(float(row["rf"])): row for row in rows if (float(row["n_in"]), float(row["n_out"])) == (n_in, n_out)
        }
        layer = network((n_in, n_out), bits=14)
        options = full_options("layer", layer, TARGET, "Resource", tuple(mine), (5,), model)
        assert [option.reuse_factor for option in options] == sorted(mine)
        for option in options:
            row, cost = mine[option.reuse_factor], option.cost
            assert cost.dsp == float(row["dsp"])
            assert cost.ii == float(row["ii_max"])
            blocks.append(cost.bram18 - float(row["bram18"]))
            assert abs(cost.latency_cycles - float(row["lat_max"])) <= 2
        for first, second in itertools.pairwise(options):
            gain = first.cost.lut / second.cost.lut
            true = float(mine[first.reuse_factor]["lut"]) / float(mine[second.reuse_factor]["lut"])
            errors.append(abs(np.log(gain / true)))
            as_multipliers.append(abs(np.log(second.reuse_factor / first.reuse_factor / true)))
    assert len(layers) > 50 and len(errors) > 20
    assert np.mean(np.abs(blocks) <= 1) > 0.9 and np.abs(blocks).max() <= 2
    assert np.median(errors) < 0.5 * np.median(as_multipliers)


def test_slower_clocks_need_fewer_cycles_of_the_light_model():
    small = network((16, 8, 5), bits=6)
    costs = [light_cost(small, TARGET, multiple) for multiple in (4, 9, 12)]
    assert all(cost.ii == 1 and cost.predicts is CostStage.CSYNTH for cost in costs)
    assert [cost.clock_period_ns * multiple for cost, multiple in zip(costs, (4, 9, 12), strict=True)] == pytest.approx(
        [BUNCH_CROSSING_NS] * 3
    )
    cycles = [cost.latency_cycles for cost in costs]
    assert cycles == sorted(cycles) and cycles[0] < cycles[-1]
    (full,) = full_options("full", FULL, TARGET, "Resource", (16,), (9,))
    assert (costs[1] + full.cost).dsp == costs[1].dsp + full.cost.dsp
    with pytest.raises(StageMismatchError):
        costs[0] + full.cost  # another clock


def test_an_unrolled_design_has_one_option():
    (option,) = full_options("full", network((16, 8, 5), bits=6), TARGET, "distributed_arithmetic", None, (9,))
    assert option.reuse_factor == option.cost.ii == 1
    with pytest.raises(ConfigError, match="fully unrolled"):
        full_options("full", FULL, TARGET, "distributed_arithmetic", (1, 9), (9,))


def test_measured_reports_take_the_place_of_estimates():
    reports = {
        (factor, 9): report(f"RF {factor}", dsp=6400 // factor, ii=factor, latency=4 * factor + 12)
        for factor in (32, 16)
    }
    options = full_options_from_reports("full", "Resource", reports)
    assert [(option.reuse_factor, option.cost.dsp, option.cost.ii) for option in options] == [
        (16, 400, 16),
        (32, 200, 32),
    ]
    # 2.77 ns in the report is nine cycles per crossing; the light model's report says 2.772
    light = measured_cost(report("light", clock_period_ns=2.772), 9, "the light model")
    assert (light + options[0].cost).dsp == 500
    with pytest.raises(StageMismatchError):
        light_cost(network((16, 8, 5), bits=6), TARGET, 9) + options[0].cost
    with pytest.raises(StageMismatchError):
        full_options_from_reports(
            "full", "Resource", reports | {(64, 9): report(ii=64, latency=300, stage=CostStage.VSYNTH)}
        )
    with pytest.raises(CostError, match=r"2\.77 ns.*8 cycles per crossing are 3\.119 ns"):
        full_options_from_reports("full", "Resource", {(16, 8): reports[16, 9]})
    with pytest.raises(CostError, match="no latency"):
        measured_cost(report(latency_cycles=None), 9, "the light model")


def test_formulas_for_verilog_are_never_used_for_a_shared_engine(tmp_path):
    for backend in ("rtl", "analytic", "analytic_hls"):
        model = engine_cost_model(CostConfig(backend=backend, use_store=False), tmp_path)
        assert (model.name, model.stage) == ("analytic_hls", CostStage.ANALYTIC)
    assert engine_cost_model(CostConfig(backend="csynth", use_store=False), tmp_path).stage is CostStage.CSYNTH


def test_score_bits_hold_every_score():
    """The widest sum of the last layer, by its weights, fits; a difference of two takes a bit more."""
    small = network((4, 3, 2), bits=6)
    last = small.layers[-1]
    largest = int(np.abs(last.weight).sum(axis=1).max()) * max(-last.input_type.min_code, last.input_type.max_code)
    assert largest < 2 ** (score_bits(small) - 1)
    assert score_bits(small, difference=True) == score_bits(small) + 1
    assert word_bits(FULL) == 16 * 16


def test_fifo_in_shift_registers_and_block_ram():
    """A LUT holds 32 bits of one line, a block RAM 512 x 36; the handshake is that of csynth's FIFO tables."""
    part = TARGET.part
    assert fifo_cost(Engine(18, 9, 0), 256, part).lut == 0
    # 517 FIFOs of 2 x 16 bits are 14 476 LUT in a public report
    assert 517 * fifo_cost(Engine(18, 9, 2), 16, part).lut == 14_476
    for depth, bits in itertools.product((1, 3, 31, 32), (8, 57, 256)):
        cost = fifo_cost(Engine(18, 9, depth), bits, part)
        assert cost.lut - 12 == sum(-(-depth // 32) for _ in range(bits))
        assert cost.bram18 == 0
    for depth, bits, blocks in ((33, 36, 1), (33, 37, 2), (512, 256, 8), (513, 256, 16), (1500, 72, 6)):
        assert fifo_cost(Engine(18, 9, depth), bits, part).bram18 == blocks
    shallow, deep = fifo_cost(Engine(18, 9, 4), 256, part), fifo_cost(Engine(18, 9, 32), 256, part)
    assert shallow.lut == deep.lut  # depth costs latency, not LUTs


SHAPE = BufferShape(256, 20, 24, 1, 9, 20, TARGET.part)


def test_control_by_hand():
    """One object, II 18, K 3, 9 cycles per crossing; comparisons and additions of w bits are w + 7 LUT."""
    engine = Engine(18, 9, 3)
    parts = {part.name: part.cost for part in buffer_parts(buffer_cost(SHAPE)(engine))}
    assert {name: (cost.lut, cost.ff) for name, cost in parts.items()} == {
        "FIFO, 3 x 256 bits in shift registers": (12 + 256, 5),
        "delay of the features, 1 x 256 bits, one step per crossing": (256, 0),
        "comparators": (3 * 27 + 31, 4),
        # work up to 72 cycles: 7 bits; interval 5 bits; crossings 5 bits, of 11 objects under way
        "scheduler": (14 + 14 + 14 + 12 + 12 + 12 + 5, 7 + 5 + 5 + 5),
        "output, 20 crossings": (20 + 5, 22),
        "monitoring counters": (9 * 55 + 9, 9 * 48 + 2),
    }


def test_several_objects_are_held_delayed_and_compared():
    """Ten objects, 30 cycles of light model: delay of four crossings, ten times the comparators, 1 of 10."""
    engine = Engine(18, 9, 3)
    many = replace(SHAPE, objects_per_crossing=10, light_cycles=30)
    lines = [line.lut for line in control_cost(engine, many).layers]
    assert lines[0] == 10 * 256
    assert lines[1] == 2 * 256 * 3  # more objects than cycles: two lanes
    assert lines[2] == 30 * 27 + 31
    assert control_cost(engine, many).layers[1].ff == 10 * 256
    assert control_cost(Engine(18, 12, 3), many).layers[1].lut == 256 * 3
    far = replace(many, light_cycles=9 * 33)
    assert control_cost(engine, far).layers[0].lut == 2 * 10 * 256


def test_lines_add_up_and_cannot_be_mixed_with_models():
    whole = buffer_cost(SHAPE)(Engine(18, 9, 40))
    parts = buffer_parts(whole)
    for name in RESOURCES:
        assert sum(getattr(part.cost, name) for part in parts) == getattr(whole, name)
    assert whole.dsp == 0 and whole.bram18 == 8
    assert {part.cost.stage for part in parts} == {CostStage.ANALYTIC}
    engine = Engine(18, 9, 40)
    assert whole.lut == fifo_cost(engine, 256, TARGET.part).lut + control_cost(engine, SHAPE).lut
    with pytest.raises(StageMismatchError):
        whole + light_cost(network((16, 8, 5), bits=6), TARGET, 9)


def test_shapes_without_sense():
    for change in ({"word_bits": 0}, {"objects_per_crossing": 17}, {"light_cycles": -1}, {"output_crossings": 0}):
        with pytest.raises(ConfigError, match="makes no sense"):
            replace(SHAPE, **change)
    with pytest.raises(ConfigError, match="0 cycles per crossing"):
        light_cost(FULL, TARGET, 0)
    with pytest.raises(ConfigError, match="reuse factor 0"):
        layout_of(FULL, TARGET, "Resource", 0, 9)
