"use strict";
// Draws what the page cannot hold as HTML: the blocks after the first, and whole matrices. The data stand in the page.

const $ = (id) => document.getElementById(id);
const shown = JSON.parse($("shown").textContent);
const bytes = Uint8Array.from(atob($("numbers").textContent), (c) => c.charCodeAt(0));
const view = new DataView(bytes.buffer);
const SHADES = 16, MASKED = 1e30, CELLS = 1024;
const TINY = 6e-8;  // where 16 bits end: a smaller number that is not 0 is kept as the smallest
const TOKEN_AXES = ["tokens", "query", "key"];
let block = 0;

const make = (name, facts = {}, ...inside) => {
  const element = Object.assign(document.createElement(name), facts);
  element.append(...inside);
  return element;
};

// ---- Numbers. A tensor is planes × rows × columns; `steps` say how far apart its neighbours lie in the data.

function float16(bits) {
  const sign = bits & 0x8000 ? -1 : 1, exponent = (bits >> 10) & 31, fraction = bits & 1023;
  if (exponent === 31) return fraction ? NaN : sign * Infinity;
  return sign * (exponent ? 2 ** (exponent - 15) * (1 + fraction / 1024) : 2 ** -14 * (fraction / 1024));
}

const readers = {
  int8: (at, number, unit) => {
    const code = view.getInt8(at + number);
    return code === -128 ? NaN : Math.abs(code) === 127 ? Math.sign(code) * Infinity : Math.sign(code) * code * code * unit / 126;
  },
  float16: (at, number) => float16(view.getUint16(at + 2 * number, true)),
  float32: (at, number) => view.getFloat32(at + 4 * number, true),
};

/** Its value at a place: `kept` is the tensor or, for a difference, what tensor.other says of it. */
function valueAt(form, kept, plane, row, column) {
  const number = plane * form.steps[0] + row * form.steps[1] + column * form.steps[2];
  const value = readers[form.kind](kept.at, number, kept.unit);
  return Math.abs(value) > MASKED ? Math.sign(value) * Infinity : value;
}

/** A number in as many digits as it was kept in. */
function written(value, form) {
  const digits = { int8: 2, float16: 3 }[form?.kind] ?? 4;
  if (form?.kind === "float16" && value && Math.abs(value) < TINY) return value > 0 ? "<6e-8" : ">-6e-8";
  if (Number.isNaN(value)) return "not a number";
  if (value === -Infinity) return "masked";
  if (value === Infinity) return "infinite";
  if (Number.isInteger(value)) return String(value);
  return Math.abs(value) < 1e-4 ? value.toExponential(digits - 1) : String(Number(value.toPrecision(digits)));
}

/** Blue below 0, orange above, clear at 0, so that it suits light and dark. */
function paint(pixels, at, value, full) {
  const share = Math.max(-1, Math.min(1, value / full));
  const colour = Number.isFinite(value) ? (share < 0 ? [47, 125, 225] : [224, 106, 18]) : [138, 138, 138];
  pixels.set([...colour, Number.isFinite(value) ? Math.round(Math.round(Math.abs(share) * SHADES) * 255 / SHADES) : 255], at);
}

// ---- The page shows one block.

function thumbnail(form, full, value) {
  const [planes, rows, columns] = form.sizes;
  const [most, widest] = planes > 1 ? [16, 16] : [32, 96];
  const down = Math.min(most, rows), across = Math.min(widest, columns), beside = Math.min(planes, 6);
  const canvas = make("canvas", { width: beside * (across + 1) - 1, height: Math.ceil(planes / beside) * (down + 1) - 1 });
  const context = canvas.getContext("2d"), image = context.createImageData(canvas.width, canvas.height);
  for (let plane = 0; plane < planes; plane++)
    for (let y = 0; y < down; y++)
      for (let x = 0; x < across; x++) {
        const top = Math.floor(plane / beside) * (down + 1) + y, left = (plane % beside) * (across + 1) + x;
        const number = value(plane, Math.floor(y * rows / down), Math.floor(x * columns / across));
        paint(image.data, 4 * (top * canvas.width + left), number, full);
      }
  context.putImageData(image, 0, 0);
  return canvas.toDataURL();
}

