// The page: what comes from the program is shown, what is done here is sent to it. All that lasts is kept there.

import { Camera } from "./camera.js";
import { drawDistance, drawNarrowing, drawSurprise } from "./chart.js";
import { Connection } from "./connection.js";
import { Panel, choices, copied } from "./panel.js";
import { Replay, read } from "./replay.js";
import { Scene } from "./scene.js";

const MOST = 16 * 2 ** 20; // bytes of a picture; the server's limit
const $ = (id) => document.getElementById(id);
let latest = { settings: null, goal: null };
let lostOnce = false, replay = null, open = false;
let missed = []; // what came while a recording was shown: the newest of each kind

$("goal").before(copied($("world")));
const panels = [new Panel($("world"), 0, order), new Panel($("other"), 1, order)];
const goal = new Scene($("goal"), "goal", order);
const line = new Connection(heard, changed);
const camera = new Camera($("camera"), $("viewfinder"), give, (text) => note(text, true));

function order(fields) {
  if (replay) note("This is a recording: go back to the world first.", true);
  else if (!line.send(fields)) note("That was not done: the program does not answer.", true);
}

function heard(message) {
  if (message.kind === "replay") { play(message.messages); return; }
  if (!replay) { show(message); return; }
  const same = (other) => other.kind === message.kind && (other.lane || 0) === (message.lane || 0);
  missed = [...missed.filter((other) => !same(other)), message];
}

const show_ = {
  note: (message) => note(message.text, message.bad),
  history: (message) => panels[message.lane].showHistory(message.steps),
  settings: showSettings,
  goal: showGoal,
  frame: (message, options) => panels[message.lane].showFrame(message, turns(), options),
  plan: (message, options) => panels[message.lane].showPlan(message, options),
};

// passed: what is shown is out of date already, and only what lasts of it counts.
function show(message, passed = false) {
  show_[message.kind]?.(message, { ...wanted(), passed });
  if (passed) return;
  if (message.kind === "frame" && !message.lane) {
    $("rate").textContent = message.rate ? message.rate.toFixed(1) : "–";
    document.body.dataset.reached = message.reached === null ? "" : "yes";
  }
  if (message.kind === "plan") { showThinking(); showWarning(); }
  if (["frame", "plan", "goal", "history", "settings"].includes(message.kind)) drawCharts();
  document.body.dataset.ready = latest.settings && panels[0].frame && latest.goal ? "yes" : "";
}

const wanted = () => ({ ghosts: $("ghosts").checked, fan: $("fan").checked });
const turns = () => (latest.settings ? latest.settings.handles : {});
const worlds = () => panels.slice(0, latest.settings ? latest.settings.lanes.length : 1);

function showSettings(now) {
  latest.settings = now;
  const two = now.lanes.length > 1;
  $("about").textContent = `A model of ${now.world}, at ${now.hz} steps a second.`;
  $("run").textContent = now.running ? "Pause" : "Start";
  choices($("speed"), now.speeds, now.speed, (value) => (value === 1 ? "as it is" : `${value} of that`));
  now.lanes.forEach((mine, i) => panels[i].showChoices(now, mine));
  $("other").hidden = !two;
  $("compare").checked = two;
  document.body.classList.toggle("two", two);
  for (const each of document.querySelectorAll(".key .second")) each.hidden = !two;
  $("narrowing-2").toggleAttribute("hidden", !two);
  if (!two) panels[1].clear();
  const both = (name) => now.lanes.map((mine) => mine[name]).join("\n\n");
  $("command").textContent = both("command");
  $("python").textContent = both("python");
  if (latest.goal) goal.place(latest.goal.places, now.handles);
}

function showGoal(now, { passed } = {}) {
  if (!latest.goal || latest.goal.number !== now.number) for (const panel of panels) panel.newGoal();
  latest.goal = now;
  if (passed) return;
  goal.show([now.png]);
  goal.place(now.places, turns());
  const draggable = latest.settings && Object.keys(latest.settings.handles).length > 0;
  $("how").textContent = !now.known
    ? "A picture: where things are in it is not known, so the page cannot say when it is reached."
    : draggable ? "Drag things, or drop a picture here." : "Drop a picture here, or freeze the present.";
  showWarning();
}

function showThinking() {
  const { plan } = panels[0];
  if (!plan) return;
  const by = { probe: "as a linear probe reads it, fitted to", states: "as the nearest of", frames: "as the nearest of" };
  const what = plan.shown_by === "frames" ? "known frames" : "known states";
  $("thinking").textContent = `The newest plan: ${plan.iterations} iterations in ${plan.ms.toFixed(0)} ms. Ghosts show each `
    + `imagined latent ${by[plan.shown_by]} ${plan.known} ${what}. Thin lines are candidates: dotted grey ones of the first `
    + "iterations, whole green ones of the last.";
}

