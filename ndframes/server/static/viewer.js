// Viewer: the layers, the camera, and the mouse, the fingers and the keys that move it. It tells others by events:
// "view" (the camera has moved), "draw" (something was drawn), "point" (a pixel is pointed at), "box" (a box was drawn),
// "layers", "frame" (the time has changed), "settings" and "error".

import { Blocks } from "./blocks.js";
import { Camera, clamp, MOST_ZOOM } from "./camera.js";
import { make } from "./elements.js";
import { Layer } from "./layer.js";

const WHEEL_FACTOR = 1.0015;
const KEY_ZOOM = 1.5;
const KEY_PAN_PX = 80;
const CLICK_PX = 4;

export class Viewer extends EventTarget {
  constructor(stage) {
    super();
    this.stage = stage;
    this.camera = new Camera();
    this.corner = [0, 0]; // of the canvases on the stage: top, left
    this.layers = [];
    this.painters = []; // functions (context, camera) that draw over the pixels
    this.box = null; // [y0, x0, y1, x1] in pixels of the image
    this.pointed = null; // [y, x], whole numbers
    this.isBoxTool = false;
    this.compare = { mode: "opacity", opacity: 0.5, split: 0.5 };
    // Under the pixels; seen where the image has no data.
    this.paper = make("div", { class: "paper" });
    this.overlay = make("canvas", { class: "overlay", "aria-hidden": "true" });
    stage.append(this.paper, this.overlay);
    this.blocks = new Blocks({
      onLoad: () => this.draw(),
      onError: (error) => this.tell("error", error),
      onDrop: (block) => this.layers.forEach((layer) => layer.renderer.drop(block)),
    });
    this.#listen();
    new ResizeObserver(() => this.#resize()).observe(stage);
  }

  get frame() {
    return this.layers[0]?.frame;
  }

  get first() {
    return this.layers[0];
  }

  tell(name, detail) {
    this.dispatchEvent(new CustomEvent(name, { detail }));
  }

  // Shows an image. Settings and the view of the one before are kept by who calls, if they fit.
  show(frame) {
    this.close();
    this.#add(frame);
    this.camera.image = frame.shape;
    this.#resize();
    this.camera.fit();
    this.tell("layers");
    this.moved();
  }

  // Shows a second image over the first, or removes it.
  compareWith(frame) {
    this.layers.splice(1).forEach((layer) => layer.remove());
    if (frame) {
      this.#add(frame);
      this.layers[1].t = clamp(this.first.t, 0, frame.count - 1);
    }
    this.#resize();
    this.tell("layers");
    this.draw();
  }

  close() {
    this.blocks.want([]);
    this.layers.splice(0).forEach((layer) => layer.remove());
    [this.box, this.pointed] = [null, null];
  }

  #add(frame) {
    const layer = new Layer(frame, this.blocks, () => this.draw());
    this.layers.push(layer);
    this.overlay.before(layer.canvas);
  }

  setTime(t) {
    const next = clamp(Math.round(t), 0, this.frame.count - 1);
    if (next === this.first.t) return;
    for (const layer of this.layers) layer.t = clamp(next, 0, layer.frame.count - 1);
    this.tell("frame");
    this.draw();
  }

  setBox(box) {
    this.box = box;
    this.tell("box");
    this.draw();
  }

  // Points at a pixel of the image, or at none.
  point(at) {
    const [height, width] = this.frame.shape;
    const isInside = at && at[0] >= 0 && at[1] >= 0 && at[0] < height && at[1] < width;
    this.pointed = isInside ? at.map(Math.floor) : null;
    this.tell("point");
    this.draw();
  }

  moved() {
    this.tell("view");
    this.draw();
  }

  setCompare(values) {
    Object.assign(this.compare, values);
    this.#resize();
    this.draw();
  }

  // Draws with the next frame of the screen, once however often it is called.
  draw() {
    if (this.pending || !this.frame) return;
    this.pending = requestAnimationFrame(() => {
      this.pending = null;
      if (this.frame) this.#drawNow();
    });
  }

