"""Results of the search as rows of plain values."""

from __future__ import annotations

from typing import Any

from trigger_prune.precision.candidates import CandidateTable
from trigger_prune.precision.search import PrecisionPoint, PrecisionSearch
from trigger_prune.precision.space import PrecisionSpace, Setting
from trigger_prune.quantize.layers import FixedQuantizer, weight_layers
from trigger_prune.quantize.ptq.observe import observe
from trigger_prune.quantize.ptq.ranges import overflow_limit


def setting_text(setting: Setting) -> str:
    """``6/5``: weight bits and activation bits, a dash where there is nothing to choose."""
    return "/".join("-" if bits is None else str(bits) for bits in (setting.weight_bits, setting.activation_bits))


def point_row(point: PrecisionPoint, space: PrecisionSpace | None) -> dict[str, Any]:
    """One network; ``space`` only adds nothing but the order of its units."""
    names = list(point.choice) if space is None else [unit.name for unit in space.units]
    return {
        "phase": point.phase,
        "bits": " ".join(setting_text(point.choice[name]) for name in names),
        "predicted_loss": point.predicted_loss,
        "candidate_loss": point.candidate_loss,
        "loss": point.loss,
        "accuracy": point.accuracy,
        "merit": point.merit,
        "lut": point.cost.lut,
        "ff": point.cost.ff,
        "dsp": point.cost.dsp,
        "bram18": point.cost.bram18,
        "latency_cycles": point.cost.latency_cycles,
    }


def candidate_rows(table: CandidateTable) -> list[dict[str, Any]]:
    """Every setting of every unit, tried alone in the network with all bits."""
    return [
        {
            "unit": row.unit,
            "weight_bits": row.setting.weight_bits,
            "activation_bits": row.setting.activation_bits,
            "loss": row.loss,
            "loss_increase": row.increase,
            "loss_increase_error": row.error,
        }
        for row in table.rows
    ]


def unit_rows(
    space: PrecisionSpace, found: PrecisionSearch, confidence: float
) -> tuple[list[dict[str, Any]], list[str]]:
    """Types of the chosen network's units with the overflow of their wires on the training events that were observed,
    and a sentence for every wire whose limit those events cannot prove."""
    network, rule = found.network, space.rule
    observed = observe(network, space.features)
    rows, notes = [], []
    for unit in space.units:
        setting = found.chosen.choice[unit.name]
        row: dict[str, Any] = {"unit": unit.name, **vars(setting)}
        row["weight_type"] = "" if unit.layer is None else str(weight_layers(network)[unit.layer].weight_type)
        row |= dict.fromkeys(("activation_type", "overflow_events", "overflow_probability", "overflow_upper"))
        if unit.quantiser is not None:
            module = network.get_submodule(unit.quantiser)
            assert isinstance(module, FixedQuantizer)
            limit = overflow_limit(observed[unit.quantiser].extremes.overflows(module.fixed), confidence, rule.exposure)
            row |= {
                "activation_type": str(module.fixed),
                "overflow_events": limit.events,
                "overflow_probability": limit.probability,
                "overflow_upper": limit.upper,
            }
            if rule.probability is not None and limit.upper > rule.probability:
                notes.append(
                    f"{unit.quantiser}: {limit.n_events} events prove an overflow probability of {limit.upper:.2g} at "
                    f"most, not {rule.probability:g}; the smallest they could prove is {limit.provable:.2g}"
                )
        rows.append(row)
    return rows, notes
