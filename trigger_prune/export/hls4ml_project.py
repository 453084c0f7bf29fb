"""Quantised network -> hls4ml project (C++ for Vitis HLS or Vivado HLS).

Layer precisions come from the Quant nodes; sums get accumulators that hold every value. The input type is set to the
grid the inputs are already on: hls4ml would otherwise read them as ap_fixed<16,6> with truncation, round twice, and
differ in some events.
"""

from __future__ import annotations

import contextlib
import io
import re
import shutil
import tempfile
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from torch import fx

from trigger_prune.errors import ExportError
from trigger_prune.export.qonnx_model import to_qonnx
from trigger_prune.fixed_point import FixedPoint
from trigger_prune.quantize.convert import input_shape_of, input_type_of
from trigger_prune.target import Target

_NAME = re.compile(r"^[A-Za-z]\w*$")
_WEIGHT_LAYERS = ("MatMul", "Dense", "Conv")


def write_hls4ml_project(
    network: fx.GraphModule, out_dir: Path, target: Target, name: str, *, backend: str = "Vitis", trace: bool = False
) -> Path:
    """Write the project of ``network`` into the new folder ``out_dir`` and return it.

    name      C++ identifier of the top function; backend Vitis or Vivado; trace adds per-layer outputs to the C
              simulation. Raises ExportError when hls4ml cannot take the network, naming its own message.
    """
    if not _NAME.match(name):
        raise ExportError(f"{name!r} cannot name a C++ function", hint="use letters, digits and underscores")
    if out_dir.exists():
        raise ExportError(f"{out_dir} exists already", hint="choose a new folder; an existing project is never overwritten")
    out_dir.parent.mkdir(parents=True, exist_ok=True)
    scratch = Path(tempfile.mkdtemp(prefix=f".{out_dir.name}.", dir=out_dir.parent))
    try:
        with quiet():
            _convert(network, scratch / "project", target, name, backend, trace).write()
        _tidy_config(scratch / "project" / "hls4ml_config.yml")
        (scratch / "project").rename(out_dir)
    except ExportError:
        raise
    except Exception as error:
        # hls4ml raises plain Exception, AssertionError, KeyError and others for what it cannot convert.
        raise ExportError(f"hls4ml cannot convert the network: {type(error).__name__}: {error}") from error
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    return out_dir


def channels_last(network: fx.GraphModule) -> bool:
    """True when the hls4ml project of ``network`` takes (positions, features) instead of (features, positions)."""
    return len(input_shape_of(network)) > 1


def project_inputs(features: np.ndarray[Any, Any], *, last: bool) -> np.ndarray[Any, Any]:
    """Features ``(events, channels, ...)`` in the memory order of the hls4ml project."""
    return np.ascontiguousarray(np.moveaxis(features, 1, -1) if last else features)


def _convert(network: fx.GraphModule, out_dir: Path, target: Target, name: str, backend: str, trace: bool) -> Any:
    import hls4ml
    from qonnx.core.modelwrapper import ModelWrapper
    from qonnx.transformation.channels_last import ConvertToChannelsLastAndClean
    from qonnx.transformation.gemm_to_matmul import GemmToMatMul
    from qonnx.util.cleanup import cleanup_model

    model = cleanup_model(ModelWrapper(to_qonnx(network)))
    if channels_last(network):
        model = model.transform(ConvertToChannelsLastAndClean(make_input_channels_last=True))
    # hls4ml has no handler for Gemm.
    model = cleanup_model(model.transform(GemmToMatMul()))
    config = hls4ml.utils.config_from_onnx_model(model.model, granularity="name", backend=backend)
    config["Model"]["Strategy"] = target.strategy
    config["Model"]["ReuseFactor"] = target.reuse_factor
    for layer, keys in config["LayerName"].items():
        if layer.startswith(_WEIGHT_LAYERS):
            keys["Strategy"], keys["ReuseFactor"] = target.strategy, target.reuse_factor
        if trace:
            keys["Trace"] = True
    config["Model"]["TraceOutput"] = trace
    config["LayerName"][model.graph.input[0].name]["Precision"] = {"result": hls4ml_type(input_type_of(network))}
    return hls4ml.converters.convert_from_onnx_model(
        model.model,
        output_dir=str(out_dir),
        project_name=name,
        backend=backend,
        io_type=target.io_type,
        hls_config=config,
        part=target.part,
        clock_period=target.clock_period_ns,
    )


class _PlainLoader(yaml.SafeLoader):
    """Reads hls4ml's own file without running the Python constructors in it."""


_PlainLoader.add_multi_constructor("tag:yaml.org,2002:python/", lambda loader, suffix, node: None)  # type: ignore[no-untyped-call]


def _tidy_config(path: Path) -> None:
    """Make ``hls4ml_config.yml`` portable.

    hls4ml writes the whole ONNX model as a Python object, which its own ``link_existing_project`` then refuses to
    read, and the absolute path of the folder it wrote to.
    """
    config = yaml.load(path.read_text(), _PlainLoader)
    config["OnnxModel"] = None
    config["OutputDir"] = "."
    path.write_text(yaml.safe_dump(config, sort_keys=True))


def hls4ml_type(fixed: FixedPoint) -> str:
    """``fixed<W,I>`` of inputs that are on the grid already: no rounding or overflow mode is ever used."""
    return f"{'' if fixed.signed else 'u'}fixed<{fixed.width},{fixed.integer}>"


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Swallow what hls4ml and qonnx print; their failures are raised, not printed."""
    with (
        warnings.catch_warnings(),
        contextlib.redirect_stdout(io.StringIO()),
        contextlib.redirect_stderr(io.StringIO()),
    ):
        warnings.simplefilter("ignore")
        yield
