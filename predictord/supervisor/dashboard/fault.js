/** What went wrong, as its author wants to read it. */

import { copyButton } from "./copy.js";
import { element } from "./dom.js";
import { showTraceback } from "./traceback.js";

/** One line on what happened, notes, and the traceback, if there is one, with the frames in `folder` standing out. */
export function showFault({ what, traceback, folder }, ...notes) {
  return element(
    "div",
    { class: "fault" },
    element("p", { class: "what" }, what),
    ...notes,
    traceback ? [showTraceback(traceback, folder), copyButton(traceback)] : null,
  );
}

/** The same of the text in which reloads and workers tell it: the line, and the traceback below it. */
export function showError(error, folder) {
  const [what, ...rest] = error.split("\n");
  return showFault({ what, traceback: rest.join("\n").trimEnd(), folder });
}
