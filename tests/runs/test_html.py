"""The HTML report: its text, well-formed and harmless markup, figures, and layout in a browser."""

import base64
import hashlib
import io
import re
import time
from html.parser import HTMLParser

import matplotlib
import numpy as np
import pytest
from matplotlib.figure import Figure
from PIL import Image

from envs.suite import Point
from runs.analysis import robustness, stats
from runs.analysis.robustness import ArmScores
from runs.analysis.scores import seed_means
from runs.prereg.ledger import Entry
from runs.report import figures, player
from runs.report.arm_style import BASELINE, COLOURS, KINDS, STYLE_SHEET, arm_styles
from runs.report.episode_trace import EpisodeTrace
from runs.report.html import render_page, write_page, write_replay
from runs.report.player import png_data_url, sheet_of_frames, steps_to_show, values_as_json
from runs.report.svg import STYLE, clipped, short, svg_text
from runs.report.tables import all_tables
from runs.report.verdict import Study, declared_contrasts, verdict_sentence
from tests.runs import page_browser
from tests.tiers import slow

EVIL = "<script>alert(1)</script>"
ARMS = ("none", "random", "constant_plus", EVIL, f"{EVIL}_sham", f"{EVIL}_constant", "lesion")
SHIFTS = {
    **{"ice": "dynamics", "fog": "sensor", "fog|cones": "sensor|layout", EVIL: "time"},
    **{"\"&'</svg>": "reward", "late $x_i$": "time|dynamics"},
}
POINTS = [Point("none", "none", 0.0)] + [
    Point(shift, family, severity) for shift, family in SHIFTS.items() for severity in (0.5, 1.0)
]
WIDTHS = (1280, 420)
LOOKS_TEXT = "dev looks 3, sealed looks 1; expected optimism of the best of 3: 1.0 standard errors"


def scores(arms=ARMS, seeds=20, points=POINTS, better=None) -> list[dict]:
    """Score rows; `better` maps an arm to what its mean score is higher by."""
    rng, rows = np.random.default_rng(0), []
    for arm in arms:
        seed_scores = rng.normal(0.7 + (better or {}).get(arm, 0.0), 0.05, seeds)
        for i, point in enumerate(points):
            drop = point.severity * (0.1 + 0.03 * i / len(points))
            for seed in range(seeds):
                score = float(np.clip(seed_scores[seed] - drop + 0.01 * rng.normal(), 0, 1))
                row = {"env": EVIL, "arm": arm, "seed": seed, "episodes": 256, "score": score}
                row |= {"success": score, "return": score, "length": 9.0, "harm": 1 - score}
                rows.append(row | point._asdict() | {"hidden": np.nan, "other_goal": np.nan})
    return rows


def entry(index=1, checkpoints=None, result=None) -> Entry:
    fields = "t" * 19, "c" * 40, True, "dev", "s" * 64, "p" * 64
    return Entry(index, "0" * 64, *fields, checkpoints or {}, 20, result, "h" * 64)


def study(**fields) -> Study:
    """What is stated about a study whose every name contains markup."""
    contrasts = ((f"{EVIL}_constant", "constant_plus"), (EVIL, "none"))
    stated = Study(
        *(EVIL, ARMS, 20, 1000, 256, f"python -m runs.compare --env '{EVIL}'", contrasts, 20),
        plan_hash="p" * 64,
        without=(EVIL,),
        changes=[f"env: {EVIL} was declared"],
        watermark=f"unverified: plan: {EVIL}",
        looks=LOOKS_TEXT,
        ledger=[entry(), entry(2, {EVIL: "c" * 64}, "r" * 64)],
    )
    return stated._replace(**fields)


def episode(length: int = 60, blunder: int | None = 20) -> EpisodeTrace:
    frames = np.zeros((length, 90, 160, 3), np.uint8)
    frames[..., 0] = np.arange(length)[:, None, None]
    frames[:, 30:60, 50:110] = (90, 160, 220)
    time = np.arange(length)
    signals = {EVIL: np.sin(time / 5), "hope": 0.01 * time, "lost": np.full(length, np.nan)}
    return EpisodeTrace(frames, signals, blunder, f"crash {EVIL}")


def readouts() -> list[dict]:
    metrics = {"auroc": 0.7, "return": 0.2, "rarity": np.nan}
    return [
        {"signal": name, "shift": shift, "seed": seed} | metrics | {"auroc": 0.6 + 0.01 * seed}
        for name in (EVIL, "critic")
        for shift in ("none", *SHIFTS)
        for seed in range(4)
    ]


