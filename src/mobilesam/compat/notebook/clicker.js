// The widget's side in the browser: gestures become messages, and what Python sends is drawn.

const SLOP = 5; // pixels that a mouse may move in a click
const LEAST_WIDTH = 640; // pixels of the page that a picture takes, where there is room
const COLOURS = { 1: "#28dc3c", 0: "#f02828" };

function icon(label, title, onClick) {
  const button = document.createElement("button");
  button.type = "button";
  button.textContent = label;
  button.title = title;
  button.addEventListener("click", onClick);
  return button;
}

function decode(bytes, kind) {
  return createImageBitmap(new Blob([bytes], { type: kind }));
}

function render({ model, el }) {
  const root = document.createElement("div");
  root.className = "mobilesam-clicker";
  const canvas = document.createElement("canvas");
  canvas.tabIndex = 0;
  canvas.setAttribute("role", "application");
  canvas.setAttribute("aria-label", "The image. Click on a thing to get its mask. Z takes back, N begins a new object.");
  const bar = document.createElement("div");
  bar.className = "bar";
  const told = document.createElement("span");
  told.setAttribute("role", "status");
  const send = (message) => model.send(message);
  const buttons = {
    undo: icon("Undo", "Take the last click back (Z)", () => send({ do: "undo" })),
    redo: icon("Redo", "Do it again (Shift+Z)", () => send({ do: "redo" })),
    choose: icon("Other mask", "Take the next of the three masks (C)", () => send({ do: "choose" })),
    next: icon("New object", "Keep this one, and begin another (N)", () => send({ do: "next" })),
  };
  bar.append(...Object.values(buttons), told);
  root.append(canvas, bar);
  el.append(root);

  const context = canvas.getContext("2d");
  let picture = null;
  let overlay = null;
  let start = null; // where a drag began, in pixels of the image
  let end = null;

  const [width, height] = model.get("size");
  /** Where an event is, in pixels of the image. */
  function place(event) {
    const box = canvas.getBoundingClientRect();
    const inside = (part, length) => Math.min(length - 0.01, Math.max(0, part * length));
    return [
      inside((event.clientX - box.left) / box.width, width),
      inside((event.clientY - box.top) / box.height, height),
    ];
  }

  function draw() {
    if (!picture) return;
    const scale = canvas.width / width;
    context.drawImage(picture, 0, 0);
    if (overlay) context.drawImage(overlay, 0, 0);
    const { points = [], labels = [], box = null } = model.get("asked");
    const dragged = start && end ? [Math.min(start[0], end[0]), Math.min(start[1], end[1]), Math.max(start[0], end[0]), Math.max(start[1], end[1])] : null;
    context.lineWidth = 2;
    for (const one of [box, dragged]) {
      if (!one) continue;
      context.strokeStyle = "#fff";
      context.setLineDash([6, 4]);
      context.strokeRect(one[0] * scale, one[1] * scale, (one[2] - one[0]) * scale, (one[3] - one[1]) * scale);
      context.setLineDash([]);
    }
    points.forEach(([x, y], i) => {
      context.beginPath();
      context.arc(x * scale, y * scale, 5, 0, 2 * Math.PI);
      context.fillStyle = COLOURS[labels[i]];
      context.fill();
      context.strokeStyle = "#fff";
      context.stroke();
    });
  }

  canvas.addEventListener("contextmenu", (event) => event.preventDefault());
  canvas.addEventListener("pointerdown", (event) => {
    canvas.focus({ preventScroll: true });
    canvas.setPointerCapture(event.pointerId);
    start = place(event);
    end = null;
    canvas.dataset.x = event.clientX;
    canvas.dataset.y = event.clientY;
  });
  canvas.addEventListener("pointermove", (event) => {
    if (!start) return;
    if (Math.hypot(event.clientX - canvas.dataset.x, event.clientY - canvas.dataset.y) > SLOP) end = place(event);
    if (end) draw();
  });
  canvas.addEventListener("pointerup", (event) => {
    if (!start) return;
    const [from, to] = [start, end];
    start = end = null;
    const label = event.button === 2 || event.altKey ? 0 : 1;
    const box = to && [Math.min(from[0], to[0]), Math.min(from[1], to[1]), Math.max(from[0], to[0]), Math.max(from[1], to[1])];
    if (box && box[2] > box[0] && box[3] > box[1]) send({ do: "act", action: { box } });
    else send({ do: "act", action: { point: from, label } });
  });
  canvas.addEventListener("pointercancel", () => {
    start = end = null;
    draw();
  });
  canvas.addEventListener("keydown", (event) => {
    const key = event.key.toLowerCase();
    const message = { z: { do: event.shiftKey ? "redo" : "undo" }, n: { do: "next" }, c: { do: "choose" } }[key];
    if (!message || event.altKey) return;
    event.preventDefault();
    event.stopPropagation(); // the notebook has uses of its own for these keys
    send(message);
  });

  const changes = {
    async picture() {
      picture = await decode(model.get("picture"), "image/jpeg");
      [canvas.width, canvas.height] = [picture.width, picture.height];
      root.style.maxWidth = `${Math.max(LEAST_WIDTH, picture.width)}px`;
      draw();
    },
    async overlay() {
      overlay = await decode(model.get("overlay"), "image/png");
      draw();
    },
    asked: draw,
    can() {
      const can = model.get("can");
      for (const [name, button] of Object.entries(buttons)) button.disabled = !can[name];
    },
    told() {
      told.textContent = model.get("told");
    },
  };
  for (const [name, change] of Object.entries(changes)) {
    model.on(`change:${name}`, change);
    change();
  }
  return () => {
    for (const [name, change] of Object.entries(changes)) model.off(`change:${name}`, change);
  };
}

export default { render };
