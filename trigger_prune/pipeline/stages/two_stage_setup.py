"""What stage ``two_stage`` studies, made from a project: the full model, samples under two scores, target and beam."""

from __future__ import annotations

import difflib
import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from torch import fx, nn

from trigger_prune.config.load import LoadedProject
from trigger_prune.config.project import ProjectConfig
from trigger_prune.cost.report import RESOURCES
from trigger_prune.data.class_choice import signal_classes
from trigger_prune.data.sample import EventSample
from trigger_prune.entry.qonnx_file import read_qonnx
from trigger_prune.errors import ConfigError, ModelError
from trigger_prune.parts import find_part
from trigger_prune.physics.comparator import FirmwareScore
from trigger_prune.physics.filling import filling_from
from trigger_prune.physics.menu import fit_menu
from trigger_prune.physics.scored_events import BACKGROUND, ScoredEvents
from trigger_prune.physics.scores import Score
from trigger_prune.physics.trigger_study import ALL_SIGNALS, has_menu_observables
from trigger_prune.pipeline.stage import StageContext
from trigger_prune.pipeline.stages.deployment import deployed_network
from trigger_prune.pipeline.stages.events import Events
from trigger_prune.pipeline.stages.goal import Goal
from trigger_prune.pipeline.stages.training import trained_float_model
from trigger_prune.quantize.convert import input_shape_of, input_type_of
from trigger_prune.quantize.describe import describe_network
from trigger_prune.quantize.output_step import output_fraction_bits
from trigger_prune.target import Budget
from trigger_prune.two_stage.latency import lhc_clock_multiple
from trigger_prune.two_stage.models.light_inputs import FullModel
from trigger_prune.two_stage.table import MenuDecisions
from trigger_prune.two_stage.traffic import BeamStructure

NETWORK_FILE, TRANSFORM_FILE = "model.onnx", "input_transform.json"
"""Of a network that was made elsewhere, and of the networks that this program writes."""

_MADE_HERE = ("dense", "deployed")

_TASKS = {
    "autoencoder": "an autoencoder has no small network that says the same: its light model would have to give back "
    "the inputs too",
}


def check_two_stage(config: ProjectConfig, project_dir: Path) -> None:
    """What can be told before any training. Raises ConfigError naming the key."""
    section = config.two_stage
    if config.task in _TASKS:
        raise ConfigError(
            f"task: two stages do not go with {config.task}: {_TASKS[config.task]}",
            hint="use task classify or binary, or task distil with the autoencoder as the teacher",
        )
    if config.cost.backend == "runtime":
        raise ConfigError(
            "cost.backend: two stages share an engine on an FPGA; runtime is a processor", hint="use cost.backend rtl"
        )
    if section.full not in _MADE_HERE:
        entered_files(section.full, project_dir)
    beam_of(config, project_dir)
    clock_multiples(config)
    _check_full_reports(config, project_dir)
    if section.multiplicity is not None and not any(section.multiplicity[1:]):
        raise ConfigError("two_stage.multiplicity: no crossing has an object")


def _check_full_reports(config: ProjectConfig, project_dir: Path) -> None:
    for factor, path in full_report_paths(config, project_dir).items():
        if not path.exists():
            raise ConfigError(
                f"two_stage.full_reports: there is no {path}",
                hint=f"name the csynth.xml, the solution or the hls4ml project of reuse factor {factor}",
            )
    if config.two_stage.full_reports and config.cost.backend in ("vsynth", "pnr"):
        raise ConfigError(
            f"two_stage.full_reports: C synthesis cannot be compared with cost.backend {config.cost.backend}",
            hint="use cost.backend csynth, analytic_hls, analytic or rtl: their two-stage figures are of C synthesis",
        )


def full_report_paths(config: ProjectConfig, project_dir: Path) -> dict[int, Path]:
    """Reuse factor -> where its report is."""
    return {factor: project_dir / Path(text).expanduser() for factor, text in config.two_stage.full_reports.items()}


def check_signal(config: ProjectConfig, sample: EventSample, wanted: str | None = None) -> None:
    """What needs the events. Raises ConfigError where no class is signal, and where ``wanted`` is not among them."""
    found = signal_classes(config.physics.signal, sample)
    if not found:
        raise ConfigError(
            "physics.signal: no class is signal, and a trigger needs one",
            hint=f"name some of {', '.join(sample.class_names)}, e.g. --set physics.signal=[{sample.class_names[-1]}]",
        )
    names = [sample.class_names[index] for index in found]
    if wanted is not None and wanted not in names:
        close = difflib.get_close_matches(wanted, names, n=1)
        meant = f"; did you mean {close[0]!r}?" if close else ""
        raise ConfigError(
            f"two_stage.signal: {wanted!r} is no signal class{meant}", hint=f"they are {', '.join(names)}"
        )


