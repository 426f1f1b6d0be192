"""The HTML report: its text, well-formed and harmless markup, figures, and layout in a browser."""

import base64
import io
import re
import time
from html.parser import HTMLParser

import numpy as np
import pytest
from PIL import Image

from envs.suite import Point
from runs.analysis import robustness, stats
from runs.analysis.robustness import ArmScores
from runs.prereg import ledger
from runs.prereg.plan_file import Plan
from runs.report import html, score_figures, severity_curves
from runs.report.arm_style import BASELINE, arm_styles
from runs.report.html import EpisodeFigure, PageContent, write_page
from runs.report.html_tables import control_table, ledger_table
from runs.report.signal_figures import (
    episode_figures,
    png_data_url,
    steps_to_show,
    validity_figure,
)
from runs.report.svg import clipped, extent, join, marker, minus, node, number, short, ticks
from runs.report.tables import all_tables
from runs.report.verdict import declared_contrasts, shifted_means, verdict_sentence
from tests.runs import page_browser

EVIL = "<script>alert(1)</script>"
ARMS = ("none", "random", "constant_plus", EVIL, f"{EVIL}_sham", f"{EVIL}_constant", "lesion")
SHIFTS = {
    **{"ice": "dynamics", "fog": "sensor", "noise": "sensor", "dropout": "sensor"},
    **{"cones": "layout", "mirror": "layout", "cross": "social", "delay": "actuator"},
    **{"flip": "actuator", "fog|cones": "sensor|layout", EVIL: "time", "\"&'</svg>": "reward"},
    "late": "time|dynamics",
}
SEVERITIES = (0.25, 0.5, 1.0)
POINTS = [Point("none", "none", 0.0)] + [
    Point(shift, family, severity) for shift, family in SHIFTS.items() for severity in SEVERITIES
]
WIDTHS = (1280, 420)
MISSING_METRICS = ("hidden", "other_goal")  # metrics that these rows lack
LOOKS_TEXT = "dev looks 3, sealed looks 1; expected optimism of the best of 3: 1.0 standard errors"


def scores(arms=ARMS, seeds=20, points=POINTS, better=None, spread=0.05) -> list[dict]:
    """Score rows; `better` maps an arm to what its mean score is higher by."""
    rng, rows = np.random.default_rng(0), []
    for arm in arms:
        seed_means = rng.normal(0.7 + (better or {}).get(arm, 0.0), spread, seeds)
        for i, point in enumerate(points):
            drop = point.severity * (0.1 + 0.03 * i / len(points))
            for seed in range(seeds):
                score = float(np.clip(seed_means[seed] - drop + 0.01 * rng.normal(), 0, 1))
                row = {"env": EVIL, "arm": arm, "seed": seed, "episodes": 256, "score": score}
                metrics = {"success": score, "return": score, "length": 9.0, "harm": 1 - score}
                rows.append(
                    row | point._asdict() | metrics | dict.fromkeys(MISSING_METRICS, np.nan)
                )
    return rows


def plan(primary=(f"{EVIL}_constant", "constant_plus"), arms=ARMS, **other) -> Plan:
    fields = {
        **{"env": EVIL, "suite": "s" * 64, "arms": arms, "without": ("random",)},
        **{"primary": primary, "secondary": ((EVIL, "none"),), "seeds": 20, "base": 0},
        **{"steps": 1000, "episodes": 256, "severities": SEVERITIES, "sealed": ()},
        **{"shifts": SHIFTS, "worlds": {"none": "none"}, "sizes": {}, "agent": {}},
    }
    return Plan(**fields | other)


def episode(title: str, length: int = 60, blunder: int | None = 20) -> EpisodeFigure:
    frames = np.zeros((length, 90, 160, 3), np.uint8)
    frames[..., 0] = np.arange(length)[:, None, None]
    frames[:, 30:60, 50:110] = (90, 160, 220)
    time = np.arange(length)
    signals = {EVIL: np.sin(time / 5), "hope": 0.01 * time, "lost": np.full(length, np.nan)}
    return EpisodeFigure(title, frames, signals, blunder, f"crash {EVIL}")


