"""The two-stage page says what the findings say, in tables and in plots, and fits into the report."""

import itertools
import json
import math
import re
from dataclasses import replace
from html import unescape
from xml.etree import ElementTree

import numpy as np
import pytest
from test_report_page import Page, table_rows
from two_stage_findings import findings

from trigger_prune.report.page import render_report
from trigger_prune.report.summary import build_summary
from trigger_prune.report.two_stage import (
    MEANINGS,
    RESOURCES,
    VERDICTS,
    front_rows,
    latency_lines,
    problem_counts,
    small,
    total,
    within_loss,
)
from trigger_prune.report.two_stage_front import front_line
from trigger_prune.report.two_stage_page import (
    insert_section,
    remove_section,
    render_two_stage_page,
    two_stage_section,
    write_two_stage_page,
)
from trigger_prune.report.two_stage_plots import ZOOM_SLOTS, zoom_range
from trigger_prune.two_stage.figures import findings_to_dict
from trigger_prune.two_stage.findings import BudgetPoint, Recommendation
from trigger_prune.two_stage.latency import FixedLatency, latency_distribution
from trigger_prune.units import BUNCH_CROSSING_NS

VARIANTS = ({}, {"rates": False}, {"budget_ns": 60.0}, {"strategy": "distributed_arithmetic"})


@pytest.fixture(scope="module")
def found():
    result = findings()
    assert result.best is not None and result.recommendation.verdict == "two_stage"
    return result


@pytest.fixture(scope="module")
def html(found):
    return render_two_stage_page(found, "my trigger")


def number_in(text):
    """``3.4 × 10⁻⁷``, ``1 234``, ``12.3 %`` as a number and half of its last digit."""
    text = unescape(text).replace("\u2212", "-").replace("\u202f", "").rstrip("%").strip()
    mantissa, _, power = text.partition(" × 10")  # noqa: RUF001
    exponent = int(power.translate(str.maketrans("⁻⁰¹²³⁴⁵⁶⁷⁸⁹", "-0123456789")) or 0)
    value, _, shift = mantissa.partition("e")
    exponent += int(shift or 0)
    return float(value) * 10.0**exponent, 0.5 * 10.0 ** (exponent - len(value.partition(".")[2]))


@pytest.mark.parametrize("variant", VARIANTS)
def test_every_tagged_number_is_the_finding(variant):
    result = findings(**variant)
    raw = findings_to_dict(result)
    page = two_stage_section(result)
    tagged = re.findall(r'data-path="([^"]*)" data-scale="([^"]*)">([^<]*)<', page)
    assert len(tagged) > (100 if result.best else 20)
    for path, scale, text in tagged:
        value = raw
        for key in json.loads(unescape(path)):
            value = value[key]
        if value is None:
            assert text == "–"  # noqa: RUF001
            continue
        shown, half = number_in(text)
        # three or four significant digits are shown of plain numbers
        half = max(half, 5.01e-4 * abs(value * float(scale))) if "." in text else half
        assert abs(shown - float(scale) * value) <= half * 1.0001, (path, text)


def test_rows_of_the_comparison(found, html):
    """Kinds in order; efficiency, rate in kHz, loss; the sums of two stages include FIFO and control."""
    rows = table_rows(html, "slots filled)</h3>")
    assert len(rows) == len(found.rows) + 1
    names = ["full alone", "pruned alone", "light alone", "light alone", "cuts", "two stages"]
    for row, cells, name in zip(found.rows, rows[1:], names, strict=True):
        assert cells[0].startswith(f"{name}: {row.name}")
        assert float(cells[1].split("±")[0]) == pytest.approx(100 * row.efficiency.value, abs=0.06)
        assert float(cells[2].split("±")[0]) == pytest.approx(row.rate.rate_hz / 1e3, abs=0.06)
        if row.loss is not None:
            assert float(cells[3].split("±")[0]) == pytest.approx(100 * row.loss.relative_loss.value, abs=0.06)
        if row.latency is not None:
            assert cells[-1].startswith(f"{row.latency.total_cycles} cycles")
            assert f"{row.latency.output_bx} BX" in cells[-1]
    two = found.rows[-1]
    assert two.buffer.lut > 500 and two.cost.lut > 5000
    for cell, resource in zip(rows[-1][-5:-1], RESOURCES, strict=True):
        amount = getattr(two.cost, resource) + getattr(two.buffer, resource)
        assert number_in(cell)[0] == amount == total(two, resource)
    few = [row for row in found.rows if row.rate.warning]
    assert few and all(row.rate.warning in unescape(html) for row in few)


