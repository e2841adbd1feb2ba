/** Shows what a prediction answered, as it comes. */

import { copyButton } from "./copy.js";
import { byId, element, setText } from "./dom.js";
import { showFault } from "./fault.js";
import { bytes, milliseconds } from "./format.js";
import { coloured, parsedOrNull, pretty } from "./json.js";
import {
  ItemReader,
  LineParser,
  TextReader,
  WholeReader,
  columnsOf,
  output,
  pieces,
  SHOWN_CHARACTERS,
} from "./readers.js";
import { EventParser } from "./sse.js";

const SHOWN_BYTES = 256;

/** `json`, `problem`, `lines`, `events`, `text`, `image` or `bytes`. */
export function kindOf(mediaType) {
  const type = mediaType.split(";")[0].trim().toLowerCase();
  if (type === "application/problem+json") return "problem";
  if (type === "application/json" || type.endsWith("+json")) return "json";
  if (type === "application/x-ndjson") return "lines";
  if (type === "text/event-stream") return "events";
  if (/^image\/(png|jpeg|gif|webp|avif|bmp|svg\+xml|x-icon)$/.test(type)) return "image";
  return type.startsWith("text/") || type === "application/xml" ? "text" : "bytes";
}

/** The kind of image that these bytes are, or `null`; predictors often return the bytes alone. */
export function imageTypeOf(head) {
  const text = String.fromCharCode(...head.slice(0, 12));
  if (text.startsWith("\x89PNG")) return "image/png";
  if (text.startsWith("\xff\xd8\xff")) return "image/jpeg";
  if (text.startsWith("GIF8")) return "image/gif";
  return text.startsWith("RIFF") && text.slice(8) === "WEBP" ? "image/webp" : null;
}

/** One answer on the page. */
export class Answer {
  #folder;
  #started = performance.now();
  #size = 0;
  #body = byId("answer-body");
  #facts = [];
  #url = null;
  #closed = false;

  /** Takes the place of the answer before; `folder` is the predictor's, for tracebacks. */
  constructor(folder) {
    this.#folder = folder;
    byId("answer").hidden = false;
    this.#body.replaceChildren();
    this.#body.setAttribute("aria-busy", "true");
    this.#say("waiting", "Waiting for the answer …");
  }