def readouts() -> list[dict]:
    metrics = {"auroc": 0.7, "return": 0.2, "rarity": np.nan}
    return [
        {"signal": name, "shift": shift, "seed": seed} | metrics | {"auroc": 0.6 + 0.01 * seed}
        for name in (EVIL, "critic")
        for shift in ("none", *SHIFTS)
        for seed in range(4)
    ]


def study(**other) -> PageContent:
    rows = scores()
    fields = {
        **{"env": EVIL, "rows": rows, "arms": ARMS, "tables": all_tables(rows, ARMS, EVIL)},
        **{"plan": plan(), "command": f"python -m runs.compare --env '{EVIL}'"},
        **{"without": (EVIL,), "watermark": f"unverified: plan: {EVIL}", "looks": LOOKS_TEXT},
        **{"changes": [f"env: {EVIL} was declared"], "readouts": readouts()},
        **{"timelines": [episode("at home"), episode(EVIL, 35, 34)]},
        "machine": {"machine": f'two cores" onload="{EVIL}', "jax": "0.10.2"},
    }
    return PageContent(**fields | other)


@pytest.fixture(scope="module")
def page_path(tmp_path_factory):
    """Path of the report of a study whose every name contains markup."""
    out = tmp_path_factory.mktemp("study")
    for result in (None, "r" * 64):
        evil = {EVIL: "c" * 64}
        ledger.append_entry(out / ledger.NAME, "dev", "s" * 64, plan().hash, evil, 20, result)
    return write_page(out, study())


# --- the verdict ----------------------------------------------------------------------------------

PAIR = ("calm", "plain")


def verdict(better: float, seeds: int = 20, looks: str = "dev looks 1, sealed looks 0") -> str:
    rows = scores(PAIR, seeds, POINTS[:4], {"calm": better})
    return verdict_sentence(rows, plan(PAIR, PAIR, secondary=()), looks)


def test_verdict_states_contrast_interval_seeds_and_looks():
    rows = scores(PAIR, 20, POINTS[:4], {"calm": 0.2})
    estimate = stats.difference(*shifted_means(rows, PAIR).values())
    sentence = verdict_sentence(rows, plan(PAIR, PAIR, secondary=()), "dev looks 1, sealed looks 0")
    assert (
        f"calm does better than plain: in the mean over shifts they differ by {estimate}"
        in sentence
    )
    assert "excludes zero, with 20 seeds each; dev looks 1, sealed looks 0." in sentence


@pytest.mark.parametrize(
    ("better", "comparison", "zero"),
    [(0.2, "does better than", "excludes"), (-0.2, "does worse than", "excludes")]
    + [(0.0, "does not differ significantly from", "includes")],
)
def test_verdict_states_whether_the_interval_excludes_zero(better, comparison, zero):
    assert f"calm {comparison} plain" in verdict(better)
    assert f"{zero} zero" in verdict(better)


def test_verdict_warns_of_few_seeds():
    assert "with 5 seeds each of 20 declared, which is few" in verdict(0.2, 5)
    assert "few" not in verdict(0.2, 20)


def test_no_verdict_without_a_plan_or_enough_seeds():
    assert "exploratory; dev looks 2." in verdict_sentence(scores(PAIR, 3), None, "dev looks 2")
    rows = scores(PAIR[:1], 20, POINTS[:4]) + scores(PAIR[1:], 2, POINTS[:4])
    sentence = verdict_sentence(rows, plan(PAIR, PAIR, secondary=()), "")
    assert sentence.startswith("No verdict: ")
    assert "computed, as plain has 2 seeds with finite scores and 3 are needed." in sentence


def test_a_seed_with_a_nan_score_is_left_out():
    rows = scores(PAIR, 4, POINTS[:4])
    rows[1]["score"] = np.nan  # of the seed 1 of calm, in distribution
    assert {arm: len(means) for arm, means in shifted_means(rows, PAIR).items()} == {
        "calm": 3,
        "plain": 4,
    }


