// Charts as SVG: lines over the steps, and the candidates over the iterations of a plan.

const LEFT = 46, RIGHT = 12, TOP = 8, BOTTOM = 22, SHOWN = 150; // px; steps

// Distance over time.   worlds: [{steps: [[step, distance, expected, surprise], …], plan}], the first one first.
export function drawDistance(svg, worlds) {
  const lines = [];
  worlds.forEach(({ steps, plan }, i) => {
    const mark = i ? " second" : "";
    const shown = steps.slice(-SHOWN), first = shown.length ? shown[0][0] : 0;
    const coming = plan ? plan.expected.map((d, k) => [plan.step + k * plan.frameskip, d]) : [];
    lines.push({ kind: `actual${mark}`, points: shown.map(([step, d]) => [step, d]) });
    lines.push({ kind: `expected${mark}`, points: coming.filter(([step]) => step >= first) });
    const foretold = shown.filter(([, , d]) => d !== null && d !== undefined).map(([step, , d]) => [step, d]);
    lines.push({ kind: `foretold${mark}`, points: foretold, dots: true });
  });
  drawLines(svg, lines, { least: 1 });
}

// Surprise over time, in per cent.
export function drawSurprise(svg, worlds) {
  const known = (steps) => steps.slice(-SHOWN).filter(([, , , s]) => s !== null && s !== undefined);
  drawLines(svg, worlds.map(({ steps }, i) => (
    { kind: i ? "actual second" : "actual", points: known(steps).map(([step, , , s]) => [step, 100 * s]) }
  )), { least: 100, unit: " %" });
}

// lines: [{kind (its class), points: [[x, y], …], dots}].   least: the lowest top of the scale.   log: logarithmic.
export function drawLines(svg, lines, { least = 1, unit = "", log = false }) {
  if (log) {
    const positive = (points) => points.filter(([, y]) => y > 0).map(([x, y]) => [x, Math.log10(y)]);
    lines = lines.map((line) => ({ ...line, points: positive(line.points) }));
  }
  const all = lines.flatMap((line) => line.points);
  if (!all.length) { svg.replaceChildren(); return; }
  const { width, height } = size(svg);
  const first = Math.min(...all.map(([x]) => x)), last = Math.max(first + 20, ...all.map(([x]) => x));
  const low = log ? Math.min(...all.map(([, y]) => y)) : 0;
  const most = Math.max(log ? low + 0.3 : least, ...all.map(([, y]) => log ? y : 1.05 * y));
  const x = (step) => LEFT + (step - first) / (last - first) * (width - LEFT - RIGHT);
  const y = (value) => height - BOTTOM - (value - low) / (most - low) * (height - TOP - BOTTOM);
  const parts = scale(low, most, y, width, unit, log);
  for (const [step, anchor] of [[first, "start"], [last, "end"]]) {
    parts.push(part("text", { x: x(step), y: height - 6, "text-anchor": anchor }, `step ${step}`));
  }
  for (const { kind, points, dots } of lines) {
    if (dots) points.forEach(([a, b]) => parts.push(dot(kind, x(a), y(b))));
    else {
      const text = points.map(([a, b]) => `${x(a).toFixed(1)},${y(b).toFixed(1)}`).join(" ");
      parts.push(part("polyline", { class: kind, points: text }));
    }
  }
  svg.replaceChildren(...parts);
}

// How near each candidate comes, in each iteration.   nearest: [[distance, …], …], or null.
export function drawNarrowing(svg, nearest) {
  if (!nearest) { svg.replaceChildren(); return; }
  const { width, height } = size(svg);
  const most = Math.max(1, 1.05 * Math.max(...nearest.flat()));
  const y = (value) => height - BOTTOM - value / most * (height - TOP - BOTTOM);
  const wide = (width - LEFT - RIGHT) / nearest.length;
  const parts = scale(0, most, y, width, "", false);
  nearest.forEach((distances, i) => {
    const middle = LEFT + (i + 0.5) * wide;
    parts.push(part("text", { x: middle, y: height - 6, "text-anchor": "middle" }, `${i + 1}`));
    const [low, high] = [Math.min(...distances), Math.max(...distances)];
    parts.push(part("line", { class: "spread", x1: middle, x2: middle, y1: y(low), y2: y(high) }));
    distances.forEach((distance, k) => {
      const off = ((k + 0.5) / distances.length - 0.5) * Math.min(wide * 0.6, 60);
      parts.push(part("circle", { class: "candidate", cx: middle + off, cy: y(distance), r: 3 }));
    });
  });
  svg.replaceChildren(...parts);
}

// Round, and square for the second world: colours alone would not tell them apart for everybody.
function dot(kind, x, y) {
  if (!/ second/.test(kind)) return part("circle", { class: kind, cx: x, cy: y, r: 3.5 });
  return part("rect", { class: kind, x: x - 3, y: y - 3, width: 6, height: 6 });
}

function scale(low, most, y, width, unit, log) {
  const text = (value) => (log ? (10 ** value).toPrecision(2) : value.toFixed(most < 10 ? 1 : 0)) + unit;
  return [low, (low + most) / 2, most].flatMap((value) => [
    part("line", { class: "grid", x1: LEFT, x2: width - RIGHT, y1: y(value), y2: y(value) }),
    part("text", { x: LEFT - 6, y: y(value) + 4, "text-anchor": "end" }, text(value)),
  ]);
}

function size(svg) {
  const width = svg.clientWidth || 600, height = svg.clientHeight || 180;
  svg.setAttribute("viewBox", `0 0 ${width} ${height}`);
  return { width, height };
}

function part(name, attributes, text = "") {
  const made = document.createElementNS("http://www.w3.org/2000/svg", name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  made.textContent = text;
  return made;
}
