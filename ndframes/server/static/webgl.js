// Drawing by WebGL2. A tile is a texture as wide as its elements, so that its bytes are uploaded as they are; the shader finds
// the element of a channel, and applies limits and colours. Changing these needs no request.

const VERTEX = `#version 300 es
uniform vec4 corners; // left, top, right, bottom in clip coordinates
uniform vec2 extent;  // width, height of the block in texels
out vec2 texel;
void main() {
  vec2 corner = vec2(gl_VertexID & 1, gl_VertexID >> 1);
  texel = corner * extent;
  gl_Position = vec4(mix(corners.xy, corners.zw, corner), 0.0, 1.0);
}`;

const CHANNEL = (number) => `
  {
    float value = float(texelFetch(data${number}, ivec2(place.x * bands[${number}] + band[${number}], place.y), 0).r);
    if (!isMissing(value)) {
      float strength = isFlat[${number}] ? 0.5 : stretch(value, low[${number}], high[${number}]);
      sum += vec4(pow(strength, gamma[${number}]) * colour[${number}], 0.0);
      sum.a = 1.0;
    }
  }`;

// samplers: of each channel.
function fragmentSource(samplers) {
  const count = samplers.length;
  const numbers = [...samplers.keys()];
  return `#version 300 es
precision highp float;
precision highp int;
${numbers.map((number) => `uniform highp ${samplers[number]} data${number};`).join("\n")}
uniform int bands[${count}];
uniform int band[${count}];
uniform float low[${count}];
uniform float high[${count}];
uniform float gamma[${count}];
uniform vec3 colour[${count}];
uniform bool isFlat[${count}]; // both limits are equal
uniform vec2 extent;
uniform float footprint; // texels for a pixel of the screen
in vec2 texel;
out vec4 shown;
bool isMissing(float value) {
  // By its bits: some drivers assume that isnan() is never true.
  return (floatBitsToUint(value) & 0x7fffffffu) > 0x7f800000u;
}
float stretch(float value, float low, float high) {
  // Near each other, the limits may be one 32-bit float.
  if (value <= low) return 0.0;
  return value >= high ? 1.0 : (value - low) / (high - low);
}
vec4 look(vec2 at) {
  ivec2 place = clamp(ivec2(floor(at)), ivec2(0), ivec2(extent) - 1);
  vec4 sum = vec4(0.0);
  ${numbers.map(CHANNEL).join("\n")}
  return vec4(min(sum.rgb, 1.0), sum.a);
}
void main() {
  if (footprint <= 1.01) {
    shown = look(texel);
    return;
  }
  float near = footprint / 4.0;
  shown = (look(texel + vec2(-near, -near)) + look(texel + vec2(near, -near))
    + look(texel + vec2(-near, near)) + look(texel + vec2(near, near))) / 4.0;
}`;
}

// By the kind of the elements: the sampler, and the format, layout and type of the texture. Others become 32-bit floats.
const TEXTURES = {
  b1: ["usampler2D", "R8UI", "RED_INTEGER", "UNSIGNED_BYTE"],
  u1: ["usampler2D", "R8UI", "RED_INTEGER", "UNSIGNED_BYTE"],
  u2: ["usampler2D", "R16UI", "RED_INTEGER", "UNSIGNED_SHORT"],
  i1: ["isampler2D", "R8I", "RED_INTEGER", "BYTE"],
  i2: ["isampler2D", "R16I", "RED_INTEGER", "SHORT"],
  f2: ["sampler2D", "R32F", "RED", "FLOAT"],
  f4: ["sampler2D", "R32F", "RED", "FLOAT"],
};
const FLOATS = TEXTURES.f4;
const NEEDED_TEXTURE_PX = 4096;

export class WebglRenderer {
  // Throws if the browser has no WebGL2. onLost: called when the browser takes it away; this renderer draws nothing from then on.
  constructor(canvas, onLost) {
    this.canvas = canvas;
    this.gl = canvas.getContext("webgl2", { antialias: false, depth: false, premultipliedAlpha: true });
    if (!this.gl || this.gl.getParameter(this.gl.MAX_TEXTURE_SIZE) < NEEDED_TEXTURE_PX) throw new Error("no WebGL2");
    this.programs = new Map();
    this.textures = new Map(); // block to {texture, sampler, offsets}
    this.isClosed = false;
    canvas.addEventListener("webglcontextlost", () => {
      this.programs.clear();
      this.textures.clear();
      if (!this.isClosed) onLost();
    });
  }

  get name() {
    return "WebGL2";
  }

  // items: [{place, scale, sources: [{block, band}]}], each drawn over those before it; one source for each channel.
  draw(camera, items, channels) {
    const { gl } = this;
    if (gl.isContextLost()) return;
    gl.viewport(0, 0, this.canvas.width, this.canvas.height);
    gl.clearColor(0, 0, 0, 0);
    gl.clear(gl.COLOR_BUFFER_BIT);
    for (const item of items) this.#drawItem(camera, item, channels);
  }

  // Browsers have some 16 contexts, and take the oldest away for a new one, also if its canvas is gone but not collected.
  close() {
    this.isClosed = true;
    this.gl.getExtension("WEBGL_lose_context")?.loseContext();
  }

  drop(block) {
    const kept = this.textures.get(block);
    if (kept) this.gl.deleteTexture(kept.texture);
    this.textures.delete(block);
  }

