/**
 * Elements made by hand. Nothing on this page is ever parsed as markup: whatever a predictor, a
 * client or a traceback says goes in as text.
 */

/** The element of the page with this id. */
export const byId = (id) => document.getElementById(id);

/**
 * A new element. `attributes` with `null` or `false` are left out, `true` is an empty one; children
 * are elements or text, `null` ones are left out.
 */
export function element(name, attributes = {}, ...children) {
  return build(document.createElement(name), attributes, children);
}

/** The same for SVG. */
export function shape(name, attributes = {}, ...children) {
  return build(document.createElementNS("http://www.w3.org/2000/svg", name), attributes, children);
}

function build(node, attributes, children) {
  for (const [name, value] of Object.entries(attributes)) {
    if (value !== null && value !== undefined && value !== false) node.setAttribute(name, value === true ? "" : value);
  }
  node.append(...children.flat().filter((child) => child !== null && child !== undefined));
  return node;
}

/** Change a node's text, but only if it differs: a selection in it lives on, and nothing is announced twice. */
export function setText(node, text) {
  if (node.textContent !== text) node.textContent = text;
}

/**
 * Make the children of `parent` those of `items`, in order. A child is made once a key by `make(item)`,
 * which returns `{root, update}`, so that focus and what is unfolded outlive every update.
 */
export function keep(parent, items, keyOf, make) {
  parent.kept ??= new Map();
  const wanted = new Map(items.map((item) => [String(keyOf(item)), item]));
  for (const [key, part] of parent.kept) {
    if (!wanted.has(key)) {
      part.root.remove();
      parent.kept.delete(key);
    }
  }
  let place = parent.firstChild;
  for (const [key, item] of wanted) {
    let part = parent.kept.get(key);
    if (!part) parent.kept.set(key, (part = make(item)));
    part.update?.(item);
    if (part.root === place) place = place.nextSibling;
    else parent.insertBefore(part.root, place);
  }
}
