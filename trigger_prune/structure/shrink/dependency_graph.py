"""Cuts channels out of a float model through torch-pruning's dependency graph, checked against the traced graph.

torch-pruning (G. Fang et al., "DepGraph", CVPR 2023) follows autograd. Behind a concatenation that follows a flatten or
that reads an input of the model directly its columns are off (seen with 1.6.1), and it leaves groups of convolutions to
its caller. So each of its groups is compared with what the traced graph ties together, and where the two disagree the
layers are cut as the traced graph says.
"""

from __future__ import annotations

from typing import Any

import torch
import torch_pruning
from torch import Tensor, nn

from trigger_prune.structure.resize import resize_layer, resize_norm
from trigger_prune.structure.shrink.choice import Choice
from trigger_prune.structure.shrink.wires import Analysis

_Cut = dict[tuple[str, str], set[int]]
"""Indices that go, by (module, "outputs" or "inputs"); a BatchNorm has outputs only."""


def remove_channels(
    model: nn.Module, example: tuple[Tensor, ...], analysis: Analysis, choice: Choice
) -> tuple[str, ...]:
    """Remove ``choice`` from ``model``, in place. Returns remarks on layers that torch-pruning did not follow."""
    modules: dict[str, Any] = {name: model.get_submodule(name) for name in (*analysis.layers, *analysis.norms)}
    cuts = _Cuts(modules, analysis, choice)
    modes = {module: module.training for module in model.modules()}
    trained = {name: parameter.requires_grad for name, parameter in model.named_parameters()}
    strange = _through_torch_pruning(model, example, cuts)
    cuts.finish()
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(trained[name])
    for module, mode in modes.items():
        module.training = mode
    return (
        (f"cut without torch-pruning, whose groups differ from the traced graph: {', '.join(strange)}",)
        if strange
        else ()
    )


class _Cuts:
    """What is to go from each module, in indices before the first cut, and what is gone already."""

    def __init__(self, modules: dict[str, Any], analysis: Analysis, choice: Choice) -> None:
        self.modules = modules
        _tie_vanishing_groups(analysis, choice)
        self.roots: dict[tuple[str, str], Tensor] = {}
        for name, layer in analysis.layers.items():
            self.roots[name, "outputs"] = analysis.ties.roots(layer.outputs)
            self.roots[name, "inputs"] = analysis.ties.roots(layer.inputs)
        for name, ids in analysis.norms.items():
            self.roots[name, "outputs"] = analysis.ties.roots(ids)
        self.wanted: _Cut = {
            (name, side): _set(getattr(part, side))
            for name, part in choice.layers.items()
            for side in ("outputs", "inputs")
        } | {(name, "outputs"): _set(part) for name, part in choice.norms.items()}
        self.left = {key: list(range(len(roots))) for key, roots in self.roots.items()}

    def tied_to(self, name: str) -> _Cut:
        """All that goes together with the outputs of a layer that are still to go."""
        mine = self.roots[name, "outputs"][sorted(self.wanted[name, "outputs"] & set(self.left[name, "outputs"]))]
        found = {key: _set(torch.isin(roots, mine)) for key, roots in self.roots.items()}
        return {key: indices for key, indices in found.items() if indices}

    def now(self, key: tuple[str, str], indices: set[int]) -> list[int]:
        """Where indices are by now."""
        return [position for position, index in enumerate(self.left[key]) if index in indices]

    def before(self, key: tuple[str, str], positions: list[int]) -> set[int]:
        """The inverse; positions that are not there give -1."""
        left = self.left[key]
        return {left[position] if 0 <= position < len(left) else -1 for position in positions}

    def gone(self, cut: _Cut) -> None:
        """Note what was removed."""
        for key, indices in cut.items():
            self.left[key] = [index for index in self.left[key] if index not in indices]

    def finish(self) -> None:
        """Cut what is still there."""
        for name, module in self.modules.items():
            kept = {side: self._kept((name, side)) for side in ("outputs", "inputs") if (name, side) in self.left}
            if all(len(kept[side]) == len(self.left[name, side]) for side in kept):
                continue
            if "inputs" in kept:
                resize_layer(module, kept["outputs"], kept["inputs"])
            else:
                resize_norm(module, kept["outputs"])

    def _kept(self, key: tuple[str, str]) -> list[int]:
        return [position for position, index in enumerate(self.left[key]) if index not in self.wanted[key]]


def _tie_vanishing_groups(analysis: Analysis, choice: Choice) -> None:
    """What leads into and out of a group of a convolution goes together, once the whole group goes."""
    for name, layer in analysis.layers.items():
        if layer.groups > 1:
            part = choice.layers[name]
            ids = torch.cat([x.reshape(layer.groups, -1) for x in (layer.inputs, layer.outputs)], dim=1)
            gone = torch.cat([x.reshape(layer.groups, -1) for x in (part.inputs, part.outputs)], dim=1).all(dim=1)
            analysis.ties.unite(ids[gone], ids[gone][:, :1].expand_as(ids[gone]))


def _through_torch_pruning(model: nn.Module, example: tuple[Tensor, ...], cuts: _Cuts) -> list[str]:
    """Remove what torch-pruning ties together as the traced graph does; returns layers where it does not."""
    names = {module: name for name, module in cuts.modules.items()}
    roots = [
        name for name, module in cuts.modules.items() if hasattr(module, "groups") or isinstance(module, nn.Linear)
    ]
    for parameter in model.parameters():
        parameter.requires_grad_(True)
    graph = torch_pruning.DependencyGraph()
    try:
        with torch.enable_grad():
            graph.build_dependency(model, example, verbose=False)
    except (RuntimeError, ValueError, TypeError, LookupError, AttributeError, AssertionError):
        return [name for name in roots if cuts.wanted[name, "outputs"]]  # it cannot trace the model at all
    strange = []
    for name in roots:
        expected = cuts.tied_to(name)
        if not expected:
            continue
        module = cuts.modules[name]
        linear = isinstance(module, nn.Linear)
        function = torch_pruning.prune_linear_out_channels if linear else torch_pruning.prune_conv_out_channels
        try:
            group = graph.get_pruning_group(module, function, cuts.now((name, "outputs"), expected[name, "outputs"]))
        except (RuntimeError, ValueError, TypeError, LookupError, AttributeError, AssertionError):
            strange.append(name)
            continue
        if _as_cut(graph, group, cuts, names) == _without_twins(expected, cuts.modules):
            group.prune(record_history=False)
            cuts.gone(expected)
        else:
            strange.append(name)
    return strange


def _as_cut(graph: Any, group: Any, cuts: _Cuts, names: dict[Any, str]) -> _Cut:
    found: _Cut = {}
    for dependency, positions in group:
        module = dependency.target.module
        name = names.get(module) if isinstance(module, nn.Module) else None
        if name is not None:
            outputs = graph.is_out_channel_pruning_fn(dependency.handler)
            key = (name, "outputs" if outputs else "inputs")
            found.setdefault(key, set()).update(cuts.before(key, positions))
    return found


def _without_twins(cut: _Cut, modules: dict[str, Any]) -> _Cut | None:
    """As torch-pruning would say it: a filter per channel is counted once. None for other groups of a convolution."""
    result = dict(cut)
    for name, side in cut:
        groups = getattr(modules[name], "groups", 1)
        if groups > 1:
            if modules[name].in_channels != groups or modules[name].out_channels != groups:
                return None
            if side == "inputs":
                del result[name, side]
    return result


def _set(chosen: Tensor) -> set[int]:
    return {int(index) for index in torch.nonzero(chosen).flatten()}
