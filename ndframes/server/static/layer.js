// Layer: one image on a canvas of its own, seen through the camera that all layers share.

import { CanvasRenderer } from "./canvas2d.js";
import { makeSettings } from "./colours.js";
import { make } from "./elements.js";
import { WebglRenderer } from "./webgl.js";

const FRAMES_AHEAD = [1, 2, -1];

export class Layer {
  // onReplaced: called when the canvas is another one.
  constructor(frame, blocks, onReplaced) {
    this.frame = frame;
    this.blocks = blocks;
    this.settings = makeSettings(frame);
    this.t = 0;
    this.shownT = 0; // the frame that is on the screen, until that of t has come
    this.canvas = make("canvas", { class: "pixels", "aria-hidden": "true" });
    this.onReplaced = onReplaced;
    this.renderer = this.#makeRenderer();
    this.ratio = 1; // pixels of this image for a pixel of the first layer's image
    this.isReady = false;
  }

  get channels() {
    return this.settings.filter((each) => each.isShown);
  }

  remove() {
    this.renderer.close();
    this.canvas.remove();
  }

  #makeRenderer() {
    try {
      return new WebglRenderer(this.canvas, () => this.#replace());
    } catch {
      return new CanvasRenderer(this.canvas);
    }
  }

  // A canvas keeps the context that it has, also a lost one, which may never come back.
  #replace() {
    const { height, width, style } = this.canvas;
    const next = make("canvas", { class: "pixels", "aria-hidden": "true", height, width });
    next.style.cssText = style.cssText; // the page's policy refuses the attribute
    this.canvas.replaceWith(next);
    this.canvas = next;
    this.renderer = this.#makeRenderer();
    this.onReplaced();
  }

  // The level whose pixels are drawn not larger than those of the screen, and less than half as large never.
  levelFor(camera) {
    const level = Math.floor(Math.log2(1 / camera.zoom) + 1e-9);
    return Math.min(this.frame.levels.length - 1, Math.max(0, level));
  }

  // What is missing, most urgent first: the whole image once, then what is seen, then the frames before and after.
  wanted(camera) {
    if (!this.channels.length) return [];
    const coarsest = this.frame.levels.length - 1;
    const groups = new Set(this.channels.map(({ index }) => this.frame.places[index].group));
    const seen = nearestFirst(this.frame.blocksIn(this.levelFor(camera), camera.seen), camera);
    const whole = this.frame.blocksIn(coarsest, [0, 0, ...this.frame.shape]);
    const request = (place, t) => [...groups].map((group) => ({
      key: this.frame.keyOf(place, t, group),
      load: (signal) => this.frame.load(place, t, group, signal),
    }));
    const now = [...whole, ...seen].flatMap((place) => request(place, this.t));
    const near = FRAMES_AHEAD.map((step) => this.t + step).filter((t) => t >= 0 && t < this.frame.count);
    return unique([...now, ...near.flatMap((t) => seen.flatMap((place) => request(place, t)))]);
  }

  // Draws what is loaded: coarse levels first, and finer ones over them. Nothing is drawn before the limits are known.
  draw(camera) {
    const { channels } = this;
    if (channels.some(({ low }) => low === null)) return;
    const level = this.levelFor(camera);
    const wanted = this.frame.blocksIn(level, camera.seen);
    const isWhole = (t) => wanted.every((place) => this.#sources(place, t, channels));
    this.isReady = isWhole(this.t);
    if (this.isReady || !this.#hasSome(camera, this.shownT, channels)) this.shownT = this.t;
    const t = this.shownT;
    const items = [];
    for (let coarse = isWhole(t) ? level : this.frame.levels.length - 1; coarse >= level; coarse -= 1) {
      for (const place of this.frame.blocksIn(coarse, camera.seen)) {
        const sources = this.#sources(place, t, channels);
        if (sources) items.push({ place, scale: 2 ** coarse, sources });
      }
    }
    this.renderer.draw(camera, channels.length ? items : [], channels);
  }

  #hasSome(camera, t, channels) {
    const coarsest = this.frame.levels.length - 1;
    return this.frame.blocksIn(coarsest, camera.seen).some((place) => this.#sources(place, t, channels));
  }

  // The block and band of each channel at a place; null if one is missing.
  #sources(place, t, channels) {
    const sources = [];
    for (const { index } of channels) {
      const { group, band } = this.frame.places[index];
      const block = this.blocks.get(this.frame.keyOf(place, t, group));
      if (!block) return null;
      sources.push({ block, band });
    }
    return sources;
  }

  // Whether the values of a group are shown: of the channels that are read by default always, of others if they are seen.
  isRead(group) {
    return group < this.frame.firstGroups || this.channels.some(({ index }) => this.frame.places[index].group === group);
  }

  // The exact values of channels at a pixel of the image, as texts, if they are loaded; empty where they are not shown.
  valuesAt(y, x) {
    const [place] = this.frame.blocksIn(0, [y, x, y, x]);
    if (!place) return null;
    const texts = [];
    for (let index = 0; index < this.frame.channels.length; index += 1) {
      const { group, band } = this.frame.places[index];
      if (!this.isRead(group)) {
        texts.push("");
        continue;
      }
      const block = this.blocks.get(this.frame.keyOf(place, this.shownT, group));
      if (!block) return null;
      const [elements, start] = block.at(y - place.y, x - place.x);
      texts.push(elements.text(start + band));
    }
    return texts;
  }
}

function nearestFirst(places, camera) {
  const distance = ({ level, y, x, height, width }) =>
    Math.hypot((y + height / 2) * 2 ** level - camera.y, (x + width / 2) * 2 ** level - camera.x);
  return places.sort((one, other) => distance(one) - distance(other));
}

function unique(requests) {
  return [...new Map(requests.map((each) => [each.key, each])).values()];
}
