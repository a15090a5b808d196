// The page: a puzzle is chosen or edited on the left, and solved on the right.

import { ApiError, get, post, setToken, solve } from "./api.js";
import { Board } from "./board.js";
import { $, element } from "./dom.js";
import { Editor } from "./editor.js";
import { fromLink, linkTo, picture, save } from "./export.js";
import { family, parse, shown, symbolsOf, write } from "./puzzles.js";
import { Run } from "./run.js";
import "./theme.js";

const TASKS = { sudoku: "Sudoku", maze: "Maze", arc: "ARC" };
const HINTS = {
  sudoku: (task) => `Click a cell and type or press 1 to ${symbolsOf(task).at(-1)}; the arrow keys move, Delete clears.`,
  maze: () => "Choose a tool and draw; on the keyboard the arrows move, and # S G or space write.",
  arc: () => "The network learns the rule from the demonstrations. Choose a colour and paint the test input; keys 0 to 9 write.",
};

const MOST_CHARACTERS = 200_000; // of a text that the server reads
const PAUSE_MS = 150; // in typing, after which the server reads what was written

let puzzle = null; // as puzzles.js has it; null where what was given is refused
let reading = false; // whether the server reads what was given
let notes = []; // on how it was read
let input = 0; // which test input of an ARC task is edited and shown
let samples = [];
let models = []; // what answers: { llm, refiner, tasks }
let given = []; // what the server read in the text given last: puzzles and errors
let asked = 0; // how many texts were given: the reply to an earlier one comes too late
let editor = null;
let run = null;
let running = null; // the AbortController of the solve under way

// -- the puzzle --------------------------------------------------------------------------------------------
function setPuzzle(item, withText = true) {
  if (item.error) return refuse(item.error.message);
  puzzle = parse(item.task, item.question);
  notes = item.notes ?? [];
  input = 0;
  refusal(null);
  showPuzzle(withText);
}

function refuse(words) {
  puzzle = null;
  refusal(words);
}

// Why there is no puzzle, in its place.
function refusal(words) {
  reading = false;
  $("drop").classList.toggle("refused", Boolean(words));
  $("refusal").hidden = !words;
  $("refusal").textContent = words ?? "";
  problem(null);
  allowSolve();
}

function allowSolve() {
  $("solve").disabled = Boolean(running) || reading || !puzzle;
}

