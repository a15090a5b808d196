// The server's API. A token, where one is needed, is kept for this tab.

export class ApiError extends Error {
  constructor(status, message) {
    super(message);
    this.status = status;
  }
}

let token = sessionStorage.getItem("token");

export function setToken(value) {
  token = value;
  sessionStorage.setItem("token", value);
}

async function ask(path, options = {}) {
  const headers = { ...options.headers, ...(token ? { Authorization: `Bearer ${token}` } : {}) };
  const reply = await fetch(path, { ...options, headers }).catch((error) => {
    if (error.name === "AbortError") throw error;
    throw new ApiError(0, "The server does not answer.");
  });
  if (reply.ok) return reply;
  const body = await reply.json().catch(() => null);
  const wait = reply.headers.get("Retry-After");
  const message = body?.error?.message ?? `The server says ${reply.status}.`;
  throw new ApiError(reply.status, wait ? `${message} (in about ${wait} s)` : message);
}

export async function get(path) {
  return (await ask(path)).json();
}

function sent(body) {
  return { method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify(body) };
}

export async function post(path, body) {
  return (await ask(path, sent(body))).json();
}

// Calls onEvent(name, data) for every event until the stream ends.
export async function solve(body, signal, onEvent) {
  const reply = await ask("v1/solve", { ...sent({ ...body, stream: true }), signal });
  const reader = reply.body.pipeThrough(new TextDecoderStream()).getReader();
  let buffer = "";
  for (;;) {
    const { value, done } = await reader.read();
    if (done) return;
    const blocks = (buffer + value).split("\n\n");
    buffer = blocks.pop();
    for (const block of blocks) {
      const match = /^event: (.*)\ndata: (.*)$/s.exec(block);
      if (match) onEvent(match[1], JSON.parse(match[2]));
    }
  }
}
