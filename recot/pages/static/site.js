// What the pages do besides being read: sort and filter tables, open a cell, find a page, and name a point of a picture.
"use strict";
(() => {
  const byId = (id) => document.getElementById(id);
  const parsed = (id) => (byId(id) ? JSON.parse(byId(id).textContent) : null);
  const made = (name, text = "", kind = "") => {
    const element = document.createElement(name);
    element.textContent = text; // never as HTML: names come from files
    if (kind) element.className = kind;
    return element;
  };

  const counted = (shown, all, what) =>
    `${shown === all ? "" : `${shown} of `}${all} ${what}${all === 1 ? "" : "s"}`;

  // Tables: DataTables sorts and filters them; without it they are tables all the same.
  const jquery = window.recotTables;
  const tables = [...document.querySelectorAll("table.sortable")];
  const widgets = jquery ? tables.map((table) => jquery(table).DataTable({
    paging: false, info: false, order: [], autoWidth: false,
    layout: { topStart: null, topEnd: null, bottomStart: null, bottomEnd: null },
    language: { emptyTable: "No rows", zeroRecords: "No row is so called" },
  })) : [];

  function filtering() {
    const [filter, verdict, known] = ["filter", "verdict", "known"].map(byId);
    const rows = byId("rows");
    byId("tools").hidden = false;
    const wanted = (row) => {
      if (known && known.checked && !row.querySelector(".cell")) return false;
      return !verdict || !verdict.value || row.querySelector(`.chip.${verdict.value}`) !== null;
    };
    const apply = () => {
      let shown = 0, all = 0;
      for (const widget of widgets) {
        widget.search.fixed("kind", (text, data, index) => wanted(widget.row(index).node()));
        widget.column(0).search(document.querySelector("table.numbers") ? filter.value : "");
        widget.search(document.querySelector("table.numbers") ? "" : filter.value).draw();
        shown += widget.rows({ search: "applied" }).count();
        all += widget.rows().count();
      }
      rows.textContent = counted(shown, all, "row");
    };
    for (const input of [filter, verdict, known]) if (input) input.addEventListener("input", apply);
    apply();
  }
  if (widgets.length && byId("tools")) filtering();

  // A cell opens where its number comes from.
  const content = parsed("cells"), dialog = byId("about");
  function listed(pairs) {
    const list = made("dl");
    for (const [name, value] of pairs) list.append(made("dt", name), made("dd", value));
    return list;
  }
  function copied(text) {
    const line = made("div", "", "line"), pre = made("pre"), button = made("button", "Copy", "button");
    pre.append(made("code", text));
    button.type = "button";
    button.addEventListener("click", async () => {
      try { await navigator.clipboard.writeText(text); button.textContent = "Copied"; }
      catch { getSelection().selectAllChildren(pre); button.textContent = "Selected"; }
    });
    line.append(pre, button);
    return line;
  }
  function open(id) {
    const cell = content.cells[id], body = byId("about-body");
    byId("about-title").textContent = cell.title;
    body.replaceChildren(listed(cell.facts));
    for (const key of cell.keys) {
      const run = content.runs[key], part = made("section", "", "run");
      part.append(made("h3", run ? `Run of seed ${run.seed}` : `Key ${key}`));
      if (!run) part.append(made("p", content.unlisted, "note"));
      else {
        if (run.command) part.append(copied(run.command));
        part.append(listed(Object.entries(run).filter(([name]) => name !== "command")));
      }
      body.append(part);
    }
    dialog.showModal();
  }
  if (content) {
    document.addEventListener("click", (event) => {
      const button = event.target.closest("button[data-cell]");
      if (button) open(button.dataset.cell);
      else if (event.target === dialog) dialog.close();
    });
  }
  // A link to a cell inside what is folded away unfolds it.
  function unfold() {
    const target = location.hash && byId(decodeURIComponent(location.hash.slice(1)));
    for (let above = target; above; above = above.parentElement) if (above.tagName === "DETAILS") above.open = true;
    if (target) target.scrollIntoView({ block: "center", inline: "center" });
  }
  addEventListener("hashchange", unfold);
  unfold();

  // Claims of one verdict.
  const which = byId("which");
  if (which) {
    const all = [...document.querySelectorAll(".claim")];
    byId("choose").hidden = false;
    const choose = () => {
      for (const claim of all) claim.hidden = Boolean(which.value) && claim.dataset.verdict !== which.value;
      for (const part of document.querySelectorAll(".claimed")) part.hidden = !part.querySelector(".claim:not([hidden])");
      byId("chosen").textContent = counted(all.filter((claim) => !claim.hidden).length, all.length, "claim");
    };
    which.addEventListener("input", choose);
    choose();
  }

  // Find a method, table or figure.
  const index = parsed("index"), find = byId("find");
  if (index && find) {
    const plain = (text) => text.toLowerCase();
    find.addEventListener("input", () => {
      const words = plain(find.value).split(/\s+/).filter(Boolean), found = byId("found");
      const hits = words.length ? index.filter((each) => words.every((word) => plain(each.text).includes(word))) : [];
      found.replaceChildren(...hits.slice(0, 12).map((each) => {
        const item = made("li"), link = made("a");
        link.href = each.href;
        link.append(made("span", each.name), made("span", each.kind, "kind"));
        item.append(link);
        return item;
      }));
      const more = hits.length > 12 ? `, the first 12 of them here` : "";
      byId("find-count").textContent = words.length ? `${hits.length} found${more}` : "";
    });
  }

  // Points of a picture: what the browser would say after a while it says at once, and at a touch.
  let tip = null;
  const hide = () => { if (tip) tip.remove(); tip = null; };
  for (const title of document.querySelectorAll(".point > title")) {
    title.parentElement.dataset.tip = title.textContent;
    title.remove();
  }
  const show = (event) => {
    const point = event.target.closest ? event.target.closest("[data-tip]") : null;
    hide();
    if (!point) return;
    tip = made("div", point.dataset.tip);
    tip.id = "tip";
    document.body.append(tip);
    const box = point.getBoundingClientRect(), left = box.left + box.width / 2 - tip.offsetWidth / 2;
    tip.style.left = `${Math.max(8, Math.min(left, innerWidth - tip.offsetWidth - 8))}px`;
    tip.style.top = `${Math.max(8, box.top - tip.offsetHeight - 8)}px`;
  };
  document.addEventListener("pointerover", show);
  document.addEventListener("pointerdown", show);
  addEventListener("scroll", hide, { passive: true });
})();
