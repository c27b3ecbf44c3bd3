// The page: what comes from the program is shown, what is done here is sent to it. All that lasts is kept there.

import { draw } from "./chart.js";
import { Connection } from "./connection.js";
import { Scene } from "./scene.js";

const MOST = 16 * 2 ** 20; // bytes of a picture; the server's limit
const $ = (id) => document.getElementById(id);
const latest = { settings: null, frame: null, goal: null, plan: null };
let steps = []; // [step, distance]
let lostOnce = false;

const world = new Scene($("world"), "world", order);
const goal = new Scene($("goal"), "goal", order);
const line = new Connection(heard, changed);

function order(fields) {
  if (!line.send(fields)) note("That was not done: the program does not answer.", true);
}

function heard(message) {
  const { kind } = message;
  if (kind === "note") note(message.text, message.bad);
  if (kind === "history") steps = message.steps;
  if (kind in latest) latest[kind] = message;
  if (kind === "settings") showSettings(message);
  if (kind === "goal") { steps = []; showGoal(message); }
  if (kind === "frame") showFrame(message);
  if (kind === "plan") showPlan(message);
  if (kind !== "note" && kind !== "settings") draw($("chart"), steps, plan());
  document.body.dataset.ready = latest.settings && latest.frame && latest.goal ? "yes" : "";
}

const plan = () => latest.plan && latest.plan.expected ? latest.plan : null;
const turns = () => latest.settings ? latest.settings.handles : {};

function showSettings(now) {
  $("about").textContent = `${now.checkpoint}, a model of ${now.world}, at ${now.hz} steps a second.`;
  $("run").textContent = now.running ? "Pause" : "Start";
  const seconds = (value) => value === null ? "none" : `${1000 * value} ms`;
  const pace = (value) => value === 1 ? "as it is" : `${value} of that`;
  choices($("planner"), now.planners, now.planner, (name) => name);
  choices($("deadline"), withOwn(now.deadlines, now.deadline), now.deadline, seconds);
  choices($("speed"), now.speeds, now.speed, pace);
  $("command").textContent = now.command;
  $("python").textContent = now.python;
  if (latest.frame) world.place(latest.frame.places, now.handles);
  if (latest.goal) goal.place(latest.goal.places, now.handles);
}

const withOwn = (list, own) => list.includes(own) ? list : [...list, own];

function choices(select, values, chosen, label) {
  if (document.activeElement !== select || select.options.length !== values.length) {
    select.replaceChildren(...values.map((value) => new Option(label(value), JSON.stringify(value))));
  }
  select.value = JSON.stringify(chosen);
}

function showFrame(frame) {
  const last = steps[steps.length - 1];
  if (!last || last[0] < frame.step) steps.push([frame.step, frame.distance]);
  else if (last[0] === frame.step) last[1] = frame.distance;
  if (steps.length > 600) steps.shift();
  $("distance").textContent = frame.distance.toFixed(1);
  $("surprise").textContent = frame.surprise === null ? "–" : `${(100 * frame.surprise).toFixed(0)} %`;
  $("rate").textContent = frame.rate === null ? "–" : frame.rate.toFixed(1);
  const reached = frame.reached === null ? "" : `✓ goal reached at step ${frame.reached}`;
  $("state").textContent = `step ${frame.step}  ${reached}`;
  document.body.dataset.reached = frame.reached === null ? "" : "yes";
  world.place(frame.places, turns());
  showWorld();
}

function showWorld() {
  if (!latest.frame) return;
  const now = $("ghosts").checked ? plan() : null;
  const names = now && now.path.length ? Object.keys(now.path[0]) : [];
  world.show([latest.frame.png, now && now.ghosts], names.map((name) => now.path.map((places) => places[name])));
}

function showGoal(now) {
  goal.show([now.png]);
  goal.place(now.places, turns());
  $("how").textContent = now.known ? "Drag things, or drop a picture here."
    : "A picture: where things are in it is not known, so the page cannot say when it is reached.";
  showWarning();
}

function showPlan(now) {
  $("ms").textContent = now.ms === undefined ? "–" : `${now.ms.toFixed(0)} ms`;
  if (now.narrowing) {
    const [first, last] = [now.narrowing[0], now.narrowing[now.narrowing.length - 1]].map((each) => each.toFixed(1));
    $("thinking").textContent = `The newest plan: ${now.iterations} rounds; its best candidates went from ${first} `
      + `to ${last} (root of the cost). Ghosts show each imagined latent as ${now.probed ? "a linear probe reads it, fitted to" : "the nearest of"} `
      + `${now.known} known states.`;
  }
  showWarning();
  showWorld();
}

function showWarning() {
  const text = [latest.goal && latest.goal.warning, latest.plan && latest.plan.warning].filter(Boolean)[0];
  $("warning").textContent = text ? `⚠ ${text}` : "";
  $("warning").hidden = !text;
}

function note(text, bad) {
  $("note").textContent = text;
  $("note").className = bad ? "banner bad" : "banner";
}

function changed(open) {
  $("lost").hidden = open;
  $("lost").textContent = "The program does not answer; this page tries again by itself. "
    + "If you have started it anew, open the address that it prints.";
  for (const each of document.querySelectorAll("button, select, input")) each.disabled = !open;
  if (open && lostOnce) note("The program answers again.", false);
  lostOnce = lostOnce || !open;
}

async function give(file) {
  if (!file) return;
  if (file.size > MOST) note(`The picture has ${Math.ceil(file.size / 2 ** 20)} MB; at most 16 can be taken.`, true);
  else order(await file.arrayBuffer());
}

for (const id of ["step", "restart", "freeze", "another"]) $(id).onclick = () => order({ do: id });
$("run").onclick = () => order({ do: latest.settings.running ? "pause" : "run" });
for (const id of ["planner", "deadline", "speed"]) {
  $(id).onchange = (event) => order({ do: id, value: JSON.parse(event.target.value) });
}
$("ghosts").onchange = showWorld;
$("picture").onchange = (event) => { give(event.target.files[0]); event.target.value = ""; };
addEventListener("paste", (event) => give(event.clipboardData.files[0]));
addEventListener("resize", () => draw($("chart"), steps, plan()));
addEventListener("dragover", (event) => { event.preventDefault(); $("goal").classList.add("over"); });
addEventListener("dragleave", () => $("goal").classList.remove("over"));
addEventListener("drop", (event) => {
  event.preventDefault();
  $("goal").classList.remove("over");
  give(event.dataTransfer.files[0]);
});
addEventListener("keydown", (event) => {
  if (event.target.closest("button, select, input, a, summary, pre") || event.ctrlKey || event.metaKey) return;
  if (event.key === " ") $("run").click();
  else if (event.key === ".") $("step").click();
  else return;
  event.preventDefault();
});
