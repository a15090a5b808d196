// Puzzles as the page holds them: rows of one-character cells, from and to the text that the API takes.

export const COLOURS = ["black", "blue", "red", "green", "yellow", "grey", "pink", "orange", "light blue", "maroon"];
export const MOST_SIDE = 30;
const SYMBOLS = "123456789ABCDEFG"; // of Sudokus, as many as a side has cells
const BOXES = { 4: [2, 2], 6: [2, 3], 9: [3, 3], 16: [4, 4] }; // rows and columns of a Sudoku's box, by its side
const MAZE = { "#": "wall", " ": "free", S: "start", G: "goal", o: "path" };

// What is drawn and edited alike: Sudokus of every size are one family.
export function family(task) {
  return /^sudoku\d*$/.test(task) ? "sudoku" : task;
}

function sideOf(task) {
  return Number(task.slice("sudoku".length)) || 9;
}

export function sizeWords(task) {
  return `${sideOf(task)}x${sideOf(task)}`;
}

// The symbols of a Sudoku of this size.
export function symbolsOf(task) {
  return SYMBOLS.slice(0, sideOf(task));
}

// Rows and columns of the boxes that a grid is drawn in; null where it has none.
export function boxOf(task) {
  return family(task) === "sudoku" ? BOXES[sideOf(task)] ?? null : null;
}

export function blankOf(task) {
  return { sudoku: ".", maze: " " }[family(task)] ?? "0";
}

// A puzzle as the API writes it: { task, grids: [rows], demos: [{input, output}], text }.
export function parse(task, text) {
  if (task !== "arc") return { task, grids: [rowsOf(task, text)], demos: [], text };
  const data = JSON.parse(text);
  const cells = (grid) => grid.map((row) => row.map(String));
  return {
    task,
    grids: data.test.map((pair) => cells(pair.input)),
    demos: data.train.map((pair) => ({ input: cells(pair.input), output: cells(pair.output) })),
  };
}

export function write(puzzle) {
  const { task, grids, demos } = puzzle;
  if (family(task) === "sudoku") return grids[0].flat().join("");
  if (task === "maze") return grids[0].map((row) => row.join("")).join("\n");
  if (task === "arc") {
    const numbers = (rows) => rows.map((row) => row.map(Number));
    const train = demos.map((pair) => ({ input: numbers(pair.input), output: numbers(pair.output) }));
    return JSON.stringify({ train, test: grids.map((rows) => ({ input: numbers(rows) })) });
  }
  return puzzle.text;
}

// A grid as the API writes it, to rows of cells.
export function rowsOf(task, text) {
  if (family(task) === "sudoku") return text.match(new RegExp(`.{${Math.sqrt(text.length)}}`, "g")).map((row) => [...row]);
  if (task === "arc") return text.split("\n").map((row) => row.trim().split(/\s+/));
  return text.split("\n").map((row) => [...row]);
}

// Text for people in the box below the editor.
export function shown(puzzle) {
  return family(puzzle.task) === "sudoku" ? puzzle.grids[0].map((row) => row.join("")).join("\n") : write(puzzle);
}

// The symbol that a key or a tool writes; null where it writes none.
export function symbolOf(task, key) {
  if (family(task) === "sudoku") {
    const symbol = key.toUpperCase();
    return /^[0 ._]?$/.test(symbol) ? "." : symbolsOf(task).includes(symbol) ? symbol : null;
  }
  if (task === "maze") return { "": " ", s: "S", g: "G", ".": " " }[key] ?? ("# SG".includes(key) ? key : null);
  return key === "" ? "0" : /^[0-9]$/.test(key) ? key : null;
}

// What a cell is called by a screen reader, and its class.
export function cellKind(task, symbol, given) {
  if (family(task) === "sudoku") return symbol === "." ? "blank" : given && given !== "." ? "given" : "filled";
  if (task === "maze") return MAZE[symbol] ?? "free";
  if (task === "arc") return `colour c${symbol}`;
  return "filled";
}

export function cellWords(task, symbol) {
  if (family(task) === "sudoku") return symbol === "." ? "blank" : symbol;
  if (task === "maze") return MAZE[symbol] ?? symbol;
  if (task === "arc") return COLOURS[symbol] ?? symbol;
  return symbol;
}

export function cellText(task, symbol) {
  if (family(task) === "sudoku") return symbol === "." ? "" : symbol;
  if (task === "maze") return symbol === "S" || symbol === "G" ? symbol : "";
  return task === "arc" ? "" : symbol;
}
