// Camera: which part of an image the screen shows. Coordinates of the image have pixel edges at whole numbers; those of the
// screen are pixels of the device.

export const MOST_ZOOM = 128;

export class Camera {
  constructor() {
    this.y = 0; // of the image, in the middle of the screen
    this.x = 0;
    this.zoom = 1; // pixels of the screen for a pixel of the image
    this.screen = [1, 1]; // height, width
    this.image = [1, 1];
  }

  // The zoom at which the whole image is seen.
  get fitting() {
    return Math.min(this.screen[0] / this.image[0], this.screen[1] / this.image[1]);
  }

  // Where the top left corner of the image is on the screen. Whole numbers, so that pixels are sharp.
  get origin() {
    return [
      Math.round(this.screen[0] / 2 - this.y * this.zoom),
      Math.round(this.screen[1] / 2 - this.x * this.zoom),
    ];
  }

  toScreen(y, x) {
    const [top, left] = this.origin;
    return [top + y * this.zoom, left + x * this.zoom];
  }

  toImage(screenY, screenX) {
    const [top, left] = this.origin;
    return [(screenY - top) / this.zoom, (screenX - left) / this.zoom];
  }

  // The part of the image on the screen: [y0, x0, y1, x1], not clipped.
  get seen() {
    return [...this.toImage(0, 0), ...this.toImage(...this.screen)];
  }

  // The camera for an image of which so many pixels correspond to one of this image.
  scaled(ratio) {
    const other = new Camera();
    return Object.assign(other, { y: this.y * ratio, x: this.x * ratio, zoom: this.zoom / ratio, screen: this.screen });
  }

  fit() {
    this.zoom = Math.min(MOST_ZOOM, this.fitting);
    [this.y, this.x] = [this.image[0] / 2, this.image[1] / 2];
  }

  // Shows a box of the image, [y0, x0, y1, x1].
  show([y0, x0, y1, x1], margin = 0.8) {
    const [height, width] = [Math.max(1, y1 - y0), Math.max(1, x1 - x0)];
    this.zoomTo(margin * Math.min(this.screen[0] / height, this.screen[1] / width));
    [this.y, this.x] = [(y0 + y1) / 2, (x0 + x1) / 2];
  }

  // Moves the image by pixels of the screen. Its middle stays within the image.
  pan(down, right) {
    this.y = clamp(this.y - down / this.zoom, 0, this.image[0]);
    this.x = clamp(this.x - right / this.zoom, 0, this.image[1]);
  }

  // Zooms so that a point of the screen keeps its place in the image.
  zoomBy(factor, screenY = this.screen[0] / 2, screenX = this.screen[1] / 2) {
    const [y, x] = this.toImage(screenY, screenX);
    this.zoomTo(this.zoom * factor);
    this.y = clamp(y - (screenY - this.screen[0] / 2) / this.zoom, 0, this.image[0]);
    this.x = clamp(x - (screenX - this.screen[1] / 2) / this.zoom, 0, this.image[1]);
  }

  zoomTo(zoom) {
    this.zoom = clamp(zoom, Math.min(1, this.fitting / 2), MOST_ZOOM);
  }
}

export function clamp(value, low, high) {
  return Math.min(high, Math.max(low, value));
}
