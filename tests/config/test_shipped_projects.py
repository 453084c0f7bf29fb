"""The projects in hls_projects/ are valid, and their networks can be built for their events."""

from pathlib import Path

import numpy as np
import pytest
import torch

from trigger_prune.config.load import load_project
from trigger_prune.data.load import load_sample
from trigger_prune.models.build import build_model
from trigger_prune.train.outputs import output_count

PROJECTS = sorted((Path(__file__).parents[2] / "hls_projects").glob("*/*.yaml"))


@pytest.mark.parametrize("file", PROJECTS, ids=lambda file: f"{file.parent.name}/{file.stem}")
def test_a_shipped_project_is_valid_and_its_network_takes_its_events(file: Path) -> None:
    folder = file.parent
    project = load_project(file, ["data.max_events=50"])
    sample = load_sample(project.config.data, folder)
    n_outputs = output_count(sample, project.config.task, project.config.teacher)
    network = build_model(project.config.model, sample.event_shape, n_outputs, folder).eval()
    with torch.no_grad():
        outputs = network(torch.from_numpy(sample.features)).numpy()
    assert outputs.shape == (50, n_outputs) and np.isfinite(outputs).all()
    # one folder may hold several networks for the same events
    name = folder.name if file.stem == "project" else f"{folder.name}_{file.stem}"
    assert project.config.project == name
    assert (folder / "README.md").read_text().startswith(f"# {folder.name}\n")


def test_the_reference_triggers_on_jets_are_there() -> None:
    assert {f"{file.parent.name}/{file.stem}" for file in PROJECTS} >= {
        "jet_tagger/project",
        "jet_constituents/project",
        "jet_constituents/conv1d",
    }
