"""Quantised network -> hls4ml project (C++ for Vitis HLS or Vivado HLS).

Layer precisions come from the Quant nodes; sums get accumulators that hold every value. The input type is set to the
grid the inputs are already on: hls4ml would otherwise read them as ap_fixed<16,6> with truncation, round twice, and
differ in some events.
"""

from __future__ import annotations

import re
import shutil
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from torch import fx

from trigger_prune.errors import ExportError
from trigger_prune.export.channels_last import to_channels_last
from trigger_prune.export.hls4ml_repairs import repaired_hls4ml
from trigger_prune.export.input_ports import give_ports, input_ports, split_features
from trigger_prune.export.qonnx_model import to_qonnx
from trigger_prune.export.quiet import quiet
from trigger_prune.export.support import layouts, require_supported
from trigger_prune.fixed_point import FixedPoint
from trigger_prune.quantize.convert import input_shape_of, input_type_of
from trigger_prune.quantize.describe import describe_network
from trigger_prune.target import LayerLayout, Target

_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_]*")
_KEYWORD_TEXT = (
    "alignas alignof and and_eq asm auto bitand bitor bool break case catch char class compl const constexpr "
    "const_cast continue decltype default delete do double dynamic_cast else enum explicit export extern false float "
    "for friend goto if inline int long main mutable namespace new noexcept not not_eq nullptr operator or or_eq "
    "private protected public register reinterpret_cast return short signed sizeof static static_assert static_cast "
    "struct switch template this thread_local throw true try typedef typeid typename union unsigned using virtual "
    "void volatile wchar_t while xor xor_eq"
)
_KEYWORDS = frozenset(_KEYWORD_TEXT.split())
_WEIGHT_LAYERS = ("MatMul", "Dense", "Conv")
_WEIGHT_CLASS = re.compile(r"Dense|Conv")
_DA4ML = "trigger_prune[da]"
"""Not hls4ml[da]: that asks for a release of da4ml that compiles for minutes."""
_STAMP_DIGITS = 8


def project_identifier(project: str) -> str:
    """A name for the C++ function of a project: its own when that is an identifier, else the nearest one."""
    name = re.sub(r"[^A-Za-z0-9_]", "_", project)
    return name if _NAME.fullmatch(name) and name not in _KEYWORDS else f"trigger_{name}"


def write_hls4ml_project(
    network: fx.GraphModule,
    out_dir: Path,
    target: Target,
    name: str,
    *,
    backend: str = "Vitis",
    trace: bool = False,
    namespace: str | None = None,
) -> Path:
    """Write the project of ``network`` into the new folder ``out_dir`` and return it.

    name      C++ identifier of the top function; backend Vitis or Vivado; trace adds per-layer outputs to the C
              simulation. Raises ExportError when hls4ml cannot take the network, naming its own message, or would
              replace the strategy or the reuse factor of a layer.
    namespace C++ namespace for everything in the project, so that it can share a program with another one. Its weights
              then stand in headers only, also for the C simulation: hls4ml finds text files by a path that is one for
              the whole program.
    The same network, target and name give the same bytes.
    """
    for identifier in (name, namespace):
        if identifier is not None and (not _NAME.fullmatch(identifier) or identifier in _KEYWORDS):
            raise ExportError(
                f"{identifier!r} cannot name a C++ function or namespace", hint="use letters, digits and underscores"
            )
    if out_dir.exists():
        raise ExportError(
            f"{out_dir} exists already", hint="choose a new folder; an existing project is never overwritten"
        )
    require_supported(network, target, backend)
    model = to_qonnx(network)
    out_dir.parent.mkdir(parents=True, exist_ok=True)
    scratch = Path(tempfile.mkdtemp(prefix=f".{out_dir.name}.", dir=out_dir.parent))
    project = scratch / "project"
    try:
        with quiet(), repaired_hls4ml():
            hls_model = _convert(network, model, project, target, name, backend, trace, namespace)
            _require_layout(hls_model, layouts(network, target))
            hls_model.write()
        _tidy(project, describe_network(network).content_hash()[:_STAMP_DIGITS])
        if namespace is not None:
            _let_generated_code_see_the_library(project, namespace)
        project.rename(out_dir)
    except ExportError:
        raise
    except OSError as error:
        raise ExportError(f"the hls4ml project {out_dir} cannot be written: {error}") from error
    except ModuleNotFoundError as error:
        raise ExportError(
            f"strategy {target.strategy} of hls4ml needs the package {error.name}",
            hint=f"pip install '{_DA4ML}', or choose another target.strategy",
        ) from error
    except Exception as error:
        # hls4ml raises plain Exception, AssertionError, KeyError and others for what it cannot convert.
        raise ExportError(
            f"hls4ml cannot convert the network: {type(error).__name__}: {error}",
            hint="README lists the layers that deploy; --until prune stops before the export",
        ) from error
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    return out_dir


def channels_last(network: fx.GraphModule) -> bool:
    """True when the hls4ml project of ``network`` takes (positions, features) instead of (features, positions)."""
    return len(input_shape_of(network)) > 1


