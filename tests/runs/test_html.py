"""The page of a study: what it says, that it is well formed and harmless, and how it looks."""

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
    size_figure,
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
LACKING = ("hidden", "other_goal")  # which these worlds do not report
LOOKED = "dev looks 3, sealed looks 1; expected optimism of the best of 3: 1.0 standard errors"


def scores(arms=ARMS, seeds=20, points=POINTS, better=None, spread=0.05) -> list[dict]:
    """Rows of arms that differ by `better`, by name, and by their seeds."""
    rng, rows = np.random.default_rng(0), []
    for arm in arms:
        luck = rng.normal(0.7 + (better or {}).get(arm, 0.0), spread, seeds)
        for i, point in enumerate(points):
            fall = point.severity * (0.1 + 0.03 * i / len(points))
            for seed in range(seeds):
                score = float(np.clip(luck[seed] - fall + 0.01 * rng.normal(), 0, 1))
                row = {"env": EVIL, "arm": arm, "seed": seed, "episodes": 256, "score": score}
                told = {"success": score, "return": score, "length": 9.0, "harm": 1 - score}
                rows.append(row | point._asdict() | told | dict.fromkeys(LACKING, np.nan))
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
    told = {"auroc": 0.7, "return": 0.2, "rarity": np.nan, "size": 16, "retention": 0.8}
    return [
        {"signal": name, "shift": shift, "seed": seed} | told | {"auroc": 0.6 + 0.01 * seed}
        for name in (EVIL, "critic")
        for shift in ("none", *SHIFTS)
        for seed in range(4)
    ] + [{"signal": EVIL, "shift": "none", "size": 4, "retention": 0.6, "auroc": 0.5}]


def study(**other) -> PageContent:
    rows = scores()
    recovery = [
        {"arm": arm, "seed": seed, "step": step, "score": step / 1e4 + 0.01 * seed}
        for arm in ("none", EVIL)
        for seed in range(4)
        for step in (0, 5000, 10000)
    ]
    fields = {
        **{"env": EVIL, "rows": rows, "arms": ARMS, "tables": all_tables(rows, ARMS, EVIL)},
        **{"plan": plan(), "command": f"python -m runs.compare --env '{EVIL}'"},
        **{"without": (EVIL,), "verified": f"unverified: plan: {EVIL}", "looked": LOOKED},
        **{"changed": [f"env: {EVIL} was declared"], "readouts": readouts()},
        **{"timelines": [episode("at home"), episode(EVIL, 35, 34)], "recovery": recovery},
        "machine": {"machine": f'two cores" onload="{EVIL}', "jax": "0.10.2"},
    }
    return PageContent(**fields | other)


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """The page of a study in which everything is named to do harm."""
    out = tmp_path_factory.mktemp("study")
    for result in (None, "r" * 64):
        evil = {EVIL: "c" * 64}
        ledger.append_entry(out / ledger.NAME, "dev", "s" * 64, plan().hash, evil, 20, result)
    return write_page(out, study())


# --- the verdict ----------------------------------------------------------------------------------

PAIR = ("calm", "plain")


def said(better: float, seeds: int = 20, looked: str = "dev looks 1, sealed looks 0") -> str:
    rows = scores(PAIR, seeds, POINTS[:4], {"calm": better})
    return verdict_sentence(rows, plan(PAIR, PAIR, secondary=()), looked)


def test_a_verdict_tells_the_contrast_its_interval_the_seeds_and_the_looks():
    rows = scores(PAIR, 20, POINTS[:4], {"calm": 0.2})
    found = stats.difference(*shifted_means(rows, PAIR).values())
    sentence = verdict_sentence(rows, plan(PAIR, PAIR, secondary=()), "dev looks 1, sealed looks 0")
    assert (
        f"calm does better than plain: in the mean over shifts they differ by {found}" in sentence
    )
    assert "excludes zero, with 20 seeds each; dev looks 1, sealed looks 0." in sentence


@pytest.mark.parametrize(
    ("better", "told", "zero"),
    [(0.2, "does better than", "excludes"), (-0.2, "does worse than", "excludes")]
    + [(0.0, "is not told apart from", "includes")],
)
def test_a_verdict_says_whether_the_interval_excludes_zero(better, told, zero):
    assert f"calm {told} plain" in said(better)
    assert f"{zero} zero" in said(better)


