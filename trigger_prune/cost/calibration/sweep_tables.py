"""Sweeps over single layers: wa-hls4ml-search (Vivado HLS 2020.1) and N-TORC (Vivado HLS 2019.1)."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace

from trigger_prune.cost.calibration.rows import Row
from trigger_prune.cost.calibration.samples import Origin, RunSample, Samples, VsynthPair, digest
from trigger_prune.cost.hls.design import DesignSample, HlsLayer, HlsSetting, LayerEstimate, LayerSample
from trigger_prune.cost.report import HardwareReport
from trigger_prune.errors import DataError
from trigger_prune.fixed_point import FixedPoint

WA_HLS4ML = HlsSetting("vivado_hls", "2020.1", "xcu250-figd2104-2L-e", "virtexuplus", 5.0)
N_TORC = HlsSetting("vivado_hls", "2019.1", "xczu7ev-ffvc1156-2-e", "zynquplus", 4.0, io_type="io_stream")
N_TORC_NAME = "N-TORC(HeRCLab)"
N_TORC_KERNEL = 3
"""Of all convolutions of N-TORC, padded to the length of their input."""
N_TORC_POOL = 2
"""In front of every convolution but the first, which has one channel."""
DATA = FixedPoint(16, 6)
"""Type of inputs, results and, in wa-hls4ml-search, accumulators: the column ``prec_bits`` is that of the weights."""


class Collector:
    """What has been read so far."""

    def __init__(self) -> None:
        self._layers: dict[str, tuple[LayerSample, Origin]] = {}
        self._designs: list[tuple[DesignSample, Origin]] = []
        self._runs: list[RunSample] = []
        self._pairs: list[VsynthPair] = []
        self._skipped: list[tuple[str, str]] = []

    def skip(self, path: str, reason: str) -> None:
        """Note something that is no sample."""
        self._skipped.append((path, reason))

    def layer(self, sample: LayerSample, origin: Origin) -> None:
        """Keep a layer, unless the same one is there already."""
        if origin.fingerprint in self._layers:
            self.skip(origin.path, f"the same as {self._layers[origin.fingerprint][1].path}")
        else:
            self._layers[origin.fingerprint] = (sample, origin)

    def design(self, sample: DesignSample, origin: Origin) -> None:
        """Keep a design."""
        self._designs.append((sample, origin))

    def run(self, sample: RunSample) -> None:
        """Keep a run that ended or failed."""
        self._runs.append(sample)

    def pair(self, csynth: HardwareReport, vsynth: HardwareReport, project: str) -> None:
        """Keep two reports of one design."""
        self._pairs.append(VsynthPair(csynth, vsynth, project))

    def samples(self) -> Samples:
        """Everything kept."""
        return Samples(
            layers=tuple(sample for sample, _ in self._layers.values()),
            designs=tuple(sample for sample, _ in self._designs),
            runs=tuple(self._runs),
            pairs=tuple(self._pairs),
            skipped=tuple(self._skipped),
            layer_origins=tuple(origin for _, origin in self._layers.values()),
            design_origins=tuple(origin for _, origin in self._designs),
        )


def read_dense_sweep(row: Row, read: Collector) -> None:
    """A row of ``dense_layers_wa_ntorc.csv``."""
    source = row.required_text("source")
    if source.startswith("N-TORC"):
        return _read_n_torc(row, read, row.required_integer("rf"), row.required_integer("n_out"), "")
    if not source.startswith("wa-hls4ml"):
        return read.skip(row.source, f"a sweep named {source!r} is unknown")
    strategy = (row.text("strategy") or "").lower()
    if strategy not in ("latency", "resource"):
        raise DataError(f"{row.source}: strategy {strategy!r} is unknown")
    bits = row.required_integer("prec_bits")
    layer = _dense(row.required_integer("n_in"), row.required_integer("n_out"), row.required_integer("rf"), bits, DATA)
    if strategy == "latency":
        layer = replace(layer, strategy="latency")
    finished = row.flag("success")
    read.run(RunSample(layer, WA_HLS4ML, finished, source))
    if not finished:
        return None
    if strategy == "latency" or layer.reuse_factor == 1:
        # At reuse factor 1 the compiler sees constants in every strategy.
        return read.skip(row.source, f"strategy {strategy}, reuse factor {layer.reuse_factor}: constants, unknown")
    measured = LayerEstimate(
        row.real("lut"), row.real("ff"), row.real("dsp"), row.real("bram18"), row.real("lat_max"), row.real("ii_max")
    )
    return _keep(layer, WA_HLS4ML, measured, source, row, read)


def read_n_torc(row: Row, read: Collector) -> None:
    """A row of ``ntorc_merged_by_config.csv``: medians of runs of one configuration."""
    _read_n_torc(row, read, row.required_integer("rf_eff"), row.required_integer("size"), "_median")


def _read_n_torc(row: Row, read: Collector, reuse_factor: int, n_out: int, suffix: str) -> None:
    kind = row.required_text("kind")
    if kind not in ("dense", "conv1d"):
        return read.skip(row.source, f"kind {kind}: no formulas")
    merged = bool(suffix)
    n_in = row.required_integer("n_in")
    products = n_in * (N_TORC_KERNEL if kind == "conv1d" else 1)
    # N-TORC lets hls4ml choose the accumulator: wide enough for a sum of that many products.
    accumulator = FixedPoint(2 * DATA.width + 1 + math.ceil(math.log2(products)), 2 * DATA.integer + 1)
    layer = _dense(n_in, n_out, min(reuse_factor, products * n_out), DATA.width, accumulator)
    if kind == "conv1d":
        layer = _padded_convolution(layer, row.required_integer("seq_len") // (N_TORC_POOL if n_in > 1 else 1))
    if reuse_factor == 1:
        return read.skip(row.source, "reuse factor 1: constant weights, which are unknown")
    measured = LayerEstimate(
        row.real(f"lut{suffix}"),
        row.real(f"ff{suffix}"),
        row.real(f"{'dsp48e' if merged else 'dsp'}{suffix}"),
        row.real(f"{'bram_18k' if merged else 'bram18'}{suffix}"),
        row.real(f"{'latency_max' if merged else 'lat_max'}{suffix}"),
        None if merged else row.real("ii_max"),
    )
    return _keep(layer, N_TORC, measured, N_TORC_NAME, row, read)


def _dense(n_in: int, n_out: int, reuse_factor: int, weight_bits: int, accumulator: FixedPoint) -> HlsLayer:
    """A dense layer of which only widths are known: integer bits make no difference to what is predicted."""
    return HlsLayer(
        name=f"dense_{n_in}x{n_out}_rf{reuse_factor}_{weight_bits}bit",
        kind="dense",
        n_in=n_in,
        n_out=n_out,
        input_type=DATA,
        output_type=DATA,
        strategy="resource",
        reuse_factor=reuse_factor,
        accum_type=accumulator,
        weight_type=FixedPoint(weight_bits, weight_bits // 2),
    )


def _padded_convolution(layer: HlsLayer, length: int) -> HlsLayer:
    """A dense layer's sizes as channels and filters of a convolution over ``length`` positions."""
    return replace(
        layer,
        name=f"conv1d_{length}x{layer.n_in}x{layer.n_out}_rf{layer.reuse_factor}",
        kind="conv1d",
        kernel=(N_TORC_KERNEL,),
        stride=(1,),
        input_size=(length + N_TORC_KERNEL - 1,),
        output_size=(length,),
    )


def _keep(
    layer: HlsLayer, setting: HlsSetting, measured: LayerEstimate, project: str, row: Row, read: Collector
) -> None:
    # One configuration is one sample, however many rows repeat it.
    read.layer(
        LayerSample(layer, setting, measured, project),
        Origin(row.source, digest(project, layer.name, layer.strategy), f"{project}/{layer.name}"),
    )


READERS: dict[str, Callable[[Row, Collector], None]] = {
    "dense_layers_wa_ntorc.csv": read_dense_sweep,
    "ntorc_merged_by_config.csv": read_n_torc,
}
REQUIRED: dict[str, tuple[str, ...]] = {
    "dense_layers_wa_ntorc.csv": ("source", "kind", "n_in", "n_out", "prec_bits", "rf", "strategy", "success"),
    "ntorc_merged_by_config.csv": ("kind", "rf_eff", "n_in", "size", "lut_median", "dsp48e_median"),
}
