// An image to look at closely: zoomed around the pointer, moved, turned, lightened. What was done to an item's image is
// there again when the item is.

const STEP = 1.25;
const STRIDE = 80; // pixels that an arrow key moves it
const STILL = 5; // pixels that a click may wander
const SMALL = 160; // pixels: enlarged dot by dot, since smoothing would blur what there is to see
const LARGEST = 16; // times its own size, or of what fits
const PLAIN = { contrast: 100, brightness: 100, isInverted: false };

const byId = (id) => document.getElementById(id);
const whole = () => ({ scale: null, x: 0, y: 0, turn: 0, light: { ...PLAIN } });

export class ImageViewer {
  // `onReady(task)` is called once the task's image is there or known to be broken.
  constructor({ announce, onReady }) {
    Object.assign(this, { announce, onReady });
    this.frame = byId("frame");
    this.image = null;
    this.task = null;
    this.views = new Map(); // task id → its view
    this.view = whole();
    this.kept = null; // contrast and brightness that were pinned
    this.pointers = new Map();
    this.#listen();
  }

  get isThere() {
    return !byId("viewer").hidden && this.frame.dataset.state === "there";
  }

  get isZoomed() {
    return this.view.scale !== null && this.view.scale > this.#fit() * 1.01;
  }

  show(task, image) {
    this.image?.remove();
    this.pointers.clear();
    this.task = task;
    this.image = image;
    byId("viewer").hidden = image === null;
    if (image === null) return this.onReady(task);
    if (!this.views.has(task.id)) this.views.set(task.id, whole());
    this.view = this.views.get(task.id);
    if (this.kept) this.view.light = this.kept;
    this.frame.dataset.state = "loading";
    image.alt = `Item ${task.item.external_id}`;
    image.className = "review-image";
    image.draggable = false;
    const { image_width: width, image_height: height } = task.item;
    image.classList.toggle("review-image-small", Math.max(width ?? 0, height ?? 0) <= SMALL);
    this.frame.prepend(image);
    const settle = (state) => {
      if (this.task !== task) return;
      this.frame.dataset.state = state;
      this.#draw();
      this.onReady(task); // A broken image can still be judged to be none.
      if (state === "broken") this.announce("The image cannot be shown.");
    };
    if (image.complete) settle(image.naturalWidth ? "there" : "broken");
    else {
      image.addEventListener("load", () => settle("there"), { once: true });
      image.addEventListener("error", () => settle("broken"), { once: true });
      this.#draw();
    }
  }

  hide() {
    this.task = null;
    this.image?.remove();
    this.image = null;
    byId("viewer").hidden = true;
  }

  // --- Commands ------------------------------------------------------------------------------------------------------

  // Larger around a place of the frame, or whole again.
  toggle(at = this.#middle()) {
    if (!this.isThere) return;
    if (this.isZoomed) return this.fitAll();
    this.#scaleTo(Math.max(1, this.#fit() * 2.5), at);
    this.#tell();
  }

  zoomBy(steps, at = this.#middle()) {
    if (!this.isThere) return;
    this.#scaleTo(this.#scale() * STEP ** steps, at);
    this.#tell();
  }

  fitAll() {
    if (!this.isThere) return;
    this.view.scale = null;
    this.#draw();
    this.#tell();
  }

  actualSize() {
    if (!this.isThere) return;
    this.#scaleTo(1, this.#middle());
    this.#tell();
  }

  turn(quarters) {
    if (!this.isThere) return;
    const [x, y] = [this.view.x - this.frame.clientWidth / 2, this.view.y - this.frame.clientHeight / 2];
    this.view.turn = (this.view.turn + 90 * quarters + 360) % 360;
    // What is in the middle stays in the middle.
    this.view.x = this.frame.clientWidth / 2 - quarters * y;
    this.view.y = this.frame.clientHeight / 2 + quarters * x;
    this.#draw();
    this.announce(this.view.turn ? `Turned by ${this.view.turn} degrees.` : "Not turned.");
  }

