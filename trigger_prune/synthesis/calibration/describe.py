"""The design of an hls4ml project that has not been synthesised: what an estimate needs."""

from __future__ import annotations

from pathlib import Path

from trigger_prune.cost.hls.design import HlsDesign, HlsSetting
from trigger_prune.cost.hls.from_spec import HLS_VERSION
from trigger_prune.errors import ReportFormatError
from trigger_prune.fixed_point import FixedPoint
from trigger_prune.parts import find_part
from trigger_prune.synthesis.calibration import keras_model, project_config
from trigger_prune.synthesis.calibration.drafts import Draft, drafts_from_keras
from trigger_prune.synthesis.calibration.headers import PARAMETERS, drafts_from_headers

_LAST_VIVADO_HLS = "2020.1"


def drafts_of(
    folder: Path, config: project_config.ProjectConfig, input_type: FixedPoint | None = None
) -> tuple[Draft, ...]:
    """Layers by the C++ of a project if it is there, else by its Keras model. Raises ReportFormatError for neither."""
    if (folder / PARAMETERS).is_file():
        return drafts_from_headers(folder, config.project_name)
    path = folder / keras_model.FILE
    if not path.is_file():
        raise ReportFormatError(f"{folder} has neither {PARAMETERS} nor {keras_model.FILE}: its layers are unknown")
    return drafts_from_keras(keras_model.read_keras_model(path), config, input_type)


def describe_project(folder: Path) -> HlsDesign:
    """Design of a project, for the compiler its backend names (Vitis HLS 2024.1 or Vivado HLS 2020.1).

    Raises ReportFormatError when its definition is not complete.
    """
    config = project_config.read_project_config(folder / project_config.FILE)
    if config.part is None or config.clock_period_ns is None:
        raise ReportFormatError(f"{folder / project_config.FILE} states no Part or no ClockPeriod")
    part = find_part(config.part)
    vitis = config.backend.lower() == "vitis"
    setting = HlsSetting(
        tool="vitis_hls" if vitis else "vivado_hls",
        version=HLS_VERSION if vitis else _LAST_VIVADO_HLS,
        part=config.part,
        family=part.family if part else "",
        clock_period_ns=config.clock_period_ns,
        io_type="io_stream" if config.io_type == "io_stream" else "io_parallel",
    )
    return HlsDesign(tuple(draft.layer for draft in drafts_of(folder, config)), setting)
