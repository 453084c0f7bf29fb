"""The stored syntheses as a list of measurements, for whoever learns from them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from trigger_prune.cost.hls.design import HlsDesign
from trigger_prune.cost.network import NetworkSpec
from trigger_prune.cost.report import CostStage, HardwareReport
from trigger_prune.errors import ArtefactError
from trigger_prune.synthesis.store.entry import StoredRun
from trigger_prune.synthesis.store.reports import ReportStore
from trigger_prune.target import Target


@dataclass(frozen=True, eq=False)
class Measurement:
    """One successful run.

    flow      ``rtl`` or ``hls``
    options   of the cost model; ``tool`` names and versions of tool and generators
    network   the integers that were synthesised; None when the entry was shared without them
    design    then: the layers with counts in place of the weights, where they are known
    """

    key: str
    created: str
    flow: str
    target: Target
    options: dict[str, Any]
    tool: dict[str, str]
    reports: dict[CostStage, HardwareReport]
    network: NetworkSpec | None
    design: HlsDesign | None = None


def history(store: ReportStore, on_damage: Callable[[str, ArtefactError], None] | None = None) -> Iterator[Measurement]:
    """All successful runs of the store, oldest first, then by key. Damaged entries go to ``on_damage``."""
    runs = [run for run in store.runs(on_damage) if run.reports]
    for run in sorted(runs, key=lambda run: (run.created, run.key)):
        yield _measurement(run)


def _measurement(run: StoredRun) -> Measurement:
    parts = run.parts
    return Measurement(
        key=run.key,
        created=run.created,
        flow=parts["flow"],
        target=Target.from_dict(parts["target"]),
        options=dict(parts["options"]),
        tool=dict(parts["tool"]),
        reports=dict(run.reports),
        network=run.network,
        design=run.design,
    )
