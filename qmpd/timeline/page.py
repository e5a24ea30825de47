"""A chart as a page of HTML: the picture, what is behind each mark, and a table of all entries."""

from __future__ import annotations

import json
from html import escape
from typing import TYPE_CHECKING

from qmpd.timeline.chart import Chart
from qmpd.timeline.layout import Layout
from qmpd.timeline.picture import (
    HEADER,
    LEGEND_ROW,
    NARROWEST,
    body,
    default_title,
    frame,
    lane_titles,
    legend,
    summary,
)
from qmpd.timeline.style import MARKS, STATES
from qmpd.timeline.wording import duration, moment, spell_entry

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from qmpd.timeline.transcript import Entry

_STYLE = """
body { margin: 0 auto; padding: 16px 20px 60px; color: #1b1f24; background: #fff;
  font: 14px/1.45 "DejaVu Sans", Helvetica, Arial, sans-serif; }
h1 { font-size: 20px; margin: 0; }
p { margin: 2px 0 12px; color: #5a6370; font-size: 13px; }
.picture { overflow: auto; max-height: 78vh; border: 1px solid #c9ced6; width: fit-content; max-width: 100%; }
.picture svg { display: block; }
.picture .titles { position: sticky; top: 0; z-index: 1; }
.mark { cursor: pointer; }
.mark:hover, .mark:focus, .mark.chosen { filter: drop-shadow(0 0 2px #f2a900) drop-shadow(0 0 1px #f2a900); }
.mark:focus { outline: none; }
#details { position: fixed; z-index: 2; max-width: 46em; max-height: 60vh; overflow: hidden; padding: 8px 12px;
  background: #fffdf3; border: 1px solid #b9a96a; border-radius: 4px; box-shadow: 0 2px 8px #0003;
  font: 12px/1.4 "DejaVu Sans Mono", Menlo, Consolas, monospace; white-space: pre-wrap; overflow-wrap: anywhere;
  pointer-events: none; }
input { font: inherit; padding: 3px 6px; width: 24em; max-width: 90%; margin: 20px 0 6px; }
table { border-collapse: collapse; font: 12px/1.4 "DejaVu Sans Mono", Menlo, Consolas, monospace; }
th { text-align: left; position: sticky; top: 0; background: #f3f4f7; }
th, td { padding: 2px 10px 2px 0; vertical-align: top; }
td.n { text-align: right; color: #5a6370; white-space: nowrap; }
tbody tr { cursor: pointer; border-top: 1px solid #eceef2; }
tbody tr:hover { background: #f9fafb; }
tbody tr.chosen { background: #fff2c7; }
td:last-child { overflow-wrap: anywhere; }
.swatch { display: inline-block; width: 0.8em; height: 0.8em; margin-right: 6px; border-radius: 2px; }
"""