/** Which tensor a card shows in this block; undefined where its line does not run there. */
function tensorOf(card) {
  const numbers = card.dataset.t.split(",");
  const number = numbers[numbers.length > 1 ? block : 0];
  return number ? shown.tensors[number] : undefined;
}

function valuesOf(tensor) {
  const form = shown.forms[tensor.form];
  const ours = (...place) => valueAt(form, tensor, ...place);
  const difference = (...place) => valueAt(form, tensor.other, ...place);
  const other = (...place) => {
    const [value, more] = [ours(...place), difference(...place)];
    return Number.isFinite(value) && !Number.isFinite(more) ? more : more === 0 ? value : value + more;
  };
  return { form, ours, difference, other };
}

function show(card) {
  const tensor = tensorOf(card);
  card.hidden = !tensor;
  if (!tensor) return;
  const { form, ours, other } = valuesOf(tensor);
  const [image, otherImage] = card.querySelectorAll("img");
  image.src = thumbnail(form, tensor.full, ours);
  card.querySelector(".range").textContent = tensor.range;
  card.classList.toggle("first", Boolean(tensor.first));
  const beside = card.querySelector(".other");
  if (beside) {
    beside.hidden = !tensor.other;
    if (!tensor.other) return;
    otherImage.src = thumbnail(form, tensor.full, other);
    beside.querySelector(".range").textContent = tensor.other.range;
    const agreement = beside.querySelector(".agreement");
    agreement.textContent = tensor.other.verdict;
    agreement.classList.toggle("differs", !tensor.other.agrees);
  }
}

function choose(number) {
  block = number;
  document.querySelector(`#blocks input[value="${number}"]`).checked = true;
  for (const card of document.querySelectorAll(".tensor")) if (card.dataset.t.includes(",")) show(card);
  for (const place of document.querySelectorAll(".block")) place.textContent = block;
  showAttention();
  $("status").textContent = `Block ${block} is shown.`;
}

function showAttention() {
  const table = $("attention");
  if (!table) return;
  const head = Number($("attention-head").value), tensor = tensorOf(table), { ours } = valuesOf(tensor);
  [...table.tBodies[0].rows].forEach((row, y) => [...row.querySelectorAll("td")].forEach((cell, x) => {
    const weight = ours(head, y, x);
    cell.textContent = weight.toFixed(2);
    cell.className = "q" + Math.round(9 * Math.min(1, Math.max(0, weight / tensor.full) || 0));
  }));
  $("attention-shown").textContent = head;
}

// ---- The dialog shows one tensor.

const token = (text) => make("bdi", { textContent: text });
const plain = (axis) => (axis || "axis without a name").replace("_", " ");

/** What stands at a row or column: a token, a label, a number. */
function heading(form, axis, index) {
  if (TOKEN_AXES.includes(form.axes[axis])) return token(shown.tokens[index]);
  if (form.axes[axis] === "labels") return token(shown.labels[index]);
  return String(index);
}

