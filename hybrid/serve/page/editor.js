// The grid that is edited, and the tools beside it: what a click writes, the size, and an empty grid.

import { Board } from "./board.js";
import { $, element } from "./dom.js";
import { COLOURS, MOST_SIDE, blankOf, family, sizeWords, symbolOf, symbolsOf } from "./puzzles.js";

const KNOWN = ["sudoku", "maze", "arc"];
const TOOLS = {
  maze: [["#", "Wall"], [" ", "Free"], ["S", "Start"], ["G", "Goal"]],
  arc: COLOURS.map((name, colour) => [String(colour), name]),
};

export class Editor {
  // onEdit(): the puzzle has changed. onSize(task): a Sudoku of another size is wanted.
  constructor(onEdit, onSize) {
    this.onEdit = onEdit;
    this.onSize = onSize;
    this.tool = { maze: "#", arc: "1" };
    this.board = new Board($("editor"), "The puzzle", (...cell) => this.#written(...cell));
  }

  // input: which grid of the puzzle. sizes: the tasks that are Sudokus of a size to choose.
  show(puzzle, input, sizes) {
    Object.assign(this, { puzzle, input, sizes });
    const known = KNOWN.includes(family(puzzle.task));
    if (known) this.board.show(puzzle.task, this.#rows);
    $("editor").hidden = !known;
    this.#showTools(known);
  }

  get #rows() {
    return this.puzzle.grids[this.input];
  }

  #showTools(known) {
    const { task } = this.puzzle;
    const tools = family(task) === "sudoku" ? this.#digits() : this.#brushes(TOOLS[task] ?? []);
    const inLine = tools.length > 10 ? Math.ceil(tools.length / 2) : tools.length;
    const palette = element("div", { class: "palette" }, ...tools);
    palette.style.setProperty("--columns", inLine);
    const size = family(task) === "sudoku" ? [this.#sizeChoice()] : known ? this.#sides() : [];
    const clear = known ? [element("button", { type: "button", class: "quiet", onclick: () => this.#clear() }, "Clear")] : [];
    $("tools").replaceChildren(...(tools.length ? [palette] : []), ...size, ...clear);
  }

  // Symbols of a Sudoku, which go into the chosen cell: a phone has no keyboard for them. Tab passes them over.
  #digits() {
    const write = (symbol) => {
      const [row, column] = this.board.at;
      this.#written(row, column, symbol, false);
      $("live").textContent = this.board.cells[row][column].getAttribute("aria-label");
    };
    return [...symbolsOf(this.puzzle.task), ""].map((symbol) => element("button", {
      type: "button", class: "tool digit", tabindex: -1, "aria-label": symbol ? `Write ${symbol}` : "Empty the cell", onclick: () => write(symbol),
    }, symbol || "⌫"));
  }

  // What a click on a cell writes.
  #brushes(symbols) {
    const { task } = this.puzzle;
    return symbols.map(([symbol, name]) => element("button", {
      type: "button", class: `tool ${task} ${task === "arc" ? `c${symbol}` : ""}`, "aria-pressed": String(this.tool[task] === symbol), "aria-label": name, title: name,
      onclick: () => {
        this.tool[task] = symbol;
        this.#showTools(true);
        $("tools").querySelector("[aria-pressed=true]").focus();
      },
    }, task === "arc" ? "" : name));
  }

  #sizeChoice() {
    const choice = element("select", { id: "size", onchange: (event) => this.onSize(event.target.value) },
      ...this.sizes.map((task) => element("option", { value: task }, sizeWords(task))));
    choice.value = this.puzzle.task;
    return element("label", {}, "Size", choice);
  }

  #sides() {
    return ["Rows", "Columns"].map((name, axis) => element("label", {}, name, element("input", {
      type: "number", min: this.#leastSide, max: MOST_SIDE, value: axis ? this.#rows[0].length : this.#rows.length,
      onchange: (event) => this.#resize(axis, Number(event.target.value)),
    })));
  }

  get #leastSide() {
    return this.puzzle.task === "maze" ? 2 : 1;
  }

  #resize(axis, count) {
    const rows = this.#rows;
    const side = Math.min(MOST_SIDE, Math.max(this.#leastSide, Math.round(count) || this.#leastSide));
    const [height, width] = axis ? [rows.length, side] : [side, rows[0].length];
    const blank = blankOf(this.puzzle.task);
    this.#replace(Array.from({ length: height }, (_, r) => Array.from({ length: width }, (_, c) => rows[r]?.[c] ?? blank)));
  }

  #clear() {
    this.#replace(this.#rows.map((row) => row.map(() => blankOf(this.puzzle.task))));
  }

  #replace(rows) {
    this.puzzle.grids[this.input] = rows;
    this.show(this.puzzle, this.input, this.sizes);
    this.onEdit();
  }

  // A click (key null), a drag over cells, or a key.
  #written(row, column, key, dragged) {
    const { task } = this.puzzle;
    const rows = this.#rows;
    if (key === null && family(task) === "sudoku") return; // a click chooses the cell
    const symbol = symbolOf(task, key ?? this.tool[task]);
    const single = symbol === "S" || symbol === "G"; // a maze has one of each
    if (symbol === null || rows[row][column] === symbol || (key === null && dragged && single)) return;
    if (single) {
      for (const line of rows) line.forEach((cell, c) => { if (cell === symbol) line[c] = " "; });
    }
    rows[row][column] = symbol;
    this.board.show(task, rows);
    this.onEdit();
  }
}
