/** Three small charts over one time axis: rate, latency, queue; what the pointer or the arrow keys read; a table. */

import { element } from "./dom.js";
import { count, milliseconds, rate } from "./format.js";
import { LEFT, Panel, RIGHT } from "./panel.js";
import { SPAN_S } from "./series.js";

const PANELS = [
  {
    title: "Requests",
    height: 80,
    least: 1,
    unit: rate,
    lines: [
      { key: "requests_per_s", name: "all", look: "rate", filled: true },
      { key: "failed_per_s", name: "failed", look: "failed", filled: true, quietAtZero: true },
    ],
  },
  {
    title: "Latency",
    height: 104,
    least: 1,
    unit: milliseconds,
    lines: [
      { key: "p99_ms", name: "p99", look: "p99" },
      { key: "p95_ms", name: "p95", look: "p95" },
      { key: "p50_ms", name: "p50", look: "p50" },
    ],
  },
  {
    title: "Queue",
    height: 52,
    least: 2,
    unit: count,
    lines: [{ key: "queue", name: "waiting", look: "queue", filled: true }],
  },
];

export class Chart {
  #series;
  #panels;
  #width = 0;
  #pointed = null; // seconds before now that the pointer or the keyboard reads, or null
  #table;
  #details;

  constructor(root, series) {
    this.#series = series;
    this.#panels = PANELS.map((panel, index) => new Panel(panel, index === PANELS.length - 1));
    const plots = element("div", {
      class: "plots",
      tabindex: "0",
      role: "group",
      "aria-label": "Charts of the last two minutes; the arrow keys read single seconds",
    });
    plots.append(...this.#panels.map((panel) => panel.root));
    this.#table = element("tbody");
    const heads = ["Time", "Requests", "Failed", "p50", "p95", "p99", "Queue"].map((text) =>
      element("th", { scope: "col" }, text),
    );
    this.#details = element(
      "details",
      { class: "more" },
      element("summary", {}, "As a table"),
      element(
        "div",
        { class: "scroll" },
        element("table", {}, element("thead", {}, element("tr", {}, heads)), this.#table),
      ),
    );
    root.append(plots, this.#details);
    new ResizeObserver(([entry]) => {
      this.#width = Math.floor(entry.contentRect.width);
      this.draw();
    }).observe(plots);
    plots.addEventListener("pointermove", (event) =>
      this.#point(this.#secondsAt(event.clientX - plots.getBoundingClientRect().left)),
    );
    plots.addEventListener("pointerleave", () => this.#point(null));
    plots.addEventListener("blur", () => this.#point(null));
    plots.addEventListener("keydown", (event) => this.#onKey(event));
    this.#details.addEventListener("toggle", () => this.#fillTable(series.recent));
  }

  /** Bring it up to date. */
  draw() {
    if (this.#width < 120) return;
    const samples = this.#series.recent;
    const now = this.#series.now;
    const pointed = this.#pointed === null ? null : nearest(samples, now - this.#pointed);
    this.#panels.forEach((panel) => panel.draw(samples, now, this.#width, pointed));
    this.#fillTable(samples);
  }

  #secondsAt(x) {
    const share = (x - LEFT) / (this.#width - LEFT - RIGHT);
    return SPAN_S * (1 - Math.min(Math.max(share, 0), 1));
  }

  #point(seconds) {
    this.#pointed = seconds;
    this.draw();
  }

  #onKey(event) {
    const step = { ArrowLeft: 1, ArrowRight: -1, PageUp: 10, PageDown: -10 }[event.key];
    if (event.key === "Escape") this.#point(null);
    if (!step) return;
    event.preventDefault();
    this.#point(Math.min(Math.max((this.#pointed ?? 1) + step, 0), SPAN_S));
  }

  #fillTable(samples) {
    if (!this.#details.open) return;
    const rows = samples
      .slice(-20)
      .reverse()
      .map((sample) => [
        new Date(sample.at * 1000).toLocaleTimeString("en-GB"),
        rate(sample.requests_per_s),
        rate(sample.failed_per_s),
        milliseconds(sample.p50_ms),
        milliseconds(sample.p95_ms),
        milliseconds(sample.p99_ms),
        count(sample.queue),
      ]);
    this.#table.replaceChildren(
      ...rows.map((cells) =>
        element(
          "tr",
          {},
          cells.map((cell) => element("td", {}, cell)),
        ),
      ),
    );
  }
}

function nearest(samples, at) {
  return samples.reduce(
    (best, sample) => (best && Math.abs(best.at - at) <= Math.abs(sample.at - at) ? best : sample),
    null,
  );
}
