/** A card for each worker and each GPU. */

import { byId, element, keep, setText } from "./dom.js";
import { showError } from "./fault.js";
import { bytes, deviceName, milliseconds, plural, rate, since } from "./format.js";

/** Show the workers and GPUs of a details document. */
export function showCards({ workers, gpus, folder }) {
  keep(
    byId("workers"),
    workers,
    (worker) => worker.id,
    (worker) => new WorkerCard(worker, folder),
  );
  byId("gpus-section").hidden = !gpus.length;
  const cards = gpus.map((gpu) => ({ ...gpu, ours: oursOn(gpu, workers) }));
  keep(
    byId("gpus"),
    cards,
    (gpu) => gpu.uuid,
    () => new GpuCard(),
  );
}

/** The bytes of a GPU that our workers hold, as far as is known. */
function oursOn(gpu, workers) {
  const here = workers.filter((worker) => worker.device.uuid === gpu.uuid);
  return here.reduce((sum, worker) => sum + (worker.vram_bytes ?? 0), 0);
}

class WorkerCard {
  constructor({ id }, folder) {
    this.folder = folder;
    this.state = element("span", { class: "state small" });
    this.device = element("p", { class: "quiet" });
    this.rate = element("dd");
    this.p50 = element("dd");
    this.p99 = element("dd");
    this.memory = new Row("Memory");
    this.vram = new Row("GPU memory");
    this.life = element("p", { class: "quiet" });
    this.error = element("div", { class: "error", hidden: true });
    this.root = element(
      "li",
      { class: "card", "data-worker": id },
      element("h3", {}, `Worker ${id}`, this.state),
      this.device,
      element("dl", { class: "trio" }, cell("Rate", this.rate), cell("p50", this.p50), cell("p99", this.p99)),
      element("dl", { class: "rows" }, this.vram.root, this.memory.root),
      this.life,
      this.error,
    );
  }

  update(worker) {
    setText(this.state, worker.state);
    this.state.dataset.state = worker.state;
    const { device } = worker;
    setText(this.device, [...new Set([deviceName(device), device.name])].filter(Boolean).join(" · "));
    setText(this.rate, rate(worker.requests_per_s));
    setText(this.p50, milliseconds(worker.p50_ms));
    setText(this.p99, milliseconds(worker.p99_ms));
    this.memory.set(bytes(worker.rss_bytes));
    this.vram.root.hidden = device.kind !== "gpu";
    this.vram.set(bytes(worker.vram_bytes), worker.vram_peak_bytes ? `peak ${bytes(worker.vram_peak_bytes)}` : "");
    setText(this.life, lifeOf(worker));
    this.#setError(worker.error ?? "");
  }

  #setError(error) {
    if (this.shown === error) return;
    this.shown = error;
    this.error.hidden = !error;
    this.error.replaceChildren(...(error ? [showError(error, this.folder)] : []));
  }
}

function lifeOf(worker) {
  return [
    `generation ${worker.generation}`,
    worker.pid ? `pid ${worker.pid}` : "no process",
    worker.uptime_s === null ? null : since(worker.uptime_s),
    worker.load_s ? `loaded in ${milliseconds(worker.load_s * 1000)}` : null,
    plural(worker.requests, "request"),
    worker.restarts ? plural(worker.restarts, "restart") : null,
  ]
    .filter(Boolean)
    .join(" · ");
}

class GpuCard {
  constructor() {
    this.name = element("h3");
    this.model = element("p", { class: "quiet" });
    this.use = new Row("In use", true);
    this.memory = new Row("Memory", true);
    this.others = element("ul", { class: "others" });
    this.root = element(
      "li",
      { class: "card" },
      this.name,
      this.model,
      element("dl", { class: "rows" }, this.use.root, this.memory.root),
      this.others,
    );
  }

  update(gpu) {
    const { total_bytes: total, used_bytes: used, ours, utilization } = gpu;
    setText(this.name, `GPU ${gpu.index}`);
    setText(this.model, gpu.name ?? "");
    this.use.set(utilization === null ? "not told" : `${Math.round(utilization * 100)} %`);
    this.use.bar([["ours", utilization ?? 0]]);
    this.memory.set(
      total === null ? "not told" : `${bytes(used)} of ${bytes(total)}`,
      ours ? `${bytes(ours)} by the workers` : "",
    );
    this.memory.bar(
      total === null
        ? []
        : [
            ["ours", ours / total],
            ["theirs", Math.max(used - ours, 0) / total],
          ],
    );
    keep(this.others, gpu.others, (other) => other.pid, makeOther);
  }
}

function makeOther() {
  const name = element("span");
  const held = element("span", { class: "number" });
  return {
    root: element("li", {}, name, held),
    update(other) {
      setText(name, `${other.name ?? "another process"} (pid ${other.pid})`);
      setText(held, bytes(other.bytes));
    },
  };
}

/** A name, a value and a note; with a bar if there is something to be full of. */
class Row {
  constructor(name, hasBar = false) {
    this.value = element("span", { class: "number" });
    this.note = element("span", { class: "quiet" });
    this.track = hasBar ? element("span", { class: "bar", "aria-hidden": "true" }) : null;
    this.root = element("div", {}, element("dt", {}, name), element("dd", {}, this.value, this.note, this.track));
  }

  set(value, note = "") {
    setText(this.value, value);
    setText(this.note, note);
  }

  /** Fill it with pairs of a look and a share of 1. */
  bar(parts) {
    keep(
      this.track,
      parts,
      ([look]) => look,
      ([look]) => {
        const root = element("span", { class: look });
        return { root, update: ([, share]) => (root.style.width = `${(100 * Math.min(share, 1)).toFixed(1)}%`) };
      },
    );
  }
}

function cell(name, value) {
  return element("div", {}, element("dt", {}, name), value);
}
