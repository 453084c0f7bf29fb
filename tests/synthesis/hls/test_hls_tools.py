from pathlib import Path

import pytest

from trigger_prune.errors import ToolError
from trigger_prune.synthesis.hls.modules import find_module_files
from trigger_prune.synthesis.hls.search import find_installations, version_of
from trigger_prune.synthesis.hls.tools import (
    HlsInstallation,
    choose_installation,
    find_hls_tool,
    require_hls_tool,
    require_vivado,
    sort_installations,
    with_version,
)


def named(found: list[HlsInstallation]) -> list[tuple[str, str]]:
    return [(tool.kind, tool.version) for tool in found]


def fake(kind: str, version: str, *, on_path: bool = False) -> HlsInstallation:
    return HlsInstallation(kind, version, Path(f"/x/{version}/{kind}"), on_path=on_path)


def test_absence_says_what_to_do(stand_ins):
    assert find_hls_tool() is None
    with pytest.raises(ToolError, match="none of vitis-run, vitis_hls, vivado_hls is on PATH") as caught:
        require_hls_tool()
    assert "rtl" in caught.value.hint and "doctor" in caught.value.hint
    with pytest.raises(ToolError, match="Vivado is not installed"):
        require_vivado()


def test_both_layouts_of_folders_are_searched(stand_ins, tmp_path):
    root = tmp_path / "Xilinx"
    for folder, name in (
        ("Vivado/2019.2", "vivado_hls"),
        ("Vivado/2019.2", "vivado"),
        ("Vitis_HLS/2022.2", "vitis_hls"),
        ("Vitis/2024.1", "vitis-run"),
        ("2025.1/Vitis", "vitis-run"),
        ("2025.1/Vivado", "vivado"),
    ):
        stand_ins.install(name, root / folder / "bin")
    (root / "2025.1/Vitis/settings64.sh").write_text("")
    (root / "Vitis_HLS/2018.3").mkdir()  # an empty folder is no installation
    (root / "Vivado/2023.1/bin").mkdir(parents=True)
    (root / "Vivado/2023.1/bin/vivado").write_text("not executable")
    found = find_installations({"PATH": "/usr/bin"}, [root])
    assert named(found) == [
        ("vitis-run", "2025.1"),
        ("vivado", "2025.1"),
        ("vitis-run", "2024.1"),
        ("vitis_hls", "2022.2"),
        ("vivado_hls", "2019.2"),
        ("vivado", "2019.2"),
    ]
    assert found[0].settings == root / "2025.1/Vitis/settings64.sh"
    assert found[2].settings is None
    assert not any(tool.on_path for tool in found)


def test_roots_of_the_user_and_the_home_folder_are_searched(stand_ins, tmp_path):
    stand_ins.install("vitis_hls", tmp_path / "a" / "Vitis_HLS" / "2023.1" / "bin")
    stand_ins.install("vitis_hls", tmp_path / "home" / "Xilinx" / "Vitis_HLS" / "2023.2" / "bin")
    environment = {"PATH": "", "TRIGGER_PRUNE_XILINX": f"{tmp_path / 'absent'}:{tmp_path / 'a'}"}
    assert named(find_installations(environment, ["~/Xilinx"])) == [("vitis_hls", "2023.1")]
    environment["HOME"] = str(tmp_path / "home")
    assert named(find_installations(environment, ["~/Xilinx"])) == [("vitis_hls", "2023.2"), ("vitis_hls", "2023.1")]


@pytest.mark.parametrize("variable", ["XILINX_HLS", "XILINX_VITIS", "XILINX_VIVADO_HLS", "XILINX_VIVADO"])
def test_the_vendors_variables_are_followed(variable, stand_ins, tmp_path):
    home = tmp_path / "somewhere" / "2021.1"
    stand_ins.install("vitis_hls", home / "bin")
    assert named(find_installations({variable: str(home)}, [])) == [("vitis_hls", "2021.1")]


def test_a_link_on_path_and_its_installation_are_one(stand_ins, tmp_path, monkeypatch):
    launcher = stand_ins.install("vitis-run", tmp_path / "Xilinx" / "Vitis" / "2024.1" / "bin")
    (stand_ins.path_folder / "vitis-run").symlink_to(launcher)
    monkeypatch.setenv("TRIGGER_PRUNE_XILINX", str(tmp_path / "Xilinx"))
    found = find_installations()
    assert named(found) == [("vitis-run", "2024.1")]
    assert found[0].on_path and found[0].path == stand_ins.path_folder / "vitis-run"


TCL = """#%Module1.0
set     version  2020.1
set     root     {base}/Vivado/$version
setenv  XILINXD_LICENSE_FILE 2100@licence.example
prepend-path PATH ${{root}}/bin
"""
LUA = """help([[Vitis]])
local base = pathJoin("{base}", "Vitis", myModuleVersion())
prepend_path("PATH", pathJoin(base, "bin"))
setenv("LM_LICENSE_FILE", "1234@other.example")
"""


