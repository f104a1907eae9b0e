// Blocks: those that are loaded, the least recently used of them dropped first, and the requests for those that are missing.

import { isAbort } from "./api.js";

const MOST_BYTES = 384 * 2 ** 20;
const MOST_REQUESTS = 6; // of one host, in every browser

export class Blocks {
  // onLoad: called when a block has come; onError: with an error; onDrop: with a block that is no longer kept.
  constructor({ onLoad, onError, onDrop }) {
    this.loaded = new Map(); // in the order of use
    this.running = new Map(); // key to AbortController
    this.failed = new Map(); // key to error: not asked for again and again
    this.bytes = 0;
    this.queue = [];
    Object.assign(this, { onLoad, onError, onDrop });
  }

  get(key) {
    const block = this.loaded.get(key);
    if (block) {
      this.loaded.delete(key);
      this.loaded.set(key, block);
    }
    return block;
  }

  // Asks for what is missing, in this order; requests that are no longer wanted are ended. wanted: [{key, load}].
  want(wanted) {
    const keys = new Set(wanted.map((each) => each.key));
    for (const [key, controller] of this.running) if (!keys.has(key)) controller.abort();
    this.queue = wanted.filter(({ key }) => !this.loaded.has(key) && !this.failed.has(key) && !this.running.has(key));
    this.#fill();
  }

  get isBusy() {
    return this.running.size > 0 || this.queue.length > 0;
  }

  // Forgets errors, so that a block is asked for again.
  retry() {
    this.failed.clear();
  }

  clear() {
    this.want([]);
    for (const block of this.loaded.values()) this.onDrop(block);
    this.loaded.clear();
    this.failed.clear();
    this.bytes = 0;
  }

  #fill() {
    while (this.running.size < MOST_REQUESTS && this.queue.length) this.#start(this.queue.shift());
  }

  async #start({ key, load }) {
    const controller = new AbortController();
    this.running.set(key, controller);
    try {
      this.#keep(await load(controller.signal));
    } catch (error) {
      if (!isAbort(error)) {
        this.failed.set(key, error);
        this.onError(error);
      }
    } finally {
      this.running.delete(key);
      this.#fill();
      this.onLoad();
    }
  }

  #keep(block) {
    this.loaded.set(block.key, block);
    this.bytes += block.bytes;
    for (const [key, oldest] of this.loaded) {
      if (this.bytes <= MOST_BYTES || oldest === block) return;
      this.loaded.delete(key);
      this.bytes -= oldest.bytes;
      this.onDrop(oldest);
    }
  }
}