def test_a_verdict_warns_of_few_seeds():
    assert "with 5 seeds each of 20 declared, which is few" in said(0.2, 5)
    assert "few" not in said(0.2, 20)


def test_there_is_no_verdict_without_a_declaration_or_without_seeds():
    assert "exploratory; dev looks 2." in verdict_sentence(scores(PAIR, 3), None, "dev looks 2")
    rows = scores(PAIR[:1], 20, POINTS[:4]) + scores(PAIR[1:], 2, POINTS[:4])
    sentence = verdict_sentence(rows, plan(PAIR, PAIR, secondary=()), "")
    assert sentence.startswith("No verdict: ")
    assert "cannot be computed, as plain has 2 seeds that count and 3 are needed." in sentence


def test_a_seed_with_a_score_that_is_not_a_number_does_not_count():
    rows = scores(PAIR, 4, POINTS[:4])
    rows[1]["score"] = np.nan  # of the seed 1 of calm, in distribution
    assert {arm: len(own) for arm, own in shifted_means(rows, PAIR).items()} == {
        "calm": 3,
        "plain": 4,
    }


def test_contrasts_are_adjusted_together():
    rows = shifted_means(scores(better={EVIL: 0.05}), ARMS)
    primary, secondary = declared_contrasts(rows, plan())
    p_values = [
        stats.p_value(rows[f"{EVIL}_constant"], rows["constant_plus"]),
        stats.p_value(rows[EVIL], rows["none"]),
    ]
    adjusted = stats.holm(dict(enumerate(p_values)))
    assert [primary.p_value, secondary.p_value] == pytest.approx(list(adjusted.values()))
    assert secondary.estimate == stats.difference(rows[EVIL], rows["none"])
    lone = declared_contrasts(rows | {EVIL: rows[EVIL][:2]}, plan())
    assert lone[1].estimate is None
    assert lone[0].p_value == pytest.approx(p_values[0])


# --- elements -------------------------------------------------------------------------------------


def test_text_and_attributes_are_escaped_and_markup_is_not():
    assert node("p", "<b>", node("i", "&")) == "<p>&lt;b&gt;<i>&amp;</i></p>"
    assert node("a", href='"><x') == '<a href="&quot;&gt;&lt;x"></a>'
    assert join(["<", node("br"), None, 3]) == "&lt;<br>3"
    assert node("rect", x=1.0, stroke_width=2.50, class_="a", hidden=False) == (
        '<rect x="1" stroke-width="2.5" class="a"/>'
    )


def test_numbers_are_short_and_have_a_minus():
    assert [number(v) for v in (1.0, 0.126, -3.5, 100.0)] == ["1", "0.13", "-3.5", "100"]
    assert [short(v) for v in (0.123, -12.34, 456.7, np.nan)] == ["0.12", "−12.3", "457", "–"]
    assert minus("-0.00") == "0.00"


@pytest.mark.parametrize(
    ("low", "high", "found"),
    [
        (0.0, 1.0, [0, 0.25, 0.5, 0.75, 1]),
        (-0.31, 0.05, [-0.3, -0.2, -0.1, 0]),
        (12.0, 480.0, [100, 200, 300, 400]),
        (2.0, 2.0, [2.0]),
    ],
)
def test_ticks_are_round(low, high, found):
    assert ticks(low, high) == pytest.approx(found)


def test_a_long_name_keeps_its_ends():
    assert clipped("curiosity_constant", 21) == "curiosity_constant"
    assert clipped("a_very_long_name_of_a_head_scrambled", 21) == "a_very_lon…_scrambled"


def test_an_extent_has_room_and_shares_stay_shares():
    assert extent([np.array([0.0, 1.0])]) == pytest.approx((-0.06, 1.06))
    assert extent([np.array([0.0, 1.0])], True) == (0.0, 1.0)
    assert extent([np.array([np.nan])]) == (0.0, 1.0)
    low, high = extent([np.array([3.0, 3.0])])
    assert low < 3 < high


