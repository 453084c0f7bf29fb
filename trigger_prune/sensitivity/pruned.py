"""Which networks a scan judges: every layer pruned alone, at every sparsity, by every criterion and structure."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, fx

from trigger_prune.errors import ModelError
from trigger_prune.importance._base import Criterion, CriterionData
from trigger_prune.importance.group_scores import score_groups
from trigger_prune.quantize.layers import QuantWeightLayer
from trigger_prune.sensitivity.precision import Wiring
from trigger_prune.sensitivity.variants import Variant, requantised_state, state_of
from trigger_prune.structure._base import Groups, Structure
from trigger_prune.structure.group_masks import remove_groups, removed_groups
from trigger_prune.structure.masks import lowest_scores_mask, prunable_layers, restored


@dataclass(frozen=True)
class PointKey:
    """Where a network differs from the unpruned one; see findings.ScanPoint."""

    layer: str
    criterion: str | None
    structure: str | None
    sparsity: float
    zero_weights: float
    weight_bits: int | None = None
    activation_bits: int | None = None


@dataclass(frozen=True, eq=False)
class Candidate:
    """A network to judge."""

    key: PointKey
    variant: Variant


SINGLE_WEIGHTS = "weight"
"""The structure whose groups are single weights: masks need no groups."""

Masks = dict[str, Tensor]


def pruned_candidates(
    network: fx.GraphModule,
    criteria: Sequence[Criterion],
    structures: Sequence[str | Structure],
    sparsities: Sequence[float],
    bits: Sequence[int] = (),
    data: CriterionData | None = None,
) -> list[Candidate]:
    """Candidates in the order layer, structure, criterion, bits, sparsity. The network is left bit for bit as it was.

    bits   weight bits that the pruned layer is quantised to again, beside those it has
    A sparsity that a layer exceeds already, or that a structure cannot reach there (more than M - N of M), gives none;
    of groups that are whole layers only sparsity 1 exists.
    Raises ModelError for a sparsity outside 0..1 or a network without prunable layer, and what criterion and structure
    raise.
    """
    for sparsity in sparsities:
        if not 0.0 <= sparsity <= 1.0:
            raise ModelError(f"sparsity {sparsity} of a sensitivity scan is outside 0..1")
    if not prunable_layers(network):
        raise ModelError("the network has no weight layer to prune")
    private = copy.deepcopy(network)
    wiring = Wiring(private) if bits else None
    layers = prunable_layers(private)
    by_layer: dict[str, list[Candidate]] = {name: [] for name in prunable_layers(network)}
    with restored(network):
        for structure in structures:
            for criterion in criteria:
                found = _masks(network, private, criterion, structure, sparsities, data)
                for layer, sparsity, masks in found:
                    for width in (None, *bits):
                        by_layer[layer].append(
                            _candidate(layers, layer, criterion, structure, sparsity, masks, width, wiring)
                        )
    return [candidate for candidates in by_layer.values() for candidate in candidates]


def _candidate(
    layers: dict[str, QuantWeightLayer],
    layer: str,
    criterion: Criterion,
    structure: str | Structure,
    sparsity: float,
    masks: Masks,
    width: int | None,
    wiring: Wiring | None,
) -> Candidate:
    states = {name: state_of(layers[name], mask) for name, mask in masks.items()}
    if width is not None and wiring is not None:
        mask = masks.get(layer)
        states[layer] = requantised_state(
            layers[layer], width, wiring.input_fraction(layer), wiring.following(layer), mask
        )
    own = masks.get(layer, layers[layer].weight_mask)
    key = PointKey(
        layer=layer,
        criterion=criterion.name,
        structure=structure if isinstance(structure, str) else structure.name,
        sparsity=sparsity,
        zero_weights=float((own == 0).double().mean()),
        weight_bits=width,
    )
    return Candidate(key, Variant(states))


def _masks(
    network: fx.GraphModule,
    private: fx.GraphModule,
    criterion: Criterion,
    structure: str | Structure,
    sparsities: Sequence[float],
    data: CriterionData | None,
) -> Iterator[tuple[str, float, Masks]]:
    """Layer, sparsity and the masks that differ from those of the network."""
    if structure == SINGLE_WEIGHTS:
        layers = prunable_layers(network)
        scores = criterion.score(network, list(layers), data)
        for name, layer in layers.items():
            already = int((layer.weight_mask == 0).sum())
            for sparsity in sparsities:
                if round(sparsity * layer.weight.numel()) >= already:
                    yield name, sparsity, {name: lowest_scores_mask(scores[name], layer.weight_mask, sparsity)}
        return
    groups = (_by_name(structure) if isinstance(structure, str) else structure).groups(network)
    scores_of_groups = score_groups(criterion, network, groups, data)
    home = groups.home_numbers()
    for number, name in enumerate(groups.ids):
        members = (home == number).nonzero().flatten()
        if len(members):
            part = part_of(groups, members)
            steps = [1.0] if groups.whole_layers else sparsities
            for sparsity, masks in _group_masks(private, part, scores_of_groups[members], steps):
                yield name, sparsity, masks


def _by_name(name: str) -> Structure:
    from trigger_prune.structure import structure_by_name

    return structure_by_name(name)


def part_of(groups: Groups, members: Tensor) -> Groups:
    """The groups ``members`` alone, numbered anew in that order; a group keeps all layers it reaches over."""
    number = torch.full((groups.count + 1,), -1, dtype=torch.int64)
    number[members] = torch.arange(len(members))
    ids = {name: number[layer_ids.cpu()] for name, layer_ids in groups.ids.items()}
    return Groups(
        groups.structure,
        {name: layer_ids for name, layer_ids in ids.items() if bool((layer_ids >= 0).any())},
        len(members),
        None if groups.cells is None else groups.cells[members],
        groups.removable_per_cell,
    )


def _group_masks(
    private: fx.GraphModule, groups: Groups, scores: Tensor, sparsities: Sequence[float]
) -> Iterator[tuple[float, Masks]]:
    """Masks at every sparsity that can be had exactly; those of ``private`` are put back."""
    layers = prunable_layers(private)
    before = {name: layers[name].weight_mask.clone() for name in groups.ids}
    already = int(removed_groups(private, groups).sum())
    for sparsity in sparsities:
        wanted = round(sparsity * groups.count)
        if wanted < already:
            continue
        remove_groups(private, groups, scores, sparsity, "layer")
        reached = int(removed_groups(private, groups).sum())
        masks = {name: layers[name].weight_mask.clone() for name in groups.ids}
        for name, mask in before.items():
            layers[name].weight_mask.copy_(mask)
        if reached == wanted:
            yield sparsity, masks