def content() -> tuple:
    """Arguments of `render_page`, complete."""
    rows = scores()
    episodes = [("at home", episode()), (EVIL, episode(35, 34))]
    return study(), rows, all_tables(rows, study()), readouts(), episodes


@pytest.fixture(scope="module")
def page_path(tmp_path_factory):
    """Path of the report of that study."""
    return write_page(tmp_path_factory.mktemp("study"), *content())


@pytest.fixture(scope="module")
def replay_path(tmp_path_factory):
    """Path of the replay of its episodes."""
    return write_replay(tmp_path_factory.mktemp("replay") / "replay.html", EVIL, content()[-1])


# --- the verdict ----------------------------------------------------------------------------------

PAIR = Study(
    "Drive", ("calm", "plain"), 20, 1, 1, "", (("calm", "plain"),), 20, looks="dev looks 1"
)


@pytest.mark.parametrize(
    ("better", "comparison", "zero"),
    [(0.2, "does better than", "excludes"), (-0.2, "does worse than", "excludes")]
    + [(0.0, "does not differ significantly from", "includes")],
)
def test_verdict_states_contrast_interval_seeds_and_looks(better, comparison, zero):
    rows = scores(PAIR.arms, 20, POINTS[:4], {"calm": better})
    estimate = stats.difference(*seed_means(rows, PAIR.arms).values())
    assert verdict_sentence(rows, PAIR) == (
        f"In Drive, calm {comparison} plain: in the mean over shifts they differ by {estimate}, "
        f"a 95 % interval that {zero} zero, with 20 seeds each; dev looks 1."
    )


def test_verdict_warns_of_few_seeds():
    rows = scores(PAIR.arms, 5, POINTS[:4])
    assert "with 5 seeds each of 20 declared, which is few" in verdict_sentence(rows, PAIR)


def test_no_verdict_without_a_plan_or_enough_seeds():
    rows = scores(PAIR.arms[:1], 20, POINTS[:4]) + scores(PAIR.arms[1:], 2, POINTS[:4])
    assert verdict_sentence(rows, PAIR._replace(contrasts=())) == (
        "No verdict: no plan was declared, so every difference is exploratory; dev looks 1."
    )
    assert "as plain has 2 seeds with finite scores and 3 are needed; dev looks 1." in (
        verdict_sentence(rows, PAIR)
    )


def test_p_values_of_all_contrasts_are_holm_adjusted_together():
    rows = scores(better={EVIL: 0.05})
    means = seed_means(rows, ARMS)
    primary, secondary = declared_contrasts(rows, study())
    p_values = [stats.p_value(means[arm], means[base]) for arm, base in study().contrasts]
    adjusted = stats.holm(dict(enumerate(p_values)))
    assert [primary.p_holm, secondary.p_holm] == pytest.approx(list(adjusted.values()))
    assert secondary.estimate == stats.difference(means[EVIL], means["none"])


# --- elements -------------------------------------------------------------------------------------


def drawn(title="a picture", tips=None, **attributes) -> str:
    """SVG of two lines of one group and a text with markup."""
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(2, 1))
        axis = figure.subplots()
        for y in (0, 1):
            axis.plot([0, 1], [y, y], color=COLOURS["h0"], gid="arm f0 k1")
        axis.set_title("<b>$x$")
        return svg_text(figure, title, tips, **attributes)


def test_a_picture_has_css_colours_and_the_font_of_the_page():
    svg = drawn(class_="panel")
    assert svg.startswith('<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 144 72" role="img"')
    assert svg.count("stroke: var(--h0)") == 2 and COLOURS["h0"] not in svg
    assert "font-family" not in svg and "<style" not in svg
    assert (
        re.sub(r' id="[mp][0-9a-f]{10}"', "", svg).count(" id=") == 0
    )  # the others are referred to


def test_artists_of_one_gid_are_a_group_with_its_classes_and_tooltip():
    group = re.findall(
        r'<g class="arm f0 k1"><title>(.*?)</title>', drawn(tips={"arm f0 k1": "<i>"})
    )
    assert group == ["&lt;i&gt;"]
    assert drawn().count('class="arm f0 k1"') == 2  # without a tooltip they stay apart


def test_texts_of_a_picture_are_escaped():
    svg = drawn(title=EVIL)
    assert "&lt;b&gt;$x$</text>" in svg
    assert EVIL not in svg and "<title>&lt;script" in svg


