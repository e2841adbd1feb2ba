/** Numbers as people read them: with a unit, and no more digits than they are good for. */

const counts = new Intl.NumberFormat("en");
const BYTE_UNITS = ["B", "KiB", "MiB", "GiB", "TiB"];
const NONE = "–";

/** `1,204`. */
export const count = (value) => (value === null || value === undefined ? NONE : counts.format(value));

/** `1 worker`, `2 workers`. */
export const plural = (value, noun) => `${count(value)} ${noun}${value === 1 ? "" : "s"}`;

/** `8.1 GiB`. */
export function bytes(value) {
  if (value === null || value === undefined) return NONE;
  let unit = 0;
  while (value >= 1024 && unit < BYTE_UNITS.length - 1) {
    value /= 1024;
    unit += 1;
  }
  return `${unit === 0 || value >= 100 ? Math.round(value) : value.toFixed(1)} ${BYTE_UNITS[unit]}`;
}

/** `0.42 ms`, `12 ms`, `1.30 s`. */
export function milliseconds(value) {
  if (value === null || value === undefined) return NONE;
  if (value >= 1000) return `${(value / 1000).toFixed(value < 10_000 ? 2 : 1)} s`;
  return `${value < 1 ? value.toFixed(2) : value < 100 ? value.toFixed(1) : Math.round(value)} ms`;
}

/** `12.4/s`. */
export function rate(value) {
  if (value === null || value === undefined) return NONE;
  return `${value > 0 && value < 10 ? value.toFixed(1) : counts.format(Math.round(value))}/s`;
}

/** `since 14:03`, or with its day: a duration would be wrong a minute later, as an idle daemon says nothing. */
export function since(uptime_s) {
  const start = new Date(Date.now() - uptime_s * 1000);
  const time = start.toLocaleTimeString("en-GB", { hour: "2-digit", minute: "2-digit" });
  if (start.toDateString() === new Date().toDateString()) return `since ${time}`;
  return `since ${start.toLocaleDateString("en-GB", { day: "numeric", month: "short" })}, ${time}`;
}

/** `14:03:22` of seconds since 1970. */
export const clock = (at) => new Date(at * 1000).toLocaleTimeString("en-GB");

/** The same with its day, for a tooltip. */
export const moment = (at) => new Date(at * 1000).toLocaleString("en-GB");

/** `GPU 1`, `CPU`. */
export const deviceName = (device) => (device.kind === "gpu" ? `GPU ${device.index ?? ""}`.trim() : "CPU");

/** A path without the home folder that leads it. */
export const shortPath = (path) => path.replace(/^\/(?:home\/[^/]+|root)(?=\/)/, "~");
