// Minimap: the whole image in a corner, with a frame around what is seen, while not all of it is seen. A click moves there.

import { ask, isAbort } from "./api.js";
import { find } from "./elements.js";

const MOST_PX = 140;

export class Minimap {
  constructor(viewer) {
    this.viewer = viewer;
    this.canvas = find("minimap");
    this.picture = null;
    viewer.addEventListener("layers", () => this.#load());
    viewer.addEventListener("draw", () => this.#draw());
    // Not a drag of the image below.
    this.canvas.addEventListener("pointerdown", (event) => {
      event.stopPropagation();
      this.canvas.setPointerCapture(event.pointerId);
      this.#move(event);
    });
    this.canvas.addEventListener("pointermove", (event) => {
      event.stopPropagation();
      if (event.buttons & 1) this.#move(event);
    });
    this.canvas.addEventListener("dblclick", (event) => event.stopPropagation());
  }

  async #load() {
    const { frame } = this.viewer;
    if (!frame || this.frame === frame) return;
    this.frame = frame;
    this.picture = null;
    try {
      const answer = await ask(`frames/${frame.name}/thumbnail`);
      const picture = await createImageBitmap(await answer.blob());
      if (this.frame !== frame) return;
      const scale = MOST_PX / Math.max(...frame.shape);
      [this.canvas.height, this.canvas.width] = frame.shape.map((extent) => Math.max(2, Math.round(extent * scale)));
      this.picture = picture;
      this.#draw();
    } catch (error) {
      if (!isAbort(error)) this.viewer.tell("error", error);
    }
  }

  #draw() {
    const { frame, camera } = this.viewer;
    const [y0, x0, y1, x1] = camera.seen;
    const isAllSeen = !frame || (y0 <= 0 && x0 <= 0 && y1 >= frame.shape[0] && x1 >= frame.shape[1]);
    this.canvas.hidden = isAllSeen || !this.picture || this.frame !== frame;
    if (this.canvas.hidden) return;
    const { height, width } = this.canvas;
    const [down, across] = [height / frame.shape[0], width / frame.shape[1]];
    const context = this.canvas.getContext("2d");
    context.drawImage(this.picture, 0, 0, width, height);
    for (const [style, line] of [["#000", 3], ["#fff", 1]]) {
      Object.assign(context, { strokeStyle: style, lineWidth: line });
      context.strokeRect(x0 * across, y0 * down, (x1 - x0) * across, (y1 - y0) * down);
    }
  }

  #move(event) {
    const box = this.canvas.getBoundingClientRect();
    const { frame, camera } = this.viewer;
    [camera.y, camera.x] = [
      ((event.clientY - box.top) / box.height) * frame.shape[0], ((event.clientX - box.left) / box.width) * frame.shape[1],
    ];
    this.viewer.moved();
  }
}