def test_texts_of_numbers_and_names_are_short():
    values = (0.123, -12.34, 456.7, np.nan, 9.99, -0.001)
    assert [short(value) for value in values] == ["0.12", "−12.3", "457", "–", "10.0", "0.00"]
    assert clipped("curiosity_constant", 21) == "curiosity_constant"
    assert clipped("a_very_long_name_of_a_head_untrained", 21) == "a_very_lon…_untrained"


def test_an_extent_has_a_margin_unless_it_is_of_shares():
    assert figures.extent([np.array([0.0, 1.0])]) == pytest.approx((-0.06, 1.06))
    assert figures.extent([np.array([0.0, 1.0])], True) == (0.0, 1.0)
    assert figures.extent([np.array([np.nan])]) == (0.0, 1.0)
    low, high = figures.extent([np.array([3.0, 3.0])])
    assert low < 3 < high


def test_controls_share_the_colour_of_their_head_but_not_its_marker():
    styles = arm_styles(["none", "fear", "fear_sham", "fear_constant", "fear_untrained", "hope"])
    assert len({styles[a].colour for a in styles if a.startswith("fear")}) == 1
    assert len({styles["none"].colour, styles["fear"].colour, styles["hope"].colour}) == 3
    kinds = [style.kind for style in styles.values()]
    assert kinds == [BASELINE, *(KINDS[i] for i in (0, 2, 1, 3, 0))]
    assert len({(kind.marker, kind.hollow) for kind in (*KINDS, BASELINE)}) == 5
    assert arm_styles(["fear_sham"])["fear_sham"].kind is KINDS[0]  # there is no such head


def test_every_colour_of_the_light_page_has_one_for_the_dark_page():
    dark = re.findall(r"--(\w+):", STYLE_SHEET.partition("@media")[2].partition("* {")[0])
    assert sorted(dark) == sorted(COLOURS)


# --- figures --------------------------------------------------------------------------------------


def scores_by_arm(arms=("none", "fear"), **other) -> dict[str, ArmScores]:
    """Scores of each arm over seeds and points."""
    rows = scores(arms, **other)
    return {arm: robustness.arm_scores(rows, arm) for arm in arms}


def numbers(text: str) -> np.ndarray:
    """Coordinates of a path or of `x="..." y="..."`, in pairs."""
    return np.array(re.findall(r"-?[\d.]+", text), float).reshape(-1, 2)


def test_there_is_a_panel_per_shift_and_a_group_per_arm():
    arms = scores_by_arm()
    curves = figures.severity_curves(arms)
    panels = figures.severity_panels(curves, arm_styles(list(arms)), True)
    assert len(panels) == len(SHIFTS)
    assert all(panel.count('class="arm') == 2 for panel in panels)
    assert "ice: mean over seeds by arm" in panels[0] and "ice, fear: " in panels[0]


def test_a_panel_draws_the_mean_and_its_interval():
    bounds = np.array([[1.0, 0.5], [1.0, 0.25], [1.0, 0.75]])
    curves = {"ice": {"none": (np.array([0.0, 1.0]), bounds)}}
    [svg] = figures.severity_panels(curves, arm_styles(["none"]), True)
    low, high = figures.extent([bounds], True)
    (y, y_low, y_high) = 30 + 138 * (high - bounds) / (high - low)  # units from the top
    band, line, *_ = map(numbers, re.findall(r' d="([^"]*)"', svg.partition('class="arm')[2]))
    assert line == pytest.approx(np.array([[34, y[0]], [270, y[1]]]), abs=0.02)
    ends = 196 + np.sort(band[band[:, 0] > 200, 1])  # a band's origin is below its picture
    assert ends[[0, -1]] == pytest.approx([y_high[1], y_low[1]], abs=0.02)


def test_bounds_are_t_intervals_of_three_seeds_or_more():
    x = np.random.default_rng(0).normal(size=(7, 3))
    bounds = stats.mean_and_bounds(x)
    expected = np.array([stats.mean(x[:, i]) for i in range(3)])
    assert np.transpose(bounds) == pytest.approx(expected)
    assert stats.mean_and_bounds(x[:2]).tolist() == [x[:2].mean(0).tolist()] * 3
    x[1:5, 0], x[:, 1] = np.nan, np.nan  # missing seeds
    missing = stats.mean_and_bounds(x)
    assert missing[:, 0] == pytest.approx(stats.mean(x[[0, 5, 6], 0]))
    assert np.isnan(missing[:, 1]).all()


