// Annotations: boxes, segmentations and keypoints of a COCO dataset over the image, those that are seen, by category and score.

import { askJson, isAbort } from "./api.js";
import { find, make, write } from "./elements.js";
import { outlinesOf } from "./outlines.js";

const HUE_STEP = 137.508; // degrees; successive hues are far apart
const MOST_LISTED = 200;
const LABELS_UP_TO = 60;

export class Annotations {
  // gallery: knows whether the images have annotations.
  constructor(viewer, gallery) {
    this.viewer = viewer;
    this.gallery = gallery;
    this.all = [];
    this.categories = new Map(); // id to {name, colour, isShown}
    this.chosen = null;
    viewer.addEventListener("layers", () => this.#load());
    // A frame is shown when it has come, which is later than it is asked for.
    viewer.addEventListener("draw", () => viewer.first.shownT !== this.listedT && this.#list());
    viewer.addEventListener("pick", (event) => this.#pick(event.detail));
    viewer.painters.push((context, camera) => this.#paint(context, camera));
    find("least-score").addEventListener("input", () => this.#filter());
    find("show-annotations").addEventListener("change", () => this.#filter());
  }

  async #load() {
    const { frame } = this.viewer;
    if (!frame || this.known === frame) return;
    this.known = frame;
    this.all = [];
    this.categories = new Map();
    this.chosen = null;
    find("annotations-panel").hidden = true;
    if (!this.gallery.hasAnnotations) return;
    try {
      for (let start = 0; start !== null && this.known === frame;) {
        const page = await askJson("annotations", { id: frame.name, start });
        page.categories.forEach((category, place) => this.#addCategory(category, place));
        if (this.known === frame) this.all.push(...page.annotations.map((each) => prepare(each, page.placements)));
        start = page.start;
      }
      this.#build();
    } catch (error) {
      if (!isAbort(error)) this.viewer.tell("error", error);
    }
  }

  #addCategory({ id, name }, place) {
    if (this.categories.has(id)) return;
    this.categories.set(id, { name: name ?? `category ${id}`, colour: `hsl(${(place * HUE_STEP) % 360} 90% 60%)`, isShown: true });
  }

  #build() {
    find("annotations-panel").hidden = !this.all.length;
    const counts = new Map();
    for (const { category_id: id } of this.all) counts.set(id, (counts.get(id) ?? 0) + 1);
    const rows = [...this.categories].filter(([id]) => counts.has(id)).map(([id, category]) => {
      const input = make("input", { type: "checkbox", checked: true, "data-category": String(category.name) });
      input.addEventListener("change", () => {
        category.isShown = input.checked;
        this.#filter();
      });
      const mark = make("span", { class: "mark", "aria-hidden": "true" });
      mark.style.backgroundColor = category.colour;
      return make("li", {}, make("label", {}, input, mark, `${category.name} (${counts.get(id)})`));
    });
    find("categories").replaceChildren(...rows);
    const hasScores = this.all.some((each) => Number.isFinite(each.score));
    find("least-score").closest("label").hidden = !hasScores;
    this.#list();
    this.viewer.draw();
  }

  #filter() {
    this.#list();
    this.viewer.draw();
  }

  // Those of the frame that is shown, of the categories and scores that are asked for.
  #shown() {
    if (!find("show-annotations").checked) return [];
    const least = Number(find("least-score").value);
    const t = this.viewer.first?.shownT;
    return this.all.filter((each) => each.t === t && (each.score ?? 1) >= least && this.categories.get(each.category_id)?.isShown !== false);
  }

  #list() {
    if (!this.all.length) return;
    const shown = this.#shown();
    this.listedT = this.viewer.first?.shownT;
    write(find("least-score-text"), Number(find("least-score").value).toFixed(2));
    write(find("annotation-count"), `${shown.length} of ${this.all.length} shown`);
    find("annotation-list").replaceChildren(...shown.slice(0, MOST_LISTED).map((each) => {
      const button = make("button", { type: "button", "aria-pressed": String(each === this.chosen) }, this.#label(each));
      button.addEventListener("click", () => this.#choose(each, true));
      return make("li", {}, button);
    }));
  }

  #label({ category_id: id, score, id: number }) {
    const name = this.categories.get(id)?.name ?? (id === null || id === undefined ? "no category" : `category ${id}`);
    return `${name} ${Number.isFinite(score) ? score.toFixed(2) : `#${number}`}`;
  }

  #choose(annotation, isMoving) {
    this.chosen = annotation;
    if (annotation && isMoving && annotation.bounds) this.viewer.camera.show(annotation.bounds, 0.5);
    this.viewer.moved();
    this.#list();
    find("annotation-facts").textContent = annotation ? describe(annotation) : "";
  }

  // The smallest annotation around a point, or none.
  #pick([y, x]) {
    const around = this.#shown().filter(({ bounds }) => bounds && y >= bounds[0] && x >= bounds[1] && y < bounds[2] && x < bounds[3]);
    const area = ({ bounds }) => (bounds[2] - bounds[0]) * (bounds[3] - bounds[1]);
    if (this.all.length) this.#choose(around.sort((one, other) => area(one) - area(other))[0] ?? null, false);
  }

