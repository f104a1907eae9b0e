// A card for each source.

import { make, makeFacts, write, writeState } from "./elements.js";
import { showFrames } from "./pictures.js";
import { count, rate, seconds } from "./text.js";

const FACTS = [
  ["rate", "Per second"],
  ["captured", "Captured"],
  ["decoded", "Decoded"],
  ["decimated", "Left out by fps"],
  ["held_back", "Lost"],
  ["reconnects", "Reconnects"],
  ["stalls", "Stalls"],
  ["epochs", "Connections"],
];

export class SourceCard {
  constructor(number, name, isOver) {
    this.badge = make("span", { class: "badge" });
    this.size = make("p", { class: "quiet" });
    this.canvas = make("canvas", { role: "img", "aria-label": `No picture of ${name} yet`, width: "16", height: "9" });
    this.caption = make("figcaption", {}, "No picture yet");
    const [list, fill] = makeFacts(FACTS);
    this.fill = fill;
    const title = make("div", { class: "title" }, make("h3", {}, name), this.badge);
    const figure = make("figure", {}, this.canvas, this.caption);
    this.element = make("article", { class: "card", "data-source": name }, title, figure, this.size, list);
    this.name = name;
    this.number = number;
    this.isOver = isOver;
  }

  show() {
    showFrames(this.number, this.canvas, this.isOver, (index, time, problem) => {
      write(this.caption, problem ?? `Frame ${count(index)} at ${seconds(time)}`);
      if (problem !== null) return;
      this.canvas.dataset.index = index;
      this.canvas.setAttribute("aria-label", `Frame ${index} of ${this.name}`);
    });
  }

  update(source) {
    writeState(this.badge, source.state);
    const frame = source.frame;
    write(this.size, frame ? `${frame.shape[1]} × ${frame.shape[0]} px, ${describeChannels(frame)}` : "Size not known yet");
    const counts = FACTS.slice(1).map(([key]) => [key, count(source[key])]);
    this.fill({ rate: rate(source.rate), ...Object.fromEntries(counts) });
  }
}

function describeChannels(frame) {
  const channels = frame.shape[2] ?? 1;
  return `${channels} ${channels === 1 ? "channel" : "channels"} of ${frame.dtype}`;
}