function open(card) {
  const dialog = $("full"), tensor = tensorOf(card), { form, ours, other, difference } = valuesOf(tensor);
  const layers = [{ who: "this model", value: ours, full: tensor.full }];
  if (tensor.other) {
    layers.push({ who: shown.against, value: other, full: tensor.full });
    layers.push({ who: "the difference", value: difference, full: tensor.other.full });
  }
  const facts = [".shape", ".dtype", ".range"].map((part) => card.querySelector(part).textContent).join(" · ");
  const said = [facts];
  if (form.left.length) said.push(`Shown here: ${form.left.join(", ")}. The range is of the complete tensor.`);
  if (form.kind === "int8")
    said.push(`Kept in 8 bits: the largest number is rounded by up to ${written(tensor.unit)}, smaller ones by less. The terminal has exact ones.`);
  if (form.kind === "float16") said.push("Kept in 16 bits: each number is good to three digits.");
  if (tensor.other) said.push(`Beside it ${shown.against}: ${tensor.other.verdict}.`);

  const where = ` in line ${card.closest(".row").querySelector(".no").textContent}` + (card.dataset.t.includes(",") ? `, block ${block}` : "");
  const name = make("h2", { id: "full-name" }, make("code", { textContent: card.querySelector(".name").textContent }), where);
  const close = make("button", { type: "button", textContent: "Close", onclick: () => dialog.close() });
  const plane = make("select");
  for (let number = 0; number < form.sizes[0]; number++) plane.append(make("option", { value: number, textContent: number }));
  const chooser = make("p", { hidden: form.sizes[0] < 2 }, make("label", {}, form.axes[0] === "heads" ? "Head " : `Unnamed axis of ${form.sizes[0]}, counted from 0: `, plane));
  if (form.axes[0] === "heads" && $("attention-head")) plane.value = $("attention-head").value;
  const maps = make("div", { className: "maps" }), tables = make("div");
  const readout = make("output", {}, "Point at the map, or focus it and use the arrow keys, to read single numbers.");
  dialog.replaceChildren(
    make("div", { className: "top" }, name, close), ...said.map((sentence) => make("p", {}, sentence)), chooser, readout, maps, tables);

  const read = (row, column) => {
    const place = [1, 2].filter((axis) => form.sizes[axis] > 1 || form.axes[axis]);
    readout.replaceChildren(
      ...place.flatMap((axis) => [`${plain(form.axes[axis])} `, heading(form, axis, axis === 1 ? row : column), axis === 1 ? ", " : ": "]),
      ...layers.flatMap(({ who, value }, number) => [
        number ? "; " : "", layers.length > 1 ? `${who} ` : "", make("b", {}, written(value(Number(plane.value), row, column), form))]));
  };
  const draw = () => {
    const chosen = Number(plane.value);
    maps.replaceChildren(...layers.map((layer) => heatMap(form, chosen, layer, read, layers.length)));
    tables.replaceChildren(...layers.map((layer) => tableOf(form, chosen, layer, layers.length)));
  };
  plane.onchange = draw;
  dialog.showModal();
  draw();
}