def project_inputs(features: np.ndarray[Any, Any], *, last: bool) -> np.ndarray[Any, Any]:
    """Features ``(events, channels, ...)`` in the memory order of the hls4ml project."""
    return np.ascontiguousarray(np.moveaxis(features, 1, -1) if last else features)


def port_inputs(network: fx.GraphModule, features: np.ndarray[Any, Any]) -> list[np.ndarray[Any, Any]]:
    """What each input of the project of ``network`` gets of ``features`` ``(events, channels, ...)``."""
    last = channels_last(network)
    return [project_inputs(part, last=last) for part in split_features(features, input_ports(network))]


def _convert(
    network: fx.GraphModule,
    qonnx_model: Any,
    out_dir: Path,
    target: Target,
    name: str,
    backend: str,
    trace: bool,
    namespace: str | None = None,
) -> Any:
    import hls4ml
    from qonnx.core.modelwrapper import ModelWrapper
    from qonnx.transformation.gemm_to_matmul import GemmToMatMul
    from qonnx.util.cleanup import cleanup_model

    model = cleanup_model(ModelWrapper(qonnx_model))
    model = ModelWrapper(give_ports(model.model, input_ports(network)))
    if channels_last(network):
        model = cleanup_model(ModelWrapper(to_channels_last(model.model)))
    # hls4ml has no handler for Gemm.
    model = cleanup_model(model.transform(GemmToMatMul()))
    config = hls4ml.utils.config_from_onnx_model(model.model, granularity="name", backend=backend)
    config["Model"]["Strategy"] = target.strategy
    config["Model"]["ReuseFactor"] = target.reuse_factor
    wanted = layouts(network, target)
    weighted = [keys for layer, keys in config["LayerName"].items() if layer.startswith(_WEIGHT_LAYERS)]
    if len(weighted) != len(wanted):
        raise ExportError(f"hls4ml sees {len(weighted)} weight layers, the network has {len(wanted)}")
    for layout, keys in zip(wanted, weighted, strict=True):
        keys["Strategy"], keys["ReuseFactor"] = layout.strategy, layout.reuse_factor
    for keys in config["LayerName"].values():
        if trace:
            keys["Trace"] = True
    config["Model"]["TraceOutput"] = trace
    for port in model.graph.input:
        config["LayerName"][port.name]["Precision"] = {"result": hls4ml_type(input_type_of(network))}
    return hls4ml.converters.convert_from_onnx_model(
        model.model,
        output_dir=str(out_dir),
        project_name=name,
        backend=backend,
        io_type=target.io_type,
        hls_config=config,
        part=target.part,
        clock_period=target.clock_period_ns,
        namespace=namespace,
        write_weights_txt=namespace is None,
    )


def _require_layout(hls_model: Any, asked: list[LayerLayout]) -> None:
    """Refuse a project in which hls4ml replaced what the target asks for; it only prints a warning."""
    laid_out = [layer for layer in hls_model.get_layers() if _WEIGHT_CLASS.search(layer.class_name)]
    for layer, wanted in zip(laid_out, asked, strict=True):
        strategy, factor = layer.get_attr("strategy"), layer.get_attr("reuse_factor")
        if factor != wanted.reuse_factor or strategy.lower() != wanted.strategy.lower():
            raise ExportError(
                f"layer {wanted.layer!r} is to have strategy {wanted.strategy} and reuse factor {wanted.reuse_factor}; "
                f"hls4ml would build {strategy} and {factor}"
            )


class _PlainLoader(yaml.SafeLoader):
    """Reads hls4ml's own file without running the Python constructors in it."""


_PlainLoader.add_multi_constructor("tag:yaml.org,2002:python/", lambda loader, suffix, node: None)


def _tidy(project: Path, stamp: str) -> None:
    """Make the project portable and reproducible.

    hls4ml writes the whole ONNX model as a Python object, which its own ``link_existing_project`` then refuses to
    read, the absolute path of the folder it wrote to, and a random stamp (part of the compiled library's name).
    """
    path = project / "hls4ml_config.yml"
    config = yaml.load(path.read_text(), _PlainLoader)
    script = project / "build_lib.sh"
    script.write_text(script.read_text().replace(f"LIB_STAMP={config['Stamp']}", f"LIB_STAMP={stamp}"))
    config |= {"OnnxModel": None, "OutputDir": ".", "Stamp": stamp}
    path.write_text(yaml.safe_dump(config, sort_keys=True))


def _let_generated_code_see_the_library(project: Path, namespace: str) -> None:
    """hls4ml puts the code of distributed arithmetic into ``namespace``, where it does not find ``nnet::bit_shift``."""
    path = project / "firmware" / "nnet_utils" / "nnet_code_gen.h"
    opening = f"namespace {namespace} {{\n"
    path.write_text(path.read_text().replace(opening, f"{opening}\nusing namespace nnet;\n", 1))


def hls4ml_type(fixed: FixedPoint) -> str:
    """``fixed<W,I>`` of inputs that are on the grid already: no rounding or overflow mode is ever used."""
    return f"{'' if fixed.signed else 'u'}fixed<{fixed.width},{fixed.integer}>"
