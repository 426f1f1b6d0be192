"use strict";
// Sends the pressed keys at every step of a game, and shows its frame and signals.
{
  const STEPS_PER_SECOND = 10, KEPT = 300; // values of a curve
  const picture = document.querySelector("img"), note = document.querySelector(".note");
  const outputs = [...document.querySelectorAll("output")];
  const curves = [...document.querySelectorAll("canvas")].map((canvas) => ({ canvas, values: [] }));
  const waits = document.body.dataset.waits === "True"; // whether steps are taken at keys alone
  const pressed = new Set(), tapped = new Set(); // held now, pressed since the last step
  const ink = getComputedStyle(document.body).color;

  /** Draws a curve through its values, between their extremes. */
  function draw({ canvas, values }) {
    const pen = canvas.getContext("2d"), { width, height } = canvas;
    const low = Math.min(...values), span = Math.max(...values) - low || 1;
    pen.clearRect(0, 0, width, height);
    pen.beginPath();
    values.forEach((value, i) =>
      pen.lineTo((i / KEPT) * width, height - 4 - ((value - low) / span) * (height - 8))
    );
    pen.strokeStyle = ink;
    pen.lineWidth = 2;
    pen.stroke();
  }

  function show(state) {
    picture.src = state.frame;
    note.textContent = state.refused || `step ${state.step}, reward so far ${state.total}` +
      (state.ended ? `: ${state.ended}. The replay is in the file that the terminal names.` : "");
    if (state.refused) return;
    state.signals.forEach((value, i) => {
      outputs[i].textContent = value === null ? "" : String(value);
      if (value !== null) curves[i].values = [...curves[i].values, value].slice(-KEPT);
      draw(curves[i]);
    });
  }

  /** Takes a step with these keys -> whether the game goes on. */
  async function step(keys) {
    try {
      const answer = await fetch("/step", { method: "POST", body: JSON.stringify(keys) });
      const state = await answer.json();
      show(state);
      return !state.ended;
    } catch {
      note.textContent = "The game has ended. Its replay is in the file that the terminal names.";
      return false;
    }
  }

  async function play() {
    const begun = performance.now(), keys = [...new Set([...pressed, ...tapped])];
    tapped.clear();
    if (!(await step(keys))) return;
    const rest = 1000 / STEPS_PER_SECOND - (performance.now() - begun);
    setTimeout(play, Math.max(rest, 0));
  }

  const nameOf = (event) => event.key.replace("Arrow", "").toLowerCase();
  const KNOWN = /^(up|down|left|right|\d)$/;
  let playing = false;
  addEventListener("keydown", async (event) => {
    const key = nameOf(event);
    if (!KNOWN.test(key)) return;
    event.preventDefault();
    pressed.add(key);
    tapped.add(key);
    if (playing) return;
    playing = true;
    if (!waits) play();
    else playing = !(await step([key]));
  });
  addEventListener("keyup", (event) => pressed.delete(nameOf(event)));
  addEventListener("blur", () => pressed.clear());
  show(JSON.parse(document.body.dataset.state));
  note.textContent = "Press a key to begin.";
}
