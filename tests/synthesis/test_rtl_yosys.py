import tempfile
from pathlib import Path

import pytest
from rtl_networks import fill, networks

from trigger_prune.errors import ReportFormatError, ToolError
from trigger_prune.fixed_point import FixedPoint
from trigger_prune.synthesis.rtl.trace import trace_network
from trigger_prune.synthesis.rtl.verilog import write_verilog
from trigger_prune.synthesis.rtl.yosys import CellCounts, count, synthesize
from trigger_prune.target import Target


def mapped(verilog: str, folder: Path) -> CellCounts:
    source = folder / "top.v"
    source.write_text(verilog)
    return synthesize([source], "top", timeout_s=120)


def numbers(cells: CellCounts) -> tuple[int, int, int, int]:
    return cells.lut, cells.ff, cells.dsp, cells.bram18


def test_gates_registers_and_adders_cost_what_the_device_needs(tmp_path):
    gates = mapped("module top(input [7:0] a, b, output [7:0] y); assign y = a & b; endmodule", tmp_path)
    assert numbers(gates) == (8, 0, 0, 0)  # one LUT2 a bit, no clock
    register = "module top(input clk, input [12:0] a, output reg [12:0] y); always @(posedge clk) y <= a; endmodule"
    assert numbers(mapped(register, tmp_path)) == (0, 13, 0, 0)
    wide = mapped("module top(input [5:0] a, output y); assign y = ^a; endmodule", tmp_path)
    assert numbers(wide) == (1, 0, 0, 0)  # any function of six bits is one LUT6
    adder = mapped("module top(input [15:0] a, b, output [15:0] y); assign y = a + b; endmodule", tmp_path)
    assert numbers(adder) == (16, 0, 0, 0)  # one LUT a bit in front of four CARRY4
    assert adder.carry4 == 4
    wires = mapped("module top(input [3:0] a, output [5:0] y); assign y = {a, 2'b10}; endmodule", tmp_path)
    assert numbers(wires) == (0, 0, 0, 0)


def test_lut_and_register_types_add_up(tmp_path):
    text = """module top(input clk, input r, input [5:0] a, b, output reg [3:0] y);
        always @(posedge clk) begin
            y[0] <= ^a; y[1] <= r ? 0 : a[1] & b[1]; y[2] <= a[2] ^ b[2] ^ a[3]; if (r) y[3] <= b[4]; end endmodule"""
    cells = mapped(text, tmp_path)
    assert sum(cells.lut_by_type.values()) == cells.lut
    assert sum(cells.ff_by_type.values()) == cells.ff == 4
    assert cells.lut_by_type["LUT6"] == 1
    assert cells.lut_by_type["LUT3"] == 1 + (cells.lut_by_type.get("LUT2", 0) == 0)
    inverted = mapped("module top(input [1:0] a, output [1:0] y); assign y = ~a; endmodule", tmp_path)
    assert inverted.lut == sum(inverted.lut_by_type.values()) == 2


def test_logic_depth_counts_the_cells_between_registers(tmp_path):
    one = "module top(input [5:0] a, output y); assign y = ^a; endmodule"
    two = "module top(input [11:0] a, output y); assign y = &a[5:0] ^ |a[11:6]; endmodule"
    cut = """module top(input clk, input [35:0] a, output reg y); reg [5:0] m; integer i;
        always @(posedge clk) begin for (i = 0; i < 6; i = i + 1) m[i] <= ^a[6*i +: 6]; y <= ^m; end endmodule"""
    wires = "module top(input clk, input a, output reg y); always @(posedge clk) y <= a; endmodule"
    assert [mapped(text, tmp_path).logic_depth for text in (one, two, cut, wires)] == [1, 2, 1, 0]


def test_time_and_memory_of_yosys_are_stated(tmp_path):
    small = mapped("module top(input a, output y); assign y = ~a; endmodule", tmp_path)
    lines = [f"wire [31:0] w{i} = w{i - 1} + (w{i - 1} >> {i % 7});" for i in range(1, 60)]
    text = "module top(input [31:0] a, output [31:0] y); wire [31:0] w0 = a;\n" + "\n".join(lines)
    large = mapped(text + "\nassign y = w59; endmodule\n", tmp_path)
    assert 0 < small.cpu_seconds < large.cpu_seconds
    assert 10 < small.peak_mib < large.peak_mib < 1000


def test_files_of_the_same_name_are_refused(tmp_path):
    (tmp_path / "other").mkdir()
    with pytest.raises(ToolError, match="two source files have the same name"):
        synthesize([write_wires(tmp_path), write_wires(tmp_path / "other")], "top")


