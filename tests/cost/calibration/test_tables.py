"""The published tables: invented rows in their format."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import pytest

from trigger_prune.cost.calibration.samples import joined
from trigger_prune.cost.calibration.tables import network_of, read_tables
from trigger_prune.cost.hls.features import WeightFeatures
from trigger_prune.errors import DataError
from trigger_prune.fixed_point import FixedPoint

DESIGN = "owner+repo/nets/tagger/hls4ml_prj/DSP_reuse4"
DENSE = {"kind": "dense", "name": "fc1", "config": "config2", "n_in": 6, "n_out": 5, "in_W": 8, "out_W": 16}
RELU = {"kind": "activ", "name": "relu1", "config": "relu_config4", "n_in": 5, "in_W": 16, "out_W": 6}


def write(path: Path, rows: list[dict[str, Any]]) -> None:
    columns = list(dict.fromkeys(name for row in rows for name in row))
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, columns, restval="")
        writer.writeheader()
        writer.writerows(rows)


def design_row(**changes: Any) -> dict[str, Any]:
    return {
        "project": "owner+repo", "design": DESIGN, "duplicate_of": "", "tool": "2021.1", "vitis": "True",
        "part": "xc7z020-clg400-1", "family": "zynq", "clk": "5.0", "unc": "0.62", "io_type": "io_parallel",
        "strategy_eff": "latency", "layers": json.dumps([DENSE, RELU]), "forced_mul": "dsp", "lat_max": "9.0",
        "lat_min": "8.0", "ii_max": "4.0", "ii_min": "4.0", "BRAM18": "0.0", "DSP": "3.0", "FF": "700.0",
        "LUT": "900.0", "av_LUT": "53200.0", "usable_full": "True", "note": "rf by hand", **changes,
    }  # fmt: skip


def layer_row(**changes: Any) -> dict[str, Any]:
    return {
        "project": "owner+repo", "design": DESIGN,
        "module": "dense_latency_ap_fixed_8_2_5_3_0_ap_fixed_16_4_5_3_0_config2",
        "func": "dense_latency", "config": "config2", "tool": "2021.1", "vitis": "True", "part": "xc7z020-clg400-1",
        "clk": "5.0", "n_in": "6.0", "n_out": "5.0", "rf": "4.0", "strategy": "latency", "io": "io_parallel",
        "n_zeros": "3.0", "in_W": "8", "in_F": "6", "out_W": "16", "w_W": "6.0", "w_F": "5.0", "acc_W": "16.0",
        "acc_F": "12.0", "lat": "5.0", "ii": "4.0", "BRAM": "0.0", "DSP": "3.0", "FF": "400.0", "LUT": "700.0",
        "forced_mul": "dsp", "nnz": "27.0", "nge2": "15.0", "nge3": "6.0", "npow2": "12.0", "wbits_sum": "100.0",
        "in_used": "6.0", "an_u3": "5.0", "an_u2": "8.0", "an_u1neg": "4.0", "an_tree_adders": "26.0",
        "an_tree_bits": "300.0", "an_csd_bits": "120.0", "an_fanin": "7.0", "an_alive_out": "5.0",
        "bad_model": "False", "dup": "False", **changes,
    }  # fmt: skip


def relu_row(**changes: Any) -> dict[str, Any]:
    return layer_row(
        module="relu_ap_fixed_16_4_5_3_0_ap_ufixed_6_2_4_0_0_relu_config4", func="relu", config="relu_config4",
        n_in="5.0", n_out="", nnz="", LUT="80.0", DSP="0.0", lat="0.0", strategy="", **changes,
    )  # fmt: skip


def test_design_joins_both_tables(tmp_path: Path) -> None:
    write(tmp_path / "designs.csv", [design_row()])
    write(tmp_path / "layers.csv", [layer_row(), relu_row()])
    samples = read_tables(tmp_path)
    (sample,) = samples.designs
    dense, relu = sample.design.layers
    assert (dense.name, dense.kind, dense.n_in, dense.n_out, dense.reuse_factor, dense.n_zeros) == (
        "fc1", "dense", 6, 5, 4, 3,
    )  # fmt: skip
    assert (dense.input_type, dense.output_type) == (FixedPoint(8, 2), FixedPoint(16, 4))
    assert (dense.weight_type, dense.accum_type) == (FixedPoint(6, 1), FixedPoint(16, 4))
    assert str(relu.output_type) == "ap_ufixed<6,2,AP_RND_CONV,AP_SAT>"
    features = dense.features
    assert isinstance(features, WeightFeatures)
    assert (features.nonzeros, features.nonzeros_with_bias, features.u3, features.u2) == (27, 31, 5, 8)
    assert (features.u1neg, features.tree_bits, features.fan_in, features.alive_outputs) == (4, 300, 7, 5)
    assert (features.multiplier_weights, features.csd_bits + features.negation_bits) == (6, 120)
    setting, report = sample.design.setting, sample.measured
    assert (setting.tool, setting.version, setting.forced_multiplier) == ("vitis_hls", "2021.1", "dsp")
    assert (report.lut, report.latency_cycles, report.latency_best_cycles, report.ii) == (900, 9, 8, 4)
    assert [(layer.name, layer.lut) for layer in report.layers] == [("fc1", 700), ("relu1", 80)]
    assert sample.notes == ("rf by hand",)
    assert {(s.layer.kind, s.measured.lut) for s in samples.layers} == {("dense", 700), ("relu", 80)}


def test_what_the_table_warns_of_is_left_out(tmp_path: Path) -> None:
    write(
        tmp_path / "designs.csv",
        [
            design_row(),
            design_row(design="owner+repo/b", duplicate_of=DESIGN),
            design_row(
                design="owner+repo/c", usable_full="False", note="keras_model.h5 is NOT the net", vs_LUT="400.0"
            ),
            design_row(design="owner+repo/d", layers="[{"),
            design_row(design="owner+repo/e", LUT="many"),
        ],
    )
    write(
        tmp_path / "layers.csv",
        [
            layer_row(),
            layer_row(dup="True", LUT="1.0"),
            layer_row(bad_model="True", LUT="2.0"),
            layer_row(nnz="", LUT="3.0"),
            layer_row(func="cnnshift_arr", LUT="4.0"),
            layer_row(func="gru_stack", module="gru_stack_config2", LUT="5.0"),
        ],
    )
    samples = read_tables(tmp_path)
    assert [sample.name for sample in samples.designs] == [DESIGN]
    assert [sample.measured.lut for sample in samples.layers] == [700]
    reasons = dict(samples.skipped)
    assert reasons["designs.csv row 3"] == f"a copy of {DESIGN}"
    assert reasons["designs.csv row 4"] == "keras_model.h5 is NOT the net"
    assert "layers is not JSON" in reasons["designs.csv row 5"]
    assert reasons["designs.csv row 6"] == "designs.csv row 6: LUT is 'many', not a number"
    assert [reasons[f"layers.csv row {row}"] for row in range(3, 8)] == [
        "the same module report as another design's",
        "the stored model is not the synthesised network",
        "the weights are unknown",
        "a part of another layer's module",
        "no formulas for gru_stack",
    ]
    # A design that cannot be estimated still tells what synthesis makes of a csynth report.
    assert [(pair.csynth.lut, pair.vsynth.lut) for pair in samples.pairs] == [(900, 400)]


SWEPT = {"strategy": "see SOURCES", "success": "True"}


def test_sweeps(tmp_path: Path) -> None:
    wa = {"source": "wa-hls4ml-search(X)", "kind": "dense(1 layer+act)", "n_in": "32.0", "n_out": "16.0", "rf": "64.0"}
    n_torc = {"source": "N-TORC(Y)", "kind": "dense", "n_in": "64.0", "n_out": "8.0", "rf": "32.0", "prec_bits": "16.0"}
    measured = {"bram18": "3.0", "dsp": "8.0", "ff": "900.0", "lut": "800.0", "lat_max": "66.0", "ii_max": "64.0"}
    write(
        tmp_path / "dense_layers_wa_ntorc.csv",
        [
            {**wa, "prec_bits": "8.0", "strategy": "resource", "success": "True", **measured},
            {**wa, "prec_bits": "8.0", "strategy": "latency", "success": "True", **measured},
            {**wa, "prec_bits": "4.0", "strategy": "latency", "success": "False"},
            {**n_torc, "strategy": "see SOURCES", "success": "True", **measured, "ii_max": ""},
            {**n_torc, "kind": "conv1d", "n_in": "1.0", "seq_len": "128.0", "rf": "6.0", **SWEPT, **measured},
            {**n_torc, "kind": "conv1d", "n_in": "4.0", "seq_len": "128.0", "rf": "12.0", **SWEPT, **measured},
            {**n_torc, "kind": "lstm", "strategy": "see SOURCES", "success": "True", **measured},
        ],
    )
    merged = {"kind": "dense", "n_in": "64", "size": "8", "lut_median": "800.0", "dsp48e_median": "8.0"}
    write(tmp_path / "ntorc_merged_by_config.csv", [{**merged, "rf_eff": "32"}, {**merged, "rf_eff": "16"}])
    samples = read_tables(tmp_path)
    found = [
        (s.project, s.setting.version, s.layer.reuse_factor, s.measured.dsp, s.measured.ii) for s in samples.layers
    ]
    assert found == [
        ("wa-hls4ml-search(X)", "2020.1", 64, 8, 64),
        ("N-TORC(HeRCLab)", "2019.1", 32, 8, None),
        ("N-TORC(HeRCLab)", "2019.1", 6, 8, 64),
        ("N-TORC(HeRCLab)", "2019.1", 12, 8, 64),
        ("N-TORC(HeRCLab)", "2019.1", 16, 8, None),
    ]
    assert [(run.finished, run.layer.strategy) for run in samples.runs] == [
        (True, "resource"), (True, "latency"), (False, "latency"),
    ]  # fmt: skip
    assert samples.layers[0].setting.clock_period_ns == 5.0
    first, second = (s.layer for s in samples.layers if s.layer.kind == "conv1d")
    # Behind a pool of two, except the first; three wide, padded to the same length.
    assert (first.n_in, first.n_out, first.kernel, first.input_size, first.output_size) == (1, 8, (3,), (130,), (128,))
    assert (second.n_in, second.input_size, second.output_size) == (4, (66,), (64,))
    assert {s.setting.io_type for s in samples.layers[1:]} == {"io_stream"}
    # The second table repeats a configuration of the first: one sample, not two.
    assert dict(samples.skipped)["ntorc_merged_by_config.csv row 2"].startswith("the same as dense_layers")


def test_damaged_table_is_named(tmp_path: Path) -> None:
    write(tmp_path / "designs.csv", [{"project": "a", "design": "b"}])
    with pytest.raises(DataError, match=r"designs\.csv has no column LUT, layers, tool"):
        read_tables(tmp_path)


def test_designs_of_one_network_are_one_unit() -> None:
    assert network_of("o+r/nets/a/hls4ml_prj/DSP_reuse1") == network_of("o+r/nets/a/hls4ml_prj/LUT_reuse9")
    assert network_of("o+r/model_1/hls4ml_prj") == network_of("o+r/model_1/hls4ml_prj_2")
    assert network_of("o+r/model_1/hls4ml_prj") != network_of("o+r/model_3/hls4ml_prj")
    assert network_of("hls4ml_prj") == "hls4ml_prj"


def test_joined_keeps_the_first_of_the_same_report(tmp_path: Path) -> None:
    write(tmp_path / "designs.csv", [design_row()])
    write(tmp_path / "layers.csv", [layer_row()])
    samples = read_tables(tmp_path)
    twice = joined([samples, samples])
    assert (len(twice.designs), len(twice.layers)) == (1, 1)
    assert len(twice.skipped) == len(samples.skipped) * 2 + 2
