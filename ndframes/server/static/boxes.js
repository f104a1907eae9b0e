// Boxes: a rectangle of the image that is drawn with the mouse or entered as numbers, its size, its code, and its pixels as files.

import { askBytes, isAbort, isTokenInPath } from "./api.js";
import { codeOf } from "./code.js";
import { find, write } from "./elements.js";

const SIDES = ["y0", "x0", "y1", "x1"];

export class Boxes {
  constructor(viewer) {
    this.viewer = viewer;
    for (const name of ["box", "layers", "settings", "frame"]) viewer.addEventListener(name, () => this.#write());
    viewer.painters.push((context, camera) => this.#paint(context, camera));
    find("box-tool").addEventListener("click", () => this.toggle());
    find("box-view").addEventListener("click", () => viewer.setBox(this.#seen()));
    find("box-clear").addEventListener("click", () => viewer.setBox(null));
    find("box-zoom").addEventListener("click", () => {
      viewer.camera.show(viewer.box);
      viewer.moved();
    });
    for (const side of SIDES) find(`box-${side}`).addEventListener("change", () => this.#enter());
    find("box-all-channels").addEventListener("change", () => this.#write());
    find("code-kind").addEventListener("change", () => this.#write());
    find("copy-code").addEventListener("click", () => this.#copy());
    // Behind a proxy, as in a notebook, programs do not reach the service by the address of the page.
    if (isTokenInPath()) find("code-kind").value = "local";
    for (const form of ["npy", "png", "tif"]) find(`save-${form}`).addEventListener("click", () => this.#save(form));
  }

  toggle() {
    this.viewer.isBoxTool = !this.viewer.isBoxTool;
    find("box-tool").setAttribute("aria-pressed", String(this.viewer.isBoxTool));
    this.viewer.stage.dataset.tool = this.viewer.isBoxTool ? "box" : "pan";
  }

  // What is on the screen, in whole pixels.
  #seen() {
    const [height, width] = this.viewer.frame.shape;
    const [y0, x0, y1, x1] = this.viewer.camera.seen;
    const first = [Math.max(0, Math.floor(y0)), Math.max(0, Math.floor(x0))];
    const last = [Math.min(height, Math.ceil(y1)), Math.min(width, Math.ceil(x1))];
    return last[0] > first[0] && last[1] > first[1] ? [...first, ...last] : null;
  }

  #enter() {
    const values = SIDES.map((side) => Number(find(`box-${side}`).value));
    const [height, width] = this.viewer.frame.shape;
    const [y0, x0, y1, x1] = values;
    const isBox = values.every(Number.isInteger) && y0 >= 0 && x0 >= 0 && y0 < y1 && x0 < x1 && y1 <= height && x1 <= width;
    if (isBox) this.viewer.setBox(values);
    else write(find("box-size"), `not a box of the image, which has ${height} x ${width} pixels`);
  }

  #channels() {
    const { first } = this.viewer;
    const shown = first.channels.map(({ code }) => code);
    if (!find("box-all-channels").checked && shown.length) return shown;
    return first.frame.hasOthers ? first.frame.channels : null;
  }

  #write() {
    const { box, frame, first } = this.viewer;
    if (!frame) return;
    find("box-facts").hidden = !box;
    for (const [side, place] of SIDES.map((each, index) => [each, index])) find(`box-${side}`).value = box ? String(box[place]) : "";
    if (!box) {
      write(find("box-size"), "");
      return;
    }
    const [height, width] = [box[2] - box[0], box[3] - box[1]];
    write(find("box-size"), `${height} x ${width} pixels, diagonal ${Math.hypot(height, width).toFixed(1)}`);
    const codes = codeOf(frame, box, frame.hasTime ? first.t : null, this.#channels());
    find("code-kind").querySelector('[value="iiif"]').disabled = !codes.iiif;
    const kind = codes[find("code-kind").value] ? find("code-kind").value : "python";
    find("code-kind").value = kind;
    write(find("code"), codes[kind]);
  }

  async #copy() {
    try {
      await navigator.clipboard.writeText(find("code").textContent);
      write(find("copied"), "copied");
    } catch {
      // Without the right to the clipboard, the text is selected, so that Ctrl-C copies it.
      getSelection().selectAllChildren(find("code"));
      write(find("copied"), "selected; press Ctrl-C");
    }
  }

  async #save(form) {
    const { box, frame, first } = this.viewer;
    const channels = this.#channels();
    const query = {
      y: `${box[0]}:${box[2]}`, x: `${box[1]}:${box[3]}`, t: frame.hasTime ? first.t : null,
      channels: channels?.join("|"), format: form,
    };
    try {
      const blob = new Blob([await askBytes(`frames/${frame.name}/region`, query)]);
      const link = document.createElement("a");
      link.href = URL.createObjectURL(blob);
      link.download = `${frame.name}-${box.join("-")}.${form}`;
      link.click();
      URL.revokeObjectURL(link.href);
    } catch (error) {
      if (!isAbort(error)) this.viewer.tell("error", error);
    }
  }

  #paint(context, camera) {
    const { box } = this.viewer;
    if (!box) return;
    const [top, left] = camera.toScreen(box[0], box[1]);
    const [bottom, right] = camera.toScreen(box[2], box[3]);
    for (const [style, width] of [["#000", 3], ["#ff0", 1]]) {
      Object.assign(context, { strokeStyle: style, lineWidth: width * window.devicePixelRatio });
      context.strokeRect(left, top, right - left, bottom - top);
    }
  }
}
