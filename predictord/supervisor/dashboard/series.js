/** The last two minutes in numbers, one sample a second, as the chart draws them. */

export const SPAN_S = 120;
const SAME_S = 0.5;
const LATEST_S = 2.5; // how long the row of a second may be on its way
const QUIET = { requests_per_s: 0, failed_per_s: 0, p50_ms: null, p95_ms: null, p99_ms: null, queue: 0 };

export class Series {
  #samples = [];
  #skew_s = -Infinity;
  #since = Infinity;

  /** Rows of whole seconds by the daemon's clock, oldest first; what is known of those seconds is replaced. */
  merge({ columns, rows }) {
    if (!rows.length) return;
    const news = rows.map((row) => Object.fromEntries(columns.map((column, index) => [column, row[index]])));
    const { at } = news.at(-1);
    // The row may have been on its way for a second, but is never early.
    this.#skew_s = Math.max(this.#skew_s, at - Date.now() / 1000);
    const isNew = (sample) => news.some((other) => Math.abs(other.at - sample.at) < (sample.guessed ? 1 : SAME_S));
    this.#samples = [...this.#samples.filter((sample) => !isNew(sample)), ...news]
      .filter((sample) => sample.at > at - SPAN_S - 2)
      .sort((a, b) => a.at - b.at);
  }

  /** A daemon without requests sends nothing: while it is connected, that is a sample as well. */
  fillQuiet() {
    const last = this.#samples.at(-1)?.at ?? 0;
    for (let at = Math.max(last + 1, this.#since); at < this.now - LATEST_S; at += 1) {
      this.#samples.push({ at, guessed: true, ...QUIET });
    }
  }

  /** A new connection: maybe another daemon, with another clock. */
  restart() {
    this.#skew_s = -Infinity;
    this.#since = this.now;
  }

  /** The daemon's clock, in seconds since 1970. */
  get now() {
    return Date.now() / 1000 + (Number.isFinite(this.#skew_s) ? this.#skew_s : 0);
  }

  /** The samples inside the span, oldest first. */
  get recent() {
    const from = this.now - SPAN_S - 1;
    return this.#samples.filter((sample) => sample.at >= from);
  }
}
