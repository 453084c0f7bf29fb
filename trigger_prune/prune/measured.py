"""What every pruning loop shares: its inputs, measuring a fine-tuned network, choosing among trials, giving up."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from torch import Tensor, fx

from trigger_prune.config.project import PruneConfig
from trigger_prune.cost._base import CostModel
from trigger_prune.cost.network import NetworkSpec
from trigger_prune.cost.report import CLOCK, CostStage, HardwareReport
from trigger_prune.errors import BudgetError
from trigger_prune.prune.laid_out import shrink_laid_out
from trigger_prune.prune.rounds import Rounds
from trigger_prune.prune.trial import FailedTrial, Phase, PruneTrial
from trigger_prune.quantize.describe import describe_network
from trigger_prune.quantize.state import load_network_state
from trigger_prune.quantize.weights_only import is_weights_only, weight_counts
from trigger_prune.structure._base import Groups
from trigger_prune.structure.group_masks import removed_fraction
from trigger_prune.structure.masks import masked_fraction, prunable_layers
from trigger_prune.target import Budget, Target
from trigger_prune.train.evaluate import Batches, evaluate
from trigger_prune.train.fit import FitSettings
from trigger_prune.train.history import EpochRecord, FitHistory

_NO_FILL = ("ii", CLOCK)

OnEpoch = Callable[[EpochRecord, int], None] | None


@dataclass(frozen=True)
class LoopInputs:
    """Everything a loop works with.

    settings   batch size, seed, task, objective and device of every fine-tuning
    estimate   quick cost of a network, which sets the size of the first cut; without it that is ``first_sparsity``
    groups     what is removed together; None: single weights
    """

    train: Batches
    validation: Batches
    settings: FitSettings
    config: PruneConfig
    budget: Budget
    target: Target
    cost_model: CostModel
    estimate: Callable[[NetworkSpec, Target], HardwareReport] | None = None
    groups: Groups | None = None

    def removed(self, network: fx.GraphModule) -> float:
        """Fraction of the groups, or of the weights, that are gone."""
        return masked_fraction(network) if self.groups is None else removed_fraction(network, self.groups)

    @property
    def smallest_step(self) -> float:
        """Fraction that a single group is; see ``removed``."""
        return 0.0 if self.groups is None else 1.0 / self.groups.count


@dataclass(frozen=True)
class PruneResult:
    """The chosen network, every trial (one is ``chosen``), the training history and the network of every round.

    ``networks`` are states (``network_state``) of networks like ``network``; ``failures`` are rounds without a measured
    cost.
    """

    network: fx.GraphModule
    trials: tuple[PruneTrial, ...]
    histories: tuple[FitHistory, ...]
    networks: tuple[dict[str, Tensor], ...] = ()
    failures: tuple[FailedTrial, ...] = ()

    @property
    def chosen(self) -> PruneTrial:
        """The trial of ``network``."""
        return next(trial for trial in self.trials if trial.chosen)


def measure(
    network: fx.GraphModule, inputs: LoopInputs, phase: Phase, number: int, target: Target | None = None
) -> PruneTrial:
    """The trial of a fine-tuned network: neurons and inputs without effect are taken out before its cost is measured.

    target   where it differs from ``inputs.target`` (layouts of single layers, fitted to the sizes that are left)
    Raises BudgetError when the budget limits something that the cost model does not state, and what measuring raises.
    """
    network.cpu()
    shrunk, target = shrink_laid_out(network, target or inputs.target)
    smaller = shrunk.network
    cost = inputs.cost_model.measure(smaller, target)
    unstated = cost.unstated(inputs.budget)
    if unstated:
        raise BudgetError(
            f"the budget limits {', '.join(unstated)}, which the cost model {inputs.cost_model.name!r} does not state",
            hint="remove that limit, or choose another cost.backend",
        )
    result = evaluate(
        network.to(inputs.settings.device),
        inputs.validation.to(inputs.settings.device),
        inputs.settings.task,
        inputs.settings.objective,
    )
    network.cpu()
    prunable = prunable_layers(network)
    return PruneTrial(
        round=number,
        phase=phase,
        sparsity=inputs.removed(network),
        nonzeros=sum(layer.nonzeros for layer in weight_counts(smaller).values()),
        layer_sparsity={
            name: 1.0 - layer.nonzeros / layer.weights
            for name, layer in weight_counts(network).items()
            if name in prunable
        },
        validation_loss=result.loss,
        validation_accuracy=result.accuracy,
        validation_merit=result.merit,
        cost=cost,
        meets_budget=cost.meets(inputs.budget),
        layouts=target.layers,
    )


def round_settings(inputs: LoopInputs, phase: Phase, number: int) -> FitSettings:
    """Settings of one round's fine-tuning, with a seed of its own."""
    config = inputs.config
    return replace(
        inputs.settings,
        phase=f"{phase} {number}",
        epochs=config.final_epochs if phase == "final" else config.epochs_per_round,
        learning_rate=config.learning_rate,
        patience_epochs=None,
        seed=inputs.settings.seed + 1000 * number,
    )


