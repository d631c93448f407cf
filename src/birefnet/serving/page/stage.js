// The stage of the page: takes a picture in, shows it before and after, and lets people point at
// the object. It talks with Python by events (`trigger`) and by messages in `props.value`.

const find = (selector) => element.querySelector(selector);
const all = (selector) => [...element.querySelectorAll(selector)];
const stage = find(".stage");
const frame = find(".stage-frame");
const before = find(".stage-before");
const after = find(".stage-after img");
const slide = find(".stage-slide");
const marks = find(".stage-marks");
const port = find(".stage-view");
const paint = find(".stage-paint");
const cut = find(".stage-cut");
const chooser = find(".stage-file");
const video = find("video");

const HELP = {
  compare: "",
  box: "Drag a box around the object. Keys: Enter starts one, arrows move it, Shift and arrows "
    + "resize it, Enter uses it.",
  point: "Click on the object. Keys: arrows move the cross, Enter sets a point.",
  other: "Click on what does not belong to the object. Keys: arrows move the cross, Enter sets a point.",
  brush: "Paint roughly over the object. Without a mouse, use Box or This instead.",
  erase: "Paint over what should go. The network does not run again.",
  refine: "Drag a window; the network does that part again, from close up. Keys: Enter starts one, "
    + "arrows move it, Shift and arrows resize it, Enter uses it.",
  move: "Drag the picture. Keys: + and - enlarge and reduce it, arrows move it.",
  restore: "Paint over what should come back. The network does not run again.",
};
const RETOUCH = ["erase", "restore"];
const BOXES = { box: "boxes", refine: "windows" }; // what is dragged with these tools
const LARGEST_ZOOM = 8;
const BRUSH = 0.035; // radius, as a share of the frame's longer side
const MASK_SIDE = 512; // of the painted mask as it is sent [px]

let tool = "compare";
const NOTHING = { boxes: [], points: [], strokes: [], windows: [], retouch: [] };
let guide = NOTHING; // never changed itself, only replaced
let undone = []; // the latest last
let done = [];
let pending = []; // strokes of Erase and Restore that the result does not show yet
let zoom = 1;
let hover = null; // where the pointer is
let drawing = null; // what the pointer is drawing now
let cursor = null; // what the keys are drawing now
let camera = null;
let revealed = false;
let crop = null; // where the saved file is cut

// ---- Messages from Python -------------------------------------------------------------------

const receive = {
  picture(message) {
    before.src = address(message.url);
    before.alt = `The original: ${message.name}`;
    after.removeAttribute("src");
    after.alt = "";
    frame.style.setProperty("--ratio", message.width / message.height);
    stage.dataset.result = "none";
    revealed = false;
    crop = null;
    forget();
    setZoom(1);
    choose("compare");
    view("picture");
    setSlide(100);
  },
  async result(message) {
    after.src = address(message.url);
    await after.decode().catch(() => {});
    after.alt = message.alt;
    stage.dataset.result = message.transparent ? "transparent" : "opaque";
    busy(false);
    say("verdict", message.verdict);
    find(".stage-verdict").classList.toggle("is-empty", message.empty);
    crop = message.frame;
    pending = [];
    draw();
    for (const option of all("select option")) option.disabled = !message.formats.includes(option.value);
    const select = find("select");
    if (select.selectedOptions[0].disabled) select.value = "png";
    if (!revealed) reveal();
  },
  file(message) {
    busy(false);
    const link = document.createElement("a");
    link.href = address(message.url);
    link.download = message.name;
    link.click();
  },
  busy() { busy(true); },
  problem(message) {
    busy(false);
    say("problem", message.text);
  },
};

watch("value", () => {
  const message = props.value;
  if (!message?.type) return;
  if (message.type !== "busy") say("problem", "");
  receive[message.type]?.(message);
});

const address = (path) => `${(window.gradio_config?.root ?? "").replace(/\/$/, "")}/${path}`;

function say(where, text) { find(`.stage-${where}`).textContent = text; }

function busy(is) {
  stage.toggleAttribute("data-busy", is);
  stage.setAttribute("aria-busy", String(is));
}

const FIRST = { empty: "[data-do=choose]", camera: "[data-do=snap]", picture: ".stage-set button" };

