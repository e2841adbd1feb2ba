/**
 * One chart, drawn by hand as SVG once a second, in the page's own pixels so that lines and letters
 * stay sharp; colours are the style sheet's.
 */

import { element, setText, shape } from "./dom.js";
import { SPAN_S } from "./series.js";

/** Room beside the plot, in pixels; on the left for the y axis' words. */
export const LEFT = 58;
export const RIGHT = 12;
const TOP = 8;
const TIME_MARKS_S = [120, 90, 60, 30, 0];
const GAP_S = 1.8; // samples further apart than this are not joined

/** A round number at or above `value` and its half: 1, 1.5, 2, 3, 4, 5, 6, 8 or 10 times a power of ten. */
export function ceilingOf(value, least) {
  const wanted = Math.max(value, least);
  const power = 10 ** Math.floor(Math.log10(wanted));
  return [1, 1.5, 2, 3, 4, 5, 6, 8, 10].find((step) => step * power >= wanted * 0.999) * power;
}

/** One of the charts: its heading with the current numbers, and its plot. */
export class Panel {
  constructor({ title, height, least, unit, lines }, isLast) {
    Object.assign(this, { title, height, least, unit, lines, bottom: height - 4 });
    this.isLast = isLast;
    this.values = lines.map((line) => element("b"));
    this.when = element("span", { class: "quiet when" });
    const legend = lines.map((line, index) =>
      element("span", { class: `key ${line.look}` }, `${line.name} `, this.values[index]),
    );
    this.svg = shape("svg", { role: "img", height: isLast ? height + 14 : height });
    this.root = element(
      "figure",
      {},
      element("figcaption", {}, element("span", { class: "name" }, title), legend, this.when),
      this.svg,
    );
  }

  draw(samples, now, width, pointed) {
    const last = samples.at(-1);
    const shown = pointed ?? last;
    this.lines.forEach((line, index) => setText(this.values[index], this.unit(shown?.[line.key] ?? null)));
    setText(this.when, pointed ? new Date(pointed.at * 1000).toLocaleTimeString("en-GB") : "");
    const values = samples
      .flatMap((sample) => this.lines.map((line) => sample[line.key]))
      .filter((value) => value !== null);
    const top = ceilingOf(Math.max(0, ...values), this.least);
    const { bottom } = this;
    const x = (at) => LEFT + (width - LEFT - RIGHT) * (1 - Math.min(Math.max((now - at) / SPAN_S, 0), 1));
    const y = (value) => bottom - (bottom - TOP) * (value / top);
    this.svg.setAttribute("width", width);
    this.svg.setAttribute("aria-label", this.#words(samples));
    this.svg.replaceChildren(
      ...this.#grid(top, y, width),
      ...timeMarks(x, now, bottom, width, this.isLast),
      ...this.lines.flatMap((line) => plot(samples, line, x, y, bottom)),
      ...(values.length
        ? []
        : [
            shape(
              "text",
              { class: "mark empty", x: (LEFT + width) / 2, y: (TOP + bottom) / 2 + 4, "text-anchor": "middle" },
              "no requests",
            ),
          ]),
      ...(pointed ? this.#pointer(pointed, x, y, bottom) : []),
    );
  }

  #grid(top, y, width) {
    const marks = this.height > 60 ? [0, top / 2, top] : [0, top];
    return marks.flatMap((value) => [
      shape("line", {
        class: value ? "grid" : "axis",
        x1: LEFT,
        x2: width - RIGHT,
        y1: Math.round(y(value)) + 0.5,
        y2: Math.round(y(value)) + 0.5,
      }),
      shape(
        "text",
        { class: "mark", x: LEFT - 8, y: y(value) + 3.5, "text-anchor": "end" },
        value ? this.unit(value).replace(/\.0+(?=\D|$)/, "") : "0",
      ),
    ]);
  }

  #pointer(sample, x, y, bottom) {
    const at = x(sample.at);
    const dots = this.lines
      .filter((line) => sample[line.key] !== null)
      .map((line) => shape("circle", { class: `dot ${line.look}`, cx: at, cy: y(sample[line.key]), r: 3 }));
    return [shape("line", { class: "pointer", x1: at, x2: at, y1: TOP, y2: bottom }), ...dots];
  }

  /** What someone hears who does not see it. */
  #words(samples) {
    const said = this.lines.map(({ key, name }) => {
      const values = samples.map((sample) => sample[key]).filter((value) => value !== null);
      if (!values.length) return `${name}: nothing`;
      return `${name}: now ${this.unit(samples.at(-1)[key])}, at most ${this.unit(Math.max(...values))}`;
    });
    return `${this.title} of the last two minutes. ${said.join("; ")}.`;
  }
}

function timeMarks(x, now, bottom, width, withWords) {
  const marks = TIME_MARKS_S.filter((ago) => width > 380 || ago % 60 === 0);
  return marks.flatMap((ago) => {
    const at = Math.round(x(now - ago)) + 0.5;
    const line = shape("line", { class: "grid", x1: at, x2: at, y1: TOP, y2: bottom });
    if (!withWords) return [line];
    const anchor = ago === 0 ? "end" : ago === SPAN_S ? "start" : "middle";
    const words = ago === 0 ? "now" : ago % 60 ? `−${ago} s` : `−${ago / 60} min`;
    return [line, shape("text", { class: "mark", x: at, y: bottom + 15, "text-anchor": anchor }, words)];
  });
}

function plot(samples, line, x, y, bottom) {
  const runs = runsOf(samples, line);
  const points = (run) => run.map((sample) => `${x(sample.at).toFixed(1)} ${y(sample[line.key]).toFixed(1)}`).join("L");
  const strokes = runs.map((run) => `M${points(run)}${run.length === 1 ? "h.01" : ""}`).join("");
  const areas = runs.map(
    (run) => `M${x(run[0].at).toFixed(1)} ${bottom}L${points(run)}L${x(run.at(-1).at).toFixed(1)} ${bottom}Z`,
  );
  return [
    line.filled ? shape("path", { class: `area ${line.look}`, d: areas.join("") }) : null,
    shape("path", { class: `line ${line.look}`, d: strokes }),
  ].filter(Boolean);
}

/** The samples that have this number, split where seconds are missing. */
function runsOf(samples, { key, quietAtZero }) {
  const runs = [];
  for (const sample of samples) {
    if (sample[key] === null || (quietAtZero && !sample[key])) continue;
    const run = runs.at(-1);
    if (run && sample.at - run.at(-1).at <= GAP_S) run.push(sample);
    else runs.push([sample]);
  }
  return runs;
}
