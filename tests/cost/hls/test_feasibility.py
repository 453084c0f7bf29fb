"""Whether csynth will finish: recovery of a known law, held-out sizes of a public table, the refusal."""

from __future__ import annotations

import csv
import math
from pathlib import Path

import numpy as np
import pytest
from scipy.stats import rankdata

from trigger_prune.cost.hls import feasibility
from trigger_prune.cost.hls.design import HlsDesign, HlsLayer, HlsSetting
from trigger_prune.cost.hls.feasibility import FinishSample, finish_probability, require_feasible
from trigger_prune.cost.hls.reuse_factor import valid_reuse_factors
from trigger_prune.errors import CostError
from trigger_prune.fixed_point import FixedPoint

TABLE = Path(__file__).resolve().parents[4] / "shared" / "synthesis" / "dense_layers_wa_ntorc.csv"
SETTING = HlsSetting("vivado_hls", "2020.1", "xcvu9p-flga2104-2-e", "virtexuplus", 5.0)
DATA = FixedPoint(16, 6)


def layer(n_in: int, n_out: int, strategy: str, factor: int, bits: int = 8) -> HlsLayer:
    return HlsLayer("fc", "dense", n_in, n_out, DATA, DATA, strategy, factor, weight_type=FixedPoint(bits, 1))  # type: ignore[arg-type]


def area_under_curve(finished: np.ndarray, chance: np.ndarray) -> float:
    ranks, good = rankdata(chance), int(finished.sum())
    return float((ranks[finished].sum() - good * (good + 1) / 2) / (good * (len(finished) - good)))


def test_the_fit_recovers_a_threshold():
    rng = np.random.default_rng(3)
    samples = []
    for _ in range(800):
        n_in, n_out = (int(2 ** rng.uniform(3, 8)) for _ in range(2))
        finished = rng.uniform() < 1 / (1 + math.exp(3 * (math.log2(n_in * n_out) - 11)))
        samples.append(FinishSample(layer(n_in, n_out, "latency", 1), SETTING, bool(finished), f"{n_in},{n_out}"))
    fitted = feasibility.fit(samples, feasibility.DEFAULTS)
    assert finish_probability(layer(32, 16, "latency", 1), SETTING, fitted) > 0.8
    assert finish_probability(layer(64, 128, "latency", 1), SETTING, fitted) < 0.1
    assert finish_probability(layer(32, 64, "latency", 1), SETTING, fitted) == pytest.approx(0.5, abs=0.12)


def test_one_outcome_alone_cannot_be_fitted():
    with pytest.raises(CostError, match="finished and syntheses that failed"):
        feasibility.fit([FinishSample(layer(8, 8, "latency", 1), SETTING, True, "a")], feasibility.DEFAULTS)


def test_latency_unrolls_every_weight_whatever_the_reuse_factor():
    for factor in (1, 64, 4096):
        assert feasibility.unrolled_multiplications(layer(64, 64, "latency", factor), SETTING) == 4096
    assert feasibility.unrolled_multiplications(layer(64, 64, "resource", 64), SETTING) == 64
    assert feasibility.unrolled_multiplications(layer(64, 64, "resource", 1), SETTING) == 4096


def test_a_hopeless_design_is_refused_with_reuse_factors_that_work():
    small, large = layer(16, 16, "latency", 1), layer(128, 128, "latency", 4)
    require_feasible(HlsDesign((small,), SETTING), feasibility.DEFAULTS)
    design = HlsDesign((small, large), SETTING)
    assert feasibility.design_finish_probability(design, feasibility.DEFAULTS) < 0.01
    with pytest.raises(CostError, match=r"layer fc: .*16384 multiplications because strategy latency") as caught:
        require_feasible(design, feasibility.DEFAULTS)
    assert "strategy resource with reuse factor" in (caught.value.hint or "")
    offered = feasibility.workable_reuse_factors(large, SETTING, feasibility.DEFAULTS)
    assert offered and set(offered) <= set(valid_reuse_factors(128, 128))
    for factor in offered:
        require_feasible(HlsDesign((layer(128, 128, "resource", factor),), SETTING), feasibility.DEFAULTS)


def test_layers_without_weights_always_finish():
    relu = HlsLayer("r", "relu", 5000, 5000, DATA, DATA)
    assert finish_probability(relu, SETTING, feasibility.DEFAULTS) == 1.0


def test_more_to_unroll_never_makes_it_more_likely():
    for strategy in ("latency", "resource"):
        chances = [finish_probability(layer(n, 32, strategy, 1), SETTING, feasibility.DEFAULTS) for n in range(8, 300)]
        assert chances == sorted(chances, reverse=True)


@pytest.mark.skipif(not TABLE.is_file(), reason="the public synthesis tables are not beside this checkout")
def test_public_failures_are_told_from_successes_for_sizes_that_were_held_out():
    with TABLE.open() as handle:
        rows = [row for row in csv.DictReader(handle) if row["source"].startswith("wa")]
    samples = []
    for row in rows:
        n_in, n_out, factor, bits = (int(float(row[key])) for key in ("n_in", "n_out", "rf", "prec_bits"))
        this = layer(n_in, n_out, row["strategy"], factor, bits)
        samples.append(FinishSample(this, SETTING, row["success"] == "True", f"{n_in},{n_out}"))
    assert sum(not sample.finished for sample in samples) == 1700
    sizes = sorted({sample.group for sample in samples})
    order = np.random.default_rng(0).permutation(len(sizes))
    chance = np.zeros(len(samples))
    for fold in range(4):
        held = {sizes[index] for index in order[fold::4]}
        fitted = feasibility.fit([s for s in samples if s.group not in held], feasibility.DEFAULTS)
        for index, sample in enumerate(samples):
            if sample.group in held:
                chance[index] = finish_probability(sample.layer, SETTING, fitted)
    finished = np.array([sample.finished for sample in samples])
    assert area_under_curve(finished, chance) >= 0.95
    assert np.mean(chance[finished] < 0.5) <= 0.06
    shipped = np.array([finish_probability(s.layer, SETTING, feasibility.DEFAULTS) for s in samples])
    assert area_under_curve(finished, shipped) >= 0.98
