/** The dashboard: what `/events` says goes to the parts of the page that show it. */

import { showCards } from "./cards.js";
import { Chart } from "./chart.js";
import { byId, setText } from "./dom.js";
import { follow } from "./events.js";
import { showHistory, showTrouble } from "./history.js";
import { showMasthead } from "./masthead.js";
import { Series } from "./series.js";
import { TryForm } from "./try.js";

const series = new Series();
const chart = new Chart(byId("traffic"), series);
const form = new TryForm(() => details?.folder);
let details = null;
let connected = false;
let drawn = true;

function show() {
  drawn = true;
  showMasthead(details);
  showTrouble(details);
  showCards(details);
  showHistory(details);
  chart.draw();
}

function onStatus(status) {
  const before = details;
  details = status;
  if (before?.pid !== status.pid || before?.generation !== status.generation || before?.state !== status.state)
    form.readSchema();
  if (before && before.version !== status.version) {
    say(`The daemon is now predictord ${status.version}. Reload this page to see its own.`);
  }
  if (drawn) {
    drawn = false;
    requestAnimationFrame(show);
  }
}

function say(text) {
  const notice = byId("connection");
  setText(notice, text);
  notice.hidden = !text;
  document.body.classList.toggle("stale", !connected);
}

setInterval(() => {
  if (!connected || document.hidden) return;
  series.fillQuiet();
  chart.draw();
}, 1000);

follow({
  onConnect() {
    connected = true;
    series.restart();
    say("");
  },
  onLost(why) {
    connected = false;
    say(`Not connected: ${why}. Trying again …`);
  },
  on(name, data) {
    if (name === "history") series.merge(data);
    else if (name === "status") onStatus(data);
  },
});