// The server reads text of any form. task: null where it is to be detected. written: whether it stands in the box.
async function readText(text, name, task, written = false) {
  const mine = ++asked;
  reading = true;
  allowSolve();
  if (written) await new Promise((resolve) => setTimeout(resolve, PAUSE_MS));
  else $("text").value = text;
  if (mine !== asked) return;
  // Of a long text the first lines are read. JSON cannot be cut, and is refused.
  if (text.length > MOST_CHARACTERS && !/^\s*[{[]/.test(text)) text = text.slice(0, text.lastIndexOf("\n", MOST_CHARACTERS) + 1 || MOST_CHARACTERS);
  try {
    const { data, left_out: more } = await post("v1/read", { text, name, task });
    if (mine !== asked) return;
    given = data.map((item, index) => ({ ...item, name: item.error?.message ?? shownName(item.id, name, data.length > 1 ? `, puzzle ${index + 1}` : "") }));
    const first = given.findIndex((item) => !item.error);
    listChoices(given[first].task, first);
    const [good, all] = [given.filter((item) => !item.error).length, given.length + more];
    const several = all > 1 ? `${good}${good < all ? ` of ${all}` : ""} puzzles can be chosen above.` : null;
    setPuzzle({ ...given[first], notes: [several, ...given[first].notes].filter(Boolean) }, !written);
    $("live").textContent = several ?? "The puzzle was read.";
  } catch (error) {
    if (mine !== asked) return;
    if (error.status === 401) askToken(() => readText(text, name, task, written));
    else if (!(error instanceof ApiError)) throw error;
    $("as-text").open = true;
    $("samples").value = ""; // so that each can be chosen
    refuse(error.message);
  }
}

function showPuzzle(withText = true) {
  const { task, grids } = puzzle;
  for (const radio of document.querySelectorAll("#tasks input")) radio.checked = radio.value === family(task);
  editor.show(puzzle, input, sizes());
  $("hint").textContent = [...notes, HINTS[family(task)]?.(task) ?? "Write the puzzle as text."].join(" ");
  if (withText) $("text").value = shown(puzzle);
  showDemos();
  segments($("tests"), grids.length > 1 ? grids.map((_, n) => [String(n), `Test ${n + 1}`]) : [], String(input), (value) => {
    input = Number(value);
    showPuzzle(false);
    run?.select(input);
  });
}

function showDemos() {
  $("demos").hidden = !puzzle.demos.length;
  $("demos").replaceChildren(...puzzle.demos.map((pair, n) => {
    const box = element("figure", {}, element("figcaption", {}, `Demonstration ${n + 1}`));
    const line = element("div", { class: "pair" });
    new Board(line, `Demonstration ${n + 1}, input`).show("arc", pair.input);
    line.append(element("span", { class: "arrow", "aria-hidden": "true" }, "→"));
    new Board(line, `Demonstration ${n + 1}, output`).show("arc", pair.output);
    box.append(line);
    return box;
  }));
}

// The sizes of Sudokus that the chosen models know, and that of the puzzle.
function sizes() {
  const chosen = models.find((model) => model.llm === $("llm").value && model.refiner === $("refiner").value);
  const known = new Set(["sudoku", ...(chosen?.tasks ?? []), puzzle.task]);
  return [...known].filter((task) => family(task) === "sudoku").sort((a, b) => symbolsOf(a).length - symbolsOf(b).length);
}

// -- choices -----------------------------------------------------------------------------------------------
function segments(host, choices, chosen, onChoose) {
  host.hidden = !choices.length;
  host.replaceChildren(...choices.map(([value, name]) => element("label", {},
    element("input", { type: "radio", name: host.id, value, checked: value === chosen, onchange: () => onChoose(value) }),
    element("span", {}, name))));
}

// Of the text given last all puzzles, and the samples of a task.
function listChoices(task, chosen) {
  const groups = [["Given", given], ["Samples", samples.filter((sample) => sample.task === task)]].filter(([, items]) => items.length);
  const all = groups.flatMap(([, items]) => items);
  $("samples").replaceChildren(...groups.map(([label, items]) => element("optgroup", { label },
    ...items.map((item) => element("option", { value: all.indexOf(item) }, item.name)))));
  $("samples").value = chosen;
  $("samples").onchange = () => choose(all[$("samples").value]);
}

// What a puzzle without an id of its own is called: by what it was read from, and its place there.
function shownName(id, source, place) {
  if (id !== source && !id.startsWith(`${source}:`)) return id;
  return source.replace(/^the (link|text)$/, "From $&") + place;
}

function choose(item) {
  asked += 1;
  setPuzzle(item);
}

function showSamples(task) {
  listChoices(task, given.length);
  choose(samples.find((sample) => sample.task === task));
}

const readFile = async (file) => readText(await file.text(), file.name.slice(-100), null);
const readLink = ({ task, question }) => readText(question, "the link", task);

function problem(words) {
  $("problem").hidden = !words;
  $("problem").textContent = words ?? "";
}

// -- solving -----------------------------------------------------------------------------------------------
async function start() {
  if (running || reading || !puzzle) return;
  problem(null);
  run?.pause();
  const body = {
    question: write(puzzle), task: puzzle.task, llm: $("llm").value, refiner: $("refiner").value,
    steps: Number($("steps").value), restarts: Number($("restarts").value), seed: Number($("seed").value), trace: true,
  };
  const choices = { drafts: body.llm !== "none", refines: body.refiner !== "none", steps: body.steps, byCycle: $("cycles").checked };
  running = new AbortController();
  busy();
  let heard = false;
  try {
    await solve(body, running.signal, (name, data) => {
      if (!heard) {
        run = new Run(structuredClone(puzzle), choices);
        run.select(input);
        heard = true;
        const { top } = $("watch").getBoundingClientRect();
        if (top < 0 || top > innerHeight / 2) $("watch").scrollIntoView({ behavior: "smooth" });
      }
      if (name === "error") problem(data.message);
      run.hear(name, data);
    });
    run?.end(run.answer ? null : "The server gave no answer.");
  } catch (error) {
    if (error.name === "AbortError") run?.end("Stopped before there was an answer.");
    else if (error instanceof ApiError && error.status === 401) askToken(start);
    else {
      problem(error instanceof ApiError ? error.message : "The connection was lost.");
      if (heard) run.end("The connection was lost.");
    }
  } finally {
    running = null;
    busy();
  }
}

function busy() {
  const now = Boolean(running);
  allowSolve();
  $("solve").textContent = now ? "Solving" : "Solve";
  $("stop").hidden = !now;
  const still = { preventScroll: true }; // the solution is looked at
  if (now) $("stop").focus(still);
  else if (document.activeElement === $("stop") || document.activeElement === document.body) $("solve").focus(still);
}

function askToken(then) {
  $("token-dialog").showModal();
  $("token-form").onsubmit = () => {
    setToken($("token").value);
    $("token").value = "";
    setTimeout(then);
  };
}

async function exportPicture() {
  const panels = run.lanes.map((lane) => ({ title: lane.panel.querySelector("h3").textContent, board: lane.board, words: [...lane.caption.children].map((each) => each.textContent).filter(Boolean) }));
  const status = run.answer ? $("verdict").querySelector("b").textContent.trim() : "";
  save(`${run.puzzle.task}.png`, await picture(panels, status));
}

async function copyLink() {
  const link = linkTo(run.puzzle.task, write(run.puzzle));
  history.replaceState(null, "", link);
  await navigator.clipboard?.writeText(link).catch(() => {});
  $("live").textContent = "The link is in the address bar and was copied.";
  $("copy-link").textContent = "Copied";
  setTimeout(() => { $("copy-link").textContent = "Copy link"; }, 1500);
}

// -- begin -------------------------------------------------------------------------------------------------
async function load() {
  let names;
  try {
    [names, samples] = await Promise.all([get("v1/models"), get("v1/samples")]);
  } catch (error) {
    if (error.status === 401) askToken(load);
    else problem(error.message);
    return;
  }
  models = names.data;
  for (const [id, known] of [["llm", names.llms], ["refiner", names.refiners]]) {
    $(id).replaceChildren(...known.map((name) => element("option", { value: name }, name)));
    $(id).onchange = () => puzzle && editor.show(puzzle, input, sizes());
  }
  const tasks = samples.map((sample) => family(sample.task));
  const order = [...new Set([...Object.keys(TASKS), ...tasks])].filter((task) => tasks.includes(task));
  segments($("tasks"), order.map((task) => [task, TASKS[task] ?? task]), order[0], showSamples);
  const linked = fromLink();
  if (!linked) return showSamples(order[0]);
  listChoices(order[0], "");
  return readLink(linked);
}

editor = new Editor(() => { $("text").value = shown(puzzle); }, showSamples);
$("text").addEventListener("input", () => {
  const task = document.querySelector("#tasks input:checked")?.value;
  readText($("text").value, "the text", task in TASKS ? null : task, true);
});
$("open").addEventListener("click", () => $("file").click());
$("file").addEventListener("change", (event) => {
  if (event.target.files[0]) readFile(event.target.files[0]);
  event.target.value = "";
});
for (const name of ["dragover", "dragleave", "drop"]) {
  document.addEventListener(name, (event) => {
    event.preventDefault();
    $("drop").classList.toggle("over", name === "dragover");
    if (name !== "drop") return;
    const text = event.dataTransfer.getData("text");
    if (event.dataTransfer.files[0]) readFile(event.dataTransfer.files[0]);
    else if (text) readText(text, "the text", null);
  });
}
document.addEventListener("paste", (event) => {
  const text = event.clipboardData.getData("text");
  if (event.target.closest?.("textarea, input") || !text.trim()) return;
  event.preventDefault();
  readText(text, "the text", null);
});
$("solve").addEventListener("click", start);
$("stop").addEventListener("click", () => running?.abort());
$("slider").addEventListener("input", (event) => { run?.pause(); run?.go(Number(event.target.value)); });
$("play").addEventListener("click", () => run?.play());
$("back").addEventListener("click", () => { run?.pause(); run?.go(run.position - 1); });
$("forth").addEventListener("click", () => { run?.pause(); run?.go(run.position + 1); });
$("cycles").addEventListener("change", (event) => run?.showCycles(event.target.checked));
$("save-json").addEventListener("click", () => {
  const kept = { record: run.answer?.record ?? null, events: run.events };
  save(`${run.puzzle.task}.json`, new Blob([JSON.stringify(kept, null, 1)], { type: "application/json" }));
});
$("save-png").addEventListener("click", exportPicture);
$("copy-link").addEventListener("click", copyLink);
addEventListener("hashchange", () => {
  const linked = fromLink();
  if (linked) readLink(linked);
});
load();