def test_the_worst_family_of_each_arm_is_framed():
    points = (Point("a", "sensor", 1.0), Point("b", "layout", 1.0))
    arms = {
        "none": ArmScores(np.ones(3), np.tile([0.9, 0.2], (3, 1)), points),
        "fear": ArmScores(np.ones(3), np.tile([0.3, 0.6], (3, 1)), points),
    }
    svg = figures.heat_map(arms)
    assert svg.count('class="worst"') == 2 and svg.count('class="cell"') == 4
    assert re.findall(r"font-weight: 700[^>]*>(.*?)</text>", svg) == [".20", ".30"]


def test_every_seed_is_drawn_as_a_dot():
    arms = scores_by_arm(seeds=11)
    styles = arm_styles(list(arms))
    scatter = figures.home_shift_scatter(arms, styles, "success")
    for svg in (*figures.seed_strips(arms, styles), scatter):
        assert len(re.findall("<use [^>]*fill-opacity: 0.42", svg)) == 22
    assert 'class="predicted"' in scatter


def test_the_predicted_line_fits_shifted_on_home_scores():
    home = np.array([0.2, 0.4, 0.6, 0.8])
    arms = {"none": ArmScores(home, home[:, None] / 2 + 0.1, (Point("a", "sensor", 1.0),))}
    svg = figures.home_shift_scatter(arms, arm_styles(["none"]), "return")
    [line] = re.findall(r'class="predicted"><path d="([^"]*)"', svg)
    (x1, y1), (x2, y2) = numbers(line)
    dots = re.findall(r'<use x="([\d.]+)" y="([\d.]+)" style="[^"]*0.42', svg)
    x, y = np.array(dots, float).T
    assert y1 + (x - x1) * (y2 - y1) / (x2 - x1) == pytest.approx(y, abs=0.1)


def test_validity_is_drawn_for_the_measures_that_are_known():
    panels = figures.validity_figures(readouts())
    assert [("rarity" in panel) for panel in panels] == [False, False]
    assert "critic: 0.61 in distribution, 0.61 ±0.02 over shifts, worst 0.61 under" in panels[0]
    assert figures.validity_figures([]) == []


# --- episodes -------------------------------------------------------------------------------------


