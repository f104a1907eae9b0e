// Values: those of all channels at the pixel that is pointed at, exactly as they are, in the panel, and in the pixels when these
// are large enough.

import { askRegion, isAbort } from "./api.js";
import { find, make, write } from "./elements.js";

const NUMBERS_ZOOM = 40; // pixels of the screen for a pixel, for its numbers to be legible
const FONT_PX = 11;
const WAIT_MS = 60;

export class Values {
  constructor(viewer) {
    this.viewer = viewer;
    this.known = null; // {key, texts}
    this.timer = null;
    this.controller = null;
    viewer.addEventListener("point", () => this.#update());
    viewer.addEventListener("draw", () => this.#update());
    viewer.painters.push((context, camera) => this.#paint(context, camera));
  }

  // What is pointed at, and its values: the blocks on the screen have them, or the service is asked.
  #update() {
    const { pointed, first } = this.viewer;
    if (!pointed) {
      this.#forget();
      return this.#show(null, null);
    }
    const { name, description } = first.frame;
    const key = `${name} ${description.state} ${first.shownT} ${pointed} ${first.channels.map(({ index }) => index)}`;
    if (this.known?.key === key) return undefined;
    const texts = first.valuesAt(...pointed);
    if (texts) {
      this.#forget();
      return this.#show(key, texts);
    }
    if (this.asked === key) return undefined;
    this.#show(null, null);
    return this.#ask(key, first.frame, first.shownT, pointed);
  }

  // What is asked for belongs to a pixel that is no longer pointed at.
  #forget() {
    this.asked = null;
    clearTimeout(this.timer);
    this.controller?.abort();
  }

  // After the pointer has rested for a moment; only for the last pixel.
  #ask(key, frame, t, [y, x]) {
    this.#forget();
    this.asked = key;
    this.controller = new AbortController();
    const { signal } = this.controller;
    this.timer = setTimeout(async () => {
      try {
        const where = { y: `${y}:${y + 1}`, x: `${x}:${x + 1}`, t: frame.hasTime ? t : null, state: frame.description.state };
        const { first } = this.viewer;
        const pixels = await Promise.all(frame.groups.map((_, group) => (
          first.isRead(group) ? askRegion(frame.name, { ...where, ...frame.queryOf(group) }, signal) : null
        )));
        if (this.asked === key) this.#show(key, frame.places.map(({ group, band }) => pixels[group]?.elements.text(band) ?? ""));
      } catch (error) {
        if (!isAbort(error)) this.viewer.tell("error", error);
      }
    }, WAIT_MS);
  }

  #show(key, texts) {
    this.known = key ? { key, texts } : null;
    const { pointed, first } = this.viewer;
    write(find("position"), pointed ? `y ${pointed[0]}, x ${pointed[1]}` : "–");
    const list = find("values");
    const codes = first?.frame.channels ?? [];
    if (list.childElementCount !== codes.length) {
      list.replaceChildren(...codes.map((code) => make("div", {}, make("dt", {}, code), make("dd", { "data-channel": code }))));
    }
    codes.forEach((code, index) => write(list.children[index].lastChild, texts ? texts[index] : "–"));
    const line = pointed && texts ? `y ${pointed[0]}, x ${pointed[1]}: ${codes.slice(0, 8).map((code, index) => `${code} ${texts[index]}`).join(", ")}` : "";
    write(find("readout"), line);
  }

  #paint(context, camera) {
    const { pointed, first } = this.viewer;
    if (pointed) outline(context, camera, pointed);
    if (camera.zoom < NUMBERS_ZOOM * window.devicePixelRatio) return;
    const [y0, x0, y1, x1] = camera.seen.map(Math.floor);
    const size = FONT_PX * window.devicePixelRatio;
    const shown = first.channels.slice(0, Math.max(1, Math.floor(camera.zoom / size) - 1));
    Object.assign(context, { font: `${size}px system-ui, sans-serif`, textAlign: "center", textBaseline: "middle", lineWidth: 3 });
    for (let y = Math.max(0, y0); y <= Math.min(first.frame.shape[0] - 1, y1); y += 1) {
      for (let x = Math.max(0, x0); x <= Math.min(first.frame.shape[1] - 1, x1); x += 1) {
        const texts = first.valuesAt(y, x);
        if (texts) writeNumbers(context, camera, [y, x], shown.map(({ index }) => texts[index]), size);
      }
    }
  }
}

function writeNumbers(context, camera, [y, x], texts, size) {
  const [top, left] = camera.toScreen(y + 0.5, x + 0.5);
  texts.forEach((text, row) => {
    const at = [left, top + (row - (texts.length - 1) / 2) * size * 1.2, camera.zoom - 4];
    context.strokeStyle = "rgb(0 0 0 / 70%)";
    context.fillStyle = "#fff";
    context.strokeText(text, ...at);
    context.fillText(text, ...at);
  });
}

function outline(context, camera, [y, x]) {
  const [top, left] = camera.toScreen(y, x);
  const size = Math.max(camera.zoom, 3);
  for (const [style, width] of [["#000", 3], ["#fff", 1]]) {
    Object.assign(context, { strokeStyle: style, lineWidth: width });
    context.strokeRect(left + 0.5, top + 0.5, size - 1, size - 1);
  }
}
