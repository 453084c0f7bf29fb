"""The one flow of every network: alkaid's adder graph -> Verilog -> Yosys, and its score from the graph's own bits."""

from __future__ import annotations

import resource
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from trigger_prune.physics.auc import weighted_auc
from trigger_prune.physics.scores import class_score
from trigger_prune.synthesis.rtl.trace import predict
from trigger_prune.synthesis.rtl.verilog import write_verilog
from trigger_prune.synthesis.rtl.yosys import synthesize
from trigger_prune.target import Target

ADDERS_PER_STAGE = 5.0
LARGEST_COST = 22_000
"""Networks of a larger alkaid cost (about LUTs) lie outside every column of the table: Yosys does not see them."""

FLOW = (
    "alkaid adder graph (hard_dc 2, without its pass canonicalize_msb_wraps) -> Verilog, a register every "
    f"{ADDERS_PER_STAGE:g} adders -> Yosys xcup; LUT = LUT1..LUT6 + INV; scores from the adder graph's bits"
)


def measure(comb_file: Path, events_file: Path) -> dict[str, Any] | None:
    """Cost and scores of one network; None when its alkaid cost is above ``LARGEST_COST``."""
    from alkaid.types import CombLogic

    comb = CombLogic.load(comb_file)
    if comb.cost > LARGEST_COST:
        return None
    before = _cpu_s()
    with tempfile.TemporaryDirectory(prefix="trigger_prune_peers_") as scratch:
        project = write_verilog(comb, Path(scratch), adders_per_stage=ADDERS_PER_STAGE, target=Target())
        cells = synthesize(project.sources, project.top)
    cost_cpu_s = _cpu_s() - before
    with np.load(events_file) as events:
        scores = {part: _scores(comb, events[f"x_{part}"], events[f"y_{part}"]) for part in ("validation", "test")}
    return {
        "alkaid_cost": float(comb.cost),
        "lut": cells.lut,
        "ff": cells.ff,
        "dsp": cells.dsp,
        "bram18": cells.bram18,
        "latency_cycles": project.latency_cycles,
        "cost_cpu_s": round(cost_cpu_s, 2),
        "yosys": cells.yosys_version,
        **scores,
    }


def _scores(comb: Any, x: NDArray[np.float32], y: NDArray[np.int64]) -> dict[str, float]:
    """Accuracy and mean one-versus-rest AUC.

    ``auc`` ranks events by a class's output minus the largest of the others, which firmware computes exactly and the
    whole project uses; ``auc_softmax`` by the softmax, the usual convention of papers (a little higher).
    """
    outputs = predict(comb, x)
    exponentials = np.exp(outputs - outputs.max(axis=1, keepdims=True))
    probabilities = exponentials / exponentials.sum(axis=1, keepdims=True)
    weights = np.ones(len(y))
    classes = range(outputs.shape[1])
    margins = [weighted_auc(class_score(outputs, c), y == c, weights) for c in classes]
    softmax = [weighted_auc(probabilities[:, c], y == c, weights) for c in classes]
    return {
        "accuracy": float((outputs.argmax(axis=1) == y).mean()),
        "auc": float(np.mean(margins)),
        "auc_softmax": float(np.mean(softmax)),
    }


def _cpu_s() -> float:
    own, children = (resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return own.ru_utime + own.ru_stime + children.ru_utime + children.ru_stime
