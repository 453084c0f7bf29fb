"""The page says what summary.json says, needs nothing from outside, and survives every kind of run."""

import re
from dataclasses import replace
from html import unescape
from html.parser import HTMLParser
from xml.etree import ElementTree

import pytest

from trigger_prune.cost.report import CostStage
from trigger_prune.report.numbers import MISSING
from trigger_prune.report.page import FINDINGS_SHOWN, render_report
from trigger_prune.report.summary import build_summary

HEADLINE = {"dense.lut", "deployed.lut", "lut_ratio", "float.accuracy", "deployed.accuracy", "deployed.latency_cycles"}
VOID = {"meta", "link", "br", "img", "input", "hr"}


class Page(HTMLParser):
    """What a browser would find: tags with attributes, visible text, and the numbers with their keys."""

    def __init__(self, text):
        super().__init__()
        self.tags, self.words, self.numbers, self.open = [], [], [], []
        self.feed(text)
        self.close()
        assert not self.open, f"not closed: {self.open}"
        self.text = " ".join(" ".join(self.words).split())

    def handle_starttag(self, tag, attributes):
        self.tags.append((tag, dict(attributes)))
        if tag not in VOID:
            self.open.append((tag, dict(attributes)))

    def handle_startendtag(self, tag, attributes):
        self.tags.append((tag, dict(attributes)))

    def handle_endtag(self, tag):
        opened, _ = self.open.pop()
        assert opened == tag, f"</{tag}> closes <{opened}>"

    def handle_data(self, data):
        if not self.open or self.open[-1][0] in ("style", "title"):
            return
        self.words.append(data)
        attributes = self.open[-1][1]
        if "data-key" in attributes:
            self.numbers.append((attributes["data-key"], attributes.get("data-item"), data))

    def attributes(self, name):
        return [attributes[name] for _, attributes in self.tags if attributes.get(name) is not None]


def render(inputs):
    return render_report(inputs, build_summary(inputs))


@pytest.fixture(scope="module")
def jets(make_inputs):
    return make_inputs(3000)


@pytest.fixture(scope="module")
def html(jets):
    return render(jets)


def look_up(summary, key, item):
    for part in key.split("."):
        summary = summary[part]
    return summary if item is None else summary[item]


@pytest.mark.parametrize("task", ["classify", "autoencoder"])
def test_numbers_on_the_page_are_those_of_the_summary(make_inputs, task):
    inputs = make_inputs(1000, task=task)
    summary = build_summary(inputs)
    numbers = Page(render_report(inputs, summary)).numbers
    for key, item, text in numbers:
        value = look_up(summary, key, item)
        if text == MISSING:
            assert value is None, key
            continue
        scale = 100 if text.endswith("%") else 1
        digits = re.sub(r"[^\d.]", "", text)
        half_a_digit = 0.5 * 10 ** -len(digits.partition(".")[2])
        assert abs(float(digits) - abs(value * scale)) <= half_a_digit * 1.0001, (key, item, text)
    shown = {key for key, _, _ in numbers}
    assert (HEADLINE if task == "classify" else {"float.loss", "deployed.loss", "lut_ratio"}) <= shown
    assert len(numbers) > 50


def table_rows(html, heading):
    """Cells of the first table after a heading, one list of texts per row."""
    table = re.search(r"<table.*?</table>", html[html.index(heading) :], flags=re.DOTALL).group()
    rows = re.findall(r"<tr.*?</tr>", table, flags=re.DOTALL)
    cells = [re.findall(r"<t[hd].*?</t[hd]>", row, flags=re.DOTALL) for row in rows]
    return [
        [" ".join(re.sub(r"<[^>]*>", "", cell.replace("<br>", " ")).replace("\u202f", "").split()) for cell in row]
        for row in cells
    ]


def test_numbers_stand_in_the_right_row_and_column(jets, html):
    costs = {row[0]: row[1:] for row in table_rows(html, "Hardware cost, before and after")}
    assert costs[""] == ["dense 8 bit", "deployed", "dense / deployed", "analytic, deployed"]
    assert costs["LUT"] == ["61912", "5912", "10.5", "6350"]
    assert costs["FF"] == ["10318", "985", "10.5", "1058"]
    assert costs["latency (ns)"][:2] == ["35", "30"]
    assert costs["latency (bunch crossings)"][:2] == ["1.40", "1.20"]
    performance = {row[0]: row[1:] for row in table_rows(html, "Physics performance")}
    accuracies = [(network.logits.argmax(axis=1) == jets.test_labels).mean() for network in jets.networks.values()]
    assert performance[""] == ["float", "dense 8 bit", "deployed"]
    assert [float(cell.split("%")[0]) for cell in performance["accuracy"]] == pytest.approx(
        [100 * value for value in accuracies], abs=0.051
    )
    budget = {row[0]: row[1:4] for row in table_rows(html, "Target and budget")}
    assert budget["LUT"] == ["5912", "8000", "73.9%"]
    confusion = table_rows(html, "Confusion matrix")
    decided = jets.deployed_network.logits.argmax(axis=1)
    share = ((decided == 1) & (jets.test_labels == 3)).sum() / (jets.test_labels == 3).sum()
    assert confusion[4][0] == "Z"
    assert confusion[4][2] == f"{100 * share:.1f}"


