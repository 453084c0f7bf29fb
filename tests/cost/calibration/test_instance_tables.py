"""A network of which only the text report and a list of layers are known."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from trigger_prune.cost.calibration.rows import Row
from trigger_prune.errors import DataError
from trigger_prune.synthesis.calibration import instance_tables, layer_list
from trigger_prune.synthesis.calibration.collect import collect_samples
from trigger_prune.synthesis.calibration.instance_tables import find_report, read_instance_table

MODULES: dict[str, tuple[int, ...]] = {
    # name: latency min, max, BRAM, DSP, FF, LUT; 12 x 12 images of 2 channels, invented
    "zeropad2d_cl_array_array_ap_fixed_2u_config20_s": (199, 199, 0, 0, 30, 231),
    "conv_2d_cl_array_array_ap_fixed_4u_config2_s": (392, 2548, 1, 8, 900, 3000),
    "leaky_relu_array_array_ap_fixed_4u_LeakyReLU_config4_61": (147, 147, 0, 4, 18, 290),
    "pooling2d_cl_array_array_ap_fixed_4u_config5_s": (147, 147, 0, 0, 1200, 800),
    "zeropad2d_cl_array_array_ap_fixed_4u_config21_s": (67, 67, 0, 0, 27, 297),
    "conv_2d_cl_array_array_ap_fixed_6u_config6_s": (128, 2560, 1, 6, 1100, 2500),
    "dense_array_array_ap_fixed_16_6_5_3_0_3u_config9_s": (91, 91, 1, 9, 700, 1300),
    "softmax_array_array_ap_fixed_3u_softmax_config10_s": (7, 7, 2, 1, 90, 350),
}
LAYERS: list[dict[str, Any]] = [
    {"kind": "InputLayer"},
    {"kind": "conv2d", "n_filt": 4, "filt_width": 3, "pad": "same", "stride": 1},
    {"kind": "BatchNormalization"},
    {"kind": "LeakyReLU"},
    {"kind": "MaxPooling2D"},
    {"kind": "conv2d", "n_filt": 6, "filt_width": 3, "pad": "same", "stride": 1},
    {"kind": "Flatten"},
    {"kind": "dense", "n_out": 3, "act": "softmax"},
]
TOP_LUT, TOP_FF, FIFO_LUT, FIFO_FF, FIFO_BRAM = 56, 6, 700, 200, 9


WIDTH = 14
"""Of every column but that of names: the parser tells groups of columns by where they stand."""
NAME = 64


def line(*cells: object, spans: tuple[int, ...] = (), names: int = 1) -> str:
    """A row of a table; ``spans`` of cells over several columns, ``names`` wide columns in front."""
    spans = spans or (1,) * len(cells)
    widths = [NAME if i < names else WIDTH * span + span - 1 for i, span in enumerate(spans)]
    return "|" + "|".join(f"{cell!s:<{width}}" for cell, width in zip(cells, widths, strict=True)) + "|"


def rule(columns: int, names: int = 1) -> str:
    return "+" + "+".join("-" * (NAME if i < names else WIDTH) for i in range(columns)) + "+"


def table(*rows: str, columns: int, names: int = 1, heading: int = 1) -> str:
    """Heading, then the rows; an empty row is a rule."""
    frame = rule(columns, names)
    body = [frame if text == "" else text for text in rows]
    return "\n".join([frame, *body[:heading], frame, *body[heading:], frame])


def report_text(modules: dict[str, tuple[int, ...]]) -> str:
    """What ``hls4ml report`` prints, with a table of these instances."""
    bram, dsp, ff, lut = (sum(values[i] for values in modules.values()) for i in (2, 3, 4, 5))
    groups = ("Latency (cycles)", "Latency (absolute)", "Interval", "Pipeline")
    ends = ("min", "max") * 3
    clock = table(
        line("Clock", "Target", "Estimated", "Uncertainty"),
        line("ap_clk", "5.00 ns", "4.100 ns", "0.62 ns"),
        columns=4,
    )
    latency = table(
        line(*groups, spans=(2, 2, 2, 1), names=0),
        line(*ends, "Type", names=0),
        line(2700, 2710, "13.500 us", "13.550 us", 392, 2560, "dataflow", names=0),
        columns=7,
        names=0,
        heading=2,
    )
    timing = table(
        line("", "", *groups, spans=(1, 1, 2, 2, 2, 1), names=2),
        line("Instance", "Module", *ends, "Type", names=2),
        *(
            line(f"{m}_U0", m, v[0], v[1], f"{v[0] / 200:.3f} us", f"{v[1] / 200:.3f} us", v[0], v[1], "none", names=2)
            for m, v in modules.items()
        ),
        columns=9,
        names=2,
        heading=2,
    )
    summary = table(
        line("Name", "BRAM_18K", "DSP48E", "FF", "LUT", "URAM"),
        line("DSP", *"-----"),
        line("Expression", "-", "-", 0, 20, "-"),
        line("FIFO", FIFO_BRAM, "-", FIFO_FF, FIFO_LUT, "-"),
        line("Instance", bram, dsp, ff, lut, "-"),
        line("Memory", *"-----"),
        line("Multiplexer", "-", "-", "-", 36, "-"),
        line("Register", "-", "-", 6, "-", "-"),
        "",
        line("Total", bram + FIFO_BRAM, dsp, ff + FIFO_FF + TOP_FF, lut + FIFO_LUT + TOP_LUT, 0),
        "",
        line("Available", 4320, 6840, 2364480, 1182240, 960),
        "",
        line("Utilization (%)", "~0", "~0", "~0", "~0", 0),
        columns=6,
    )
    area = table(
        line("Instance", "Module", "BRAM_18K", "DSP48E", "FF", "LUT", "URAM", names=2),
        *(line(f"{m}_U0", m, v[2], v[3], v[4], v[5], 0, names=2) for m, v in sorted(modules.items())),
        "",
        line("Total", "", bram, dsp, ff, lut, 0, names=2),
        columns=7,
        names=2,
    )
    bar = "=" * 64
    return f"""SYNTHESIS REPORT:
{bar}
== Vivado HLS Report for 'toy'
{bar}
* Date:           Mon Jan  4 10:00:00 2021

