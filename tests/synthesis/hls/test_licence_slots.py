import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from trigger_prune.errors import ToolError
from trigger_prune.synthesis.hls.licences import licence_folder, licence_slot

HOLD = """import sys, time
from pathlib import Path
from trigger_prune.synthesis.hls.licences import licence_slot
with licence_slot(1, folder=Path(sys.argv[1])):
    print("held", flush=True)
    time.sleep(60)
"""


def test_never_more_at_once_than_there_are_licences(tmp_path):
    lock, running, most = threading.Lock(), 0, 0

    def job(_: int) -> int | None:
        nonlocal running, most
        with licence_slot(2, folder=tmp_path, poll_s=0.01) as slot:
            with lock:
                running += 1
                most = max(most, running)
            time.sleep(0.03)
            with lock:
                running -= 1
        return slot

    with ThreadPoolExecutor(6) as pool:
        assert set(pool.map(job, range(12))) == {0, 1}
    assert most == 2


def test_a_killed_process_gives_its_licence_back(tmp_path):
    holder = subprocess.Popen([sys.executable, "-c", HOLD, str(tmp_path)], stdout=subprocess.PIPE, text=True)
    assert holder.stdout is not None and holder.stdout.readline() == "held\n"
    said: list[str] = []
    with (
        pytest.raises(ToolError, match=r"all 1 licence slots in .* stayed in use"),
        licence_slot(1, folder=tmp_path, say=said.append, timeout_s=0.2, poll_s=0.05),
    ):
        pass
    assert len(said) == 1 and "waiting" in said[0]
    with licence_slot(2, folder=tmp_path, timeout_s=0) as slot:
        assert slot == 1
    holder.kill()
    holder.wait()
    with licence_slot(1, folder=tmp_path, timeout_s=10, poll_s=0.05) as slot:
        assert slot == 0


def test_a_tool_does_not_inherit_the_licence_of_its_parent(tmp_path):
    with licence_slot(1, folder=tmp_path):
        child = subprocess.Popen(["sleep", "60"], close_fds=False)
    try:
        with licence_slot(1, folder=tmp_path, timeout_s=0) as slot:
            assert slot == 0
    finally:
        child.kill()
        child.wait()


def test_no_limit_needs_no_folder_and_nonsense_is_refused(tmp_path, monkeypatch):
    with licence_slot(None, folder=tmp_path / "absent") as slot:
        assert slot is None
    assert not (tmp_path / "absent").exists()
    with pytest.raises(ToolError, match="0 licences"), licence_slot(0, folder=tmp_path):
        pass
    blocked = tmp_path / "file"
    blocked.write_text("")
    with pytest.raises(ToolError, match="cannot be written") as caught, licence_slot(1, folder=blocked):
        pass
    assert "TRIGGER_PRUNE_LICENCES" in caught.value.hint
    monkeypatch.setenv("TRIGGER_PRUNE_LICENCES", "/shared/locks")
    assert licence_folder() == Path("/shared/locks")