def test_environment_modules_and_lmod_are_read(stand_ins, tmp_path):
    base = tmp_path / "eda"
    stand_ins.install("vivado_hls", base / "Vivado" / "2020.1" / "bin")
    stand_ins.install("vitis-run", base / "Vitis" / "2024.2" / "bin")
    modules = tmp_path / "modules"
    (modules / "xilinx").mkdir(parents=True)
    (modules / "xilinx" / "vivado-2020.1").write_text(TCL.format(base=base))
    (modules / "vitis").mkdir()
    (modules / "vitis" / "2024.2.lua").write_text(LUA.format(base=base))
    (modules / "gcc").mkdir()
    (modules / "gcc" / "12").write_text(f"prepend-path PATH {base}/Vivado/2020.1/bin\n")
    found = find_installations({"PATH": "", "MODULEPATH": f"{tmp_path / 'absent'}:{modules}"}, [])
    assert named(found) == [("vitis-run", "2024.2"), ("vivado_hls", "2020.1")]
    assert [tool.module for tool in found] == ["vitis/2024.2", "xilinx/vivado-2020.1"]
    assert found[0].licences == (("LM_LICENSE_FILE", "1234@other.example"),)
    assert found[1].licences == (("XILINXD_LICENSE_FILE", "2100@licence.example"),)


def test_a_module_tree_that_cannot_be_read_is_no_error(tmp_path):
    (tmp_path / "vivado").mkdir()
    (tmp_path / "vivado" / "broken").write_bytes(b"\xff\xfe\x00 set x $x ${x}\n")
    (tmp_path / "vivado" / "link").symlink_to(tmp_path / "nowhere")
    assert [module.name for module in find_module_files(str(tmp_path))] == ["vivado/broken"]


def test_the_best_tool_is_on_path_then_newest_then_the_one_hls4ml_uses():
    found = [
        fake("vivado_hls", "2019.2"),
        fake("vitis_hls", "2023.2"),
        fake("vitis-run", "2023.2"),
        fake("vitis_hls", "2024.1"),
        fake("vitis-run", "2024.1"),
        fake("vivado", "2025.1"),
    ]
    assert named(sort_installations(found)) == [
        ("vivado", "2025.1"),
        ("vitis-run", "2024.1"),
        ("vitis_hls", "2024.1"),
        ("vitis_hls", "2023.2"),
        ("vitis-run", "2023.2"),
        ("vivado_hls", "2019.2"),
    ]
    assert named([choose_installation(found)]) == [("vitis-run", "2024.1")]
    assert named([choose_installation([*found, fake("vivado_hls", "2018.3", on_path=True)])]) == [
        ("vivado_hls", "2018.3")
    ]
    assert named([choose_installation(found, version="2023.2")]) == [("vitis_hls", "2023.2")]
    assert named([choose_installation(found, version="2019")]) == [("vivado_hls", "2019.2")]
    assert named([choose_installation(found, backend="Vivado")]) == [("vivado_hls", "2019.2")]


def test_a_version_that_is_not_there_lists_those_that_are():
    with pytest.raises(ToolError, match=r"no Vitis HLS version 2021\.1 is installed") as caught:
        choose_installation([fake("vitis_hls", "2022.2"), fake("vivado", "2021.1")], version="2021.1", backend="Vitis")
    assert "vitis_hls 2022.2 (/x/2022.2/vitis_hls)" in caught.value.hint
    # 2022.2 does not stand for 2022.20 or 12022.2.
    with pytest.raises(ToolError):
        choose_installation([fake("vitis_hls", "2022.2")], version="2022.")


@pytest.mark.parametrize(
    ("path", "version"),
    [
        ("/opt/Xilinx/Vitis_HLS/2022.2/bin/vitis_hls", "2022.2"),
        ("/tools/2025.1.1/Vitis/bin/vitis-run", "2025.1.1"),
        ("/opt/tools-2022.2-old/bin/vitis_hls", ""),
        ("/usr/bin/vitis_hls", ""),
    ],
)
def test_the_version_is_that_of_a_folder(path, version):
    assert version_of(Path(path)) == version


@pytest.mark.parametrize("name", ["vitis-run", "vitis_hls", "vivado_hls"])
def test_a_tool_whose_folder_says_nothing_is_asked(name, stand_ins, monkeypatch):
    stand_ins.install(name)
    monkeypatch.setenv("STAND_IN_VERSION", "2021.1.1")
    tool = require_hls_tool()
    assert tool.version == ""
    assert with_version(tool).version == "2021.1.1"


def test_a_tool_that_does_not_answer_keeps_an_unknown_version(tmp_path):
    silent = tmp_path / "vitis_hls"
    silent.write_text("#!/bin/sh\nsleep 30\n")
    silent.chmod(0o755)
    assert with_version(HlsInstallation("vitis_hls", "", silent), timeout_s=0.2).version == ""
    assert with_version(HlsInstallation("vitis_hls", "", tmp_path / "absent")).version == ""
