"""Which neurons, filters and inputs of a network can go without a change of its outputs."""

from __future__ import annotations

from collections.abc import Set
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from trigger_prune.structure.shrink.constants import numbers_of
from trigger_prune.structure.shrink.wires import Analysis, Layer


@dataclass(frozen=True, eq=False)
class Removal:
    """What goes from one layer (bool per output and per input column), and what it gives its readers' biases.

    contribution   float64, one per output: sum over removed columns of weight times constant; 0 for removed outputs
    fillers        outputs that nothing reads and that stay lest the layer be empty: their weights can become zero
    """

    outputs: Tensor
    inputs: Tensor
    contribution: Tensor
    fillers: Tensor


@dataclass(frozen=True, eq=False)
class Choice:
    """A set that can be removed at once.

    layers     by layer name
    norms      bool per channel that goes, by name of the BatchNorm
    features   bool per feature (second axis of the input) that goes, by placeholder
    reasons    why neurons without effect stay, by root of their numbers (see Ties)
    """

    layers: dict[str, Removal]
    norms: dict[str, Tensor]
    features: dict[str, Tensor]
    reasons: dict[int, str]

    @property
    def is_empty(self) -> bool:
        """Nothing can go."""
        changes = [part.outputs.any() | part.inputs.any() | part.fillers.any() for part in self.layers.values()]
        return not any(map(bool, changes)) and not any(bool(part.any()) for part in self.features.values())


def choose(analysis: Analysis, *, neurons: bool = True, inputs: bool = True, stay: Set[str] = frozenset()) -> Choice:
    """The largest set that the rules allow: everything is a candidate, and what breaks a rule is taken back.

    A number may go when every reader that stays has only zero weights for it, or takes its constant up in the bias.
    A reader cannot do that at a border where it sees padded zeros instead of the constant. Each layer and the input
    keep at least one neuron, and groups of a convolution keep equally many.
    neurons, inputs   whether neurons and whether input features may go
    stay              layers whose bias must not change
    """
    ties = analysis.ties
    sources = _roots(analysis, {name: layer.outputs for name, layer in analysis.layers.items()})
    features = _roots(analysis, analysis.features)
    candidates = set()
    for found, allowed in ((sources, neurons), (features, inputs)):
        if allowed:
            candidates |= {number for roots in found.values() for number in roots.tolist()}
    if not inputs:
        candidates -= {number for roots in features.values() for number in roots.tolist()}
    gone = candidates - set(ties.kept)
    reasons: dict[int, str] = {}
    fillers: set[int] = set()
    readers = [_Reader(layer, ties.roots(layer.inputs), sources[name], name in stay)
               for name, layer in analysis.layers.items()]  # fmt: skip
    while True:
        taken_back: dict[int, str] = {}
        for reader in readers:
            taken_back |= reader.objections(gone)
        if not taken_back:
            taken_back = _first_of_empty({"layer": sources, "input": features}, gone)
            fillers |= set(taken_back)
        if not taken_back:
            break
        reasons |= taken_back
        gone -= set(taken_back)
    fillers -= {number for reader in readers for number in reader.read_by_others(gone)}
    chosen = torch.tensor(sorted(gone), dtype=torch.int64)
    return Choice(
        {
            reader.layer.name: reader.removal(chosen, torch.tensor(sorted(fillers), dtype=torch.int64))
            for reader in readers
        },
        {name: torch.isin(ties.roots(ids), chosen) for name, ids in analysis.norms.items()},
        {name: torch.isin(roots, chosen) for name, roots in features.items()},
        reasons,
    )


def _roots(analysis: Analysis, numbers: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name: analysis.ties.roots(ids) for name, ids in numbers.items()}


def _first_of_empty(found: dict[str, dict[str, Tensor]], gone: set[int]) -> dict[int, str]:
    """A number to take back for the last layer, else for the input, that would be empty; nothing if there is none.

    From the back, because what a layer keeps decides what the layers before it must keep.
    """
    for what, numbers in found.items():
        for name, roots in reversed(numbers.items()):
            if gone.issuperset(roots.tolist()):
                return {int(roots[0]): f"{what} {name!r} would be empty"}
    return {}


