// Code: a box of an image as text that reads the same pixels in Python, by curl, by IIIF and by zarr.

import { currentToken, serviceAddress } from "./api.js";

// box: [y0, x0, y1, x1] in pixels of the image; t: the frame, or null; shown: codes of channels, or null for all.
export function codeOf(frame, [y0, x0, y1, x1], t, shown) {
  const { key: id } = frame.description;
  const key = Array.isArray(id) ? `(${id.map((part) => JSON.stringify(part)).join(", ")})` : JSON.stringify(id);
  const slices = `${t === null ? "" : `${t}, `}${y0}:${y1}, ${x0}:${x1}`;
  const channels = shown ? `, channels=${JSON.stringify(shown.join("|"))}` : "";
  const query = [
    ...(t === null ? [] : [`t=${t}`]), `y=${y0}:${y1}`, `x=${x0}:${x1}`,
    ...(shown ? [`channels=${encodeURIComponent(shown.join("|"))}`] : []),
  ].join("&");
  const base = serviceAddress(false);
  const secret = `${base}k/${currentToken() ?? "TOKEN"}/`;
  const found = {
    python: [
      "import numpy as np", "import ndframes as nf", "",
      `frames = nf.connect(${JSON.stringify(serviceAddress(true))})`,
      `crop = frames.load_region(${key}, np.s_[${slices}]${channels})`,
    ].join("\n"),
    local: `crop = frames.load_region(${key}, np.s_[${slices}]${channels})`,
    curl: `curl -H "Authorization: Bearer ${currentToken() ?? "TOKEN"}" -o crop.npy "${base}frames/${frame.name}/region?${query}"`,
  };
  if (t === null) found.iiif = `${secret}iiif/${frame.name}/${x0},${y0},${x1 - x0},${y1 - y0}/max/0/default.png`;
  found.zarr = `${secret}zarr/${frame.name}`;
  return found;
}
