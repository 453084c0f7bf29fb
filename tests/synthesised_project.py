"""A synthesised hls4ml project, written with invented numbers in the format of the tools."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

XML = """<profile>
<ReportVersion><Version>{version}</Version></ReportVersion>
<UserAssignments><ProductFamily>zynquplus</ProductFamily><Part>xczu7ev-ffvc1156-2-e</Part>
<TopModelName>{name}</TopModelName><TargetClockPeriod>5.00</TargetClockPeriod>
<ClockUncertainty>1.35</ClockUncertainty></UserAssignments>
<PerformanceEstimates><PipelineType>none</PipelineType>
<SummaryOfTimingAnalysis><unit>ns</unit><EstimatedClockPeriod>3.500</EstimatedClockPeriod></SummaryOfTimingAnalysis>
<SummaryOfOverallLatency><unit>clock cycles</unit><Best-caseLatency>{latency}</Best-caseLatency>
<Average-caseLatency>{latency}</Average-caseLatency><Worst-caseLatency>{latency}</Worst-caseLatency>
<Interval-min>{ii}</Interval-min><Interval-max>{ii}</Interval-max></SummaryOfOverallLatency></PerformanceEstimates>
<AreaEstimates><Resources><BRAM_18K>{bram}</BRAM_18K><DSP>{dsp}</DSP><FF>{ff}</FF><LUT>{lut}</LUT><URAM>0</URAM>
</Resources><AvailableResources><BRAM_18K>624</BRAM_18K><DSP>1728</DSP><FF>460800</FF><LUT>230400</LUT>
<URAM>96</URAM></AvailableResources></AreaEstimates>
<InterfaceSummary>{ports}</InterfaceSummary></profile>
"""
PORT = "<RtlPorts><name>{name}</name><Object>o</Object><Dir>{direction}</Dir><Bits>{bits}</Bits></RtlPorts>"
YML = """Backend: Vitis
ClockPeriod: 5
HLSConfig:
  LayerName:
    fc1:
      Precision: {{weight: 'fixed<6,1>', bias: 'fixed<6,1>', result: 'fixed<16,6>'}}
      ReuseFactor: {reuse}
    relu1:
      Precision: {{result: 'ufixed<8,2,RND_CONV,SAT>'}}
    out:
      Precision: {{weight: 'fixed<6,1>', bias: 'fixed<6,1>', result: 'fixed<16,6>'}}
      ReuseFactor: {reuse}
  Model: {{Precision: 'fixed<16,6>', ReuseFactor: 1, Strategy: Latency}}
IOType: io_parallel
KerasModel: !keras_model 'keras_model.h5'
Part: xczu7ev-ffvc1156-2-e
ProjectName: toy
"""
FC1 = "dense_latency_ap_fixed_10_4_5_3_0_ap_fixed_16_6_5_3_0_config2_s"
RELU = "relu_ap_fixed_16_6_5_3_0_ap_ufixed_8_2_4_0_0_relu_config4_s"
OUT = "dense_latency_ap_ufixed_8_2_4_0_0_ap_fixed_16_6_5_3_0_config5_s"
SIZES = (6, 5, 3)
"""Inputs, hidden neurons, outputs."""


def report_xml(name: str, read: int = 0, returned: int = 0, width: int = 16, **values: int | str) -> str:
    """A csynth XML with ``read`` and ``returned`` ports of ``width`` bits."""
    ports = [PORT.format(name=f"p_read{i}", direction="in", bits=width) for i in range(read)]
    ports += [PORT.format(name=f"ap_return_{i}", direction="out", bits=16) for i in range(returned)]
    ports += [PORT.format(name="ap_clk", direction="in", bits=1)]
    given: dict[str, Any] = {
        "version": "2022.2",
        "lut": 0,
        "ff": 0,
        "dsp": 0,
        "bram": 0,
        "latency": 1,
        "ii": 1,
        **values,
    }
    return XML.format(name=name, ports="".join(ports), **given)


def float_weights() -> dict[str, tuple[Any, Any]]:
    """Kernel and bias by layer, multiples of 1/32, with zeros: input 4 is never used, output 2 of fc1 neither."""
    rng = np.random.default_rng(1)
    fc1 = rng.integers(-31, 32, (SIZES[0], SIZES[1])) / 32
    fc1[4] = 0
    out = rng.integers(-31, 32, (SIZES[1], SIZES[2])) / 32
    out[2] = 0
    return {"fc1": (fc1, rng.integers(-31, 32, SIZES[1]) / 32), "out": (out, np.zeros(SIZES[2]))}


def write_synthesised_project(
    folder: Path,
    *,
    lut: int = 900,
    reuse: int = 1,
    target_ii: str = "NA",
    kernels: dict[str, Any] | None = None,
    returned: int = 4,
    log: str = "",
    version: str = "2022.2",
) -> Path:
    """Write a project with keras_model.h5, yml, log and reports; arguments replace parts of it."""
    import h5py

    reports = folder / "toy_prj" / "solution1" / "syn" / "report"
    reports.mkdir(parents=True)
    (folder / "hls4ml_config.yml").write_text(YML.format(reuse=reuse))
    texts = {
        "toy": report_xml("toy", lut=lut, ff=300, dsp=7, latency=6, version=version),
        FC1: report_xml(FC1, SIZES[0], returned, 10, lut=500, ff=100, dsp=5, latency=2, version=version),
        RELU: report_xml(RELU, 4, 4, lut=60, latency=0, version=version),
        OUT: report_xml(OUT, 4, SIZES[2], 8, lut=300, ff=50, dsp=2, version=version),
    }
    for name, text in texts.items():
        (reports / f"{name}_csynth.xml").write_text(text)
    modules = "".join(
        f"INFO: [HLS 200-42] -- Implementing module '{name}' \n"
        f"INFO: [HLS 200-1470] Pipelining result : Target II = {target_ii}, Final II = 1, Depth = 2, function 'f'\n"
        for name in (FC1, RELU, OUT, "toy")
    )
    head = f"****** Vitis HLS - High-Level Synthesis from C, C++ and OpenCL v{version} (64-bit)\n"
    (folder / "vitis_hls.log").write_text(head + log + modules)
    layers = [
        {"class_name": "InputLayer", "config": {"name": "x", "batch_input_shape": [None, SIZES[0]]}},
        {"class_name": "Dense", "config": {"name": "fc1", "units": SIZES[1], "activation": "linear"}},
        {"class_name": "Activation", "config": {"name": "relu1", "activation": "relu"}},
        {"class_name": "Dense", "config": {"name": "out", "units": SIZES[2], "activation": "linear"}},
    ]
    with h5py.File(folder / "keras_model.h5", "w") as file:
        file.attrs["model_config"] = json.dumps({"class_name": "Sequential", "config": {"layers": layers}})
        for name, (kernel, bias) in {**float_weights(), **(kernels or {})}.items():
            file[f"model_weights/{name}/{name}/kernel:0"] = kernel
            file[f"model_weights/{name}/{name}/bias:0"] = bias
    return folder