/** Show one of the three; the focus goes along. */
function view(name) {
  const focused = stage.contains(document.activeElement) ? document.activeElement : null;
  stage.dataset.view = name;
  if (focused && !focused.checkVisibility()) find(FIRST[name]).focus({ preventScroll: true });
  if (name !== "camera") stopCamera();
}

// ---- Pictures in ----------------------------------------------------------------------------

async function take(file) {
  if (!file) return;
  if (file.size > props.max_bytes) {
    const limit = Math.floor(props.max_bytes / 2 ** 20);
    return say("problem", `${file.name} is larger than ${limit} MB; take a smaller file.`);
  }
  say("problem", "");
  busy(true);
  try {
    const { path } = await upload(file);
    trigger("upload_picture", { path, name: file.name });
  } catch {
    busy(false);
    say("problem", `${file.name} could not be sent to the server; try again.`);
  }
}

function firstFile(transfer) {
  return [...(transfer?.files ?? [])][0];
}

stage.addEventListener("dragover", (event) => {
  event.preventDefault();
  stage.classList.add("is-over");
});
stage.addEventListener("dragleave", (event) => {
  if (!stage.contains(event.relatedTarget)) stage.classList.remove("is-over");
});
stage.addEventListener("drop", (event) => {
  event.preventDefault();
  stage.classList.remove("is-over");
  const file = firstFile(event.dataTransfer);
  const link = event.dataTransfer.getData("text/uri-list");
  if (file) take(file);
  else if (link) uploadLink(link.split("\n")[0]);
});
document.addEventListener("paste", (event) => {
  if (!stage.isConnected || stage.offsetParent === null) return; // another tab of the page
  const file = firstFile(event.clipboardData);
  if (file) take(file);
});
chooser.addEventListener("change", () => {
  take(chooser.files[0]);
  chooser.value = "";
});

function uploadLink(url) {
  if (!url) return;
  busy(true);
  say("problem", "");
  trigger("upload_picture", { url });
}
find("form").addEventListener("submit", (event) => {
  event.preventDefault();
  uploadLink(find("[name=url]").value.trim());
});

async function startCamera() {
  try {
    camera = await navigator.mediaDevices.getUserMedia({ video: { facingMode: "environment" } });
  } catch {
    return say("problem", "There is no camera that this page may use; allow it in the browser.");
  }
  say("problem", "");
  video.srcObject = camera;
  await video.play();
  view("camera");
}

function stopCamera() {
  camera?.getTracks().forEach((track) => track.stop());
  camera = null;
}

function snap() {
  const still = document.createElement("canvas");
  still.width = video.videoWidth;
  still.height = video.videoHeight;
  still.getContext("2d").drawImage(video, 0, 0);
  view("empty");
  still.toBlob((blob) => take(new File([blob], "camera.jpg", { type: blob.type })), "image/jpeg", 0.95);
}

// ---- Before and after -----------------------------------------------------------------------

function setSlide(percent) {
  slide.value = percent;
  frame.style.setProperty("--at", `${percent}%`);
  slide.setAttribute("aria-valuetext", `${percent} % original, ${100 - percent} % result`);
}
slide.addEventListener("input", () => setSlide(Number(slide.value)));

function reveal() {
  revealed = true;
  frame.classList.add("is-revealing");
  requestAnimationFrame(() => setSlide(40));
  setTimeout(() => frame.classList.remove("is-revealing"), 900);
}

// ---- Zoom -----------------------------------------------------------------------------------

/** Enlarge the picture; the place under the pointer (the middle without one) stays where it is. */
function setZoom(next, event) {
  next = Math.min(LARGEST_ZOOM, Math.max(1, next));
  const area = port.getBoundingClientRect();
  const [x, y] = event ? [event.clientX, event.clientY]
    : [area.left + area.width / 2, area.top + area.height / 2];
  const old = frame.getBoundingClientRect();
  const at = [(x - old.left) / old.width, (y - old.top) / old.height];
  zoom = next;
  frame.style.setProperty("--zoom", zoom);
  const now = frame.getBoundingClientRect();
  port.scrollBy(now.left + at[0] * now.width - x, now.top + at[1] * now.height - y);
  find(".stage-zoom output").textContent = `${Math.round(zoom * 100)} %`;
  find("[data-do=zoom_in]").disabled = zoom >= LARGEST_ZOOM;
  find("[data-do=zoom_out]").disabled = zoom <= 1;
}

