"""Projects as users and public repositories have them."""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from trigger_prune.errors import DataError, ReportFormatError, TriggerPruneError
from trigger_prune.fixed_point import FixedPoint
from trigger_prune.synthesis.calibration.collect import collect_samples
from trigger_prune.synthesis.calibration.project_folder import read_project
from trigger_prune.synthesis.calibration.weight_check import many_digit_products, signed_digits

Write = Callable[..., Path]


def test_design_is_recovered_from_model_configuration_log_and_module_names(
    tmp_path: Path, write_project: Write, weights: dict[str, Any]
) -> None:
    samples = read_project(write_project(tmp_path / "site" / "toy"), "site", "site/toy")
    assert samples.skipped == ()
    (sample,) = samples.designs
    fc1, relu, out = sample.design.layers
    assert (fc1.name, fc1.kind, fc1.n_in, fc1.n_out, fc1.strategy) == ("fc1", "dense", 6, 5, "latency")
    assert (relu.kind, relu.n_in, out.name) == ("relu", 5, "out")
    # The types of the synthesised functions, not those of the configuration (fixed<16,6> for everything).
    assert (fc1.input_type, fc1.output_type) == (FixedPoint(10, 4), FixedPoint(16, 6))
    assert str(relu.output_type) == str(out.input_type) == "ap_ufixed<8,2,AP_RND_CONV,AP_SAT>"
    assert fc1.weight is not None and fc1.bias is not None and out.weight is not None
    np.testing.assert_array_equal(fc1.weight, (weights["fc1"][0] * 32).T)
    np.testing.assert_array_equal(fc1.bias, weights["fc1"][1] * 32)
    np.testing.assert_array_equal(out.weight, (weights["out"][0] * 32).T)
    assert fc1.n_zeros == (weights["fc1"][0] == 0).sum()
    setting = sample.design.setting
    assert (setting.tool, setting.version, setting.part) == ("vitis_hls", "2022.2", "xczu7ev-ffvc1156-2-e")
    assert (setting.clock_period_ns, setting.forced_multiplier) == (5.0, None)
    assert (sample.measured.lut, sample.measured.latency_cycles) == (900, 6)
    measured = {layer.layer.name: layer.measured for layer in samples.layers}
    assert (measured["fc1"].lut, measured["fc1"].dsp, measured["out"].lut) == (500, 5, 300)


def test_weights_below_the_grid_are_cut_as_the_compiler_cuts_them(
    tmp_path: Path, write_project: Write, weights: dict[str, Any]
) -> None:
    kernel, bias = weights["fc1"]
    shifted = {"fc1": (kernel + 0.01, bias)}
    samples = read_project(write_project(tmp_path / "toy", kernels=shifted), "p", "p/toy")
    fc1 = samples.designs[0].design.layers[0]
    # 0.01 is less than the LSB of 1/32 and truncated; hls4ml still counts no zero weight.
    np.testing.assert_array_equal(fc1.weight, (kernel * 32).T)
    assert fc1.n_zeros == 0


def test_directive_on_multipliers_is_read_from_the_log(tmp_path: Path, write_project: Write) -> None:
    directive = "INFO: [HLS 200-1510] Running: config_op mul -impl fabric \n"
    samples = read_project(write_project(tmp_path / "toy", log=directive), "p", "p/toy")
    assert samples.designs[0].design.setting.forced_multiplier == "fabric"


def test_reuse_factor_by_log_or_folder_beats_the_configuration(tmp_path: Path, write_project: Write) -> None:
    by_log = read_project(write_project(tmp_path / "toy", target_ii="4"), "p", "p/toy").designs[0]
    assert [layer.reuse_factor for layer in by_log.design.layers if layer.kind == "dense"] == [4, 4]
    assert any("reuse factor 4 by the log, 1 by the configuration" in note for note in by_log.notes)
    by_name = read_project(write_project(tmp_path / "toy_reuse16"), "p", "p/toy_reuse16").designs[0]
    assert by_name.design.layers[0].reuse_factor == 16
    assert any("the folder's name" in note for note in by_name.notes)
    stated = read_project(write_project(tmp_path / "other", reuse=2), "p", "p/other").designs[0]
    assert stated.design.layers[0].reuse_factor == 2
    assert stated.notes == ()


