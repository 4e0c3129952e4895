"""The look of the page, and the script that sorts and filters its tables."""

CSS = """
:root { color-scheme: light dark; --back: #fff; --text: #1c2024; --pale: #5b6470; --line: #d9dee4; --card: #f6f8fa;
  --accent: #0b5cad; --warm: #a8430a; }
@media (prefers-color-scheme: dark) { :root { --back: #14171a; --text: #e6e9ec; --pale: #a0a9b4; --line: #343b43;
  --card: #1c2126; --accent: #6cb2ff; --warm: #ff9d5c; } }
* { box-sizing: border-box; }
body { margin: 0; background: var(--back); color: var(--text); font: 16px/1.55 system-ui, sans-serif; }
a { color: var(--accent); }
a:focus-visible, button:focus-visible, summary:focus-visible, input:focus-visible, .scroll:focus-visible {
  outline: 3px solid var(--accent); outline-offset: 1px; }
.skip { position: absolute; left: -99em; }
.skip:focus { left: .5em; top: .5em; background: var(--back); padding: .3em .6em; }
.frame { max-width: 1240px; margin: 0 auto; padding: 0 16px 64px; }
nav { font-size: 14px; margin: 8px 0 0; }
nav ul { list-style: none; padding: 0; margin: 0; display: flex; flex-wrap: wrap; gap: 2px 14px; }
@media (min-width: 1080px) {
  .frame { display: grid; grid-template-columns: 176px minmax(0, 1fr); gap: 40px; }
  nav { position: sticky; top: 24px; align-self: start; margin: 40px 0 0; max-height: 94vh; overflow-y: auto; }
  nav ul { display: block; }
  nav li { margin: 5px 0; }
}
nav a { text-decoration: none; }
nav a:hover { text-decoration: underline; }
main { min-width: 0; }
h1 { font-size: 28px; line-height: 1.2; margin: 32px 0 4px; overflow-wrap: anywhere; }
h2 { font-size: 21px; margin: 48px 0 8px; padding-top: 12px; border-top: 1px solid var(--line); }
h3 { font-size: 17px; margin: 26px 0 6px; }
p { margin: 8px 0; max-width: 76ch; overflow-wrap: anywhere; }
.note, caption, figcaption { color: var(--pale); font-size: 14px; }
.figure { display: flex; flex-wrap: wrap; gap: 12px; margin: 16px 0; padding: 0; list-style: none; }
.figure li { background: var(--card); border: 1px solid var(--line); border-radius: 8px; padding: 8px 16px; }
.figure b { display: block; font-size: 23px; line-height: 1.3; font-variant-numeric: tabular-nums; }
.figure span { display: block; color: var(--pale); font-size: 13px; }
.findings { border-left: 4px solid var(--warm); background: var(--card); padding: 10px 16px; border-radius: 4px; }
.findings ul { margin: 4px 0; padding-left: 20px; }
.findings.none { border-color: var(--line); }
.scroll { overflow-x: auto; max-width: 100%; margin: 12px 0; }
@media screen { .scroll.tall { max-height: 75vh; } .scroll.tall thead th { position: sticky; top: 0;
  background: var(--back); } }
table { border-collapse: collapse; font-size: 14px; font-variant-numeric: tabular-nums; }
.unseen { position: absolute; left: -99em; }
caption { text-align: left; padding: 0 0 4px; }
th, td { padding: 3px 10px; border-bottom: 1px solid var(--line); text-align: left; vertical-align: middle; }
th { font-weight: 600; }
tbody th { font-weight: 500; overflow-wrap: anywhere; min-width: 5em; }
.number { text-align: right; white-space: nowrap; }
thead button { font: inherit; color: inherit; background: none; border: 0; padding: 0; cursor: pointer;
  text-align: inherit; }
thead button::after { content: " \\2195"; color: var(--pale); }
[aria-sort=ascending] button::after { content: " \\2191"; color: var(--accent); }
[aria-sort=descending] button::after { content: " \\2193"; color: var(--accent); }
input[type=search] { font: inherit; font-size: 14px; padding: 3px 8px; border: 1px solid var(--line);
  border-radius: 5px; background: var(--back); color: var(--text); max-width: 100%; }
.matrix { border-collapse: separate; border-spacing: 1px; }
.matrix td { text-align: center; padding: 3px 5px; min-width: 2.5em; border: 1px solid transparent; border-radius: 3px;
  background: color-mix(in srgb, var(--accent) calc(var(--share) * 55%), var(--card)); }
.matrix td.right { border-color: var(--text); }
.matrix th { border: 0; padding: 2px 6px; }
.matrix thead th.tall { writing-mode: vertical-rl; transform: rotate(180deg); vertical-align: top; text-align: left;
  padding: 4px 2px; max-height: 11em; }
.matrix tbody th { text-align: right; white-space: nowrap; min-width: 0; }
img { image-rendering: auto; border-radius: 4px; vertical-align: middle; background: var(--card); }
img.small { image-rendering: pixelated; }
img.map { border-radius: 0; width: min(100%, 720px); image-rendering: pixelated; border: 1px solid var(--line); }
@media (prefers-color-scheme: dark) { img.map { filter: invert(1); } }
.thumbs { display: flex; flex-wrap: wrap; gap: 6px; }
.cards { display: grid; grid-template-columns: repeat(auto-fill, minmax(min(100%, 270px), 1fr)); gap: 12px; padding: 0;
  list-style: none; margin: 12px 0; }
.cards > li { background: var(--card); border: 1px solid var(--line); border-radius: 8px; padding: 10px;
  font-size: 14px; overflow-wrap: anywhere; }
.cards p { margin: 4px 0; }
.pictures { display: flex; flex-wrap: wrap; gap: 8px; }
.pictures figure, .thumbs figure { margin: 0; }
.pictures figcaption, .thumbs figcaption { font-size: 12px; line-height: 1.3; max-width: 104px;
  overflow-wrap: break-word; hyphens: auto; }
details { margin: 8px 0; }
summary { cursor: pointer; color: var(--accent); font-size: 14px; }
.charts { display: flex; flex-wrap: wrap; gap: 16px; }
.charts > * { min-width: 0; }
figure { margin: 8px 0; }
svg { max-width: 100%; height: auto; display: block; }
svg text { fill: var(--text); font: 12px system-ui, sans-serif; }
svg .pale { fill: var(--pale); }
svg .heading { font-weight: 600; font-size: 13px; }
svg .axis { stroke: var(--pale); fill: none; }
svg .grid { stroke: var(--line); fill: none; }
svg .line { fill: none; stroke-width: 2; stroke: var(--accent); }
svg .line.second { stroke: var(--warm); }
svg .line.third { stroke: var(--text); }
svg .line.fourth { stroke: var(--pale); }
svg .mark { fill: var(--accent); }
svg .mark.second { fill: var(--warm); }
svg .mark.third { fill: var(--text); }
svg .mark.fourth { fill: var(--pale); }
svg .hollow { fill: none; stroke: var(--accent); stroke-width: 1.5; }
svg .hollow.second { stroke: var(--warm); }
svg .bar { fill: var(--accent); fill-opacity: .45; stroke: var(--accent); }
svg .box { fill: none; stroke: var(--line); }
svg .wrong { fill: none; stroke: var(--warm); stroke-width: 2.5; }
code { font-size: 13px; overflow-wrap: anywhere; }
pre { background: var(--card); padding: 10px; border-radius: 6px; white-space: pre-wrap; overflow-wrap: anywhere;
  font-size: 13px; }
@media print { nav, input { display: none; } .frame { display: block; } }
"""