def estimated_cost(network: fx.GraphModule, inputs: LoopInputs) -> HardwareReport | None:
    """Estimated cost of a network; None without an estimate."""
    if is_weights_only(network):
        # no formula knows it; a measurement on a processor takes seconds
        return inputs.cost_model.measure(network, inputs.target)
    return None if inputs.estimate is None else inputs.estimate(describe_network(network), inputs.target)


def estimated_excess(network: fx.GraphModule, inputs: LoopInputs) -> float | None:
    """Estimated use divided by limit of the binding resource; None without an estimate or without limits."""
    report = estimated_cost(network, inputs)
    return None if report is None else max(report.excess(inputs.budget).values(), default=None)


def estimated_fill(network: fx.GraphModule, inputs: LoopInputs) -> float | None:
    """``fill`` of the estimated cost; None without an estimate."""
    report = estimated_cost(network, inputs)
    return None if report is None else fill(report, inputs.budget)


def worst_excess(trial: PruneTrial, budget: Budget) -> float:
    """Use divided by limit of the binding resource; 0 without limits."""
    return fill(trial.cost, budget)


def fill(cost: HardwareReport, budget: Budget) -> float:
    """Use divided by limit of the binding resource; 0 without limits.

    An interval or a clock period within its limit says nothing about how much more would fit, and does not count.
    """
    excess = cost.excess(budget)
    return max((ratio for name, ratio in excess.items() if name not in _NO_FILL or ratio > 1), default=0.0)


def choose(network: fx.GraphModule, rounds: Rounds, budget: Budget) -> PruneResult:
    """The trial within the budget with the best merit. Raises BudgetError when there is none."""
    within = [index for index, trial in enumerate(rounds.trials) if trial.meets_budget]
    if not within:
        raise unmet(rounds.trials, budget)
    best = max(within, key=lambda index: rounds.trials[index].validation_merit)
    load_network_state(network, rounds.networks[best])
    trials = tuple(replace(trial, chosen=index == best) for index, trial in enumerate(rounds.trials))
    return PruneResult(
        network,
        trials,
        tuple(rounds.histories),
        tuple(dict(state) for state in rounds.networks),
        tuple(rounds.failures),
    )


def unmet(trials: Sequence[PruneTrial], budget: Budget) -> BudgetError:
    """The error that names the binding limit and the nearest cost that was measured."""
    nearest = min(trials, key=lambda trial: worst_excess(trial, budget))
    excess = nearest.cost.excess(budget)
    binding = max(excess, key=lambda name: excess[name])
    if binding == CLOCK:
        return BudgetError(
            f"after {len(trials)} rounds the slowest pipeline stage of the nearest network takes an estimated "
            f"{nearest.cost.details[CLOCK]:.2f} ns, the clock period is {nearest.cost.clock_period_ns} ns",
            hint="leave cost.adders_per_stage and cost.pipeline_stages out: the pipeline is then cut for the clock",
        )
    used, limit = getattr(nearest.cost, binding), getattr(budget, binding)
    allow = f"budget.{binding}: {used}"
    clock = nearest.cost.clock_period_ns
    if binding == "latency_cycles" and clock is not None:
        allow = f"budget.latency_ns: {used * clock:g}"
    elif isinstance(used, float):
        allow = f"budget.{binding}: {used:.3g}"
    hint = f"allow {allow}, raise prune.max_rounds, lower prune.density_step, or start from a smaller model"
    if nearest.cost.stage is CostStage.RUNTIME:
        hint = (
            f"allow {allow}, or start from a smaller model: zero weights make a processor no faster, only whole "
            "neurons that fall away do"
        )
    elif binding in ("ii", "latency_cycles") and _rises_with_sparsity(trials, binding):
        hint = (
            f"allow {allow}, or lower target.reuse_factor: pruning raised it, because zeros take shared multipliers "
            "away while the distinct weights that need one stay"
        )
    return BudgetError(
        f"after {len(trials)} rounds the nearest network (sparsity {nearest.sparsity:.3f}) still needs "
        f"{_figure(used)} {binding.replace('_', ' ')}, the budget is {_figure(limit)}",
        hint=hint,
    )


def _rises_with_sparsity(trials: Sequence[PruneTrial], quantity: str) -> bool:
    """Whether a sparser network was measured to need more of ``quantity`` than a denser one."""
    known = [(trial.sparsity, value) for trial in trials if (value := getattr(trial.cost, quantity)) is not None]
    return any(first[0] < second[0] and first[1] < second[1] for first in known for second in known)


def _figure(value: float) -> str:
    return f"{value:.3g}" if isinstance(value, float) else str(value)


def describe_cost(report: HardwareReport) -> str:
    """One line for progress output: what the report states of area, latency or run time."""
    parts = [f"{report.lut} LUT"] if report.lut is not None else []
    parts += [f"{report.ff} FF"] if report.ff is not None else []
    parts += [f"{report.dsp} DSP"] if report.dsp else []
    parts += [f"{report.latency_cycles} cycles"] if report.latency_cycles is not None else []
    parts += [f"II {report.ii}"] if report.ii is not None and report.ii > 1 else []
    parts += [f"p99 {report.latency_p99_us:.3g} us"] if report.latency_p99_us is not None else []
    parts += [f"{report.event_time_us:.3g} us per event"] if report.event_time_us is not None else []
    return ", ".join(parts) or "nothing stated"
