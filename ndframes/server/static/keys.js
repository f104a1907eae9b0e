// Keys: everything that the mouse does, by the keyboard, while the image has the focus.

export const HELP = [
  ["Arrow keys", "move the image"],
  ["Shift + arrow keys", "point at the next pixel, and read its values"],
  ["+ and -", "zoom in and out"],
  ["0", "show the whole image"],
  ["1", "one pixel of the image for one of the screen"],
  ["B", "draw boxes with the mouse; also Shift + drag"],
  ["V", "take what is seen as the box"],
  [", and .", "the frame before and after"],
  ["Space", "play and pause"],
  ["[ and ]", "the image before and after"],
  ["G", "the list of the images"],
  ["Escape", "remove the box"],
];
const ARROWS = { ArrowUp: [-1, 0], ArrowDown: [1, 0], ArrowLeft: [0, -1], ArrowRight: [0, 1] };

// actions: functions by the name of the key, for those that are not moves of the view.
export function listenToKeys(viewer, actions) {
  const moves = {
    "+": () => viewer.zoomIn(), "=": () => viewer.zoomIn(), "-": () => viewer.zoomOut(), "0": () => viewer.fit(), "1": () => viewer.zoomToPixels(),
    Escape: () => viewer.setBox(null),
    ...actions,
  };
  viewer.stage.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.altKey || event.metaKey || !viewer.frame) return;
    const arrow = ARROWS[event.key];
    if (arrow && event.shiftKey) viewer.stepPoint(...arrow);
    else if (arrow) viewer.panBy(...arrow);
    else if (moves[event.key]) moves[event.key]();
    else return;
    event.preventDefault();
  });
}
