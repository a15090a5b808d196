// What the server told of one solve, and the view of it: lanes side by side, steps, votes, verdict.

import { Board, brokenCells } from "./board.js";
import { card } from "./candidates.js";
import { $, draw, element, percent } from "./dom.js";
import { rowsOf } from "./puzzles.js";

const LANES = { refiner: "Cold start", "refiner+draft": "From the draft" };
const STAGES = ["Queue", "Draft", "Refine", "Verdict"];
const PLAY_MS = 450;

const counted = (count, noun) => `${count} ${noun}${count === 1 ? "" : "s"}`;
const breaking = (count) => (count === 1 ? "1 cell breaks a rule" : `${count} cells break a rule`);

export class Run {
  // puzzle: as puzzles.js reads it. drafts: whether a proposer drafts. refines: whether a refiner refines.
  constructor(puzzle, { drafts, refines, steps, byCycle }) {
    this.puzzle = puzzle;
    this.byCycle = byCycle; // whether the slider goes through the cycles of each step
    this.of = 1; // cycles of a step
    this.steps = steps;
    this.draft = null; // the last one: { grids: [rows], broken: [violations], valid, error, tokens, seconds }
    this.attempts = new Map(); // number -> { number, source, restart, inputs: [[{ rows, confidence, broken }]] }
    this.shown = {}; // source -> number of the attempt that its lane shows
    this.answer = null;
    this.input = 0;
    this.events = [];
    this.position = 0;
    this.follows = true;
    this.expected = [...(refines ? ["refiner"] : []), ...(drafts ? (refines ? ["refiner+draft"] : ["llm"]) : [])];
    this.#layOut();
    this.#stage(0);
    this.#say("Sent.");
  }

  // -- events ------------------------------------------------------------------------------------------------
  hear(name, data) {
    this.events.push({ event: name, ...data });
    const heard = {
      queued: () => this.#say(data.ahead > 0 ? `Waiting, ${data.ahead} before this one.` : "Sent."),
      started: () => this.#started(),
      drafting: () => this.#drafting(data.tokens),
      adapting: () => this.#adapting(data.seconds, data.of),
      draft: () => this.#drafted(data),
      step: () => this.#stepped(data),
      answer: () => this.#answered(data),
    }[name];
    heard?.();
  }

  end(words = null) {
    this.over = true;
    $("adapting").hidden = true;
    if (words && !this.answer) {
      this.#say(words);
      this.#verdict("stopped", "Stopped", [words]);
    }
    for (const lane of this.lanes) lane.panel.classList.remove("busy");
  }

