"""What to build, in plain sentences with numbers; also why not two stages, where they do not pay."""

from __future__ import annotations

import math
from dataclasses import dataclass

from trigger_prune.two_stage.findings import DesignPoint, Recommendation, Verdict
from trigger_prune.two_stage.options import UNROLLED
from trigger_prune.two_stage.search import Requirements
from trigger_prune.two_stage.table import JudgedRow

SIGMAS_90 = 1.645
"""Half width of a 90 % interval in standard errors."""

WORTHWHILE = 0.05
"""Relative saving below which nobody builds a FIFO, a scheduler and a second network."""

_VERDICTS: dict[str, Verdict] = {
    "full": "single_stage",
    "pruned": "pruned_alone",
    "light": "light_alone",
    "two_stage": "two_stage",
}


@dataclass(frozen=True, eq=False)
class Facts:
    """What the recommendation rests on.

    rows       full alone first; the two-stage design, if any, among the others
    designs    of the search; empty where the strategy forbids to share the engine
    overflow   loss per escalated object of the two-stage design on test, with the ends of its 68 % interval
    """

    rows: tuple[JudgedRow, ...]
    designs: tuple[DesignPoint, ...]
    requirements: Requirements
    strategy: str
    max_loss: float
    overflow: tuple[float, float, float] | None = None


def recommend(facts: Facts) -> Recommendation:
    """The smallest design whose loss is within the limit, taken at its 90 % upper limit, and that can be built.

    Two stages must undercut every other such design by ``WORTHWHILE`` and by the errors of the resources.
    """
    full = facts.rows[0]
    two = next((judged for judged in facts.rows if judged.row.kind == "two_stage"), None)
    alone = [judged for judged in facts.rows if judged.row.kind in ("full", "pruned", "light") and _fine(judged, facts)]
    best_alone = min(alone, key=_size, default=None)
    saving = None
    if two is not None and not full.problems and full.used:
        saving = 1 - (two.used or 0) / full.used
    reasons = _reasons_against(facts, two, full, best_alone)
    if not reasons and two is not None:
        return Recommendation("two_stage", _for_two_stages(facts, two, full, saving), saving)
    against = tuple(f"Do not use two stages here, because {reason}." for reason in reasons)
    if best_alone is None:
        return Recommendation("none", (*_nothing(facts), *against), saving)
    return Recommendation(
        _VERDICTS[best_alone.row.kind], (_build(best_alone, facts), *against, *_not_smaller(facts, best_alone)), saving
    )


def within(judged: JudgedRow, max_loss: float) -> bool:
    """Whether the loss is within the limit: only when its 90 % upper limit is."""
    loss = judged.row.loss
    return judged.row.kind == "full" or (loss is not None and loss.relative_loss_limit90 <= max_loss)


def _fine(judged: JudgedRow, facts: Facts) -> bool:
    return not judged.problems and within(judged, facts.max_loss)


def _size(judged: JudgedRow) -> tuple[int, float]:
    """Order of designs; LUTs where the resource is the same, which for DSP often is none at all."""
    lut = None if judged.row.cost is None else judged.row.cost.lut
    return judged.used or 0, float("inf") if lut is None else lut


def _reasons_against(
    facts: Facts, two: JudgedRow | None, full: JudgedRow, best_alone: JudgedRow | None
) -> tuple[str, ...]:
    resource = facts.requirements.resource.upper()
    if facts.strategy in UNROLLED:
        return (
            f"strategy {facts.strategy} is fully unrolled: every weight is an adder tree of its own, nothing of it can "
            "serve several objects in turn, and the full model costs the same for one object in a hundred crossings as "
            "for one in each",
        )
    if two is None:
        return _binding(facts)
    found = list(two.problems)
    if facts.overflow is not None and facts.overflow[1] > facts.requirements.max_overflow:
        found.append(
            f"on test the FIFO of the best design loses {facts.overflow[0]:.2g} of the escalated objects, allowed "
            f"{facts.requirements.max_overflow:g}"
        )
    if not within(two, facts.max_loss):
        found.append(f"the best design loses {_loss(two)}, allowed {_percent(facts.max_loss)}")
    if full.used == 0:
        found.append(f"the full model alone needs no {resource}: there is nothing to save")
    if best_alone is None or not full.used:
        return tuple(found)
    used, other = two.used or 0, best_alone.used or 0
    if other <= used:
        found.append(f"{_what(best_alone)} takes {other} {resource}, two stages take {used}")
    elif 1 - used / other < WORTHWHILE:
        found.append(
            f"they save {_percent(1 - used / other)} of the {resource} of {_what(best_alone)} ({used} instead of "
            f"{other}), too little for a FIFO, a scheduler and a second network"
        )
    elif used and (error := _error(two, best_alone)) and math.log(other / used) < error / SIGMAS_90:
        found.append(
            f"they save {_percent(1 - used / other)} of the {resource} of {_what(best_alone)} ({used} instead of "
            f"{other}), less than the errors of the estimates ({_range(other, used, error)})"
        )
    if found and best_alone.row.kind in ("pruned", "light"):
        enough = f"{_what(best_alone)} is enough: it loses {_loss(best_alone)}"
        found.append(f"{enough}, allowed {_percent(facts.max_loss)}")
    return tuple(found)


