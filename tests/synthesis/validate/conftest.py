from __future__ import annotations

import pytest

from trigger_prune.synthesis.validate.designs import DESIGNS

PART = "xcku115-flvb2104-2-i"
SOME = ("dense_4b_50", "dense_10b_80_softmax", "resource_6b_50_rf16")


@pytest.fixture(scope="session")
def some_designs():
    return tuple(design for design in DESIGNS if design.name in SOME)


@pytest.fixture(scope="session")
def written(tmp_path_factory, some_designs):
    """A folder with three projects; copied by the tests that change it."""
    from trigger_prune.synthesis.validate.build import write_validation_folder

    folder = tmp_path_factory.mktemp("written") / "validation"
    return write_validation_folder(folder, "Vitis", PART, 4.0, designs=some_designs, say=lambda text: None)