def test_page_is_self_contained(html):
    page = Page(html)
    tags = {tag for tag, _ in page.tags}
    assert not tags & {"script", "img", "iframe", "object", "embed", "base", "form"}
    for name in ("src", "srcset", "data", "action", "poster"):
        assert page.attributes(name) == []
    references = page.attributes("href") + page.attributes("xlink:href")
    assert [reference for reference in references if not reference.startswith("#")] == ["data:,"]
    assert "http:" not in html
    assert "https:" not in html
    assert "@import" not in html
    assert all(target.startswith("#") for target in re.findall(r"url\(([^)]*)\)", html))


def test_ids_are_unique_and_every_reference_has_its_target(html):
    page = Page(html)
    ids = page.attributes("id")
    assert len(ids) == len(set(ids))
    used = [
        reference[1:] for reference in page.attributes("href") + page.attributes("xlink:href") if reference[0] == "#"
    ]
    used += re.findall(r"url\(#([^)]*)\)", html)
    assert len(used) > 20
    assert set(used) <= set(ids)


def test_figures_are_well_formed_and_take_their_colours_from_the_page(html):
    figures = re.findall(r"<svg.*?</svg>", html, flags=re.DOTALL)
    assert len(figures) == 7
    for figure in figures:
        root = ElementTree.fromstring(f'<d xmlns:xlink="x">{figure}</d>')[0]
        assert root.find("title").text
        colours = set(re.findall(r"#[0-9a-f]{6}", figure))
        assert colours <= {"#ffffff", "#000000"}, "a placeholder was left, or a colour ignores the dark scheme"
    variables = set(re.findall(r"var\((--[\w-]+)\)", html))
    defined = set(re.findall(r"(--[\w-]+):", html))
    assert variables <= defined


def test_plot_text_is_text(html):
    figure = re.search(r"<svg[^>]*>(?:(?!</svg>).)*background efficiency.*?</svg>", html, flags=re.DOTALL)
    words = re.findall(r"<text[^>]*>([^<]*)</text>", figure.group())
    assert {"signal efficiency", "background efficiency", "10⁻²", "q", "t", "deployed", "float"} <= set(words)


def test_names_are_escaped_everywhere(make_inputs):
    nasty = ('<img src=x onerror="alert(1)">', "a & b", "\"quoted\" 'c'", "_$x$_</svg></script>")
    inputs = make_inputs(600, class_names=nasty, feature_names=[*nasty, "e", "f"])
    inputs = replace(inputs, project=nasty[0], description=nasty[3], data_card=nasty[0], csynth_note=nasty[1])
    html = render(inputs)
    page = Page(html)
    assert not {tag for tag, _ in page.tags} & {"img", "script"}
    assert not page.attributes("onerror")
    for name in nasty:
        assert name in page.text
    drawn = [unescape(words) for words in re.findall(r"<text[^>]*>([^<]*)</text>", html)]
    assert any(nasty[3] in words for words in drawn), (
        "dollar signs are no mathematics, a leading underscore hides nothing"
    )


def test_the_stage_stands_beside_the_hardware_numbers(jets, html):
    label = CostStage.RTL_SYNTH.label
    assert Page(html).text.count(label) >= 5
    assert f"{label}; not a Vivado synthesis" in Page(html).text
    assert "that the clock is reached is not proven" in Page(html).text
    costs = {"dense_cost": replace(jets.dense_cost, stage=CostStage.PNR)}
    routed = replace(jets, **costs, deployed_cost=replace(jets.deployed_cost, stage=CostStage.PNR))
    text = Page(render(routed)).text
    assert "after place and route" in text
    assert "not proven" not in text


def test_a_real_hls_report_gets_its_own_column(jets, html):
    assert "No HLS compiler report: neither vitis-run nor vivado_hls is on PATH." in Page(html).text
    csynth = replace(jets.deployed_cost, stage=CostStage.CSYNTH, tool="vitis", lut=12_345)
    page = Page(render(replace(jets, csynth=csynth, csynth_note=None)))
    assert ("csynth", "lut", "12\u202f345") in page.numbers
    assert "No HLS compiler report" not in page.text


