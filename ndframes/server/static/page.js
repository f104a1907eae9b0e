// The page: the list of the images, and one of them with its panels.

import { Annotations } from "./annotations.js";
import { isAbort, takeToken } from "./api.js";
import { clamp } from "./camera.js";
import { Boxes } from "./boxes.js";
import { Channels } from "./channels.js";
import { Compare } from "./compare.js";
import { find, make, write } from "./elements.js";
import { Frame } from "./frame.js";
import { Gallery } from "./gallery.js";
import { HELP, listenToKeys } from "./keys.js";
import { Minimap } from "./minimap.js";
import { readState, writeState } from "./state.js";
import { Timeline } from "./timeline.js";
import { Values } from "./values.js";
import { Viewer } from "./viewer.js";

const REST_MS = 250; // browsers refuse more than some hundred changes of the address in half a minute

class Page {
  constructor() {
    this.viewer = new Viewer(find("stage"));
    this.channels = new Channels(this.viewer);
    this.boxes = new Boxes(this.viewer);
    this.values = new Values(this.viewer);
    this.timeline = new Timeline(this.viewer);
    this.minimap = new Minimap(this.viewer);
    this.gallery = new Gallery({ onOpen: (name) => this.#visit(name), onError: (error) => this.#fail(error) });
    this.compare = new Compare(this.viewer, this.gallery);
    this.annotations = new Annotations(this.viewer, this.gallery);
    this.asked = null; // the state that was asked for last; null: the list
    this.timer = null;
    this.#listen();
  }

  async start() {
    takeToken();
    const state = readState(location.hash);
    await this.gallery.load();
    if (state.id) await this.open(state);
    else if (this.gallery.count === 1 && this.gallery.names.length === 1) await this.open({ id: this.gallery.names[0] });
  }

  // Shows an image as a state says; what the state does not say is as it was, or fits the image.
  async open(state) {
    this.asked = state;
    this.#tellError("");
    this.viewer.blocks.retry();
    let frame;
    try {
      frame = await Frame.open(state.id);
    } catch (error) {
      if (this.asked === state && !isAbort(error)) this.#fail(error);
      return;
    }
    if (this.asked !== state) return; // another one was asked for meanwhile
    this.channels.use(state.channels ? complete(state.channels, frame) : this.#keptSettings(frame));
    write(find("image-name"), frame.name);
    write(find("image-facts"), `${frame.description.shape.join(" × ")} ${frame.dtype}`);
    this.#showViewer(true);
    this.viewer.show(frame);
    this.#restore(state);
    document.title = `${frame.name} – ndframes`;
    if (state.compare) {
      this.viewer.setCompare(state.compare);
      await this.compare.open(state.compare.id);
    }
    this.stage.focus({ preventScroll: true });
  }

  get stage() {
    return this.viewer.stage;
  }

  // Those of the image before; limits of one dtype say nothing about another.
  #keptSettings({ dtype }) {
    const isKept = find("keep-settings").checked && this.viewer.frame?.dtype === dtype;
    return isKept ? this.viewer.first.settings.map((each) => ({ ...each })) : null;
  }

  #restore({ y = null, x = null, zoom = null, t = null, box = null }) {
    const { viewer } = this;
    if (zoom !== null) viewer.camera.zoomTo(zoom);
    const [height, width] = viewer.frame.shape;
    if (y !== null) viewer.camera.y = clamp(y, 0, height);
    if (x !== null) viewer.camera.x = clamp(x, 0, width);
    if (t !== null) viewer.setTime(t);
    viewer.setBox(box);
    viewer.moved();
  }

  #showViewer(isShown) {
    find("viewer").hidden = !isShown;
    find("gallery").hidden = isShown;
    find("to-gallery").hidden = !isShown;
  }

  showGallery() {
    this.asked = null;
    this.#tellError("");
    this.viewer.close();
    this.#showViewer(false);
    document.title = "ndframes";
    find("search").focus();
  }

