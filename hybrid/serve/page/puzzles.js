// Puzzles as the page holds them: rows of one-character cells, from and to the text that the API takes.

export const COLOURS = ["black", "blue", "red", "green", "yellow", "grey", "pink", "orange", "light blue", "maroon"];
export const MOST_SIDE = 30;

// A puzzle: { task, grids: [rows], demos: [{input, output}], text }; `text` is kept only for kinds without an editor.
export function read(task, text) {
  if (task === "sudoku") {
    const cells = text.replace(/[\s|+-]/g, "").replace(/[0_]/g, ".");
    if (!/^[1-9.]{81}$/.test(cells)) throw new Error(`${cells.length} cells, expected 81 of 1 to 9, or . for a blank`);
    return { task, grids: [rowsOf(task, cells)], demos: [] };
  }
  if (task === "maze") {
    let lines = text.replace(/\r/g, "").replace(/^\n+|\n+$/g, "").split("\n");
    const side = Math.sqrt(lines[0].length);
    if (lines.length === 1 && side >= 2 && Number.isInteger(side)) lines = lines[0].match(new RegExp(`.{${side}}`, "g"));
    const width = Math.max(...lines.map((line) => line.length));
    const rows = lines.map((line) => [...line.padEnd(width)]);
    const wrong = rows.flat().find((cell) => !"# SG".includes(cell));
    if (wrong !== undefined) throw new Error(`${JSON.stringify(wrong)} in a maze, expected # S G or a space`);
    if (width > MOST_SIDE || rows.length > MOST_SIDE) throw new Error(`a maze of ${rows.length}x${width}, expected at most 30x30`);
    return { task, grids: [rows], demos: [] };
  }
  if (task === "arc") {
    const data = JSON.parse(text);
    if (!Array.isArray(data.train) || !Array.isArray(data.test)) throw new Error("no ARC task, expected train and test");
    const cells = (grid) => grid.map((row) => row.map(String));
    return {
      task,
      grids: data.test.map((pair) => cells(pair.input)),
      demos: data.train.map((pair) => ({ input: cells(pair.input), output: cells(pair.output) })),
    };
  }
  return { task, grids: [rowsOf(task, text)], demos: [], text };
}

export function write(puzzle) {
  const { task, grids, demos } = puzzle;
  if (task === "sudoku") return grids[0].flat().join("");
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
  if (task === "sudoku") return text.match(/.{9}/g).map((row) => [...row]);
  if (task === "arc") return text.split("\n").map((row) => row.trim().split(/\s+/));
  return text.split("\n").map((row) => [...row]);
}

// Text for people in the box below the editor.
export function shown(puzzle) {
  const text = write(puzzle);
  return puzzle.task === "sudoku" ? text.match(/.{9}/g).join("\n") : text;
}

// What a cell is called by a screen reader, and its class.
export function cellKind(task, symbol, given) {
  if (task === "sudoku") return symbol === "." ? "blank" : given && given !== "." ? "given" : "filled";
  if (task === "maze") return { "#": "wall", " ": "free", S: "start", G: "goal", o: "path" }[symbol] ?? "free";
  if (task === "arc") return `colour c${symbol}`;
  return "filled";
}

export function cellWords(task, symbol) {
  if (task === "sudoku") return symbol === "." ? "blank" : symbol;
  if (task === "maze") return { "#": "wall", " ": "free", S: "start", G: "goal", o: "path" }[symbol] ?? symbol;
  if (task === "arc") return COLOURS[symbol] ?? symbol;
  return symbol;
}

export function cellText(task, symbol) {
  if (task === "sudoku") return symbol === "." ? "" : symbol;
  if (task === "maze") return symbol === "S" || symbol === "G" ? symbol : "";
  return task === "arc" ? "" : symbol;
}

// The puzzles of a file's text: [{ name, task, question }]; task is undefined where the page cannot tell.
export function fromFile(name, text) {
  const found = [];
  const add = (label, question, task) => {
    const written = typeof question === "string" ? question : JSON.stringify(question);
    found.push({ name: label, task: task ?? guess(written), question: written });
  };
  const trimmed = text.trim();
  if (trimmed.startsWith("{") || trimmed.startsWith("[")) {
    let data;
    try {
      data = [JSON.parse(trimmed)].flat();
    } catch {
      data = trimmed.split("\n").filter((line) => line.trim()).map((line) => JSON.parse(line));
    }
    for (const [n, record] of data.entries()) {
      if (record.train) add(data.length > 1 ? `${name} ${n + 1}` : name, record);
      else if (record.question) add(String(record.id ?? `${name} ${n + 1}`), record.question, record.task);
      else for (const [id, task] of Object.entries(record)) if (task?.train) add(id, task);
    }
  } else if (/(^|,)\s*"?question"?\s*(,|\r?\n)/i.test(trimmed.split("\n", 1)[0] + "\n")) {
    const [header, ...rows] = readCsv(text);
    const column = header.findIndex((cell) => cell.trim().toLowerCase() === "question");
    for (const [n, row] of rows.entries()) if (row[column]) add(`${name} ${n + 1}`, row[column]);
  } else {
    const blocks = text.replace(/\r/g, "").split(/\n\n+/).filter((block) => block.trim());
    const items = blocks.flatMap((block) =>
      block.split("\n").some((line) => line.length > MOST_SIDE) ? block.split("\n").filter((line) => line.trim()) : [block]);
    for (const [n, item] of items.entries()) add(items.length > 1 ? `${name} ${n + 1}` : name, item.replace(/^\n+|\n+$/g, ""));
  }
  if (!found.length) throw new Error(`${name}: no puzzle found`);
  return found;
}

export function guess(text) {
  if (/^\s*[{[]/.test(text)) return "arc";
  return /[#SG]/.test(text) ? "maze" : "sudoku";
}

function readCsv(text) {
  const rows = [[""]];
  let quoted = false;
  for (let i = 0; i < text.length; i += 1) {
    const c = text[i];
    const row = rows[rows.length - 1];
    if (c === '"' && quoted && text[i + 1] === '"') {
      row[row.length - 1] += c;
      i += 1;
    } else if (c === '"') quoted = !quoted;
    else if (c === "," && !quoted) row.push("");
    else if (c === "\n" && !quoted) rows.push([""]);
    else if (c !== "\r" || quoted) row[row.length - 1] += c;
  }
  return rows.filter((row) => row.some((cell) => cell));
}