def test_the_table_of_latency_budgets(found):
    """Only where several were asked for; numbers of the lines and sums with FIFO and control."""
    assert "Latency budgets" not in two_stage_section(found)
    nothing = Recommendation("none", ("Nothing meets the requirements +- 3.",), None)
    budgets = (
        BudgetPoint(60.0, None, None, nothing),
        BudgetPoint(1000.0, found.best.point, found.rows[-1], found.recommendation),
    )
    page = two_stage_section(replace(found, budgets=budgets))
    _, none, best = table_rows(page, "Latency budgets</h3>")
    assert none[0] == "60" and none[1] == "none is a solution" and none[-1] == VERDICTS["none"]
    assert best[0] == "1000" and best[-1] == VERDICTS["two_stage"] and best[1].startswith(found.rows[-1].name)
    loss = found.rows[-1].loss
    assert float(best[2].split("±")[0]) == pytest.approx(100 * loss.relative_loss.value, abs=0.06)
    for cell, resource in zip(best[4:8], RESOURCES, strict=True):
        assert number_in(cell)[0] == total(found.rows[-1], resource)
    assert f"{found.best.point.latency.output_bx} BX" in best[8]
    assert "Nothing meets the requirements ± 3." in page and "Recommendation at 60" in page
    for path, scale, text in re.findall(r'data-path="([^"]*)" data-scale="([^"]*)">([^<]*)<', page):
        value = findings_to_dict(replace(found, budgets=budgets)) if "budgets" in path else None
        for key in json.loads(unescape(path)) if value else ():
            value = value[key]
        if value:
            shown, half = number_in(text)
            assert abs(shown - float(scale) * value) <= max(half, 5e-4 * abs(value)) * 1.01, path


def test_stages_are_named_where_they_are_mixed(found):
    singles = (replace(found.singles[0], full_stage="csynth"), *found.singles[1:])
    assert {single.full_stage for single in found.singles} == {"analytic"}
    assert '<span class="range">analytic</span>' not in two_stage_section(found)
    page = two_stage_section(replace(found, singles=singles))
    rows = table_rows(page, "The full model alone, at every reuse factor</summary>")
    stated = [row[0].split()[-1] for row in rows[1:]]
    assert stated == ["csynth", *["analytic"] * (len(stated) - 1)]


def test_parts_name_their_stage_and_add_up(found, html):
    rows = table_rows(html, "Resources of the chosen design</h3>")
    parts = found.best.parts
    assert [row[0] for row in rows[1:-1]] == [part.name for part in parts]
    assert rows[1][-1].startswith("analytic, predicts csynth") and rows[3][-1].startswith("analytic: ")
    for column, resource in enumerate(RESOURCES, start=1):
        values = [number_in(row[column])[0] for row in rows[1:]]
        assert values[-1] == sum(values[:-1]) == sum(getattr(part.cost, resource) for part in parts)
    together = total(found.rows[-1], found.resource)
    assert together == found.best.point.resource_used


def test_breakdown_of_the_latency(found, html):
    latency = found.best.point.latency
    rows = table_rows(html, "Latency of the chosen design</h3>")
    cycles = [number_in(row[1])[0] for row in rows[1:]]
    whole = latency.output_bx * latency.clock_multiple
    parts = [latency.light_cycles, latency.control_cycles, latency.wait_cycles, latency.full_cycles]
    assert cycles == [*parts, whole - sum(parts), whole]
    for row in rows[1:]:
        crossings = number_in(row[1])[0] / latency.clock_multiple
        assert float(row[2]) == pytest.approx(crossings, abs=0.0051)
        assert float(row[3]) == pytest.approx(crossings * BUNCH_CROSSING_NS, abs=0.051)
    assert float(rows[-1][3]) == pytest.approx(latency.output_bx * BUNCH_CROSSING_NS, abs=0.06)
    left = found.latency_budget_ns - latency.output_bx * BUNCH_CROSSING_NS
    assert rows[-1][4] == f"{left:.1f} ns left"
    # bars follow each other without a gap and end at the output
    lines = latency_lines(FixedLatency(9, 18, 27, 3, 9), 1000.0, BUNCH_CROSSING_NS / 9)
    for before, after in itertools.pairwise(lines):
        assert after.offset == pytest.approx(before.offset + before.share)
    assert lines[-1].offset + lines[-1].share == pytest.approx(7 * BUNCH_CROSSING_NS / 1000)