def _error(first: JudgedRow, second: JudgedRow) -> float | None:
    """Half width of the 90 % interval of the logarithm of the ratio of their sizes.

    What the estimates of the full model have wrong in common cancels; the rest is taken as independent.
    """
    if first.spread is None or second.spread is None:
        return None
    own = [math.sqrt(max(row.spread**2 - row.shared**2, 0.0)) for row in (first, second) if row.spread is not None]
    return math.hypot(*own, first.shared - second.shared)


def _range(other: int, used: int, error: float) -> str:
    low, high = (1 - used / other * math.exp(sign * error) for sign in (1, -1))
    return f"90 % interval of the saving: {_percent(low)} to {_percent(high)}"


def _binding(facts: Facts) -> tuple[str, ...]:
    """Why no design of the search is a solution, the most frequent reason first."""
    needs, designs = facts.requirements, facts.designs
    if not designs:
        return ("no light model could be combined with the full model",)
    late = [d for d in designs if any(text.startswith("latency") for text in d.problems)]
    lossy = [d for d in designs if any(text.startswith("loses") for text in d.problems)]
    large = [d for d in designs if any(", allowed" in t and not t.startswith(("latency", "loses")) for t in d.problems)]
    counted = []
    if late:
        quickest = min(late, key=lambda design: design.latency.output_ns).latency
        counted.append(
            (
                len(late),
                f"{len(late)} of {len(designs)} designs are too slow (the quickest of them takes "
                f"{quickest.output_bx} BX, {quickest.output_ns:.0f} ns, allowed {needs.latency_budget_ns:.0f} ns)",
            )
        )
    if lossy:
        known = [d.overflow for d in lossy if d.overflow is not None]
        best = f"the best of them {min(known):.2g} of the escalated objects" if known else "the engine is overloaded"
        counted.append(
            (
                len(lossy),
                f"{len(lossy)} of {len(designs)} designs lose too much in the FIFO ({best}, allowed "
                f"{needs.max_overflow:g})",
            )
        )
    if large:
        smallest = min(large, key=lambda design: design.resource_used)
        text = next(t for t in smallest.problems if ", allowed" in t and not t.startswith(("latency", "loses")))
        counted.append((len(large), f"{len(large)} of {len(designs)} designs are too large (the smallest: {text})"))
    counted.sort(key=lambda pair: -pair[0])
    other = {text for d in designs for text in d.problems} if not counted else set()
    return tuple(text for _, text in counted) or tuple(sorted(other))


