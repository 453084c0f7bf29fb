"""The trigger section: every figure is the summary's, every warning stands where few events do and nowhere else."""

import json
import re
from dataclasses import replace
from html import unescape

import numpy as np
import pytest
from test_report_page import Page, render, table_rows

from trigger_prune.report.headline import headline
from trigger_prune.report.page import render_report
from trigger_prune.report.summary import SUMMARY_KEYS, build_summary
from trigger_prune.report.trigger import variable_label
from trigger_prune.report.trigger_page import effective_events_mark
from trigger_prune.report.trigger_plots import _poorly_known

SEEDS = 9


@pytest.fixture(scope="module")
def one(make_triggered):
    return make_triggered()


@pytest.fixture(scope="module")
def summary(one):
    return build_summary(one)


@pytest.fixture(scope="module")
def html(one, summary):
    return render_report(one, summary)


def section(html):
    return html[html.index('<section id="trigger">') : html.index('<section id="input">')]


def cells(html, heading):
    """Rows of the first table after a heading as raw cells, without the head."""
    table = re.search(r"<table.*?</table>", html[html.index(heading) :], flags=re.DOTALL).group()
    rows = re.findall(r"<tr.*?</tr>", table, flags=re.DOTALL)[1:]
    return [re.findall(r"<td.*?</td>", row, flags=re.DOTALL) for row in rows]


def test_jets_show_nothing_of_it(make_inputs):
    inputs = make_inputs(500)
    html, found = render(inputs), build_summary(inputs)
    assert 'id="trigger"' not in html and "#trigger" not in html and "kHz" not in html.split('id="glossary"')[0]
    assert set(found["trigger"].values()) == {None} and set(found["objective"].values()) == {None}


def test_all_keys_are_there_with_a_trigger_too(summary):
    for key in SUMMARY_KEYS:
        value = summary
        for part in key.split("."):
            value = value[part]
    json.dumps(summary, allow_nan=False)


def test_numbers_with_a_path_are_those_of_the_summary(make_triggered):
    for inputs in (make_triggered(), make_triggered(("HH4b", "VBFHbb", "ttbar")), make_triggered(rates=False)):
        found = build_summary(inputs)
        html = render_report(inputs, found)
        tagged = re.findall(r'data-key="trigger" data-path="([^"]*)">([^<]*)<', html)
        assert len(tagged) >= 18
        for path, text in tagged:
            value = found["trigger"]
            for key in json.loads(unescape(path)):
                value = value[key]
            scale = 100 if text.endswith("%") else 1
            digits = re.sub(r"[^\d.]", "", text)
            half = 0.5 * 10 ** -len(digits.partition(".")[2])
            assert abs(float(digits) - scale * value) <= half * 1.0001, (path, text)


def test_rows_and_columns(one, html, summary):
    rows = table_rows(html, '<section id="trigger">')
    assert rows[0] == ["", "1 kHz", "10 kHz", "100 kHz"]
    assert [row[0] for row in rows[1:]] == [
        "HT cut",
        *(name.replace("_", " ") for name in summary["trigger"]["cuts"] if name != "ht" and "menu" not in name),
        "menu (OR), equal shares",
        "menu (OR), best shares",
        "float",
        "dense 8 bit",
        "deployed",
    ]
    point = one.trigger.networks["deployed"].points[2]
    shown = rows[-1][3]
    assert float(shown.split("%")[0]) == pytest.approx(100 * point.efficiency["HH4b"].value, abs=0.06)
    assert f"{point.test_rate.rate_hz / 1e3:.1f} ± {point.test_rate.error_hz / 1e3:.1f} kHz" in shown
    moved = re.search(r"\(([^)]*)%\)", shown)[1].replace("−", "-")  # noqa: RUF001
    assert float(moved) == pytest.approx(100 * point.moved, abs=0.51)