def test_thresholds_and_their_integers(found, html):
    rows = table_rows(html, "Thresholds</h3>")
    best = found.best
    assert [row[0] for row in rows[1:]] == list(MEANINGS)
    for row in rows[1:]:
        value = getattr(best.thresholds, row[0])
        if math.isinf(value):
            assert row[1] == "nothing passes" and best.integer_thresholds[row[0]] is None
        else:
            assert number_in(row[1])[0] == pytest.approx(value, rel=1e-3)
            assert number_in(row[2])[0] == best.integer_thresholds[row[0]] == round(value * 64)
    assert "nothing passes" not in table_rows(html, "Thresholds</h3>")[1]


@pytest.mark.parametrize("variant", VARIANTS)
def test_the_advice_stands_there_in_full(variant):
    result = findings(**variant)
    page = Page(render_two_stage_page(result, "my trigger"))
    advice = result.recommendation
    assert VERDICTS[advice.verdict] in page.text
    for sentence in (*advice.sentences, *result.warnings):
        assert " ".join(sentence.replace("+-", "±").split()) in page.text
    assert ("Resources of the chosen design" in page.text) == (result.best is not None)
    assert ("No design of the search is a solution" in page.text) == (not result.best and bool(result.designs))
    assert page.tags.count(("section", {"id": "two-stage"})) == 1


@pytest.mark.parametrize("variant", VARIANTS)
def test_the_page_asks_for_nothing_and_its_ids_are_its_own(variant):
    html = render_two_stage_page(findings(**variant), "my trigger")
    page = Page(html)
    assert not [tag for tag, _ in page.tags if tag in ("script", "iframe", "img")]
    assert page.attributes("href") == [x for x in page.attributes("href") if x.startswith(("#", "data:"))]
    assert not page.attributes("src") and "url(http" not in html
    ids = page.attributes("id")
    assert len(ids) == len(set(ids))
    for svg in re.findall(r"<svg.*?</svg>", html, flags=re.DOTALL):
        ElementTree.fromstring(svg.replace("xlink:href", "href"))


def test_names_of_users_are_text(found):
    rows = (replace(found.rows[0], name="<b>bold</b>"), *found.rows[1:])
    curves = (replace(found.loss_curves[0], light_name="_$a$ <i>"), *found.loss_curves[1:])
    html = two_stage_section(replace(found, rows=rows, loss_curves=curves))
    assert "<b>bold" not in html and "&lt;b&gt;bold" in html
    assert "_$a$ &lt;i&gt;" in html


def figure(html, heading):
    start = html.index(f"<h3>{heading}</h3>")
    return re.search(r"<svg.*?</svg>", html[start:], flags=re.DOTALL).group()


def lines_of(svg, colour):
    """Points of every path in this colour, pixels."""
    paths = [path for path in re.findall(r"<path [^>]*>", svg) if f"stroke: var(--{colour})" in path]
    coordinates = [re.search(r' d="([^"]*)"', path).group(1) for path in paths]
    return [np.array([float(x) for x in re.findall(r"-?[\d.]+", text)]).reshape(-1, 2) for text in coordinates]


def is_affine(first, second, tolerance):
    slope, offset = np.polyfit(first, second, 1)
    return bool(np.abs(np.asarray(second) - slope * np.asarray(first) - offset).max() < tolerance)


def test_the_plot_of_depths_is_the_table_of_depths(found, html):
    """On a log axis, with the allowed loss where it belongs."""
    svg = figure(html, "Overflow and FIFO depth")
    depths, losses = zip(*found.best.overflow_by_depth, strict=True)
    (curve,) = [line for line in lines_of(svg, "after") if len(line) == len(depths)]
    assert is_affine(depths, curve[:, 0], 0.02)
    assert is_affine(np.log10(losses), curve[:, 1], 0.02) and curve[0, 1] < curve[-1, 1]
    (limit,) = [line for line in lines_of(svg, "bad") if len(line) == 2]
    assert is_affine([*np.log10(losses), math.log10(found.max_overflow)], [*curve[:, 1], limit[0, 1]], 0.02)


def test_the_plot_of_latency_has_every_wait_and_the_budget(found, html):
    svg = figure(html, "Latency")
    latency, queue = found.best.point.latency, found.best.working_point.queue
    cycles, probability = latency_distribution(queue, latency)
    period = BUNCH_CROSSING_NS / latency.clock_multiple
    expected = cycles[probability > 0] * period
    sticks = [line[0] for line in lines_of(svg, "after") if len(line) == 2 and line[0, 0] == line[1, 0]]
    assert len(sticks) == len(expected)
    long = {
        name: max((line for line in lines_of(svg, name) if len(line) == 2), key=lambda line: abs(np.diff(line[:, 1])))
        for name in ("before", "ink", "bad")
    }
    alone = (latency.light_cycles + latency.control_cycles) * period
    at = [*expected, alone, latency.output_ns, found.latency_budget_ns]
    assert is_affine(at, [*sorted(x for x, _ in sticks), *(line[0, 0] for line in long.values())], 0.05)