port.addEventListener("wheel", (event) => {
  if (!event.ctrlKey) return;
  event.preventDefault();
  setZoom(zoom * 2 ** (-event.deltaY / 300), event);
}, { passive: false });

// ---- What is meant --------------------------------------------------------------------------

function choose(name) {
  tool = name;
  cursor = null;
  stage.dataset.tool = name;
  for (const button of all(".stage-tools [data-tool]")) {
    button.setAttribute("aria-pressed", String(button.dataset.tool === name));
    if (button.dataset.tool === name) button.scrollIntoView({ block: "nearest", inline: "center" });
  }
  say("help", HELP[name]);
  marks.setAttribute("aria-label", HELP[name] || "Drawing area");
  draw();
}

function forget() {
  guide = NOTHING;
  done = [];
  undone = [];
  pending = [];
  cursor = null;
  draw();
}

function change(next) {
  done.push(guide);
  undone = [];
  guide = next;
  draw();
  send();
}

/** Only one kind of guidance at a time: a new one takes the place of the others, and of corrections. */
function add(kind, item) {
  const items = { [kind]: [...guide[kind], item] };
  if (kind === "retouch" || kind === "windows") return change({ ...guide, ...items });
  const lost = guide.retouch.length + guide.windows.length > 0;
  change({ ...NOTHING, ...items });
  if (lost) say("help", "What you erased, restored and refined is gone from the new cut-out; Undo brings it back.");
}

function step(from, to) {
  to.push(guide);
  guide = from.pop();
  pending = [];
  draw();
  send();
}

function send() {
  const asked = guide.points.length === 0 || guide.points.some((point) => point.meant);
  if (!asked) return say("help", "Now click on the object, with This.");
  if (tool !== "compare") say("help", HELP[tool]);
  busy(true);
  trigger("guide", {
    boxes: guide.boxes.map((box) => shares([box.x0, box.y0, box.x1, box.y1])),
    points: guide.points.filter((point) => point.meant).map((p) => shares([p.x, p.y])),
    other_points: guide.points.filter((point) => !point.meant).map((p) => shares([p.x, p.y])),
    brush: guide.strokes.length ? painted() : null,
    windows: guide.windows.map((box) => [box.x0, box.y0, box.x1, box.y1].map(clamp)),
    retouch: guide.retouch,
  });
}

const shares = (values) => values.map((value) => clamp(value).toFixed(4)).join(",");
const clamp = (value) => Math.min(1, Math.max(0, value));

function place(event) {
  const area = marks.getBoundingClientRect();
  return {
    x: clamp((event.clientX - area.left) / area.width),
    y: clamp((event.clientY - area.top) / area.height),
  };
}

const boxOf = (a, b) => ({
  x0: Math.min(a.x, b.x), y0: Math.min(a.y, b.y), x1: Math.max(a.x, b.x), y1: Math.max(a.y, b.y),
});

marks.addEventListener("pointerdown", (event) => {
  if (event.button > 1) return;
  event.preventDefault();
  const moves = event.button === 1 || tool === "move";
  marks.focus({ preventScroll: true });
  marks.setPointerCapture(event.pointerId);
  cursor = null;
  const at = place(event);
  if (moves) {
    drawing = { from: [port.scrollLeft + event.clientX, port.scrollTop + event.clientY] };
    return;
  }
  if (BOXES[tool]) drawing = { start: at, box: boxOf(at, at) };
  if (tool === "brush") drawing = { stroke: [at] };
  if (RETOUCH.includes(tool)) {
    const [size, softness] = all(".stage-brush input").map((input) => Number(input.value) / 100);
    drawing = { retouch: { erase: tool === "erase", size, softness, points: [[at.x, at.y]] } };
  }
  if (tool === "point" || tool === "other") add("points", { ...at, meant: tool === "point" });
  draw();
});
marks.addEventListener("pointermove", (event) => {
  const at = place(event);
  hover = at;
  if (!drawing) return RETOUCH.includes(tool) && draw();
  if (drawing.from) {
    return port.scrollTo(drawing.from[0] - event.clientX, drawing.from[1] - event.clientY);
  }
  if (drawing.retouch) drawing.retouch.points.push([at.x, at.y]);
  else if (drawing.stroke) drawing.stroke.push(at);
  else drawing.box = boxOf(drawing.start, at);
  draw();
});
marks.addEventListener("pointerup", () => {
  const drawn = drawing;
  drawing = null;
  if (drawn?.stroke) add("strokes", drawn.stroke);
  else if (drawn?.retouch) {
    pending.push(drawn.retouch);
    add("retouch", drawn.retouch);
  } else if (drawn?.box && drawn.box.x1 - drawn.box.x0 > 0.01 && drawn.box.y1 - drawn.box.y0 > 0.01) {
    add(BOXES[tool], drawn.box);
  } else draw();
});
marks.addEventListener("pointercancel", () => { drawing = null; draw(); });
marks.addEventListener("pointerleave", () => { hover = null; draw(); });

