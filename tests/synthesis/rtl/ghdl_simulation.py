"""Simulates a VHDL project clock by clock with GHDL."""

from __future__ import annotations

import subprocess
from pathlib import Path

import numpy as np

from trigger_prune.synthesis.rtl.verilog import RtlProject

_TESTBENCH = """library ieee;
use ieee.std_logic_1164.all;
use std.textio.all;
use ieee.std_logic_textio.all;

entity bench is end entity;

architecture test of bench is
    {clock_signal}
    signal model_inp: std_logic_vector({n_in} downto 0);
    signal model_out: std_logic_vector({n_out} downto 0);
begin
    dut: entity work.{top} port map({clock_port} model_inp => model_inp, model_out => model_out);
    process
        file events: text open read_mode is "events.txt";
        file results: text open write_mode is "results.txt";
        variable row: line;
        variable bits: std_logic_vector({n_in} downto 0);
    begin
        while not endfile(events) loop
            readline(events, row);
            read(row, bits);
            model_inp <= bits;
            {tick}
            write(row, model_out);
            writeline(results, row);
        end loop;
        wait;
    end process;
end architecture;
"""

_TICK = "clk <= '0'; wait for 1 ns; clk <= '1'; wait for 1 ns;"


def simulate_vhdl(project: RtlProject, words: list[int], folder: Path) -> list[str]:
    """Output port, as bits, after the rising edge that follows each input word (combinational: after the word)."""
    n_in, n_out = (sum(kind.width for kind in port) for port in (project.inputs, project.outputs))
    clocked = project.register_ranks > 0
    (folder / "bench.vhd").write_text(
        _TESTBENCH.format(
            n_in=n_in - 1,
            n_out=n_out - 1,
            top=project.top,
            clock_signal="signal clk: std_logic := '0';" if clocked else "",
            clock_port="clk => clk," if clocked else "",
            tick=_TICK if clocked else "wait for 1 ns;",
        )
    )
    (folder / "events.txt").write_text("".join(f"{word:0{n_in}b}\n" for word in words))
    for command in (["-a", "--std=08", *map(str, project.sources), "bench.vhd"], ["--elab-run", "--std=08", "bench"]):
        done = subprocess.run(["ghdl", *command], cwd=folder, capture_output=True, text=True, timeout=120)
        assert done.returncode == 0, done.stderr + done.stdout
    return (folder / "results.txt").read_text().split()


def word_of(event: np.ndarray, project: RtlProject) -> int:
    """The input port's bits of one event, put together digit by digit."""
    bits = ""
    for value, kind in zip(event, project.inputs, strict=True):
        if kind.width:
            bits = f"{int(value * 2**kind.fraction) % 2**kind.width:0{kind.width}b}" + bits
    return int(bits, 2)


def values_of(bits: str, project: RtlProject) -> list[float]:
    """The outputs that the output port's bits stand for; a value without bits is 0."""
    values = []
    end = len(bits)
    for kind in project.outputs:
        code = int(bits[end - kind.width : end] or "0", 2)
        if kind.signed and kind.width and bits[end - kind.width] == "1":
            code -= 2**kind.width
        values.append(code / 2**kind.fraction)
        end -= kind.width
    return values