def test_controls_share_a_colour_and_not_a_mark():
    found = arm_styles(["none", "fear", "fear_sham", "fear_constant", "fear_scrambled", "hope"])
    assert len({found[a].colour for a in found if a.startswith("fear")}) == 1
    assert len({found["none"].colour, found["fear"].colour, found["hope"].colour}) == 3
    kinds = [look.kind for look in found.values()]
    assert kinds == [BASELINE, 0, 2, 1, 3, 0]
    assert len({marker(kind, 0, 0) for kind in range(BASELINE + 1)}) == BASELINE + 1


# --- figures --------------------------------------------------------------------------------------


def cells(arms=("none", "fear"), **other) -> dict[str, ArmScores]:
    rows = scores(arms, **other)
    return {arm: robustness.arm_scores(rows, arm) for arm in arms}


def test_there_is_a_panel_a_shift_and_a_curve_an_arm():
    counted = cells()
    panels = severity_curves.severity_curves(counted, arm_styles(list(counted)), "success")
    assert len(panels) == len(SHIFTS)
    assert all(panel.count('class="arm') == 2 and panel.count("band") == 2 for panel in panels)
    assert "ice: mean over seeds by arm" in panels[0]


def test_a_panel_draws_the_mean_and_its_interval():
    x = np.array([0.0, 1.0])
    series = {"none": (x, np.array([1.0, 0.5]), np.array([0.0, 0.25]))}
    drawn = severity_curves.draw_panel(
        "ice", series, arm_styles(["none"]), (0, 1), (0, 1), "severity"
    )
    assert 'd="M34 30L270 99"' in drawn  # from the upper left to the middle of the right
    assert 'd="M34 30L270 64.5L270 133.5L34 30Z"' in drawn


def test_intervals_are_those_of_the_statistics():
    x = np.random.default_rng(0).normal(size=(7, 3))
    middle, half = severity_curves.means_and_halves(x)
    for i in range(3):
        found = stats.mean(x[:, i])
        assert (middle[i], middle[i] - half[i]) == pytest.approx((found.value, found.low))
    assert severity_curves.means_and_halves(x[:2])[1].tolist() == [0, 0, 0]


def test_the_worst_family_of_each_arm_is_framed():
    points = (Point("a", "sensor", 1.0), Point("b", "layout", 1.0))
    counted = {
        "none": ArmScores(np.ones(3), np.tile([0.9, 0.2], (3, 1)), points),
        "fear": ArmScores(np.ones(3), np.tile([0.3, 0.6], (3, 1)), points),
    }
    drawn = score_figures.heat_map(counted)
    framed = re.findall(r'class="worst".*?<text[^>]*>(.*?)</text>', drawn)
    assert framed == [".20", ".30"]
    assert drawn.count('class="worst"') == 2


def test_every_seed_is_a_dot():
    counted = cells(seeds=11)
    for strip in score_figures.seed_strips(counted, arm_styles(list(counted))):
        assert len(re.findall(r"\dh0", strip)) == 22
    drawn = score_figures.home_shift_scatter(counted, arm_styles(list(counted)), "success")
    assert len(re.findall(r"\dh0", drawn)) == 22
    assert "predicted" in drawn


def test_wide_intervals_of_few_seeds_stay_in_the_picture():
    counted = cells(seeds=3)
    for strip in score_figures.seed_strips(counted, arm_styles(list(counted))):
        ends = re.findall(r'<line x1="([\d.-]+)"[^>]*x2="([\d.-]+)"[^>]*class="reach"', strip)
        left = score_figures.label_width(list(counted))
        assert len(ends) == len(counted)
        assert all(left < float(x) < score_figures.NARROW for pair in ends for x in pair)


def test_the_line_is_what_effective_robustness_measures_from():
    home = np.array([0.2, 0.4, 0.6, 0.8])
    points = (Point("a", "sensor", 1.0),)
    counted = {"none": ArmScores(home, home[:, None] / 2 + 0.1, points)}
    drawn = score_figures.home_shift_scatter(counted, arm_styles(["none"]), "return")
    dots = re.search(r'd="(M[^"]*h0)"', drawn)[1]
    x, y = np.array(re.findall(r"M([\d.]+) ([\d.]+)h0", dots), float).T
    ends = re.search(
        r'<line x1="([\d.]+)" y1="([\d.]+)" x2="([\d.]+)" y2="([\d.]+)" class="pred', drawn
    )
    x1, y1, x2, y2 = map(float, ends.groups())
    assert y1 + (x - x1) * (y2 - y1) / (x2 - x1) == pytest.approx(y, abs=0.1)


