"use strict";
/* Filters the rows of the metadata; without this script they are simply all there. */
for (const box of document.querySelectorAll(".search")) {
  const field = box.querySelector("input");
  const count = box.querySelector("output");
  const blocks = box.parentElement.querySelectorAll("details");
  const lists = Array.from(blocks, (block) => ({
    block: block,
    rows: Array.from(block.querySelectorAll("tbody tr"), (row) => ({
      row: row,
      text: row.textContent.toLowerCase(),
    })),
  }));
  const search = () => {
    const words = field.value.toLowerCase().split(/\s+/).filter(Boolean);
    let found = 0;
    for (const list of lists) {
      let here = 0;
      for (const entry of list.rows) {
        const fits = words.every((word) => entry.text.includes(word));
        entry.row.hidden = !fits;
        here += fits;
      }
      list.block.hidden = words.length > 0 && here === 0;
      if (words.length) list.block.open = here > 0;
      found += here;
    }
    count.textContent = words.length ? found + (found === 1 ? " row" : " rows") : "";
  };
  field.addEventListener("input", search);
  box.hidden = false;
}
