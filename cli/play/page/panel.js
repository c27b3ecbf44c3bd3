// One of the worlds side by side: its picture, what it plans, what it has come to. Lane 0 is in the page, lane 1
// a copy of it.

import { Scene } from "./scene.js";

const MOST = 600; // steps in the charts

export class Panel {
  constructor(figure, lane, order) {
    const mark = lane ? `-${lane + 1}` : "";
    this.figure = figure;
    this.$ = (id) => figure.querySelector(`#${id}${mark}`);
    this.order = (fields) => order({ ...fields, ...(lane ? { lane } : {}) });
    this.scene = new Scene(figure, "world", this.order);
    this.clear();
    for (const id of ["planner", "deadline", "checkpoint"]) {
      this.$(id).onchange = (event) => this.order({ do: id, value: JSON.parse(event.target.value) });
    }
  }

  clear() {
    this.frame = this.plan = null;
    this.steps = []; // [step, distance, expected, surprise]
  }

  // A goal was set: what was measured of the last one is over.
  newGoal() { this.steps = []; }

  showChoices(all, mine) {
    const seconds = (value) => value === null ? "none" : `${1000 * value} ms`;
    const deadlines = all.deadlines.includes(mine.deadline) ? all.deadlines : [...all.deadlines, mine.deadline];
    choices(this.$("planner"), all.planners, mine.planner, String);
    choices(this.$("deadline"), deadlines, mine.deadline, seconds);
    choices(this.$("checkpoint"), all.checkpoints, mine.checkpoint, String);
    this.figure.querySelector(".model").hidden = all.checkpoints.length < 2;
    if (this.frame) this.scene.place(this.frame.places, all.handles);
  }

  showHistory(steps) { this.steps = steps; }

  // options: {ghosts, fan, passed}; what has passed is noted and not drawn.
  showFrame(frame, turns, options) {
    this.frame = frame;
    const last = this.steps[this.steps.length - 1];
    if (last && last[0] > frame.step) this.steps = [];
    else if (last && last[0] === frame.step) this.steps.pop();
    this.steps.push([frame.step, frame.distance, frame.expected, frame.surprise]);
    if (this.steps.length > MOST) this.steps.shift();
    if (options.passed) return;
    this.$("distance").textContent = frame.distance.toFixed(1);
    this.$("surprise").textContent = frame.surprise === null ? "–" : `${(100 * frame.surprise).toFixed(0)} %`;
    const reached = frame.reached === null ? "" : `✓ goal reached at step ${frame.reached}`;
    this.$("state").textContent = `step ${frame.step}  ${reached || (frame.over ? "the episode has ended" : "")}`;
    this.scene.place(frame.places, turns);
    this.draw(options);
  }

  showPlan(plan, options) {
    this.plan = plan.expected ? plan : null;
    if (options.passed) return;
    this.$("ms").textContent = this.plan ? `${plan.ms.toFixed(0)} ms` : "–";
    this.draw(options);
  }

  draw({ ghosts, fan }) {
    if (!this.frame) return;
    const plan = ghosts ? this.plan : null;
    const names = plan && plan.path.length ? Object.keys(plan.path[0]) : [];
    const paths = names.map((name) => plan.path.map((places) => places[name]));
    const tried = fan && this.plan && this.plan.fan ? Object.values(this.plan.fan.paths) : [];
    this.scene.show([this.frame.png, plan && plan.ghosts], paths, tried);
  }
}

export function choices(select, values, chosen, label) {
  const wanted = JSON.stringify(values);
  if (select.dataset.values !== wanted) {
    select.replaceChildren(...values.map((value) => new Option(label(value), JSON.stringify(value))));
    select.dataset.values = wanted;
  }
  select.value = JSON.stringify(chosen);
}

// A copy of the first world's figure, for the second.
export function copied(figure) {
  const copy = figure.cloneNode(true);
  copy.id = "other";
  for (const each of copy.querySelectorAll("[id]")) each.id += "-2";
  for (const each of copy.querySelectorAll(".handle, .knob")) each.remove();
  for (const each of copy.querySelectorAll("select")) delete each.dataset.values;
  copy.querySelector("canvas").setAttribute("aria-label", "the second world now");
  copy.querySelector(".name").textContent = "The second world";
  copy.hidden = true;
  return copy;
}
