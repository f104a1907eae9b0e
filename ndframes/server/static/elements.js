// Elements of the page. Text is only ever set as text, so that no name or label of a user becomes markup.

export function make(tag, attributes = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (typeof value === "boolean") element.toggleAttribute(name, value);
    else element.setAttribute(name, value);
  }
  element.append(...children);
  return element;
}

// Sets a text only if it has changed: a selection stays, and a screen reader stays quiet.
export function write(element, text) {
  if (element.textContent !== text) element.textContent = text;
}

export function find(id) {
  return document.getElementById(id);
}

export function makeButton(label, onPress, attributes = {}) {
  const button = make("button", { type: "button", ...attributes }, label);
  button.addEventListener("click", onPress);
  return button;
}

// A labelled input; returns the label, which holds it, and the input.
export function makeInput(label, attributes) {
  const input = make("input", attributes);
  return [make("label", {}, make("span", {}, label), input), input];
}