def test_p_values_of_all_contrasts_are_holm_adjusted_together():
    means = shifted_means(scores(better={EVIL: 0.05}), ARMS)
    primary, secondary = declared_contrasts(means, plan())
    p_values = [
        stats.p_value(means[f"{EVIL}_constant"], means["constant_plus"]),
        stats.p_value(means[EVIL], means["none"]),
    ]
    adjusted = stats.holm(dict(enumerate(p_values)))
    assert [primary.p_value, secondary.p_value] == pytest.approx(list(adjusted.values()))
    assert secondary.estimate == stats.difference(means[EVIL], means["none"])
    without_secondary = declared_contrasts(means | {EVIL: means[EVIL][:2]}, plan())
    assert without_secondary[1].estimate is None
    assert without_secondary[0].p_value == pytest.approx(p_values[0])


# --- elements -------------------------------------------------------------------------------------


def test_text_and_attributes_are_escaped_and_markup_is_not():
    assert node("p", "<b>", node("i", "&")) == "<p>&lt;b&gt;<i>&amp;</i></p>"
    assert node("a", href='"><x') == '<a href="&quot;&gt;&lt;x"></a>'
    assert join(["<", node("br"), None, 3]) == "&lt;<br>3"
    assert node("rect", x=1.0, stroke_width=2.50, class_="a", hidden=False) == (
        '<rect x="1" stroke-width="2.5" class="a"/>'
    )


def test_numbers_are_short_and_use_a_minus_sign():
    assert [number(v) for v in (1.0, 0.126, -3.5, 100.0)] == ["1", "0.13", "-3.5", "100"]
    assert [short(v) for v in (0.123, -12.34, 456.7, np.nan)] == ["0.12", "−12.3", "457", "–"]
    assert minus("-0.00") == "0.00"


@pytest.mark.parametrize(
    ("low", "high", "expected"),
    [
        (0.0, 1.0, [0, 0.25, 0.5, 0.75, 1]),
        (-0.31, 0.05, [-0.3, -0.2, -0.1, 0]),
        (12.0, 480.0, [100, 200, 300, 400]),
        (2.0, 2.0, [2.0]),
    ],
)
def test_ticks_are_round(low, high, expected):
    assert ticks(low, high) == pytest.approx(expected)


def test_a_long_name_is_clipped_in_the_middle():
    assert clipped("curiosity_constant", 21) == "curiosity_constant"
    assert clipped("a_very_long_name_of_a_head_untrained", 21) == "a_very_lon…_untrained"


def test_an_extent_has_a_margin_unless_it_is_of_shares():
    assert extent([np.array([0.0, 1.0])]) == pytest.approx((-0.06, 1.06))
    assert extent([np.array([0.0, 1.0])], True) == (0.0, 1.0)
    assert extent([np.array([np.nan])]) == (0.0, 1.0)
    low, high = extent([np.array([3.0, 3.0])])
    assert low < 3 < high


def test_controls_share_the_colour_of_their_head_but_not_its_marker():
    styles = arm_styles(["none", "fear", "fear_sham", "fear_constant", "fear_untrained", "hope"])
    assert len({styles[a].colour for a in styles if a.startswith("fear")}) == 1
    assert len({styles["none"].colour, styles["fear"].colour, styles["hope"].colour}) == 3
    kinds = [style.kind for style in styles.values()]
    assert kinds == [BASELINE, 0, 2, 1, 3, 0]
    assert len({marker(kind, 0, 0) for kind in range(BASELINE + 1)}) == BASELINE + 1


# --- figures --------------------------------------------------------------------------------------


def scores_by_arm(arms=("none", "fear"), **other) -> dict[str, ArmScores]:
    """Scores of each arm over seeds and points."""
    rows = scores(arms, **other)
    return {arm: robustness.arm_scores(rows, arm) for arm in arms}


def test_there_is_a_panel_per_shift_and_a_curve_per_arm():
    arms = scores_by_arm()
    panels = severity_curves.severity_curves(arms, arm_styles(list(arms)), "success")
    assert len(panels) == len(SHIFTS)
    assert all(panel.count('class="arm') == 2 and panel.count("band") == 2 for panel in panels)
    assert "ice: mean over seeds by arm" in panels[0]


