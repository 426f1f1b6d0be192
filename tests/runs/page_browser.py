"""Open a page in headless Chromium; return its console lines, its requests and its layout."""

import html
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import threading
from pathlib import Path

CHROMIUM = next(
    filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None
)
SECONDS = 90  # after which a browser that hangs is ended
FLAGS = (
    *("--headless=new", "--no-sandbox", "--disable-gpu", "--no-first-run", "--mute-audio"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync"),
    *("--disable-default-apps", "--disable-extensions", "--disable-dev-shm-usage"),
    *(
        "--hide-scrollbars",
        "--enable-logging=stderr",
        "--v=0",
        "--virtual-time-budget=5000",
        "--dump-dom",
    ),
)
BROWSER_REQUESTS = re.compile(r"^[A-Z]+ (\w+://)?[\w.-]+\.(google|googleapis|gstatic)\.com[:/]")
MEASURE = """
const size = svg => text => {
  const scale = svg.getScreenCTM().a;
  return parseFloat(getComputedStyle(text).fontSize) * scale;
};
const within = (element, width) => {
  const box = (element.parentElement.closest(".scroll") ?? element).getBoundingClientRect();
  return box.left >= -0.5 && box.right <= width + 0.5;
};
const labelColour = page => {
  const text = page.querySelector("svg text");
  return text ? getComputedStyle(text).fill : "";
};
const isHidden = element => getComputedStyle(element).display == "none";
const measure = page => {
  const width = page.documentElement.clientWidth;
  const figures = [...page.querySelectorAll("main svg, header svg, img")];
  const hidden = [], out = [], words = [];
  for (const figure of figures) {
    const box = figure.getBoundingClientRect();
    const title = figure.querySelector("title")?.textContent;
    const name = figure.alt || title || figure.className.baseVal;
    const broken = figure.tagName == "IMG" && !(figure.complete && figure.naturalWidth);
    if (box.width < 8 || box.height < 8 || broken) hidden.push(name);
    if (!within(figure, width)) out.push(name);
    const texts = figure.tagName == "IMG" ? [] : [...figure.querySelectorAll("text")];
    words.push(...texts.map(size(figure)));
    for (const text of texts)
      if (!within(text, width)) out.push(text.textContent);
  }
  for (const block of page.querySelectorAll("body > *, .scroll, p, h1, h2, li, .flag"))
    if (!within(block, width)) out.push(block.className || block.tagName);
  const box = page.querySelector(".legend input"), kind = box?.id.split("-").pop();
  box?.click();
  const ticked = [...page.querySelectorAll(`main .panel .${kind}`)].map(isHidden);
  box?.click();
  const style = page.defaultView.getComputedStyle(page.body);
  return {
    width, hidden, out, figures: figures.length, least: Math.min(...words),
    unticked: ticked.filter(Boolean).length,
    wide: page.documentElement.scrollWidth, scripts: page.scripts.length,
    paper: style.backgroundColor, ink: style.color, label: labelColour(page),
  };
};
"""
PLAY = """
const wait = milliseconds => new Promise(resolve => setTimeout(resolve, milliseconds));
const measure = async page => {
  const section = page.getElementById("timeline"), canvas = page.querySelector("canvas");
  const [first, back, play, ahead, last] = page.querySelectorAll(".player button");
  const slider = page.querySelector(".player input");
  const outputs = [...page.querySelectorAll("output")];
  const { Event, KeyboardEvent, PointerEvent } = page.defaultView;
  const press = (key, more) => section.dispatchEvent(
    new KeyboardEvent("keydown", { key, bubbles: true, cancelable: true, ...more }));
  const copy = new OffscreenCanvas(9, 9).getContext("2d", { willReadFrequently: true });
  const red = () => {
    copy.drawImage(canvas, 0, 0);
    return copy.getImageData(2, 2, 1, 1).data[0];
  };
  const state = () => ({
    step: Number(slider.value),
    red: red(),
    words: outputs.map(output => output.textContent),
    cursors: [...page.querySelectorAll(".cursor")].map(cursor => cursor.style.left),
    ended: [...page.querySelectorAll(".ended")].map(note => !note.hidden),
  });
  await wait(300);
  const states = { start: state() };
  ahead.click();
  press("ArrowRight");
  states.stepped = state();
  press("ArrowRight", { shiftKey: true });
  back.click();
  states.jumped = state();
  last.click();
  states.last = state();
  press("Home");
  states.home = state();
  play.click();
  states.playing = play.textContent;
  await wait(450);
  press(" ");
  const paused = state();
  await wait(200);
  states.played = state();
  states.paused = [paused.step, state().step, play.textContent];
  slider.value = 7;
  slider.dispatchEvent(new Event("input"));
  const plot = page.querySelector("[data-values]"), box = plot.getBoundingClientRect();
  const point = { clientX: box.left + box.width, clientY: box.top + 1, bubbles: true };
  plot.dispatchEvent(new PointerEvent("pointermove", point));
  states.hovered = state();
  plot.dispatchEvent(new PointerEvent("pointerdown", point));
  states.clicked = state();
  page.querySelector(".flag")?.click();
  states.flag = state();
  states.hidden = page.querySelectorAll("[hidden]").length;
  states.scripts = page.scripts.length;
  return states;
};
"""
IN_FRAMES = """
addEventListener("load", async () => {
  const measures = {};
  for (const frame of document.querySelectorAll("iframe"))
    measures[frame.id] = await measure(frame.contentDocument);
  document.body.textContent = "";
  document.title = JSON.stringify(measures);
});
"""


def scheme_flag(dark: bool) -> str:
    """Flag of Chromium with which pages are shown to somebody who prefers dark or light ones."""
    return f"--blink-settings=preferredColorScheme={0 if dark else 1}"


def load_page(page: Path | str, home: Path, *flags: str) -> tuple[str, list[str]]:
    """Load a file or URL in Chromium -> (its document after loading, lines of its console)."""
    url = page if isinstance(page, str) else page.as_uri()
    command = [CHROMIUM, *FLAGS, f"--user-data-dir={home}", *flags, url]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "stdin": subprocess.DEVNULL}
    browser = subprocess.Popen(command, start_new_session=True, **pipes)
    try:
        document, errors = browser.communicate(timeout=SECONDS)
    finally:
        if browser.poll() is None:
            os.killpg(browser.pid, signal.SIGKILL)
            browser.wait()
    lines = errors.decode(errors="replace").splitlines()
    return document.decode(errors="replace"), [line for line in lines if "CONSOLE" in line]