  // Opens an image of the list so that the browser's button leads back to the list.
  #visit(name) {
    this.#leaveFor(`#id=${encodeURIComponent(name)}`);
    this.open({ id: name });
  }

  #leave() {
    this.#leaveFor("");
    this.showGallery();
  }

  // Adds an address to the history; the one before says what was seen last.
  #leaveFor(fragment) {
    clearTimeout(this.timer);
    this.#writeAddress();
    history.pushState(null, "", location.pathname + fragment);
  }

  async #step(count) {
    // From the image that was asked for last, which may not have come yet.
    const name = await this.gallery.neighbour(this.asked.id, count);
    if (name) await this.open({ id: name });
  }

  #listen() {
    const { viewer } = this;
    const presses = {
      "to-gallery": () => this.#leave(), "zoom-in": () => viewer.zoomIn(), "zoom-out": () => viewer.zoomOut(),
      fit: () => viewer.fit(), "zoom-pixels": () => viewer.zoomToPixels(), previous: () => this.#step(-1), next: () => this.#step(1),
      help: () => find("keys").showModal(), "close-keys": () => find("keys").close(), retry: () => this.#retry(),
    };
    for (const [id, press] of Object.entries(presses)) find(id).addEventListener("click", press);
    listenToKeys(viewer, {
      b: () => this.boxes.toggle(), v: () => find("box-view").click(), g: () => this.#leave(),
      ",": () => this.timeline.step(-1), ".": () => this.timeline.step(1), " ": () => this.timeline.toggle(),
      "[": () => this.#step(-1), "]": () => this.#step(1), "?": () => find("keys").showModal(),
    });
    find("key-list").replaceChildren(...HELP.map(([key, text]) => make("div", {}, make("dt", {}, key), make("dd", {}, text))));
    for (const name of ["view", "settings", "box", "frame", "layers"]) {
      viewer.addEventListener(name, () => {
        clearTimeout(this.timer);
        this.timer = setTimeout(() => this.#writeAddress(), REST_MS);
      });
    }
    viewer.addEventListener("view", () => write(find("zoom"), describeZoom(viewer.camera.zoom)));
    viewer.addEventListener("error", (event) => this.#fail(event.detail));
    window.addEventListener("hashchange", () => this.#follow());
  }

  #writeAddress() {
    // While another image is opened, the address is that of the other one.
    if (this.viewer.frame && this.viewer.frame.name === this.asked?.id) {
      history.replaceState(null, "", `${location.pathname}#${writeState(this.#shownState())}`);
    }
  }

  #shownState() {
    const { viewer } = this;
    const { y, x, zoom } = viewer.camera;
    const second = viewer.layers[1];
    const compare = second ? { ...viewer.compare, id: second.frame.name } : null;
    return { id: viewer.frame.name, y, x, zoom, t: viewer.first.t, channels: viewer.first.settings, box: viewer.box, compare };
  }

  // Shows what the address says now. One with a token is entered where the page had none, or after the service got another one.
  async #follow() {
    clearTimeout(this.timer);
    const hasToken = takeToken();
    const state = readState(location.hash);
    if (!state.id) this.showGallery();
    if (hasToken || this.gallery.error) await this.gallery.load();
    if (state.id) await this.open(state);
  }

  // Asks anew for all that may be missing or old: the list, the description of the image, its statistics, and its pixels.
  async #retry() {
    this.#tellError("");
    const { asked, viewer } = this;
    const state = viewer.frame && viewer.frame.name === asked?.id ? this.#shownState() : asked;
    if (this.gallery.error) await this.gallery.load();
    if (state) await this.open(state);
  }

  #fail(error) {
    this.#tellError(`${error.name === "Error" ? "" : `${error.name}: `}${error.message}`);
  }

  #tellError(text) {
    write(find("error-text"), text);
    find("error").hidden = !text;
  }
}

// The settings of all channels of an image, of those that an address names; null if it has none of these.
function complete(shown, frame) {
  if (!shown.some(({ code }) => frame.channels.includes(code))) return null;
  return frame.channels.map((code) => shown.find((each) => each.code === code) ?? {
    code, isShown: false, colour: [255, 255, 255], low: null, high: null, gamma: 1,
  });
}

function describeZoom(zoom) {
  return zoom >= 1 ? `${Number(zoom.toPrecision(3))} ×` : `1 / ${Number((1 / zoom).toPrecision(3))}`;
}

new Page().start();