@pytest.mark.parametrize(("length", "blunder"), [(60, 20), (60, None), (35, 34), (4, 0), (1, 0)])
def test_steps_shown_cover_an_episode_its_blunder_and_its_end(length, blunder):
    steps = steps_to_show(length, blunder)
    assert steps == sorted(set(steps))
    assert len(steps) >= min(length, 8)
    assert blunder is None or blunder in steps
    assert steps[-1] == length - 1
    assert max(np.diff([0, *steps])) <= 2 * -(-length // 10)


def test_a_frame_becomes_a_small_png_data_url():
    frame = np.full((360, 640, 3), (10, 200, 30), np.uint8)
    for shown, size in ((frame, (320, 180)), (frame[:40, :64], (320, 200))):
        kind, _, data = png_data_url(shown).partition(",")
        image = Image.open(io.BytesIO(base64.b64decode(data)))
        assert (kind, image.size) == ("data:image/png;base64", size)
        assert image.convert("RGB").getpixel((9, 9)) == (10, 200, 30)
        assert len(data) < 2_000


@pytest.mark.parametrize(
    ("frames", "count", "exact"),
    [
        (episode(60).frames, 60, True),
        (episode(61).frames[:, :5, :6], 61, True),
        (np.zeros((1, 4, 4, 3), np.uint8), 1, True),
        (np.random.default_rng(0).integers(0, 256, (40, 90, 160, 3), np.uint8), 10, False),
    ],
)
def test_frames_are_tiles_of_one_picture_that_is_not_too_large(frames, count, exact, monkeypatch):
    monkeypatch.setattr(player, "MAX_BYTES", 100_000)
    sheet = sheet_of_frames(frames)
    kind, _, data = sheet.url.partition(",")
    picture = np.asarray(Image.open(io.BytesIO(base64.b64decode(data))).convert("RGB"))
    assert kind == "data:image/webp;base64" and len(data) < 4 / 3 * 100_001
    assert (sheet.count, sheet.height, sheet.width) == (count, *frames.shape[1:3])
    rows = picture.reshape(-1, sheet.height, sheet.columns, sheet.width, 3)
    tiles = rows.swapaxes(1, 2).reshape(-1, *frames.shape[1:])[:count]
    steps = np.linspace(0, len(frames) - 1, count).round().astype(int)
    assert not exact or (tiles == frames[steps]).all()


def test_values_of_a_signal_are_json_without_what_is_not_finite():
    assert values_as_json(np.array([0.123456, np.nan, -np.inf, 3, 1e-9])) == (
        "[0.1235, null, null, 3.0, 1e-09]"
    )


def test_a_signal_has_the_same_scale_in_all_episodes():
    low = EpisodeTrace(np.zeros((3, 4, 4, 3), np.uint8), {"fear": np.array([0, 0.5, 1])}, None, "")
    high = low._replace(signals={"fear": np.array([0, 5, 10.0])})
    curves = [
        re.findall(r"<svg.*?</svg>", render_page(study(), [], episodes=episodes))[-len(episodes)]
        for episodes in ([("a", low)], [("a", low), ("b", high)])
    ]
    assert curves[0] != curves[1]


def test_the_blunder_is_marked_in_every_signal():
    text = render_page(study(), [], episodes=[("a", episode(61, 30))])
    assert text.count('class="moment"') == 3
    assert 'style="left:50.000%">blunder, step 30' in text
    assert "step 30, the blunder" in text
    text = render_page(study(), [], episodes=[("a", episode(61, None))])
    assert 'class="moment"' not in text and "blunder, step" not in text


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
    assert page_path.stat().st_size < 4_000_000
    check_loads_nothing(text)
    assert "".join(Reader(text).words).count(EVIL) > 20  # escaped, as text


def test_a_replay_is_small_balanced_and_loads_nothing(replay_path):
    text = replay_path.read_text()
    assert "".join(check_loads_nothing(text).words).count(EVIL) > 5
    assert text.count("<section") == 1 and "severity" not in text.partition("</style>")[2]


def test_a_page_without_an_episode_allows_no_script():
    text = render_page(study(), [])
    reader = Reader(text)
    assert "script" not in reader.tags
    assert [value for _, value in reader.attributes if value == player.POLICY]


def check_loads_nothing(text: str) -> Reader:
    """Check that a page loads nothing, and runs nothing but the player, whose hash it states."""
    reader = Reader(text)
    assert not {"iframe", "object", "embed", "form", "base"} & set(reader.tags)
    assert reader.tags.count("script") == 1
    script = text.rpartition("<script>")[2].partition("</script>")[0]
    assert script == player.SCRIPT and len(script.splitlines()) <= 300
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    assert not [name for name, _ in reader.attributes if name.startswith("on")]
    urls = [v for k, v in reader.attributes if k in ("src", "href", "xlink:href", "action")]
    assert {url[:5] for url in urls if url[0] != "#"} == {"data:"}
    ids = [value for key, value in reader.attributes if key == "id"]
    assert len(ids) == len(set(ids))
    assert {url[1:] for url in urls if url[0] == "#"} <= set(ids)
    [policy] = [value for _, value in reader.attributes if (value or "").startswith("default-src")]
    assert policy.startswith("default-src 'none'; ")
    assert policy.endswith(f"; script-src 'sha256-{digest}'")
    return reader


def test_a_page_has_its_sections_in_order(page_path):
    text = page_path.read_text()
    assert re.findall(r"<h2>(.*?)</h2>", text) == [
        *("Severity", "Families of shifts", "Scores by seed", "In and out of distribution"),
        *("Validity of the signals", "Signals during an episode", "Tables"),
        *("Controls and power", "Provenance"),
    ]
    assert text.index('class="watermark"') < text.index("<h1>") < text.index("<h2>")
    assert text.count('<img src="data:image/png') == 20


@pytest.mark.slow
def test_the_same_study_gives_the_same_page_in_seconds(page_path):
    start = time.process_time()
    assert render_page(*content()) == page_path.read_text()
    assert time.process_time() - start < 20
    assert [path.name for path in page_path.parent.iterdir()] == ["report.html"]


def test_a_page_of_few_scores_is_written_without_a_verdict():
    bare = Study("Drive", ("none", "fear"), 3, 1, 1)
    few_rows = scores(("none", "fear"), 2, POINTS[:1])
    for rows in (few_rows, [], scores(("none",), 2, POINTS[:4]), scores(("none",), 3, POINTS[:4])):
        text = render_page(bare, rows)
        Reader(text)
        assert "No verdict" in text and "There is no ledger" in text
        assert "watermark" not in text.partition("</style>")[2]


def test_a_long_ledger_and_its_hashes_are_shortened():
    text = render_page(study(ledger=[entry(i) for i in range(1, 16)]), [])
    assert "ledger, 15 lines, the first 3 not shown" in text
    assert f'<abbr title="{"s" * 64}"><code>{"s" * 10}</code></abbr>' in text
    assert "none yet" in text and " + changes" in text


# --- in a browser ---------------------------------------------------------------------------------

browser = pytest.mark.skipif(page_browser.CHROMIUM is None, reason="there is no Chromium")


def brightness(colour: str) -> float:
    """Relative luminance of an `rgb(...)` (WCAG 2)."""
    channels = np.array(re.findall(r"\d+", colour)[:3], float) / 255
    linear = np.where(channels <= 0.04045, channels / 12.92, ((channels + 0.055) / 1.055) ** 2.4)
    return float(linear @ [0.2126, 0.7152, 0.0722])


@browser
@pytest.mark.parametrize("dark", [slow(False), True], ids=["light", "dark"])
def test_every_figure_is_visible_at_every_width(page_path, tmp_path, dark):
    """And the page makes no request and logs nothing."""
    layouts, complaints = page_browser.measure_layout(page_path, tmp_path / "home", WIDTHS, dark)
    assert complaints == []
    for width in WIDTHS:
        layout = layouts[f"w{width}"]
        assert (layout["width"], layout["wide"], layout["scripts"]) == (width, width, 1)
        assert (layout["hidden"], layout["out"]) == ([], [])
        assert layout["figures"] > len(SHIFTS) + 20
        assert layout["unticked"] == len(SHIFTS)  # the first box hides its arm in every panel
        assert layout["least"] > 8.5  # pixels, of the smallest letters in a figure
        paper, *inks = map(brightness, (layout["paper"], layout["ink"], layout["label"]))
        for ink in inks:
            assert (paper < ink) == dark
            assert (max(paper, ink) + 0.05) / (min(paper, ink) + 0.05) > 4.5


@browser
def test_the_player_answers_buttons_keys_and_the_pointer(replay_path, tmp_path):
    """Its episodes have 60 and 35 steps; the red of a frame is its step."""
    inputs = replay_path, tmp_path / "home", WIDTHS, False, page_browser.PLAY
    states, complaints = page_browser.measure_layout(*inputs)
    assert complaints == []
    for width in WIDTHS:
        state = states[f"w{width}"]
        steps = {name: state[name]["step"] for name in ("start", "stepped", "jumped", "last")}
        assert steps == {"start": 0, "stepped": 2, "jumped": 11, "last": 59}
        assert [state[name]["red"] for name in steps] == list(steps.values())
        assert state["last"]["ended"] == [True, True] and state["home"]["ended"] == [False] * 2
        assert {x for x in state["last"]["cursors"]} == {"100%"}
        overall, sine, hope, lost, *_ = state["stepped"]["words"]
        assert (overall, sine) == ("step 2 of 59", "0.389 at step 2")
        assert (hope, lost) == ("0.02 at step 2", "– at step 2")
        assert state["playing"] == "Pause" and 5 < state["played"]["step"] < 59
        before, after, label = state["paused"]
        assert before == after and label == "Play"
        assert state["hovered"]["step"] == 7 and "at step 59" in state["hovered"]["words"][1]
        assert (state["clicked"]["step"], state["flag"]["step"]) == (59, 20)
        assert state["scripts"] == 1


@browser
def test_faults_of_a_bad_page_are_detected(tmp_path):
    bad = tmp_path / "bad.html"
    bad.write_text(
        "<body style='margin:0'><main><svg class='flat' width='900' height='2'></svg>"
        "<svg class='tiny' viewBox='0 0 99 99' width='99'><text x='0' y='9' font-size='3'>x</text>"
        "</svg></main><img src='http://somewhere.invalid/x.png'>"
        "<script>console.error('no')</script>"
    )
    layouts, complaints = page_browser.measure_layout(bad, tmp_path / "home", (420,), False)
    layout = layouts["w420"]
    assert any("somewhere.invalid" in line for line in complaints)
    assert any('"no"' in line for line in complaints)
    assert layout["out"] == ["flat"] and "flat" in layout["hidden"]
    assert layout["wide"] > 420
    assert layout["least"] < 4