def test_other_weights_than_the_synthesised_ones_are_found(
    tmp_path: Path, write_project: Write, weights: dict[str, Any]
) -> None:
    """A newer model in the folder: more hidden neurons in use, or too few many-digit weights for the multipliers."""
    more_used = {"out": (np.full((5, 3), 1 / 32), np.zeros(3))}
    samples = read_project(write_project(tmp_path / "a", kernels=more_used), "p", "p/a")
    assert samples.designs == ()
    # The other layer's weights fit its module, but belong to the same other training.
    assert {layer.layer.name for layer in samples.layers} == {"relu1"}
    assert any("reads 4 values, but the weights use 5 inputs" in reason for _, reason in samples.skipped)
    fewer_outputs = read_project(write_project(tmp_path / "c", returned=3), "p", "p/c")
    assert any("returns 3 values, but 4 outputs are used" in reason for _, reason in fewer_outputs.skipped)
    kernel, bias = weights["fc1"]
    powers_of_two = {"fc1": (np.where(kernel == 0, 0, 0.5), bias)}
    samples = read_project(write_project(tmp_path / "b", kernels=powers_of_two), "p", "p/b")
    assert any("5 multipliers, the weights need 0" in reason for _, reason in samples.skipped)


def test_signed_digits_against_the_digits_themselves() -> None:
    def count(value: int) -> int:
        digits = 0
        while value:
            if value & 1:
                digit = 2 - (value & 3)
                value -= digit
                digits += 1
            value >>= 1
        return digits

    values = np.arange(-300, 301)
    assert signed_digits(values).tolist() == [count(abs(int(v))) for v in values]
    # 7 = 8 - 1 and 5 = 4 + 1 have two digits, 11 = 8 + 4 - 1 three; the pair (input 0, 11) stands twice.
    assert many_digit_products(np.array([[11, 7, 11], [11, 5, -11]])) == 3


def test_collecting_a_tree_gives_every_report_once(tmp_path: Path, write_project: Write) -> None:
    write_project(tmp_path / "site_a" / "toy")
    write_project(tmp_path / "site_a" / "copy")
    write_project(tmp_path / "site_b" / "toy", lut=950)
    (tmp_path / "site_c" / "empty").mkdir(parents=True)
    (tmp_path / "site_c" / "empty" / "hls4ml_config.yml").write_text("Backend: Vitis\n")
    samples = collect_samples([tmp_path])
    assert [(design.project, design.measured.lut) for design in samples.designs] == [("site_a", 900), ("site_b", 950)]
    assert any("the same report as" in reason for _, reason in samples.skipped)
    assert any("holds no C synthesis report" in reason for _, reason in samples.skipped)
    assert samples.projects == ("site_a", "site_b")
    # The same modules in both: a report counts once, however many designs it is copied to.
    assert len(samples.layers) == 3


def test_what_cannot_be_read_names_the_file(tmp_path: Path, write_project: Write) -> None:
    project = write_project(tmp_path / "toy")
    (project / "keras_model.h5").write_bytes(b"no HDF5")
    with pytest.raises(ReportFormatError, match=r"keras_model\.h5 is no Keras model"):
        read_project(project, "p", "p/toy")
    (project / "keras_model.h5").unlink()
    with pytest.raises(ReportFormatError, match="its layers are unknown"):
        read_project(project, "p", "p/toy")
    (project / "hls4ml_config.yml").write_text("[1, 2")
    with pytest.raises(ReportFormatError, match="is no hls4ml configuration"):
        read_project(project, "p", "p/toy")
    with pytest.raises(DataError, match="does not exist"):
        collect_samples([tmp_path / "nowhere"])
    with pytest.raises(DataError, match="no report below"):
        (tmp_path / "void").mkdir()
        collect_samples([tmp_path / "void"])


def test_damaged_files_give_typed_errors(tmp_path: Path, write_project: Write) -> None:
    """Cut, overwritten or repeated bytes in any file: an error of this package, or a design; no other traceback."""
    project = write_project(tmp_path / "toy")
    files = sorted(path for path in project.rglob("*") if path.is_file())
    rng = random.Random(1)
    failed = 0
    for _ in range(150):
        path = rng.choice(files)
        whole = path.read_bytes()
        start = rng.randrange(len(whole))
        end = min(start + rng.randrange(1, 60), len(whole))
        noise = bytes(rng.randrange(256) for _ in range(end - start))
        path.write_bytes(rng.choice((whole[:start], whole[:start] + noise + whole[end:], whole[:end] + whole[start:])))
        try:
            read_project(project, "p", "p/toy")
        except TriggerPruneError:
            failed += 1
        path.write_bytes(whole)
    assert failed > 50
    assert len(read_project(project, "p", "p/toy").designs) == 1
