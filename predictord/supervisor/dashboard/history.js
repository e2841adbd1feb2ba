/** What went wrong and what went live: the reloads, the failed predictions, and the trouble of this moment. */

import { byId, element, keep, setText } from "./dom.js";
import { showError, showFault } from "./fault.js";
import { clock, count, milliseconds, moment } from "./format.js";

/** Show reloads and failures of a details document. */
export function showHistory({ reloads, failures, folder }) {
  byId("no-reloads").hidden = reloads.length > 0;
  keep(
    byId("reloads"),
    reloads,
    (reload) => `${reload.at} ${reload.generation}`,
    (reload) => makeReload(reload, folder),
  );
  byId("no-failures").hidden = failures.length > 0;
  keep(byId("failures"), failures, kindOf, (failure) => makeFailure(failure, folder));
}

/** Show what the author should look at first: a reload that failed, until one does not. */
export function showTrouble({ state, reload, reloads, generation, workers, folder }) {
  const lost = state === "failed" ? workers.find((worker) => worker.error) : null;
  const failed = reload?.kind === "failed";
  const error = failed ? reload.error : lost?.error;
  const section = byId("trouble");
  const key = error ? `${reload?.generation} ${reloads[0]?.at} ${state === "failed"} ${error}` : "";
  if (section.shown === key) return;
  section.shown = key;
  section.hidden = !error;
  if (!error) return;
  const fate = state === "failed" ? "Nothing can serve until it is fixed." : `Generation ${generation} serves on.`;
  setText(
    byId("trouble-title"),
    failed ? `The last save did not go live. ${fate}` : `The predictor does not load. ${fate}`,
  );
  byId("trouble-body").replaceChildren(showError(error, folder));
}

function makeReload(reload, folder) {
  const head = [
    time(reload.at),
    element("span", { class: "chip", "data-kind": reload.kind }, reload.kind),
    element(
      "span",
      { class: "reason" },
      reload.reason,
      reload.kind === "swap" ? element("span", { class: "quiet" }, " · weights kept") : null,
    ),
    element("span", { class: "number" }, milliseconds(reload.duration_s * 1000)),
    element("span", { class: "quiet number" }, `generation ${reload.generation}`),
  ];
  if (!reload.error) return { root: element("li", {}, element("p", { class: "entry" }, head)) };
  const body = element("div");
  const details = element("details", {}, element("summary", { class: "entry" }, head), body);
  unfold(details, body, () => showError(reload.error, folder));
  return { root: element("li", {}, details) };
}

const kindOf = (failure) => `${failure.status} ${failure.code} ${failure.detail}`;

function makeFailure(failure, folder) {
  const when = time(failure.at);
  const times = element("span", { class: "repeats" });
  const who = element("span", { class: "quiet number" });
  const head = [
    when,
    element("span", { class: "chip", "data-kind": "failed" }, String(failure.status)),
    element("span", { class: "reason" }, element("span", { class: "mono" }, failure.code), " ", failure.detail),
    times,
    who,
  ];
  const body = element("div");
  const details = element("details", {}, element("summary", { class: "entry" }, head), body);
  let latest = failure;
  unfold(details, body, () => showFailure(latest, folder));
  return {
    root: element("li", {}, details),
    update(now) {
      latest = now;
      setText(when, clock(now.at));
      when.title = moment(now.at);
      setText(times, now.count > 1 ? `${count(now.count)} times` : "");
      setText(who, now.worker === null || now.worker === undefined ? "" : `worker ${now.worker}`);
    },
  };
}

function showFailure({ detail, traceback, request_id: id }, folder) {
  const note = id
    ? element("p", { class: "quiet" }, "The last one was request ", element("span", { class: "mono" }, id))
    : null;
  return showFault({ what: detail, traceback, folder }, note);
}

/** Fill `body` when it is first opened: fifty tracebacks are a lot of elements that nobody looks at. */
function unfold(details, body, make) {
  details.addEventListener("toggle", () => {
    if (details.open && !body.firstChild) body.append(make());
  });
}

function time(at) {
  return element("time", { class: "number quiet", title: moment(at) }, clock(at));
}
