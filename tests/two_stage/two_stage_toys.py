"""Small two-stage samples, and the decision written out object by object."""

import numpy as np

from trigger_prune.cost.report import CostStage, HardwareReport
from trigger_prune.two_stage.sample import TwoStageSample


def toy_sample(
    seed, rows=4000, objects=1, step=0.25, total_hz=3e7, reuse=1, multiplicity=None, noise=1.0, names=("HH4b", "ttbar")
):
    """Background and two signals with full scores, and light scores that are the full ones with noise, on a grid.

    ``objects`` > 1 gives rows with 0 to that many objects. Groups of ``reuse`` rows have nearly the same scores.
    """
    generator = np.random.default_rng(seed)
    signal = np.repeat([-1, 0, 1], [rows // 2, rows // 4, rows - rows // 2 - rows // 4])
    groups = np.arange(rows) // reuse
    counts = generator.integers(0, objects + 1, rows) if objects > 1 else np.ones(rows, np.int64)
    row = np.repeat(np.arange(rows), counts)
    common = generator.normal(size=rows)[groups][row]
    full = common + 0.3 * generator.normal(size=len(row)) + np.array([0.0, 2.0, 1.5])[signal[row] + 1]
    light = full + noise * generator.normal(size=len(row))
    weights = np.where(signal < 0, generator.exponential(size=rows)[groups], 0.5)
    weights[signal < 0] *= total_hz / weights[signal < 0].sum()
    full, light = (np.round(x / step) * step for x in (full, light))
    return TwoStageSample(light, full, row, signal, weights, groups, names, multiplicity)


def row_passes(light, full, room, thresholds):
    """One crossing, object by object in FIFO order, when the FIFO has ``room``."""
    passes = False
    for one_light, one_full in zip(light, full, strict=True):
        if one_light < thresholds.t_reject:
            continue
        if one_light >= thresholds.t_accept:
            passes = True
        elif room > 0:
            room -= 1
            passes |= one_full >= thresholds.t_full
        else:
            passes |= one_light >= thresholds.t_overflow
    return bool(passes)


def brute_probability(sample, thresholds, rooms):
    """Probability of every row to pass, by trying every room."""
    found = np.zeros(len(sample.weights))
    for row in range(len(found)):
        mine = sample.row == row
        light, full = sample.light[mine], sample.full[mine]
        found[row] = sum(p for room, p in enumerate(rooms) if row_passes(light, full, room, thresholds))
    return found


def report(name="x", lut=1000, dsp=100, latency=10, ii=1, stage=CostStage.CSYNTH, **more):
    """A hardware report with little in it."""
    values = {
        "stage": stage,
        "tool": "tool",
        "tool_version": "1",
        "part": "part",
        "clock_period_ns": 2.77,
        "lut": lut,
        "ff": 10,
        "dsp": dsp,
        "bram18": 0,
        "latency_cycles": latency,
        "ii": ii,
        "content_hash": name,
    }
    return HardwareReport(**(values | more))
