"""From section ``prune`` of project.yaml to groups and plans."""

from __future__ import annotations

from typing import Any

from torch import fx

from trigger_prune.config.project import PruneConfig
from trigger_prune.prune.fine_tune import RampPlan
from trigger_prune.structure import structure_by_name
from trigger_prune.structure._base import Groups
from trigger_prune.target import Target


def groups_of(
    config: PruneConfig, network: fx.GraphModule, target: Target, structure: str | None = None
) -> Groups | None:
    """What is removed together; None for single weights. ``structure``: another than the project's, with its options.

    Raises ConfigError or ModelError, naming the layer, where the network has no such groups.
    """
    name = structure or config.structure
    if name == "weight":
        return None
    return structure_by_name(name, **_options(name, config, target)).groups(network)


def _options(structure: str, config: PruneConfig, target: Target) -> dict[str, Any]:
    """Options of the structure."""
    match structure:
        case "block":
            return {"rows": config.block[0], "columns": config.block[1]}
        case "n_m":
            return {"n": config.n_of_m[0], "m": config.n_of_m[1]}
        case "dsp" | "bram":
            return {"reuse_factor": target.reuse_factor}
        case _:
            return {}


def ramp_plan(config: PruneConfig, groups: Groups | None, sparsity: float, *, last_cut: bool = False) -> RampPlan:
    """The plan of one ramp to ``sparsity``; ``last_cut``: a few groups more, once the wanted network is near."""
    return RampPlan(
        sparsity,
        criterion=config.criterion,
        scope="layer" if config.scope == "layer" else "global",
        schedule="cubic" if last_cut and config.schedule == "adaptive" else config.schedule,
        groups=groups,
        layer_sparsity=config.layer_sparsity or None,
        regrow="none" if last_cut else config.regrow,
        regrow_fraction=config.regrow_fraction,
        tolerance=config.tolerance,
        ramp_fraction=config.ramp_fraction,
        repair=config.repair and not last_cut,
    )
