// Frame: an image, a sequence or a video of the service, as levels of blocks. Level k has pixels of 2^k x 2^k pixels of the image.

import { askBytes, askJson, askRegion } from "./api.js";
import { Elements } from "./npy.js";

const BLOCK_PX = 512;
// Channels of one request, and of one texture. An image with more is read in groups of so many.
const GROUP = 8;

// What a part of the screen is drawn from. The pixels of a stored block come as several tiles, one after the other.
class Block {
  constructor(key, place, bands, tiles) {
    this.key = key;
    this.place = place; // {level, row, col, y, x, height, width}; y and x in pixels of the level
    this.bands = bands;
    this.tiles = tiles; // [{y, x, height, width, elements, start}], within the block; rows of whole tiles
    this.bytes = tiles.reduce((sum, tile) => sum + tile.height * tile.width * bands * 4, 0);
  }

  // The tile at a pixel of the block, and the number of the pixel's first element.
  at(y, x) {
    const { height, width } = this.tiles[0];
    const perRow = Math.ceil(this.place.width / width);
    const tile = this.tiles[Math.floor(y / height) * perRow + Math.floor(x / width)];
    return [tile.elements, tile.start + ((y - tile.y) * tile.width + (x - tile.x)) * this.bands];
  }
}

export class Frame {
  // description: of /frames/NAME; stats: of its first channels; stored: a file of /frames/NAME/tiles, if the image is that file.
  constructor(description, stats, stored) {
    this.name = description.id;
    this.stats = stats.channels;
    this.mayLackData = stats.may_lack_data;
    this.description = description;
    // Those that are read by default come first. Of the others, each is a group, since together they would have one dtype.
    const others = (description.all_channels ?? []).filter((code) => !description.channels.includes(code));
    this.channels = [...description.channels, ...others];
    this.hasOthers = others.length > 0;
    this.dtype = description.dtype;
    this.hasTime = description.shape.length === 4;
    this.count = this.hasTime ? description.shape[0] : 1;
    const [height, width] = description.shape.slice(-3);
    this.shape = [height, width];
    // Down to one block.
    this.levels = [[height, width]];
    while (Math.max(...this.levels.at(-1)) > BLOCK_PX) this.levels.push(this.levels.at(-1).map((extent) => Math.ceil(extent / 2)));
    this.stored = stored && !this.hasOthers && stored.levels.length >= this.levels.length ? stored : null;
    const first = split(description.channels, GROUP);
    this.groups = [...first, ...split(others, 1)];
    this.firstGroups = first.length;
    // Of each channel: the number of its group, and its place there.
    this.places = this.groups.flatMap((codes, group) => codes.map((_, band) => ({ group, band })));
  }

  static async open(name, signal) {
    const path = `frames/${encodeURIComponent(name)}`;
    const [description, stats] = await Promise.all([
      askJson(path, {}, signal), askJson(`${path}/stats`, { c: `0:${GROUP}` }, signal),
    ]);
    return new Frame(description, stats, await findStored(description, stats, signal));
  }

  // Which channels a request of a group reads. Images of a sequence may lack channels that are not read by default.
  queryOf(group) {
    const isOther = group >= this.firstGroups;
    return { channels: this.groups[group].join("|"), nodata: isOther || this.mayLackData ? "nan" : null };
  }

  // The blocks of a level that a box of the image, [y0, x0, y1, x1], touches.
  blocksIn(level, [y0, x0, y1, x1]) {
    const [height, width] = this.levels[level];
    const scale = 2 ** level * BLOCK_PX;
    const last = [Math.ceil(height / BLOCK_PX) - 1, Math.ceil(width / BLOCK_PX) - 1];
    const found = [];
    for (let row = Math.max(0, Math.floor(y0 / scale)); row <= Math.min(last[0], Math.floor(y1 / scale)); row += 1) {
      for (let col = Math.max(0, Math.floor(x0 / scale)); col <= Math.min(last[1], Math.floor(x1 / scale)); col += 1) {
        const [y, x] = [row * BLOCK_PX, col * BLOCK_PX];
        found.push({ level, row, col, y, x, height: Math.min(BLOCK_PX, height - y), width: Math.min(BLOCK_PX, width - x) });
      }
    }
    return found;
  }

  keyOf(place, t, group) {
    return `${this.name} ${this.description.state} ${t} ${group} ${place.level} ${place.row} ${place.col}`;
  }

  async load(place, t, group, signal) {
    const key = this.keyOf(place, t, group);
    return this.stored ? this.#loadStored(key, place, signal) : this.#loadRegion(key, place, t, group, signal);
  }

  async #loadRegion(key, place, t, group, signal) {
    const scale = 2 ** place.level;
    const query = {
      y: `${place.y * scale}:${Math.min(this.shape[0], (place.y + place.height) * scale)}`,
      x: `${place.x * scale}:${Math.min(this.shape[1], (place.x + place.width) * scale)}`,
      t: this.hasTime ? t : null,
      ...this.queryOf(group),
      scale: scale === 1 ? null : 1 / scale,
      state: this.description.state, // pixels of two states are never shown together
    };
    const { shape, elements } = await askRegion(this.name, query, signal);
    const [height, width, bands] = shape;
    return new Block(key, place, bands, [{ y: 0, x: 0, height, width, elements, start: 0 }]);
  }

  async #loadStored(key, place, signal) {
    const [height, width, bands] = this.stored.tile_shape;
    const [down, across] = [BLOCK_PX / height, BLOCK_PX / width];
    const rows = [place.row * down, place.row * down + Math.ceil(place.height / height)];
    const cols = [place.col * across, place.col * across + Math.ceil(place.width / width)];
    const path = `frames/${this.name}/${this.stored.state}/tiles/${place.level}`;
    const bytes = await askBytes(path, { rows: rows.join(":"), cols: cols.join(":") }, signal);
    const count = height * width * bands;
    const elements = new Elements(this.stored.dtype, bytes, 0, count * (rows[1] - rows[0]) * (cols[1] - cols[0]));
    const tiles = [];
    for (let row = 0; row < rows[1] - rows[0]; row += 1) {
      for (let col = 0; col < cols[1] - cols[0]; col += 1) {
        tiles.push({ y: row * height, x: col * width, height, width, elements, start: tiles.length * count });
      }
    }
    return new Block(key, place, bands, tiles);
  }
}

function split(codes, size) {
  const parts = [];
  for (let first = 0; first < codes.length; first += size) parts.push(codes.slice(first, first + size));
  return parts;
}

// Stored tiles come without being decoded, but only an image that is exactly one file has them.
async function findStored(description, stats, signal) {
  const isImage = description.shape.length === 3 && description.channels.length <= GROUP;
  if (!isImage || !stats.is_stored || stats.may_lack_data) return null;
  const { files, is_image: isWhole } = await askJson(`frames/${description.id}/tiles`, {}, signal);
  const [height, width] = files[0].tile_shape;
  return isWhole && BLOCK_PX % height === 0 && BLOCK_PX % width === 0 ? files[0] : null;
}
