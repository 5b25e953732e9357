"use strict";
// Everything that was captured comes from the data block and reaches the page as text (textContent), never as markup.
(() => {
  const data = JSON.parse(document.getElementById("data").textContent);
  const PAGE = 100;
  const COLORS = {
    ok: "good", scored: "good", improved: "good", error: "bad", failed: "bad", regressed: "bad", timed_out: "warn",
    cancelled: "warn", changed: "warn",
  };
  const state = { search: "", status: "", verdict: "", metric: "", condition: "", limit: null, sort: null, down: false, page: 0 };

  const make = (tag, text, kind) => {
    const made = document.createElement(tag);
    if (text !== undefined && text !== null) made.textContent = text;
    if (kind) made.className = kind;
    return made;
  };
  const words = (status) => status.replaceAll("_", " ");
  const badge = (status) => make("span", words(status), `state ${COLORS[status] || "idle"}`);
  const number = (value) => (Number.isInteger(value) ? String(value) : Math.abs(value) < 0.1 ? value.toPrecision(3) : value.toFixed(2));
  const shown = (value) => (typeof value === "number" ? number(value) : String(value));
  const seconds = (value) => (value === null ? "none" : value < 0.9995 ? `${Math.round(value * 1000)} ms` : `${value.toFixed(1)} s`);

  // -- theme -------------------------------------------------------------------------------------------------------
  const root = document.documentElement;
  const dark = matchMedia("(prefers-color-scheme: dark)");
  const theme = document.getElementById("theme");
  const paint = (name) => {
    root.dataset.theme = name;
    theme.textContent = name === "dark" ? "Light" : "Dark";
  };
  paint(dark.matches ? "dark" : "light");
  dark.addEventListener("change", () => paint(dark.matches ? "dark" : "light"));
  theme.hidden = false;
  theme.addEventListener("click", () => paint(root.dataset.theme === "dark" ? "light" : "dark"));

  // -- rows --------------------------------------------------------------------------------------------------------
  data.items.forEach((item, place) => {
    item.place = place;
    item.hay = [item.id, item.input, item.expected, item.output, item.error, item.split, ...item.tags,
      ...item.scores.map((score) => score.reason)].filter(Boolean).join("\n").toLowerCase();
  });
  const rank = { regressed: 0, improved: 1, changed: 2, same: 3 };
  const columns = [
    { name: "item", key: (item) => item.id },
    { name: "status", key: (item) => item.status },
    ...(data.compared ? [{ name: "change", key: (item) => (item.verdict ? rank[item.verdict] : 4) }] : []),
    { name: "input", key: (item) => item.input },
    { name: "output", key: (item) => item.output },
    ...data.metrics.map((metric, at) => ({
      name: metric.name, numeric: metric.kind !== "label", key: (item) => item.scores[at].value,
    })),
    { name: "time", numeric: true, key: (item) => item.seconds },
  ];

  const passes = (item) => {
    if (state.search && !item.hay.includes(state.search)) return false;
    if (state.status && item.status !== state.status) return false;
    if (state.verdict && item.verdict !== state.verdict) return false;
    if (state.metric === "" || !state.condition) return true;
    const score = item.scores[Number(state.metric)];
    const value = score.value;
    switch (state.condition) {
      case "scored": return value !== null;
      case "missing": return value === null;
      case "failed": return score.status === "failed" || score.status === "timed_out";
      case "true": return value === true || value === 1;
      case "false": return value === false || value === 0;
      case "below": return state.limit === null || (value !== null && Number(value) < state.limit);
      case "above": return state.limit === null || (value !== null && Number(value) > state.limit);
      default: return true;
    }
  };
  const compare = (a, b) => {
    const [x, y] = [state.sort.key(a), state.sort.key(b)];
    // What has no value comes last, whichever way is sorted.
    if (x === null || y === null) return (x === null) - (y === null) || a.place - b.place;
    const order = typeof x === "string" || typeof y === "string" ? String(x).localeCompare(String(y)) : Number(x) - Number(y);
    return (state.down ? -order : order) || a.place - b.place;
  };

  const head = document.querySelector("#items thead");
  const body = document.querySelector("#items tbody");
  const count = document.getElementById("count");
  const [back, next] = [document.getElementById("back"), document.getElementById("next")];

  const titles = make("tr");
  columns.forEach((column) => {
    const title = make("th", undefined, column.numeric ? "number" : "");
    const button = make("button", column.name);
    button.type = "button";
    button.addEventListener("click", () => {
      state.down = state.sort === column ? !state.down : false;
      state.sort = column;
      state.page = 0;
      draw();
    });
    title.append(button);
    column.title = title;
    titles.append(title);
  });
  head.append(titles);

  const scoreCell = (item, at) => {
    const [metric, score] = [data.metrics[at], item.scores[at]];
    const cell = make("td", undefined, metric.kind === "label" ? "" : "number");
    if (score.value === null) {
      cell.append(badge(score.status));
    } else if (typeof score.value === "boolean") {
      cell.append(make("span", String(score.value), score.value === metric.lower ? "bad" : "good"));
    } else {
      cell.append(make("span", shown(score.value)));
      if (metric.range && typeof score.value === "number") {
        const share = (score.value - metric.range[0]) / (metric.range[1] - metric.range[0]);
        const bar = make("div", undefined, "bar");
        const filled = make("i");
        filled.style.width = `${Math.min(Math.max(share, 0), 1) * 100}%`;
        bar.append(filled);
        cell.append(bar);
      }
    }
    const move = item.moves && item.moves[at];
    if (move && move.verdict !== "same") {
      cell.append(make("div", `was ${move.before === null ? words(move.status) : shown(move.before)}`, `move ${COLORS[move.verdict]}`));
    }
    cell.title = score.reason || "";
    return cell;
  };
  const textCell = (text) => {
    const cell = make("td", undefined, "text");
    cell.append(make("div", text.length > 400 ? `${text.slice(0, 400)}…` : text));
    return cell;
  };
  const drawRow = (item) => {
    const row = make("tr", undefined, "row");
    const id = make("td", undefined, "id");
    const open = make("button", item.id);
    open.type = "button";
    open.title = item.id;
    open.setAttribute("aria-expanded", "false");
    id.append(open);
    if (item.repeat) id.append(make("span", ` [${item.repeat + 1}]`, "soft"));
    const status = make("td");
    status.append(badge(item.status));
    row.append(id, status);
    if (data.compared) {
      const cell = make("td");
      cell.append(badge(item.verdict || "not compared"));
      row.append(cell);
    }
    row.append(textCell(item.input), textCell(item.status === "ok" ? item.output : item.error || ""));
    data.metrics.forEach((_, at) => row.append(scoreCell(item, at)));
    row.append(make("td", seconds(item.seconds), "number"));
    row.addEventListener("click", () => {
      if (getSelection().toString()) return; // somebody selects text
      const there = row.nextElementSibling;
      if (there && there.className === "details") {
        there.remove();
        open.setAttribute("aria-expanded", "false");
      } else {
        row.after(details(item));
        open.setAttribute("aria-expanded", "true");
      }
    });
    return row;
  };

  // -- details -----------------------------------------------------------------------------------------------------
  const part = (title, text) => {
    const box = make("div");
    box.append(make("h3", title), make("pre", text));
    return box;
  };
  const tokens = (text) => text.match(/\s+|[\p{L}\p{N}_]+|[^\s]/gu) || [];
  // The longest common subsequence of words. Beyond this many steps it would keep the page busy: then both are shown as they are.
  const STEPS = 4e6;
  const difference = (before, after) => {
    const [a, b] = [tokens(before), tokens(after)];
    if ((a.length + 1) * (b.length + 1) > STEPS) return null;
    const wide = b.length + 1;
    const lengths = new Uint16Array((a.length + 1) * wide);
    for (let i = a.length - 1; i >= 0; i--) {
      for (let j = b.length - 1; j >= 0; j--) {
        lengths[i * wide + j] = a[i] === b[j] ? lengths[(i + 1) * wide + j + 1] + 1
          : Math.max(lengths[(i + 1) * wide + j], lengths[i * wide + j + 1]);
      }
    }
    const pieces = [];
    const add = (tag, text) => {
      const last = pieces[pieces.length - 1];
      if (last && last.tag === tag) last.text += text; else pieces.push({ tag, text });
    };
    let [i, j] = [0, 0];
    while (i < a.length || j < b.length) {
      if (i < a.length && j < b.length && a[i] === b[j]) { add("span", a[i]); i++; j++; }
      else if (j >= b.length || (i < a.length && lengths[(i + 1) * wide + j] >= lengths[i * wide + j + 1])) add("del", a[i++]);
      else add("ins", b[j++]);
    }
    return pieces;
  };
  const details = (item) => {
    const row = make("tr", undefined, "details");
    const cell = make("td");
    cell.colSpan = columns.length;
    const parts = make("div", undefined, "parts");
    parts.append(part("input", item.input));
    if (item.expected !== null) parts.append(part("expected", item.expected));
    const pieces = item.before !== null && item.before !== item.output ? difference(item.before, item.output) : null;
    if (pieces) {
      const box = part("output, compared with the baseline", "");
      const pre = box.querySelector("pre");
      pieces.forEach((piece) => pre.append(make(piece.tag, piece.text)));
      parts.append(box);
    } else {
      if (item.before !== null && item.before !== item.output) parts.append(part("output of the baseline", item.before));
      parts.append(part(item.before === null ? "output" : item.before === item.output ? "output, the same in the baseline" : "output", item.output));
    }
    if (item.error) parts.append(part("what went wrong", item.error));
    if (item.earlier.length) parts.append(part("called before", item.earlier.join("\n")));
    const more = make("div", undefined, "more");
    const table = make("table");
    item.scores.forEach((score, at) => {
      const line = make("tr");
      const status = make("td");
      status.append(badge(score.status));
      line.append(make("td", data.metrics[at].name), status, make("td", score.value === null ? "" : shown(score.value)), make("td", score.reason || ""));
      table.append(line);
    });
    if (item.scores.length) more.append(make("h3", "scores"), table);
    const about = make("p", undefined, "soft");
    item.tags.forEach((tag) => about.append(make("span", tag, "tag")));
    about.append([item.split && `split ${item.split}`, item.called > 1 && `called ${item.called} times`,
      item.cost !== null && `cost $${item.cost.toPrecision(3)}`, item.tokens, item.trace && `trace ${item.trace}`].filter(Boolean).join(" · "));
    more.append(about);
    cell.append(parts, more);
    row.append(cell);
    return row;
  };

  // -- what is shown -----------------------------------------------------------------------------------------------
  const draw = () => {
    const found = data.items.filter(passes);
    if (state.sort) found.sort(compare);
    const pages = Math.max(Math.ceil(found.length / PAGE), 1);
    state.page = Math.min(state.page, pages - 1);
    const from = state.page * PAGE;
    body.replaceChildren(...found.slice(from, from + PAGE).map(drawRow));
    if (!found.length) {
      const row = make("tr");
      const cell = make("td", "nothing matches", "soft");
      cell.colSpan = columns.length;
      row.append(cell);
      body.append(row);
    }
    const whole = found.length === data.items.length ? "" : ` of ${data.items.length.toLocaleString("en")}`;
    const range = pages > 1 ? `${(from + 1).toLocaleString("en")} to ${Math.min(from + PAGE, found.length).toLocaleString("en")} of ` : "";
    count.textContent = `${range}${found.length.toLocaleString("en")}${pages > 1 ? " matching" : ""}${whole} calls`;
    [back.disabled, next.disabled] = [state.page === 0, state.page >= pages - 1];
    columns.forEach((column) => {
      if (column === state.sort) column.title.setAttribute("aria-sort", state.down ? "descending" : "ascending");
      else column.title.removeAttribute("aria-sort");
    });
  };
  const choose = (id, values, label) => {
    const select = document.getElementById(id);
    values.forEach(([value, text]) => {
      const option = make("option", text);
      option.value = value;
      select.append(option);
    });
    select.addEventListener("change", () => { state[label] = select.value; state.page = 0; sync(); draw(); });
  };
  const conditions = document.getElementById("condition");
  const limit = document.getElementById("limit");
  const sync = () => {
    conditions.disabled = state.metric === "";
    limit.hidden = state.metric === "" || !["below", "above"].includes(state.condition);
  };
  const statuses = [...new Set(data.items.map((item) => item.status))];
  choose("status", statuses.map((status) => [status, words(status)]), "status");
  choose("metric", data.metrics.map((metric, at) => [String(at), metric.name]), "metric");
  choose("condition", [["scored", "scored"], ["missing", "no value"], ["failed", "failed or timed out"], ["true", "true"],
    ["false", "false"], ["below", "below"], ["above", "above"]], "condition");
  if (data.compared) choose("verdict", ["regressed", "improved", "changed", "same"].map((name) => [name, name]), "verdict");
  document.getElementById("search").addEventListener("input", (event) => {
    state.search = event.target.value.trim().toLowerCase();
    state.page = 0;
    draw();
  });
  limit.addEventListener("input", () => { state.limit = limit.value === "" ? null : Number(limit.value); state.page = 0; draw(); });
  back.addEventListener("click", () => { state.page--; draw(); });
  next.addEventListener("click", () => { state.page++; draw(); });
  document.getElementById("tools").hidden = false;
  sync();
  draw();
})();