@pytest.mark.parametrize(("length", "blunder"), [(60, 20), (60, None), (35, 34), (4, 0), (1, 0)])
def test_pictures_cover_an_episode_with_its_blunder_and_its_end(length, blunder):
    steps = steps_to_show(length, blunder)
    assert steps == sorted(set(steps))
    assert len(steps) >= min(length, 8)
    assert blunder is None or blunder in steps
    assert steps[-1] == length - 1
    assert max(np.diff([0, *steps])) <= 2 * -(-length // 10)


def decoded(address: str) -> Image.Image:
    kind, _, content = address.partition(",")
    assert kind == "data:image/png;base64"
    return Image.open(io.BytesIO(base64.b64decode(content)))


def test_a_picture_is_a_small_png_of_what_is_there():
    frame = np.full((360, 640, 3), (10, 200, 30), np.uint8)
    image = decoded(png_data_url(frame))
    assert image.size == (320, 180)
    assert image.convert("RGB").getpixel((9, 9)) == (10, 200, 30)
    assert len(png_data_url(frame)) < 2_000
    assert decoded(png_data_url(frame[:40, :64])).size == (320, 200)  # enlarged by a whole number


def test_a_signal_has_one_scale_in_all_episodes():
    low = EpisodeFigure(
        "a", np.zeros((3, 4, 4, 3), np.uint8), {"fear": np.array([0, 0.5, 1])}, None, ""
    )
    high = low._replace(signals={"fear": np.array([0, 5, 10.0])})
    alone, [first, _] = episode_figures([low], {}), episode_figures([low, high], {})
    assert alone[0] != first
    assert "blunder" not in first


def test_the_blunder_is_marked_in_every_signal():
    [drawn] = episode_figures([episode("a", 61, 30)], {})
    assert drawn.count('class="moment"') == 3
    assert 'style="left:50.000%">blunder, step 30' in drawn
    assert "step 30, the blunder" in drawn


def test_validity_is_shown_where_it_is_known_and_sizes_where_they_differ():
    assert [("rarity" in panel) for panel in validity_figure(readouts())] == [False, False]
    assert len(size_figure(readouts())) == 2
    assert size_figure([row for row in readouts() if row["size"] == 16]) == []
    assert validity_figure([]) == []


def test_power_and_a_a_are_those_of_the_statistics():
    counted = cells()
    own = robustness.mean(counted["none"])
    drawn = control_table(counted, [])
    assert f"{stats.split_half_difference(own):+.3f}".replace("-", "−") in drawn
    assert f"{stats.detectable(own.std(ddof=1), 20):.3f}" in drawn
    assert f"{stats.seed_share(counted['none'].away):.2f}" in drawn


def test_a_ledger_is_cut_short_and_so_are_its_hashes(tmp_path):
    path = tmp_path / ledger.NAME
    assert "no ledger" in ledger_table(path)
    for i in range(15):
        ledger.append_entry(path, "dev", "s" * 64, "p" * 64, {}, 3, f"{i:064d}")
    drawn = ledger_table(path)
    assert "ledger, 15 lines, the first 3 not shown" in drawn
    assert f'<abbr title="{"s" * 64}"><code>{"s" * 10}</code></abbr>' in drawn


# --- the file -------------------------------------------------------------------------------------


class Reader(HTMLParser):
    """Checks that tags are balanced; remembers tags, attributes and identities."""

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


def test_a_page_is_small_and_balanced_and_harmless(made):
    text = made.read_text()
    assert made.stat().st_size < 2_000_000
    found = Reader(text)
    assert not {"script", "iframe", "object", "embed", "form", "base"} & set(found.tags)
    assert not [name for name, _ in found.attributes if name.startswith("on")]
    addresses = [v for k, v in found.attributes if k in ("src", "href", "xlink:href", "action")]
    assert {address[:5] for address in addresses if address[0] != "#"} == {"data:"}
    named = [value for key, value in found.attributes if key == "id"]
    assert len(named) == len(set(named))
    assert {address[1:] for address in addresses if address[0] == "#"} <= set(named)
    policy = [value for key, value in found.attributes if value == html.POLICY]
    assert policy and policy[0].startswith("default-src 'none'; ")
    assert "".join(found.words).count(EVIL) > 20  # it is there, as words


def test_a_page_has_its_parts_in_order(made):
    found = re.findall(r"<h2>(.*?)</h2>", made.read_text())
    assert found == [
        *("Severity", "Families of shifts", "Every seed", "In and out of distribution"),
        *("Recovery", "What the feelings know", "Size of the head"),
        *("What was felt, step by step", "Tables", "Controls and power", "Record"),
    ]
    text = made.read_text()
    assert text.index('class="watermark"') < text.index("<h1>") < text.index("<h2>")
    assert text.count('<img src="data:image/png') == 20


def test_the_same_study_gives_the_same_page(made):
    assert html.render_page(study(), made.parent) == made.read_text()
    assert [path.name for path in made.parent.glob("*.part")] == []


def test_a_page_of_little_still_stands(tmp_path):
    few = scores(("none", "fear"), 2, POINTS[:1])
    for rows in (few, [], scores(("none",), 2, POINTS[:4]), scores(("none",), 3, POINTS[:4])):
        text = write_page(tmp_path, PageContent("Drive", rows, ("none", "fear"))).read_text()
        Reader(text)
        assert "No verdict" in text
        assert "watermark" not in text.partition("</style>")[2]


def test_statistics_and_page_are_quick(tmp_path):
    rows, began = scores(), time.monotonic()
    assert len(rows) == 7 * 20 * 40
    shown = all_tables(rows, ARMS, EVIL)
    write_page(tmp_path, study(rows=rows, tables=shown))
    assert time.monotonic() - began < 20


# --- in a browser ---------------------------------------------------------------------------------

browser = pytest.mark.skipif(page_browser.CHROMIUM is None, reason="there is no Chromium")


def brightness(colour: str) -> float:
    """Relative luminance of an `rgb(...)` (WCAG 2)."""
    part = np.array(re.findall(r"\d+", colour)[:3], float) / 255
    linear = np.where(part <= 0.04045, part / 12.92, ((part + 0.055) / 1.055) ** 2.4)
    return float(linear @ [0.2126, 0.7152, 0.0722])


@browser
@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
def test_every_figure_is_seen_at_every_width(made, tmp_path, dark):
    found = page_browser.measured(made, tmp_path / "home", WIDTHS, dark)
    for width in WIDTHS:
        seen = found[f"w{width}"]
        assert (seen["width"], seen["wide"], seen["scripts"]) == (width, width, 0)
        assert (seen["hidden"], seen["out"]) == ([], [])
        assert seen["figures"] > len(SHIFTS) + 20
        assert seen["unticked"] == len(SHIFTS)  # the first box hides its arm in every panel
        assert seen["least"] > 8.5  # pixels, of the smallest letters in a figure
        paper, ink = brightness(seen["paper"]), brightness(seen["ink"])
        assert (paper < ink) == dark
        assert (max(paper, ink) + 0.05) / (min(paper, ink) + 0.05) > 7


@browser
def test_a_page_asks_nobody_and_complains_of_nothing(made, tmp_path):
    with page_browser.Proxy() as proxy:
        _, console = page_browser.opened(made, tmp_path / "profile", *proxy.flags)
    assert console == []
    assert proxy.asked == []


@browser
def test_a_page_that_asks_and_complains_would_be_seen(tmp_path):
    bad = tmp_path / "bad.html"
    bad.write_text("<img src='http://somewhere.invalid/x.png'><script>console.error('no')</script>")
    with page_browser.Proxy() as proxy:
        _, console = page_browser.opened(bad, tmp_path / "profile", *proxy.flags)
    assert any("somewhere.invalid" in line for line in proxy.asked)
    assert any('"no"' in line for line in console)


@browser
def test_what_is_too_wide_or_not_there_would_be_seen(tmp_path):
    bad = tmp_path / "bad.html"
    bad.write_text(
        "<body style='margin:0'><main><svg class='flat' width='900' height='2'></svg>"
        "<svg class='tiny' viewBox='0 0 99 99' width='99'><text x='0' y='9' font-size='3'>x</text>"
    )
    seen = page_browser.measured(bad, tmp_path / "home", (420,), False)["w420"]
    assert (seen["hidden"], seen["out"]) == (["flat"], ["flat"])
    assert seen["wide"] > 420
    assert seen["least"] < 4
