"use strict";
// Click a heading to sort its table; point at a row to highlight its curves.
const value = (row, column) => {
  const cell = row.cells[column];
  return "value" in cell.dataset ? Number(cell.dataset.value) : cell.textContent;
};
const compare = (a, b) =>
  typeof a === "number" && typeof b === "number" ? a - b
    : typeof a === typeof b ? a.localeCompare(b, undefined, { numeric: true })
    : typeof a === "number" ? 1 : -1;
const sort = (table, head) => {
  const descending = head.getAttribute("aria-sort") !== "descending";
  const sign = descending ? -1 : 1;
  for (const other of head.parentNode.cells) other.removeAttribute("aria-sort");
  head.setAttribute("aria-sort", descending ? "descending" : "ascending");
  const rows = [...table.tBodies[0].rows];
  rows.sort((a, b) => sign * compare(value(a, head.cellIndex), value(b, head.cellIndex)));
  table.tBodies[0].append(...rows);
};
const curves = document.querySelectorAll(".run");
const highlight = (run) => {
  document.body.classList.toggle("dimmed", run !== undefined);
  for (const curve of curves) curve.classList.toggle("lit", curve.dataset.run === run);
};
for (const table of document.querySelectorAll("table")) {
  table.tHead.addEventListener("click", (event) => {
    const head = event.target.closest("th");
    if (head) sort(table, head);
  });
  for (const row of table.tBodies[0].rows) {
    row.addEventListener("mouseenter", () => highlight(row.dataset.run));
    row.addEventListener("mouseleave", () => highlight(undefined));
  }
}
// A table that is wider than the page says so.
const hint = () => {
  for (const frame of document.querySelectorAll(".scroll"))
    frame.previousElementSibling.classList.toggle("wide", frame.scrollWidth > frame.clientWidth + 1);
};
addEventListener("resize", hint);
hint();