class _Reader:
    """One weight layer as the judge of what it reads."""

    def __init__(self, layer: Layer, inputs: Tensor, outputs: Tensor, stays: bool) -> None:
        self.layer = layer
        self.inputs = inputs
        self.outputs = outputs
        weight = numbers_of(layer.module)[0]
        self.weight = weight.reshape(*weight.shape[:2], -1).sum(dim=2)
        self.reads = (weight != 0).reshape(*weight.shape[:2], -1).any(dim=2)
        self.problem = self._problems(stays)

    def _problems(self, stays: bool) -> list[str]:
        """By column: why a value that is read there cannot move into the bias; empty if it can."""
        layer, result = self.layer, []
        for constant, value in zip(layer.constant.tolist(), layer.value.tolist(), strict=True):
            if not constant:
                result.append("it is read")
            elif value == 0:
                result.append("")
            elif value != value:
                result.append(f"layer {layer.name!r} sees different constants at different positions")
            elif layer.pads:
                result.append(f"layer {layer.name!r} pads with zeros, so a constant is none at the border")
            else:
                result.append(f"the bias of layer {layer.name!r} cannot take up its constant" if stays else "")
        return result

    def objections(self, gone: set[int]) -> dict[int, str]:
        """Numbers of ``gone`` that must stay because of this layer, with the reason."""
        groups = self.layer.groups
        outputs_gone = torch.tensor([number in gone for number in self.outputs.tolist()]).reshape(groups, -1)
        inputs_gone = torch.tensor([number in gone for number in self.inputs.tolist()]).reshape(groups, -1)
        vanishes = outputs_gone.all(dim=1) & inputs_gone.all(dim=1)
        if groups == 1:
            vanishes[:] = False
        read = (self.reads.reshape(groups, -1, self.reads.shape[1]) & ~outputs_gone[:, :, None]).any(dim=1)
        result: dict[int, str] = {}
        for group, column in torch.nonzero(inputs_gone & read & ~vanishes[:, None]).tolist():
            index = group * self.reads.shape[1] + column
            if self.problem[index]:
                result[int(self.inputs[index])] = self.problem[index]
        if groups > 1 and not result:
            for numbers, parts in ((self.inputs, inputs_gone), (self.outputs, outputs_gone)):
                result |= self._uneven(numbers.reshape(groups, -1), parts, vanishes)
        return result

    def _uneven(self, numbers: Tensor, gone: Tensor, vanishes: Tensor) -> dict[int, str]:
        staying = (~vanishes).nonzero().flatten().tolist()
        if not staying:
            return {}
        least = min(int(gone[staying].sum(dim=1).min()), gone.shape[1] - 1)
        reason = f"groups of layer {self.layer.name!r} must stay equally large"
        return {
            int(number): reason for group in staying for number in numbers[group][gone[group]][least:]
        }  # fmt: skip

    def read_by_others(self, gone: set[int]) -> set[int]:
        """Numbers that rows which stay have weights for."""
        staying = torch.tensor([number not in gone for number in self.outputs.tolist()])
        groups = self.layer.groups
        read = (self.reads & staying[:, None]).reshape(groups, -1, self.reads.shape[1]).any(dim=1).flatten()
        return set(self.inputs[read].tolist())

    def removal(self, chosen: Tensor, fillers: Tensor) -> Removal:
        outputs, inputs = torch.isin(self.outputs, chosen), torch.isin(self.inputs, chosen)
        value = torch.where(inputs, self.layer.value, 0.0).nan_to_num(0.0)
        groups = self.layer.groups
        columns = value.reshape(groups, 1, -1).expand(-1, len(outputs) // groups, -1).reshape(len(outputs), -1)
        contribution = torch.where(outputs, 0.0, (self.weight * columns).sum(dim=1))
        return Removal(outputs, inputs, contribution, torch.isin(self.outputs, fillers) & self.reads.any(dim=1))


def reason_for(analysis: Analysis, choice: Choice, number: Any) -> str:
    """Why a neuron without effect stays."""
    root = analysis.ties.root(int(number))
    return choice.reasons.get(root) or analysis.ties.kept.get(root, "")
