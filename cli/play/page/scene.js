// A picture with things in it that can be dragged and turned: by mouse, finger or keys.

const MOVE = 0.02, LITTLE = 0.004, TURN = Math.PI / 24; // shares of the picture; radians
const ARM = 56; // px from a thing to the knob that turns it
const TRIED = ["#8a929c", "#00805c"]; // candidates of the first iterations, and of the last

export class Scene {
  // order(fields) sends what was done; where is "world" or "goal".
  constructor(figure, where, order) {
    this.box = figure.querySelector(".scene");
    this.canvas = figure.querySelector("canvas");
    this.pen = this.canvas.getContext("2d");
    this.where = where;
    this.order = order;
    this.handles = new Map();
    this.places = {};
    this.drawing = 0;
  }

  // The pictures (addresses; null: none) one over the other, and lines along `paths`, lists of [x, y].
  // fans: for each thing, candidates of each iteration as such lists.
  async show(pictures, paths = [], fans = []) {
    const mine = ++this.drawing;
    const images = await Promise.all(pictures.filter(Boolean).map(decoded));
    if (mine !== this.drawing) return; // a newer one came meanwhile
    const { width, height } = this.canvas;
    for (const image of images) this.pen.drawImage(image, 0, 0, width, height);
    for (const fan of fans) this.fan(fan, width, height);
    for (const path of paths) this.line(path, width, height);
  }

  fan(iterations, width, height) {
    iterations.forEach((candidates, i) => {
      const last = i === iterations.length - 1;
      this.pen.strokeStyle = TRIED[last ? 1 : 0];
      this.pen.globalAlpha = last ? 0.6 : 0.3 + 0.25 * i / iterations.length;
      this.pen.lineWidth = 1;
      this.pen.setLineDash(last ? [] : [2, 3]);
      for (const path of candidates) {
        this.pen.beginPath();
        path.forEach(([x, y]) => this.pen.lineTo(x * width, y * height));
        this.pen.stroke();
      }
    });
    this.pen.globalAlpha = 1;
  }

  line(path, width, height) {
    for (const [colour, thick] of [["#fff", 6], ["#a85a00", 3]]) {
      this.pen.strokeStyle = this.pen.fillStyle = colour;
      this.pen.lineWidth = thick / 1.5;
      this.pen.setLineDash([]);
      this.pen.beginPath();
      path.forEach(([x, y]) => this.pen.lineTo(x * width, y * height));
      this.pen.stroke();
      for (const [x, y] of path.slice(1)) {
        this.pen.beginPath();
        this.pen.arc(x * width, y * height, thick, 0, 7);
        this.pen.fill();
      }
    }
  }

  // places: name -> [x, y], shares of the picture.   turns: name -> whether it can be turned.
  place(places, turns) {
    this.places = places;
    for (const [name, button] of this.handles) {
      const same = name in places && button.turns === Boolean(turns[name]); // a goal may come before what can be turned
      if (!same) { button.knob?.remove(); button.remove(); this.handles.delete(name); }
    }
    for (const [name, [x, y]] of Object.entries(places)) {
      if (!this.handles.has(name)) this.add(name, turns[name]);
      const button = this.handles.get(name);
      if (!button.classList.contains("held")) this.put(button, x, y);
    }
  }

  put(button, x, y) {
    button.style.left = `${100 * x}%`;
    button.style.top = `${100 * y}%`;
    const { knob } = button;
    if (!knob) return;
    if (knob.angle === undefined) knob.angle = Math.atan2(0.5 - y, 0.5 - x); // towards the middle, where there is room
    knob.style.left = `calc(${100 * x}% + ${(ARM * Math.cos(knob.angle)).toFixed(1)}px)`;
    knob.style.top = `calc(${100 * y}% + ${(ARM * Math.sin(knob.angle)).toFixed(1)}px)`;
  }

  add(name, turns) {
    const button = document.createElement("button");
    button.type = "button";
    button.className = "handle";
    button.dataset.name = name;
    button.turns = Boolean(turns);
    const keys = turns ? "arrow keys move it, [ and ] turn it" : "arrow keys move it";
    button.setAttribute("aria-label", `${name} in the ${this.where}: ${keys}`);
    button.title = turns ? `${name}: drag it, turn it with the wheel` : `${name}: drag it`;
    const move = (x, y) => this.order({ do: "move", where: this.where, handle: name, x, y });
    const turn = (by) => turns && this.order({ do: "turn", where: this.where, handle: name, by });
    let offset = null, waiting = null;
    button.onpointerdown = (event) => {
      const [x, y] = this.at(event), [ownX, ownY] = this.places[name];
      offset = [ownX - x, ownY - y];
      button.setPointerCapture(event.pointerId);
      button.classList.add("held");
    };
    button.onpointermove = (event) => {
      if (!offset) return;
      const [x, y] = this.at(event);
      const first = waiting === null;
      waiting = [x + offset[0], y + offset[1]];
      this.put(button, ...waiting);
      if (first) requestAnimationFrame(() => { move(...waiting); waiting = null; });
    };
    button.onpointerup = button.onpointercancel = () => {
      if (waiting) move(...waiting);
      offset = null;
      button.classList.remove("held");
    };
    button.addEventListener("wheel", (event) => {
      if (!turns) return;
      event.preventDefault();
      turn(Math.sign(event.deltaY) * TURN);
    }, { passive: false });
    button.onkeydown = (event) => {
      const by = event.shiftKey ? LITTLE : MOVE;
      const way = { ArrowLeft: [-by, 0], ArrowRight: [by, 0], ArrowUp: [0, -by], ArrowDown: [0, by] }[event.key];
      if (way) this.order({ do: "nudge", where: this.where, handle: name, x: way[0], y: way[1] });
      else if (event.key === "[" || event.key === "]") turn(event.key === "]" ? TURN : -TURN);
      else return;
      event.preventDefault();
    };
    this.handles.set(name, button);
    this.box.append(button);
    if (turns) this.addKnob(name, button, turn);
  }

  // What turns a thing as it is led around it, by finger or mouse; keys and wheel do without.
  addKnob(name, button, turn) {
    const knob = document.createElement("span");
    knob.className = "knob";
    knob.dataset.name = name;
    knob.title = `turns the ${name}`;
    let from = null, waiting = 0;
    const angle = (event) => {
      const [x, y] = this.at(event), [ownX, ownY] = this.places[name];
      return Math.atan2(y - ownY, x - ownX);
    };
    knob.onpointerdown = (event) => {
      from = angle(event);
      knob.setPointerCapture(event.pointerId);
      event.preventDefault();
    };
    knob.onpointermove = (event) => {
      if (from === null) return;
      const now = angle(event), by = Math.atan2(Math.sin(now - from), Math.cos(now - from)), first = waiting === 0;
      from = now;
      waiting += by;
      knob.angle += by;
      this.put(button, ...this.places[name]);
      if (first && by) requestAnimationFrame(() => { if (waiting) turn(waiting); waiting = 0; });
    };
    knob.onpointerup = knob.onpointercancel = () => {
      if (waiting) turn(waiting);
      waiting = 0;
      from = null;
    };
    button.knob = knob;
    this.box.append(knob);
  }

  at(event) {
    const box = this.box.getBoundingClientRect();
    return [(event.clientX - box.left) / box.width, (event.clientY - box.top) / box.height];
  }
}

async function decoded(address) {
  const image = new Image();
  image.src = address;
  await image.decode();
  return image;
}
