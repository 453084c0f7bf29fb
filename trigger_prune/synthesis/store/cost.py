"""``StoredCost``: a cost model that never synthesises the same design twice."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from torch import fx

from trigger_prune.cost._base import CostModel
from trigger_prune.cost.report import CostStage, HardwareReport
from trigger_prune.errors import ArtefactError, CostError, ToolError, TriggerPruneError
from trigger_prune.synthesis.process import LimitError
from trigger_prune.synthesis.store.claim import Patience, try_claim, wait_for_release
from trigger_prune.synthesis.store.entry import Failure, StoredRun, now
from trigger_prune.synthesis.store.identity import ToolIdentity, tool_identity
from trigger_prune.synthesis.store.key import cost_options, key_of, key_parts
from trigger_prune.synthesis.store.reports import ReportStore
from trigger_prune.target import Target

if TYPE_CHECKING:
    from torch import nn

    from trigger_prune.cost.network import NetworkSpec

LASTING_CAUSES = frozenset({"size_limit", "cosim_mismatch", "out_of_memory"})
"""Causes of failures that the same design meets again. Time-outs are not among them: they depend on the machine. Nor
are errors of the C compiler: they come quickly, and may be those of a broken installation."""

LIMITED_BY = {"out_of_memory": "memory_limit_mib"}
"""Cause -> the limit that, raised, makes a new attempt worth while."""


@dataclass(frozen=True)
class StoredCost:
    """A ``CostModel`` around another one: looks into the store before it measures, and stores what it measured.

    While a design is being synthesised, other processes that want it wait for the result. A store that cannot be read
    or written, or holds a damaged entry, is a warning and never ends a measurement. A failure with a lasting cause
    (``LASTING_CAUSES``) is remembered with the limits it was met under and raised again without running the tool.

    A model whose tool leaves more than one report offers ``measure_run(network, target)``, which returns an object with
    ``reports`` (stage -> report), ``log`` and ``raw`` (file name -> text); otherwise ``measure`` is called.
    """

    model: CostModel
    store: ReportStore
    patience: Patience = field(default_factory=Patience)

    @property
    def name(self) -> str:
        """Name of the wrapped model."""
        return self.model.name

    @property
    def stage(self) -> CostStage:
        """Stage of the wrapped model."""
        return self.model.stage

    def measure(self, network: nn.Module, target: Target) -> HardwareReport:
        """Cost of a quantised network, from the store if it is there; raises what the wrapped model raises.

        ``details["store_key"]`` of the report names the entry.
        """
        from trigger_prune.quantize.describe import describe_network

        try:
            identity = tool_identity(self.model)
        except ToolError:
            identity = None  # the measurement itself says what is missing
        if identity is None or not isinstance(network, fx.GraphModule):
            return self.model.measure(network, target)
        spec = describe_network(network)
        parts = key_parts(
            network,
            spec.content_hash(),
            flow=identity.flow,
            options=cost_options(self.model),
            target=target,
            tool=identity.parts,
        )
        key = key_of(parts)
        claim_path = self.store.claim_path(key)
        while True:
            found = self._look_up(key)
            if found is not None:
                return found
            try:
                claim = try_claim(claim_path, self.patience)
                if claim is None:
                    wait_for_release(claim_path, self.patience)
                    continue
            except OSError as error:
                _warn(f"nobody can be told that {key[:12]} is being synthesised: {error}")
                return self._run(network, target, parts, spec, identity)
            try:
                # Its last owner may have finished between the look and the claim.
                return self._look_up(key) or self._run(network, target, parts, spec, identity)
            finally:
                claim.release()

    def _look_up(self, key: str) -> HardwareReport | None:
        try:
            run = self.store.get(key)
        except ArtefactError as error:
            _warn(f"a stored synthesis is damaged and is made again: {error.message}")
            return None
        if run is None:
            return None
        if run.failure is not None and self._would_fail_again(run.failure):
            raise ToolError(
                f"{run.failure.message}\n(met on {run.created[:10]}, stored as {key[:12]}; the tool was not run again)",
                hint=f"{run.failure.hint or 'change the network or the target'}; cost.use_store: false tries it again",
            )
        report = run.reports.get(self.stage)
        return None if report is None else report.with_details(store_key=key)

    def _would_fail_again(self, failure: Failure) -> bool:
        limit = LIMITED_BY.get(failure.cause)
        if limit is None:
            return True
        allowed = getattr(self.model, limit, None)
        return limit in failure.limits and allowed is not None and allowed <= failure.limits[limit]

    def _run(
        self,
        network: fx.GraphModule,
        target: Target,
        parts: Mapping[str, Any],
        spec: NetworkSpec,
        identity: ToolIdentity,
    ) -> HardwareReport:
        """Measure, and store what came out."""
        measure_run = getattr(self.model, "measure_run", None)
        try:
            if measure_run is None:
                reports, log, raw = {self.stage: self.model.measure(network, target)}, "", {}
            else:
                outcome = measure_run(network, target)
                reports, log, raw = dict(outcome.reports), outcome.log, dict(outcome.raw)
        except (CostError, ToolError) as error:
            self._keep_failure(error, parts, spec)
            raise
        if self.stage not in reports:
            raise CostError(f"the cost model {self.name!r} gave no report of its own stage {self.stage}")
        report = reports[self.stage]
        if not _is_version(report.tool_version, identity.version):
            _warn(
                f"{report.tool} states version {report.tool_version}, but {identity.version} was expected: its report "
                "is not stored"
            )
            return report
        stored = self._keep(StoredRun(parts, reports, now(), log, raw, spec))
        if stored is None:
            return report
        return stored.reports[self.stage].with_details(store_key=stored.key)

    def _keep_failure(self, error: CostError | ToolError, parts: Mapping[str, Any], spec: NetworkSpec) -> None:
        """Store the reports of the steps that ended, or else the failure if it would come again."""
        outcome = getattr(error, "run", None)
        cause = str(getattr(error, "cause", ""))
        if isinstance(error, LimitError) and error.limit == "memory":
            cause = "out_of_memory"
        reports = dict(outcome.reports) if outcome is not None else {}
        failure = None
        if not reports:
            if cause not in LASTING_CAUSES:
                return
            limits = {
                name: float(value)
                for name in ("timeout_s", "memory_limit_mib")
                if (value := getattr(self.model, name, None)) is not None
            }
            failure = Failure(error.message, cause, error.hint, limits)
        log, raw = ("", {}) if outcome is None else (outcome.log, dict(outcome.raw))
        self._keep(StoredRun(parts, reports, now(), log, raw, spec, failure))

    def _keep(self, run: StoredRun) -> StoredRun | None:
        """What the store holds afterwards; None when it cannot be written."""
        try:
            return self.store.put(run)
        except TriggerPruneError as error:
            _warn(f"a synthesis could not be stored: {error}")
            return None


def _is_version(stated: str, expected: str | None) -> bool:
    """Whether a report's version is the one in the key: ``2023.2.1`` is a 2023.2."""
    return expected is None or stated == expected or stated.startswith((f"{expected}.", f"{expected} "))


def _warn(message: str) -> None:
    warnings.warn(message, stacklevel=4)