def test_marks_stand_exactly_where_events_are_few(html, summary):
    """In every cell of working points, pure rates and comparisons."""
    rows = cells(html, '<section id="trigger">')
    trigger = summary["trigger"]
    points = [*trigger["cuts"].values(), *trigger["networks"].values()]
    marked = unmarked = validation_only = 0
    for row, of_row in zip(rows, points, strict=True):
        for cell, point in zip(row[1:], of_row, strict=True):
            few = min(point["validation"]["n_effective"], point["test"]["n_effective"]) < 100
            assert ("⚠ n_eff" in cell) == few
            if few:
                assert all(text in unescape(cell) for text in point["warnings"])
            marked, unmarked = marked + few, unmarked + (not few)
            validation_only += few and point["test"]["n_effective"] >= 100
    assert marked > 5 and unmarked > 3 and validation_only > 3
    pure = trigger["pure_rates"]
    rows = cells(html, "Pure rates beside")
    rates = [[seed["rate"], seed["pure"]] for seed in pure["seeds"].values()]
    rates += [[pure["menu"]["rate"]]]
    rates += [[network[key] for key in ("rate", "pure", "together")] for network in pure["networks"].values()]
    assert len(rows) == SEEDS + 4
    for row, of_row in zip(rows, rates, strict=True):
        for cell, rate in zip(row[2:], of_row, strict=False):
            assert ("⚠" in cell) == (rate["n_effective"] < 100)
    folded = re.search(r"All (\d+) warnings in full</summary><ul.*?</ul>", html, flags=re.DOTALL)
    everything = [text for of_row in points for point in of_row for text in point["warnings"]]
    assert int(folded[1]) == len(everything) == folded[0].count("<li>")


def test_a_hundred_events_that_are_not_quite_there_are_not_shown_as_a_hundred():
    assert effective_events_mark(99.97, 250.0) == "n_eff 99.9 / 250"
    assert effective_events_mark(100.0, 100.0) is None
    assert effective_events_mark(0.0) == "n_eff 0"


def test_the_headline_shows_the_objective_and_its_warning(one, make_triggered):
    page = Page(render(one))
    top = page.text.partition("What went in")[0].partition("Score:")[0]
    assert "Signal efficiency at 100 kHz" in top and "Accuracy" not in top and "Test loss" not in top
    assert ("objective.test", "deployed") in {(key, item) for key, item, _ in page.numbers}
    pair = next(pair for pair in build_summary(one)["trigger"]["differences"] if pair["reference"] == "float")
    assert f"{-100 * pair['difference']['value']:.1f}".lstrip("-") in top
    assert "⚠" not in top
    poor = replace(one, objective=replace(one.objective, background_events={"validation": 40.0, "test": 30.0}))
    text = Page(render(poor)).text
    assert "⚠ about 30 effective background events (below 100)" in text.partition("What went in")[0]
    # trials, scan of layers and of inputs, training, table of figures
    assert text.count("stand behind the signal efficiency at 100 kHz on validation") == 5
    by_auc = make_triggered(objective="auc")
    auc = Page(render(by_auc)).text
    tile = auc.partition("Signal efficiency at 100 kHz")[2].partition("Latency")[0]
    assert f"{100 * by_auc.trigger.networks['deployed'].points[2].efficiency['HH4b'].value:.1f}" in tile
    assert "points, paired by event" not in auc and "HH4b" in tile and "⚠" not in tile
    assert "AUC" in auc.partition("Score:")[0] and "stand behind the AUC" not in auc
    loss = Page(render(make_triggered(objective="loss"))).text
    assert "Test loss" in loss.partition("Score:")[0] and "efficiencies at trigger thresholds are in Trigger" in loss


def test_the_terminal_says_the_same(one, make_triggered, make_inputs):
    found = build_summary(one)
    line = headline(found)[1]
    merits, pair = found["objective"]["test"], found["trigger"]["differences"][0]["difference"]
    assert f"{merits['float']:.4f} float -> {merits['deployed']:.4f} deployed" in line
    assert line.endswith(f"{-100 * pair['value']:.2f} +- {100 * pair['error']:.2f} points less")
    assert not any("warning" in text for text in headline(found))
    poor = replace(one, objective=replace(one.objective, background_events={"validation": 400.0, "test": 30.0}))
    assert "warning: about 30 effective background events" in headline(build_summary(poor))[2]
    auc = headline(build_summary(make_triggered(objective="auc")))
    assert auc[1].startswith("test AUC") and "points" not in auc[1]
    jets = headline(build_summary(make_inputs(500)))
    assert len(jets) == 3 and jets[1].startswith("test accuracy")