def test_the_orbit_is_drawn_slot_by_slot(found, html):
    """Heights over all slots, read back from the picture, against the queue's."""
    svg = figure(html, "Along the orbit")
    waiting = found.best.working_point.queue.mean_waiting
    line = max(lines_of(svg, "after"), key=len)
    # the long outline of the whole orbit: x of its corners are slots, the lowest y is the fullest slot
    left, right, bottom, top = line[:, 0].min(), line[:, 0].max(), line[:, 1].max(), line[:, 1].min()
    slots = (line[:, 0] - left) / (right - left) * len(waiting)
    heights = (bottom - line[:, 1]) / (bottom - top) * waiting.max()
    middles = np.arange(len(waiting)) + 0.5
    at = np.searchsorted(slots, middles, side="right") - 1
    assert np.abs(heights[at] - waiting).max() < 0.01 * waiting.max()


@pytest.mark.parametrize("variant", VARIANTS[:2])
def test_what_is_shown_of_the_search(variant):
    """Rows by comparing all pairs of the front; counts of problems; designs that lose too much."""
    result = findings(**variant)
    shown, others = front_rows(result)
    assert sorted((*shown, *others)) == sorted(result.front)
    chosen = result.best.point
    for index in shown:
        mine = result.designs[index]
        better = [
            d
            for d in (result.designs[i] for i in result.front)
            if d.resource_used <= mine.resource_used and d.efficiency > mine.efficiency
        ]
        assert not better or mine == chosen
    assert chosen in [result.designs[i] for i in shown]
    counts = dict(problem_counts(result))
    assert counts["too slow"] == sum(any("ns, allowed" in text for text in d.problems) for d in result.designs)
    fine = within_loss(result)
    assert any(fine) and not all(fine)
    losses = {c.light_name: dict(zip(c.escalated, c.relative_loss, strict=True)) for c in result.loss_curves}
    for design, good in zip(result.designs, fine, strict=True):
        assert good == (losses[design.light_name][design.escalated_wanted] <= 0.03)
    corners = front_line([d for d, good in zip(result.designs, fine, strict=True) if good and not d.problems])
    assert corners == sorted(corners) and [used for _, used in corners] == sorted({u for _, u in corners}, reverse=True)


def test_the_magnified_part_holds_the_fullest_slot():
    generator = np.random.default_rng(0)
    for _ in range(50):
        filled = np.repeat(generator.random(60) < 0.7, 60)
        waiting = generator.random(3600) * filled
        start, stop = zoom_range(waiting, filled)
        assert 0 <= start <= int(np.argmax(waiting)) < stop <= 3600 and stop - start == ZOOM_SLOTS
    assert zoom_range(np.ones(100), np.ones(100, bool)) == (0, 100)


def test_small_numbers():
    assert [small(x) for x in (0.0, 0.0342, 1e-3, 3.44e-7, None)] == ["0", "0.0342", "0.001", "3.4 × 10⁻⁷", "–"]  # noqa: RUF001


def test_the_section_joins_the_report_once(found, make_inputs):
    inputs = make_inputs(300)
    report = render_report(inputs, build_summary(inputs))
    section = two_stage_section(found)
    once = insert_section(report, section)
    assert insert_section(once, section) == once
    assert once.count('<section id="two-stage">') == once.count('href="#two-stage"') == 1
    assert once.index('id="two-stage"') < once.index('<section id="input">')
    ids = Page(once).attributes("id")
    assert len(ids) == len(set(ids))
    link = '<a href="#two-stage">Two stages</a> '
    assert once.replace(section + "\n", "").replace(link, "") == report
    changed = two_stage_section(replace(found, beam="another beam"))
    assert insert_section(once, changed) == insert_section(report, changed)
    assert insert_section("<p>foreign</p>", section) == "<p>foreign</p>"
    assert remove_section(once) == report == remove_section(report)


def test_the_file_is_the_page(found, html, tmp_path):
    write_two_stage_page(found, tmp_path / "two_stage" / "two_stage.html", "my trigger")
    text = (tmp_path / "two_stage" / "two_stage.html").read_text(encoding="utf-8")
    assert text == html
    assert len(text) < 600_000
