/**
 * JSON as text to text: indented, coloured, or as Python. Its tokens are never turned into
 * JavaScript's values, since those would round integers past 2^53.
 */

import { element } from "./dom.js";

const TOKEN = /"(?:[^"\\]|\\.)*"|-?\d[\d.eE+-]*|true|false|null|[{}[\],:]/g;
const INDENT = "  ";
const CLASSES = { '"': "string", t: "word", f: "word", n: "word" };

/** Why this is not JSON, or `null` if it is. */
export function problemOf(text) {
  try {
    JSON.parse(text);
    return null;
  } catch (error) {
    return error.message;
  }
}

/** The value, or `null` if this is not JSON. */
export function parsedOrNull(text) {
  try {
    return JSON.parse(text);
  } catch {
    return null;
  }
}

/** Indented, with what is short on one line, and rows of numbers filled up to `width` columns; `text` must be JSON. */
export function pretty(text, width = 76) {
  const tokens = text.match(TOKEN) ?? [];
  let at = 0;
  const value = (depth) => {
    const token = tokens[at++];
    if (token !== "{" && token !== "[") return token;
    const close = token === "{" ? "}" : "]";
    const items = [];
    while (tokens[at] !== close) {
      if (tokens[at] === ",") at += 1;
      const key = close === "}" ? `${tokens[at]}: ` : "";
      if (key) at += 2;
      items.push(key + value(depth + 1));
    }
    at += 1;
    return layOut(token, items, close, width - depth * INDENT.length, INDENT.repeat(depth));
  };
  return tokens.length ? value(0) : text;
}

function layOut(open, items, close, room, indent) {
  if (!items.length) return open + close;
  const line = `${open}${items.join(", ")}${close}`;
  if (line.length < room && !line.includes("\n")) return line;
  const inner = `\n${indent}${INDENT}`;
  const isRow = open === "[" && items.every((item) => item.length < 28 && !/[[{]/.test(item));
  const rows = isRow ? fill(items, room - INDENT.length - 1) : items;
  return `${open}${inner}${rows.join(`,${inner}`)}\n${indent}${close}`;
}

function fill(items, room) {
  const rows = [];
  for (const item of items) {
    const last = rows.length - 1;
    if (last >= 0 && rows[last].length + item.length + 2 <= room) rows[last] += `, ${item}`;
    else rows.push(item);
  }
  return rows;
}

/** Nodes that show JSON text with its keys, strings, numbers and words told apart. */
export function coloured(text) {
  const nodes = [];
  let from = 0;
  for (const match of text.matchAll(TOKEN)) {
    const token = match[0];
    if (/^[{}[\],:]/.test(token)) continue;
    const isKey =
      token[0] === '"' && /^\s*:/.test(text.slice(match.index + token.length, match.index + token.length + 8));
    nodes.push(text.slice(from, match.index));
    nodes.push(element("span", { class: isKey ? "key" : (CLASSES[token[0]] ?? "number") }, token));
    from = match.index + token.length;
  }
  return [...nodes, text.slice(from)];
}

const PYTHON_WORDS = { true: "True", false: "False", null: "None" };

/** The Python literal of the same value; `text` must be JSON. */
export function toPython(text) {
  return pretty(text).replace(TOKEN, (token) => {
    // JSON writes 😀 as two escapes where Python needs one, and escapes a slash, which Python does not know.
    if (token[0] === '"' && token.includes("\\")) return JSON.stringify(JSON.parse(token));
    return PYTHON_WORDS[token] ?? token;
  });
}
