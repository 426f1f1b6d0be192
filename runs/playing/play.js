"use strict";
// Sends the pressed keys at every step of a game, and shows its frame and signals.
{
  const STEPS_PER_SECOND = 10, KEPT = 300; // values of a curve
  const picture = document.querySelector("img"), note = document.querySelector(".note");
  const outputs = [...document.querySelectorAll("output")];
  const curves = [...document.querySelectorAll("canvas")].map((canvas) => ({ canvas, values: [] }));
  const pressed = new Set();
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
    note.textContent = `step ${state.step}, reward so far ${state.total.toFixed(2)}` +
      (state.ended ? `: ${state.ended}. The replay is in the file that the terminal names.` : "");
    state.signals.forEach((value, i) => {
      outputs[i].textContent = value === null ? "" : String(value);
      if (value !== null) curves[i].values = [...curves[i].values, value].slice(-KEPT);
      draw(curves[i]);
    });
  }

  async function play() {
    const begun = performance.now();
    const answer = await fetch("/step", { method: "POST", body: JSON.stringify([...pressed]) });
    const state = await answer.json();
    show(state);
    const rest = 1000 / STEPS_PER_SECOND - (performance.now() - begun);
    if (!state.ended) setTimeout(play, Math.max(rest, 0));
  }

  const nameOf = (event) => event.key.replace("Arrow", "").toLowerCase();
  const KNOWN = /^(up|down|left|right|\d)$/;
  let playing = false;
  addEventListener("keydown", (event) => {
    if (!KNOWN.test(nameOf(event))) return;
    event.preventDefault();
    pressed.add(nameOf(event));
    if (!playing) play();
    playing = true;
  });
  addEventListener("keyup", (event) => pressed.delete(nameOf(event)));
  show(JSON.parse(document.body.dataset.state));
  note.textContent = "Press an arrow or a digit to begin.";
}