SCRIPT = """
"use strict";
for (const table of document.querySelectorAll("table.sortable")) {
  const body = table.tBodies[0], heads = Array.from(table.tHead.rows[0].cells);
  const key = (row, column) => {
    const cell = row.cells[column];
    return cell.dataset.value === undefined ? cell.textContent : Number(cell.dataset.value);
  };
  const compare = (one, other) => typeof one === "number" && typeof other === "number" ? one - other :
    typeof one === "number" ? 1 : typeof other === "number" ? -1 : one.localeCompare(other);
  heads.forEach((head, column) => {
    const button = document.createElement("button");
    button.type = "button";
    button.append(...head.childNodes);
    head.append(button);
    button.addEventListener("click", () => {
      const isRising = head.getAttribute("aria-sort") !== "ascending";
      heads.forEach((other) => other.removeAttribute("aria-sort"));
      head.setAttribute("aria-sort", isRising ? "ascending" : "descending");
      const rows = Array.from(body.rows);
      rows.sort((one, other) => (isRising ? 1 : -1) * compare(key(one, column), key(other, column)));
      body.append(...rows);
    });
  });
  if (body.rows.length > 30) {
    const field = document.createElement("input");
    field.type = "search";
    field.placeholder = "Filter rows";
    field.setAttribute("aria-label", "Filter rows of the table " + table.caption.textContent);
    field.addEventListener("input", () => {
      for (const row of body.rows) {
        row.hidden = !row.textContent.toLowerCase().includes(field.value.toLowerCase());
      }
    });
    table.parentElement.before(field);
  }
}
"""
