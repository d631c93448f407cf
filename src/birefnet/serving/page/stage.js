// The stage of the page: takes a picture in, shows it before and after, and lets people point at
// what they mean. It talks with Python by events (`trigger`) and by messages in `props.value`.

const find = (selector) => element.querySelector(selector);
const all = (selector) => [...element.querySelectorAll(selector)];
const stage = find(".stage");
const frame = find(".stage-frame");
const before = find(".stage-before");
const after = find(".stage-after img");
const slide = find(".stage-slide");
const marks = find(".stage-marks");
const paint = find(".stage-paint");
const cut = find(".stage-cut");
const chooser = find(".stage-file");
const video = find("video");

const HELP = {
  compare: "",
  box: "Drag a box around what you mean. Keys: Enter starts one, arrows move it, Shift and arrows "
    + "resize it, Enter uses it.",
  point: "Click on what you mean. Keys: arrows move the cross, Enter sets a point.",
  other: "Click on what you do not mean. Keys: arrows move the cross, Enter sets a point.",
  brush: "Paint roughly over what you mean. Without a mouse, use Box or This instead.",
};
const BRUSH = 0.035; // radius, as a share of the frame's longer side
const MASK_SIDE = 512; // of the painted mask as it is sent [px]

let tool = "compare";
let guide = { boxes: [], points: [], strokes: [] };
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

function view(name) {
  stage.dataset.view = name;
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
    say("problem", `${file.name} could not be sent to the server; try once more.`);
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
  find("[data-do=snap]").focus();
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

// ---- What is meant --------------------------------------------------------------------------

function choose(name) {
  tool = name;
  cursor = null;
  stage.dataset.tool = name;
  for (const button of all(".stage-tools [data-tool]")) {
    button.setAttribute("aria-pressed", String(button.dataset.tool === name));
  }
  say("help", HELP[name]);
  marks.setAttribute("aria-label", HELP[name] || "Drawing area");
  draw();
}

function forget() {
  guide = { boxes: [], points: [], strokes: [] };
  cursor = null;
  draw();
}

/** Only one kind of guidance at a time: a new kind takes the place of the others. */
function keepOnly(kind) {
  for (const other of Object.keys(guide)) if (other !== kind) guide[other] = [];
}

function add(kind, item) {
  keepOnly(kind);
  guide[kind].push(item);
  draw();
  send();
}

function send() {
  const asked = guide.points.length === 0 || guide.points.some((point) => point.meant);
  if (!asked) return say("help", "Now click on what you do mean, with This.");
  if (tool !== "compare") say("help", HELP[tool]);
  busy(true);
  trigger("guide", {
    boxes: guide.boxes.map((box) => shares([box.x0, box.y0, box.x1, box.y1])),
    points: guide.points.filter((point) => point.meant).map((p) => shares([p.x, p.y])),
    other_points: guide.points.filter((point) => !point.meant).map((p) => shares([p.x, p.y])),
    brush: guide.strokes.length ? painted() : null,
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
  if (event.button !== 0) return;
  event.preventDefault();
  marks.focus({ preventScroll: true });
  marks.setPointerCapture(event.pointerId);
  cursor = null;
  const at = place(event);
  if (tool === "box") drawing = { start: at, box: boxOf(at, at) };
  if (tool === "brush") drawing = { stroke: [at] };
  if (tool === "point" || tool === "other") add("points", { ...at, meant: tool === "point" });
  draw();
});
marks.addEventListener("pointermove", (event) => {
  if (!drawing) return;
  const at = place(event);
  if (drawing.stroke) drawing.stroke.push(at);
  else drawing.box = boxOf(drawing.start, at);
  draw();
});
marks.addEventListener("pointerup", () => {
  const done = drawing;
  drawing = null;
  if (done?.stroke) add("strokes", done.stroke);
  else if (done && done.box.x1 - done.box.x0 > 0.01 && done.box.y1 - done.box.y0 > 0.01) {
    add("boxes", done.box);
  } else draw();
});
marks.addEventListener("pointercancel", () => { drawing = null; draw(); });

const ARROWS = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };

marks.addEventListener("keydown", (event) => {
  const arrow = ARROWS[event.key];
  if (event.key === "Escape") cursor = null;
  else if (tool === "box" && (arrow || event.key === "Enter")) keyBox(event, arrow);
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
    add("boxes", box);
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
    svg("rect", { x: b.x0, y: b.y0, width: b.x1 - b.x0, height: b.y1 - b.y0, class: "mark-box" }));
  const dot = (point, name) =>
    svg("line", { x1: point.x, y1: point.y, x2: point.x, y2: point.y, class: `mark-dot ${name}` });
  for (const point of guide.points) {
    nodes.push(dot(point, "rim"), dot(point, point.meant ? "meant" : "other"));
  }
  if (cursor && !("x0" in cursor)) nodes.push(dot(cursor, "rim"), dot(cursor, "cross"));
  marks.replaceChildren(...nodes);
  cut.style.display = crop ? "block" : "none";
  if (crop) {
    const [left, top, right, bottom] = crop.map((share) => `${clamp(share) * 100}%`);
    Object.assign(cut.style, { left, top, right: `calc(100% - ${right})`, bottom: `calc(100% - ${bottom})` });
  }
  drawStrokes(paint, frame.clientWidth, frame.clientHeight, "rgb(64 200 170 / 0.55)");
  const some = guide.boxes.length + guide.points.length + guide.strokes.length > 0;
  find("[data-do=undo]").disabled = find("[data-do=clear]").disabled = !some;
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
    find("[data-do=choose]").focus();
  },
  undo() {
    Object.values(guide).find((items) => items.length)?.pop();
    draw();
    send();
  },
  clear() {
    forget();
    send();
  },
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
new ResizeObserver(draw).observe(frame);
