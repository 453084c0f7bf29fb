"""Several criteria together, by the ranks that they give: their raw scores are on no common scale."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from typing import Literal

import torch
from torch import Tensor, fx, nn

from trigger_prune.errors import ConfigError
from trigger_prune.importance._base import (
    Accumulating,
    Criterion,
    CriterionData,
    criterion_by_name,
    named_weight_layers,
)
from trigger_prune.importance.group_scores import score_groups
from trigger_prune.quantize.layers import weight_layers
from trigger_prune.structure._base import Groups

RankScope = Literal["global", "layer"]
_BY_LAYER = "by layer"
_TOKEN = re.compile(
    r"\s*(?:(?P<number>\d+(?:\.\d*)?(?:[eE][+-]?\d+)?|\.\d+)|(?P<name>[^\W\d]\w*)|(?P<sign>[+*])|(?P<bad>\S))"
)


@dataclass(frozen=True)
class Term:
    """``weight`` times the product of the ranks that ``factors`` give."""

    factors: tuple[Criterion, ...]
    weight: float = 1.0

    def __str__(self) -> str:
        product = " * ".join(factor.name for factor in self.factors)
        return product if self.weight == 1 else f"{self.weight:g} {product}"


@dataclass(frozen=True)
class Combine:
    """Weighted mean of the terms; each is a rank, or a product of ranks.

    The rank of a weight is its place among the kept weights by one criterion, from 1 / n for the lowest of n to 1 for
    the highest; equal scores share their mean rank. ``scope`` says among which: all weight layers of the network
    (``global``), so that the rank does not depend on which layers are asked for, or those of its own layer (``layer``),
    which takes away what a criterion says about the layers as wholes. Masked weights score 0.
    Groups are ranked as groups, by each criterion's own rule for them; a group without a kept weight scores 0.

    Raises ConfigError for no term, a term without criterion, or a weight that is not above zero.
    """

    terms: tuple[Term, ...]
    scope: RankScope = "global"

    def __post_init__(self) -> None:
        if not self.terms or any(not term.factors for term in self.terms):
            raise ConfigError("a combination of importance criteria needs a criterion in every term")
        for term in self.terms:
            if not 0 < term.weight < math.inf:
                raise ConfigError(f"weight {term.weight:g} of {term.factors[0].name!r} in a combination is not above 0")

    @property
    def name(self) -> str:
        """The expression that ``criterion_by_name`` reads."""
        return " + ".join(map(str, self.terms)) + ("" if self.scope == "global" else f" {_BY_LAYER}")

    def score(
        self, network: nn.Module, layer_names: Sequence[str], data: CriterionData | None = None
    ) -> dict[str, Tensor]:
        """See ``Criterion.score``. Raises what the criteria raise."""
        asked = named_weight_layers(network, layer_names)
        layers = weight_layers(network) if self.scope == "global" else asked
        kept = torch.cat([layer.weight_mask.flatten() != 0 for layer in layers.values()]).cpu()
        sizes = [layer.weight.numel() for layer in layers.values()]
        homes = torch.repeat_interleave(torch.arange(len(sizes)), torch.tensor(sizes))

        def scores_of(criterion: Criterion) -> Tensor:
            scores = criterion.score(network, list(layers), data)
            return torch.cat([scores[name].detach().double().flatten().cpu() for name in layers])

        parts = dict(zip(layers, torch.split(self._combined(scores_of, kept, homes), sizes), strict=True))
        return {name: parts[name].reshape(layer.weight.shape).to(layer.weight.device) for name, layer in asked.items()}

    def score_groups(self, network: fx.GraphModule, groups: Groups, data: CriterionData | None = None) -> Tensor:
        """See ``GroupCriterion.score_groups``."""
        layers = named_weight_layers(network, list(groups.ids))
        kept = groups.sums({name: layer.weight_mask for name, layer in layers.items()}) > 0
        names = list(groups.ids)
        homes = torch.tensor([names.index(name) for name in groups.home()])
        return self._combined(lambda criterion: score_groups(criterion, network, groups, data), kept, homes)

    @contextmanager
    def watch(self, network: nn.Module) -> Iterator[Combine]:
        """See ``Accumulating.watch``: of the criteria that gather while training."""
        with ExitStack() as watched:

            def seen(criterion: Criterion) -> Criterion:
                return (
                    watched.enter_context(criterion.watch(network))
                    if isinstance(criterion, Accumulating)
                    else criterion
                )

            yield replace(
                self, terms=tuple(replace(term, factors=tuple(map(seen, term.factors))) for term in self.terms)
            )

    def _combined(self, scores_of: Callable[[Criterion], Tensor], kept: Tensor, homes: Tensor) -> Tensor:
        """Of a flat list of things of which ``kept`` are still there and which belong to the layers ``homes``."""
        ranked: dict[int, Tensor] = {}
        total = torch.zeros(len(kept), dtype=torch.float64)
        for term in self.terms:
            product = torch.full_like(total, term.weight)
            for factor in term.factors:
                if id(factor) not in ranked:
                    ranked[id(factor)] = self._ranks(scores_of(factor), kept, homes)
                product *= ranked[id(factor)]
            total += product
        result: Tensor = total / sum(term.weight for term in self.terms)
        return result

    def _ranks(self, scores: Tensor, kept: Tensor, homes: Tensor) -> Tensor:
        result = torch.zeros_like(scores)
        for members in [kept] if self.scope == "global" else [kept & (homes == home) for home in torch.unique(homes)]:
            result[members] = ranks(scores[members])
        return result


def ranks(scores: Tensor) -> Tensor:
    """Place of each score among all n, ``1 / n`` (lowest) to 1, float64 ``(n,)``; equal ones share the mean place.

    Scores that agree in their first ten digits are equal: the last ones differ with how events were cut into batches.
    """
    if len(scores) == 0:
        return scores.double()
    mantissa, exponent = torch.frexp(scores.double())
    rounded = torch.ldexp((mantissa * 2.0**33).round(), exponent)
    _, inverse, counts = torch.unique(rounded, return_inverse=True, return_counts=True)
    # of the places that equal scores take: the last one, less half of the way to the first
    mean_place = counts.cumsum(0).double() - (counts.double() - 1) / 2
    result: Tensor = mean_place[inverse] / len(scores)
    return result


def parse_combination(text: str, *, with_data: bool) -> Combine:
    """The combination that an expression describes.

    Terms are joined by ``+``. A term is one criterion, or several joined by ``*`` (the product of their ranks), with
    a number in front (``2 wanda`` or ``2 * wanda``) as its weight, 1 without. ``by layer`` at the end ranks within
    each layer, not over the network.
    Raises ConfigError that names the word or sign that is wrong, and what ``criterion_by_name`` raises.
    """
    body = text.strip()
    scope: RankScope = "global"
    if re.search(r"\sby\s+layer$", body):
        body, scope = re.sub(r"\sby\s+layer$", "", body), "layer"
    terms: list[Term] = []
    weight: float | None = None
    factors: list[Criterion] = []
    previous = "+"
    for found in [*_TOKEN.finditer(body), None]:
        kind = "end" if found is None else str(found.lastgroup)
        token = "the end" if found is None else repr(found.group(kind))
        if kind == "sign" and found is not None:
            kind = found.group(kind)
        if previous not in _MAY_PRECEDE.get(kind, ()):
            raise _wrong(text, token)
        if kind == "number" and found is not None:
            weight = float(found.group(kind))
            if not 0 < weight < math.inf:
                raise _wrong(text, token, "a weight is above zero")
        elif kind == "name" and found is not None:
            factors.append(_named(found.group(kind), text, with_data))
        elif kind in ("+", "end"):
            terms.append(Term(tuple(factors), 1.0 if weight is None else weight))
            weight, factors = None, []
        # a number is followed by a criterion with or without a sign in between, a criterion never by a number
        previous = "number *" if (previous, kind) == ("number", "*") else kind
    return Combine(tuple(terms), scope)


_MAY_PRECEDE = {
    "number": ("+",),
    "name": ("+", "*", "number", "number *"),
    "*": ("name", "number"),
    "+": ("name",),
    "end": ("name",),
}


def _named(name: str, text: str, with_data: bool) -> Criterion:
    try:
        return criterion_by_name(name, with_data=with_data)
    except ConfigError as error:
        raise ConfigError(f"{error.message} (in {text!r})", hint=error.hint) from error


def _wrong(text: str, token: str, more: str = "") -> ConfigError:
    return ConfigError(
        f"importance criterion {text!r}: {token} does not belong there" + (f"; {more}" if more else ""),
        hint="one name, or a combination such as 'taylor_fisher + 2 wanda', 'taylor_fisher * wanda', "
        "'lamp + wanda by layer'",
    )