def beam_of(config: ProjectConfig, project_dir: Path) -> BeamStructure:
    """The slots of the filling scheme. Raises ConfigError where only their number is known."""
    return BeamStructure.from_filling(filling_from(config.luminosity.filling, project_dir))


def clock_multiples(config: ProjectConfig) -> tuple[int, ...]:
    """Clock cycles per crossing to try. Raises ConfigError for a target clock that is no multiple of the LHC's."""
    if config.two_stage.clock_multiples is not None:
        return tuple(dict.fromkeys(config.two_stage.clock_multiples))
    try:
        return (lhc_clock_multiple(1e3 / config.target.clock_period_ns),)
    except ConfigError as error:
        raise ConfigError(
            f"target.clock_period_ns: {error.message}", hint=f"{error.hint}, or set two_stage.clock_multiples"
        ) from None


def entered_files(full: str, project_dir: Path) -> list[Path]:
    """Files of the network in a folder. Raises ConfigError where there is none that several objects could share."""
    folder = project_dir / Path(full).expanduser()
    if not (folder / NETWORK_FILE).is_file():
        design = (folder / "design").is_dir()
        raise ConfigError(
            f"two_stage.full: {folder} has no {NETWORK_FILE}"
            + (": an HGQ2 design is made of adders, which several objects cannot share" if design else ""),
            hint=f"one of {', '.join(_MADE_HERE)}, or the folder that trigger-prune enter made of a QONNX or ONNX file",
        )
    return [path for path in (folder / NETWORK_FILE, folder / TRANSFORM_FILE) if path.is_file()]


def two_stage_files(project: LoadedProject) -> list[Path]:
    """Files of a full model that was made elsewhere."""
    full = project.config.two_stage.full
    return [] if full in _MADE_HERE else entered_files(full, project.project_dir)


def full_model(context: StageContext, score: Score) -> FullModel:
    """The model that ``two_stage.full`` names. Raises ModelError for one with float activations, ConfigError for one
    that reads other events than the project's."""
    name, events = context.config.two_stage.full, context.result("load")
    if name == "deployed":
        network: nn.Module = deployed_network(context)
        return FullModel(_fixed_point(network), context.result("prune").kept_inputs, score)
    everything = tuple(range(events.train.n_features))
    if name == "dense":
        network = context.result("baseline").network(trained_float_model(context, events))
        return FullModel(_fixed_point(network), everything, score)
    files = entered_files(name, context.project_dir)
    network = read_qonnx(files[0], input_type=events.transform.fixed).network
    kept = everything if len(files) == 1 else _kept(files[1], events)
    shape, fixed = (len(kept), *events.train.event_shape[1:]), events.transform.fixed
    if tuple(input_shape_of(network)) != shape or input_type_of(network) != fixed:
        raise ConfigError(
            f"two_stage.full: {files[0]} reads {input_type_of(network)} of shape {tuple(input_shape_of(network))}, the "
            f"project's events are {fixed} of shape {shape}",
            hint=f"set section input to the network's type; where it reads fewer features, put its {TRANSFORM_FILE} "
            "beside it",
        )
    return FullModel(network, kept, score)


def _fixed_point(network: nn.Module) -> fx.GraphModule:
    if not isinstance(network, fx.GraphModule):
        raise ModelError(
            "the activations of this network are floats: its scores have no grid that a comparator could use",
            hint="two stages need a model that can be quantised in full",
        )
    return network


def _kept(file: Path, events: Events) -> tuple[int, ...]:
    names = list(events.train.feature_names)
    wanted = json.loads(file.read_text(encoding="utf-8"))["feature_names"]
    unknown = [name for name in wanted if name not in names]
    if unknown:
        raise ConfigError(f"{file}: the project's events have no feature {unknown[0]!r}")
    return tuple(names.index(name) for name in wanted)


