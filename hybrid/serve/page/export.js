// What leaves the page: the record as JSON, the grids as a picture, the puzzle as a link.

import { boxOf, cellText } from "./puzzles.js";

const SIDE = 34;
const GAP = 36;
const HEAD = 54;

export function save(name, blob) {
  const link = document.createElement("a");
  link.href = URL.createObjectURL(blob);
  link.download = name;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 10_000);
}

export function linkTo(task, text) {
  return `${location.href.split("#")[0]}#${new URLSearchParams({ task, puzzle: text })}`;
}

export function fromLink() {
  const given = new URLSearchParams(location.hash.slice(1));
  return given.get("puzzle") ? { task: given.get("task") || null, question: given.get("puzzle") } : null;
}

// panels: [{ title, board, words: [part] }]; the picture has the colours that the page has now.
export function picture(panels, footer) {
  const canvas = document.createElement("canvas");
  const context = canvas.getContext("2d");
  const sizes = panels.map(({ board }) => ({ side: Math.min(SIDE, Math.floor(620 / board.rows[0].length)), rows: board.rows.length, columns: board.rows[0].length }));
  const widths = sizes.map(({ side, columns }) => Math.max(220, side * columns));
  const width = widths.reduce((sum, each) => sum + each + GAP, GAP);
  const height = HEAD + Math.max(...sizes.map(({ side, rows }) => side * rows)) + 104;
  canvas.width = 2 * width;
  canvas.height = 2 * height;
  context.scale(2, 2);
  const page = getComputedStyle(document.body);
  context.fillStyle = getComputedStyle(document.querySelector(".card")).backgroundColor;
  context.fillRect(0, 0, width, height);
  let left = GAP;
  for (const [index, { title, board, words }] of panels.entries()) {
    const { side } = sizes[index];
    context.fillStyle = page.color;
    context.textAlign = "left";
    context.font = `600 17px ${page.fontFamily}`;
    context.fillText(title, left, 34);
    for (const [r, row] of board.cells.entries()) {
      for (const [c, cell] of row.entries()) drawCell(context, cell, cellText(board.task, board.rows[r][c]), left + c * side, HEAD + r * side, side);
    }
    const box = boxOf(board.task);
    if (box) {
      const [high, wide] = box;
      const count = board.rows.length;
      context.strokeStyle = page.color;
      context.lineWidth = 1.5;
      for (let k = 0; k <= count; k += wide) context.strokeRect(left + k * side, HEAD, 0, count * side);
      for (let k = 0; k <= count; k += high) context.strokeRect(left, HEAD + k * side, count * side, 0);
    }
    context.fillStyle = page.color;
    context.font = `14px ${page.fontFamily}`;
    context.textAlign = "left";
    for (const [n, line] of [words.slice(0, 2), words.slice(2)].entries()) {
      context.fillText(line.join(" · "), left, HEAD + board.rows.length * side + 24 + 20 * n);
    }
    left += widths[index] + GAP;
  }
  context.font = `600 15px ${page.fontFamily}`;
  context.fillText(footer, GAP, height - 20);
  return new Promise((resolve) => canvas.toBlob(resolve, "image/png"));
}

function drawCell(context, cell, text, x, y, side) {
  const style = getComputedStyle(cell);
  context.fillStyle = style.backgroundColor;
  context.fillRect(x, y, side, side);
  context.strokeStyle = getComputedStyle(cell.closest(".board")).borderTopColor;
  context.lineWidth = 0.5;
  context.strokeRect(x, y, side, side);
  if (cell.classList.contains("path")) {
    context.fillStyle = style.color;
    context.beginPath();
    context.arc(x + side / 2, y + side / 2, side * 0.22, 0, 7);
    context.fill();
  }
  if (!text) return;
  context.fillStyle = style.color;
  context.font = `${style.fontWeight} ${Math.round(side * 0.58)}px ${style.fontFamily}`;
  context.textAlign = "center";
  context.fillText(text, x + side / 2, y + side * 0.7);
}
