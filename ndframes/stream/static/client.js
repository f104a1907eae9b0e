// Requests with the token, which comes in the fragment of the address and stays in this tab.

const KEY = "ndframes-token";

export class RefusedError extends Error {}

// The token; the address no longer shows it afterwards.
export function takeToken() {
  const given = new URLSearchParams(location.hash.slice(1)).get("token");
  if (given) {
    sessionStorage.setItem(KEY, given);
    history.replaceState(null, "", location.pathname);
  }
  return sessionStorage.getItem(KEY);
}

// An answer of the server; 409 and 422 are answers, too.
export async function request(path, { method = "GET", seconds = 15 } = {}) {
  const answer = await fetch(path, {
    method,
    headers: { Authorization: `Bearer ${sessionStorage.getItem(KEY) ?? ""}` },
    cache: "no-store",
    signal: AbortSignal.timeout(1000 * seconds),
  });
  if (answer.status === 401 || answer.status === 403) throw new RefusedError((await answer.text()).trim());
  if (!answer.ok && answer.status !== 409 && answer.status !== 422) throw new Error((await answer.text()).trim());
  return answer;
}

export const pause = (seconds) => new Promise((resolve) => setTimeout(resolve, 1000 * seconds));

// Waits until the page is looked at.
export function untilVisible() {
  if (!document.hidden) return Promise.resolve();
  return new Promise((resolve) => {
    const look = () => {
      if (document.hidden) return;
      document.removeEventListener("visibilitychange", look);
      resolve();
    };
    document.addEventListener("visibilitychange", look);
  });
}
