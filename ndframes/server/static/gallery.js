// Gallery: the images with small pictures, found by parts of their names, page by page.

import { ask, askJson, isAbort } from "./api.js";
import { find, make, write } from "./elements.js";

const PAGE = 60;
const WAIT_MS = 200;

export class Gallery {
  // onOpen: called with the name of an image; onError: with an error, after which load() can be called again.
  constructor({ onOpen, onError }) {
    Object.assign(this, { onOpen, onError });
    this.names = []; // those that are listed
    this.after = null;
    this.count = 0;
    this.error = null; // why the list is not complete
    this.hasAnnotations = false;
    this.controller = new AbortController();
    this.seen = new IntersectionObserver((entries) => this.#see(entries), { rootMargin: "200px" });
    let timer = null;
    find("search").addEventListener("input", () => {
      clearTimeout(timer);
      timer = setTimeout(() => this.load(), WAIT_MS);
    });
    find("more").addEventListener("click", () => this.#extend());
  }

  // Lists the images anew, by what is entered.
  async load() {
    this.controller.abort();
    this.controller = new AbortController();
    this.seen.disconnect();
    find("frames").replaceChildren();
    this.names = [];
    this.after = null;
    await this.#extend();
  }

  // The name of the image before or after another one, loading the next page if needed; null at the ends.
  async neighbour(name, step) {
    const place = this.names.indexOf(name) + step;
    if (place >= this.names.length && this.after !== null) await this.#extend();
    return this.names[place] ?? null;
  }

  async #extend() {
    const { signal } = this.controller;
    const search = find("search").value.trim();
    find("more").disabled = true;
    write(find("status"), "Loading the list.");
    this.error = null;
    try {
      const query = { after: this.after, limit: PAGE, query: search || null };
      const page = await askJson("frames", query, signal);
      page.frames.forEach((frame) => this.#add(frame));
      this.after = page.after;
      this.hasAnnotations = page.has_annotations;
      const total = `${page.count} image${page.count === 1 ? "" : "s"}`;
      const shown = this.names.length === page.count ? total : `${this.names.length} of ${total}`;
      write(find("status"), search ? `${shown} for “${search}”` : shown);
      this.count = page.count;
    } catch (error) {
      if (isAbort(error)) return;
      write(find("status"), error.message);
      this.error = error;
      this.onError(error);
    }
    find("more").hidden = this.after === null;
    find("more").disabled = false;
  }

  #add(frame) {
    this.names.push(frame.id);
    const picture = make("canvas", { width: 256, height: 192, "aria-hidden": "true" });
    const facts = frame.error ? frame.error.message : `${frame.shape.join(" × ")} ${frame.dtype}, ${describeChannels(frame.channels)}`;
    const link = make("a", { href: `#id=${encodeURIComponent(frame.id)}`, "data-id": frame.id }, picture, make("b", {}, frame.id), make("small", {}, facts));
    link.addEventListener("click", (event) => {
      if (event.ctrlKey || event.metaKey || event.shiftKey) return; // a new tab or window
      event.preventDefault();
      this.onOpen(frame.id);
    });
    const item = make("li", { "data-kind": frame.kind ?? "error" }, link);
    find("frames").append(item);
    if (!frame.error) {
      picture.dataset.name = frame.id;
      this.seen.observe(picture);
    }
  }

  // Small pictures are asked for when they are seen.
  #see(entries) {
    for (const { isIntersecting, target } of entries) {
      if (!isIntersecting) continue;
      this.seen.unobserve(target);
      this.#draw(target);
    }
  }

  async #draw(canvas) {
    try {
      const answer = await ask(`frames/${canvas.dataset.name}/thumbnail`, {}, this.controller.signal);
      const picture = await createImageBitmap(await answer.blob());
      const factor = Math.min(canvas.width / picture.width, canvas.height / picture.height);
      const [width, height] = [picture.width * factor, picture.height * factor];
      canvas.getContext("2d").drawImage(picture, (canvas.width - width) / 2, (canvas.height - height) / 2, width, height);
      canvas.dataset.isDrawn = "true";
    } catch (error) {
      if (!isAbort(error)) canvas.title = error.message;
    }
  }
}

function describeChannels(codes) {
  return codes.length > 6 ? `${codes.length} channels` : codes.join(" ");
}
