// A grid of cells for eyes, keyboards and screen readers: an ARIA grid with one cell in the tab order.

import { boxOf, cellKind, cellText, cellWords, family } from "./puzzles.js";

export class Board {
  // label: what the grid is. onWrite(row, column, symbol|null): a cell was typed (symbol) or clicked (null).
  constructor(host, label, onWrite = null) {
    this.onWrite = onWrite;
    this.element = document.createElement("div");
    this.element.className = "board";
    this.element.setAttribute("role", "grid");
    this.element.setAttribute("aria-label", label);
    if (!onWrite) this.element.setAttribute("aria-readonly", "true");
    this.element.addEventListener("keydown", (event) => this.#key(event));
    this.element.addEventListener("pointerdown", (event) => this.#point(event, true));
    this.element.addEventListener("pointerover", (event) => this.#point(event, false));
    this.element.addEventListener("focusin", (event) => this.#focused(event.target));
    host.append(this.element);
    // Container units would do this in CSS, and take seconds of layout on a phone's width.
    new ResizeObserver(([entry]) => this.#fit(entry.contentRect.width)).observe(this.element);
    this.cells = [];
    this.rows = [];
    this.at = [0, 0];
  }

  // question: rows of what was given. before: rows of the step before. broken: a set of "row,column".
  // weighed: grids of the symbols that the network finds next likely.
  show(task, rows, { question = null, before = null, broken = new Set(), weighed = [] } = {}) {
    const shape = `${task} ${rows.length}x${rows[0].length}`;
    this.task = task;
    this.rows = rows;
    if (shape !== this.shape) this.#build(task, rows, shape);
    for (const [r, row] of rows.entries()) {
      for (const [c, symbol] of row.entries()) {
        const cell = this.cells[r][c];
        const changed = before !== null && before[r]?.[c] !== symbol;
        const wrong = broken.has(`${r},${c}`);
        const kind = `cell ${cellKind(task, symbol, question?.[r]?.[c] ?? (this.onWrite ? symbol : null))}`;
        const name = kind + (changed ? " changed" : "") + (wrong ? " broken" : "");
        if (cell.className !== name) cell.className = name;
        const text = cellText(task, symbol);
        if (cell.textContent !== text) cell.textContent = text;
        const others = weighed.map((grid) => grid[r][c]).filter((other) => other !== "." && other !== "\0" && other !== symbol);
        if (others.length) cell.dataset.weighed = others.join(" ");
        else delete cell.dataset.weighed;
        const given = question && question[r]?.[c] === symbol && family(task) === "sudoku" && symbol !== "." ? ", given" : "";
        const words = `row ${r + 1}, column ${c + 1}: ${cellWords(task, symbol)}${given}`;
        const perhaps = others.length ? `, or perhaps ${others.map((other) => cellWords(task, other)).join(" or ")}` : "";
        const label = words + perhaps + (changed ? ", changed" : "") + (wrong ? ", breaks a rule" : "");
        if (cell.getAttribute("aria-label") !== label) cell.setAttribute("aria-label", label);
      }
    }
  }

  // Point at cells from outside, such as those of a violation; [] ends it.
  point(cells) {
    for (const cell of this.element.querySelectorAll(".pointed")) cell.classList.remove("pointed");
    for (const [r, c] of cells) this.cells[r]?.[c]?.classList.add("pointed");
  }

  #build(task, rows, shape) {
    this.shape = shape;
    this.at = [0, 0];
    this.element.dataset.task = family(task);
    this.element.style.setProperty("--columns", rows[0].length);
    this.element.style.setProperty("--rows", rows.length);
    this.element.setAttribute("aria-rowcount", rows.length);
    this.element.setAttribute("aria-colcount", rows[0].length);
    const [high, wide] = boxOf(task) ?? [Infinity, Infinity];
    this.cells = rows.map((row, r) => row.map((_, c) => {
      const cell = document.createElement("div");
      cell.setAttribute("role", "gridcell");
      cell.tabIndex = r === 0 && c === 0 ? 0 : -1;
      if (this.onWrite) cell.setAttribute("aria-selected", String(r === 0 && c === 0));
      cell.dataset.row = r;
      cell.dataset.column = c;
      const ends = [(c + 1) % wide === 0 && c + 1 < row.length && "right", (r + 1) % high === 0 && r + 1 < rows.length && "bottom"];
      if (ends.some(Boolean)) cell.dataset.boxEnds = ends.filter(Boolean).join(" ");
      return cell;
    }));
    this.#fit(this.element.clientWidth);
    this.element.replaceChildren(...this.cells.map((row) => {
      const line = document.createElement("div");
      line.setAttribute("role", "row");
      line.className = "line";
      line.append(...row);
      return line;
    }));
  }

  #fit(width) {
    if (this.rows.length) this.element.style.fontSize = `${((0.58 * width) / this.rows[0].length).toFixed(2)}px`;
  }

  #place(target) {
    return target?.dataset?.row === undefined ? null : [Number(target.dataset.row), Number(target.dataset.column)];
  }

  #focused(target) {
    const place = this.#place(target);
    if (!place) return;
    const before = this.cells[this.at[0]][this.at[1]];
    before.tabIndex = -1;
    this.at = place;
    target.tabIndex = 0;
    if (!this.onWrite) return;
    before.setAttribute("aria-selected", "false");
    target.setAttribute("aria-selected", "true");
  }

  #point(event, down) {
    const place = this.#place(event.target);
    if (!place || !this.onWrite || !(event.buttons & 1)) return;
    if (down) event.target.releasePointerCapture?.(event.pointerId);
    this.onWrite(...place, null, !down);
  }

  #key(event) {
    const place = this.#place(event.target);
    if (!place || event.ctrlKey || event.metaKey || event.altKey) return;
    const [row, column] = place;
    const last = [this.rows.length - 1, this.rows[0].length - 1];
    const moves = {
      ArrowUp: [row - 1, column], ArrowDown: [row + 1, column], ArrowLeft: [row, column - 1], ArrowRight: [row, column + 1],
      Home: [row, 0], End: [row, last[1]], PageUp: [0, column], PageDown: [last[0], column],
    };
    if (event.key in moves) {
      const [r, c] = moves[event.key];
      this.cells[Math.min(Math.max(r, 0), last[0])][Math.min(Math.max(c, 0), last[1])].focus();
    } else if (this.onWrite && event.key === "Enter") {
      this.onWrite(row, column, null, false);
    } else if (this.onWrite && (event.key.length === 1 || event.key === "Backspace" || event.key === "Delete")) {
      this.onWrite(row, column, event.key.length === 1 ? event.key : "", false);
    } else {
      return;
    }
    event.preventDefault();
  }
}

export function brokenCells(violations) {
  return new Set((violations ?? []).flatMap((violation) => violation.cells.map((cell) => cell.join(","))));
}
