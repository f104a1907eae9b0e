// Drawing without WebGL2: the same picture as webgl.js, computed here, but each pixel of the screen shows one pixel of the block.

import { strengthOf } from "./colours.js";

export class CanvasRenderer {
  constructor(canvas) {
    this.canvas = canvas;
    this.context = canvas.getContext("2d");
  }

  get name() {
    return "Canvas";
  }

  draw(camera, items, channels) {
    const { width, height } = this.canvas;
    this.context.clearRect(0, 0, width, height);
    for (const item of items) this.#drawItem(camera, item, channels);
  }

  drop() {}

  close() {}

  #drawItem(camera, { place, scale, sources }, channels) {
    const [top, left] = camera.toScreen(place.y * scale, place.x * scale);
    const size = camera.zoom * scale;
    // The pixels of the screen whose middles are in the block.
    const rows = span(top, top + place.height * size, this.canvas.height);
    const cols = span(left, left + place.width * size, this.canvas.width);
    if (rows[1] <= rows[0] || cols[1] <= cols[0]) return;
    const picture = this.context.createImageData(cols[1] - cols[0], rows[1] - rows[0]);
    let out = 0;
    for (let row = rows[0]; row < rows[1]; row += 1) {
      const y = Math.min(place.height - 1, Math.floor((row + 0.5 - top) / size));
      for (let col = cols[0]; col < cols[1]; col += 1) {
        const x = Math.min(place.width - 1, Math.floor((col + 0.5 - left) / size));
        addColours(picture.data, out, sources, channels, y, x);
        out += 4;
      }
    }
    this.context.putImageData(picture, cols[0], rows[0]);
  }
}

function addColours(data, out, sources, channels, y, x) {
  let [red, green, blue, isSeen] = [0, 0, 0, false];
  for (let number = 0; number < channels.length; number += 1) {
    const { block, band } = sources[number];
    const [elements, start] = block.at(y, x);
    const value = elements.number(start + band);
    const channel = channels[number];
    if (Number.isNaN(value)) continue;
    const strength = strengthOf(value, channel);
    red += strength * channel.colour[0];
    green += strength * channel.colour[1];
    blue += strength * channel.colour[2];
    isSeen = true;
  }
  // Rounded and clipped by the array, which is Uint8ClampedArray.
  data[out] = red;
  data[out + 1] = green;
  data[out + 2] = blue;
  data[out + 3] = isSeen ? 255 : 0;
}

function span(first, last, most) {
  return [Math.max(0, Math.ceil(first - 0.5)), Math.min(most, Math.ceil(last - 0.5))];
}
