/** One prediction as the form describes it: what `fetch` sends, and what the snippets say. */

/**
 * What is to be sent.
 * @typedef {object} Wanted
 * @property {"json"|"text"|"file"} kind
 * @property {string} text the body of the first two kinds
 * @property {File|null} file the body of the third
 * @property {string} formField its name in a form; empty: the file is the whole body
 * @property {string} query without the question mark
 * @property {[string, string][]} headers the person's own
 */

/** `name: value` lines as pairs; lines without a colon are left out. */
export function parseHeaders(text) {
  return text
    .split("\n")
    .filter((line) => line.includes(":"))
    .map((line) => [line.slice(0, line.indexOf(":")).trim().toLowerCase(), line.slice(line.indexOf(":") + 1).trim()])
    .filter(([name]) => name);
}

/** The name of the first of these headers that a browser refuses to send, or `null`. */
export function unsendable(headers) {
  for (const header of headers) {
    try {
      new Headers([header]);
    } catch {
      return header[0];
    }
  }
  return null;
}

/** The URL of a wanted prediction, below where this page lies. */
export function urlOf(wanted) {
  const url = new URL("predict", location.href);
  url.search = wanted.query;
  return url.href;
}

/** The media type that is sent unless the person names one; `null` where the form's own is sent. */
export function mediaTypeOf(wanted) {
  const own = wanted.headers.find(([name]) => name === "content-type");
  if (own) return own[1];
  if (wanted.kind === "json") return "application/json";
  if (wanted.kind === "text") return "text/plain; charset=utf-8";
  return wanted.formField ? null : wanted.file?.type || "application/octet-stream";
}

/** The options of `fetch`. */
export function optionsOf(wanted) {
  const headers = new Headers(wanted.headers);
  const mediaType = mediaTypeOf(wanted);
  if (mediaType) headers.set("content-type", mediaType);
  return { method: "POST", headers, body: bodyOf(wanted) };
}

function bodyOf(wanted) {
  if (wanted.kind !== "file") return wanted.text;
  if (!wanted.formField) return wanted.file;
  const form = new FormData();
  form.append(wanted.formField, wanted.file);
  return form;
}