  #drawItem(camera, { place, scale, sources }, channels) {
    const { gl } = this;
    const kept = sources.map(({ block }) => this.#textureOf(block));
    const { program, at } = this.#programOf(kept.map(({ sampler }) => sampler));
    gl.useProgram(program);
    gl.uniform4fv(at.corners, cornersOf(camera, place, scale));
    gl.uniform2f(at.extent, place.width, place.height);
    gl.uniform1f(at.footprint, 1 / (camera.zoom * scale));
    const offsets = sources.map(({ band }, number) => kept[number].offsets?.[band] ?? 0);
    gl.uniform1iv(at.bands, sources.map(({ block }) => block.bands));
    gl.uniform1iv(at.band, sources.map(({ band }) => band));
    gl.uniform1fv(at.low, channels.map(({ low }, number) => low - offsets[number]));
    gl.uniform1fv(at.high, channels.map(({ high }, number) => high - offsets[number]));
    gl.uniform1iv(at.isFlat, channels.map(({ low, high }) => Number(high <= low)));
    gl.uniform1fv(at.gamma, channels.map(({ gamma }) => gamma));
    gl.uniform3fv(at.colour, channels.flatMap(({ colour }) => colour.map((part) => part / 255)));
    kept.forEach(({ texture }, number) => {
      gl.activeTexture(gl.TEXTURE0 + number);
      gl.bindTexture(gl.TEXTURE_2D, texture);
      gl.uniform1i(at[`data${number}`], number);
    });
    gl.drawArrays(gl.TRIANGLE_STRIP, 0, 4);
  }

  #textureOf(block) {
    let kept = this.textures.get(block);
    if (!kept) {
      kept = this.#upload(block);
      this.textures.set(block, kept);
    }
    return kept;
  }

  #upload(block) {
    const { gl } = this;
    const known = TEXTURES[block.tiles[0].elements.kind];
    const [sampler, format, layout, type] = known ?? FLOATS;
    const offsets = known ? null : offsetsOf(block);
    const texture = gl.createTexture();
    gl.activeTexture(gl.TEXTURE0);
    gl.bindTexture(gl.TEXTURE_2D, texture);
    gl.pixelStorei(gl.UNPACK_ALIGNMENT, 1);
    const rows = Math.max(...block.tiles.map((tile) => tile.y + tile.height));
    const cols = Math.max(...block.tiles.map((tile) => tile.x + tile.width));
    gl.texStorage2D(gl.TEXTURE_2D, 1, gl[format], cols * block.bands, rows);
    for (const name of ["TEXTURE_MIN_FILTER", "TEXTURE_MAG_FILTER"]) gl.texParameteri(gl.TEXTURE_2D, gl[name], gl.NEAREST);
    for (const tile of block.tiles) {
      const count = tile.height * tile.width * block.bands;
      const values = known ? tile.elements.view.subarray(tile.start, tile.start + count) : narrow(tile, count, offsets);
      gl.texSubImage2D(
        gl.TEXTURE_2D, 0, tile.x * block.bands, tile.y, tile.width * block.bands, tile.height, gl[layout], gl[type], values,
      );
    }
    return { texture, sampler, offsets };
  }

  #programOf(samplers) {
    const key = samplers.join(" ");
    if (!this.programs.has(key)) this.programs.set(key, this.#link(samplers));
    return this.programs.get(key);
  }

  #link(samplers) {
    const { gl } = this;
    const program = gl.createProgram();
    for (const [kind, source] of [[gl.VERTEX_SHADER, VERTEX], [gl.FRAGMENT_SHADER, fragmentSource(samplers)]]) {
      const shader = gl.createShader(kind);
      gl.shaderSource(shader, source);
      gl.compileShader(shader);
      gl.attachShader(program, shader);
    }
    gl.linkProgram(program);
    if (!gl.getProgramParameter(program, gl.LINK_STATUS) && !gl.isContextLost()) {
      throw new Error(`the shader does not link: ${gl.getProgramInfoLog(program)}`);
    }
    const at = {};
    for (let index = 0; index < gl.getProgramParameter(program, gl.ACTIVE_UNIFORMS); index += 1) {
      const name = gl.getActiveUniform(program, index).name.replace("[0]", "");
      at[name] = gl.getUniformLocation(program, name);
    }
    return { program, at };
  }
}

function cornersOf(camera, place, scale) {
  const [top, left] = camera.toScreen(place.y * scale, place.x * scale);
  const [bottom, right] = camera.toScreen((place.y + place.height) * scale, (place.x + place.width) * scale);
  const [height, width] = camera.screen;
  return [(2 * left) / width - 1, 1 - (2 * top) / height, (2 * right) / width - 1, 1 - (2 * bottom) / height];
}

// A 32-bit float has 24 bits. Values of wider types are uploaded less the first one of their channel, so that small
// differences of large values are seen.
function offsetsOf(block) {
  const { elements, start } = block.tiles[0];
  return [...Array(block.bands).keys()].map((band) => {
    const first = elements.number(start + band);
    return Number.isFinite(first) ? first : 0;
  });
}

function narrow(tile, count, offsets) {
  const values = new Float32Array(count);
  for (let index = 0; index < count; index += 1) {
    values[index] = tile.elements.number(tile.start + index) - offsets[index % offsets.length];
  }
  return values;
}
