import subprocess
import sys

import pytest

from trigger_prune.config.project import CostConfig
from trigger_prune.cost.report import CostStage
from trigger_prune.errors import CostError
from trigger_prune.synthesis.backends import make_cost_model


@pytest.mark.parametrize(
    ("backend", "stage"), [("rtl", CostStage.RTL_SYNTH), ("analytic", CostStage.ANALYTIC), ("csynth", CostStage.CSYNTH)]
)
def test_the_backend_is_chosen_by_name_and_gets_its_settings(backend, stage):
    config = CostConfig(backend=backend, adders_per_stage=3, timeout_s=7.0, memory_limit_mib=321)
    model = make_cost_model(config)
    assert (model.name, model.stage) == (backend, stage)
    if backend != "csynth":
        assert model.adders_per_stage == 3
    if backend != "analytic":
        assert (model.timeout_s, model.memory_limit_mib) == (7.0, 321)


def test_an_unknown_name_lists_the_known_ones():
    with pytest.raises(CostError, match="verilator") as caught:
        make_cost_model(CostConfig.model_construct(backend="verilator"))
    assert "rtl, analytic, csynth" in caught.value.hint


def test_choosing_the_analytic_model_imports_no_tool():
    code = """import sys
from trigger_prune.config.project import CostConfig
from trigger_prune.synthesis.backends import make_cost_model
make_cost_model(CostConfig(backend='analytic'))
print(sorted({'alkaid', 'pyosys', 'hls4ml', 'tensorflow'} & set(sys.modules)))"""
    output = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert output.strip() == "[]"
