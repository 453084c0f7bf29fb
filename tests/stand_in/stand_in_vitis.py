"""A stand-in for ``vitis-run``: no compiler, nothing is synthesised.

It reads the C++ of the hls4ml project it is started in (weights, parameters, types; see ``describe_project``), takes
the formulas' estimate of the csynth report, multiplies every figure by a factor of its own between 0.7 and 1.4, and
writes the report where Vitis HLS does. Its version says in every report what it is.

STAND_IN_SEED     the factors are drawn from it
STAND_IN_BIAS     or are stated: ``lut=1.4,dsp=0.7,latency=1.2`` (others are 1)
STAND_IN_COUNTER  a file; one line is added per call
STAND_IN_FAIL     number of the call (from 1) that fails with exit status 1; several with commas
STAND_IN_SILENT   number of the call that ends well but writes no report
"""

from __future__ import annotations

import os
import re
import sys
from pathlib import Path

VERSION = "2024.1.stand_in_not_a_compiler"
RESOURCES = ("lut", "ff", "dsp", "bram18", "latency")
LEAST, MOST = 0.7, 1.4

XML = """<?xml version="1.0" ?>
<profile>
<ReportVersion>
<Version>{version}</Version>
</ReportVersion>
<UserAssignments>
<unit>ns</unit>
<ProductFamily>{family}</ProductFamily>
<Part>{part}</Part>
<TopModelName>{top}</TopModelName>
<TargetClockPeriod>{clock:.2f}</TargetClockPeriod>
<ClockUncertainty>{uncertainty:.2f}</ClockUncertainty>
<FlowTarget>vivado</FlowTarget>
</UserAssignments>
<PerformanceEstimates>
<PipelineType>yes</PipelineType>
<SummaryOfTimingAnalysis>
<unit>ns</unit>
<EstimatedClockPeriod>{estimated:.3f}</EstimatedClockPeriod>
</SummaryOfTimingAnalysis>
<SummaryOfOverallLatency>
<unit>clock cycles</unit>
<Best-caseLatency>{latency}</Best-caseLatency>
<Average-caseLatency>{latency}</Average-caseLatency>
<Worst-caseLatency>{latency}</Worst-caseLatency>
<Best-caseRealTimeLatency>{latency_ns:.3f} ns</Best-caseRealTimeLatency>
<Average-caseRealTimeLatency>{latency_ns:.3f} ns</Average-caseRealTimeLatency>
<Worst-caseRealTimeLatency>{latency_ns:.3f} ns</Worst-caseRealTimeLatency>
<PipelineInitiationInterval>{ii}</PipelineInitiationInterval>
<PipelineDepth>{depth}</PipelineDepth>
<Interval-min>{ii}</Interval-min>
<Interval-max>{ii}</Interval-max>
</SummaryOfOverallLatency>
</PerformanceEstimates>
<AreaEstimates>
<Resources>
<BRAM_18K>{bram18}</BRAM_18K>
<DSP>{dsp}</DSP>
<FF>{ff}</FF>
<LUT>{lut}</LUT>
<URAM>0</URAM>
</Resources>
<AvailableResources>
<BRAM_18K>5376</BRAM_18K>
<DSP>12288</DSP>
<FF>3456000</FF>
<LUT>1728000</LUT>
<URAM>1280</URAM>
</AvailableResources>
</AreaEstimates>
</profile>
"""


def bias() -> dict[str, float]:
    """Factor of every figure."""
    import numpy as np

    stated = os.environ.get("STAND_IN_BIAS")
    if stated is None:
        drawn = np.random.default_rng(int(os.environ.get("STAND_IN_SEED", "0"))).uniform(LEAST, MOST, len(RESOURCES))
        return dict(zip(RESOURCES, drawn.tolist(), strict=True))
    found = {name: float(value) for name, value in (part.split("=") for part in stated.split(","))}
    assert set(found) <= set(RESOURCES) and all(LEAST <= value <= MOST for value in found.values())
    return {**dict.fromkeys(RESOURCES, 1.0), **found}


def entry(name: str) -> str:
    """A value of the project's ``project.tcl``."""
    found = re.search(rf"set {name} \"?([^\"\n]+)\"?", Path("project.tcl").read_text())
    assert found is not None, name
    return found[1]


def call_number() -> int:
    """How often the stand-in was called, this time included."""
    counter = os.environ.get("STAND_IN_COUNTER")
    if counter is None:
        return 0
    with Path(counter).open("a") as calls:
        calls.write(f"{Path.cwd().name}\n")
    return len(Path(counter).read_text().splitlines())


def report(top: str) -> str:
    """The csynth report of the project in this folder."""
    from trigger_prune.cost.hls.model import HlsAnalyticCost
    from trigger_prune.synthesis.calibration.describe import describe_project

    estimate = HlsAnalyticCost().estimate_design(describe_project(Path()))
    factor = bias()
    used = {name: round((getattr(estimate, name) or 0) * factor[name]) for name in ("lut", "ff", "dsp", "bram18")}
    latency = round((estimate.latency_cycles or 0) * factor["latency"])
    clock = float(entry("clock_period"))
    return XML.format(
        version=VERSION, family="virtexuplus", part=entry("part"), top=top, clock=clock,
        uncertainty=0.27 * clock, estimated=0.7 * clock, latency=latency, latency_ns=latency * clock,
        ii=estimate.ii or 1, depth=latency + 1, **used,
    )  # fmt: skip


def synthesise() -> int:
    """What ``build_prj.tcl`` does for ``csynth``."""
    number = call_number()
    top = entry("project_name")
    print("***** C/RTL SYNTHESIS *****")
    print(f"INFO: [HLS 200-10] Analyzing design file 'firmware/{top}.cpp' ... (stand-in, not a compiler)")
    if str(number) in os.environ.get("STAND_IN_FAIL", "").split(","):
        print("ERROR: [HLS 200-1715] Encountered problem during source synthesis")
        print("ERROR: [HLS 200-70] Pre-synthesis failed.")
        print("command 'ap_source' returned error code\n    while executing\n\"csynth_design\"", flush=True)
        return 1
    if str(number) not in os.environ.get("STAND_IN_SILENT", "").split(","):
        text = report(top)
        folder = Path(f"{top}_prj/solution1/syn/report")
        folder.mkdir(parents=True, exist_ok=True)
        for name in (f"{top}_csynth.xml", "csynth.xml"):
            (folder / name).write_text(text)
    print("***** C/RTL SYNTHESIS COMPLETED IN 0h0m1s *****")
    print("INFO: [Common 17-206] Exiting vitis-run (stand-in, not a compiler)", flush=True)
    return 0


def main() -> int:
    if sys.argv[1:] in (["-version"], ["--version"]):
        print("vitis-run v2024.1 (stand-in, not a compiler)")
        return 0
    print("****** vitis-run v2024.1 (stand-in, not a compiler; nothing is synthesised)", flush=True)
    if sorted(sys.argv[1:]) != sorted(["--tcl", "build_prj.tcl", "--mode", "hls"]):
        print(f"ERROR: the stand-in was called with {sys.argv[1:]}")
        return 2
    options = dict(re.findall(r"^\s*(\w+)\s+([01])\s*$", Path("build_opt.tcl").read_text(), re.MULTILINE))
    if [name for name, chosen in options.items() if chosen == "1"] != ["reset", "synth"]:
        print(f"ERROR: the stand-in knows C synthesis only, not {options}")
        return 2
    return synthesise()


if __name__ == "__main__":
    sys.exit(main())
