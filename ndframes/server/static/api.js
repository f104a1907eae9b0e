// Requests to the service. Each sends the token, which is in the fragment of the address that the server has printed.

import { parseNpy } from "./npy.js";

const MOST_TRIES = 5;
const STORED_AS = "ndframes-token"; // beside what other programs of the same host store, such as Jupyter
// A proxy may drop the header of the token; then it is in the path, before the name of the page.
const IN_PATH = /\/k\/([\w-]+)\/$/;
let token = null;

// Sent by the service as JSON; or the network does not answer.
class ServiceError extends Error {
  constructor(message, type = "Error", status = 0) {
    super(message);
    this.name = type;
    this.status = status;
  }
}

// Takes the token out of the address, so that the address can be shown or copied, and keeps it for the tab. Whether there was one.
export function takeToken() {
  const parts = location.hash.slice(1).split("&");
  const given = parts.find((part) => part.startsWith("token="));
  if (given) {
    keep(decodeURIComponent(given.slice("token=".length)));
    const rest = parts.filter((part) => !part.startsWith("token=")).join("&");
    history.replaceState(null, "", location.pathname + (rest ? `#${rest}` : ""));
  }
  token = IN_PATH.exec(location.pathname)?.[1] ?? kept() ?? token;
  return Boolean(given);
}

// A page in a frame of another site may not have storage; then the token lasts as long as the page.
function keep(value) {
  token = value;
  try {
    sessionStorage.setItem(STORED_AS, value);
  } catch {
    return;
  }
}

function kept() {
  try {
    return sessionStorage.getItem(STORED_AS);
  } catch {
    return null;
  }
}

// The address that ndframes.connect takes, without the token or with it.
export function serviceAddress(withToken) {
  const base = new URL(".", location.href).href.replace(IN_PATH, "/");
  return withToken && token ? `${base}#token=${token}` : base;
}

export function isTokenInPath() {
  return IN_PATH.test(location.pathname);
}

export function currentToken() {
  return token;
}

function toQuery(values) {
  const given = Object.entries(values).filter(([, value]) => value !== null && value !== undefined);
  return given.length ? `?${given.map(([name, value]) => `${name}=${encodeURIComponent(value)}`).join("&")}` : "";
}

export async function ask(path, query = {}, signal = undefined) {
  const headers = token ? { authorization: `Bearer ${token}` } : {};
  for (let attempt = 1; ; attempt += 1) {
    const answer = await fetch(path + toQuery(query), { headers, signal }).catch((error) => {
      if (error.name === "AbortError") throw error;
      throw new ServiceError("the service does not answer; is it still running?", "NetworkError");
    });
    if (answer.ok) return answer;
    if (answer.status === 503 && attempt < MOST_TRIES) {
      await answer.body?.cancel();
      await sleep(1000 * Number(answer.headers.get("retry-after") ?? 1), signal);
      continue;
    }
    throw await toError(answer);
  }
}

async function toError(answer) {
  const text = await answer.text();
  if (answer.status === 401) {
    return new ServiceError("Open the whole address that the server has printed: it ends with #token=…", "AccessError", 401);
  }
  try {
    const { type, message } = JSON.parse(text).error;
    return new ServiceError(message, type, answer.status);
  } catch {
    return new ServiceError(text.trim() || `the service answered ${answer.status}`, "Error", answer.status);
  }
}

function sleep(milliseconds, signal) {
  return new Promise((resolve, reject) => {
    const timer = setTimeout(resolve, milliseconds);
    signal?.addEventListener("abort", () => {
      clearTimeout(timer);
      reject(signal.reason);
    });
  });
}

export async function askJson(path, query, signal) {
  return (await ask(path, query, signal)).json();
}

export async function askBytes(path, query, signal) {
  return (await ask(path, query, signal)).arrayBuffer();
}

// Pixels of a region, exact: {shape, dtype, values}; see npy.js.
export async function askRegion(name, query, signal) {
  return parseNpy(await askBytes(`frames/${name}/region`, query, signal));
}

// Whether an error only says that nobody waits any more.
export function isAbort(error) {
  return error.name === "AbortError";
}
