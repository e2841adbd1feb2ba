/**
 * A Python traceback as its author reads it: the error first, their own frames with the source line
 * standing out, runs of other people's frames folded, repeats as a count.
 */

import { element } from "./dom.js";
import { plural } from "./format.js";

// Exception groups draw a margin of bars before each line.
const FRAME = /^[\s|]*File "(.*)", line (\d+)(?:, in (.*))?$/;
const REPEATED = /^[\s|]*\[Previous line repeated (\d+) more times?\]$/;
const SOURCE = /^(?:\s*\| )? {4}/;
const HEADING = /^[\s|+-]*(?:Traceback|Stack of the thread|Exception Group Traceback) .*\(most recent call last\):$/;
const LINK = /^[\s|]*(?:The above exception was|During handling of the above)/;

/** What `text` consists of: `{kind: "frame", path, line, name, source, repeats}`, `link` and `text` with their `text`. */
export function parse(text) {
  const parts = [];
  let frame = null;
  for (const line of text.replace(/\s+$/, "").split("\n")) {
    const match = FRAME.exec(line);
    const repeated = REPEATED.exec(line);
    if (match) {
      frame = { kind: "frame", path: match[1], line: Number(match[2]), name: match[3] ?? "", source: [], repeats: 0 };
      parts.push(frame);
    } else if (repeated && frame) {
      frame.repeats += Number(repeated[1]);
    } else if (frame && SOURCE.test(line)) {
      frame.source.push(line.replace(SOURCE, ""));
    } else if (!HEADING.test(line)) {
      frame = null;
      const last = parts.at(-1);
      if (LINK.test(line)) parts.push({ kind: "link", text: line.trim() });
      else if (last?.kind === "text") last.text += `\n${line}`;
      else if (line.trim()) parts.push({ kind: "text", text: line });
    }
  }
  return parts;
}

/** Whether a frame is in the predictor's folder, and not in a package that happens to lie below it. */
export function isOwn(path, folder) {
  const inside = folder && path.startsWith(`${folder}/`) && path.slice(folder.length + 1);
  return Boolean(inside) && !/(?:^|\/)(?:site-packages|dist-packages|\.[^/]+)\//.test(inside);
}

/** Where a foreign frame comes from: a package's name, or Python itself. */
export function originOf(path) {
  const installed = /\/(?:site|dist)-packages\/([^/]+?)(?:\.py)?(?:\/|$)/.exec(path);
  if (installed) return installed[1];
  if (/\/python3\.\d+\//.test(path) || path.startsWith("<frozen")) return "Python";
  return path.split("/").at(-1);
}

/** The element that shows `text`; `folder` is the predictor's. */
export function showTraceback(text, folder) {
  const parts = parse(text);
  const hasOwn = parts.some((part) => part.kind === "frame" && isOwn(part.path, folder));
  const list = element("div", { class: "traceback" });
  let foreign = [];
  const fold = () => {
    if (foreign.length) list.append(hasOwn ? folded(foreign) : element("div", {}, foreign.map(showForeign)));
    foreign = [];
  };
  for (const part of parts) {
    if (part.kind === "frame" && !isOwn(part.path, folder)) {
      foreign.push(part);
      continue;
    }
    fold();
    if (part.kind === "frame") list.append(showOwn(part, folder));
    else list.append(element("p", { class: part.kind === "link" ? "link" : "said" }, part.text.trim()));
  }
  fold();
  return list;
}

function showOwn(frame, folder) {
  return element(
    "div",
    { class: "frame own" },
    element("p", {}, where(frame.path.slice(folder.length + 1), frame), repeats(frame)),
    frame.source.length ? element("pre", {}, frame.source.join("\n")) : null,
  );
}

function showForeign(frame) {
  const source = frame.source.filter((line) => !/^[\s~^]*$/.test(line)).join("\n");
  return element(
    "div",
    { class: "frame" },
    element("p", {}, where(frame.path, frame), repeats(frame)),
    source ? element("pre", {}, source) : null,
  );
}

function where(path, frame) {
  const place = element("span", { class: "mono" }, `${path}:${frame.line}`);
  return frame.name ? [place, " in ", element("b", { class: "mono" }, frame.name)] : [place];
}

function repeats(frame) {
  return frame.repeats ? element("span", { class: "repeats" }, `${frame.repeats + 1} times over`) : null;
}

function folded(frames) {
  const total = frames.reduce((sum, frame) => sum + 1 + frame.repeats, 0);
  const origins = [...new Set(frames.map((frame) => originOf(frame.path)))].slice(0, 3).join(", ");
  return element(
    "details",
    { class: "foreign" },
    element("summary", {}, `${plural(total, "frame")} in ${origins}`),
    frames.map(showForeign),
  );
}
