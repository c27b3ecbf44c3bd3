// The line to the program: comes back by itself, and says when it is gone. The program sends something every few
// seconds, so a line on which nothing comes any more is gone, too, although nobody has closed it.

const FIRST = 500, LONGEST = 4000; // ms between two attempts
const BEATS = 4; // that may be missing

export class Connection {
  // heard(message) gets every message; changed(open) is called when the line comes or goes.
  constructor(heard, changed) {
    this.heard = heard;
    this.changed = changed;
    this.pause = FIRST;
    this.every = 2500; // ms from beat to beat, until the program says its own
    this.open();
  }

  open() {
    const address = new URL("socket", location.href);
    address.protocol = "ws:";
    this.socket = new WebSocket(address);
    this.socket.onopen = () => { this.pause = FIRST; this.changed(true); };
    this.socket.onmessage = (event) => this.take(JSON.parse(event.data));
    this.socket.onclose = () => this.lose();
    this.wait();
  }

  take(message) {
    if (message.kind === "beat") this.every = 1000 * message.every;
    this.wait();
    if (message.kind !== "beat") this.heard(message);
  }

  // Wait for the next message, but not for ever.
  wait() {
    clearTimeout(this.patience);
    this.patience = setTimeout(() => this.lose(), BEATS * this.every);
  }

  lose() {
    clearTimeout(this.patience);
    this.socket.onopen = this.socket.onmessage = this.socket.onclose = null; // closing may take a minute
    this.socket.close();
    this.changed(false);
    setTimeout(() => this.open(), this.pause);
    this.pause = Math.min(2 * this.pause, LONGEST);
  }

  // Send an order, or the bytes of a picture; false when the line is gone.
  send(order) {
    if (this.socket.readyState !== WebSocket.OPEN) return false;
    this.socket.send(order instanceof ArrayBuffer ? order : JSON.stringify(order));
    return true;
  }
}
