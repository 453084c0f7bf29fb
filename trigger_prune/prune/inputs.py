"""Dropping the inputs that a sensitivity scan found redundant."""

from __future__ import annotations

from dataclasses import dataclass

from torch import fx

from trigger_prune.errors import ModelError
from trigger_prune.sensitivity.findings import InputFinding
from trigger_prune.structure.resize import drop_inputs, fold_constant_input, input_layers, merge_inputs
from trigger_prune.structure.shrink.quantised import drop_unread_inputs


@dataclass(frozen=True)
class DroppedInput:
    """An input that the network no longer takes, and why."""

    name: str
    reason: str


def drop_redundant(
    network: fx.GraphModule, findings: tuple[InputFinding, ...], names: tuple[str, ...]
) -> tuple[tuple[int, ...], tuple[DroppedInput, ...]]:
    """Merge duplicate inputs into their twin, fold constant ones into biases, and shrink the network, in place.

    names    of the network's present inputs; returns the indices (into ``names``) that are kept, and what was dropped
    A network whose inputs cannot be dropped (see structure.resize.input_layers) is left as it is, and so is a constant
    input that the biases cannot take up (see structure.resize.fold_constant_input). At least one input stays.
    """
    if input_layers(network) is None:
        return tuple(range(len(names))), ()
    dropped: dict[int, DroppedInput] = {}
    for finding in findings:
        if len(dropped) == len(names) - 1:
            break
        if finding.kind == "duplicate" and finding.same_as is not None:
            merge_inputs(network, finding.index, names.index(finding.same_as))
            dropped[finding.index] = DroppedInput(finding.name, f"equal to {finding.same_as} on every training event")
        elif finding.kind == "constant" and finding.constant_value is not None:
            try:
                fold_constant_input(network, finding.index, finding.constant_value)
            except ModelError:
                continue
            reason = f"always {finding.constant_value:g}; folded into biases"
            dropped[finding.index] = DroppedInput(finding.name, reason)
    return _shrink(network, names, dropped)


def drop_unused(network: fx.GraphModule, names: tuple[str, ...]) -> tuple[tuple[int, ...], tuple[DroppedInput, ...]]:
    """Shrink the network to the inputs that still have a non-zero integer weight, in place; at least one stays.

    Returns the indices (into ``names``) that are kept, and what was dropped.
    """
    kept = drop_unread_inputs(network)
    reason = "all its weights were pruned"
    return kept, tuple(DroppedInput(name, reason) for index, name in enumerate(names) if index not in kept)


def _shrink(
    network: fx.GraphModule, names: tuple[str, ...], dropped: dict[int, DroppedInput]
) -> tuple[tuple[int, ...], tuple[DroppedInput, ...]]:
    kept = tuple(index for index in range(len(names)) if index not in dropped)
    if dropped:
        drop_inputs(network, kept)
    return kept, tuple(dropped.values())
