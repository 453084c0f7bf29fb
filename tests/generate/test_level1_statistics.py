"""New level-1 events against the older sample of the same toy detector, when it lies beside the checkout."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from scipy.stats import ks_2samp

pytest.importorskip("pythia8mc", reason="the generators need Pythia: pip install 'trigger_prune[generate]'")
pytest.importorskip("numba", reason="the generators need numba: pip install 'trigger_prune[generate]'")

from trigger_prune.data.level1.words import WORDS
from trigger_prune.generate.event_files import write_npz
from trigger_prune.generate.level1.maker import Level1Maker
from trigger_prune.generate.level1.pool import SoftPoolMaker
from trigger_prune.generate.level1.processes import find_process

OLDER = Path(__file__).resolve().parents[3] / "shared" / "data"
COMPARED = ("jet1_pt", "jet2_pt", "jet4_pt", "jet1_eta", "eg1_pt", "mu1_pt", "ht", "total_et", "met_pt", "n_jets")
# one generated scatter or soft crossing each: rows that share a scatter would count several times
EVENTS = {"soft": 2500, "qcd2": 400, "HH4b": 400}

pytestmark = pytest.mark.skipif(
    not (OLDER / "l1_soft.npz").is_file(), reason="the older level-1 sample does not lie beside the checkout"
)


@pytest.fixture(scope="module")
def pool_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """5000 soft collisions: the mean energy of a pool then varies by 1.4 %."""
    pool = SoftPoolMaker(5000)
    path = tmp_path_factory.mktemp("pool") / "soft_pool.npz"
    write_npz(path, pool.merge([pool.make(shard, 3) for shard in range(pool.n_shards)]))
    return path


@pytest.mark.slow
@pytest.mark.parametrize("name", EVENTS)
def test_same_detector_and_physics_as_the_older_sample(name, pool_file):
    maker = Level1Maker(find_process(name), EVENTS[name], pool_file, {}, reuse=1)
    new = maker.merge([maker.make(shard, 3) for shard in range(maker.n_shards)])
    older = np.load(OLDER / f"l1_{name}.npz")
    older_rows = older["x"][:: int(older["reuse"])][: 2 * EVENTS[name]]
    p_values = {}
    for word in WORDS:
        if word.name in COMPARED:
            p_values[word.name] = ks_2samp(new["x"][:, word.position], older_rows[:, word.position]).pvalue
    # ten words, three processes and pools of limited size: a changed detector gives values far below this
    assert min(p_values.values()) > 1e-4, p_values
    if name != "soft":
        relative = float(older["sigma_mb"]) / float(new["sigma_mb"]) - 1
        assert abs(relative) < 4 * float(new["sigma_error_mb"] / new["sigma_mb"]) * np.sqrt(1 + 400 / 2000)
