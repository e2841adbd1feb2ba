/** An answer's body while it comes. Each reader is told of pieces by `add` and of the end by `end`. */

import { copyButton } from "./copy.js";
import { element, setText } from "./dom.js";
import { milliseconds, plural } from "./format.js";
import { coloured, parsedOrNull, pretty } from "./json.js";

/** As much of one text is shown; more would make the page slow. */
export const SHOWN_CHARACTERS = 200_000;
const SHOWN_ITEMS = 500;
const FOLLOWS_PX = 60;
const TIME_COLUMNS = 12;
const LONG_LINES = 4; // an item that takes more is laid out, a shorter one stays in one piece

/** The body's pieces, as bytes. */
export async function* pieces(body) {
  if (!body) return;
  const reader = body.getReader();
  for (;;) {
    const { done, value } = await reader.read();
    if (done) return;
    yield value;
  }
}

/** What makes sense only as a whole; `use` gets its bytes. */
export class WholeReader {
  #pieces = [];
  #use;

  constructor(use) {
    this.#use = use;
  }

  add(piece) {
    this.#pieces.push(piece);
  }

  end() {
    const whole = new Uint8Array(this.#pieces.reduce((sum, piece) => sum + piece.length, 0));
    this.#pieces.reduce((at, piece) => (whole.set(piece, at), at + piece.length), 0);
    this.#use(whole);
  }
}

/** Text shows at once, piece by piece. */
export class TextReader {
  #decoder = new TextDecoder();
  #room = SHOWN_CHARACTERS;
  #output = output([]);
  #text = [];
  #body;

  constructor(body) {
    this.#body = body;
    body.append(this.#output);
  }

  add(piece) {
    this.#append(this.#decoder.decode(piece, { stream: true }));
  }

  end() {
    this.#append(this.#decoder.decode());
    this.#body.append(copyButton(this.#text.join("")));
  }

  #append(text) {
    this.#text.push(text);
    const follows = isAtEnd(this.#output);
    if (this.#room > 0) this.#output.append(text.slice(0, this.#room));
    if (this.#room > 0 && text.length >= this.#room)
      this.#output.append("\n… it goes on; the page shows no more of it.");
    this.#room -= text.length;
    if (follows) this.#output.scrollTop = this.#output.scrollHeight;
  }
}

/** Lines of JSON and events show as a list, each with the time it came at. */
export class ItemReader {
  #decoder = new TextDecoder();
  #list = element("ol", { class: "items", tabindex: "0", "aria-label": "What came, in order" });
  #more = element("p", { class: "quiet" });
  #count = 0;

  constructor(body, parser, started, showProblem) {
    Object.assign(this, { parser, started, showProblem });
    body.append(this.#list, this.#more);
    this.columns = columnsOf(this.#list) - TIME_COLUMNS;
  }

  add(piece) {
    const follows = isAtEnd(this.#list);
    for (const item of this.parser.feed(this.#decoder.decode(piece, { stream: true }))) this.#append(item);
    if (follows) this.#list.scrollTop = this.#list.scrollHeight;
  }

  end() {
    for (const item of this.parser.feed("\n")) this.#append(item);
  }

  #append({ event, data }) {
    this.#count += 1;
    if (this.#count > SHOWN_ITEMS) {
      setText(this.#more, `and ${plural(this.#count - SHOWN_ITEMS, "more item")}`);
      return;
    }
    const parsed = parsedOrNull(data);
    const width = data.length > LONG_LINES * this.columns ? this.columns : Infinity;
    const text = () => element("pre", {}, parsed === null ? data : coloured(pretty(data, width)));
    const shown = event === "error" && parsed ? this.showProblem(parsed) : text();
    const when = element("span", { class: "quiet number" }, `+${milliseconds(performance.now() - this.started)}`);
    const name =
      event && event !== "message" && event !== "error" ? element("b", { class: "mono" }, `${event} `) : null;
    this.#list.append(element("li", {}, when, name, shown));
  }
}

/** Lines as the items of `ItemReader`. */
export class LineParser {
  #rest = "";

  *feed(text) {
    const lines = (this.#rest + text).split("\n");
    this.#rest = lines.pop();
    for (const line of lines) if (line) yield { data: line };
  }
}

/** The box that an answer is shown in. */
export function output(children) {
  return element("pre", { class: "output", tabindex: "0", "aria-label": "The answer" }, children);
}

/** How many letters of the fixed-width kind fit beside each other in a box of answers. */
export function columnsOf(box) {
  const ruler = element("pre", { class: "ruler" }, "0".repeat(100));
  box.append(ruler);
  const style = getComputedStyle(box);
  const room = box.clientWidth - parseFloat(style.paddingLeft) - parseFloat(style.paddingRight);
  const columns = Math.floor((100 * room) / ruler.getBoundingClientRect().width);
  ruler.remove();
  return Math.max(columns, 24);
}

const isAtEnd = (box) => box.scrollHeight - box.scrollTop - box.clientHeight < FOLLOWS_PX;