const ARROWS = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };

marks.addEventListener("keydown", (event) => {
  const arrow = ARROWS[event.key];
  if (event.key === "Escape") cursor = null;
  else if (BOXES[tool] && (arrow || event.key === "Enter")) keyBox(event, arrow);
  else if (tool === "move" && arrow) port.scrollBy(arrow[0] * 60, arrow[1] * 60);
  else if ((tool === "point" || tool === "other") && (arrow || event.key === "Enter")) {
    cursor ??= { x: 0.5, y: 0.5 };
    if (arrow) cursor = { x: clamp(cursor.x + arrow[0] * 0.02), y: clamp(cursor.y + arrow[1] * 0.02) };
    else add("points", { ...cursor, meant: tool === "point" });
  } else return;
  event.preventDefault();
  draw();
});

function keyBox(event, arrow) {
  if (!cursor) {
    cursor = { x0: 0.25, y0: 0.25, x1: 0.75, y1: 0.75 };
  } else if (!arrow) {
    const box = cursor;
    cursor = null;
    add(BOXES[tool], box);
  } else {
    const [dx, dy] = arrow.map((step) => step * 0.02);
    if (!event.shiftKey) {
      cursor.x0 = clamp(cursor.x0 + dx);
      cursor.y0 = clamp(cursor.y0 + dy);
    }
    cursor.x1 = Math.max(cursor.x0 + 0.02, clamp(cursor.x1 + dx));
    cursor.y1 = Math.max(cursor.y0 + 0.02, clamp(cursor.y1 + dy));
  }
}

function svg(name, attributes) {
  const node = document.createElementNS("http://www.w3.org/2000/svg", name);
  for (const [key, value] of Object.entries(attributes)) node.setAttribute(key, value);
  return node;
}

function draw() {
  const boxes = [...guide.boxes, drawing?.box, cursor && "x0" in cursor ? cursor : null];
  const nodes = boxes.filter(Boolean).map((b) =>
    svg("rect", {
      x: b.x0, y: b.y0, width: b.x1 - b.x0, height: b.y1 - b.y0, class: `mark-box ${tool}`,
    }));
  const dot = (point, name) =>
    svg("line", { x1: point.x, y1: point.y, x2: point.x, y2: point.y, class: `mark-dot ${name}` });
  for (const point of guide.points) {
    nodes.push(dot(point, "rim"), dot(point, point.meant ? "meant" : "other"));
  }
  if (cursor && !("x0" in cursor)) nodes.push(dot(cursor, "rim"), dot(cursor, "cross"));
  if (hover && RETOUCH.includes(tool)) {
    const radius = (Number(find("[name=size]").value) / 200) * Math.max(frame.clientWidth, frame.clientHeight);
    nodes.push(svg("ellipse", {
      cx: hover.x, cy: hover.y, rx: radius / frame.clientWidth, ry: radius / frame.clientHeight, class: "mark-brush",
    }));
  }
  marks.replaceChildren(...nodes);
  cut.style.display = crop ? "block" : "none";
  if (crop) {
    const [left, top, right, bottom] = crop.map((share) => `${clamp(share) * 100}%`);
    Object.assign(cut.style, { left, top, right: `calc(100% - ${right})`, bottom: `calc(100% - ${bottom})` });
  }
  const shrink = Math.min(1, 1600 / Math.max(frame.clientWidth, frame.clientHeight)); // when zoomed
  drawStrokes(paint, frame.clientWidth * shrink, frame.clientHeight * shrink, "rgb(64 200 170 / 0.55)");
  drawRetouch();
  find("[data-do=undo]").disabled = done.length === 0;
  find("[data-do=redo]").disabled = undone.length === 0;
  find("[data-do=clear]").disabled = Object.values(guide).every((items) => items.length === 0);
}

