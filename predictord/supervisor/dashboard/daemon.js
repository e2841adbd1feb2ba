/** The daemon behind this page: what is asked of it, with the token once there is one. */

import { byId, setText } from "./dom.js";

const KEY = "predictord-token";

/** The token that this tab keeps, or `null`. */
export const token = () => sessionStorage.getItem(KEY);

/** `fetch` of a path beside this page, with the token. */
export function ask(path, options = {}) {
  const headers = new Headers(options.headers);
  if (token() && !headers.has("authorization")) headers.set("authorization", `Bearer ${token()}`);
  return fetch(path, { ...options, headers, cache: "no-store" });
}

/** Whether the daemon asks for its token: a 401 that a worker gave is the predictor's own. */
export const wantsToken = (response) => response.status === 401 && !response.headers.has("x-predictord-worker");

let asking = null;

/** Ask the person for the token, once for all who want it; resolves when there is a new one. */
export function askForToken() {
  asking ??= new Promise((resolve) => {
    const dialog = byId("token-dialog");
    const form = byId("token-form");
    setText(byId("token-problem"), token() ? "That is not the token." : "");
    const onSubmit = (event) => {
      event.preventDefault();
      sessionStorage.setItem(KEY, byId("token").value.trim());
      form.removeEventListener("submit", onSubmit);
      dialog.close();
      asking = null;
      resolve();
    };
    form.addEventListener("submit", onSubmit);
    dialog.addEventListener("cancel", (event) => event.preventDefault()); // nothing here works without it
    dialog.showModal();
    byId("token").select();
  });
  return asking;
}