def _for_two_stages(facts: Facts, two: JudgedRow, full: JudgedRow, saving: float | None) -> tuple[str, ...]:
    resource = facts.requirements.resource.upper()
    size = f"{two.used} {resource}"
    if saving is not None:
        size += f", {_percent(saving)} less than the {full.used} of the full model alone ({full.row.note})"
    elif full.problems:
        size += f"; the full model alone cannot be built here ({'; '.join(full.problems)})"
    sentences = [f"Use two stages: {two.row.name} ({two.row.note}). They take {size}."]
    error = _error(two, full)
    if saving is not None and error:
        sentences.append(
            f"The resources are estimates ({_range(full.used or 0, two.used or 0, error)}; what both estimates of the "
            "full model have wrong cancels): synthesise both before you build (cost.backend csynth)."
        )
    elif saving is not None and error is None:
        sentences.append(
            "The resources are estimates without a 90 % interval of the saving (one of theirs is missing or reaches "
            "down to 0): synthesise both before you build (cost.backend csynth)."
        )
    sentences.append(f"At equal rate they lose {_loss(two)}, allowed {_percent(facts.max_loss)}.")
    latency = two.row.latency
    if latency is not None:
        budget = facts.requirements.latency_budget_ns
        sentences.append(
            f"Every decision leaves after {latency.output_bx} BX ({latency.output_ns:.0f} ns) of "
            f"{budget:.0f} ns, the longest wait of {latency.wait_cycles} cycles included."
        )
    if facts.overflow is not None:
        value, low, high = facts.overflow
        limit = facts.requirements.max_overflow
        sentences.append(
            f"On test the FIFO loses {value:.2g} of the escalated objects ({low:.2g} to {high:.2g} at the ends of the "
            f"escalated share's 68 % interval), allowed {limit:g}"
            f"{', which is above it but within the error' if value > limit else ''}."
        )
    for judged in facts.rows[1:]:
        if judged.row.kind in ("pruned", "light"):
            sentences.append(_why_not(judged, two, facts))
    return tuple(sentences)


def _why_not(judged: JudgedRow, two: JudgedRow, facts: Facts) -> str:
    what, resource = _what(judged), facts.requirements.resource.upper()
    if judged.problems:
        return f"{_capital(what)} does not do: {'; '.join(judged.problems)}."
    if not within(judged, facts.max_loss):
        return f"{_capital(what)} does not do: it loses {_loss(judged)}, allowed {_percent(facts.max_loss)}."
    return f"{_capital(what)} would do, with {judged.used} {resource} instead of {two.used}."


def _build(judged: JudgedRow, facts: Facts) -> str:
    resource, latency = facts.requirements.resource.upper(), judged.row.latency
    lut = "" if judged.row.cost is None or resource == "LUT" else f" and {judged.row.cost.lut} LUT"
    when = "" if latency is None else f", {latency.output_bx} BX ({latency.output_ns:.0f} ns) of latency"
    loses = "" if judged.row.kind == "full" else f"; it loses {_loss(judged)} against the full model at equal rate"
    return f"Use {_what(judged)} ({judged.row.note}): {judged.used} {resource}{lut}{when}{loses}."


def _not_smaller(facts: Facts, chosen: JudgedRow) -> tuple[str, ...]:
    """Why smaller designs of one stage were passed over."""
    found = []
    for judged in facts.rows[1:]:
        if judged.row.kind in ("pruned", "light") and judged is not chosen and _size(judged) < _size(chosen):
            why = "; ".join(judged.problems) or f"it loses {_loss(judged)}"
            found.append(f"{_capital(_what(judged))} is smaller ({judged.used}) but does not do: {why}.")
    return tuple(found)


def _nothing(facts: Facts) -> tuple[str, ...]:
    found = ["Nothing meets the requirements."]
    for judged in facts.rows:
        if judged.row.kind in ("full", "pruned", "light"):
            why = list(judged.problems)
            if not within(judged, facts.max_loss):
                why.append(f"it loses {_loss(judged)}")
            found.append(f"{_capital(_what(judged))}: {'; '.join(why)}.")
    return tuple(found)


def _what(judged: JudgedRow) -> str:
    names = {"full": "the full model alone", "pruned": "the pruned network alone"}
    return names.get(judged.row.kind, f"the light model {judged.row.name} alone")


def _loss(judged: JudgedRow) -> str:
    """What follows "it loses"."""
    loss = judged.row.loss
    if loss is None:
        return "nothing"
    value, error = _percent(loss.relative_loss.value), _percent(loss.relative_loss.error)
    limit = f"90 % limit {_percent(loss.relative_loss_limit90)}"
    if loss.relative_loss.value <= 0:
        return f"no efficiency ({value} +- {error}, {limit})"
    return f"{value} +- {error} of the efficiency ({limit})"


def _percent(share: float) -> str:
    return f"{100 * share:.2g} %" if abs(share) < 0.1 else f"{100 * share:.0f} %"


def _capital(text: str) -> str:
    return text[0].upper() + text[1:]
