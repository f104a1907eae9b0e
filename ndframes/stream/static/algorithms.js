// A card for each algorithm.

import { make, makeFacts, write } from "./elements.js";
import { count, milliseconds, rate, seconds } from "./text.js";

const COUNTS = [
  ["rate", "Per second"],
  ["scheduled", "Scheduled"],
  ["processed", "Processed", "processed"],
  ["pending", "Pending", "pending"],
  ["busy", "Dropped: busy", "busy"],
  ["late", "Dropped: late", "late"],
  ["error", "Dropped: error", "error"],
];
const LATENCIES = [["p50", "Median"], ["p95", "95 %"], ["p99", "99 %"], ["max", "Longest"]];
const PARTS = ["processed", "busy", "late", "error", "pending"];

export class AlgorithmCard {
  constructor(name) {
    const [counts, fillCounts] = makeFacts(COUNTS);
    const [latencies, fillLatencies] = makeFacts(LATENCIES);
    this.fillCounts = fillCounts;
    this.fillLatencies = fillLatencies;
    this.window = make("p", { class: "quiet" });
    this.bar = make("div", { class: "bar", "aria-hidden": "true" }, ...PARTS.map((part) => make("span", { "data-part": part })));
    this.rows = make("tbody");
    this.element = make("article", { class: "card", "data-algorithm": name },
      make("div", { class: "title" }, make("h3", {}, name)), this.window, this.bar, counts,
      make("h4", {}, "Latency"), latencies,
      make("h4", {}, "Newest results"), makeTable(this.rows));
  }

  // `hasSources`: whether a result must say which of several sources it is of.
  update(algorithm, hasSources) {
    write(this.window, `${algorithm.window}; worker: ${algorithm.worker}`);
    const values = { ...algorithm.dropped, processed: algorithm.processed, pending: algorithm.pending };
    for (const span of this.bar.children) span.style.flexGrow = values[span.dataset.part];
    const texts = Object.entries({ scheduled: algorithm.scheduled, ...values }).map(([key, value]) => [key, count(value)]);
    this.fillCounts({ rate: rate(algorithm.rate), ...Object.fromEntries(texts) });
    this.fillLatencies(Object.fromEntries(LATENCIES.map(([key]) => [key, milliseconds(algorithm.latency_ms[key])])));
    updateRows(this.rows, algorithm.results, hasSources);
  }
}

function makeTable(rows) {
  const titles = [["Frame"], ["Time", "time"], ["Value"]];
  const cells = titles.map(([title, kind]) => make("th", { scope: "col", ...(kind ? { class: kind } : {}) }, title));
  return make("table", {}, make("thead", {}, make("tr", {}, ...cells)), rows);
}

function updateRows(body, results, hasSources) {
  if (!results.length) {
    if (body.dataset.newest !== "") body.replaceChildren(make("tr", {}, make("td", { colspan: "3" }, "None yet")));
    body.dataset.newest = "";
    return;
  }
  // Rows are made anew only if there is a newer result.
  const newest = JSON.stringify(results);
  if (body.dataset.newest === newest) return;
  body.dataset.newest = newest;
  body.replaceChildren(...results.map((result) => make("tr", {},
    make("td", {}, count(result.index)),
    make("td", {}, hasSources ? `${seconds(result.time)}, ${result.source}` : seconds(result.time)),
    make("td", result.error === null ? {} : { class: "failed" }, result.error ?? result.value))));
}
