"use strict";
// Plays recorded episodes: draws their frames and moves a cursor over the signals of each step.
// All texts are in the page already; the script reads numbers alone, and writes text alone.
{
  const STEPS_PER_SECOND = 25, JUMP = 10; // at speed 1; steps of a key pressed with Shift

  const section = document.getElementById("timeline");
  const bar = section.querySelector(".player");
  const [first, back, play, ahead, last] = bar.querySelectorAll("button");
  const slider = bar.querySelector("input");
  const speed = bar.querySelector("select");
  const place = bar.querySelector("output");

  /** Number with three digits, or a dash for what is not a number. */
  const digits = (value) =>
    value === null ? "–" : String(Number(value.toPrecision(3))).replace("-", "−");

  /** Step of an episode of so many steps at which the pointer is over a plot. */
  const stepUnder = (event, plot, length) => {
    const box = plot.getBoundingClientRect();
    const share = (event.clientX - box.left) / Math.max(box.width, 1);
    return Math.round(Math.min(Math.max(share, 0), 1) * (length - 1));
  };

  /** A signal of an episode: its cursor, and its value in words. */
  function makeSignal(plot, length) {
    const values = JSON.parse(plot.dataset.values);
    const reading = plot.parentElement.querySelector("output");
    const cursor = plot.appendChild(document.createElement("i"));
    cursor.className = "cursor";
    let current = 0;
    const read = (step) => {
      reading.textContent = `${digits(values[step])} at step ${step}`;
    };
    plot.addEventListener("pointermove", (event) => {
      const step = stepUnder(event, plot, length);
      if (event.buttons & 1) seek(step);
      read(step);
    });
    plot.addEventListener("pointerleave", () => read(current));
    plot.addEventListener("pointerdown", (event) => seek(stepUnder(event, plot, length)));
    return (step) => {
      current = step;
      cursor.style.left = `${(100 * step) / Math.max(length - 1, 1)}%`;
      read(step);
    };
  }

  /** An episode -> [its number of steps, a function that shows a step]. */
  function makeEpisode(figure) {
    const [length, count, columns] = ["length", "count", "columns"].map((key) =>
      Number(figure.dataset[key])
    );
    const canvas = figure.querySelector("canvas");
    const { width, height } = canvas;
    const pen = canvas.getContext("2d");
    const sheet = new Image();
    const signals = [...figure.querySelectorAll("[data-values]")].map((plot) =>
      makeSignal(plot, length)
    );
    const marks = [...figure.querySelectorAll("[data-step]")];
    const ended = figure.querySelector(".ended");
    let current = 0;
    const draw = () => {
      if (!sheet.naturalWidth) return;
      const tile = Math.round((current * (count - 1)) / Math.max(length - 1, 1));
      const x = (tile % columns) * width, y = Math.floor(tile / columns) * height;
      pen.drawImage(sheet, x, y, width, height, 0, 0, width, height);
    };
    sheet.addEventListener("load", draw);
    sheet.src = canvas.dataset.sheet;
    for (const mark of marks) mark.addEventListener("click", () => seek(Number(mark.dataset.step)));
    figure.querySelector(".stage").hidden = false;
    const show = (step) => {
      current = Math.min(step, length - 1);
      draw();
      ended.hidden = current < length - 1;
      for (const signal of signals) signal(current);
      for (const mark of marks) mark.classList.toggle("now", Number(mark.dataset.step) === current);
    };
    return [length, show];
  }

  let now = 0, timer = null;
  const episodes = [...section.querySelectorAll(".timeline")].map(makeEpisode);
  const end = Math.max(...episodes.map(([length]) => length)) - 1;

  /** Shows a step in all episodes; those that are shorter stay at their last one. */
  function seek(step) {
    now = Math.min(Math.max(step, 0), end);
    slider.value = now;
    place.textContent = `step ${now} of ${end}`;
    for (const [, show] of episodes) show(now);
  }

  function pause() {
    clearInterval(timer);
    timer = null;
    play.textContent = "Play";
  }

  function start() {
    if (now === end) seek(0);
    const interval = 1000 / (STEPS_PER_SECOND * Number(speed.value));
    timer = setInterval(() => (now < end ? seek(now + 1) : pause()), interval);
    play.textContent = "Pause";
  }

  const toggle = () => (timer === null ? start() : pause());
  const go = (step) => {
    pause();
    seek(step);
  };
  const KEYS = {
    " ": toggle,
    ArrowLeft: (event) => go(now - (event.shiftKey ? JUMP : 1)),
    ArrowRight: (event) => go(now + (event.shiftKey ? JUMP : 1)),
    Home: () => go(0),
    End: () => go(end),
  };

  first.addEventListener("click", KEYS.Home);
  back.addEventListener("click", () => go(now - 1));
  play.addEventListener("click", toggle);
  ahead.addEventListener("click", () => go(now + 1));
  last.addEventListener("click", KEYS.End);
  slider.addEventListener("input", () => go(Number(slider.value)));
  speed.addEventListener("change", () => {
    if (timer === null) return;
    pause();
    start();
  });
  section.addEventListener("keydown", (event) => {
    const { key, target } = event;
    const own = { SELECT: true, BUTTON: key === " ", INPUT: key !== " " }[target.tagName];
    const modified = event.ctrlKey || event.metaKey || event.altKey;
    if (own || modified || !Object.hasOwn(KEYS, key)) return;
    event.preventDefault();
    KEYS[key](event);
  });

  section.tabIndex = -1; // a click gives it the keyboard
  section.classList.add("plays");
  bar.hidden = false;
  slider.max = end;
  seek(0);
  if (document.body.classList.contains("replay")) section.focus({ preventScroll: true });
}
