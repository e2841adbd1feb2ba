/** State, generation and key numbers at a glance. */

import { byId, element, keep, setText } from "./dom.js";
import { count, milliseconds, plural, rate, shortPath, since } from "./format.js";

const ABLE = ["ready", "busy"];

/** One sentence on what the state means now. */
export function sentenceOf({ state, generation, workers }) {
  const able = workers.filter((worker) => ABLE.includes(worker.state)).length;
  const all = plural(workers.length, "worker");
  const lost = workers.filter((worker) => worker.state === "failed").length;
  return {
    ready: `Generation ${generation} serves on ${all}.`,
    starting: `Generation ${generation} is loading on ${all}; requests wait.`,
    reloading: `What was saved is on its way; generation ${generation} serves meanwhile.`,
    degraded: `${able} of ${all} can answer; ${lost ? `${lost} could not load the predictor` : "the rest is on its way"}.`,
    failed: "No worker could load the predictor. Fix the file and save: it is tried again at once.",
    draining: "Finishing what is in hand, then stopping.",
  }[state];
}

function figuresOf({ rates, queue, requests }) {
  return [
    {
      name: "Rate",
      value: rate(rates.requests_per_s),
      note: rates.failed_per_s ? `${rate(rates.failed_per_s)} failing` : "",
    },
    { name: "p50", value: milliseconds(rates.p50_ms), note: "" },
    { name: "p95", value: milliseconds(rates.p95_ms), note: "" },
    { name: "p99", value: milliseconds(rates.p99_ms), note: "" },
    { name: "Queue", value: count(queue.depth), note: `of ${count(queue.limit)}` },
    { name: "In flight", value: count(requests.in_flight), note: "" },
    { name: "Requests", value: count(requests.total), note: "since start" },
    { name: "Failed", value: count(requests.failed), note: "", bad: requests.failed > 0 },
  ];
}

/** Show a details document in the page's head. */
export function showMasthead(details) {
  const { path, class: className } = details.predictor;
  setText(byId("name"), className ?? path.split("/").at(-1));
  setText(byId("place"), shortPath(path));
  byId("place").title = path;
  setText(byId("state"), details.state);
  byId("state").dataset.state = details.state;
  setText(byId("sentence"), sentenceOf(details));
  setText(
    byId("about"),
    `predictord ${details.version} · pid ${details.pid} · ${since(details.uptime_s)} · ${details.urls.join(" ")}`,
  );
  document.title = `${details.state === "ready" ? "" : `${details.state} · `}${className ?? path.split("/").at(-1)}`;
  keep(byId("figures"), figuresOf(details), (figure) => figure.name, makeFigure);
}

function makeFigure({ name }) {
  const value = element("dd");
  const note = element("dd", { class: "quiet" });
  const root = element("div", {}, element("dt", {}, name), value, note);
  return {
    root,
    update(figure) {
      setText(value, figure.value);
      setText(note, figure.note);
      root.classList.toggle("bad", Boolean(figure.bad));
    },
  };
}
