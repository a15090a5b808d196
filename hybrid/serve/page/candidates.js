// The candidates for an ARC test input, each with who names it and how likely it is.

import { Board } from "./board.js";
import { element, percent } from "./dom.js";
import { rowsOf } from "./puzzles.js";

// each: as the answer's `votes` hold it. total: how many could have voted.
export function card(task, each, index, total) {
  const title = each.guess ? `Guess ${each.guess}` : `Candidate ${index + 1}`;
  const made = element("article", { class: `candidate${each.guess ? " guess" : ""}` }, element("h4", {}, title));
  new Board(made, title).show(task, rowsOf(task, each.grid));
  made.append(...(each.shares ? ranked(each) : counted(each, total)));
  return made;
}

// What the ranking of network and proposer says of a candidate.
function ranked({ probability, shares, score }) {
  const lines = [
    ["Cold attempts", percent(shares.refiner), "The share of the network's attempts without a draft that end in this grid"],
    ["Drafted attempts", percent(shares["refiner+draft"]), "The share of the network's attempts from the draft that end in this grid"],
    ["Proposer's views", percent(shares.llm), "The share of the turned and recoloured views of the task in which the language model names this grid"],
    ["Its log p", score === null ? "none" : score.toFixed(1).replace("-", "\u2212"), "The logarithm of the probability that the language model gives this grid"],
  ];
  return [
    element("meter", { min: 0, max: 1, value: probability, "aria-hidden": "true" }),
    element("p", {}, element("b", {}, `${percent(probability)} likely`)),
    element("dl", {}, ...lines.map(([name, value, title]) => element("div", { title }, element("dt", {}, name), element("dd", {}, value)))),
  ];
}

// Votes, where nothing is ranked.
function counted(each, total) {
  const names = { refiner: "cold", "refiner+draft": "from the draft", llm: "language model" };
  const parts = Object.entries(each.sources).map(([source, count]) => `${count} ${names[source]}`).join(", ");
  const sure = each.confidence === null ? "" : `, halting ${percent(each.confidence)}`;
  return [
    element("meter", { min: 0, max: total, value: each.votes, "aria-label": `${each.votes} of ${total} votes` }),
    element("p", {}, element("b", {}, `${each.votes} of ${total} votes`), parts ? ` (${parts})${sure}` : ""),
  ];
}
