"use strict";

const { config, figures } = JSON.parse(document.getElementById("data").textContent);
const drawn = new Map(); // figure's id -> {view, width}
const hiddenIn = (article) =>
  [...article.querySelectorAll(".arm[aria-pressed=false]")].map((chip) => chip.dataset.arm);

// ---------------------------------------------------------------------------------------------------
// Figures

// A specification for a place of so many pixels, `beside` of them for what stands beside the panels: these get
// as many columns as fit.
function fitted(spec, width, beside) {
  const copy = structuredClone(spec);
  copy.config = config;
  if (!copy.facet) {
    copy.width = Math.max(60, width - beside);
    return copy;
  }
  const { panels, least } = copy.usermeta;
  const most = Math.max(1, Math.floor(width / least));
  const columns = Math.ceil(panels / Math.ceil(panels / most)); // rows of equal length
  copy.columns = columns;
  copy.spec.width = Math.max(60, Math.floor((width - beside) / columns) - copy.spacing);
  if (copy.spec.width < copy.usermeta.text) copy.spec.layer.pop(); // numbers that would stand on each other
  return copy;
}

async function render(place, spec, width, beside, hidden) {
  const options = { mode: "vega-lite", renderer: "svg", actions: false, defaultStyle: false, tooltip: showTip,
    logLevel: 1 };
  const { view } = await vegaEmbed(place, fitted(spec, width, beside), options);
  if (hidden.length) await view.signal("hidden", hidden).runAsync();
  return view;
}

async function draw(figure) {
  const place = figure.querySelector(".plot");
  const width = place.clientWidth;
  drawn.get(figure.id)?.view.finalize();
  place.replaceChildren();
  const hidden = hiddenIn(figure.closest("article"));
  let beside = 20;
  let view = await render(place, figures[figure.id], width, beside, hidden);
  // How wide the names of rows and points are is known once they are drawn: then again, with room for them.
  for (let tries = 0; tries < 5; tries++) {
    const over = place.querySelector("svg").width.baseVal.value - width;
    if (over <= 0) break;
    view.finalize();
    place.replaceChildren();
    beside += Math.ceil(over) + 2;
    view = await render(place, figures[figure.id], width, beside, hidden);
  }
  drawn.set(figure.id, { view, width });
}

async function drawAll() {
  for (const figure of document.querySelectorAll("figure.figure")) {
    const place = figure.querySelector(".plot");
    if (!place || drawn.get(figure.id)?.width === place.clientWidth) continue;
    try {
      await draw(figure);
    } catch (error) {
      place.textContent = "This figure could not be drawn.";
      console.error(figure.id, error);
    }
  }
  document.documentElement.dataset.drawn = "yes";
}

let resizing;
addEventListener("resize", () => {
  clearTimeout(resizing);
  resizing = setTimeout(drawAll, 150);
});

// ---------------------------------------------------------------------------------------------------
// Hover

const tip = document.getElementById("tip");

function showTip(handler, event, item, value) {
  tip.hidden = value == null || value === "";
  if (tip.hidden) return;
  const list = document.createElement("dl");
  for (const [name, text] of Object.entries(value)) {
    if (text === "" || text === "undefined" || text === "NaN") continue;
    list.append(
      Object.assign(document.createElement("dt"), { textContent: name }),
      Object.assign(document.createElement("dd"), { textContent: text }),
    );
  }
  tip.replaceChildren(list);
  const { width, height } = tip.getBoundingClientRect();
  const left = Math.min(event.clientX + 14, innerWidth - width - 8);
  const top = event.clientY + 18 + height > innerHeight ? event.clientY - height - 12 : event.clientY + 18;
  tip.style.transform = `translate(${Math.max(4, left)}px, ${Math.max(4, top)}px)`;
}

// ---------------------------------------------------------------------------------------------------
// Arms, in every figure and table of their study at once

async function showArms(article) {
  const hidden = hiddenIn(article);
  article.querySelector(".all").hidden = !hidden.length;
  for (const row of article.querySelectorAll("tr[data-arms]")) mark(row, "arm", JSON.parse(row.dataset.arms).some((a) => hidden.includes(a)));
  for (const figure of article.querySelectorAll("figure.figure")) {
    await drawn.get(figure.id)?.view.signal("hidden", hidden).runAsync();
  }
}

for (const article of document.querySelectorAll("article")) {
  for (const chip of article.querySelectorAll(".arm")) {
    chip.addEventListener("click", () => {
      chip.setAttribute("aria-pressed", chip.getAttribute("aria-pressed") !== "true");
      showArms(article);
    });
  }
  article.querySelector(".all").addEventListener("click", () => {
    for (const chip of article.querySelectorAll(".arm")) chip.setAttribute("aria-pressed", "true");
    showArms(article);
  });
}

// ---------------------------------------------------------------------------------------------------
// Tables: a row is out of sight for either reason, its arm or the filter

function mark(row, reason, out) {
  row.toggleAttribute(`data-no-${reason}`, out);
  row.hidden = row.hasAttribute("data-no-arm") || row.hasAttribute("data-no-filter");
}

const numberOf = (text) => Number.parseFloat(text.replace("−", "-").replace(/^[[<\s]+/, ""));

// In a column of text "0123abc" is no number; in one of numbers what is none stands last.
const isMissing = (text, numeric) => text === "" || (numeric && Number.isNaN(numberOf(text)));
const compare = (a, b, numeric) =>
  numeric ? numberOf(a) - numberOf(b) : a.localeCompare(b, "en", { numeric: true });

for (const box of document.querySelectorAll(".table")) {
  const body = box.querySelector("tbody");
  const heads = [...box.querySelectorAll("th")];
  heads.forEach((head, column) => {
    const numeric = [...body.rows].some((row) => row.cells[column].classList.contains("number"));
    head.classList.toggle("number", numeric);
    head.querySelector("button").addEventListener("click", () => {
      const up = head.getAttribute("aria-sort") !== "ascending";
      for (const other of heads) other.setAttribute("aria-sort", "none");
      head.setAttribute("aria-sort", up ? "ascending" : "descending");
      const text = (row) => row.cells[column].firstChild?.textContent ?? "";
      const [filled, empty] = [[], []];
      for (const row of body.rows) (isMissing(text(row), numeric) ? empty : filled).push(row);
      filled.sort((a, b) => (up ? 1 : -1) * compare(text(a), text(b), numeric));
      body.replaceChildren(...filled, ...empty);
    });
  });
  box.querySelector("input").addEventListener("input", (event) => {
    const wanted = event.target.value.toLowerCase().split(/\s+/).filter(Boolean);
    for (const row of body.rows) {
      const text = row.textContent.toLowerCase();
      mark(row, "filter", !wanted.every((word) => text.includes(word)));
    }
  });
}

// ---------------------------------------------------------------------------------------------------
// Light or dark: the figures' colours are CSS variables, so nothing is drawn again

document.getElementById("theme").addEventListener("click", () => {
  const root = document.documentElement;
  const dark = root.dataset.theme ? root.dataset.theme === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;
  root.dataset.theme = dark ? "light" : "dark";
});

drawAll();
