"""Refinement of a quantised, pruned network for LUTs, after its training.

A round moves weights and biases to nearby grid values with fewer signed digits, zero included, while others of the
same output make up for it (``proposals``); the cheapest losses per saved cost are taken first (``saving``). A short
fine-tuning in which no weight may grow digits (``digit_caps``) repairs the rest, the cost is measured and the model of
the cost is set right. The result is the best network met on the way, judged on validation events.

Digit counts: canonical signed digits. Compensation: the optimal brain surgeon (B. Hassibi, D. Stork, NeurIPS 1992)
and optimal brain compression (E. Frantar, D. Alistarh, arXiv:2208.11580), with a Gauss-Newton Hessian of the true loss
and on the grid.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import fx

from trigger_prune.errors import BudgetError, ModelError
from trigger_prune.prune.refine.codes import Codes, codes_of, copy_codes, write_codes
from trigger_prune.prune.refine.descent import descend
from trigger_prune.prune.refine.digit_caps import digit_caps
from trigger_prune.prune.refine.incremental import IncrementalLoss
from trigger_prune.prune.refine.measure import CostMeasure, MeasuredCost, alkaid_cost
from trigger_prune.prune.refine.pricing import Pricing, model_events
from trigger_prune.prune.refine.proposals import ProposalRules
from trigger_prune.prune.refine.saving import save_cost
from trigger_prune.prune.refine.settings import RefineSettings
from trigger_prune.prune.refine.steps import CodeStep, FrontPoint, pareto
from trigger_prune.quantize.describe import describe_network
from trigger_prune.quantize.learned.ranges import fit_ranges, wraps
from trigger_prune.structure.masks import prunable_layers
from trigger_prune.train.evaluate import LOSS, Batches, evaluate
from trigger_prune.train.fit import FitSettings, fit
from trigger_prune.train.loss import Task
from trigger_prune.train.objective import Objective

_FIRST_PRICE = 0.1
"""Loss per unit of cost at the start: this times loss / cost of the network. It is adapted to what proposals offer."""

_PRICE_STEP = 1.5
_ENOUGH, _PLENTY = 2.0, 6.0
"""The price rises when proposals offer less than so many times the saving wanted, and falls when they offer more."""

_LEAST_LASTING = 0.1
"""Fine-tuning undoes part of a saving: at equal digits a weight moves back to a more expensive code. Where little
lasts the price must rise until digits go; below this share what lasts is noise."""

_LEAST_SAVING = 0.003
"""Part of the cost that a round shall save however near ``max_cost`` is."""

_BEYOND = 2.0
"""Rounds go on until the merit has fallen this many times further than allowed: a later round may recover."""

Progress = Callable[[FrontPoint], None]


@dataclass(frozen=True, eq=False)
class RefineResult:
    """``network`` is the chosen point; ``points`` every measured network, in order; ``steps`` those of all rounds."""

    network: fx.GraphModule
    chosen: FrontPoint
    points: tuple[FrontPoint, ...]
    steps: tuple[CodeStep, ...]

    @property
    def front(self) -> tuple[FrontPoint, ...]:
        """Measured networks that no other beats, cheapest first."""
        return pareto(self.points)


def refine_network(
    network: fx.GraphModule,
    train: Batches,
    validation: Batches,
    settings: RefineSettings,
    *,
    task: Task = "classify",
    objective: Objective = LOSS,
    measure: CostMeasure = alkaid_cost,
    progress: Progress | None = None,
) -> RefineResult:
    """Refine ``network`` in place; master weights and biases end exactly on their grid values.

    train        events of the models, of the exact loss and of fine-tuning; validation alone chooses and stops
    progress     called with every measured point
    Masked weights stay zero. Types of wires stay as they are, but wires that wrap (AP_WRAP) get the integer bits that
    all training events need after every round.
    Of the measured points the cheapest is chosen whose validation merit fell by at most
    ``largest_merit_loss``; with ``max_cost`` the one of best merit among those that cost no more.
    Raises BudgetError when none costs so little, ModelError for a network that is no quantised graph or has no weight
    to move, and what ``measure`` and ``fit`` raise.
    """
    return _Refinement(network, train, validation, settings, task, objective, measure, progress).run()


class _Refinement:
    def __init__(
        self,
        network: fx.GraphModule,
        train: Batches,
        validation: Batches,
        settings: RefineSettings,
        task: Task,
        objective: Objective,
        measure: CostMeasure,
        progress: Progress | None,
    ) -> None:
        self.network, self.train, self.validation, self.settings = network, train, validation, settings
        self.task, self.objective, self.measure, self.progress = task, objective, measure, progress
        free = {name: _free(layer.weight_mask) for name, layer in prunable_layers(network).items()}
        if not any(mask.any() for mask in free.values()):
            raise ModelError("the network has no weight left that a refinement could move")
        self.state = IncrementalLoss(network, train, task)
        self.pricing = Pricing(self.state, free)
        self.draws = torch.Generator().manual_seed(settings.seed)
        self.points: list[FrontPoint] = []
        self.steps: list[CodeStep] = []

    def run(self) -> RefineResult:
        settings = self.settings
        write_codes(self.network, self.state.codes)
        cost = self._measure(0).total
        price = _FIRST_PRICE * self.state.loss / max(cost, 1.0)
        rules = ProposalRules(settings.chain, per_row=1, use_gradient=False)
        for number in range(1, settings.rounds + 1):
            wanted = settings.saving_per_round * cost
            if settings.max_cost is not None:  # the last round shall not go further than it must
                wanted = min(wanted, max(cost - settings.max_cost, _LEAST_SAVING * cost))
            events = model_events(self.state, settings.model_events, self.draws)
            saved = save_cost(self.pricing, wanted, price, rules, events, settings.seed + number)
            self.steps += saved.steps
            before = self._modelled()
            self._settle(number)
            lasting = saved.cost - (self._modelled() - before)
            lasts = min(1.0, max(_LEAST_LASTING, lasting / max(saved.cost, 1e-9)))
            if saved.available * lasts < _ENOUGH * wanted:
                price *= _PRICE_STEP
            elif saved.available * lasts > _PLENTY * wanted:
                price /= _PRICE_STEP
            if number % settings.measure_every == 0 or number == settings.rounds:
                cost = self._measure(number).total
                if self._finished():
                    break
            else:
                cost = max(cost - saved.cost, 1.0)
        return self._choose(price)

    def _modelled(self) -> float:
        return sum(self.pricing.layer_costs().values())

    def _settle(self, number: int) -> None:
        """Write the codes, fine-tune under their caps, read the codes back."""
        settings = self.settings
        self._place(self.state.codes)
        if not settings.fine_tune_epochs:
            return
        fit_settings = FitSettings(
            phase=f"refine {number}",
            epochs=settings.fine_tune_epochs,
            batch_size=settings.batch_size,
            learning_rate=settings.learning_rate,
            seed=settings.seed + 1000 * number,
            task=self.task,
            weight_decay=settings.weight_decay,
            select="last",  # the best epoch by the validation merit of so short a training is the luckiest one
        )
        with digit_caps(self.network, self.state.codes):
            fit(self.network, self.train, self.validation, fit_settings)
        self._place(codes_of(describe_network(self.network)))

    def _measure(self, number: int) -> MeasuredCost:
        measured = self.measure(self.network)
        self.pricing.calibrate(measured.layers)
        found = evaluate(self.network, self.validation, self.task, self.objective)
        codes = copy_codes(self.state.codes)
        loss = self.state.loss
        point = FrontPoint(number, measured.total, found.loss, found.merit, loss, len(self.steps), codes)
        self.points.append(point)
        if self.progress is not None:
            self.progress(point)
        return measured

    def _finished(self) -> bool:
        last, first, settings = self.points[-1], self.points[0], self.settings
        if settings.max_cost is not None:
            return last.cost <= settings.max_cost
        fallen = first.validation_merit - last.validation_merit
        return not fallen <= _BEYOND * settings.largest_merit_loss

    def _choose(self, price: float) -> RefineResult:
        settings = self.settings
        chosen = self._best()
        self._place(chosen.codes)
        if settings.descent_passes:
            rules = ProposalRules(settings.chain)
            found = descend(
                self.pricing,
                price,
                rules,
                passes=settings.descent_passes,
                events=settings.model_events,
                seed=settings.seed,
            )
            if found:
                self.steps += found
                write_codes(self.network, self.state.codes)
                self._measure(chosen.round)
                chosen = self._best()
                self._place(chosen.codes)
        return RefineResult(self.network, chosen, tuple(self.points), tuple(self.steps))

    def _best(self) -> FrontPoint:
        settings = self.settings
        if settings.max_cost is None:
            least = self.points[0].validation_merit - settings.largest_merit_loss
            return min((p for p in self.points if p.validation_merit >= least), key=lambda p: (p.cost, p.round))
        within = [p for p in self.points if p.cost <= settings.max_cost]
        if not within:
            nearest = min(self.points, key=lambda p: p.cost)
            raise BudgetError(
                f"after {nearest.round} rounds of refinement the cheapest network costs {nearest.cost:.0f}, "
                f"refine.max_cost is {settings.max_cost:g}",
                hint=f"allow refine.max_cost: {nearest.cost:.0f}, raise refine.rounds, or start from a sparser network",
            )
        return max(within, key=lambda p: (p.validation_merit, -p.cost, -p.round))

    def _place(self, codes: Codes) -> None:
        """Codes into the network and the model of its loss, and the ranges of wires that wrap after them."""
        write_codes(self.network, codes)
        if wraps(self.network):
            fit_ranges(self.network, self.train.features)
            self.state.take_over_quantizers(self.network)
        self.state.assign(codes)


def _free(mask: torch.Tensor) -> NDArray[np.bool_]:
    kept: NDArray[np.bool_] = mask.cpu().numpy().reshape(len(mask), -1) != 0
    return kept
