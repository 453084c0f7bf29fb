"""A network with its events, ready to judge variants of it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, fx

from trigger_prune.errors import ModelError
from trigger_prune.sensitivity.batch import Batch, input_outputs
from trigger_prune.sensitivity.findings import Figure
from trigger_prune.sensitivity.judged import Bench, Judged
from trigger_prune.sensitivity.metrics import Columns, Judge, columns_of, make_judge
from trigger_prune.sensitivity.program import Program
from trigger_prune.sensitivity.pruned import Candidate
from trigger_prune.sensitivity.resample import Resampler
from trigger_prune.sensitivity.settings import ScanSettings
from trigger_prune.sensitivity.variants import Variant
from trigger_prune.train.evaluate import LOSS, Batches
from trigger_prune.train.loss import Task
from trigger_prune.train.objective import Objective

_COLUMN_VALUES = 8 * 1024 * 1024
"""Values held per figure: so many variants times events are judged at a time."""

_PLAIN_EVENTS = 2048


class Scanner:
    """A network with its events, ready to judge variants of it. The network is left alone: a private copy runs.

    groups   int64 ``(n,)``: numbers of the generated collisions, which are resampled as a whole; None: every event is
             one
    """

    def __init__(
        self,
        network: fx.GraphModule,
        batches: Batches,
        task: Task,
        objective: Objective = LOSS,
        settings: ScanSettings | None = None,
        groups: NDArray[np.int64] | None = None,
    ) -> None:
        self.settings = settings or ScanSettings()
        if len(batches) == 0:
            raise ModelError("there are no events to evaluate")
        order = _random_order(len(batches), groups, self.settings.seed) if self.settings.interval_width else None
        if order is not None:
            batches = batches.take(torch.from_numpy(order).to(batches.features.device))
            groups = None if groups is None else groups[order]
        self.batches, self.order = batches, order
        self.program = Program(network)
        first = self.program.plain(batches.features[:1])
        self.judge: Judge = make_judge(
            batches,
            task,
            objective,
            int(first.shape[1]),
            score=self.settings.score,
            signal_classes=self.settings.signal_classes,
            background_fraction=self.settings.background_fraction,
            figures=self.settings.figures,
        )
        parts = [
            columns_of(self.program.plain(part.features).unsqueeze(1), part, self.judge)
            for part in _chunks(batches, _PLAIN_EVENTS)
        ]
        self.bench = Bench(
            Columns.join(parts),
            self.judge,
            Resampler(len(batches), groups, self.settings.replicas, self.settings.seed),
            self.settings.interval_width,
            self.settings.level,
            self.settings.first_look,
        )
        self.baseline = self.bench.baseline()

    def judge_candidates(
        self, candidates: Sequence[Candidate], progress: Callable[[int, int], None] | None = None
    ) -> list[Judged]:
        """Judge networks in any order; equal ones are computed once, and one equal to the unpruned costs nothing.

        progress   called with (networks done, networks)
        """
        own = {name: state.content() for name, state in self.program.states.items()}
        same_as_base = self._unchanged()
        together: dict[frozenset[str], dict[tuple[object, ...], list[int]]] = {}
        found: dict[int, Judged] = {}
        for number, candidate in enumerate(candidates):
            variant = candidate.variant
            layers = {name: state for name, state in variant.layers.items() if state.content() != own.get(name)}
            variant = replace(variant, layers=layers)
            if not variant.changed:
                found[number] = same_as_base
                continue
            together.setdefault(variant.changed, {}).setdefault(variant.content(), []).append(number)
        done = len(found)
        most = max(1, _COLUMN_VALUES // len(self.batches))
        for changed, numbers in together.items():
            distinct = list(numbers.values())
            for start in range(0, len(distinct), most):
                block = distinct[start : start + most]
                variants = [candidates[same[0]].variant for same in block]
                variants = [
                    replace(variant, layers={name: state for name, state in variant.layers.items() if name in changed})
                    for variant in variants
                ]
                for same, judged in zip(block, self._judge(variants), strict=True):
                    found |= dict.fromkeys(same, judged)
                    done += len(same)
                if progress is not None:
                    progress(done, len(candidates))
        return [found[number] for number in range(len(candidates))]

    def judge_inputs(self, replaced: Tensor) -> list[Judged]:
        """Judge the unchanged network with one feature at a time taken from ``replaced``, shaped like the features."""
        parts = []
        for start in range(0, len(self.batches), _PLAIN_EVENTS):
            part = self.batches.take(slice(start, start + _PLAIN_EVENTS))
            outputs = input_outputs(self.program, part.features, replaced[start : start + _PLAIN_EVENTS])
            parts.append(columns_of(outputs, part, self.judge))
        columns = Columns.join(parts)
        return self.bench.judge_all(lambda _rows, _numbers: columns, columns.loss.shape[1])

    def merit(self, figures: dict[str, Figure]) -> float:
        """The objective's figure of merit, larger is better."""
        name = self.judge.objective_figure
        return -figures[name].value if name == "loss" else figures[name].value

    def _unchanged(self) -> Judged:
        figures = {
            name: replace(figure, change=0.0, change_low=0.0, change_high=0.0)
            for name, figure in self.baseline.figures.items()
        }
        return Judged(figures, self.baseline.events)

    def _judge(self, variants: Sequence[Variant]) -> list[Judged]:
        whole = Batch(self.program, variants, self.batches.features[:3])

        def evaluate(rows: slice, numbers: Sequence[int]) -> Columns:
            batch = whole
            if len(numbers) < len(variants):
                some = [variants[number] for number in numbers]
                batch = Batch(self.program, some, self.batches.features[:3], whole.shareable)
            parts = _chunks(self.batches.take(rows), _PLAIN_EVENTS)
            return Columns.join([columns_of(batch.run(part.features), part, self.judge) for part in parts])

        return self.bench.judge_all(evaluate, len(variants))


def _random_order(n_events: int, groups: NDArray[np.int64] | None, seed: int) -> NDArray[np.int64]:
    """Collisions in random order, the rows of one together."""
    generator = np.random.default_rng(seed)
    if groups is None:
        return generator.permutation(n_events)
    _, cluster = np.unique(groups, return_inverse=True)
    place = generator.permutation(int(cluster.max()) + 1)
    order: NDArray[np.int64] = np.argsort(place[cluster], kind="stable")
    return order


def _chunks(batches: Batches, size: int) -> list[Batches]:
    return [batches.take(slice(start, start + size)) for start in range(0, len(batches), size)]