  /** Read and show the response to its end; returns what the snippets need to know of it. */
  async show(response) {
    const kind = kindOf(response.headers.get("content-type") ?? "");
    const streams = !response.headers.has("content-length");
    this.#head = response;
    const reader = this.#readerFor(kind);
    let items = 0;
    try {
      for await (const piece of pieces(response.body)) {
        if (!items && streams) this.#facts.push(["first piece", milliseconds(this.#elapsed)]);
        this.#size += piece.length;
        items += 1;
        reader.add(piece);
        this.#summarize(streams ? "streaming" : "reading");
      }
      reader.end();
      this.#summarize("done");
    } catch (error) {
      if (this.#closed) return null;
      reader.end();
      const stopped = error.name === "AbortError";
      this.#summarize("cut", stopped ? "cancelled" : "cut off before its end");
    } finally {
      if (!this.#closed) this.#body.removeAttribute("aria-busy");
    }
    if (streams) return "stream";
    return { json: "json", text: "text", image: "bytes", bytes: "bytes" }[kind] ?? null;
  }

  /** Say that no answer came. */
  fail(error) {
    if (this.#closed) return;
    this.#body.removeAttribute("aria-busy");
    if (error.name === "AbortError") this.#say("cut", `Cancelled after ${milliseconds(this.#elapsed)}.`);
    else this.#say("failed", "No answer: the daemon can’t be reached, or it closed the connection.");
  }

  /** Say why nothing was asked. */
  refuse(why) {
    this.#body.removeAttribute("aria-busy");
    this.#say("failed", why);
  }

  /** Release what it holds, and show no more: the next answer has its place. */
  close() {
    this.#closed = true;
    if (this.#url) URL.revokeObjectURL(this.#url);
  }

  get #elapsed() {
    return performance.now() - this.#started;
  }

  set #head(response) {
    const header = (name) => response.headers.get(name);
    this.status = `${response.status} ${response.statusText}`.trim();
    this.ok = response.ok;
    for (const [, name, dur] of (header("server-timing") ?? "").matchAll(/(\w+);dur=([\d.]+)/g)) {
      this.#facts.push([name, milliseconds(Number(dur))]);
    }
    this.about = [
      ["worker", header("x-predictord-worker")],
      ["generation", header("x-predictord-generation")],
      ["type", header("content-type")],
      ["request", header("x-request-id")],
    ].filter(([, value]) => value !== null);
  }

  #summarize(phase, note = "") {
    const facts = [["total", milliseconds(this.#elapsed)], ...this.#facts, ["size", bytes(this.#size)], ...this.about];
    const look = phase === "cut" ? "cut" : this.ok ? "ok" : "failed";
    this.#say(look, this.status, facts, phase === "streaming" ? "streaming …" : note);
  }

  #say(look, text, facts = [], note = "") {
    const chip = element("span", { class: "chip", "data-kind": look }, text);
    const list = facts.map(([name, value]) =>
      element("span", { class: "fact" }, element("span", { class: "quiet" }, `${name} `), value),
    );
    byId("answer-status").replaceChildren(chip, ...(note ? [element("b", {}, note)] : []), ...list);
  }

  #readerFor(kind) {
    const body = this.#body;
    if (kind === "text") return new TextReader(body);
    if (kind === "lines") return new ItemReader(body, new LineParser(), this.#started);
    if (kind === "events")
      return new ItemReader(body, new EventParser(), this.#started, (problem) => this.#problem(problem));
    return new WholeReader((whole) => this.#showWhole(kind, whole));
  }

  #showWhole(kind, whole) {
    const mediaType = kind === "image" ? this.about.find(([name]) => name === "type")[1] : imageTypeOf(whole);
    if (mediaType && kind !== "json" && kind !== "problem") return this.#showImage(whole, mediaType);
    if (kind === "bytes") return this.#showBytes(whole);
    const text = new TextDecoder().decode(whole);
    const parsed = parsedOrNull(text);
    if (kind === "problem" && parsed) return this.#body.append(this.#problem(parsed));
    const isLong = text.length > SHOWN_CHARACTERS;
    const box = output([]);
    this.#body.append(box, copyButton(text));
    box.append(
      ...(parsed === null || isLong ? [text.slice(0, SHOWN_CHARACTERS)] : coloured(pretty(text, columnsOf(box)))),
    );
    if (isLong) this.#body.append(this.#download(whole, "answer.json", "It is cut here."));
    return undefined;
  }

  #showImage(whole, mediaType) {
    this.#url = URL.createObjectURL(new Blob([whole], { type: mediaType }));
    const image = element("img", { class: "preview", alt: "The image that was answered", src: this.#url });
    image.addEventListener("load", () => setText(size, `${image.naturalWidth} × ${image.naturalHeight} pixels `));
    const size = element("span", { class: "quiet" });
    this.#body.append(
      image,
      element("p", {}, size, link(this.#url, `answer.${mediaType.split("/")[1].replace("+xml", "")}`)),
    );
  }

  #showBytes(whole) {
    const rows = [];
    for (let at = 0; at < Math.min(whole.length, SHOWN_BYTES); at += 16) {
      const row = [...whole.slice(at, at + 16)];
      const hex = row.map((byte) => byte.toString(16).padStart(2, "0")).join(" ");
      rows.push(
        `${hex.padEnd(48)} ${row.map((byte) => (byte > 31 && byte < 127 ? String.fromCharCode(byte) : "·")).join("")}`,
      );
    }
    if (rows.length) this.#body.append(output([rows.join("\n")]));
    this.#body.append(
      this.#download(whole, "answer", whole.length > SHOWN_BYTES ? `The first ${SHOWN_BYTES} bytes.` : ""),
    );
  }

  #download(whole, name, note) {
    this.#url = URL.createObjectURL(new Blob([whole]));
    return element("p", { class: "quiet" }, note, " ", link(this.#url, name));
  }

  /** A problem document (RFC 9457). */
  #problem(problem) {
    const errors = (problem.errors ?? []).map((error) =>
      element(
        "li",
        {},
        element("b", { class: "mono" }, (error.loc ?? []).join(".") || "payload"),
        ` ${error.msg ?? ""}`,
      ),
    );
    const { detail, title, code, traceback } = problem;
    return showFault(
      { what: detail ?? title ?? "It failed.", traceback, folder: this.#folder },
      code ? element("p", { class: "quiet mono" }, code) : null,
      errors.length ? element("ul", {}, errors) : null,
    );
  }
}

function link(href, name) {
  return element("a", { href, download: name }, "Download");
}
