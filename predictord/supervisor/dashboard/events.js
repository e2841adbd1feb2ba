/** The daemon's events, for as long as someone looks: reconnects by itself, and rests while the tab is hidden. */

import { ask, askForToken, wantsToken } from "./daemon.js";
import { eventsOf } from "./sse.js";

const SILENCE_MS = 40_000; // a comment comes every 15 s: past this the connection is dead, though nobody said so
const FIRST_PAUSE_MS = 250;
const LONGEST_PAUSE_MS = 4_000;

/**
 * Follow `/events` for ever. `listener` has `on(name, data)` for each event, `onConnect()`, and
 * `onLost(why)` each time an attempt has failed.
 */
export async function follow(listener) {
  let pause = FIRST_PAUSE_MS;
  for (;;) {
    await untilVisible();
    const connection = new Connection(listener);
    const end = await connection.run();
    if (end.token) await askForToken();
    else if (!document.hidden) {
      listener.onLost(end.why);
      pause = end.worked ? FIRST_PAUSE_MS : Math.min(2 * pause, LONGEST_PAUSE_MS);
      await new Promise((resolve) => setTimeout(resolve, pause));
    }
  }
}

class Connection {
  #listener;
  #abort = new AbortController();
  #watch;

  constructor(listener) {
    this.#listener = listener;
  }

  /** Listen until the stream ends, for whatever reason; says how it went and never throws. */
  async run() {
    const onVisibility = () => document.hidden && this.#abort.abort();
    document.addEventListener("visibilitychange", onVisibility);
    let worked = false;
    try {
      this.#heard();
      const response = await ask("events", { signal: this.#abort.signal, headers: { accept: "text/event-stream" } });
      if (wantsToken(response)) return { token: true };
      if (!response.ok) return { why: `/events answers ${response.status}` };
      worked = true;
      this.#listener.onConnect();
      for await (const { event, data } of eventsOf(response.body, () => this.#heard())) {
        this.#listener.on(event, JSON.parse(data));
      }
      return { worked, why: "the daemon closed the connection" };
    } catch (error) {
      return { worked, why: error.name === "AbortError" ? "nothing came for 40 s" : "the daemon can’t be reached" };
    } finally {
      clearTimeout(this.#watch);
      document.removeEventListener("visibilitychange", onVisibility);
    }
  }

  #heard() {
    clearTimeout(this.#watch);
    this.#watch = setTimeout(() => this.#abort.abort(), SILENCE_MS);
  }
}

function untilVisible() {
  if (!document.hidden) return undefined;
  return new Promise((resolve) => {
    const onChange = () => {
      if (document.hidden) return;
      document.removeEventListener("visibilitychange", onChange);
      resolve();
    };
    document.addEventListener("visibilitychange", onChange);
  });
}
