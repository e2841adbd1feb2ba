/** The form that tries the predictor. */

import { Answer } from "./answer.js";
import { copy } from "./copy.js";
import { ask, askForToken, token, wantsToken } from "./daemon.js";
import { byId, setText } from "./dom.js";
import { Fields, readDocument } from "./fields.js";
import { problemOf } from "./json.js";
import { optionsOf, parseHeaders, unsendable, urlOf } from "./request.js";
import { curl, python } from "./snippets.js";

export class TryForm {
  #form = byId("ask");
  #fields = null;
  #answer = null;
  #abort = null;
  #answers = null;
  #preview = null;
  #chosen = false;

  /** `folderOf()` is the predictor's folder, for tracebacks. */
  constructor(folderOf) {
    this.folderOf = folderOf;
    this.#form.addEventListener("submit", (event) => {
      event.preventDefault();
      this.#send();
    });
    this.#form.addEventListener("input", () => this.#refresh());
    this.#form.addEventListener("change", (event) => {
      if (event.target.name === "kind") this.#chosen = true;
      if (event.target.id === "file") this.#showFile();
      this.#refresh();
    });
    this.#form.addEventListener("keydown", (event) => {
      if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) this.#form.requestSubmit();
    });
    byId("cancel").addEventListener("click", () => this.#abort?.abort());
    for (const button of document.querySelectorAll("[data-copies]")) {
      button.addEventListener("click", () => copy(byId(button.dataset.copies).textContent, button));
    }
    this.#refresh();
  }

  /** Make the fields that the predictor's schema asks for; called when another generation serves. */
  async readSchema() {
    const response = await ask("openapi.json").catch(() => null);
    if (!response?.ok) return;
    const { schema, kind, doc } = readDocument(await response.json());
    this.#fields = schema && new Fields(schema, byId("fields"), this.#fields?.entered);
    byId("kind-fields").hidden = !schema;
    setText(byId("doc"), doc);
    if (!this.#chosen) this.#choose(schema ? "fields" : (kind ?? "json"));
    else if (!schema && this.#kind === "fields") this.#choose("json");
    this.#refresh();
  }

  get #kind() {
    return this.#form.elements.kind.value;
  }

  #choose(kind) {
    this.#form.elements.kind.value = kind;
  }

  get #wanted() {
    const kind = this.#kind;
    return {
      kind: kind === "fields" ? "json" : kind,
      text: kind === "fields" ? this.#fields.value() : byId(kind === "text" ? "text" : "json").value,
      file: byId("file").files[0] ?? null,
      formField: byId("form-field").value.trim(),
      query: byId("query").value.trim(),
      headers: parseHeaders(byId("headers").value),
    };
  }

  /** Bring what follows from the form up to date: which part shows, what is wrong, the snippets. */
  #refresh() {
    for (const part of this.#form.querySelectorAll("[data-kind]")) {
      part.hidden = part.dataset.kind !== this.#kind;
      for (const input of part.querySelectorAll("input, select, textarea")) input.disabled = part.hidden;
    }
    const problem = this.#kind === "json" && byId("json").value ? problemOf(byId("json").value) : null;
    setText(byId("json-problem"), problem ? `Not JSON yet: ${problem}` : "");
    byId("json").setAttribute("aria-invalid", String(Boolean(problem)));
    const wanted = this.#wanted;
    const hasToken = token() !== null;
    setText(byId("curl"), curl(wanted, { hasToken, streams: this.#answers === "stream" }));
    setText(byId("python"), python(wanted, { hasToken, answers: this.#answers }));
  }

  #showFile() {
    const file = byId("file").files[0];
    if (this.#preview) URL.revokeObjectURL(this.#preview);
    this.#preview = file?.type.startsWith("image/") ? URL.createObjectURL(file) : null;
    const image = byId("preview");
    image.hidden = !this.#preview;
    image.alt = file ? `The chosen image, ${file.name}` : "";
    if (this.#preview) image.src = this.#preview;
    else image.removeAttribute("src");
  }

  async #send() {
    const wanted = this.#wanted;
    const missing = wanted.kind === "file" && !wanted.file ? byId("file") : null;
    if (missing) {
      missing.focus();
      missing.showPicker?.();
      return;
    }
    this.#answer?.close();
    this.#abort?.abort();
    const answer = (this.#answer = new Answer(this.folderOf()));
    const unsent = unsendable(wanted.headers);
    if (unsent !== null) {
      answer.refuse(`Not sent: no request can have the header “${unsent}”.`);
      return;
    }
    const abort = (this.#abort = new AbortController());
    this.#setBusy(true);
    try {
      let response = await ask(urlOf(wanted), { ...optionsOf(wanted), signal: abort.signal });
      while (wantsToken(response)) {
        await askForToken();
        response = await ask(urlOf(wanted), { ...optionsOf(wanted), signal: abort.signal });
      }
      this.#answers = (await answer.show(response)) ?? this.#answers;
    } catch (error) {
      answer.fail(error);
    } finally {
      if (this.#abort === abort) this.#setBusy(false);
      this.#refresh();
    }
  }

  #setBusy(busy) {
    byId("cancel").hidden = !busy;
    setText(byId("send"), busy ? "Predict again" : "Predict");
  }
}
