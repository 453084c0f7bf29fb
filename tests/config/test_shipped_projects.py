"""The projects in hls_projects/ are valid, and their networks can be built for their events."""

from pathlib import Path

import numpy as np
import pytest
import torch

from trigger_prune.config.load import load_project
from trigger_prune.data.load import load_sample
from trigger_prune.models.build import build_model

PROJECTS = sorted(path.parent for path in (Path(__file__).parents[2] / "hls_projects").glob("*/project.yaml"))


@pytest.mark.parametrize("folder", PROJECTS, ids=lambda folder: folder.name)
def test_a_shipped_project_is_valid_and_its_network_takes_its_events(folder: Path) -> None:
    project = load_project(folder, ["data.max_events=50"])
    sample = load_sample(project.config.data, folder)
    network = build_model(project.config.model, sample.event_shape, sample.n_classes, folder).eval()
    with torch.no_grad():
        outputs = network(torch.from_numpy(sample.features)).numpy()
    assert outputs.shape == (50, sample.n_classes) and np.isfinite(outputs).all()
    assert project.config.project == folder.name
    assert (folder / "README.md").read_text().startswith(f"# {folder.name}\n")


def test_both_reference_triggers_are_there() -> None:
    assert {folder.name for folder in PROJECTS} >= {"jet_tagger", "jet_deep_sets"}
