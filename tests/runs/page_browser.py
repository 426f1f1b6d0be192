"""A page in headless Chromium: what it says on the console, whom it calls, where things lie."""

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
QUIET = (
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
HOMES = re.compile(r"^[A-Z]+ (\w+://)?[\w.-]+\.(google|googleapis|gstatic)\.com[:/]")
MEASURE = """
const size = svg => text => {
  const scale = svg.getScreenCTM().a;
  return parseFloat(getComputedStyle(text).fontSize) * scale;
};
const within = (one, width) => {
  const box = (one.parentElement.closest(".scroll") ?? one).getBoundingClientRect();
  return box.left >= -0.5 && box.right <= width + 0.5;
};
const gone = one => getComputedStyle(one).display == "none";
addEventListener("load", () => {
  const found = {};
  for (const frame of document.querySelectorAll("iframe")) {
    const page = frame.contentDocument, width = page.documentElement.clientWidth;
    const figures = [...page.querySelectorAll("main svg, header svg, img")];
    const hidden = [], out = [], words = [];
    for (const one of figures) {
      const box = one.getBoundingClientRect();
      const name = one.alt || one.querySelector("title")?.textContent || one.className.baseVal;
      const broken = one.tagName == "IMG" && !(one.complete && one.naturalWidth);
      if (box.width < 8 || box.height < 8 || broken) hidden.push(name);
      if (!within(one, width)) out.push(name);
      const texts = one.tagName == "IMG" ? [] : [...one.querySelectorAll("text")];
      words.push(...texts.map(size(one)));
      for (const text of texts)
        if (!within(text, width)) out.push(text.textContent);
    }
    for (const one of page.querySelectorAll("body > *, .scroll, p, h1, h2, li, .flag"))
      if (!within(one, width)) out.push(one.className || one.tagName);
    const box = page.querySelector(".legend input"), kind = box?.id.split("-").pop();
    box?.click();
    const ticked = [...page.querySelectorAll(`main .panel .${kind}`)].map(gone);
    box?.click();
    const style = page.defaultView.getComputedStyle(page.body);
    found[frame.id] = {
      width, hidden, out, figures: figures.length, least: Math.min(...words),
      unticked: ticked.filter(Boolean).length,
      wide: page.documentElement.scrollWidth, scripts: page.scripts.length,
      paper: style.backgroundColor, ink: style.color,
    };
  }
  document.body.textContent = "";
  document.title = JSON.stringify(found);
});
"""


def opened(page: Path, home: Path, *flags: str) -> tuple[str, list[str]]:
    """The document as it is after loading, and the lines of the console."""
    command = [CHROMIUM, *QUIET, f"--user-data-dir={home}", *flags, page.as_uri()]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "stdin": subprocess.DEVNULL}
    browser = subprocess.Popen(command, start_new_session=True, **pipes)
    try:
        said, errors = browser.communicate(timeout=SECONDS)
    finally:
        if browser.poll() is None:
            os.killpg(browser.pid, signal.SIGKILL)
            browser.wait()
    lines = errors.decode(errors="replace").splitlines()
    return said.decode(errors="replace"), [line for line in lines if "CONSOLE" in line]


def measured(page: Path, home: Path, widths: tuple[int, ...], dark: bool) -> dict[str, dict]:
    """Where everything lies at some widths, the page itself as it is, in frames of these widths."""
    source = html.escape(page.read_text())
    frames = [
        f'<iframe id="w{width}" style="width:{width}px;height:900px;border:0" srcdoc="{source}">'
        "</iframe>"
        for width in widths
    ]
    home.mkdir()
    around = home / "around.html"
    around.write_text(f"<!doctype html><script>{MEASURE}</script><body>{''.join(frames)}")
    scheme = f"--blink-settings=preferredColorScheme={0 if dark else 1}"
    said, console = opened(around, home / "profile", scheme, "--window-size=1400,1000")
    assert console == []
    found = re.search("<title>(.*?)</title>", said)
    assert found, said[-2000:]
    return json.loads(html.unescape(found[1]))


class Proxy:
    """Whoever asks for anything from a network has to ask here, and gets nothing.

    Attributes:
        asked: the first line of every request, but for those by which Chromium calls home.
    """

    def __enter__(self):
        self.asked: list[str] = []
        self.socket = socket.create_server(("127.0.0.1", 0))
        threading.Thread(target=self._listen, daemon=True).start()
        return self

    def __exit__(self, *_):
        self.socket.close()

    @property
    def flags(self) -> tuple[str, str]:
        """For a browser that is to ask here."""
        host, port = self.socket.getsockname()
        return f"--proxy-server={host}:{port}", "--proxy-bypass-list=<-loopback>"

    def _listen(self):
        while True:
            try:
                caller, _ = self.socket.accept()
            except OSError:
                return
            with caller:
                caller.settimeout(2)
                try:
                    line = caller.recv(4096).decode(errors="replace").partition("\r\n")[0]
                except OSError:
                    line = "connected, and said nothing"
                if not HOMES.search(line):
                    self.asked.append(line)
