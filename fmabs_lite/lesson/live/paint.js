// A part to paint on, and what the networks answer to every stroke. `figure.answer` keeps the last
// answer's maps, for whoever wants their numbers from the console.

const DARK = 20, LIGHT = 235, COPIED = 20;  // grey of 255; how far to the right a copy is taken from

// What a brush puts on pixel (x, y): a grey, or the place of the whole part that it copies from.
const BRUSHES = {
  dark: () => DARK,
  light: () => LIGHT,
  copy: (x, y, side) => [(x + COPIED) % side, y],
  mirror: (x, y, side) => [side - 1 - x, y],
};

// Paint a stroke, discs along a line, on bytes in the order (C, H, W); `whole` is the part as it was.
function stroke(bytes, whole, side, {brush, radius, points}) {
  const dab = (cx, cy) => {
    for (let y = Math.max(cy - radius, 0); y <= Math.min(cy + radius, side - 1); y++)
      for (let x = Math.max(cx - radius, 0); x <= Math.min(cx + radius, side - 1); x++) {
        if ((x - cx) ** 2 + (y - cy) ** 2 > radius ** 2) continue;
        const found = BRUSHES[brush](x, y, side);
        for (let c = 0; c < 3; c++) bytes[(c * side + y) * side + x] =
          Array.isArray(found) ? whole[(c * side + found[1]) * side + found[0]] : found;
      }
  };
  let [x0, y0] = points[0];
  for (const [x1, y1] of points) {
    const steps = Math.max(Math.abs(x1 - x0), Math.abs(y1 - y0), 1);
    for (let k = 0; k <= steps; k++)
      dab(Math.floor(x0 + (x1 - x0) * k / steps + 0.5), Math.floor(y0 + (y1 - y0) * k / steps + 0.5));
    [x0, y0] = [x1, y1];
  }
}

// The networks of one figure: from a part's bytes to reconstruction, maps and mask.
function system(told) {
  const networks = Object.fromEntries(Object.entries(told.networks).map(
    ([name, network]) => [name, withWeights(network)]));
  return bytes => {
    const block = {c: 3, h: told.side, w: told.side, data: Float32Array.from(bytes, b => b / 255)};
    const fea_s = run(networks.encoder, block), answer = {};
    let fea_r = fea_s;
    if (networks.teacher) {
      const fea_i = zipped(run(networks.teacher, block), fea_s, (t, s) => Math.abs(t - s));
      const map = averaged({...fea_i, data: fea_i.data.map(v => v * v)});
      answer.inconsistency = smoothed(enlarged(map, told.side), told.gaussian);
      if (networks.attention) {
        answer.mask = run(networks.attention, fea_i);
        fea_r = zipped(fea_s, answer.mask, (s, m) => s * m);
      }
    }
    answer.reconstruction = run(networks.decoder, fea_r);
    const square = zipped(answer.reconstruction, block, (r, i) => (r - i) ** 2);
    answer.error = smoothed(averaged(square), told.gaussian);
    return answer;
  };
}

