// A picture from the camera: the first press shows what it sees, the second takes it.

export class Camera {
  // button: pressed for both.   take(blob) gets the picture, fail(text) what went wrong.
  constructor(button, video, take, fail) {
    this.button = button;
    this.video = video;
    button.onclick = () => (this.stream ? this.shoot(take, fail) : this.open(fail));
    video.onclick = button.onclick;
    addEventListener("keydown", (event) => { if (event.key === "Escape") this.close(); });
  }

  async open(fail) {
    if (!navigator.mediaDevices) { fail("This browser gives a camera to pages of this machine or with https only."); return; }
    try {
      this.stream = await navigator.mediaDevices.getUserMedia({ video: { width: 640, height: 640 } });
    } catch (error) {
      fail(error.name === "NotFoundError" ? "There is no camera here." : "The camera may not be used: allow it in the browser.");
      return;
    }
    this.video.srcObject = this.stream;
    this.video.hidden = false;
    this.button.textContent = "Take it";
    await this.video.play();
  }

  async shoot(take, fail) {
    const { videoWidth: width, videoHeight: height } = this.video;
    if (!width) { fail("The camera shows nothing yet: try again in a moment."); return; }
    const side = Math.min(width, height), canvas = document.createElement("canvas");
    canvas.width = canvas.height = side;
    canvas.getContext("2d").drawImage(this.video, (width - side) / 2, (height - side) / 2, side, side, 0, 0, side, side);
    this.close();
    take(await new Promise((done) => canvas.toBlob(done, "image/png")));
  }

  close() {
    if (!this.stream) return;
    for (const track of this.stream.getTracks()) track.stop();
    this.stream = this.video.srcObject = null;
    this.video.hidden = true;
    this.button.textContent = "Camera";
  }
}