def comparator(network: fx.GraphModule, score: Score, events: Events, names: tuple[str, ...]) -> FirmwareScore:
    """The grid of a network's score; ``names`` are those of the classes, used where there is an output per class."""
    n_outputs = describe_network(network).n_outputs
    outputs = names if n_outputs == len(names) else tuple(map(str, range(n_outputs)))
    lsb = 2.0 ** -output_fraction_bits(network)
    return FirmwareScore(score, score.describe(outputs), lsb, events.transform.fixed.lsb)


def target_rate(config: ProjectConfig, events: Events) -> float:
    """Total rate that is aimed at, in the unit of the weights: Hz, or a share of the background."""
    if events.train.rate_weights:
        return 1e3 * float(config.physics.rate_khz)
    return float(config.physics.false_positive_rate)


def signal_name(config: ProjectConfig, events: Events, goal: Goal) -> str:
    """Whose efficiency counts."""
    names = [events.train.class_names[index] for index in goal.signal_classes]
    return config.two_stage.signal or (names[0] if len(names) == 1 else ALL_SIGNALS)


def multiplicity(config: ProjectConfig) -> tuple[float, ...] | None:
    """Probability of every number of objects in a crossing, none for numbers that do not occur; None: one object."""
    listed = config.two_stage.multiplicity
    if listed is None:
        return None
    return tuple(float(x) / sum(listed) for x in np.trim_zeros(np.asarray(listed), "b"))


@dataclass(frozen=True, eq=False)
class Rows:
    """Signal, weights and collisions of one part; ``scored`` puts scores beside them."""

    signal: NDArray[np.int64]
    weights: NDArray[np.float64]
    groups: NDArray[np.int64]
    names: tuple[str, ...]

    @classmethod
    def of(cls, sample: EventSample, goal: Goal, one_by_one: bool) -> Rows:
        """Signal classes one by one, or all together as one process. Weights that are no rates add up to 1."""
        names = tuple(sample.class_names[index] for index in goal.signal_classes)
        position = np.full(sample.n_classes, BACKGROUND, np.int64)
        position[list(goal.signal_classes)] = np.arange(len(names))
        if not one_by_one and len(names) > 1:
            position, names = np.minimum(position, 0), (ALL_SIGNALS,)
        signal = position[sample.labels]
        background = signal == BACKGROUND
        total = 1.0 if sample.rate_weights else float(sample.weights[background].sum())
        # a background without weight is refused where scores are put beside it, with a better message
        weights = np.where(background, sample.weights / (total or 1.0), sample.weights)
        return cls(signal, weights, sample.groups, names)

    def scored(self, scores: NDArray[np.float64]) -> ScoredEvents:
        """These rows under a score."""
        return ScoredEvents(scores, self.signal, self.weights, self.groups, self.names)


def menu_decisions(config: ProjectConfig, events: Events, goal: Goal, target_hz: float) -> MenuDecisions | None:
    """The menu with the best shares at the target rate, fitted on validation; None where there is none."""
    sample = events.validation
    if not (config.physics.menu and has_menu_observables(sample)) or config.two_stage.multiplicity is not None:
        return None
    background = ~np.isin(sample.labels, goal.signal_classes)
    menu = fit_menu(sample.observables, background, sample.weights, target_hz, shares="optimised")
    return MenuDecisions("cut-based menu", menu.accepts(events.test.observables))


def resource_limits(config: ProjectConfig) -> tuple[Budget, tuple[str, ...]]:
    """Limits of the resources of a whole design, and what a reader must know of them.

    ``budget`` holds where the project measures HLS designs too; LUTs of adder trees in Verilog are not LUTs of an HLS
    design with multipliers. The part is the limit in any case, where the catalogue has it.
    """
    own = {name: getattr(config.budget, name) for name in RESOURCES}
    stated = [name for name, limit in own.items() if limit is not None]
    remarks: tuple[str, ...] = ()
    if stated and config.cost.backend in ("rtl", "analytic"):
        remarks = (
            f"budget.{', budget.'.join(stated)}: a limit of adder trees in Verilog (cost.backend "
            f"{config.cost.backend}) is not applied to HLS designs; the part is their limit. With cost.backend "
            "analytic_hls or csynth it is applied.",
        )
        own = dict.fromkeys(RESOURCES)
    part = find_part(config.target.part)
    for name in ("lut", "ff", "dsp", "bram18"):
        if part is not None:
            offered, limit = getattr(part, name), own[name]
            own[name] = offered if limit is None else min(offered, limit)
    return Budget(**own), remarks
