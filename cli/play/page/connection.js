// The line to the program: comes back by itself, and says when it is gone.

const FIRST = 500, LONGEST = 4000; // ms between two attempts

export class Connection {
  // heard(message) gets every message; changed(open) is called when the line comes or goes.
  constructor(heard, changed) {
    this.heard = heard;
    this.changed = changed;
    this.pause = FIRST;
    this.open();
  }

  open() {
    const address = new URL("socket", location.href);
    address.protocol = "ws:";
    this.socket = new WebSocket(address);
    this.socket.onopen = () => { this.pause = FIRST; this.changed(true); };
    this.socket.onmessage = (event) => this.heard(JSON.parse(event.data));
    this.socket.onclose = () => {
      this.changed(false);
      setTimeout(() => this.open(), this.pause);
      this.pause = Math.min(2 * this.pause, LONGEST);
    };
  }

  // Send an order, or the bytes of a picture; false when the line is gone.
  send(order) {
    if (this.socket.readyState !== WebSocket.OPEN) return false;
    this.socket.send(order instanceof ArrayBuffer ? order : JSON.stringify(order));
    return true;
  }
}