  #paint(context, camera) {
    const seen = camera.seen;
    const shown = this.#shown().filter(({ bounds }) => bounds && isOverlapping(bounds, seen));
    const ratio = window.devicePixelRatio;
    context.lineJoin = "round";
    for (const each of shown) {
      const colour = this.categories.get(each.category_id)?.colour ?? "#fff";
      const width = (each === this.chosen ? 4 : 2) * ratio;
      // One path for each: a path of all of them is slower by far.
      context.beginPath();
      for (const ring of each.rings) trace(context, camera, ring);
      for (const [y, x] of each.points) dot(context, camera, y, x, 3 * ratio);
      Object.assign(context, { strokeStyle: "rgb(0 0 0 / 60%)", lineWidth: width + 2 * ratio });
      context.stroke();
      Object.assign(context, { strokeStyle: colour, lineWidth: width });
      context.stroke();
    }
    if (shown.length <= LABELS_UP_TO) shown.forEach((each) => this.#paintLabel(context, camera, each, ratio));
  }

  #paintLabel(context, camera, each, ratio) {
    const [top, left] = camera.toScreen(each.bounds[0], each.bounds[1]);
    const text = this.#label(each);
    Object.assign(context, { font: `${12 * ratio}px system-ui, sans-serif`, textAlign: "left", textBaseline: "bottom" });
    context.fillStyle = "rgb(0 0 0 / 65%)";
    context.fillRect(left, top - 16 * ratio, context.measureText(text).width + 6 * ratio, 16 * ratio);
    context.fillStyle = "#fff";
    context.fillText(text, left + 3 * ratio, top - 1 * ratio);
  }
}

// An annotation with its outlines in the pixels of the frame, and the number of the frame; null if it has none.
function prepare(annotation, placements) {
  const place = placements.find((each) => each.image_id === annotation.image_id);
  return { ...annotation, ...outlinesOf(annotation, place?.matrix ?? null), t: place?.t ?? null };
}

const DRAWN = ["rings", "points", "bounds", "segmentation", "t"];

function describe(annotation) {
  return JSON.stringify(annotation, (name, value) => (DRAWN.includes(name) ? undefined : value), 1);
}

function isOverlapping(one, other) {
  return one[0] < other[2] && one[2] > other[0] && one[1] < other[3] && one[3] > other[1];
}

function trace(context, camera, ring) {
  ring.forEach(([y, x], number) => {
    const [top, left] = camera.toScreen(y, x);
    if (number) context.lineTo(left, top);
    else context.moveTo(left, top);
  });
  context.closePath();
}

function dot(context, camera, y, x, radius) {
  const [top, left] = camera.toScreen(y, x);
  context.moveTo(left + radius, top);
  context.arc(left, top, radius, 0, 2 * Math.PI);
}
