// A run under way: its numbers as they come, and the newest plans.

import { drawLines } from "./chart.js";
import { Connection } from "./connection.js";

const FIGURES = { step: 0, minutes: 1, steps_per_second: 1, effective_rank: 1, latent_std: 2 }; // digits
const UNSETTLED = 50; // steps in which nothing can be said of the latents yet
const GIF = /^data:image\/gif;base64,[A-Za-z0-9+/=]+$/;
const $ = (id) => document.getElementById(id);
let rows = [], latentSize = null;

const heard = {
  run(message) {
    latentSize = message.latent_dim;
    $("about").textContent = `${message.world}, ${message.parameters} million parameters, in ${message.folder}`;
  },
  rows(message) { rows = message.rows; show(); },
  plans(message) {
    if (!GIF.test(message.film)) return;
    $("planned").textContent = `After step ${message.step}: ${Math.round(100 * message.success)} % of the validation goals `
      + "were reached. Each world is next to its goal.";
    $("film").src = message.film;
    $("film").hidden = false;
  },
  note(message) { $("note").textContent = message.text; },
};

new Connection((message) => heard[message.kind]?.(message), (open) => {
  $("lost").hidden = open;
  $("lost").textContent = "The run does not answer: it has ended, or was stopped. This page tries again by itself.";
});

function newest(name) {
  for (let i = rows.length - 1; i >= 0; i--) if (rows[i][name] !== undefined) return rows[i][name];
  return null;
}

function show() {
  for (const [name, digits] of Object.entries(FIGURES)) {
    const value = newest(name);
    $(name).textContent = value === null ? "–" : value.toFixed(digits);
  }
  const success = newest("success"), rank = newest("effective_rank"), spread = newest("latent_std");
  $("success").textContent = success === null ? "–" : `${Math.round(100 * success)} %`;
  if (rank !== null) $("effective_rank").textContent += ` of ${latentSize}`;
  const best = Math.max(...rows.map((row) => row.effective_rank || 0));
  const settled = rank !== null && newest("step") >= UNSETTLED;
  const collapsing = settled && (rank < best / 2 || spread < 0.1);
  $("health").textContent = !settled ? "" : collapsing
    ? "⚠ The latents are collapsing: raise sigreg_weight, or lower learning_rate." : "✓ The latents spread out.";
  const points = (name, by = 1) => rows.filter((row) => row[name] !== undefined).map((row) => [row.step, by * row[name]]);
  drawLines($("successes"), [
    ...[false, true].map((dots) => ({ kind: "actual", points: points("success", 100), dots })),
    ...["success_low", "success_high"].map((name) => ({ kind: "foretold", points: points(name, 100), dots: true })),
  ], { least: 100, unit: " %" });
  drawLines($("losses"), [
    { kind: "actual", points: points("prediction") }, { kind: "actual second", points: points("held_out") },
  ], { log: true });
  drawLines($("sigregs"), [{ kind: "actual", points: points("sigreg") }], { log: true });
  drawLines($("ranks"), [{ kind: "actual", points: points("effective_rank") }], { least: 1 });
  drawLines($("spreads"), [{ kind: "actual", points: points("latent_std") }], { least: 1 });
  document.body.dataset.ready = rows.length ? "yes" : "";
}

addEventListener("resize", show);
