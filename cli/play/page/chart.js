// Distance over time: what happened, and what the newest plan expects of the steps to come.

const LEFT = 36, RIGHT = 12, TOP = 8, BOTTOM = 22, SHOWN = 150; // px; steps

// steps: [[step, distance], …].   plan: {step, frameskip, expected}, or null.
export function draw(svg, steps, plan) {
  const width = svg.clientWidth || 600, height = svg.clientHeight || 180;
  svg.setAttribute("viewBox", `0 0 ${width} ${height}`);
  const shown = steps.slice(-SHOWN);
  const coming = plan ? plan.expected.map((d, i) => [plan.step + i * plan.frameskip, d]) : [];
  const all = [...shown, ...coming];
  if (!all.length) { svg.replaceChildren(); return; }
  const first = Math.min(...all.map(([step]) => step)), last = Math.max(first + 20, ...all.map(([step]) => step));
  const most = Math.max(1, ...all.map(([, distance]) => distance)) * 1.05;
  const x = (step) => LEFT + (step - first) / (last - first) * (width - LEFT - RIGHT);
  const y = (distance) => height - BOTTOM - distance / most * (height - TOP - BOTTOM);
  const parts = [];
  for (const value of [0, most / 2, most]) {
    parts.push(part("line", { class: "grid", x1: LEFT, x2: width - RIGHT, y1: y(value), y2: y(value) }));
    parts.push(part("text", { x: LEFT - 6, y: y(value) + 4, "text-anchor": "end" }, value.toFixed(most < 10 ? 1 : 0)));
  }
  for (const [step, anchor] of [[first, "start"], [last, "end"]]) {
    parts.push(part("text", { x: x(step), y: height - 6, "text-anchor": anchor }, `step ${step}`));
  }
  const points = (list) => list.map(([step, distance]) => `${x(step).toFixed(1)},${y(distance).toFixed(1)}`).join(" ");
  parts.push(part("polyline", { class: "actual", points: points(shown) }));
  parts.push(part("polyline", { class: "expected", points: points(coming) }));
  svg.replaceChildren(...parts);
}

function part(name, attributes, text = "") {
  const made = document.createElementNS("http://www.w3.org/2000/svg", name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  made.textContent = text;
  return made;
}
