for (const figure of document.querySelectorAll(".live-threshold:not([data-ready])")) {
  figure.dataset.ready = "";
  const find = selector => figure.querySelector(selector);
  const data = JSON.parse(find("[type='application/json']").textContent);
  const {width, height, columns, peaks, defective} = data;
  const input = find("input");
  const items = [...figure.querySelectorAll("li")];
  const count = test => peaks.filter((peak, k) => test(peak, k)).length;
  const sheet = new Image();
  const levels = [];  // for each image the last threshold that each of its pixels reaches
  const outlines = [];
  let late = 0;

  const read = () => {
    const {width: across, height: down} = sheet;
    const canvas = Object.assign(document.createElement("canvas"), {width: across, height: down});
    const whole = canvas.getContext("2d", {willReadFrequently: true});
    whole.drawImage(sheet, 0, 0);
    for (const [k] of items.entries()) {
      const [x, y] = [k % columns * width, Math.floor(k / columns) * height];
      const {data: bytes} = whole.getImageData(x, y, width, height);
      levels.push(bytes.filter((_, i) => i % 4 === 0));
      const mask = bytes.filter((_, i) => i % 4 === 1);
      const at = (row, column) =>
        row >= 0 && row < height && column >= 0 && column < width && mask[row * width + column];
      outlines.push(mask.map((inside, i) => {
        const [row, column] = [Math.floor(i / width), i % width];
        return inside && !(at(row - 1, column) && at(row + 1, column)
          && at(row, column - 1) && at(row, column + 1));
      }));
    }
  };
  const paint = (canvas, level, outline, threshold) => {
    const picture = new ImageData(width, height);
    level.forEach((reached, i) => {
      const grey = data.greys[reached];
      const colour = outline[i] ? [86, 180, 233]
        : reached >= threshold ? [230, 159, 0] : [grey, grey, grey];
      picture.data.set([...colour, 255], 4 * i);
    });
    canvas.getContext("2d").putImageData(picture, 0, 0);
  };
  const told = at => {
    const precision = data.precision[at]?.toFixed(3) ?? "none";
    const [bad, alarms] = [1, 0].map(
      kind => count((peak, k) => peak >= at && defective[k] === kind));
    const all = defective.filter(Boolean).length;
    return [
      `Pixels at ${data.threshold[at].toFixed(3)} or above: `
        + `TPR (recall) ${data.tpr[at].toFixed(3)}, FPR ${data.fpr[at].toFixed(4)}, `
        + `precision ${precision}, mean covered share ${data.overlap[at].toFixed(3)}.`,
      `Images: ${bad} of ${all} defective flagged, `
        + `${alarms} of ${defective.length - all} normal flagged.`,
    ];
  };
  const dot = (curve, x, y) => find(`.${curve} .dot`).setAttribute(
    "d", x === null || y === null ? "" : `M${x} ${1 - y}h0`);
  const go = () => {
    const at = Number(input.value);
    const [pixels, images] = told(at);
    find(".pixels").textContent = pixels;
    find(".images").textContent = images;
    input.setAttribute("aria-valuetext", data.threshold[at].toFixed(3));
    dot("roc", data.fpr[at], data.tpr[at]);
    dot("pr", data.tpr[at], data.precision[at]);
    dot("pro", Math.min(data.fpr[at] / data.limit, 1), data.overlap[at]);
    for (const [k, item] of items.entries()) {
      const flagged = peaks[k] >= at;
      const word = item.querySelector("span");
      const now = flagged ? (defective[k] ? "hit" : "false alarm")
        : (defective[k] ? "miss" : "correct");
      item.classList.toggle("turned", word.textContent !== "" && word.textContent !== now);
      item.toggleAttribute("data-flagged", flagged);
      word.textContent = now;
      paint(item.querySelector("canvas"), levels[k], outlines[k], at);
    }
  };

  input.addEventListener("input", () => {
    go();
    clearTimeout(late);  // said once, when the finger rests
    late = setTimeout(() => { find(".spoken").textContent = told(Number(input.value)).join(" "); },
      500);
  });
  sheet.onload = () => {  // until then, and where it fails, the still picture stays
    read();
    for (const item of items) Object.assign(item.querySelector("canvas"), {width, height});
    go();
    find(".still").hidden = true;
    find("ol").hidden = find(".on-screen").hidden = false;
  };
  sheet.src = data.sheet;
}