_SCRIPT = """
const entries = JSON.parse(document.getElementById("entries").textContent);
const details = document.getElementById("details");
const marks = new Map();
for (const mark of document.querySelectorAll(".mark[data-entry]")) {
  mark.querySelector("title").remove();
  mark.tabIndex = 0;
  const numbers = mark.dataset.entry.split(" ");
  for (const number of numbers) marks.set(number, mark);
  const show = event => {
    details.textContent = numbers.map(number => describe(entries[number])).join("\\n\\n");
    details.hidden = false;
    place(event.clientX ? event : mark.getBoundingClientRect());
  };
  mark.addEventListener("mousemove", show);
  mark.addEventListener("focus", show);
  mark.addEventListener("mouseleave", () => { details.hidden = true; });
  mark.addEventListener("blur", () => { details.hidden = true; });
  mark.addEventListener("click", () => choose(numbers[0], false));
}
function describe(entry) {
  const {number, time, timestamp, kind, client, ...rest} = entry;
  const who = client === undefined ? "" : ", client " + client;
  const what = Object.keys(rest).length ? "\\n" + JSON.stringify(rest, null, 2) : "";
  return "#" + number + "  " + kind + who + what;
}
function place(at) {
  const box = details.getBoundingClientRect();
  const x = at.clientX ?? at.right, y = at.clientY ?? at.bottom;
  details.style.left = Math.max(8, Math.min(x + 16, innerWidth - box.width - 16)) + "px";
  details.style.top = Math.max(8, Math.min(y + 16, innerHeight - box.height - 16)) + "px";
}
function choose(number, scroll) {
  for (const each of document.querySelectorAll(".chosen")) each.classList.remove("chosen");
  const mark = marks.get(number), row = document.getElementById("entry-" + number);
  if (mark) mark.classList.add("chosen");
  if (row) row.classList.add("chosen");
  const other = scroll ? mark : row;
  if (other) other.scrollIntoView({block: "center", inline: "nearest", behavior: "smooth"});
}
for (const row of document.querySelectorAll("tbody tr"))
  row.addEventListener("click", () => choose(row.id.slice(6), true));
document.getElementById("filter").addEventListener("input", event => {
  const wanted = event.target.value.toLowerCase();
  for (const row of document.querySelectorAll("tbody tr"))
    row.hidden = !row.textContent.toLowerCase().includes(wanted);
});
"""


def html(entries: Iterable[Entry], title: str = "") -> str:
    """Draw a transcript as a whole page that needs nothing else.  `title` is put at its top."""
    chart = Chart(entries)
    layout = Layout(chart, 6)
    width = max(layout.width, NARROWEST)
    rows, key = legend(chart, 20, width)
    name = escape(title or default_title(chart))
    members = {entry.number: entry.members for entry in chart.entries}
    data = json.dumps(members, ensure_ascii=False, separators=(",", ":")).replace("<", "\\u003c")
    return "\n".join([
        f'<!DOCTYPE html>\n<html lang="en">\n<meta charset="utf-8">\n<title>{name}</title>',
        f"<style>{_STYLE}</style>",
        f"<h1>{name}</h1>\n<p>{escape(summary(chart))}</p>",
        '<div class="picture">',
        frame((width, 0, HEADER), lane_titles(chart, layout, 0, width), ' class="titles"'),
        frame((width, 0, layout.bottom + 8), body(chart, layout, width)),
        frame((width, 0, 12 + LEGEND_ROW * rows), key),
        "</div>",
        '<input id="filter" type="search" placeholder="only entries with this text" aria-label="filter">',
        *_table(chart),
        '<div id="details" hidden></div>',
        f'<script type="application/json" id="entries">{data}</script>',
        f"<script>{_SCRIPT}</script>\n</html>\n",
    ])


def _table(chart: Chart) -> Iterator[str]:
    yield "<table><thead><tr><th>#<th>time<th>since the last<th>client<th>kind<th>what</thead><tbody>"
    before = chart.start
    for entry in chart.entries:
        passed = "" if entry.time == before else f"+ {duration(entry.time - before)}"
        client = "" if entry.client is None else str(entry.client)
        numbers = "".join(f'<td class="n">{text}' for text in (entry.number, moment(entry.time - chart.start), passed))
        words = f"<td>{client}<td>{_swatch(entry)}{escape(entry.kind)}<td>{escape(spell_entry(entry))}"
        yield f'<tr id="entry-{entry.number}">{numbers}{words}'
        before = entry.time
    yield "</tbody></table>"


def _swatch(entry: Entry) -> str:
    if entry.kind == "run-state":
        colour = STATES.get(str(entry.members.get("to")))
    else:
        style = "error" if entry.kind == "sent" and "error" in entry.message else entry.kind
        style = "heard" if entry.kind == "sent" and "event" in entry.message else style
        look = MARKS.get(style)
        colour = None if look is None else look.colour
    return "" if colour is None else f'<span class="swatch" style="background:{colour}"></span>'