def estimated(report, **intervals):
    return replace(
        report, stage=CostStage.ANALYTIC, tool="trigger_prune", tool_version="1", predicts=CostStage.CSYNTH, lut=14_321,
        estimated_clock_ns=None, interval_90=intervals,
    )  # fmt: skip


def test_a_predicted_csynth_report_stands_beside_with_its_interval(jets):
    margin = replace(jets.deployed_cost, clock_uncertainty_ns=0.62)
    hls = estimated(margin, lut=(12_900.4, 16_020.0), ff=(800.0, 1300.0))
    html = render(replace(jets, hls_dense=hls, hls_deployed=hls))
    rows = {row[0]: row[1:] for row in table_rows(html, "Hardware cost, before and after")}
    assert rows[""][-1] == "csynth predicted, deployed"
    assert rows["LUT"][-1] == "14321 90 %: 12900 … 16020" and rows["FF"][-1] == "985 90 %: 800 … 1300"
    assert rows["DSP"][-1] == "0" and rows["LUT"][1] == "5912", "no interval where there is none"
    assert rows["how obtained"][-1] == CostStage.ANALYTIC.label
    assert "target clock" not in rows and "uncertainty kept free (ns)" not in rows, "a margin alone says nothing"
    page = Page(html)
    assert ("hls_estimate.deployed", "lut", "14\u202f321") in page.numbers
    assert "predicted by formula too" in page.text
    missing = Page(render(replace(jets, hls_note="layer pool has no formula"))).text
    assert "No prediction of csynth: layer pool has no formula." in missing


def test_an_estimate_as_backend_shows_its_intervals(jets):
    dense, deployed = (estimated(report, lut=(10.0, 20.0)) for report in (jets.dense_cost, jets.deployed_cost))
    html = render(replace(jets, dense_cost=dense, deployed_cost=deployed))
    rows = {row[0]: row[1:] for row in table_rows(html, "Hardware cost, before and after")}
    assert rows["LUT"][:2] == ["14321 90 %: 10 … 20"] * 2


def test_clocks_that_a_tool_states_are_shown_and_judged(jets, html):
    assert "estimated clock" not in html and "target clock" not in Page(html).text
    slow = replace(jets.deployed_cost, stage=CostStage.CSYNTH, estimated_clock_ns=4.7, clock_uncertainty_ns=0.62)
    fast = replace(jets.dense_cost, stage=CostStage.CSYNTH, estimated_clock_ns=4.3, clock_uncertainty_ns=0.62)
    html = render(replace(jets, dense_cost=fast, deployed_cost=slow))
    rows = {row[0]: row[1:] for row in table_rows(html, "Hardware cost, before and after")}
    assert rows["estimated clock (ns)"][:2] == ["4.3", "4.7"] and rows["uncertainty kept free (ns)"][:2] == ["0.62"] * 2
    assert rows["target clock"][:2] == ["met", "missed"] and "achieved clock (ns)" not in rows
    assert "the clock is not reached" in Page(html).text
    routed = replace(slow, stage=CostStage.PNR, achieved_clock_ns=3.9, estimated_clock_ns=None, wns_ns=1.1)
    html = render(replace(jets, dense_cost=replace(routed, wns_ns=-0.2), deployed_cost=routed))
    rows = {row[0]: row[1:] for row in table_rows(html, "Hardware cost, before and after")}
    assert rows["achieved clock (ns)"][:2] == ["3.9", "3.9"] and rows["target clock"][:2] == ["missed", "met"]


def test_a_simulation_states_cycles_and_no_area(jets):
    costs = (replace(cost, stage=CostStage.COSIM, lut=None, ff=None) for cost in (jets.dense_cost, jets.deployed_cost))
    dense, deployed = costs
    trials = tuple(
        replace(trial, cost=replace(deployed, latency_cycles=9 - index)) for index, trial in enumerate(jets.trials)
    )
    budget = replace(jets.budget, lut=None, dsp=None)
    inputs = replace(jets, dense_cost=dense, deployed_cost=deployed, trials=trials, budget=budget)
    page = Page(render(inputs))
    top = page.text.partition("What went in")[0]
    assert "Look-up tables" not in top and "latency and interval as simulated, no resources" in page.text
    assert ("deployed.latency_cycles", None, "6") in page.numbers
    assert not re.search(r"\b(None|nan|inf|null|Undefined)\b", page.text)