def test_a_multiplier_takes_a_dsp(tmp_path):
    product = """module top(input clk, input signed [15:0] a, b, output reg signed [31:0] y);
        always @(posedge clk) y <= a * b; endmodule"""
    cells = mapped(product, tmp_path)
    assert cells.dsp == 1
    assert cells.lut < 5
    assert cells.script == "general"


def test_block_ram_is_counted_in_halves(tmp_path):
    memory = """module top(input clk, we, input [{a}:0] address, input [{w}:0] d, output reg [{w}:0] q);
        reg [{w}:0] m [0:(1<<({a}+1))-1];
        always @(posedge clk) begin if (we) m[address] <= d; q <= m[address]; end endmodule"""
    assert mapped(memory.format(a=9, w=17), tmp_path).bram18 == 1  # 1024 x 18
    assert mapped(memory.format(a=9, w=35), tmp_path).bram18 == 2  # 1024 x 36


@pytest.mark.parametrize("name", ["conv1d", "residual", "one_bit"])
def test_the_short_script_counts_what_the_stock_script_counts(name, tmp_path):
    network, shape = networks()[name]
    comb = trace_network(fill(network, sparsity=0.5), FixedPoint(8, 3), shape)
    project = write_verilog(comb, tmp_path, adders_per_stage=5, target=Target())
    short = synthesize(project.sources, project.top)
    stock = synthesize(project.sources, project.top, script="stock")
    assert short.script == "adders"
    assert short.lut == pytest.approx(stock.lut, rel=0.01)
    assert short.ff == pytest.approx(stock.ff, rel=0.01)
    assert short.carry4 == stock.carry4


def test_yosys_own_message_is_quoted(tmp_path):
    with pytest.raises(ToolError, match="ERROR") as caught:
        mapped("module top(input a, output y); assign y = a +; endmodule", tmp_path)
    assert "syntax error" in caught.value.message
    assert "top.v:1" in caught.value.message
    with pytest.raises(ToolError, match="nowhere"):
        mapped("module top(input a, output y); nowhere n(a, y); endmodule", tmp_path)


def large_design(folder: Path) -> Path:
    source = folder / "top.v"
    lines = [f"wire [31:0] w{i} = (w{i - 1} * {i}'d{i + 3}) ^ (w{i - 1} >> {i % 7});" for i in range(1, 400)]
    source.write_text(
        "module top(input [31:0] a, output [31:0] y); wire [31:0] w0 = a;\n"
        + "\n".join(lines)
        + "\nassign y = w399; endmodule\n"
    )
    return source


def test_limits_stop_it_and_leave_nothing(tmp_path, monkeypatch):
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(scratch))
    source = large_design(tmp_path)
    with pytest.raises(ToolError, match=r"Yosys on module 'top' was stopped after .* limit is 1 s") as caught:
        synthesize([source], "top", timeout_s=1)
    assert "timeout_s" in caught.value.hint
    with pytest.raises(ToolError, match="MiB of at most 40 MiB") as caught:
        synthesize([source], "top", memory_limit_mib=40)
    assert "memory_limit_mib" in caught.value.hint
    synthesize([write_wires(tmp_path)], "top")
    assert list(scratch.iterdir()) == []


def write_wires(folder: Path) -> Path:
    source = folder / "wires.v"
    source.write_text("module top(input a, output y); assign y = ~a; endmodule")
    return source


def test_a_missing_pyosys_names_the_extra(monkeypatch, tmp_path):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(ToolError, match="pyosys") as caught:
        synthesize([write_wires(tmp_path)], "top")
    assert "trigger_prune[rtl]" in caught.value.hint


def test_cells_are_grouped_and_unmapped_ones_refused():
    cells = {
        "LUT2": 3,
        "LUT6": 4,
        "INV": 2,
        "LUT6_2": 9,
        "FDRE": 5,
        "FDSE": 1,
        "DSP48E2": 2,
        "RAMB36E2": 3,
        "RAMB18E2": 1,
    }
    counts = count(cells, yosys_version="Yosys 0.70 (git sha1 28ba)", script="general", seconds=1.0)
    assert (counts.lut, counts.ff, counts.dsp, counts.bram18) == (9, 6, 2, 7)
    assert counts.yosys_version == "0.70"
    with pytest.raises(ReportFormatError, match=r"\$mul"):
        count({"$mul": 1}, yosys_version="", script="adders", seconds=0.0)
