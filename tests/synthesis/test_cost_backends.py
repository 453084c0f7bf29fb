"""Backends by name: each gets its own settings, and what runs a synthesis tool gets the store around it."""

import subprocess
import sys
from pathlib import Path
from typing import get_args

import pytest

from trigger_prune.config.project import CostConfig
from trigger_prune.cost.report import CostStage
from trigger_prune.errors import CostError
from trigger_prune.synthesis.backends import BACKENDS, make_cost_model
from trigger_prune.synthesis.store.cost import StoredCost

STAGES = {
    "rtl": CostStage.RTL_SYNTH,
    "analytic": CostStage.ANALYTIC,
    "csynth": CostStage.CSYNTH,
    "vsynth": CostStage.VSYNTH,
    "cosim": CostStage.COSIM,
    "pnr": CostStage.PNR,
    "runtime": CostStage.RUNTIME,
}
SYNTHESIS = {"rtl", "csynth", "vsynth", "cosim", "pnr"}


def test_every_name_in_project_yaml_has_a_backend():
    assert set(BACKENDS) == set(get_args(CostConfig.model_fields["backend"].annotation)) == {*STAGES, "analytic_hls"}


@pytest.mark.parametrize(("backend", "stage"), STAGES.items())
def test_the_backend_is_chosen_by_name_and_gets_its_settings(backend, stage):
    config = CostConfig(
        backend=backend, adders_per_stage=3, timeout_s=7.0, memory_limit_mib=321, tool_version="2022.2", licences=2,
        threads=2, batch_sizes=[2, 8], runtime_seconds=1.5, ecp5_seeds=1, use_store=False, register_ns=0.3, unit_ns=0.6,
    )  # fmt: skip
    model = make_cost_model(config)
    assert (model.name, model.stage) == (backend, stage)
    if backend in ("rtl", "analytic"):
        assert model.adders_per_stage == 3
        assert (model.delay_model.register_ns, model.delay_model.unit_ns) == (0.3, 0.6)
    if backend == "rtl":
        assert (model.pipeline_stages, model.pipeline_for_clock, model.ecp5_seeds) == (None, False, 1)
    if backend in ("csynth", "vsynth", "cosim", "pnr"):
        assert (model.tool_version, model.licences) == ("2022.2", 2)
    if backend == "runtime":
        assert (model.threads, model.batch_sizes, model.plan.seconds, model.provider) == (2, (2, 8), 1.5, "cpu")
    if backend != "analytic":
        assert (model.timeout_s, model.memory_limit_mib) == (7.0, 321)


@pytest.mark.parametrize("backend", STAGES)
def test_what_a_tool_synthesised_is_stored_and_nothing_else(backend, tmp_path):
    model = make_cost_model(CostConfig(backend=backend, store="shared/store"), tmp_path)
    assert isinstance(model, StoredCost) == (backend in SYNTHESIS)
    assert (model.name, model.stage) == (backend, STAGES[backend])
    if backend in SYNTHESIS:
        assert model.store.folder == tmp_path / "shared" / "store"
        assert not isinstance(make_cost_model(CostConfig(backend=backend, use_store=False)), StoredCost)


def test_the_place_of_the_store(monkeypatch, tmp_path):
    monkeypatch.setenv("TRIGGER_PRUNE_STORE", str(tmp_path / "mine"))
    assert make_cost_model(CostConfig()).store.folder == tmp_path / "mine"
    assert make_cost_model(CostConfig(store="/abs"), tmp_path).store.folder == Path("/abs")
    assert make_cost_model(CostConfig(store="~/s"), tmp_path).store.folder == Path("~/s").expanduser()


def test_an_unknown_name_lists_the_known_ones():
    with pytest.raises(CostError, match="verilator") as caught:
        make_cost_model(CostConfig.model_construct(backend="verilator"))
    assert "rtl, analytic, analytic_hls, csynth" in caught.value.hint


@pytest.mark.parametrize("backend", ["analytic", "analytic_hls"])
def test_choosing_a_formula_imports_no_tool(backend):
    code = f"""import sys
from trigger_prune.config.project import CostConfig
from trigger_prune.synthesis.backends import make_cost_model
make_cost_model(CostConfig(backend={backend!r}))
print(sorted({{'alkaid', 'pyosys', 'hls4ml', 'tensorflow', 'torch', 'onnxruntime'}} & set(sys.modules)))"""
    output = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert output.strip() == "[]"


def test_the_release_of_the_compiler_reaches_the_estimate():
    def release(version: str | None) -> str:
        return make_cost_model(CostConfig(backend="analytic_hls", tool_version=version)).base.hls_version

    assert release("2022.2") == "2022.2"
    assert release("2022") == release(None)


def test_the_rtl_flow_cuts_for_the_clock_unless_told_otherwise():
    stages = make_cost_model(CostConfig(backend="rtl", pipeline_stages=4, use_store=False))
    assert (stages.pipeline_stages, stages.pipeline_for_clock) == (4, False)
    assert make_cost_model(CostConfig(backend="rtl", use_store=False)).pipeline_for_clock
    assert make_cost_model(CostConfig(backend="analytic", use_store=False)).adders_per_stage is None
