// Outlines: the forms of COCO and kwcoco in which an annotation says where it is, as rings of points [y, x]. COCO's coordinates
// are those of pixel edges, as here, and come as x, y.

// {rings, points, bounds} of an annotation; bounds is [y0, x0, y1, x1], or null if it says nothing. matrix: of x and y, from
// the pixels of the annotation's image to those that are shown; null if they are the same.
export function outlinesOf({ bbox, segmentation, keypoints }, matrix) {
  const place = matrix ? (point) => move(point, matrix) : (point) => point;
  const rings = ringsOf(segmentation).map((ring) => ring.map(place));
  const points = pointsOf(keypoints).map(place);
  const box = isBox(bbox) ? boxRing(bbox).map(place) : [];
  if (!rings.length && box.length) rings.push(box);
  return { rings, points, bounds: boundsOf(box.length ? box : [...rings.flat(), ...points]) };
}

function move([y, x], [[a, b, c], [d, e, f]]) {
  return [d * x + e * y + f, a * x + b * y + c];
}

function isBox(bbox) {
  return Array.isArray(bbox) && bbox.length === 4 && bbox.every(Number.isFinite);
}

function boxRing([x, y, width, height]) {
  return [[y, x], [y, x + width], [y + height, x + width], [y + height, x]];
}

function ringsOf(segmentation) {
  if (!segmentation) return [];
  if (Array.isArray(segmentation)) {
    if (segmentation.every(Number.isFinite)) return [toPairs(segmentation)];
    return segmentation.flatMap((each) => (Array.isArray(each) ? [toPairs(each)] : ringsOf(each)));
  }
  if (segmentation.exterior) return [segmentation.exterior, ...(segmentation.interiors ?? [])].map((ring) => toPairs(ring.flat()));
  if (segmentation.counts) return outlineRuns(runsOf(segmentation), segmentation.size);
  return [];
}

// A flat list of x, y.
function toPairs(numbers) {
  const pairs = [];
  for (let index = 0; index + 1 < numbers.length; index += 2) pairs.push([numbers[index + 1], numbers[index]]);
  return pairs;
}

// COCO has x, y, visibility in one list; kwcoco has objects with xy. Points that are not labelled are left out.
function pointsOf(keypoints) {
  if (!Array.isArray(keypoints)) return [];
  if (keypoints.every(Number.isFinite)) {
    const found = [];
    for (let index = 0; index + 2 < keypoints.length; index += 3) {
      if (keypoints[index + 2] > 0) found.push([keypoints[index + 1], keypoints[index]]);
    }
    return found;
  }
  return keypoints.filter((each) => Array.isArray(each?.xy) && each.visible !== 0).map(({ xy: [x, y] }) => [y, x]);
}

// The lengths of runs of a mask, down its columns, that of zeros first: a list, or COCO's text.
function runsOf({ counts }) {
  if (Array.isArray(counts)) return counts;
  const runs = [];
  for (let at = 0; at < counts.length;) {
    let [value, shift, hasMore] = [0, 0, true];
    while (hasMore) {
      const bits = counts.charCodeAt(at) - 48;
      value |= (bits & 31) << shift;
      hasMore = (bits & 32) > 0;
      shift += 5;
      at += 1;
      if (!hasMore && bits & 16) value |= -1 << shift;
    }
    runs.push(runs.length > 2 ? value + runs.at(-2) : value);
  }
  return runs;
}

// The edges between pixels inside and outside a mask, joined to rings.
function outlineRuns(runs, [height, width]) {
  const mask = new Uint8Array(height * width); // column by column
  let at = 0;
  runs.forEach((length, number) => {
    if (number % 2) mask.fill(1, at, at + length);
    at += length;
  });
  const isIn = (y, x) => y >= 0 && x >= 0 && y < height && x < width && mask[x * height + y] === 1;
  const next = new Map(); // corner to the corners that follow, with the mask on the right
  const key = (y, x) => y * (width + 1) + x;
  const join = (from, to) => next.set(from, [...(next.get(from) ?? []), to]);
  for (let x = 0; x < width; x += 1) {
    for (let y = 0; y < height; y += 1) {
      if (!isIn(y, x)) continue;
      if (!isIn(y - 1, x)) join(key(y, x), key(y, x + 1));
      if (!isIn(y, x + 1)) join(key(y, x + 1), key(y + 1, x + 1));
      if (!isIn(y + 1, x)) join(key(y + 1, x + 1), key(y + 1, x));
      if (!isIn(y, x - 1)) join(key(y + 1, x), key(y, x));
    }
  }
  return followCorners(next).map((ring) => ring.map((corner) => [Math.floor(corner / (width + 1)), corner % (width + 1)]));
}

function followCorners(next) {
  const rings = [];
  for (const start of next.keys()) {
    while (next.get(start)?.length) {
      const ring = [];
      for (let corner = start; next.get(corner)?.length;) {
        ring.push(corner);
        corner = next.get(corner).pop();
      }
      rings.push(ring);
    }
  }
  return rings;
}

function boundsOf(points) {
  if (!points.length) return null;
  const [ys, xs] = [points.map(([y]) => y), points.map(([, x]) => x)];
  return [Math.min(...ys), Math.min(...xs), Math.max(...ys), Math.max(...xs)];
}
