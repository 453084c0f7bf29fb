"""``Samples``: what reports teach, whatever form they came in, and where each of them came from."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace

from trigger_prune.cost.hls.design import DesignSample, HlsDesign, HlsLayer, HlsSetting, LayerSample
from trigger_prune.cost.report import HardwareReport

DIGEST_LENGTH = 16


@dataclass(frozen=True)
class Origin:
    """Where a sample came from.

    path         file or row, for messages
    fingerprint  of the report's content (``report_fingerprint``): the same report has the same one, whether it was
                 read from a folder or from a table
    network      which network, when several designs of a project implement the same one; the finer unit of a split
    """

    path: str
    fingerprint: str
    network: str


@dataclass(frozen=True, eq=False)
class RunSample:
    """One synthesis that was started, and whether it ended with a report."""

    layer: HlsLayer
    setting: HlsSetting
    finished: bool
    project: str


@dataclass(frozen=True, eq=False)
class VsynthPair:
    """What the HLS compiler estimated for a design, and what Vivado's logic synthesis made of it."""

    csynth: HardwareReport
    vsynth: HardwareReport
    project: str


@dataclass(frozen=True, eq=False)
class Samples:
    """Layers, designs and runs with what was measured; ``layer_origins[i]`` belongs to ``layers[i]``.

    ``skipped`` holds (path, reason) of everything found that is no sample.
    """

    layers: tuple[LayerSample, ...] = ()
    designs: tuple[DesignSample, ...] = ()
    runs: tuple[RunSample, ...] = ()
    pairs: tuple[VsynthPair, ...] = ()
    skipped: tuple[tuple[str, str], ...] = ()
    layer_origins: tuple[Origin, ...] = ()
    design_origins: tuple[Origin, ...] = ()

    @property
    def projects(self) -> tuple[str, ...]:
        """Names of all projects, sorted."""
        groups = (self.layers, self.designs, self.runs)
        return tuple(sorted({sample.project for group in groups for sample in group}))

    def without(self, project: str) -> Samples:
        """Everything but one project."""
        return self.where(lambda name, _: name != project)

    def only(self, project: str) -> Samples:
        """One project."""
        return self.where(lambda name, _: name == project)

    def where(self, keep: Callable[[str, Origin | None], bool]) -> Samples:
        """Samples for which ``keep(project, origin)`` holds; runs and pairs have no origin."""
        layers = [i for i, s in enumerate(self.layers) if keep(s.project, self.layer_origins[i])]
        designs = [i for i, s in enumerate(self.designs) if keep(s.project, self.design_origins[i])]
        return Samples(
            layers=tuple(self.layers[i] for i in layers),
            designs=tuple(self.designs[i] for i in designs),
            runs=tuple(s for s in self.runs if keep(s.project, None)),
            pairs=tuple(s for s in self.pairs if keep(s.project, None)),
            skipped=self.skipped,
            layer_origins=tuple(self.layer_origins[i] for i in layers),
            design_origins=tuple(self.design_origins[i] for i in designs),
        )

    def fingerprints(self) -> tuple[str, ...]:
        """Of every report, sorted, each once."""
        return tuple(sorted({origin.fingerprint for origin in (*self.layer_origins, *self.design_origins)}))


def joined(parts: Iterable[Samples]) -> Samples:
    """All samples; of a report that several parts hold, the first is kept and the others are listed as skipped."""
    layers: dict[str, tuple[LayerSample, Origin]] = {}
    designs: dict[str, tuple[DesignSample, Origin]] = {}
    runs: list[RunSample] = []
    pairs: dict[tuple[object, ...], VsynthPair] = {}
    skipped: list[tuple[str, str]] = []
    for part in parts:
        skipped += part.skipped
        runs += part.runs
        pairs.update({_pair_key(pair): pair for pair in part.pairs if _pair_key(pair) not in pairs})
        for design, origin in zip(part.designs, part.design_origins, strict=True):
            if origin.fingerprint in designs:
                skipped.append((origin.path, f"the same report as {designs[origin.fingerprint][1].path}"))
            else:
                designs[origin.fingerprint] = (design, origin)
        for layer, origin in zip(part.layers, part.layer_origins, strict=True):
            if origin.fingerprint in layers:
                skipped.append((origin.path, f"the same report as {layers[origin.fingerprint][1].path}"))
            else:
                layers[origin.fingerprint] = (layer, origin)
    return Samples(
        layers=tuple(sample for sample, _ in layers.values()),
        designs=tuple(sample for sample, _ in designs.values()),
        runs=tuple(runs),
        pairs=tuple(pairs.values()),
        skipped=tuple(skipped),
        layer_origins=tuple(origin for _, origin in layers.values()),
        design_origins=tuple(origin for _, origin in designs.values()),
    )


def _pair_key(pair: VsynthPair) -> tuple[object, ...]:
    return tuple((r.lut, r.ff, r.dsp, r.part) for r in (pair.csynth, pair.vsynth))


def with_weights(described: Samples, weighted: Samples) -> Samples:
    """``described`` with the integer weights of the same reports in ``weighted``.

    Tables know what was edited by hand (reuse factors, types) but not the weights; folders have the weights.
    """
    designs = {origin.fingerprint: s for s, origin in zip(weighted.designs, weighted.design_origins, strict=True)}
    layers = {origin.fingerprint: s for s, origin in zip(weighted.layers, weighted.layer_origins, strict=True)}
    new_layers = [
        replace(sample, layer=_weighted(sample.layer, layers[origin.fingerprint].layer))
        if origin.fingerprint in layers
        else sample
        for sample, origin in zip(described.layers, described.layer_origins, strict=True)
    ]
    new_designs = [
        replace(sample, design=_weighted_design(sample.design, designs[origin.fingerprint].design))
        if origin.fingerprint in designs
        else sample
        for sample, origin in zip(described.designs, described.design_origins, strict=True)
    ]
    return replace(described, layers=tuple(new_layers), designs=tuple(new_designs))


def _weighted_design(design: HlsDesign, source: HlsDesign) -> HlsDesign:
    by_name = {layer.name: layer for layer in source.layers}
    layers = tuple(_weighted(layer, by_name[layer.name]) if layer.name in by_name else layer for layer in design.layers)
    return replace(design, layers=layers)


def _weighted(layer: HlsLayer, source: HlsLayer) -> HlsLayer:
    sizes_agree = (layer.n_in, layer.n_out) == (source.n_in, source.n_out)
    # The same scale for every element, however many of them are still alive.
    if source.weight is None or not (sizes_agree or layer.kind == "batchnorm"):
        return layer
    return replace(
        layer,
        weight=source.weight,
        weight_type=layer.weight_type or source.weight_type,
        bias=source.bias,
        bias_type=source.bias_type,
    )


def report_fingerprint(report: HardwareReport, *more: object) -> str:
    """Hash of what a report states: tool version, part, clock, resources, latency, interval; and of ``more``."""
    clock = None if report.clock_period_ns is None else round(report.clock_period_ns, 2)
    stated = (report.tool_version, report.part.lower(), clock, report.lut, report.ff, report.dsp, report.bram18)
    return digest(report.stage.value, *stated, report.latency_cycles, report.ii, *more)


def digest(*parts: object) -> str:
    """Short hash of the text of ``parts``."""
    return hashlib.sha256("\0".join(map(str, parts)).encode()).hexdigest()[:DIGEST_LENGTH]
