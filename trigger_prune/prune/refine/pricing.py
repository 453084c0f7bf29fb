"""The modelled cost of a network's codes, and of changing them."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from trigger_prune.prune.refine.codes import LayerCodes, with_codes
from trigger_prune.prune.refine.curvature import row_models
from trigger_prune.prune.refine.incremental import IncrementalLoss, RowChange
from trigger_prune.prune.refine.proposals import Proposal, ProposalRules, row_proposals, single_moves
from trigger_prune.prune.refine.row_cost import LayerRows, layer_rows

Floats = NDArray[np.float64]


class Pricing:
    """Prices changes of ``state``'s codes in units of the measured cost.

    free      by layer, ``(out, fan_in)``: weights that may move; a layer that is not named stays as it is
    factors   by layer: measured cost over modelled cost; 1 until ``calibrate``
    """

    def __init__(self, state: IncrementalLoss, free: Mapping[str, NDArray[np.bool_]]) -> None:
        self.state = state
        self.free = dict(free)
        self.factors: dict[str, float] = {}
        self._feeds = {name: _feeder(state, name) for name in self.free}

    def rows(self) -> dict[str, LayerRows]:
        """The model of every layer, with the ranges that the present codes give."""
        return layer_rows(with_codes(self.state.spec, self.state.codes), self.factors)

    def layer_costs(self) -> dict[str, float]:
        """Modelled cost of every layer."""
        return {name: float(_costs(rows, self.state.codes[name]).sum()) for name, rows in self.rows().items()}

    def calibrate(self, measured: Mapping[str, float]) -> None:
        """Make the model of every layer agree with its measured cost; one that costs nothing keeps its factor."""
        for name, modelled in self.layer_costs().items():
            if modelled > 0 and measured.get(name, 0.0) > 0:
                self.factors[name] = self.factors.get(name, 1.0) * measured[name] / modelled

    def cost_change(
        self, change: RowChange, rows: Mapping[str, LayerRows], codes: Mapping[str, LayerCodes] | None = None
    ) -> float:
        """Modelled change of cost if ``change`` were made to ``codes`` (default: the present ones)."""
        every = self.state.codes if codes is None else codes
        own = every[change.layer]
        weight = np.stack([own.weight[change.row], change.weight])
        bias = np.array([own.bias[change.row], change.bias])
        before, after = rows[change.layer].costs(np.full(2, change.row), weight, bias)
        gone = (own.weight[change.row] != 0) & (change.weight == 0)
        saved = self._saved_by_zero(change.layer, rows, every)[gone].sum() if gone.any() else 0.0
        return float(after - before - saved)

    def proposals(
        self, rows: Mapping[str, LayerRows], price: float, rules: ProposalRules, events: Tensor, seed: int
    ) -> list[Proposal]:
        """Proposals for every output at one ``price`` (loss per unit of cost), from a model on ``events`` (indices)."""
        models = row_models(self.state, list(self.free), events, seed)
        found: list[Proposal] = []
        for name, free in self.free.items():
            codes = self.state.codes[name]
            saved = self._saved_by_zero(name, rows, self.state.codes)
            singles = single_moves(rows[name], codes, free, models[name], saved, rules)
            for row in range(len(codes.weight)):
                found += row_proposals(name, codes, row, singles, models[name], price, rules)
        return found

    def _saved_by_zero(self, layer: str, rows: Mapping[str, LayerRows], codes: Mapping[str, LayerCodes]) -> Floats:
        """What each input's own logic costs where exactly one live output of ``layer`` reads it, else 0."""
        weight = codes[layer].weight
        feeder = self._feeds[layer]
        if feeder is None:
            return np.zeros(weight.shape[1])
        readers = np.count_nonzero(weight[rows[layer].alive], axis=0)
        return np.where(readers == 1, _costs(rows[feeder], codes[feeder]), 0.0)


def model_events(state: IncrementalLoss, most: int, draws: torch.Generator) -> Tensor:
    """Indices of at most ``most`` random events of weight above zero, ascending."""
    used = (state.events.weights > 0).nonzero().flatten()
    return used[torch.randperm(len(used), generator=draws)[:most]].sort().values


def _costs(rows: LayerRows, codes: LayerCodes) -> Floats:
    return rows.costs(np.arange(len(codes.weight)), codes.weight, codes.bias)


def _feeder(state: IncrementalLoss, layer: str) -> str | None:
    """The layer whose outputs are this dense layer's inputs, one to one and for nobody else."""
    if not isinstance(state.network.get_submodule(layer), nn.Linear):
        return None
    source = state.node_of(layer).all_input_nodes[0]
    for name in state.codes:
        if state.end_of(name) is source and len(source.users) == 1:
            return name if len(state.codes[name].weight) == state.codes[layer].weight.shape[1] else None
    return None
