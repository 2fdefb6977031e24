// Rows come as server-sent events; every value becomes text, never HTML.
"use strict";

const MOST_ROWS = 100, MOST_TWINS = 20, MOST_WAITING = 200;
const counts = { shown: 0, leftOut: 0 };
const say = (words) => { document.getElementById("message").textContent = words; };
let waiting = [], isPaused = false;

function make(tag, text, className) {
  const element = document.createElement(tag);
  if (text !== undefined) element.textContent = text;
  if (className) element.className = className;
  return element;
}

function inputs(row) {
  const cell = make("td");
  row.pictures.forEach((picture) => {
    if (!picture.source.startsWith("data:image/")) return;
    const image = make("img", undefined, picture.is_drawn ? "small drawn" : "small");
    image.src = picture.source;
    image.alt = picture.words;
    cell.append(image);
  });
  const words = row.cells.map(([name, text]) => `${name}: ${text}`).join("; ");
  if (words) cell.append(make("span", words, "inputs"));
  if (!cell.hasChildNodes()) cell.textContent = "not logged";
  return cell;
}

const percent = (score) => (score === null ? "" : `${(100 * score).toFixed(1)} %`);
const several = (row, one) => (row.answers.length > 1 ? `${one.head}: ` : "");
const labels = (row) => row.answers.map((one) => several(row, one) + one.label).join(", ") || `refused (${row.status})`;
const scores = (row) => row.answers.map((one) => percent(one.confidence)).join(", ");
const armOf = (row) => row.arm || "by number";

function rowOf(row) {
  const line = make("tr");
  line.append(make("td", row.time), inputs(row), make("td", labels(row), "answer"), make("td", scores(row)));
  line.append(make("td", row.version), make("td", armOf(row)), make("td", `${row.ms.toFixed(1)} ms`));
  return line;
}

function answerOf(row) {
  const cell = make("td");
  cell.append(make("span", labels(row), "answer"), ` ${scores(row)}`);
  cell.append(make("br"), make("small", `version ${row.version}, ${armOf(row)}, ${row.ms.toFixed(1)} ms`));
  return cell;
}

function twinOf(row, twin) {
  const [first, second] = row.arm === "shadow" ? [twin, row] : [row, twin];
  const isSame = labels(first) === labels(second);
  const line = make("tr", undefined, isSame ? "" : "differs");
  line.append(make("td", first.time), inputs(first.pictures.length + first.cells.length ? first : second));
  line.append(answerOf(first), answerOf(second), make("td", isSame ? "same" : "differs"));
  return line;
}

function put(body, line, most) {
  body.prepend(line);
  while (body.rows.length > most) body.deleteRow(-1);
}

function show({ row, twin, left_out: leftOut, is_wanted: isWanted }) {
  counts.leftOut += leftOut;
  if (isWanted) counts.shown += 1;
  if (isWanted) put(document.querySelector("#rows tbody"), rowOf(row), MOST_ROWS);
  if (!twin) return;
  document.getElementById("twins").hidden = false;
  put(document.querySelector("#twins tbody"), twinOf(row, twin), MOST_TWINS);
}

// All that has come since the last picture of the screen is drawn together.
function draw() {
  if (!isPaused && waiting.length) {
    waiting.forEach(show);
    waiting = [];
    const leftOut = counts.leftOut ? `, ${counts.leftOut} more were too many to be shown` : "";
    say(`${counts.shown} predictions${leftOut}.`);
  }
  requestAnimationFrame(draw);
}

function listen(address) {
  const source = new EventSource(address);
  source.onmessage = (event) => {
    waiting.push(JSON.parse(event.data));
    if (waiting.length > MOST_WAITING) waiting.shift();
  };
  source.addEventListener("lost", () => say("This browser was too slow: some predictions are not shown."));
  source.onerror = () => say(source.readyState === EventSource.CLOSED
    ? "The stream has ended: load the page again."
    : "The server does not answer: trying again.");
  addEventListener("pagehide", () => source.close());
}

function pause() {
  isPaused = !isPaused;
  const button = document.getElementById("pause");
  button.setAttribute("aria-pressed", isPaused);
  if (isPaused) say("Paused: the newest 200 predictions are kept.");
}

document.addEventListener("DOMContentLoaded", () => {
  document.getElementById("pause").addEventListener("click", pause);
  document.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.altKey || event.metaKey || event.target.matches("input, select")) return;
    if (event.key.toLowerCase() === "p") pause();
  });
  listen(document.querySelector("main").dataset.rows);
  requestAnimationFrame(draw);
});
