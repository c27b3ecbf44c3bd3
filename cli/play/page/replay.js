// A recording, played again: messages as they came, at the times at which they came.

const LARGEST = 24 * 2 ** 20; // bytes
const KINDS = ["settings", "frame", "goal", "plan", "note"];
const PNG = /^data:image\/png;base64,[A-Za-z0-9+/=]+$/;

// The [seconds, message] in the text of a recording; throws a sentence.
export function read(text) {
  const odd = (why) => new Error(`That recording cannot be played: ${why}.`);
  if (text.length > LARGEST) throw odd("it is too large");
  let found;
  try { found = JSON.parse(text); } catch { throw odd("it is not JSON"); }
  if (!found || found.format !== "latent-planner-session" || found.version !== 1) throw odd("this page did not save it");
  if (!Array.isArray(found.messages) || !found.messages.length) throw odd("nothing is in it");
  let before = 0;
  for (const entry of found.messages) {
    const [seconds, message] = Array.isArray(entry) ? entry : [];
    if (!Number.isFinite(seconds) || seconds < before) throw odd("its times are not in order");
    if (!message || !KINDS.includes(message.kind)) throw odd("it holds something else");
    for (const name of ["png", "ghosts"]) {
      const picture = message[name];
      if (picture !== null && picture !== undefined && !PNG.test(picture)) throw odd("a picture in it is no PNG");
    }
    before = seconds;
  }
  return found.messages;
}

export class Replay {
  // begin() clears the page; show(message, passed) shows one, or only notes it; moved(seconds, of, running) is called as time goes on.
  constructor(messages, begin, show, moved) {
    Object.assign(this, { messages, begin, show, moved });
    this.last = messages[messages.length - 1][0];
    this.first = messages.find(([, { kind }]) => kind === "frame")?.[0] ?? 0; // before it there is nothing to see
    this.seek(0);
    this.run(true);
  }

  run(wanted) {
    if (wanted && this.at >= this.last) this.seek(0);
    this.running = wanted;
    this.clock = performance.now();
    cancelAnimationFrame(this.waiting);
    this.moved(this.at, this.last, this.running);
    if (wanted) this.waiting = requestAnimationFrame(() => this.tick());
  }

  tick() {
    const now = performance.now();
    this.at = Math.min(this.last, this.at + (now - this.clock) / 1000);
    this.clock = now;
    while (this.next < this.messages.length && this.messages[this.next][0] <= this.at) this.show(this.messages[this.next++][1]);
    this.moved(this.at, this.last, this.running);
    if (this.at >= this.last) this.run(false);
    else this.waiting = requestAnimationFrame(() => this.tick());
  }

  // Show the moment at so many seconds: everything up to there.
  seek(wanted) {
    const seconds = this.at = Math.max(this.first, wanted);
    this.begin();
    const newest = new Map();
    for (this.next = 0; this.next < this.messages.length && this.messages[this.next][0] <= seconds; this.next++) {
      const { kind, lane } = this.messages[this.next][1];
      newest.set(`${kind} ${lane || 0}`, this.next);
    }
    for (let i = 0; i < this.next; i++) {
      const message = this.messages[i][1];
      this.show(message, newest.get(`${message.kind} ${message.lane || 0}`) !== i);
    }
    this.moved(this.at, this.last, this.running);
  }

  end() { this.run(false); }
}