function drawCharts() {
  const shown = worlds();
  drawDistance($("chart"), shown);
  drawSurprise($("surprises"), shown);
  shown.forEach(({ plan }, i) => {
    drawNarrowing($(i ? "narrowing-2" : "narrowing"), plan && plan.fan ? plan.fan.nearest : null);
  });
}

function showWarning() {
  const said = [latest.goal && latest.goal.warning, ...worlds().map(({ plan }) => plan && plan.warning)];
  const text = said.find(Boolean);
  $("warning").textContent = text ? `⚠ ${text}` : "";
  $("warning").hidden = !text;
}

function note(text, bad) {
  $("note").textContent = text;
  $("note").className = bad ? "banner bad" : "banner";
}

function changed(now) {
  open = now;
  $("lost").hidden = open;
  $("lost").textContent = "The program does not answer; this page tries again by itself. "
    + "If you have started it anew, and nothing happens here, open the address that it prints.";
  enable();
  if (open && lostOnce) note("The program answers again.", false);
  lostOnce = lostOnce || !open;
}

// What cannot be done now cannot be pressed: the world's buttons while a recording is shown, most while nobody answers.
function enable() {
  for (const each of document.querySelectorAll("button, select, input")) {
    const here = each.closest("#replaying") || ["recording", "ghosts", "fan"].includes(each.id);
    each.disabled = here ? false : !open || replay !== null;
  }
}

async function give(file) {
  if (!file) return;
  if (/json/.test(file.type) || /\.json$/.test(file.name || "")) {
    try { play(read(await file.text())); } catch (error) { note(error.message, true); }
  } else if (file.size > MOST) note(`The picture has ${Math.ceil(file.size / 2 ** 20)} MB; at most 16 can be taken.`, true);
  else order(await file.arrayBuffer());
}

// Show a recording in the place of the world.
function play(messages) {
  replay?.end();
  $("replaying").hidden = false;
  if (!replay) missed = [...kept()];
  replay = {};
  enable();
  try {
    replay = new Replay(messages, clear, show, moved);
  } catch (error) {
    backToTheWorld();
    note(`That recording cannot be played: ${error.message}`, true);
  }
}

const kept = () => Object.values(latest).concat(panels.flatMap(({ frame, plan }) => [frame, plan])).filter(Boolean);

function clear() {
  latest = { settings: null, goal: null };
  for (const panel of panels) panel.clear();
}

function moved(at, of, running) {
  $("replay-run").textContent = running ? "Pause" : "Play";
  $("replay-at").max = of;
  $("replay-at").value = at;
  $("replay-time").textContent = `${at.toFixed(1)} of ${of.toFixed(1)} s`;
}

function backToTheWorld() {
  replay?.end?.();
  replay = null;
  $("replaying").hidden = true;
  clear();
  for (const message of missed) show(message);
  enable();
  line.send({ do: "hello" });
}

for (const id of ["step", "again", "restart", "freeze", "another"]) $(id).onclick = () => order({ do: id });
$("run").onclick = () => order({ do: latest.settings.running ? "pause" : "run" });
$("speed").onchange = (event) => order({ do: "speed", value: JSON.parse(event.target.value) });
$("compare").onchange = (event) => order({ do: "compare", value: event.target.checked });
for (const id of ["ghosts", "fan"]) $(id).onchange = () => worlds().forEach((panel) => panel.draw(wanted()));
for (const id of ["picture", "recording"]) {
  $(id).onchange = (event) => { give(event.target.files[0]); event.target.value = ""; };
}
$("replay-run").onclick = () => replay.run(!replay.running);
$("replay-at").oninput = (event) => {
  const seconds = Number(event.target.value);
  replay.run(false); // which moves the bar
  replay.seek(seconds);
};
$("replay-end").onclick = backToTheWorld;
addEventListener("paste", (event) => give(event.clipboardData.files[0]));
addEventListener("resize", drawCharts);
addEventListener("dragover", (event) => { event.preventDefault(); $("goal").classList.add("over"); });
addEventListener("dragleave", () => $("goal").classList.remove("over"));
addEventListener("drop", (event) => {
  event.preventDefault();
  $("goal").classList.remove("over");
  give(event.dataTransfer.files[0]);
});
addEventListener("keydown", (event) => {
  if (event.target.closest("button, select, input, a, summary, pre") || event.ctrlKey || event.metaKey) return;
  if (event.key === " ") (replay ? $("replay-run") : $("run")).click();
  else if (event.key === "." && !replay) $("step").click();
  else return;
  event.preventDefault();
});
