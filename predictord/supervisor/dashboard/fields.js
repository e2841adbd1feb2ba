/**
 * Form fields out of a JSON schema: what it describes as an object with plain properties, and a box of
 * JSON for the rest. Nothing is judged here: what the predictor refuses, its author wants to see refused.
 */

import { element } from "./dom.js";

const KINDS = { "application/json": "json", "text/plain": "text", "application/octet-stream": "file" };
const SUMMARY = "Run one prediction"; // what the daemon writes where the author wrote nothing

/**
 * What an OpenAPI document says of `POST /predict`: the `schema` that fields can be made of, or `null`; the
 * one `kind` of body that it takes, or `null`; and `doc`, what its author wrote about it.
 */
export function readDocument(openapi) {
  const operation = openapi.paths?.["/predict"]?.post ?? {};
  const content = operation.requestBody?.content ?? {};
  const schema = resolve(content["application/json"]?.schema ?? {}, openapi);
  const types = Object.keys(content);
  return {
    schema: Object.keys(schema.properties ?? {}).length ? { ...schema, openapi } : null,
    kind: types.length === 1 ? (KINDS[types[0]] ?? null) : null,
    doc: [operation.summary, operation.description].filter((text) => text && text !== SUMMARY).join("\n"),
  };
}

/** The fields of an object's schema; `value()` is the JSON text of what is filled in. */
export class Fields {
  #fields;

  constructor(schema, root, kept = new Map()) {
    const required = new Set(schema.required ?? []);
    this.#fields = Object.entries(schema.properties).map(
      ([name, property]) => new Field(name, resolve(property, schema.openapi), required.has(name)),
    );
    for (const field of this.#fields) if (kept.has(field.name)) field.input.value = kept.get(field.name);
    root.replaceChildren(...this.#fields.map((field) => field.root));
  }

  /** What is in each field, to be put into the next ones. */
  get entered() {
    return new Map(this.#fields.map((field) => [field.name, field.input.value]));
  }

  value() {
    const members = this.#fields.map((field) => field.member()).filter((member) => member !== null);
    return `{${members.join(", ")}}`;
  }
}

class Field {
  constructor(name, schema, required) {
    Object.assign(this, { name, schema, required });
    const id = `field-${name}`;
    this.type = typeOf(schema);
    this.input = makeInput(this.type, schema, {
      id,
      "aria-required": required ? "true" : null,
      "aria-describedby": `${id}-help`,
    });
    const help = [schema.description, boundsOf(schema)].filter(Boolean).join(" ");
    this.root = element(
      "div",
      { class: "field" },
      element(
        "label",
        { for: id },
        schema.title && schema.title.toLowerCase() !== name.replaceAll("_", " ") ? `${name} – ${schema.title}` : name,
      ),
      element(
        "span",
        { class: "quiet" },
        `${this.type === "json" ? (schema.type ?? "JSON") : this.type}${required ? "" : ", optional"}`,
      ),
      this.input,
      element("p", { class: "quiet", id: `${id}-help` }, help),
    );
  }

  /** `"name": value` as JSON text, or `null` for what is left to its default. */
  member() {
    const entered = this.input.value;
    if (entered === "" && !(this.required && this.type === "string")) return null;
    return `${JSON.stringify(this.name)}: ${this.type === "string" ? JSON.stringify(entered) : entered.trim()}`;
  }
}

/** `string`, `number`, `integer`, `boolean`, `choice`, or `json` for all that has no input of its own. */
function typeOf(schema) {
  if (schema.enum) return "choice";
  return ["string", "number", "integer", "boolean"].includes(schema.type) ? schema.type : "json";
}

function makeInput(type, schema, attributes) {
  const given = schema.default;
  const placeholder = given === undefined || given === null ? null : JSON.stringify(given).replace(/^"|"$/g, "");
  if (type === "choice" || type === "boolean") {
    const choices = (schema.enum ?? [true, false]).map((choice) => JSON.stringify(choice));
    const none = attributes["aria-required"]
      ? []
      : [element("option", { value: "" }, placeholder === null ? "–" : `default: ${placeholder}`)];
    const shown = choices.map((choice) => element("option", { value: choice }, choice.replace(/^"|"$/g, "")));
    return element("select", attributes, none, shown);
  }
  if (type === "number" || type === "integer") {
    const step = type === "integer" ? "1" : "any";
    return element("input", {
      ...attributes,
      type: "number",
      step,
      min: schema.minimum,
      max: schema.maximum,
      placeholder,
    });
  }
  const isShort = type === "string" && schema.maxLength && schema.maxLength <= 80;
  if (isShort) return element("input", { ...attributes, type: "text", placeholder });
  const area = element("textarea", {
    ...attributes,
    rows: 2,
    placeholder,
    class: type === "json" ? "mono" : null,
    spellcheck: type === "json" ? "false" : null,
  });
  if (type === "json" && attributes["aria-required"]) area.value = JSON.stringify(sampleOf(schema));
  return area;
}

function boundsOf(schema) {
  const low = schema.minimum ?? schema.exclusiveMinimum;
  const high = schema.maximum ?? schema.exclusiveMaximum;
  if (low !== undefined && high !== undefined) return `From ${low} to ${high}.`;
  if (low !== undefined) return `At least ${low}.`;
  return high === undefined ? "" : `At most ${high}.`;
}

/** A value to start from, for people who do not know the shape. */
export function sampleOf(schema) {
  if (schema.default !== undefined) return schema.default;
  if (schema.examples?.length) return schema.examples[0];
  return { array: [], object: {}, string: "", number: 0, integer: 0, boolean: false }[schema.type] ?? null;
}

/** The schema itself, behind references and beside `null`. */
function resolve(schema, openapi) {
  for (let steps = 0; steps < 20; steps += 1) {
    const choices = (schema.anyOf ?? schema.oneOf ?? []).filter((choice) => choice.type !== "null");
    if (schema.$ref) schema = { ...target(schema.$ref, openapi), ...without(schema, "$ref") };
    else if (schema.allOf?.length === 1) schema = { ...schema.allOf[0], ...without(schema, "allOf") };
    else if (choices.length === 1) schema = { ...choices[0], ...without(schema, "anyOf", "oneOf") };
    else return schema;
  }
  return {};
}

function without(schema, ...names) {
  return Object.fromEntries(Object.entries(schema).filter(([name]) => !names.includes(name)));
}

function target(reference, openapi) {
  const name = reference.split("/").at(-1);
  return openapi.components?.schemas?.[name] ?? {};
}
