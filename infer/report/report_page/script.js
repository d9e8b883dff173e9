"use strict";
// Texts from questions reach the page through textContent alone.
const data = JSON.parse(document.getElementById("data").textContent);
const byId = (id) => document.getElementById(id);
const ACTIONS = ["skip", "execute", "repeat"];
const PAGE_SIZE = 25;

function element(name, className, text) {
  const made = document.createElement(name);
  if (className) made.className = className;
  if (text !== undefined) made.textContent = text;
  return made;
}

// --- legend: show and hide systems of the chart
for (const button of document.querySelectorAll("[data-toggle]")) {
  button.addEventListener("click", () => {
    const shown = button.getAttribute("aria-pressed") !== "true";
    button.setAttribute("aria-pressed", shown);
    for (const series of document.querySelectorAll(".series"))
      if (series.dataset.system === button.dataset.toggle) series.toggleAttribute("hidden", !shown);
  });
}

// --- results: sort by a column, systems without a figure last
function sortBy(header) {
  const column = header.cellIndex;
  const rising = header.getAttribute("aria-sort") === "descending" || (header.ariaSort === "none" && column === 0);
  for (const other of header.parentNode.cells) if (other.ariaSort) other.setAttribute("aria-sort", "none");
  header.setAttribute("aria-sort", rising ? "ascending" : "descending");
  const body = header.closest("table").tBodies[0];
  const value = (row) => row.cells[column]?.dataset.value;
  const rows = [...body.rows].sort((a, b) => {
    const [one, two] = [value(a), value(b)];
    if (one === undefined || two === undefined) return (one === undefined) - (two === undefined);
    const order = column === 0 ? one.localeCompare(two) : one - two;
    return rising ? order : -order;
  });
  body.append(...rows);
}
for (const button of document.querySelectorAll(".sortable thead button"))
  button.addEventListener("click", () => sortBy(button.parentNode));

const pathOf = (system, question) => data.paths[system.paths[question]];
const depthOf = (path) => [...path].reduce((sum, action) => sum + Number(action), 0);

function fill(select, chosen) {
  data.systems.forEach((system, index) => select.append(new Option(system.name, index)));
  select.value = chosen;
}

// --- heat map: one pixel per question, scaled by the style sheet; below, an empty row and a row of right answers
const CELL_PX = 8;
const heat = byId("heat");
let columns = [];
let cursor = { column: 0, layer: 0 };

function drawMap() {
  const system = data.systems[byId("map-system").value];
  const order = byId("map-order").value;
  columns = data.questions.map((_, index) => index);
  if (order !== "file") {
    const path = (index) => pathOf(system, index);
    columns.sort((a, b) => (order === "depth" && depthOf(path(a)) - depthOf(path(b))) || path(a).localeCompare(path(b)));
  }
  heat.width = columns.length;
  heat.height = (data.layers + 2) * CELL_PX;
  heat.style.height = `${Math.min(Math.max(data.layers * 12, 160), 420)}px`;
  heat.setAttribute("aria-label", `Actions of ${system.name}, ${data.layers} layers by ${columns.length} questions`);
  const style = getComputedStyle(document.documentElement);
  const paint = heat.getContext("2d");
  columns.forEach((question, x) => {
    [...pathOf(system, question)].forEach((action, layer) => {
      paint.fillStyle = style.getPropertyValue(`--${ACTIONS[action]}`);
      paint.fillRect(x, (data.layers - 1 - layer) * CELL_PX, 1, CELL_PX);
    });
    paint.fillStyle = style.getPropertyValue("--right");
    if (system.correct[question]) paint.fillRect(x, (data.layers + 1) * CELL_PX, 1, CELL_PX);
  });
  // When scaled down, sharp pixels would hide whole questions.
  heat.style.imageRendering = columns.length > heat.clientWidth ? "auto" : "pixelated";
  drawLayerTable(system);
}

function drawLayerTable(system) {
  const rows = [];
  for (let layer = data.layers - 1; layer >= 0; layer--) {
    const row = element("tr");
    const head = element("th", "", layer);
    head.scope = "row";
    row.append(head);
    for (const action of "012") {
      const count = columns.filter((question) => pathOf(system, question)[layer] === action).length;
      row.append(element("td", "", `${((100 * count) / columns.length).toFixed(1)}%`));
    }
    rows.push(row);
  }
  byId("by-layer").tBodies[0].replaceChildren(...rows);
}

function sayCell() {
  const system = data.systems[byId("map-system").value];
  const question = columns[cursor.column];
  const path = pathOf(system, question);
  byId("heat-said").textContent =
    `Layer ${cursor.layer}, question ${data.questions[question].id}: ${ACTIONS[path[cursor.layer]]}` +
    ` (depth ${depthOf(path)}, answered ${system.correct[question] ? "right" : "wrong"})`;
}

function moveTo(column, layer) {
  cursor = {
    column: Math.min(Math.max(column, 0), columns.length - 1),
    layer: Math.min(Math.max(layer, 0), data.layers - 1),
  };
  sayCell();
}