  // Move with an arrow key. Returns whether there was anything to move.
  move(key) {
    const ways = { ArrowLeft: [1, 0], ArrowRight: [-1, 0], ArrowUp: [0, 1], ArrowDown: [0, -1] };
    if (!this.isThere || !this.isZoomed || !(key in ways)) return false;
    this.#moveBy(ways[key][0] * STRIDE, ways[key][1] * STRIDE);
    return true;
  }

  invert() {
    if (!this.isThere) return;
    this.#lighten({ isInverted: !this.view.light.isInverted });
    this.announce(this.view.light.isInverted ? "Colors inverted." : "Colors as they are.");
  }

  openLight() {
    if (!this.isThere) return;
    if (!byId("light").hidden) return this.closeLight();
    byId("light").hidden = false;
    byId("light-button").setAttribute("aria-expanded", "true");
    byId("light-contrast").focus();
  }

  closeLight() {
    if (byId("light").hidden) return;
    byId("light").hidden = true;
    byId("light-button").setAttribute("aria-expanded", "false");
    byId("stage").focus({ preventScroll: true });
  }

  // --- Drawing -------------------------------------------------------------------------------------------------------

  #size() {
    const { image_width: width, image_height: height } = this.task.item;
    return [this.image.naturalWidth || width || 1, this.image.naturalHeight || height || 1];
  }

  // The scale at which the whole image is in the frame.
  #fit() {
    if (!this.image) return 1;
    const [width, height] = this.#size();
    const isOnItsSide = this.view.turn % 180 !== 0;
    const { clientWidth, clientHeight } = this.frame;
    return Math.min(clientWidth / (isOnItsSide ? height : width), clientHeight / (isOnItsSide ? width : height)) || 1;
  }

  #scale() {
    return this.view.scale ?? this.#fit();
  }

  #middle() {
    return [this.frame.clientWidth / 2, this.frame.clientHeight / 2];
  }

  #scaleTo(wanted, [x, y]) {
    const fit = this.#fit();
    const scale = Math.min(Math.max(wanted, Math.min(fit, 1)), Math.max(fit, 1) * LARGEST);
    const by = scale / this.#scale();
    this.view.scale = Math.abs(scale / fit - 1) < 0.01 ? null : scale;
    this.view.x = x + (this.view.x - x) * by;
    this.view.y = y + (this.view.y - y) * by;
    this.#draw();
  }

  #moveBy(x, y) {
    this.view.x += x;
    this.view.y += y;
    this.#draw();
  }

  // `view.x` and `view.y` are where the image's middle is in the frame. No part of the frame is empty without need.
  #draw() {
    if (!this.image) return;
    const [width, height] = this.#size();
    const scale = this.#scale();
    const isOnItsSide = this.view.turn % 180 !== 0;
    const [across, down] = isOnItsSide ? [height * scale, width * scale] : [width * scale, height * scale];
    this.view.x = inside(this.view.x, across, this.frame.clientWidth);
    this.view.y = inside(this.view.y, down, this.frame.clientHeight);
    const { style } = this.image;
    style.width = `${width}px`;
    style.height = `${height}px`;
    style.transform = `translate(${this.view.x}px, ${this.view.y}px) rotate(${this.view.turn}deg) scale(${scale}) translate(-50%, -50%)`;
    const { contrast, brightness, isInverted } = this.view.light;
    const isPlain = contrast === 100 && brightness === 100 && !isInverted;
    style.filter = isPlain ? "" : `brightness(${brightness}%) contrast(${contrast}%) invert(${isInverted ? 1 : 0})`;
    this.frame.toggleAttribute("data-zoomed", this.isZoomed);
    byId("zoom-level").textContent = `${Math.round(100 * scale)}%`;
    byId("zoom-button").setAttribute("aria-pressed", String(this.isZoomed));
    byId("light-contrast").value = String(contrast);
    byId("light-brightness").value = String(brightness);
    byId("light-invert").checked = isInverted;
    byId("light-button").toggleAttribute("data-on", !isPlain);
  }

  #tell() {
    this.announce(this.view.scale === null ? "The whole image." : `${Math.round(100 * this.#scale())} percent.`);
  }

  #lighten(change) {
    this.view.light = { ...this.view.light, ...change };
    if (byId("light-keep").checked) this.kept = this.view.light;
    this.#draw();
  }

  // --- Pointers ------------------------------------------------------------------------------------------------------

  #listen() {
    const { frame } = this;
    frame.addEventListener("wheel", (event) => {
      if (!this.isThere) return;
      event.preventDefault();
      const lines = event.deltaMode === WheelEvent.DOM_DELTA_LINE ? 33 : 1;
      this.#scaleTo(this.#scale() * STEP ** (-(event.deltaY * lines) / (event.ctrlKey ? 20 : 100)), this.#place(event));
    }, { passive: false });
    frame.addEventListener("pointerdown", (event) => this.#press(event));
    frame.addEventListener("pointermove", (event) => this.#drag(event));
    for (const end of ["pointerup", "pointercancel"]) frame.addEventListener(end, (event) => this.#release(event));
    new ResizeObserver(() => this.#draw()).observe(frame);
    byId("light-contrast").addEventListener("input", (event) => this.#lighten({ contrast: Number(event.target.value) }));
    byId("light-brightness").addEventListener("input", (event) => this.#lighten({ brightness: Number(event.target.value) }));
    byId("light-invert").addEventListener("change", (event) => this.#lighten({ isInverted: event.target.checked }));
    byId("light-keep").addEventListener("change", (event) => { this.kept = event.target.checked ? this.view.light : null; });
    byId("light-reset").addEventListener("click", () => this.#lighten(PLAIN));
    byId("light-close").addEventListener("click", () => this.closeLight());
    byId("light").addEventListener("keydown", (event) => {
      if (event.key === "Escape") this.closeLight();
    });
  }

  #place(event) {
    const box = this.frame.getBoundingClientRect();
    return [event.clientX - box.left, event.clientY - box.top];
  }

  #press(event) {
    if (!this.isThere || (event.pointerType === "mouse" && event.button !== 0)) return;
    this.frame.setPointerCapture(event.pointerId);
    if (!this.pointers.size) this.wandered = 0;
    this.pointers.set(event.pointerId, this.#place(event));
  }

  #drag(event) {
    const before = this.pointers.get(event.pointerId);
    if (!before) return;
    const now = this.#place(event);
    this.wandered += Math.hypot(now[0] - before[0], now[1] - before[1]);
    const other = [...this.pointers].find(([id]) => id !== event.pointerId)?.[1];
    this.pointers.set(event.pointerId, now);
    if (other) {
      // Two fingers: what is between them stays between them.
      const spread = Math.hypot(now[0] - other[0], now[1] - other[1]) / Math.max(1, Math.hypot(before[0] - other[0], before[1] - other[1]));
      this.view.x += (now[0] - before[0]) / 2;
      this.view.y += (now[1] - before[1]) / 2;
      this.#scaleTo(this.#scale() * spread, [(now[0] + other[0]) / 2, (now[1] + other[1]) / 2]);
    } else if (this.isZoomed && this.wandered > STILL) {
      this.frame.dataset.moving = "";
      this.#moveBy(now[0] - before[0], now[1] - before[1]);
    }
  }

  #release(event) {
    if (!this.pointers.delete(event.pointerId)) return;
    delete this.frame.dataset.moving;
    if (event.type === "pointercancel" || this.pointers.size || this.wandered > STILL) return;
    const at = this.#place(event);
    if (event.pointerType !== "touch") return this.toggle(at);
    // A finger touches an image for many reasons: twice in a row, it means to zoom.
    const isSecond = event.timeStamp - (this.tapped ?? -Infinity) < 350;
    this.tapped = isSecond ? -Infinity : event.timeStamp;
    if (isSecond) this.toggle(at);
  }
}

// Where the middle of something as long as `length` may be within `room`.
function inside(middle, length, room) {
  if (length <= room) return room / 2;
  return Math.min(length / 2, Math.max(room - length / 2, middle));
}
