/** The same call for a terminal and for a program. */

import { problemOf, toPython } from "./json.js";
import { mediaTypeOf, urlOf } from "./request.js";

/** The curl command; `hasToken` sends it from the environment, and `streams` shows the answer as it comes. */
export function curl(wanted, { hasToken, streams }) {
  const url = urlOf(wanted);
  const isPattern = /[[\]{}]/.test(wanted.query); // else curl makes many requests of it
  const lines = [`curl ${isPattern ? "-g " : ""}${streams ? "-N " : ""}${quote(url)}`];
  if (hasToken) lines.push('-H "authorization: Bearer $PREDICTORD_TOKEN"');
  for (const [name, value] of headersOf(wanted)) lines.push(`-H ${quote(`${name}: ${value}`)}`);
  const name = wanted.file?.name ?? "picture.png";
  if (wanted.kind !== "file") lines.push(`--data-raw ${quote(wanted.text)}`);
  else if (wanted.formField) lines.push(`-F ${quote(`${wanted.formField}=@"${name.replace(/["\\]/g, "\\$&")}"`)}`);
  else lines.push(`--data-binary ${quote(`@${name}`)}`);
  return lines.join(" \\\n  ");
}

/** The Python lines; `answers` is what came the last time: `json`, `text`, `bytes` or `stream`. */
export function python(wanted, { hasToken, answers }) {
  const headers = headersOf(wanted).filter(([name]) => name !== "content-type" || wanted.kind !== "json");
  const imports = ["import requests"];
  if (hasToken) imports.unshift("import os\n");
  const given = [
    ...headers.map(([name, value]) => `${literal(name)}: ${literal(value)},`),
    ...(hasToken ? ['"authorization": f"Bearer {os.environ[\'PREDICTORD_TOKEN\']}",'] : []),
  ];
  const lines = [
    `${literal(urlOf(wanted))},`,
    ...(given.length ? ["headers={", ...given.map((line) => `    ${line}`), "},"] : []),
    ...bodyLines(wanted),
    ...(answers === "stream" ? ["stream=True,"] : []),
  ];
  const call = lines
    .join("\n")
    .split("\n")
    .map((line) => `    ${line}`)
    .join("\n");
  return `${imports.join("\n")}\n\nanswer = requests.post(\n${call}\n)\nanswer.raise_for_status()\n${USES[answers] ?? USES.json}`;
}

const USES = {
  json: "print(answer.json())",
  text: "print(answer.text)",
  bytes: 'with open("answer", "wb") as file:\n    file.write(answer.content)',
  stream: 'for piece in answer.iter_content(None):\n    print(piece.decode(), end="", flush=True)',
};

function bodyLines(wanted) {
  const name = literal(wanted.file?.name ?? "picture.png");
  if (wanted.kind === "file") {
    return [
      wanted.formField ? `files={${literal(wanted.formField)}: open(${name}, "rb")},` : `data=open(${name}, "rb"),`,
    ];
  }
  if (wanted.kind === "json" && !problemOf(wanted.text) && !wanted.headers.some(([key]) => key === "content-type")) {
    return [`json=${toPython(wanted.text)},`];
  }
  return [`data=${literal(wanted.text)}.encode(),`];
}

/** The headers that must be said: the person's, and the media type where the tool would send another. */
function headersOf(wanted) {
  const own = wanted.headers.filter(([name]) => name !== "content-type");
  const mediaType = mediaTypeOf(wanted);
  return mediaType ? [["content-type", mediaType], ...own] : own;
}

/** For a POSIX shell. */
function quote(text) {
  return /^[\w@%+=:,./-]+$/.test(text) ? text : `'${text.replaceAll("'", "'\\''")}'`;
}

/** For Python, whose strings know all of JSON's escapes but that of a slash, which is never written. */
const literal = (text) => JSON.stringify(text);