def test_a_panel_draws_the_mean_and_its_interval_as_paths():
    x = np.array([0.0, 1.0])
    series = {"none": (x, np.array([1.0, 0.5]), np.array([0.0, 0.25]))}
    svg = severity_curves.draw_panel(
        "ice", series, arm_styles(["none"]), (0, 1), (0, 1), "severity"
    )
    assert 'd="M34 30L270 99"' in svg  # from the upper left to the middle of the right
    assert 'd="M34 30L270 64.5L270 133.5L34 30Z"' in svg


def test_intervals_equal_those_of_stats_mean():
    x = np.random.default_rng(0).normal(size=(7, 3))
    means, half_widths = severity_curves.means_and_half_widths(x)
    for i in range(3):
        expected = stats.mean(x[:, i])
        assert (means[i], means[i] - half_widths[i]) == pytest.approx(
            (expected.value, expected.low)
        )
    assert severity_curves.means_and_half_widths(x[:2])[1].tolist() == [0, 0, 0]


def test_the_worst_family_of_each_arm_is_framed():
    points = (Point("a", "sensor", 1.0), Point("b", "layout", 1.0))
    arms = {
        "none": ArmScores(np.ones(3), np.tile([0.9, 0.2], (3, 1)), points),
        "fear": ArmScores(np.ones(3), np.tile([0.3, 0.6], (3, 1)), points),
    }
    svg = score_figures.heat_map(arms)
    framed = re.findall(r'class="worst".*?<text[^>]*>(.*?)</text>', svg)
    assert framed == [".20", ".30"]
    assert svg.count('class="worst"') == 2


def test_every_seed_is_drawn_as_a_dot():
    arms = scores_by_arm(seeds=11)
    for strip in score_figures.seed_strips(arms, arm_styles(list(arms))):
        assert len(re.findall(r"\dh0", strip)) == 22
    svg = score_figures.home_shift_scatter(arms, arm_styles(list(arms)), "success")
    assert len(re.findall(r"\dh0", svg)) == 22
    assert "predicted" in svg


def test_wide_intervals_of_few_seeds_stay_inside_the_figure():
    arms = scores_by_arm(seeds=3)
    for strip in score_figures.seed_strips(arms, arm_styles(list(arms))):
        ends = re.findall(r'<line x1="([\d.-]+)"[^>]*x2="([\d.-]+)"[^>]*class="reach"', strip)
        left = score_figures.label_width(list(arms))
        assert len(ends) == len(arms)
        assert all(left < float(x) < score_figures.NARROW for pair in ends for x in pair)


def test_the_predicted_line_fits_shifted_on_home_scores():
    home = np.array([0.2, 0.4, 0.6, 0.8])
    points = (Point("a", "sensor", 1.0),)
    arms = {"none": ArmScores(home, home[:, None] / 2 + 0.1, points)}
    svg = score_figures.home_shift_scatter(arms, arm_styles(["none"]), "return")
    dots = re.search(r'd="(M[^"]*h0)"', svg)[1]
    x, y = np.array(re.findall(r"M([\d.]+) ([\d.]+)h0", dots), float).T
    ends = re.search(
        r'<line x1="([\d.]+)" y1="([\d.]+)" x2="([\d.]+)" y2="([\d.]+)" class="pred', svg
    )
    x1, y1, x2, y2 = map(float, ends.groups())
    assert y1 + (x - x1) * (y2 - y1) / (x2 - x1) == pytest.approx(y, abs=0.1)


