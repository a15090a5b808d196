// What several parts of the page need: elements, percentages, and the line of the confidences.

export const $ = (id) => document.getElementById(id);

export function element(name, attributes = {}, ...children) {
  const made = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) {
    if (key === "class") made.className = value;
    else if (key.startsWith("on")) made.addEventListener(key.slice(2), value);
    else if (value !== null && value !== false) made.setAttribute(key, value === true ? "" : value);
  }
  made.append(...children.filter((child) => child !== null && child !== undefined));
  return made;
}

// No rounding to certainty: "> 99.9 %".
export function percent(share) {
  if (share > 0.9995 && share < 1) return "> 99.9 %";
  const fine = share !== 1 && share !== 0 && (share > 0.995 || share < 0.005);
  return `${(100 * share).toFixed(fine ? 1 : 0)} %`;
}

// The confidence after every step as a line, with a dot at the step that is shown.
export function draw(host, values, at, most) {
  if (!values.length) {
    host.replaceChildren();
    return;
  }
  const svg = (name, attributes) => {
    const made = document.createElementNS("http://www.w3.org/2000/svg", name);
    for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
    return made;
  };
  const width = host.clientWidth || 200;
  const height = 36;
  const x = (i) => 4 + ((width - 8) * i) / Math.max(1, Math.max(most, values.length) - 1);
  const y = (value) => height - 4 - (height - 8) * value;
  const root = svg("svg", { viewBox: `0 0 ${width} ${height}` });
  const points = values.map((value, i) => `${x(i)},${y(value)}`).join(" ");
  root.append(svg("line", { class: "axis", x1: 4, x2: width - 4, y1: y(0.5), y2: y(0.5) }), svg("polyline", { points, class: "line" }));
  if (at > 0) root.append(svg("circle", { class: "dot", cx: x(at - 1), cy: y(values[at - 1]), r: 3.5 }));
  host.replaceChildren(root);
}