* Version:        2019.2.1 (Build 1 on Thu Dec 05 05:19:09 MST 2019)
* Project:        toy_prj
* Solution:       solution1
* Product family: virtexuplus
* Target device:  xcvu9p-flgb2104-2-i


{bar}
== Performance Estimates
{bar}
+ Timing:
    * Summary:
{indented(clock, 4)}

+ Latency:
    * Summary:
{indented(latency, 4)}

    + Detail:
        * Instance:
{indented(timing, 8)}

        * Loop:
        N/A



{bar}
== Utilization Estimates
{bar}
* Summary:
{summary}

+ Detail:
    * Instance:
{indented(area, 4)}

"""


def indented(text: str, spaces: int) -> str:
    return "\n".join(" " * spaces + each for each in text.splitlines())


def row(modules: dict[str, tuple[int, ...]], **changes: str) -> Row:
    """The row of ``designs.csv`` beside it."""
    dsp, ff, lut = (sum(values[i] for values in modules.values()) for i in (3, 4, 5))
    cells = {
        "project": "someone+images",
        "design": "someone+images/line/toy",
        "report": "someone+images/line/toy/csynth.rpt",
        "network_id": "toy",
        "tool": "2019.2.1",
        "vitis": "False",
        "part": "xcvu9p-flgb2104-2-i",
        "family": "virtexuplus",
        "clk": "5.0",
        "unc": "0.62",
        "io_type": "io_stream",
        "strategy_eff": "resource",
        "precision_cfg": "ap_fixed<16,6>",
        "layers": json.dumps(LAYERS),
        "LUT": str(lut + FIFO_LUT + TOP_LUT),
        "FF": str(ff + FIFO_FF + TOP_FF),
        "DSP": str(dsp),
        "lat_max": "2710.0",
        "usable_full": "False",
    }
    return Row({**cells, **changes}, "designs.csv row 2")


@pytest.fixture(autouse=True)
def image(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(layer_list._IMAGES, "someone+images", (12, 12, 2))


def written(folder: Path, modules: dict[str, tuple[int, ...]] = MODULES) -> Path:
    path = folder / "someone+images" / "line" / "toy" / "csynth.rpt"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(report_text(modules))
    return path


def test_layers_and_design(tmp_path: Path) -> None:
    samples = read_instance_table(written(tmp_path), row(MODULES))
    assert samples.skipped == ()
    by_name = {sample.layer.name: sample for sample in samples.layers}
    kinds = [layer.kind for layer in samples.designs[0].design.layers]
    pads = ["zero_padding", "conv2d"]
    assert kinds == [*pads, "leaky_relu", "max_pool", *pads, "dense", "softmax"]
    first, second = by_name["conv2d_1"].layer, by_name["conv2d_5"].layer
    assert (first.n_in, first.n_out, first.input_size, first.output_size) == (2, 4, (14, 14), (12, 12))
    # 2 x 9 x 4 weights on 8 multipliers, 4 x 9 x 6 on 6; the dense layer reads 6 x 6 positions of 6
    assert (first.reuse_factor, second.reuse_factor) == (9, 36)
    assert (second.input_size, second.output_size) == ((8, 8), (6, 6))
    dense = by_name["dense_6"].layer
    assert (dense.n_in, dense.n_out, dense.input_size, dense.reuse_factor) == (216, 3, (6, 6), 72)
    assert by_name["conv2d_1"].measured.latency_cycles == 2548
    assert by_name["softmax_7"].measured.bram18 == 2
    design = samples.designs[0]
    assert (design.measured.lut, design.measured.latency_cycles) == (int(row(MODULES).cells["LUT"]), 2710)
    assert "read off" in design.notes[0]
    assert samples.design_origins[0].network == "someone+images/toy"


def test_a_reuse_factor_must_give_the_multipliers(tmp_path: Path) -> None:
    name = "conv_2d_cl_array_array_ap_fixed_4u_config2_s"
    odd = {**MODULES, name: (392, 2548, 1, 7, 900, 3000)}  # no valid factor of 72 weights gives 7
    samples = read_instance_table(written(tmp_path, odd), row(odd))
    assert not samples.designs
    assert "conv2d_1" not in {sample.layer.name for sample in samples.layers}
    assert any(name in path and "fit no reuse factor" in reason for path, reason in samples.skipped)


@pytest.mark.parametrize(
    ("before", "after", "reason"),
    [
        ("conv_2d_cl_array_array_ap_fixed_4u_config2_s", "conv_2d_cl_me_ap_fixed_4u_config2_s", "own variant"),
        ("pooling2d_cl_array_array_ap_fixed_4u_config5_s", "pooling2d_cl_ap_fixed_4u_config5_s", "one channel at a"),
    ],
)
def test_functions_that_are_not_hls4mls_are_left_out(tmp_path: Path, before: str, after: str, reason: str) -> None:
    modules = {after if name == before else name: values for name, values in MODULES.items()}
    samples = read_instance_table(written(tmp_path, modules), row(modules))
    assert not samples.designs
    assert len(samples.layers) == len(MODULES) - 1
    assert any(reason in text for _, text in samples.skipped)


def test_constant_weights_that_nobody_knows(tmp_path: Path) -> None:
    samples = read_instance_table(written(tmp_path), row(MODULES, strategy_eff="latency"))
    assert not samples.designs
    assert {sample.layer.kind for sample in samples.layers}.isdisjoint({"conv2d", "dense"})


def test_a_report_must_be_the_one_of_the_row_and_the_list(tmp_path: Path) -> None:
    path = written(tmp_path)
    with pytest.raises(DataError, match="its LUT and FF differ"):
        read_instance_table(path, row(MODULES, LUT="1"))
    with pytest.raises(DataError, match="not those of the layer list"):
        read_instance_table(path, row(MODULES, layers=json.dumps(LAYERS[:-1])))
    with pytest.raises(DataError, match="kind 'gru' is unknown"):
        read_instance_table(path, row(MODULES, layers=json.dumps([{"kind": "gru"}])))
    with pytest.raises(DataError, match="size of the input"):
        read_instance_table(path, row(MODULES, project="other"))


def test_only_a_report_below_the_given_folders_is_found(tmp_path: Path) -> None:
    path = written(tmp_path / "reports")
    assert find_report(row(MODULES), [tmp_path, tmp_path / "reports"]) == path
    assert find_report(row(MODULES), [tmp_path]) is None


def test_collected_with_the_table(tmp_path: Path) -> None:
    written(tmp_path / "reports")
    cells = row(MODULES).cells
    (tmp_path / "tables").mkdir()
    quoted = ['"' + value.replace('"', '""') + '"' for value in cells.values()]
    (tmp_path / "tables" / "designs.csv").write_text(",".join(cells) + "\n" + ",".join(quoted) + "\n")
    samples = collect_samples([tmp_path / "tables", tmp_path / "reports"])
    assert len(samples.designs) == 1
    assert len(samples.layers) == len(MODULES)
    assert not samples.skipped
    without = collect_samples([tmp_path / "tables"])
    assert [path for path, _ in without.skipped] == ["designs.csv row 2"]


def test_pools_by_kernel_window_are_no_samples(tmp_path: Path) -> None:
    samples = read_instance_table(written(tmp_path), row(MODULES, design="someone+images/kernel_window/toy"))
    assert "max_pool" not in {sample.layer.kind for sample in samples.layers}
    windows = [s.layer.implementation for s in samples.layers if s.layer.kind == "conv2d"]
    assert windows == ["kernel_window"] * 2
    assert len(samples.designs) == 1
    assert replace(samples.designs[0].design.layers[3]).kind == "max_pool"
    assert instance_tables.find_report(row(MODULES), []) is None