function drawRetouch() {
  const pen = paint.getContext("2d");
  for (const stroke of [...pending, drawing?.retouch].filter(Boolean)) {
    pen.strokeStyle = stroke.erase ? "rgb(220 70 60 / 0.5)" : "rgb(64 200 170 / 0.5)";
    pen.lineWidth = stroke.size * Math.max(paint.width, paint.height);
    pen.beginPath();
    for (const [x, y] of [stroke.points[0], ...stroke.points]) pen.lineTo(x * paint.width, y * paint.height);
    pen.stroke();
  }
}

function drawStrokes(canvas, width, height, colour) {
  canvas.width = Math.max(1, Math.round(width));
  canvas.height = Math.max(1, Math.round(height));
  const pen = canvas.getContext("2d");
  pen.strokeStyle = colour;
  pen.lineCap = pen.lineJoin = "round";
  pen.lineWidth = 2 * BRUSH * Math.max(canvas.width, canvas.height);
  pen.beginPath(); // one path, so that strokes that cross are not painted twice
  for (const stroke of [...guide.strokes, drawing?.stroke].filter(Boolean)) {
    stroke.forEach((at, index) => {
      const x = at.x * canvas.width;
      const y = at.y * canvas.height;
      if (index === 0) pen.moveTo(x, y);
      pen.lineTo(x, y);
    });
  }
  pen.stroke();
}

/** What is painted, white on black, as a data address. */
function painted() {
  const canvas = document.createElement("canvas");
  const scale = MASK_SIDE / Math.max(frame.clientWidth, frame.clientHeight);
  drawStrokes(canvas, frame.clientWidth * scale, frame.clientHeight * scale, "#fff");
  const pen = canvas.getContext("2d");
  pen.globalCompositeOperation = "destination-over";
  pen.fillRect(0, 0, canvas.width, canvas.height);
  return canvas.toDataURL("image/png");
}

// ---- Buttons --------------------------------------------------------------------------------

const deeds = {
  choose: () => chooser.click(),
  camera: startCamera,
  snap,
  leave: () => view("empty"),
  again() {
    say("problem", "");
    say("verdict", "");
    say("help", "");
    view("empty");
  },
  zoom_in: () => setZoom(zoom * Math.SQRT2),
  zoom_out: () => setZoom(zoom / Math.SQRT2),
  undo: () => step(done, undone),
  redo: () => step(undone, done),
  clear: () => change(NOTHING),
  save() {
    busy(true);
    trigger("save", { format: find("select").value });
  },
};

stage.addEventListener("click", (event) => {
  const button = event.target.closest("button");
  if (!button) return;
  if (button.dataset.tool) choose(button.dataset.tool);
  if (button.dataset.example) {
    busy(true);
    say("problem", "");
    trigger("upload_picture", { example: button.dataset.example });
  }
  deeds[button.dataset.do]?.();
});
stage.addEventListener("keydown", (event) => {
  if (event.target.matches("[type=url], select") || stage.dataset.view !== "picture") return;
  const key = event.key.toLowerCase();
  if ("+=-0".includes(key) && !event.ctrlKey && !event.metaKey) {
    return setZoom(key === "0" ? 1 : key === "-" ? zoom / Math.SQRT2 : zoom * Math.SQRT2);
  }
  if (!(event.ctrlKey || event.metaKey)) return;
  const deed = key === "y" || (key === "z" && event.shiftKey) ? "redo" : key === "z" ? "undo" : null;
  if (!deed) return;
  event.preventDefault();
  find(`[data-do=${deed}]`).click();
});
new ResizeObserver(draw).observe(frame);
