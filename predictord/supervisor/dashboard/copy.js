/** The clipboard. */

import { element, setText } from "./dom.js";

/** A button that puts text on the clipboard. */
export function copyButton(text) {
  const button = element("button", { type: "button", class: "plain copy" }, "Copy");
  button.addEventListener("click", () => copy(text, button));
  return button;
}

/** Put text on the clipboard and say so on the button for a moment. */
export async function copy(text, button) {
  let done = true;
  try {
    await navigator.clipboard.writeText(text); // only https and this machine may
  } catch {
    done = copyBySelection(text);
  }
  const before = (button.said ??= button.textContent);
  setText(button, done ? "Copied" : "Not allowed");
  clearTimeout(button.timer);
  button.timer = setTimeout(() => setText(button, before), 1500);
}

function copyBySelection(text) {
  const area = element("textarea", { class: "hidden", readonly: true });
  area.value = text;
  document.body.append(area);
  area.select();
  const done = document.execCommand("copy");
  area.remove();
  return done;
}