def measure_layout(
    page: Path, home: Path, widths: tuple[int, ...], dark: bool, script: str = MEASURE
) -> tuple[dict[str, dict], list[str]]:
    """Measure a page in frames of some widths -> measures by frame id (`w420`), complaints.

    Args:
        page: the file.
        home: a new folder, of the browser.
        widths: of the frames, in pixels.
        dark: whether the page is shown dark.
        script: defines `measure(page)`: the layout, or how the player answers (PLAY).

    Complaints are lines of the console, and requests.
    """
    source = html.escape(page.read_text())
    frames = [
        f'<iframe id="w{width}" style="width:{width}px;height:900px;border:0" srcdoc="{source}">'
        "</iframe>"
        for width in widths
    ]
    home.mkdir()
    wrapper = home / "wrapper.html"
    wrapper.write_text(
        f"<!doctype html><script>{script}{IN_FRAMES}</script><body>{''.join(frames)}"
    )
    flags = scheme_flag(dark), "--window-size=1400,1000"
    with Proxy() as proxy:
        document, console = load_page(wrapper, home / "profile", *flags, *proxy.flags)
    return measures(document), console + proxy.requests


def measures(document: str) -> dict[str, dict]:
    """Measures by frame id, which IN_FRAMES wrote into the title of a document."""
    title = re.search("<title>(.*?)</title>", document)
    assert title, document[-2000:]
    return json.loads(html.unescape(title[1]))


class Proxy:
    """Network proxy that records every request and answers none.

    Attributes:
        requests: the first line of every request, except those Chromium sends to Google itself.
    """

    def __enter__(self):
        self.requests: list[str] = []
        self.socket = socket.create_server(("127.0.0.1", 0))
        threading.Thread(target=self._listen, daemon=True).start()
        return self

    def __exit__(self, *_):
        self.socket.close()

    @property
    def flags(self) -> tuple[str, str]:
        """Flags that make Chromium send every request to this proxy."""
        host, port = self.socket.getsockname()
        return f"--proxy-server={host}:{port}", "--proxy-bypass-list=<-loopback>"

    def _listen(self):
        while True:
            try:
                connection, _ = self.socket.accept()
            except OSError:
                return
            with connection:
                connection.settimeout(2)
                try:
                    line = connection.recv(4096).decode(errors="replace").partition("\r\n")[0]
                except OSError:
                    line = "connected without a request"
                if not BROWSER_REQUESTS.search(line):
                    self.requests.append(line)