  #started() {
    this.#stage(this.expected.includes("refiner+draft") || this.expected.includes("llm") ? 1 : 2);
    for (const lane of this.lanes) lane.panel.classList.add("busy");
    this.#say(this.expected.length > 1 || this.expected[0] === "llm" ? "The language model drafts." : "The network refines.");
  }

  #drafting(tokens) {
    const lane = this.lanes.find((each) => each.source !== "refiner");
    if (lane && !this.draft) lane.caption.textContent = `the language model writes, ${tokens} tokens`;
  }

  #adapting(seconds, of) {
    this.#stage(2);
    $("adapting").hidden = false;
    $("adapting-bar").value = of ? seconds / of : 0;
    $("adapting-words").textContent = `${seconds} of ${of} s`;
    if (!this.adapts) $("live").textContent = "A copy of the network is trained on the demonstrations.";
    this.adapts = true;
    $("verdict").hidden = true; // the bar says it
  }

  #drafted(data) {
    const grids = data.grids.map((text) => rowsOf(this.puzzle.task, text));
    this.draft = { ...data, grids: grids.length === this.puzzle.grids.length ? grids : null };
    const wrong = brokenCells(data.broken[this.input]).size;
    this.#say(this.draft.grids ? `The draft is there; ${breaking(wrong)}.` : `No draft could be read: ${data.error}.`);
    this.#stage(this.expected.includes("refiner") ? 2 : 3);
    this.render();
  }

  #stepped(data) {
    $("adapting").hidden = true;
    this.#stage(2);
    if (!this.attempts.has(data.attempt)) {
      const same = [...this.attempts.values()].filter((attempt) => attempt.source === data.source).length;
      this.attempts.set(data.attempt, {
        number: data.attempt, source: data.source, restart: same, inputs: this.puzzle.grids.map(() => []),
      });
      this.shown[data.source] = data.attempt;
      if (this.follows) this.position = 0;
      this.#listAttempts();
      this.#say(same ? `Not verified yet: restart ${same} ${data.source === "refiner" ? "cold" : "from the draft"}.` : "The network refines.");
    }
    const attempt = this.attempts.get(data.attempt);
    const frame = (each) => ({
      rows: rowsOf(this.puzzle.task, each.grid), broken: each.broken,
      weighed: each.weighed.map((grid) => rowsOf(this.puzzle.task, grid)), moved: each.z_moved,
    });
    const step = { ...frame(data), number: data.step, confidence: data.confidence, cycles: [] };
    step.cycles = data.cycles.map((cycle, n) => ({
      ...frame(cycle), number: data.step, cycle: n + 1, confidence: n + 1 === data.cycles.length ? data.confidence : null,
    }));
    attempt.inputs[data.input - 1].push(step);
    this.of = Math.max(this.of, step.cycles.length);
    if (this.follows) this.position = Math.max(this.position, this.#frames(attempt).length);
    this.render();
  }

  #answered(data) {
    this.answer = data;
    const { record } = data;
    // The lanes show the attempts that gave the answer.
    for (const [index, attempt] of data.attempts.entries()) {
      const gave = attempt.status === "verified" || String(attempt.grids) === String(data.grids);
      if (gave && this.attempts.has(index + 1)) {
        const source = this.attempts.get(index + 1).source;
        if (!this.settled?.[source]) this.shown[source] = index + 1;
        this.settled = { ...this.settled, [source]: true };
      }
    }
    if (this.follows) this.position = this.length;
    this.#stage(4);
    const words = {
      verified: "Verified: the exact rules hold",
      unverified: "Answered: no rule can decide whether it is right",
      unsolved: record.answer === null ? "No answer" : "Not solved",
    }[record.status];
    const broken = data.broken.flatMap((list, index) => list.map((violation) => ({ ...violation, index })));
    this.#verdict(record.status, words, broken.length ? broken : record.violations, record);
    this.#say([`${words}.`, record.note, record.violations.slice(0, 3).join("; ")].filter(Boolean).join(" "));
    this.#listAttempts();
    this.#showVotes(data.votes);
    $("facts").textContent = [
      counted(record.steps, "supervision step"), record.restarts ? counted(record.restarts, "restart") : null,
      `${record.seconds.total.toFixed(1)} s`, record.seed ? `seed ${record.seed}` : null,
    ].filter(Boolean).join(" · ");
    this.render();
  }

  // -- view --------------------------------------------------------------------------------------------------
  get length() {
    return Math.max(0, ...Object.values(this.shown).map((number) => this.#frames(this.attempts.get(number)).length));
  }

  // What the slider goes through: the steps of an attempt, or their cycles.
  #frames(attempt) {
    const steps = attempt?.inputs[this.input] ?? [];
    return this.byCycle ? steps.flatMap((step) => (step.cycles.length ? step.cycles : [step])) : steps;
  }

  showCycles(whether) {
    if (this.byCycle === whether) return;
    this.pause();
    this.byCycle = whether;
    this.position = whether ? this.position * this.of : Math.ceil(this.position / this.of);
    this.render();
  }

  go(position) {
    this.follows = this.over ? false : position >= this.length;
    this.position = Math.min(Math.max(position, 0), this.length);
    this.render();
  }

  play() {
    if (this.timer) return this.pause();
    if (this.position >= this.length) this.position = 0;
    this.render();
    this.timer = setInterval(() => {
      this.go(this.position + 1);
      if (this.position >= this.length) this.pause();
    }, PLAY_MS);
    this.#buttons();
    return undefined;
  }

  pause() {
    clearInterval(this.timer);
    this.timer = null;
    this.#buttons();
  }

  select(input) {
    this.input = input;
    this.position = this.length;
    this.render();
    if (this.answer) this.#showVotes(this.answer.votes);
  }

  #layOut() {
    this.lanes = this.expected.map((source) => {
      const caption = element("p", { class: "caption" });
      const chart = element("div", { class: "chart", "aria-hidden": "true" });
      const title = { ...LANES, llm: "Draft" }[source];
      const panel = element("section", { class: "lane", "aria-label": title }, element("h3", {}, title));
      const board = new Board(panel, title);
      panel.append(caption, chart);
      return { source, panel, board, caption, chart };
    });
    $("lanes").replaceChildren(...this.lanes.map((lane) => lane.panel));
    $("lanes").dataset.count = this.lanes.length;
    for (const id of ["attempts", "votes", "adapting"]) $(id).hidden = true;
    $("facts").textContent = "";
    $("empty").hidden = true;
    $("run").hidden = false;
    this.render();
  }

  render() {
    const { task } = this.puzzle;
    const question = this.puzzle.grids[this.input];
    for (const lane of this.lanes) {
      const attempt = this.attempts.get(this.shown[lane.source]);
      const steps = this.#frames(attempt);
      const start = lane.source === "refiner" ? question : this.draft?.grids?.[this.input] ?? question;
      const at = Math.min(this.position, steps.length);
      const step = steps[at - 1];
      const before = at > 1 ? steps[at - 2].rows : at === 1 ? start : null;
      let broken = step?.broken;
      if (!step && lane.source !== "refiner") broken = this.draft?.broken?.[this.input];
      lane.board.show(task, step?.rows ?? start, { question, before: step && at > 0 ? before : null, broken: brokenCells(broken), weighed: step?.weighed });
      lane.caption.replaceChildren(...this.#caption(lane, attempt, step));
      draw(lane.chart, (attempt?.inputs[this.input] ?? []).map((each) => each.confidence), step?.confidence == null ? 0 : step.number, this.steps);
    }
    const slider = $("slider");
    slider.max = this.length;
    slider.value = this.position;
    const [step, cycle] = this.byCycle ? [Math.ceil(this.position / this.of), ((this.position + this.of - 1) % this.of) + 1] : [this.position, 0];
    const words = this.position === 0 ? (this.draft ? "draft" : "start")
      : cycle ? `step ${step}, cycle ${cycle} of ${this.of}` : `step ${step} of ${this.length}`;
    $("cycles-choice").hidden = this.of < 2;
    slider.setAttribute("aria-valuetext", words);
    $("position").textContent = words;
    this.#buttons();
  }

  #caption(lane, attempt, step) {
    if (step) {
      const wrong = brokenCells(step.broken).size;
      const rules = this.puzzle.task === "arc" ? "" : wrong ? breaking(wrong) : step.broken.length ? step.broken[0].words : "no rule is broken";
      const name = attempt.restart ? `restart ${attempt.restart}, ` : "";
      return [
        element("span", {}, `${name}step ${step.number}${step.cycle ? `, cycle ${step.cycle}` : ""}`),
        step.confidence === null ? null : element("span", { class: "confidence" }, element("b", {}, percent(step.confidence)), " confident"),
        element("span", { class: wrong ? "bad" : "good" }, rules),
        step.moved === null ? null : element("span", { title: "The distance that the network's hidden state z moved meanwhile, as a share of its length" }, `z moved ${Math.round(100 * step.moved)} %`),
      ].filter(Boolean);
    }
    if (lane.source === "refiner") return [element("span", {}, this.attempts.size ? "the question" : this.over ? "" : "waiting for the network")];
    if (!this.draft) return [element("span", {}, this.over ? "no draft" : "waiting for the draft")];
    if (!this.draft.grids) return [element("span", { class: "bad" }, `no draft: ${this.draft.error}`)];
    const count = brokenCells(this.draft.broken[this.input]).size;
    const rules = this.puzzle.task === "arc" ? "" : count ? breaking(count) : this.draft.valid ? "no rule is broken" : this.draft.error;
    return [
      element("span", {}, "the draft"),
      element("span", {}, `${this.draft.tokens} tokens, ${this.draft.seconds.toFixed(1)} s`),
      element("span", { class: this.draft.valid ? "good" : "bad" }, rules),
    ];
  }

  #listAttempts() {
    const results = this.answer?.attempts ?? [];
    const chips = [...this.attempts.values()].map((attempt) => {
      const result = results[attempt.number - 1];
      const name = attempt.restart ? `restart ${attempt.restart} ${attempt.source === "refiner" ? "cold" : "from the draft"}` : LANES[attempt.source].toLowerCase();
      const chosen = this.shown[attempt.source] === attempt.number;
      const end = result ? `, ${result.status}, ${percent(result.confidence)} confident` : "";
      const pick = () => {
        this.shown[attempt.source] = attempt.number;
        this.position = this.length;
        this.#listAttempts();
        this.render();
      };
      return element("button", { type: "button", class: `chip ${result?.status ?? ""}`, "aria-pressed": String(chosen), "aria-label": name + end, onclick: pick }, name);
    });
    $("attempts").replaceChildren(element("span", { class: "label" }, "Attempts"), ...chips);
    $("attempts").hidden = this.attempts.size <= this.lanes.length;
  }

  #verdict(status, words, violations, record = null) {
    const marks = { verified: "✓", unverified: "?", unsolved: "✗", stopped: "■", working: "…" };
    const confidence = record?.confidence == null ? null : element("span", { class: "sure" }, `confidence ${percent(record.confidence)}`);
    const by = { refiner: "by the network, cold", "refiner+draft": "by the network, from the draft", llm: "by the language model" }[record?.source];
    const head = element("p", { class: "verdict-head" },
      element("b", {}, element("span", { class: "mark", "aria-hidden": "true" }, `${marks[status]} `), words),
      record?.answer != null && by ? element("span", {}, by) : null, confidence);
    const items = violations.map((violation) => this.#violation(violation));
    $("verdict").className = `verdict ${status}`;
    const note = record?.note ? [element("p", {}, record.note)] : [];
    $("verdict").replaceChildren(head, ...note, ...(items.length ? [element("ul", { class: "violations" }, ...items)] : []));
    $("verdict").hidden = false;
  }

  #violation(violation) {
    if (typeof violation === "string") return element("li", {}, violation);
    const point = (cells) => {
      for (const lane of this.lanes) lane.board.point(cells);
    };
    const show = () => point(violation.cells);
    const hide = () => point([]);
    return element("li", {}, element("button", {
      type: "button", class: "violation", onmouseenter: show, onmouseleave: hide, onfocus: show, onblur: hide,
    }, violation.words));
  }

  #showVotes(votes) {
    const list = votes?.[this.input] ?? [];
    $("votes").hidden = !list.length;
    const total = this.answer.attempts.length + this.answer.record.drafts.filter((draft) => draft.answer !== null).length;
    const cards = list.map((each, index) => card(this.puzzle.task, each, index, total));
    $("votes").replaceChildren(element("h3", {}, this.puzzle.grids.length > 1 ? `Candidates for test ${this.input + 1}` : "Candidates"), element("div", { class: "candidates" }, ...cards));
  }

  #stage(now) {
    const names = STAGES.filter((name) => (name !== "Draft" || this.expected.some((s) => s !== "refiner")) && (name !== "Refine" || this.expected.includes("refiner")));
    $("stages").replaceChildren(...names.map((name) => {
      const place = STAGES.indexOf(name);
      const state = place < now ? "done" : place === now ? "now" : "";
      return element("li", { class: state, "aria-current": state === "now" ? "step" : null }, name);
    }));
  }

  #buttons() {
    $("play").textContent = this.timer ? "❚❚" : "▶";
    $("play").setAttribute("aria-label", this.timer ? "Pause" : "Play");
    $("play").disabled = this.length === 0;
    $("back").disabled = this.position <= 0;
    $("forth").disabled = this.position >= this.length;
  }

  // For screen readers, and in the verdict's place until there is one.
  #say(words) {
    $("live").textContent = words;
    if (!this.answer && !this.over) this.#verdict("working", words, []);
  }
}
