// Arrays in the format .npy, and views of their elements. All dtypes of ndframes are little-endian here.

const VIEWS = {
  b1: Uint8Array, u1: Uint8Array, i1: Int8Array, u2: Uint16Array, i2: Int16Array, u4: Uint32Array, i4: Int32Array,
  u8: BigUint64Array, i8: BigInt64Array, f4: Float32Array, f8: Float64Array,
};
const COMPLEX_PARTS = { c8: "f4", c16: "f8" };

// The elements of an array, read one by one as they are.
export class Elements {
  // dtype: as in .npy, such as "<u2".
  constructor(dtype, buffer, offset, count) {
    this.kind = dtype.slice(1);
    this.count = count;
    const part = COMPLEX_PARTS[this.kind];
    if (this.kind === "f2") this.view = halvesToFloats(new Uint16Array(buffer, offset, count));
    else if (part) this.view = new VIEWS[part](buffer, offset, 2 * count);
    else if (VIEWS[this.kind]) this.view = new VIEWS[this.kind](buffer, offset, count);
    else throw new Error(`the dtype ${dtype} cannot be shown`);
    this.isComplex = Boolean(part);
  }

  // A number for the display: the magnitude of complex ones, the nearest float of 64-bit integers.
  number(index) {
    if (this.isComplex) return Math.hypot(this.view[2 * index], this.view[2 * index + 1]);
    return Number(this.view[index]);
  }

  // The exact value, as text.
  text(index) {
    if (this.kind === "b1") return this.view[index] ? "true" : "false";
    if (!this.isComplex) return numberToText(this.view[index], this.kind);
    const [real, imaginary] = [this.view[2 * index], this.view[2 * index + 1]];
    const part = COMPLEX_PARTS[this.kind];
    const sign = imaginary < 0 || Object.is(imaginary, -0) ? "-" : "+";
    return `${numberToText(real, part)}${sign}${numberToText(Math.abs(imaginary), part)}j`;
  }
}

// The shortest text that gives the same value of the dtype again, as numpy prints it.
function numberToText(value, kind) {
  if (Number.isNaN(value)) return "nan";
  if (value === Infinity || value === -Infinity) return value > 0 ? "inf" : "-inf";
  if (kind !== "f2" && kind !== "f4") return String(value);
  const digits = kind === "f2" ? 5 : 9;
  const narrow = kind === "f2" ? roundToHalf : Math.fround;
  for (let precision = 1; precision <= digits; precision += 1) {
    const shorter = Number(value.toPrecision(precision));
    if (narrow(shorter) === value) return String(shorter);
  }
  return String(value);
}

function halvesToFloats(bits) {
  const floats = new Float32Array(bits.length);
  for (let index = 0; index < bits.length; index += 1) floats[index] = halfToNumber(bits[index]);
  return floats;
}

function halfToNumber(bits) {
  const sign = bits & 0x8000 ? -1 : 1;
  const exponent = (bits >> 10) & 31;
  const fraction = bits & 1023;
  if (exponent === 31) return fraction ? NaN : sign * Infinity;
  return exponent ? sign * 2 ** (exponent - 15) * (1 + fraction / 1024) : sign * 2 ** -14 * (fraction / 1024);
}

// The nearest value of 16 bits of a number that is in their range; ties are not met by texts of few digits.
function roundToHalf(value) {
  const exponent = Math.max(-14, Math.floor(Math.log2(Math.abs(value) || 1)));
  const step = 2 ** (exponent - 10);
  return Math.round(value / step) * step;
}

// {shape, dtype, elements} of the bytes of a file.
export function parseNpy(buffer) {
  const head = new DataView(buffer);
  const isLong = head.getUint8(6) > 1;
  const start = isLong ? 12 : 10;
  const length = isLong ? head.getUint32(8, true) : head.getUint16(8, true);
  const text = new TextDecoder().decode(new Uint8Array(buffer, start, length));
  const dtype = /'descr':\s*'([^']+)'/.exec(text)[1];
  if (dtype[0] === ">" || /'fortran_order':\s*True/.test(text)) throw new Error(`an array of ${text} cannot be shown`);
  const shape = /'shape':\s*\(([^)]*)\)/.exec(text)[1].split(",").filter((part) => part.trim()).map(Number);
  const count = shape.reduce((product, extent) => product * extent, 1);
  return { dtype, shape, elements: new Elements(dtype, buffer, start + length, count) };
}
