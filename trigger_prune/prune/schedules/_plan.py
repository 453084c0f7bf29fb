"""What is to be removed, how fast, and by which ranking."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal, get_args

from torch import Tensor, fx

from trigger_prune.errors import ConfigError
from trigger_prune.structure._base import Groups
from trigger_prune.structure.masks import Scope, prunable_layers

Regrow = Literal["none", "set", "rigl"]


@dataclass(frozen=True)
class RampPlan:
    """A pruning inside quantisation-aware training.

    sparsity         fraction of the groups (of the weights when ``groups`` is None) removed at the end
    criterion        name of the importance criterion, for which the lowest scores go first
    scope            ``global`` ranks all layers together, ``layer`` removes the same fraction of each
    schedule         ``one_shot``, ``linear``, ``geometric``, ``cubic`` or ``adaptive``
    groups           what is removed together; None: single weights
    layer_sparsity   final sparsity of single layers, exactly; the layers not named share ``sparsity`` among themselves
    scores           instead of the criterion: scores per weight of every prunable layer, computed by the caller
                     whenever the mask is about to change; of a group they are summed
    regrow           at every exchange of weights, give masked ones back: at random (``set``) or where the gradient is
                     largest (``rigl``), and mask as many kept ones instead; single weights only
    regrow_fraction  fraction of the kept weights in the first exchange; it falls to 0 along a cosine
    ramp_fraction    fraction of the epochs in which the mask changes; only epochs with the final mask can be selected.
                     The whole training of ``one_shot`` without regrowth has the final mask
    repair           ``one_shot`` alone: kept weights make up for the removed ones in their layer's outputs (OBS)
    tolerance        ``adaptive`` alone: drop of the objective's merit on validation that is accepted

    Raises ConfigError for a value outside its range or a combination without meaning.
    """

    sparsity: float
    criterion: str = "magnitude_l1"
    scope: Scope = "global"
    schedule: str = "cubic"
    groups: Groups | None = None
    layer_sparsity: Mapping[str, float] | None = None
    scores: Callable[[fx.GraphModule], dict[str, Tensor]] | None = None
    regrow: Regrow = "none"
    regrow_fraction: float = 0.3
    ramp_fraction: float = 0.5
    repair: bool = False
    tolerance: float = 0.01

    def __post_init__(self) -> None:
        fractions = {"sparsity": self.sparsity, "ramp_fraction": self.ramp_fraction}
        fractions |= {"regrow_fraction": self.regrow_fraction}
        fractions |= {f"layer_sparsity of {name!r}": value for name, value in (self.layer_sparsity or {}).items()}
        for name, value in fractions.items():
            if not 0.0 <= value <= 1.0:
                raise ConfigError(f"{name} {value} is outside 0..1")
        if self.scope not in get_args(Scope):
            raise ConfigError(
                f"scope {self.scope!r} of a ranking is none of {', '.join(get_args(Scope))}",
                hint="what the solver chose for each layer goes into layer_sparsity",
            )
        if self.regrow not in get_args(Regrow):
            raise ConfigError(f"regrow {self.regrow!r} is none of {', '.join(get_args(Regrow))}")
        if self.regrow != "none" and self.groups is not None:
            raise ConfigError(
                f"regrow {self.regrow!r} gives back single weights, but structure {self.groups.structure!r} removes "
                "whole groups",
                hint="use structure: weight, or regrow: none",
            )
        if self.repair and self.schedule != "one_shot":
            raise ConfigError(
                f"repair belongs to a single cut, not to schedule {self.schedule!r}",
                hint="use schedule: one_shot, or repair: false",
            )
        if not self.tolerance >= 0:
            raise ConfigError(f"tolerance {self.tolerance} is not 0 or above")

    def check_layers(self, network: fx.GraphModule) -> None:
        """Raise ConfigError when a layer named in ``layer_sparsity`` is not prunable, or holds no group."""
        layers = list(prunable_layers(network))
        for name in self.layer_sparsity or {}:
            if name not in layers or (self.groups is not None and name not in self.groups.ids):
                raise ConfigError(
                    f"layer_sparsity: {name!r} is no prunable layer of the network", hint=f"layers: {', '.join(layers)}"
                )