def test_a_run_on_a_processor_speaks_of_time_only(jets, on_processor):
    inputs = on_processor(jets)
    html = render(inputs)
    page = Page(html)
    assert not re.search(r"\b(None|nan|inf|null|Undefined)\b", page.text)
    top = page.text.partition("What went in")[0]
    for absent in ("Look-up tables", "cycles", "bunch crossings", "LUT"):
        assert absent not in top, absent
    assert (
        "2.00 times less than the dense 8-bit network" in top and "Testron 9000, CPUExecutionProvider, 2 threads" in top
    )
    assert "zero weights make a processor no faster" in page.text
    assert "removed before the measurement: fc1 7, fc2 3." in page.text
    assert "xcvu13p" not in page.text.partition("Configuration")[0]
    rows = {row[0]: row[1:] for row in table_rows(html, "Run time, before and after")}
    assert set(rows) == {"", "latency, 99th percentile (µs)", "time per event (µs)", "how obtained", "tool"}
    assert rows["time per event (µs)"] == ["0.840", "0.420", "2.00"]
    budget = {row[0]: row[1:4] for row in table_rows(html, "Target and budget")}
    assert budget["latency, 99th percentile (µs)"] == ["8.25", "9.00", "91.7%"]
    assert budget["time per event (µs)"] == ["0.420", "0.400", "105.0%"]
    assert "budget exceeded" in page.text
    figure = re.search(r"<svg[^>]*>(?:(?!</svg>).)*time per event \(µs\), log scale.*?</svg>", html, flags=re.DOTALL)
    assert figure is not None


def test_every_batch_size_is_listed(jets, on_processor):
    html = render(on_processor(jets))
    table = re.search(r"<th class=\"r\">events per call</th>.*?</table>", html, flags=re.DOTALL).group()
    rows = re.findall(r"<tr><td.*?</tr>", table, flags=re.DOTALL)
    cells = [[re.sub(r"<[^>]*>|\u202f", "", cell) for cell in re.findall(r"<td.*?</td>", row)] for row in rows]
    assert cells[0] == ["1", "7.10", "9.50", "59524", "7.10", "8.25", "119048"]
    assert [row[0] for row in cells] == ["1", "16", "256"] and cells[2][3] == "1190476"
    kept = replace(on_processor(jets), deployed_cost=on_processor(jets).dense_cost)
    assert "none was removed: the zeros among the weights save no time here" in Page(render(kept)).text


def test_two_classes(make_inputs):
    page = Page(render(make_inputs(400, class_names=("signal", "background"), feature_names=("a", "b", "c"))))
    assert ("deployed.auc_per_class", "background") in {(key, item) for key, item, _ in page.numbers}


def test_a_run_with_nothing_optional(make_inputs):
    inputs = make_inputs(200, task="autoencoder")
    bare = replace(
        inputs,
        scan=None,
        trials=(),
        histories={},
        analytic_dense=None,
        analytic_deployed=None,
        csynth_note=None,
        data_card=None,
        description="",
        inputs_dropped={},
        deployed_cost=replace(inputs.deployed_cost, ff=None, latency_cycles=None, layers=()),
        budget=replace(inputs.budget, lut=None, dsp=None),
    )
    page = Page(render(bare))
    assert "float.accuracy" not in {key for key, _, _ in page.numbers}
    assert not re.search(r"\b(None|nan|inf|null|Undefined)\b", page.text)
    assert "accuracy, AUC and ROC are not defined" in page.text
    assert "not stated by the tool" in page.text
    assert not [tag for tag, _ in page.tags if tag == "svg"]


def test_failures_are_said_at_the_top_and_explained(jets, make_broken_verdict):
    bad = replace(jets, verdict=make_broken_verdict(3000), budget=replace(jets.budget, lut=5_000))
    text = Page(render(bad)).text
    top, _, rest = text.partition("What went in")
    assert "budget exceeded" in top
    assert "representations disagree" in top
    assert "0 mismatches" not in text
    assert "event 17, layer fc2 , element 3: 0.25 expected, 0.3125 found" in rest
    assert "did not run" in rest
    assert "stopped after 900 s" in rest


def test_a_larger_network_is_not_called_fewer_luts(jets):
    text = Page(render(replace(jets, deployed_cost=replace(jets.deployed_cost, lut=90_000)))).text
    assert "times fewer" not in text
    assert "more than the dense 8-bit network" in text


def test_many_classes_features_and_long_names(make_inputs):
    classes = tuple(f"class_number_{i}_of_a_long_list" for i in range(20))
    features = tuple(f"feature_with_a_long_name_{i}" for i in range(120))
    html = render(make_inputs(4000, class_names=classes, feature_names=features))
    assert len(html.encode()) < 2_000_000
    table = re.search(r"<th>feature</th>.*?</table>", html, flags=re.DOTALL).group()
    assert table.count("<tr>") == FINDINGS_SHOWN
    assert f"{120 - FINDINGS_SHOWN} more features" in html
    assert all(name in html for name in (*classes, *features))


def test_equal_runs_give_equal_pages(make_inputs, html):
    assert render(make_inputs(3000)) == html
