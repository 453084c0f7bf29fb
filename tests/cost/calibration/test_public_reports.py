"""The public report folders, read by themselves, give the designs that the public tables describe."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from trigger_prune.cost.calibration.samples import Samples
from trigger_prune.cost.calibration.tables import read_tables
from trigger_prune.cost.hls.calibration import Calibration
from trigger_prune.cost.hls.features import WeightFeatures
from trigger_prune.cost.hls.layers import predict_layer
from trigger_prune.cost.hls.network import predict_design
from trigger_prune.synthesis.calibration.collect import collect_samples
from trigger_prune.synthesis.calibration.weight_check import many_digit_products, used_inputs

SHARED = Path(__file__).resolve().parents[4] / "shared"
pytestmark = pytest.mark.skipif(
    not (SHARED / "hls_reports").is_dir(), reason="the public reports and tables are not beside the checkout"
)
STATED = ("kind", "input_type", "output_type", "strategy", "weight_type", "n_zeros")


@pytest.fixture(scope="module")
def folders() -> Samples:
    return collect_samples([SHARED / "hls_reports"])


@pytest.fixture(scope="module")
def tables() -> Samples:
    return read_tables(SHARED / "synthesis")


def test_designs_recovered_from_folders_are_those_of_the_tables(folders: Samples, tables: Samples) -> None:
    described = {origin.fingerprint: s for s, origin in zip(tables.designs, tables.design_origins, strict=True)}
    compared = 0
    for sample, origin in zip(folders.designs, folders.design_origins, strict=True):
        table = described[origin.fingerprint]
        assert vars(sample.design.setting) == vars(table.design.setting)
        assert [layer.name for layer in sample.design.layers] == [layer.name for layer in table.design.layers]
        for ours, theirs in zip(sample.design.layers, table.design.layers, strict=True):
            if ours.kind == "batchnorm":
                continue  # its size is that of the elements still alive here, of all there
            # The tables leave out how inputs of a shortened name were rounded.
            stated = STATED if theirs.features is None else [name for name in STATED if name != "input_type"]
            for name in stated:
                assert getattr(ours, name) == getattr(theirs, name) or name == "n_zeros", (sample.name, ours.name, name)
            assert (ours.n_in, ours.n_out) == (theirs.n_in, theirs.n_out)
            assert (ours.input_type.width, ours.input_type.fraction) == (
                theirs.input_type.width,
                theirs.input_type.fraction,
            )
            if theirs.kind != "dense":
                continue
            assert (ours.reuse_factor, ours.n_zeros) == (theirs.reuse_factor, theirs.n_zeros)
            assert isinstance(theirs.features, WeightFeatures)
            assert ours.weight is not None
            found = int(np.count_nonzero(ours.weight)), many_digit_products(ours.weight), used_inputs(ours.weight)
            assert found == (theirs.features.nonzeros, theirs.features.u3, theirs.features.used_inputs)
            compared += 1
    assert compared >= 100


def test_stored_models_that_are_not_the_synthesised_ones_are_found(folders: Samples, tables: Samples) -> None:
    """The tables know of five designs whose keras_model.h5 has 42 instead of 32 neurons."""
    wrong = [reason for path, reason in tables.skipped if "NOT the synthesised net" in reason]
    assert len(wrong) == 5
    found = [path for path, reason in folders.skipped if "no estimate is possible for fc1, fc2, fc3, output" in reason]
    assert len(found) == 5
    assert not [sample for sample in folders.designs if "jet_tagging" in sample.name]


def test_a_report_in_a_folder_and_in_a_table_is_one_sample(folders: Samples, tables: Samples) -> None:
    both = collect_samples([SHARED / "synthesis", SHARED / "hls_reports"])
    alone = [sample for sample in both.designs if "reuse factors are read off the report" in "".join(sample.notes)]
    assert len(both.designs) == len(tables.designs) + len(alone)
    assert set(folders.fingerprints()) <= set(both.fingerprints())
    # Described by the table, with the weights of the folder.
    dense = [layer for sample in both.designs for layer in sample.design.layers if layer.kind == "dense"]
    assert sum(layer.weight is not None and layer.features is not None for layer in dense) >= 100


def test_networks_known_by_their_instance_table_alone(folders: Samples) -> None:
    """Keb-L/hls4ml-data: three networks of strategy resource with convolutions, in two released implementations."""
    both = collect_samples([SHARED / "synthesis", SHARED / "hls_reports"])
    convolutions = [sample.layer for sample in both.layers if sample.layer.kind == "conv2d"]
    assert len(convolutions) == 18
    assert {layer.reuse_factor for layer in convolutions if layer.kernel == (5, 5)} == {25}
    assert {layer.reuse_factor for layer in convolutions if layer.kernel == (3, 3)} == {144}
    designs = [sample for sample in both.designs if sample.project == "Keb-L+hls4ml-data"]
    assert len(designs) == 4
    for sample in designs:
        total, _ = predict_design(sample.design, Calibration())
        # Exact by the formulas; the FIFOs alone are 115 and 899 blocks.
        assert total.dsp == sample.measured.dsp
        assert abs((total.bram18 or 0) - (sample.measured.bram18 or 0)) <= 3
        assert total.latency_cycles == pytest.approx(sample.measured.latency_cycles, rel=0.03)
    # Not hls4ml's own functions: no samples.
    assert not [sample for sample in both.layers if sample.project.startswith("crimson")]
    assert any("own variant" in reason for _, reason in both.skipped)


def test_convolutions_of_n_torc(tables: Samples) -> None:
    found = [sample for sample in tables.layers if sample.layer.kind == "conv1d"]
    assert len(found) > 80
    for sample in found:
        estimate = predict_layer(sample.layer, sample.setting, Calibration())
        assert estimate.dsp == sample.measured.dsp
        assert abs((estimate.bram18 or 0) - (sample.measured.bram18 or 0)) <= 1 or sample.layer.reuse_factor > 500
