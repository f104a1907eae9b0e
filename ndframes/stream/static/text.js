// Numbers as text.

const whole = new Intl.NumberFormat("en");

export const count = (value) => whole.format(value);

export const rate = (value) => (value === null ? "–" : value.toFixed(value < 10 ? 2 : 1));

export function milliseconds(value) {
  if (value === null) return "–";
  return `${value < 10 ? value.toFixed(2) : value < 100 ? value.toFixed(1) : count(Math.round(value))} ms`;
}

export function duration(seconds) {
  const total = Math.floor(seconds);
  const parts = [Math.floor(total / 3600), Math.floor(total / 60) % 60, total % 60];
  return parts.map((part) => String(part).padStart(2, "0")).join(":");
}

export const seconds = (value) => (value === null ? "–" : `${value.toFixed(2)} s`);
