// The page: it asks for the state twice a second, and shows it.

import { AlgorithmCard } from "./algorithms.js";
import { RefusedError, pause, request, takeToken, untilVisible } from "./client.js";
import { write, writeState } from "./elements.js";
import { SourceCard } from "./sources.js";
import { duration } from "./text.js";

const PAUSE_SECONDS = 0.5;
const PAUSE_AT_END_SECONDS = 3;
const FINAL = ["stopped", "failed"];

const at = (id) => document.getElementById(id);
const cards = { sources: new Map(), algorithms: new Map() };
let state = null;
let problem = ""; // of a button; the next state keeps it

const isOver = () => state !== null && FINAL.includes(state.state);

function complain(text) {
  write(at("problem"), text);
  at("problem").hidden = text === "";
}

function updateCards(place, items, makeCard, ...facts) {
  for (const [number, item] of items.entries()) {
    let card = cards[place].get(item.name);
    if (card === undefined) {
      card = makeCard(number, item.name);
      cards[place].set(item.name, card);
      at(place).append(card.element);
      card.show?.();
    }
    card.update(item, ...facts);
  }
}

function update(found) {
  state = found;
  writeState(at("state"), found.state);
  write(at("mode"), found.mode);
  write(at("duration"), duration(found.seconds));
  at("start").disabled = found.state !== "idle";
  at("stop").disabled = found.state === "idle" || isOver();
  complain(found.error ?? problem);
  updateCards("sources", found.sources, (number, name) => new SourceCard(number, name, isOver));
  updateCards("algorithms", found.algorithms, (_, name) => new AlgorithmCard(name), found.sources.length > 1);
  document.title = `${found.state} – pipeline`;
}

function lose(why) {
  writeState(at("state"), "not connected");
  at("start").disabled = at("stop").disabled = true;
  complain(why);
}

async function press(path) {
  try {
    const answer = await request(path, { method: "POST" });
    problem = answer.status === 409 ? (await answer.text()).trim() : "";
    if (problem) complain(problem);
    else update(await answer.json());
  } catch (error) {
    complain(error.message);
  }
}

async function watch() {
  for (;;) {
    await untilVisible();
    try {
      update(await (await request("state")).json());
    } catch (error) {
      if (error instanceof RefusedError) {
        lose(error.message);
        return;
      }
      lose("The server does not answer: it has ended, or cannot be reached. What is shown is the last known state.");
      await pause(PAUSE_AT_END_SECONDS);
    }
    await pause(isOver() ? PAUSE_AT_END_SECONDS : PAUSE_SECONDS);
  }
}

// Another address for this tab differs in its fragment only.
addEventListener("hashchange", () => location.reload());
at("start").addEventListener("click", () => press("start"));
at("stop").addEventListener("click", () => press("stop"));
if (takeToken() === null) lose("This address lacks the token. Open the address that Pipeline.serve() returned, with #token= at its end.");
else watch();
