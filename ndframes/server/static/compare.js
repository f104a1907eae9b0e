// Compare: a second image over the first one, by opacity or a divider, or side by side.

import { isAbort } from "./api.js";
import { find, make } from "./elements.js";
import { Frame } from "./frame.js";

export class Compare {
  // gallery: whose images are offered.
  constructor(viewer, gallery) {
    this.viewer = viewer;
    this.gallery = gallery;
    find("compare-with").addEventListener("change", (event) => this.open(event.target.value.trim()));
    find("compare-stop").addEventListener("click", () => this.open(""));
    find("compare-mode").addEventListener("change", (event) => viewer.setCompare({ mode: event.target.value }));
    find("compare-amount").addEventListener("input", (event) => this.#setAmount(Number(event.target.value)));
    find("compare-match").addEventListener("change", () => this.#match());
    viewer.addEventListener("layers", () => this.#write());
  }

  // Shows the image of a name beside the first one; none for an empty name.
  async open(name) {
    const { first } = this.viewer;
    const asked = {};
    this.asked = asked;
    try {
      const frame = name ? await Frame.open(name) : null;
      // Meanwhile another image may be shown, or compared.
      if (this.asked !== asked || !first || this.viewer.first !== first) return;
      this.viewer.compareWith(frame);
      this.#match();
    } catch (error) {
      if (!isAbort(error)) this.viewer.tell("error", error);
    }
    this.viewer.tell("settings");
  }

  // By pixels, or so that both images fill the same extent.
  #match() {
    const [first, second] = this.viewer.layers;
    if (!second) return;
    second.ratio = find("compare-match").checked ? second.frame.shape[0] / first.frame.shape[0] : 1;
    this.viewer.draw();
  }

  #setAmount(amount) {
    this.viewer.setCompare(this.viewer.compare.mode === "swipe" ? { split: amount } : { opacity: amount });
    this.viewer.tell("settings");
  }

  #write() {
    const [first, second] = this.viewer.layers;
    if (!first) return;
    find("compare-names").replaceChildren(...this.gallery.names.filter((name) => name !== first.frame.name).map((name) => make("option", { value: name })));
    find("compare-with").value = second ? second.frame.name : "";
    find("compare-facts").hidden = !second;
    const { mode, opacity, split } = this.viewer.compare;
    find("compare-mode").value = mode;
    find("compare-amount").value = String(mode === "swipe" ? split : opacity);
  }
}
