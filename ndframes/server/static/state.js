// State: what the page shows, as the fragment of its address, so that a link restores the view. The token is never in it.

import { fromHex, toHex } from "./colours.js";

// {id, y, x, zoom, t, channels, box, compare}; null for what an address does not say.
export function readState(fragment) {
  const given = new URLSearchParams(fragment.replace(/^#/, ""));
  const number = (name) => {
    const value = Number(given.get(name) ?? NaN);
    return Number.isFinite(value) ? value : null;
  };
  const box = (given.get("box") ?? "").split(",").map(Number);
  return {
    id: given.get("id"),
    y: number("y"), x: number("x"), zoom: number("zoom"), t: number("t"),
    channels: readChannels(given.get("channels")),
    box: box.length === 4 && box.every(Number.isInteger) ? box : null,
    compare: readCompare(given.get("compare")),
  };
}

export function writeState({ id, y, x, zoom, t, channels, box, compare }) {
  const parts = [["id", id], ["y", tidy(y)], ["x", tidy(x)], ["zoom", tidy(zoom)]];
  if (t) parts.push(["t", t]);
  parts.push(["channels", channels.filter((each) => each.isShown && each.low !== null).map(writeChannel).join(",")]);
  if (box) parts.push(["box", box.join(",")]);
  if (compare) parts.push(["compare", [compare.id, compare.mode, compare.opacity, compare.split].join(",")]);
  return parts.map(([name, value]) => `${name}=${encodeURIComponent(value).replaceAll("%2C", ",").replaceAll("%3A", ":")}`).join("&");
}

function writeChannel({ code, colour, low, high, gamma }) {
  return [encodeURIComponent(code), toHex(colour).slice(1), low, high, gamma].join(":");
}

function readChannels(text) {
  if (!text) return null;
  const found = text.split(",").map((part) => {
    const [code, colour, ...numbers] = part.split(":");
    const [low, high, gamma] = numbers.map(Number);
    const isRight = /^[0-9a-f]{6}$/.test(colour) && numbers.length === 3 && [low, high, gamma].every(Number.isFinite);
    return isRight ? { code: decodeURIComponent(code), colour: fromHex(`#${colour}`), low, high, gamma, isShown: true } : null;
  });
  return found.includes(null) ? null : found;
}

function readCompare(text) {
  const [id, mode, opacity, split] = (text ?? "").split(",");
  const isRight = id && ["opacity", "swipe", "side"].includes(mode);
  return isRight ? { id, mode, opacity: Number(opacity), split: Number(split) } : null;
}

// As short as it can be without a visible difference.
function tidy(value) {
  return Number(value.toPrecision(8));
}