const ARROWS = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, 1], ArrowDown: [0, -1] };
function listenToMap() {
  fill(byId("map-system"), Math.max(data.systems.findIndex((system) => system.router), 0));
  for (const id of ["map-system", "map-order"]) byId(id).addEventListener("change", drawMap);
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", drawMap);
  heat.addEventListener("pointermove", (event) => {
    const box = heat.getBoundingClientRect();
    const row = Math.floor(((event.clientY - box.top) / box.height) * (data.layers + 2));
    moveTo(Math.floor(((event.clientX - box.left) / box.width) * heat.width), data.layers - 1 - row);
  });
  heat.addEventListener("keydown", (event) => {
    const step = ARROWS[event.key];
    if (!step) return;
    event.preventDefault();
    moveTo(cursor.column + step[0], cursor.layer + step[1]);
  });
  drawMap();
}

// --- examples
let shown = PAGE_SIZE;

function pathPicture(path) {
  const SVG = "http://www.w3.org/2000/svg";
  const picture = document.createElementNS(SVG, "svg");
  picture.setAttribute("class", "path");
  picture.setAttribute("viewBox", `0 0 ${path.length * 8} 22`);
  picture.setAttribute("preserveAspectRatio", "none");
  picture.setAttribute("role", "img");
  const edits = [...path].map((action, layer) => [layer, action]).filter(([, action]) => action !== "1");
  const said = edits.map(([layer, action]) => `${ACTIONS[action]} ${layer}`).join(", ") || "every layer once";
  picture.setAttribute("aria-label", said);
  const title = document.createElementNS(SVG, "title");
  title.textContent = said;
  picture.append(title);
  [...path].forEach((action, layer) => {
    const height = [4, 12, 22][action];
    const bar = document.createElementNS(SVG, "rect");
    for (const [name, value] of Object.entries({ x: layer * 8 + 1, y: 22 - height, width: 6, height }))
      bar.setAttribute(name, value);
    bar.setAttribute("class", ACTIONS[action]);
    picture.append(bar);
  });
  return picture;
}

function outcome(system, question) {
  const cell = element("td");
  cell.dataset.system = system.name;
  const path = pathOf(system, question);
  const right = system.correct[question];
  cell.append(element("span", `verdict ${right ? "yes" : "no"}`, right ? "✓ right" : "✗ wrong"), ` · depth ${depthOf(path)}`);
  cell.append(pathPicture(path));
  if (system.answers[question] !== null) cell.append(element("span", "answer", system.answers[question]));
  return cell;
}

function questionCell(question, index) {
  const cell = element("td");
  cell.append(element("p", "prompt", question.prompt));
  if (question.choices) {
    const list = element("ul", "choices");
    question.choices.forEach((choice, place) => {
      const gold = place === question.gold;
      list.append(element("li", gold ? "gold" : "", `${gold ? "● " : "○ "}${choice}${gold ? " (gold)" : ""}`));
    });
    cell.append(list);
  } else if (question.gold !== null) cell.append(element("p", "hint", `reference: ${question.gold}`));
  const details = element("details");
  details.append(element("summary", "", `${question.id}: every system`));
  details.addEventListener("toggle", () => {
    if (details.childElementCount > 1) return;
    const list = element("div", "all");
    for (const system of data.systems) {
      const mark = system.correct[index] ? "✓" : "✗";
      list.append(element("span", "", `${mark} ${system.name}`), pathPicture(pathOf(system, index)));
    }
    details.append(list);
  });
  cell.append(details);
  return cell;
}

function found(left, right) {
  const wanted = byId("search").value.trim().toLowerCase();
  const which = byId("which").value;
  const rank = (index) => [left.correct[index] === right.correct[index], left.paths[index] === right.paths[index]];
  const fits = (index) => {
    const [one, two] = [left.correct[index], right.correct[index]];
    if (which === "won" && !(one && !two)) return false;
    if (which === "lost" && !(two && !one)) return false;
    const { id, prompt, choices, gold } = data.questions[index];
    const texts = [id, prompt, ...(choices ?? [gold]), left.answers[index], right.answers[index]];
    return texts.some((text) => String(text ?? "").toLowerCase().includes(wanted));
  };
  const kept = data.questions.map((_, index) => index).filter(fits);
  return kept.sort((a, b) => rank(a)[0] - rank(b)[0] || rank(a)[1] - rank(b)[1] || a - b);
}

function drawExamples() {
  const [left, right] = [data.systems[byId("left").value], data.systems[byId("right").value]];
  byId("left-name").textContent = left.name;
  byId("right-name").textContent = right.name;
  const kept = found(left, right);
  const rows = kept.slice(0, shown).map((index) => {
    const row = element("tr");
    row.append(questionCell(data.questions[index], index), outcome(left, index), outcome(right, index));
    return row;
  });
  byId("questions").tBodies[0].replaceChildren(...rows);
  byId("found").textContent = `${kept.length} of ${data.questions.length} questions; ${rows.length} shown`;
  byId("more").hidden = rows.length === kept.length;
}

function listenToExamples() {
  const place = (fits) => Math.max(data.systems.findIndex(fits), 0);
  fill(byId("left"), place((system) => system.router));
  fill(byId("right"), place((system) => system.name === "full"));
  for (const [id, event] of [["search", "input"], ["left", "change"], ["right", "change"], ["which", "change"]])
    byId(id).addEventListener(event, () => {
      shown = PAGE_SIZE;
      drawExamples();
    });
  byId("more").addEventListener("click", () => {
    shown += PAGE_SIZE;
    drawExamples();
  });
  drawExamples();
}

if (data.questions.length) {
  listenToMap();
  listenToExamples();
}
