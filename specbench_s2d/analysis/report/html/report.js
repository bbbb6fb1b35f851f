"use strict";
// Tables sort by their headings and filter by words. Without this script the page is whole, and stands still.
(() => {
  const valueOf = (row, column) => row.cells[column].dataset.value;

  // Numbers by size, text by letters; what is missing comes last, whichever way.
  const compare = (a, b, sign, numeric) => {
    if (a === undefined || b === undefined) return (a === undefined) - (b === undefined);
    return sign * (numeric ? Number(a) - Number(b) : a.localeCompare(b, undefined, { numeric: true }));
  };

  const sort = (table, heading) => {
    const column = heading.cellIndex;
    const ascending = heading.getAttribute("aria-sort") !== "ascending";
    for (const other of heading.parentNode.cells) other.removeAttribute("aria-sort");
    heading.setAttribute("aria-sort", ascending ? "ascending" : "descending");
    const numeric = heading.classList.contains("num");
    const rows = [...table.tBodies[0].rows];
    rows.sort((a, b) => compare(valueOf(a, column), valueOf(b, column), ascending ? 1 : -1, numeric));
    table.tBodies[0].append(...rows);
  };

  const makeSortable = (table) => {
    for (const heading of table.tHead.rows[0].cells) {
      const button = document.createElement("button");
      button.type = "button";
      button.append(...heading.childNodes);
      button.addEventListener("click", () => sort(table, heading));
      heading.append(button);
    }
  };

  const filter = (table, words, count) => {
    const rows = [...table.tBodies[0].rows];
    for (const row of rows) {
      const text = row.textContent.toLowerCase();
      row.hidden = !words.every((word) => text.includes(word));
    }
    const left = rows.filter((row) => !row.hidden).length;
    count.textContent = words.length ? `${left} of ${rows.length} rows` : `${rows.length} rows`;
  };

  const makeFiltered = (block) => {
    const table = block.querySelector("table");
    const bar = document.createElement("label");
    const input = document.createElement("input");
    const count = document.createElement("output");
    bar.className = "filter";
    input.type = "search";
    input.placeholder = "words, such as: s2d qa";
    input.addEventListener("input", () => filter(table, input.value.toLowerCase().split(/\s+/).filter(Boolean), count));
    bar.append("Filter ", input, " ", count);
    block.querySelector(".box").before(bar);
    filter(table, [], count);
  };

  // Paper cannot be opened: what is folded away is printed too, and folded again after.
  let folded = [];
  window.addEventListener("beforeprint", () => {
    folded = [...document.querySelectorAll("details:not([open])")];
    for (const each of folded) each.open = true;
  });
  window.addEventListener("afterprint", () => {
    for (const each of folded) each.open = false;
  });

  document.querySelectorAll("table.sortable").forEach(makeSortable);
  document.querySelectorAll(".filtered").forEach(makeFiltered);
})();
