"""Every error trigger_prune raises on purpose.

    TriggerPruneError
    ├── ConfigError        project.yaml: unknown key, wrong value, missing file
    ├── DataError          events: wrong shape, NaN, missing branch, unknown label
    ├── ModelError         a model that cannot be built, quantised or loaded
    │   └── UnsupportedLayerError   a layer outside the table of supported layers
    ├── FixedPointError    an impossible ap_fixed type, or a value that is not on its grid
    ├── BudgetError        a budget that cannot be met; names the binding limit
    ├── CostError          a cost that could not be measured or may not be compared
    │   └── StageMismatchError      two reports of different stages were compared or added
    ├── ToolError          an external tool is missing, failed, ran out of time or memory
    ├── ReportFormatError  a tool report with a missing or broken section
    ├── WrongReportError   a report that was put into place by hand is not of the design that waits for it
    ├── AwaitingReportsError   designs wait for the reports of tools on another machine; no failure
    ├── ExportError        a representation could not be written
    ├── VerificationError  two representations of the network give different bits
    └── ArtefactError      a stage's result on disk is missing, foreign or damaged

Messages follow one pattern: what was wrong, where (file, key, row, layer), what to do.
"""

from __future__ import annotations

from pathlib import Path


class TriggerPruneError(Exception):
    """Root of the tree. ``hint`` says what to do; it is printed on a line of its own."""

    def __init__(self, message: str, *, hint: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint

    def __str__(self) -> str:
        return self.message if self.hint is None else f"{self.message}\n  -> {self.hint}"


class ConfigError(TriggerPruneError):
    """project.yaml cannot be read or holds something that makes no sense."""


class DataError(TriggerPruneError):
    """The events cannot be used as they are."""


class ModelError(TriggerPruneError):
    """A model cannot be built, quantised, pruned or loaded."""


class UnsupportedLayerError(ModelError):
    """A layer that the toolkit cannot quantise or deploy."""


class FixedPointError(TriggerPruneError):
    """An impossible fixed-point type, or a value that is not on its grid."""


class BudgetError(TriggerPruneError):
    """No network within the budget was found."""


class CostError(TriggerPruneError):
    """A hardware cost could not be measured."""


class StageMismatchError(CostError):
    """Reports of different stages (an estimate and a synthesis, say) were mixed."""


class ToolError(TriggerPruneError):
    """An external tool is missing, failed, or ran out of time or memory."""


class ReportFormatError(TriggerPruneError):
    """A tool's report lacks a section or holds something unreadable."""


class WrongReportError(TriggerPruneError):
    """A report that was put into place by hand is not of the design that waits for it, or is damaged."""


class AwaitingReportsError(TriggerPruneError):
    """Projects of hls4ml were written for tools on another machine; the run goes on when their reports are there.

    folders   where each report is expected
    """

    def __init__(self, message: str, folders: tuple[Path, ...], *, hint: str | None = None) -> None:
        super().__init__(message, hint=hint)
        self.folders = folders


class ExportError(TriggerPruneError):
    """The network could not be written in another representation."""


class VerificationError(TriggerPruneError):
    """Two representations of one network disagree."""


class ArtefactError(TriggerPruneError):
    """A stage's stored result is missing, damaged or of another version."""