def test_three_signals_have_a_column_each(make_triggered):
    inputs = make_triggered(("HH4b", "VBFHbb", "ttbar"))
    html = render(inputs)
    rows = table_rows(html, "At 100 kHz")
    assert rows[0] == ["", "rate on test", "HH4b", "VBFHbb", "ttbar", "all signals"]
    points = build_summary(inputs)["trigger"]["networks"]["deployed"]
    assert float(rows[-1][4].split("%")[0]) == pytest.approx(100 * points[2]["efficiency"]["ttbar"]["value"], abs=0.06)
    raw = cells(html, "<summary>At 1 kHz")
    for cell in raw[-1][1:]:
        assert "⚠" in cell
    assert section(html).count("<svg") == 2 * 4 + 3


def test_without_rates_there_are_background_efficiencies_and_no_khz(make_triggered):
    html = render(make_triggered(rates=False, objective="efficiency_at_fpr"))
    text = Page(section(html)).text
    assert "kHz" not in text and not re.search(r"\b(None|nan|inf|null|Undefined)\b", text)
    rows = table_rows(html, '<section id="trigger">')
    assert rows[0] == ["", "0.01 % background", "0.1 % background", "1 % background"]
    assert [row[0] for row in rows[1:]] == ["float", "dense 8 bit", "deployed"]
    assert "Pure rates beside" not in text and "HT cut" not in text


def test_other_warnings_are_written_out_below_the_table(one):
    study = one.trigger
    network = study.networks["deployed"]
    text = "the score is coarse: 95 kHz at the threshold, 120 kHz one step lower"
    points = (*network.points[:2], replace(network.points[2], warnings=(*network.points[2].warnings, text)))
    networks = study.networks | {"deployed": replace(network, points=points)}
    html = render(replace(one, trigger=replace(study, networks=networks)))
    assert f'<li class="warn">{text}</li>' in html
    assert "note a" in cells(html, '<section id="trigger">')[-1][3]
    assert "note a" not in section(render(one))


def test_a_variable_of_the_trigger_is_called_so(make_triggered, html):
    assert variable_label("offline_ht_gev", False) == "offline HT (GeV)"
    assert variable_label("ht_gev", True) == "trigger-level HT (GeV)"
    assert variable_label("offline_jet4_pt_gev", False) == "offline jet4 pT (GeV)"
    assert "no turn-on against an offline quantity" not in html and "offline HT (GeV)" in html
    inputs = make_triggered(offline=False)
    text = Page(render(inputs)).text
    assert "this is no turn-on against an offline quantity" in text and "trigger-level HT (GeV)" in text
    assert set(inputs.trigger.turn_ons["ht"]) == set(), "an HT cut against HT is a step by definition"


def test_turn_on_points_are_in_the_table(one, html):
    rows = table_rows(html, "Fits of an error function")
    fits = {name: curves[0].fit for name, curves in one.trigger.turn_ons.items()}
    assert [row[2] for row in rows[1:]] == ["float", "deployed", "HT cut"]
    for row, name in zip(rows[1:], ("float", "deployed", "ht"), strict=True):
        assert float(row[3].split(" ")[0]) == pytest.approx(fits[name].x50, abs=0.06)
        assert float(row[4].split(" ")[0]) == pytest.approx(fits[name].x95, abs=0.06)


def test_shaded_ranges_are_those_with_few_events():
    position = np.array([1.0, 2.0, 3.0, 4.0, 5.0])
    assert _poorly_known([(position, np.array([50, 90, 200, 300, 400]))]) == [(1.0, 3.0)]
    assert _poorly_known([(position, np.array([200, 200, 90, 200, 200]))]) == [(2.0, 4.0)]
    assert _poorly_known([(position, np.full(5, 100))]) == []
    reversed_curve = position[::-1], np.array([400, 300, 200, 90, 50])
    assert _poorly_known([(position, np.full(5, 500)), reversed_curve]) == [(1.0, 3.0)]


def test_the_page_stays_whole(html):
    page = Page(html)
    ids = page.attributes("id")
    assert len(ids) == len(set(ids))
    used = {name[1:] for name in page.attributes("href") + page.attributes("xlink:href") if name[0] == "#"}
    assert used <= set(ids)
    assert not re.search(r"\b(None|nan|inf|null|Undefined)\b", page.text)
    assert not re.findall(r"#[0-9a-f]{6}", "".join(re.findall(r"<svg.*?</svg>", html, flags=re.DOTALL))) or set(
        re.findall(r"#[0-9a-f]{6}", "".join(re.findall(r"<svg.*?</svg>", html, flags=re.DOTALL)))
    ) <= {"#ffffff", "#000000"}
    assert len(html.encode()) < 600_000
