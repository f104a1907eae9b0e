// Timeline: the frame of a video or a sequence, by a slider, by steps, and by playing.

import { askJson, isAbort } from "./api.js";
import { find, write } from "./elements.js";

const DEFAULT_RATE = 10; // frames a second, where the times do not tell
const MOST_RATE = 60;
const TIMES_AT_ONCE = 10_000;

export class Timeline {
  constructor(viewer) {
    this.viewer = viewer;
    this.times = new Map(); // number of the frame to seconds
    this.playing = null;
    viewer.addEventListener("layers", () => this.#begin());
    viewer.addEventListener("draw", () => this.#write());
    viewer.addEventListener("frame", () => this.#write());
    find("time").addEventListener("input", (event) => viewer.setTime(Number(event.target.value)));
    find("frame-number").addEventListener("change", (event) => viewer.setTime(Number(event.target.value)));
    find("previous-frame").addEventListener("click", () => this.step(-1));
    find("next-frame").addEventListener("click", () => this.step(1));
    find("play").addEventListener("click", () => this.toggle());
  }

  #begin() {
    this.pause();
    const { frame } = this.viewer;
    find("timeline").hidden = !frame || frame.count < 2;
    if (!frame) return;
    if (this.known !== frame) {
      this.known = frame;
      this.times.clear();
      if (frame.count > 1) this.#loadTimes(frame);
    }
    for (const id of ["time", "frame-number"]) find(id).max = String(frame.count - 1);
    this.#write();
  }

  async #loadTimes(frame) {
    try {
      for (let start = 0; start < frame.count && this.known === frame; start += TIMES_AT_ONCE) {
        const { times } = await askJson(`frames/${frame.name}/times`, { t: `${start}:${start + TIMES_AT_ONCE}` });
        if (times === null) return;
        times.forEach((time, place) => this.times.set(start + place, time));
        this.#write();
      }
    } catch (error) {
      if (!isAbort(error)) this.viewer.tell("error", error);
    }
  }

  step(count) {
    this.pause();
    this.viewer.setTime(this.viewer.first.t + count);
  }

  toggle() {
    if (this.playing === null) this.#play();
    else this.pause();
  }

  pause() {
    cancelAnimationFrame(this.playing);
    this.playing = null;
    write(find("play"), "Play");
    find("play").setAttribute("aria-pressed", "false");
  }

  // Shows one frame after the other at their rate. No frame is left out: if they come too slowly, playing is slower.
  #play() {
    const { first } = this.viewer;
    write(find("play"), "Pause");
    find("play").setAttribute("aria-pressed", "true");
    let last = performance.now();
    const advance = (now) => {
      this.playing = requestAnimationFrame(advance);
      if (now - last < 1000 / this.#rate() || !first.isReady || first.shownT !== first.t) return;
      last = now;
      this.viewer.setTime((first.t + 1) % first.frame.count);
    };
    this.playing = requestAnimationFrame(advance);
  }

  #rate() {
    const { t } = this.viewer.first;
    const seconds = this.times.get(t + 1) - this.times.get(t);
    return seconds > 0 ? Math.min(MOST_RATE, 1 / seconds) : DEFAULT_RATE;
  }

  #write() {
    const { first } = this.viewer;
    if (!first || first.frame.count < 2) return;
    const seconds = this.times.get(first.shownT);
    const time = seconds === undefined ? "" : `, ${seconds.toFixed(3)} s`;
    write(find("time-text"), `frame ${first.shownT} of ${first.frame.count}${time}`);
    find("time").value = String(first.t);
    find("time").setAttribute("aria-valuetext", `frame ${first.t}${time}`);
    if (document.activeElement !== find("frame-number")) find("frame-number").value = String(first.t);
  }
}