function setUp(figure) {
  const find = selector => figure.querySelector(selector);
  const told = JSON.parse(find("[type='application/json']").textContent);
  const {side} = told, bytesOf = text => Uint8Array.from(atob(text), letter => letter.charCodeAt(0));
  const heat = bytesOf(told.heat), parts = told.parts.map(bytesOf), answerTo = system(told);
  const canvas = find("canvas"), chosen = name => find(`[name=${name}]`).value;
  let whole, bytes, usualMask, before = [], finger = null, last, cursor = [side >> 1, side >> 1], waiting = 0;

  const show = (name, width, colour) => {
    const context = find(`[data-map=${name}]`).getContext("2d"), picture = context.createImageData(width, width);
    for (let p = 0; p < width * width; p++) picture.data.set([...colour(p), 255], 4 * p);
    context.putImageData(picture, 0, 0);
  };
  const asHeat = (map, white) => p => {
    const level = 3 * Math.round(255 * Math.min(map.data[p] / (white || 1), 1));
    return heat.subarray(level, level + 3);
  };
  const largest = map => map.data.reduce((most, value) => Math.max(most, value), 0);

  // What a map says, in words: does it find the changed pixels, and is the part conspicuous?
  const verdict = (map, peaks, changed) => {
    const above = peaks.filter(peak => peak < largest(map)).length;
    const both = changed.some(Boolean) && !changed.every(Boolean);
    const found = both ? `AUROC of what you changed ${auroc(map.data, changed).toFixed(2)}; ` : "";
    return `${found}its peak lies above ${above} of ${peaks.length} normal parts`;
  };
  const maskMoved = mask => averaged(zipped(mask, usualMask, (m, usual) => Math.abs(m - usual)));

  function draw() {
    waiting = 0;
    const places = side * side, changed = Array.from({length: places}, (_, p) =>
      [0, 1, 2].some(c => bytes[c * places + p] !== whole[c * places + p]));
    const answer = figure.answer = answerTo(bytes), said = {};
    show("part", side, p => [0, 1, 2].map(c => bytes[c * places + p]));
    show("reconstruction", side, p => [0, 1, 2].map(c =>
      255 * Math.min(Math.max(answer.reconstruction.data[c * places + p], 0), 1)));
    for (const [name, peaks] of Object.entries(told.peaks)) {
      show(name, side, asHeat(answer[name], Math.max(largest(answer[name]), peaks.at(-1))));
      said[name] = verdict(answer[name], peaks, changed);
    }
    if (answer.mask) {
      const moved = maskMoved(answer.mask);
      show("mask", moved.h, asHeat(moved, largest(moved)));
      said.mask = `moved by ${largest(moved).toFixed(3)} at most, of 1`;
    }
    for (const [name, words] of Object.entries(said)) find(`[data-said=${name}]`).textContent = words;
    return said;
  }
  const soon = () => { waiting ||= requestAnimationFrame(draw); };
  const announce = () => {
    cancelAnimationFrame(waiting);
    find("[role=status]").textContent = Object.entries(draw()).map(
      ([name, words]) => `${told.names[name]}: ${words}.`).join(" ");
  };

  const same = (one, other) => one.every((value, k) => value === other[k]);
  const brush = () => ({brush: chosen("brush"), radius: Number(chosen("radius"))});
  const keep = () => { before = [...before.slice(-49), bytes.slice()]; };
  const reset = () => {
    finger = null;
    whole = parts[chosen("part")];
    bytes = whole.slice();
    before = [];
    usualMask = answerTo(whole).mask;
    announce();
  };
  const pixel = event => {  // outside of the canvas as well: a stroke may leave and come back
    const box = canvas.getBoundingClientRect();
    return [(event.clientX - box.left) / box.width, (event.clientY - box.top) / box.height]
      .map(share => Math.floor(share * side));
  };

  canvas.addEventListener("pointerdown", event => {
    if (event.button || finger !== null) return;
    finger = event.pointerId;  // a second one does not join in
    canvas.setPointerCapture(finger);
    keep();
    last = pixel(event);
    stroke(bytes, whole, side, {...brush(), points: [last]});
    soon();
  });
  canvas.addEventListener("pointermove", event => {
    if (event.pointerId !== finger) return;
    const here = pixel(event);
    stroke(bytes, whole, side, {...brush(), points: [last, here]});
    last = here;
    soon();
  });
  for (const end of ["pointerup", "pointercancel"]) canvas.addEventListener(end, event => {
    if (event.pointerId === finger) { finger = null; announce(); }
  });

  // By keyboard: arrows move a cursor (with Shift by eight pixels), space or enter paints there.
  const ring = find(".ring");
  const point = () => {
    ring.style.left = `${100 * (cursor[0] + 0.5) / side}%`;
    ring.style.top = `${100 * (cursor[1] + 0.5) / side}%`;
    ring.style.width = `${100 * (2 * Number(chosen("radius")) + 1) / side}%`;
  };
  const MOVES = {ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1]};
  canvas.addEventListener("keydown", event => {
    const move = MOVES[event.key];
    if (move) {
      cursor = cursor.map((place, axis) =>
        Math.min(Math.max(place + move[axis] * (event.shiftKey ? 8 : 1), 0), side - 1));
      point();
    } else if (event.key === " " || event.key === "Enter") {
      keep();
      stroke(bytes, whole, side, {...brush(), points: [cursor]});
      announce();
    } else return;
    event.preventDefault();
  });

  const ACTS = {
    undo: () => {
      const now = bytes;
      while (before.length && same(bytes, now)) bytes = before.pop();  // not to the same picture
      announce();
    },
    clear: () => { keep(); bytes = whole.slice(); announce(); },
  };
  figure.addEventListener("click", event => {
    const {act, ready} = event.target.dataset;
    if (act) ACTS[act]();
    if (!ready) return;
    keep();
    stroke(bytes, whole, side, told.ready[ready]);
    announce();
  });
  find("[name=part]").addEventListener("change", reset);
  find("[name=radius]").addEventListener("input", event => {
    event.target.nextElementSibling.value = event.target.value;
    point();
  });
  find(".still").hidden = true;
  find(".alive").hidden = false;
  reset();
  point();
}

for (const figure of document.querySelectorAll(".live-paint:not([data-ready])")) {
  figure.dataset.ready = "";
  setUp(figure);
}
