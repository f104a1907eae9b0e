// The picture of a source: one request at a time for a newer frame, so that a slow browser skips frames.

import { RefusedError, pause, request, untilVisible } from "./client.js";

const SMALL_PX = 200;
const MOST_REQUESTS = 3; // browsers open six connections, and other requests need some

let running = 0;
const waiting = [];

async function inTurn(work) {
  if (running >= MOST_REQUESTS) await new Promise((resolve) => waiting.push(resolve));
  running += 1;
  try {
    return await work();
  } finally {
    running -= 1;
    waiting.shift()?.();
  }
}

// Resolves when the canvas is on the screen.
function whenOnScreen(canvas) {
  return new Promise((resolve) => {
    const observer = new IntersectionObserver((entries) => {
      if (!entries.some((entry) => entry.isIntersecting)) return;
      observer.disconnect();
      resolve();
    });
    observer.observe(canvas);
  });
}

async function draw(canvas, blob) {
  const bitmap = await createImageBitmap(blob);
  canvas.width = bitmap.width;
  canvas.height = bitmap.height;
  canvas.classList.toggle("small", bitmap.width < SMALL_PX);
  canvas.getContext("2d").drawImage(bitmap, 0, 0);
  bitmap.close();
}

// Shows the frames of a source for as long as they come. `isOver()` says whether no more will; `tell(index, seconds, problem)` is
// called for each.
export async function showFrames(number, canvas, isOver, tell) {
  let after = -1;
  for (;;) {
    await untilVisible();
    await whenOnScreen(canvas);
    const wasOver = isOver();
    try {
      const answer = await inTurn(() => request(`sources/${number}/picture?after=${after}`));
      if (answer.status === 204) {
        if (wasOver) return;
        continue;
      }
      if (answer.status === 422) {
        tell(null, null, (await answer.text()).trim());
        await pause(2);
        continue;
      }
      await draw(canvas, await answer.blob());
      after = Number(answer.headers.get("x-frame-index"));
      tell(after, Number(answer.headers.get("x-frame-time")), null);
    } catch (error) {
      if (error instanceof RefusedError) return;
      await pause(2);
    }
  }
}