@pytest.mark.parametrize(("length", "blunder"), [(60, 20), (60, None), (35, 34), (4, 0), (1, 0)])
def test_steps_shown_cover_an_episode_its_blunder_and_its_end(length, blunder):
    steps = steps_to_show(length, blunder)
    assert steps == sorted(set(steps))
    assert len(steps) >= min(length, 8)
    assert blunder is None or blunder in steps
    assert steps[-1] == length - 1
    assert max(np.diff([0, *steps])) <= 2 * -(-length // 10)


def decode_image(url: str) -> Image.Image:
    kind, _, content = url.partition(",")
    assert kind == "data:image/png;base64"
    return Image.open(io.BytesIO(base64.b64decode(content)))


def test_a_frame_becomes_a_small_png_data_url():
    frame = np.full((360, 640, 3), (10, 200, 30), np.uint8)
    image = decode_image(png_data_url(frame))
    assert image.size == (320, 180)
    assert image.convert("RGB").getpixel((9, 9)) == (10, 200, 30)
    assert len(png_data_url(frame)) < 2_000
    assert decode_image(png_data_url(frame[:40, :64])).size == (
        320,
        200,
    )  # enlarged by a whole number


def test_a_signal_has_the_same_scale_in_all_episodes():
    low = EpisodeFigure(
        "a", np.zeros((3, 4, 4, 3), np.uint8), {"fear": np.array([0, 0.5, 1])}, None, ""
    )
    high = low._replace(signals={"fear": np.array([0, 5, 10.0])})
    single, [first, _] = episode_figures([low], {}), episode_figures([low, high], {})
    assert single[0] != first
    assert "blunder" not in first


def test_the_blunder_is_marked_in_every_signal():
    [svg] = episode_figures([episode("a", 61, 30)], {})
    assert svg.count('class="moment"') == 3
    assert 'style="left:50.000%">blunder, step 30' in svg
    assert "step 30, the blunder" in svg


def test_validity_is_drawn_for_the_measures_that_are_known():
    assert [("rarity" in panel) for panel in validity_figure(readouts())] == [False, False]
    assert validity_figure([]) == []


def test_power_and_a_a_control_equal_those_of_stats():
    arms = scores_by_arm()
    baseline = robustness.mean(arms["none"])
    table = control_table(arms, [])
    assert f"{stats.split_half_difference(baseline):+.3f}".replace("-", "−") in table
    assert f"{stats.detectable(baseline.std(ddof=1), 20):.3f}" in table
    assert f"{stats.seed_share(arms['none'].away):.2f}" in table


def test_a_long_ledger_and_its_hashes_are_shortened(tmp_path):
    path = tmp_path / ledger.NAME
    assert "no ledger" in ledger_table(path)
    for i in range(15):
        ledger.append_entry(path, "dev", "s" * 64, "p" * 64, {}, 3, f"{i:064d}")
    table = ledger_table(path)
    assert "ledger, 15 lines, the first 3 not shown" in table
    assert f'<abbr title="{"s" * 64}"><code>{"s" * 10}</code></abbr>' in table


# --- the file -------------------------------------------------------------------------------------


class Reader(HTMLParser):
    """HTML parser that checks that tags are balanced and collects tags, attributes and text."""

    VOID = {"meta", "link", "img", "input", "br", "hr", "col"}

    def __init__(self, text: str):
        super().__init__()
        self.open, self.tags, self.attributes, self.words = [], [], [], []
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes += attrs
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes += attrs

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.words.append(data)


def test_a_page_is_small_balanced_and_loads_nothing(page_path):
    text = page_path.read_text()
    assert page_path.stat().st_size < 2_000_000
    reader = Reader(text)
    assert not {"script", "iframe", "object", "embed", "form", "base"} & set(reader.tags)
    assert not [name for name, _ in reader.attributes if name.startswith("on")]
    urls = [v for k, v in reader.attributes if k in ("src", "href", "xlink:href", "action")]
    assert {url[:5] for url in urls if url[0] != "#"} == {"data:"}
    ids = [value for key, value in reader.attributes if key == "id"]
    assert len(ids) == len(set(ids))
    assert {url[1:] for url in urls if url[0] == "#"} <= set(ids)
    policy = [value for key, value in reader.attributes if value == html.POLICY]
    assert policy and policy[0].startswith("default-src 'none'; ")
    assert "".join(reader.words).count(EVIL) > 20  # escaped, as text


def test_a_page_has_its_sections_in_order(page_path):
    headings = re.findall(r"<h2>(.*?)</h2>", page_path.read_text())
    assert headings == [
        *("Severity", "Families of shifts", "Scores by seed", "In and out of distribution"),
        *("Validity of the signals", "Signals during an episode", "Tables"),
        *("Controls and power", "Provenance"),
    ]
    text = page_path.read_text()
    assert text.index('class="watermark"') < text.index("<h1>") < text.index("<h2>")
    assert text.count('<img src="data:image/png') == 20


def test_the_same_study_gives_the_same_page(page_path):
    assert html.render_page(study(), page_path.parent) == page_path.read_text()
    assert [path.name for path in page_path.parent.glob("*.part")] == []


def test_a_page_of_few_scores_is_written_without_a_verdict(tmp_path):
    few_rows = scores(("none", "fear"), 2, POINTS[:1])
    for rows in (few_rows, [], scores(("none",), 2, POINTS[:4]), scores(("none",), 3, POINTS[:4])):
        text = write_page(tmp_path, PageContent("Drive", rows, ("none", "fear"))).read_text()
        Reader(text)
        assert "No verdict" in text
        assert "watermark" not in text.partition("</style>")[2]


def test_statistics_and_page_are_quick(tmp_path):
    rows, start = scores(), time.monotonic()
    assert len(rows) == 7 * 20 * 40
    tables = all_tables(rows, ARMS, EVIL)
    write_page(tmp_path, study(rows=rows, tables=tables))
    assert time.monotonic() - start < 20


# --- in a browser ---------------------------------------------------------------------------------

browser = pytest.mark.skipif(page_browser.CHROMIUM is None, reason="there is no Chromium")


def brightness(colour: str) -> float:
    """Relative luminance of an `rgb(...)` (WCAG 2)."""
    channels = np.array(re.findall(r"\d+", colour)[:3], float) / 255
    linear = np.where(channels <= 0.04045, channels / 12.92, ((channels + 0.055) / 1.055) ** 2.4)
    return float(linear @ [0.2126, 0.7152, 0.0722])


@browser
@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
def test_every_figure_is_visible_at_every_width(page_path, tmp_path, dark):
    layouts = page_browser.measure_layout(page_path, tmp_path / "home", WIDTHS, dark)
    for width in WIDTHS:
        layout = layouts[f"w{width}"]
        assert (layout["width"], layout["wide"], layout["scripts"]) == (width, width, 0)
        assert (layout["hidden"], layout["out"]) == ([], [])
        assert layout["figures"] > len(SHIFTS) + 20
        assert layout["unticked"] == len(SHIFTS)  # the first box hides its arm in every panel
        assert layout["least"] > 8.5  # pixels, of the smallest letters in a figure
        paper, ink = brightness(layout["paper"]), brightness(layout["ink"])
        assert (paper < ink) == dark
        assert (max(paper, ink) + 0.05) / (min(paper, ink) + 0.05) > 7


@browser
def test_a_page_makes_no_request_and_logs_nothing(page_path, tmp_path):
    with page_browser.Proxy() as proxy:
        _, console = page_browser.load_page(page_path, tmp_path / "profile", *proxy.flags)
    assert console == []
    assert proxy.requests == []


@browser
def test_requests_and_console_messages_of_a_bad_page_are_detected(tmp_path):
    bad = tmp_path / "bad.html"
    bad.write_text("<img src='http://somewhere.invalid/x.png'><script>console.error('no')</script>")
    with page_browser.Proxy() as proxy:
        _, console = page_browser.load_page(bad, tmp_path / "profile", *proxy.flags)
    assert any("somewhere.invalid" in line for line in proxy.requests)
    assert any('"no"' in line for line in console)


@browser
def test_overflowing_hidden_and_tiny_elements_are_detected(tmp_path):
    bad = tmp_path / "bad.html"
    bad.write_text(
        "<body style='margin:0'><main><svg class='flat' width='900' height='2'></svg>"
        "<svg class='tiny' viewBox='0 0 99 99' width='99'><text x='0' y='9' font-size='3'>x</text>"
    )
    layout = page_browser.measure_layout(bad, tmp_path / "home", (420,), False)["w420"]
    assert (layout["hidden"], layout["out"]) == (["flat"], ["flat"])
    assert layout["wide"] > 420
    assert layout["least"] < 4
