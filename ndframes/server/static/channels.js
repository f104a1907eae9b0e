// Channels: a row for each channel with its colour, its limits on a histogram, and gamma.

import { askJson, isAbort } from "./api.js";
import { applyPreset, fromHex, MOST_SHOWN, presetsOf, toHex } from "./colours.js";
import { find, make, makeButton, makeInput } from "./elements.js";

const HEIGHT = 48;
const WIDTH = 256;

export class Channels {
  constructor(viewer) {
    this.viewer = viewer;
    this.kept = null; // the settings of the image before, to be used again
    this.rows = new Map();
    viewer.addEventListener("layers", () => this.#build());
    find("preset").addEventListener("change", (event) => this.#preset(event.target.value));
    find("automatic").addEventListener("click", () => this.#setAll((each) => automaticLimits(each.stats)));
    find("full-range").addEventListener("click", () => this.#setAll((each) => [each.stats.minimum, each.stats.maximum]));
  }

  // Settings that an address or the image before has; what fits no channel is ignored.
  use(given) {
    this.kept = given;
  }

  #build() {
    const layer = this.viewer.first;
    if (!layer) return;
    const given = this.kept;
    const fits = given && layer.settings.every(({ code }) => given.some((each) => each.code === code));
    if (fits) {
      for (const each of layer.settings) {
        const { isShown, colour, low, high, gamma } = given.find(({ code }) => code === each.code);
        Object.assign(each, { isShown, colour, low, high, gamma });
      }
    }
    find("preset").replaceChildren(make("option", { value: "" }, "Preset"), ...presetsOf(layer.frame).map(([value, label]) => make("option", { value }, label)));
    layer.frame.stats.forEach((stats, index) => this.#take(layer.settings[index], stats));
    this.rows.clear();
    find("channels").replaceChildren(...layer.settings.map((each) => this.#row(each)));
    layer.settings.forEach((each) => this.#refresh(each)); // on the page, where their colours are known
    this.viewer.layers.forEach((each) => this.loadStats(each));
  }

  // The statistics of the groups of channels that are shown; limits that are not set yet come from them.
  async loadStats(layer) {
    const { frame } = layer;
    const groups = new Set(layer.channels.map(({ index }) => frame.places[index].group));
    for (const group of groups) {
      const members = layer.settings.filter(({ index }) => frame.places[index].group === group);
      if (members.every(({ stats }) => stats)) continue;
      try {
        const query = { channels: frame.groups[group].join("|"), t: frame.hasTime ? layer.t : null };
        const { channels } = await askJson(`frames/${frame.name}/stats`, query);
        members.forEach((each, place) => this.#take(each, channels[place]));
      } catch (error) {
        if (!isAbort(error)) this.viewer.tell("error", error);
      }
    }
    this.viewer.draw();
  }

  #take(each, stats) {
    each.stats = stats;
    if (each.low === null) [each.low, each.high] = defaultLimits(stats);
    this.#refresh(each);
  }

  #row(each) {
    const [shown, isShown] = makeInput(each.code, { type: "checkbox", "data-channel": each.code });
    const colour = make("input", { type: "color", "aria-label": `colour of ${each.code}` });
    const low = make("input", { type: "number", step: "any", "aria-label": `low limit of ${each.code}` });
    const high = make("input", { type: "number", step: "any", "aria-label": `high limit of ${each.code}` });
    const gamma = make("input", { type: "range", min: "0.2", max: "3", step: "0.05", "aria-label": `gamma of ${each.code}` });
    const reset = makeButton("Auto", () => this.#set(each, automaticLimits(each.stats)), { "aria-label": `automatic limits of ${each.code}` });
    const histogram = make("canvas", { width: WIDTH, height: HEIGHT, class: "histogram", role: "img", "aria-label": `histogram of ${each.code}` });
    isShown.addEventListener("change", () => this.#show(each, isShown.checked));
    colour.addEventListener("input", () => this.#change(each, { colour: fromHex(colour.value) }));
    gamma.addEventListener("input", () => this.#change(each, { gamma: Number(gamma.value) }));
    low.addEventListener("change", () => this.#set(each, [Number(low.value), each.high]));
    high.addEventListener("change", () => this.#set(each, [each.low, Number(high.value)]));
    drag(histogram, (place) => this.#isLow(each, place), (place, isLow) => this.#drag(each, place, isLow));
    const details = make("div", { class: "limits" }, histogram, low, high, reset, make("label", {}, "gamma", gamma));
    this.rows.set(each, { isShown, colour, low, high, gamma, histogram, details, reset });
    return make("li", {}, make("div", { class: "channel" }, shown, colour), details);
  }

  #refresh(each) {
    const row = this.rows.get(each);
    if (!row) return;
    row.isShown.checked = each.isShown;
    row.colour.value = toHex(each.colour);
    row.gamma.value = String(each.gamma);
    row.details.hidden = !each.isShown;
    for (const name of ["low", "high"]) {
      row[name].value = each[name] === null ? "" : String(tidy(each[name]));
      row[name].disabled = each[name] === null;
    }
    row.reset.disabled = !each.stats;
    if (each.stats) drawHistogram(row.histogram, each);
  }

  #show(each, isShown) {
    const shown = this.viewer.first.channels.length;
    if (isShown && shown >= MOST_SHOWN) this.viewer.tell("error", new Error(`at most ${MOST_SHOWN} channels are shown together; hide one first`));
    else each.isShown = isShown;
    this.#refresh(each);
    this.loadStats(this.viewer.first);
    this.#changed();
  }

  #set(each, [low, high]) {
    if (Number.isFinite(low) && Number.isFinite(high) && low <= high) Object.assign(each, { low, high });
    this.#refresh(each);
    this.#changed();
  }

  #change(each, values) {
    Object.assign(each, values);
    this.#refresh(each);
    this.#changed();
  }

  #setAll(limitsOf) {
    for (const each of this.viewer.first.channels) if (each.stats) this.#set(each, limitsOf(each));
  }

  #preset(name) {
    if (!name) return;
    applyPreset(this.viewer.first.settings, name);
    find("preset").value = "";
    this.viewer.first.settings.forEach((each) => this.#refresh(each));
    this.loadStats(this.viewer.first);
    this.#changed();
  }

  // Whether the low limit is the one nearer to a place of the histogram, 0 to 1.
  #isLow(each, place) {
    const value = valueAt(each, place);
    return Math.abs(value - each.low) < Math.abs(value - each.high);
  }

  #drag(each, place, isLow) {
    const value = valueAt(each, place);
    this.#set(each, isLow ? [Math.min(value, each.high), each.high] : [each.low, Math.max(value, each.low)]);
  }

  #changed() {
    this.viewer.tell("settings");
    this.viewer.draw();
  }
}

// 8-bit pictures are shown as they are, others between percentiles.
function defaultLimits(stats) {
  if (stats.dtype === "uint8") return [0, 255];
  if (stats.dtype === "bool") return [0, 1];
  return automaticLimits(stats);
}

function automaticLimits(stats) {
  const [low, high] = [stats.percentiles["1"], stats.percentiles["99"]];
  return low < high ? [low, high] : [stats.minimum, stats.maximum];
}

// The values between which the histogram is drawn: those of the image and both limits.
function spanOf({ stats, low, high }) {
  return { low: Math.min(stats.minimum, low), high: Math.max(stats.maximum, high) };
}

function valueAt(each, place) {
  const { low, high } = spanOf(each);
  return low + place * (high - low);
}

function tidy(value) {
  return Number(value.toPrecision(6));
}

function drawHistogram(canvas, each) {
  const context = canvas.getContext("2d");
  const { low: first, high: last } = spanOf(each);
  const toX = (value) => (last > first ? ((value - first) / (last - first)) * WIDTH : 0);
  const { minimum, maximum, histogram } = each.stats;
  // Roots, so that small counts are seen beside large ones.
  const most = Math.sqrt(Math.max(1, ...histogram));
  context.clearRect(0, 0, WIDTH, HEIGHT);
  context.fillStyle = getComputedStyle(canvas).color;
  const step = (maximum - minimum) / histogram.length;
  histogram.forEach((count, bin) => {
    const [x0, x1] = [toX(minimum + bin * step), toX(minimum + (bin + 1) * step)];
    const height = (Math.sqrt(count) / most) * (HEIGHT - 2);
    context.fillRect(x0, HEIGHT - height, Math.max(1, x1 - x0), height);
  });
  context.fillStyle = toHex(each.colour);
  for (const limit of [each.low, each.high]) context.fillRect(Math.min(WIDTH - 3, Math.max(0, toX(limit) - 1.5)), 0, 3, HEIGHT);
}

// Dragging moves the limit that is nearer to where it begins.
function drag(canvas, findHandle, move) {
  let isLow = null;
  const placeOf = (event) => {
    const box = canvas.getBoundingClientRect();
    return Math.min(1, Math.max(0, (event.clientX - box.left) / box.width));
  };
  canvas.addEventListener("pointerdown", (event) => {
    canvas.setPointerCapture(event.pointerId);
    isLow = findHandle(placeOf(event));
    move(placeOf(event), isLow);
  });
  canvas.addEventListener("pointermove", (event) => isLow !== null && move(placeOf(event), isLow));
  for (const name of ["pointerup", "pointercancel"]) canvas.addEventListener(name, () => { isLow = null; });
}
