// Colours: how the values of channels become a picture. Each shown channel adds its colour, scaled between its limits.

export const MOST_SHOWN = 8;
const RED = [255, 0, 0];
const GREEN = [0, 255, 0];
const BLUE = [0, 0, 255];
const WHITE = [255, 255, 255];
// Pairwise distinct on black, and light enough to be seen.
const HUES = [
  [255, 64, 64], [64, 255, 64], [96, 128, 255], [255, 255, 64], [64, 255, 255], [255, 64, 255], [255, 160, 64], [200, 200, 200],
];
const PRIMARIES = [[["r", "red"], RED], [["g", "green"], GREEN], [["b", "blue"], BLUE]];
const ALPHA = ["a", "alpha"];

// How one channel is shown. Values up to low are black, values from high on have the full colour.
export function makeSettings(frame) {
  const settings = frame.channels.map((code, index) => ({
    code, index, isShown: false, colour: WHITE, low: null, high: null, gamma: 1,
  }));
  applyPreset(settings, findPrimaries(frame.channels) ? "colour" : "gray");
  return settings;
}

// The presets of an image: [name, label].
export function presetsOf(frame) {
  const presets = [];
  if (findPrimaries(frame.channels)) presets.push(["colour", "Red, green, blue"]);
  else if (frame.channels.length >= 3) presets.push(["first", "First three as red, green, blue"]);
  presets.push(["gray", "One channel in gray"]);
  if (frame.channels.length > 1) presets.push(["hues", "A colour for each channel"]);
  return presets;
}

export function applyPreset(settings, name) {
  const primaries = name === "colour" ? findPrimaries(settings.map((each) => each.code)) : [0, 1, 2];
  const first = settings.find((each) => each.isShown)?.index ?? 0;
  for (const each of settings) {
    const place = name === "gray" || name === "hues" ? -1 : primaries.indexOf(each.index);
    if (name === "gray") Object.assign(each, { isShown: each.index === first, colour: WHITE });
    else if (name === "hues") Object.assign(each, { isShown: each.index < MOST_SHOWN, colour: HUES[each.index % HUES.length] });
    else Object.assign(each, { isShown: place >= 0, colour: place >= 0 ? [RED, GREEN, BLUE][place] : WHITE });
  }
}

function findPrimaries(codes) {
  const lower = codes.map((code) => code.toLowerCase());
  const found = PRIMARIES.map(([names]) => lower.findIndex((code) => names.includes(code)));
  if (found.every((index) => index >= 0)) return found;
  // Three channels without names, and a fourth one that is only their opacity.
  const isPicture = codes.length === 3 || (codes.length === 4 && ALPHA.includes(lower[3]));
  return isPicture && lower.slice(0, 3).every((code) => /^\d+$/.test(code)) ? [0, 1, 2] : null;
}

// The strength of a value, 0 to 1. A channel with equal limits is shown at half strength.
export function strengthOf(value, { low, high, gamma }) {
  if (high <= low) return 0.5;
  return Math.min(1, Math.max(0, (value - low) / (high - low))) ** gamma;
}

export function toHex(colour) {
  return `#${colour.map((part) => part.toString(16).padStart(2, "0")).join("")}`;
}

export function fromHex(text) {
  return [1, 3, 5].map((start) => parseInt(text.slice(start, start + 2), 16));
}