/** A heat map with its headings, in a box that scrolls; pointer and arrow keys choose the cell that is read. */
function heatMap(form, plane, { who, value, full }, read, count) {
  const [, rows, columns] = form.sizes, tokensAbove = TOKEN_AXES.includes(form.axes[2]) || form.axes[2] === "labels";
  const space = ($("full").clientWidth - 40) / (rows === columns ? count : 1) - 110;
  const wide = Math.max(tokensAbove ? 18 : 2, Math.min(26, Math.floor(space / columns))), high = rows > 40 ? 10 : 20;

  const small = make("canvas", { width: columns, height: rows }), image = small.getContext("2d").createImageData(columns, rows);
  for (let y = 0; y < rows; y++)
    for (let x = 0; x < columns; x++) paint(image.data, 4 * (y * columns + x), value(plane, y, x), full);
  small.getContext("2d").putImageData(image, 0, 0);
  const canvas = make("canvas", { width: columns * wide, height: rows * high }), context = canvas.getContext("2d");
  context.imageSmoothingEnabled = false;
  context.drawImage(small, 0, 0, canvas.width, canvas.height);

  const above = make("div", { className: "axis columns" }), left = make("div", { className: "axis rows" });
  above.style.width = `${canvas.width}px`;
  above.style.height = tokensAbove ? "5.5rem" : "1.2rem";
  above.classList.toggle("turned", tokensAbove);
  const every = tokensAbove ? 1 : [1, 2, 5, 10, 20].find((step) => step * wide >= 30);
  for (let x = 0; x < columns; x += every) {
    const label = make("span", {}, heading(form, 2, x));
    label.style.left = `${x * wide}px`;
    if (tokensAbove) label.style.width = `${wide}px`;
    above.append(label);
  }
  for (let y = 0; y < rows; y++) {
    const label = make("span", {}, rows > 1 || form.axes[1] ? heading(form, 1, y) : "");
    label.style.height = label.style.lineHeight = `${high}px`;
    left.append(label);
  }

  const cursor = make("div", { className: "cursor", hidden: true }), plot = make("div", { className: "plot" }, canvas, cursor);
  cursor.style.width = `${wide}px`;
  cursor.style.height = `${high}px`;
  const box = make("div", { className: "scroll", tabIndex: 0 }, make("div", { className: "heat" }, make("span"), above, left, plot));
  box.setAttribute("role", "group");
  box.setAttribute("aria-label", `Heat map of ${who}; arrow keys move over it`);
  let row = 0, column = 0;
  const go = (y, x) => {
    [row, column] = [Math.max(0, Math.min(rows - 1, y)), Math.max(0, Math.min(columns - 1, x))];
    cursor.hidden = false;
    cursor.style.left = `${column * wide}px`;
    cursor.style.top = `${row * high}px`;
    read(row, column);
  };
  canvas.onpointermove = (event) => go(Math.floor(event.offsetY / high), Math.floor(event.offsetX / wide));
  box.onfocus = () => { if (box.matches(":focus-visible")) go(row, column); };
  box.onkeydown = (event) => {
    const by = { ArrowUp: [-1, 0], ArrowDown: [1, 0], ArrowLeft: [0, -1], ArrowRight: [0, 1], Home: [0, -columns], End: [0, columns] }[event.key];
    if (by || [" ", "PageUp", "PageDown"].includes(event.key)) event.preventDefault();  // the page behind stays where it is
    if (!by) return;
    go(row + by[0], column + by[1]);
    cursor.scrollIntoView({ block: "nearest", inline: "nearest" });
  };
  const axes = form.axes[1] && form.axes[2] ? `${plain(form.axes[1])} down, ${plain(form.axes[2])} across; ` : "";
  const caption = count > 1 ? `${who}, full colour at ${written(full)}` : `${axes}full colour at ${written(full)} and beyond`;
  return make("figure", {}, make("figcaption", {}, caption), box);
}

/** The same as numbers: as many columns as make a table that can still be read. */
function tableOf(form, plane, { who, value }, count) {
  const [, rows, columns] = form.sizes, most = Math.min(columns, Math.max(8, Math.floor(CELLS / rows)));
  const heads = Array.from({ length: most }, (_, x) => make("th", { scope: "col" }, heading(form, 2, x)));
  const lines = Array.from({ length: rows }, (_, y) => make("tr", {},
    make("th", { scope: "row" }, rows > 1 || form.axes[1] ? heading(form, 1, y) : "value"),
    ...Array.from({ length: most }, (_, x) => make("td", {}, written(value(plane, y, x), form)))));
  const box = make("div", { className: "scroll", tabIndex: 0 },
    make("table", {}, make("thead", {}, make("tr", {}, make("td"), ...heads)), make("tbody", {}, ...lines)));
  box.setAttribute("role", "region");
  box.setAttribute("aria-label", `Numbers of ${who}`);
  const cut = most < columns ? `, the first ${most} of ${columns} columns` : "";
  return make("details", {}, make("summary", {}, `As a table${count > 1 ? `: ${who}` : ""}${cut}`), box);
}

// ---- What works only with a script appears now.

for (const card of [...document.querySelectorAll(".tensor")]) {
  const button = make("button", { type: "button", className: card.className, hidden: card.hidden, id: card.id }, ...card.childNodes);
  button.dataset.t = card.dataset.t;
  button.setAttribute("aria-haspopup", "dialog");
  button.onclick = () => open(button);
  card.replaceWith(button);
}
for (const radio of document.querySelectorAll("#blocks input")) radio.onchange = () => choose(Number(radio.value));
$("blocks").hidden = false;
if ($("attention")) {
  $("attention-choice").hidden = false;
  $("attention-head").onchange = showAttention;
}
if ($("to-first")) $("to-first").onclick = (event) => {
  event.preventDefault();
  choose(Number(event.target.dataset.block));
  $("first").scrollIntoView({ block: "center" });
  $("first").focus();
};