  #drawNow() {
    const wanted = [];
    for (const layer of this.layers) {
      const camera = this.camera.scaled(layer.ratio);
      wanted.push(...layer.wanted(camera));
      layer.draw(camera);
    }
    this.blocks.want(wanted);
    this.#arrange();
    this.#paint();
    this.stage.setAttribute("aria-busy", String(!this.layers.every((layer) => layer.isReady)));
    this.tell("draw");
  }

  // Where the layers are, and how much of each is seen.
  #arrange() {
    const [first, second] = this.layers;
    const [top, left] = this.camera.toScreen(0, 0);
    const [bottom, right] = this.camera.toScreen(...first.frame.shape);
    const ratio = window.devicePixelRatio;
    const place = { top: top / ratio + this.corner[0], left: left / ratio + this.corner[1], height: (bottom - top) / ratio, width: (right - left) / ratio };
    for (const [name, value] of Object.entries(place)) this.paper.style[name] = `${value}px`;
    if (!second) return;
    const { mode, opacity, split } = this.compare;
    second.canvas.style.opacity = mode === "opacity" ? String(opacity) : "1";
    second.canvas.style.clipPath = mode === "swipe" ? `inset(0 0 0 ${100 * split}%)` : "none";
  }

  get isSideBySide() {
    return this.layers.length > 1 && this.compare.mode === "side";
  }

  #paint() {
    const context = this.overlay.getContext("2d");
    context.clearRect(0, 0, this.overlay.width, this.overlay.height);
    const shifts = this.isSideBySide ? [0, this.camera.screen[1]] : [0];
    for (const shift of shifts) {
      context.save();
      context.translate(shift, 0);
      context.beginPath();
      context.rect(0, 0, this.camera.screen[1], this.camera.screen[0]);
      context.clip();
      this.painters.forEach((paint) => paint(context, this.camera));
      context.restore();
    }
  }

  #resize() {
    const ratio = window.devicePixelRatio;
    const place = this.stage.getBoundingClientRect();
    const [height, width] = [place.height, place.width].map((extent) => Math.max(1, Math.floor(extent * ratio)));
    const wasFitting = this.camera.zoom === Math.min(MOST_ZOOM, this.camera.fitting);
    this.camera.screen = [height, this.isSideBySide ? Math.floor(width / 2) : width];
    if (wasFitting) this.camera.fit();
    // On whole pixels of the screen, wherever the page has put the stage; otherwise browsers blend adjacent ones.
    this.corner = [place.top, place.left].map((edge) => Math.ceil(edge * ratio) / ratio - edge);
    this.#fitCanvas(this.overlay, [height, width], 0);
    this.layers.forEach((layer, number) => {
      this.#fitCanvas(layer.canvas, this.camera.screen, this.isSideBySide ? number * this.camera.screen[1] : 0);
    });
    if (this.frame) this.moved();
  }

  #fitCanvas(canvas, [height, width], shift) {
    const ratio = window.devicePixelRatio;
    if (canvas.height !== height || canvas.width !== width) [canvas.height, canvas.width] = [height, width];
    const [top, left] = this.corner;
    const place = { top, left: left + shift / ratio, height: height / ratio, width: width / ratio };
    for (const [name, value] of Object.entries(place)) canvas.style[name] = `${value}px`;
  }

  // The point of an event on the screen, in pixels of the device.
  #locate(event) {
    const place = this.stage.getBoundingClientRect();
    const ratio = window.devicePixelRatio;
    const [y, x] = [
      (event.clientY - place.top - this.corner[0]) * ratio, (event.clientX - place.left - this.corner[1]) * ratio,
    ];
    return [y, this.isSideBySide && x >= this.camera.screen[1] ? x - this.camera.screen[1] : x];
  }

  #listen() {
    const { stage } = this;
    const down = new Map(); // pointer to its place
    let corner = null; // where a box begins
    let travelled = 0;
    stage.addEventListener("wheel", (event) => {
      event.preventDefault();
      const lines = event.deltaMode === WheelEvent.DOM_DELTA_LINE ? 33 : 1;
      this.camera.zoomBy(WHEEL_FACTOR ** (-event.deltaY * lines), ...this.#locate(event));
      this.moved();
    }, { passive: false });
    stage.addEventListener("pointerdown", (event) => {
      if (event.button !== 0 || !this.frame) return;
      stage.setPointerCapture(event.pointerId);
      const at = this.#locate(event);
      down.set(event.pointerId, at);
      travelled = 0;
      corner = down.size === 1 && (this.isBoxTool || event.shiftKey) ? this.#pixelAt(at) : null;
    });
    stage.addEventListener("pointermove", (event) => {
      if (!this.frame) return;
      const [at, before] = [this.#locate(event), down.get(event.pointerId)];
      if (before && corner) this.box = spanBox(corner, this.#pixelAt(at));
      else if (before && down.size === 2) this.#pinch(down, event.pointerId, at);
      else if (before) this.camera.pan(at[0] - before[0], at[1] - before[1]);
      if (before) {
        travelled += Math.hypot(at[0] - before[0], at[1] - before[1]);
        down.set(event.pointerId, at);
        this.moved();
      }
      this.point(this.camera.toImage(...at));
    });
    const end = (event) => {
      const before = down.get(event.pointerId);
      down.delete(event.pointerId);
      if (!before || !this.frame) return;
      if (corner) this.setBox(travelled < CLICK_PX ? null : this.box);
      else if (travelled < CLICK_PX && event.type === "pointerup") this.tell("pick", this.camera.toImage(...before));
      corner = null;
    };
    stage.addEventListener("pointerup", end);
    stage.addEventListener("pointercancel", end);
    stage.addEventListener("pointerleave", () => this.frame && !down.size && this.point(null));
    stage.addEventListener("dblclick", (event) => {
      this.camera.zoomBy(2, ...this.#locate(event));
      this.moved();
    });
  }

  #pinch(down, moving, at) {
    const [, other] = [...down].find(([pointer]) => pointer !== moving);
    const before = down.get(moving);
    const distance = (one) => Math.max(1, Math.hypot(one[0] - other[0], one[1] - other[1]));
    this.camera.pan((at[0] - before[0]) / 2, (at[1] - before[1]) / 2);
    this.camera.zoomBy(distance(at) / distance(before), (at[0] + other[0]) / 2, (at[1] + other[1]) / 2);
  }

  // The pixel at a point of the screen; the nearest one, if the point is outside the image.
  #pixelAt(at) {
    return this.camera.toImage(...at).map((value, axis) => clamp(Math.floor(value), 0, this.frame.shape[axis] - 1));
  }

  zoomIn() {
    this.camera.zoomBy(KEY_ZOOM);
    this.moved();
  }

  zoomOut() {
    this.camera.zoomBy(1 / KEY_ZOOM);
    this.moved();
  }

  fit() {
    this.camera.fit();
    this.moved();
  }

  zoomToPixels() {
    this.camera.zoomTo(1);
    this.moved();
  }

  panBy(down, right) {
    this.camera.pan(-down * KEY_PAN_PX, -right * KEY_PAN_PX);
    this.moved();
  }

  // Moves the pixel that is pointed at, and the view if it would leave the screen. For those who use the keyboard only.
  stepPoint(down, right) {
    const at = this.pointed ?? [this.camera.y, this.camera.x].map(Math.floor);
    const next = [at[0] + down, at[1] + right].map((value, axis) => clamp(value, 0, this.frame.shape[axis] - 1));
    const [y0, x0, y1, x1] = this.camera.seen;
    if (next[0] < y0 || next[0] + 1 > y1 || next[1] < x0 || next[1] + 1 > x1) {
      [this.camera.y, this.camera.x] = [next[0] + 0.5, next[1] + 0.5];
      this.tell("view");
    }
    this.point(next);
  }
}

function spanBox(one, other) {
  return [
    Math.min(one[0], other[0]), Math.min(one[1], other[1]), Math.max(one[0], other[0]) + 1, Math.max(one[1], other[1]) + 1,
  ];
}
