// Elements of the page. Text is only ever set as text, so that nothing of a user becomes markup.

export function make(tag, attributes = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  element.append(...children);
  return element;
}

// Sets a text only if it has changed: a selection stays, and a screen reader stays quiet.
export function write(element, text) {
  if (element.textContent !== text) element.textContent = text;
}

// A list of named facts; returns the list, and a function that fills it.
export function makeFacts(names) {
  const places = new Map();
  const list = make("dl");
  for (const [key, label, part] of names) {
    const value = make("dd", { "data-fact": key }, "–");
    list.append(make("div", {}, make("dt", part ? { "data-part": part } : {}, label), value));
    places.set(key, value);
  }
  const fill = (values) => {
    for (const [key, value] of Object.entries(values)) write(places.get(key), value);
  };
  return [list, fill];
}

const KINDS = {
  running: "good", reading: "good", ended: "", stopped: "", idle: "", opening: "warn", reconnecting: "warn", failed: "bad",
};

export function writeState(badge, state) {
  write(badge, state);
  badge.dataset.kind = KINDS[state] ?? "bad";
}
