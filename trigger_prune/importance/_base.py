"""What every importance criterion offers, and the registry by name."""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import torch
from torch import Tensor, nn

from trigger_prune.errors import ConfigError, DataError, ModelError
from trigger_prune.quantize.layers import QuantWeightLayer, weight_layers
from trigger_prune.train.evaluate import Batches
from trigger_prune.train.loss import Task


@dataclass(frozen=True)
class CriterionData:
    """Events that a data criterion looks at.

    batches      events on any device; ``weights`` weigh every mean over events, those of weight zero are left out
    task         whose loss the derivatives are of
    batch_size   events held in memory at once; scores do not depend on it

    Raises ConfigError for a batch size below 1, DataError when no event has a weight above zero.
    """

    batches: Batches
    task: Task = "classify"
    batch_size: int = 1024

    def __post_init__(self) -> None:
        if self.batch_size < 1:
            raise ConfigError(f"batch_size {self.batch_size} of an importance criterion is below 1")
        if not bool((self.batches.weights > 0).any()):
            raise DataError(
                f"none of the {len(self.batches)} events for the importance of weights has a weight above zero"
            )

    def parts(self, device: torch.device, max_events: int | None = None) -> Iterator[tuple[Batches, Tensor]]:
        """The events in order, features and float targets in float64, with their shares of the total weight.

        max_events   a lower limit than ``batch_size`` on the events of a part
        The shares, float64 ``(n,)``, sum to 1 over all parts: ``(shares * values).sum()`` gathers a weighted mean.
        """
        kept = self.batches.take(self.batches.weights > 0)
        shares = kept.weights.double() / kept.weights.double().sum()
        step = min(self.batch_size, max_events or self.batch_size)
        for start in range(0, len(kept), step):
            rows = slice(start, start + step)
            part = kept.take(rows)
            targets = part.targets.double() if part.targets.is_floating_point() else part.targets
            part = Batches(part.features.double(), targets, part.weights)
            yield part.to(device), shares[rows].to(device)


class Criterion(Protocol):
    """Importance of single weights."""

    @property
    def name(self) -> str:
        """Name in project.yaml and in reports."""
        ...

    def score(
        self, network: nn.Module, layer_names: Sequence[str], data: CriterionData | None = None
    ) -> dict[str, Tensor]:
        """Score of every weight of the named layers: float64, shaped like the weight, higher = keep.

        data   events; criteria that look at weights alone ignore them
        Masked weights get a score too; a data criterion gives them its lowest one. The network is not changed.
        Raises ModelError for a name that is no quantised weight layer, DataError when ``data`` is needed and missing.
        """
        ...


@runtime_checkable
class Accumulating(Protocol):
    """A criterion that gathers what it needs while a network trains; whoever trains enters ``watch`` around it."""

    def watch(self, network: nn.Module) -> AbstractContextManager[Criterion]:
        """``with criterion.watch(network) as seen:`` records every training step of the block.

        ``seen`` is the criterion that has seen the steps so far. It can be asked at any time, in the block and after
        it, and leaves the network as it is.
        """
        ...


_WITHOUT_DATA: dict[str, Criterion] = {}
_WITH_DATA: dict[str, Criterion] = {}


def register(criterion: Criterion) -> Criterion:
    """Makes a criterion that needs nothing but the network known by its name."""
    _WITHOUT_DATA[criterion.name] = criterion
    return criterion


def register_data_criterion(criterion: Criterion) -> Criterion:
    """Makes a criterion that needs events known by its name."""
    _WITH_DATA[criterion.name] = criterion
    return criterion


def criterion_names(*, with_data: bool) -> tuple[str, ...]:
    """Names in alphabetical order; of criteria that need events only when the caller has some (``with_data``)."""
    return tuple(sorted({**_WITHOUT_DATA, **_WITH_DATA} if with_data else _WITHOUT_DATA))


def criterion_by_name(name: str, *, with_data: bool = False) -> Criterion:
    """The registered criterion, or several together: ``taylor_fisher + 2 wanda``, see importance/combine.py.

    with_data   the caller passes ``CriterionData`` to ``score``; without, criteria that need events are refused here,
                before any work is done
    Raises ConfigError that lists the names there are, or says what is wrong with a combination.
    """
    if not name.isidentifier():
        from trigger_prune.importance.combine import parse_combination

        return parse_combination(name, with_data=with_data)
    names = criterion_names(with_data=with_data)
    if name in names:
        return _WITHOUT_DATA.get(name) or _WITH_DATA[name]
    if name in _WITH_DATA and not with_data:
        raise ConfigError(
            f"importance criterion {name!r} needs events, and none are passed to it here",
            hint=f"criteria without events: {', '.join(names)}; "
            "from Python: criterion_by_name(name, with_data=True).score(network, layers, CriterionData(batches, task))",
        )
    close = difflib.get_close_matches(name, names, n=1)
    raise ConfigError(
        f"unknown importance criterion {name!r}" + (f"; did you mean {close[0]!r}?" if close else ""),
        hint=f"criteria: {', '.join(names)}",
    )


def require_data(name: str, data: CriterionData | None) -> CriterionData:
    """``data``. Raises DataError, in the name of the criterion, when there is none."""
    if data is None:
        raise DataError(
            f"importance criterion {name!r} needs events",
            hint="pass them: score(network, layer_names, CriterionData(batches, task))",
        )
    return data


def named_weight_layers(network: nn.Module, layer_names: Sequence[str]) -> dict[str, QuantWeightLayer]:
    """The named layers in that order. Raises ModelError for a name that is no quantised weight layer."""
    layers = weight_layers(network)
    for name in layer_names:
        if name not in layers:
            raise ModelError(
                f"{name!r} is no quantised weight layer of the network", hint=f"weight layers: {', '.join(layers)}"
            )
    return {name: layers[name] for name in layer_names}


def kept_weight(layer: QuantWeightLayer) -> Tensor:
    """Master weight in float64, zero where masked."""
    return layer.weight.detach().double() * layer.weight_mask.double()


def require_finite(criterion: str, scores: dict[str, Tensor]) -> dict[str, Tensor]:
    """``scores``. Raises ModelError naming the layer where one is not finite: a sort would put it anywhere."""
    for name, values in scores.items():
        if not bool(torch.isfinite(values).all()):
            raise ModelError(
                f"importance criterion {criterion!r}: a score of layer {name!r} is not finite",
                hint="check the features and the weights for NaN and infinity",
            )
    return scores
