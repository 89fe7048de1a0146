for (const figure of document.querySelectorAll(".live-clip:not([data-ready])")) {
  figure.dataset.ready = "";
  const find = selector => figure.querySelector(selector);
  const data = JSON.parse(find("[type='application/json']").textContent);
  const [canvas, plot, input, button] = ["canvas", ".plot", "input", "button"].map(find);
  const last = data.scores.length - 1;
  const known = data.scores.filter(score => score !== null);
  const [low, high] = [Math.min(...known), Math.max(...known)];
  const sheet = new Image();
  const pen = canvas.getContext("2d");
  let timer = 0;

  const paint = at => {
    const {width, height, scale, columns} = data;
    const [x, y] = [at % columns * width, Math.floor(at / columns) * height];
    pen.imageSmoothingEnabled = false;
    pen.drawImage(sheet, x, y, width, height, 0, 0, canvas.width, canvas.height);
    const worst = data.worst[at];
    pen.strokeStyle = "#E69F00";
    for (const [k, [x0, y0, x1, y1]] of data.boxes[at].entries()) {
      pen.lineWidth = k === worst ? 4 : 1.5;
      pen.setLineDash(k === worst || worst < 0 ? [] : [4, 3]);
      pen.strokeRect(x0 * scale, y0 * scale, (x1 - x0) * scale, (y1 - y0) * scale);
    }
  };
  const words = at => `${at}, score ${data.scores[at] ?? "none"}, `
    + (data.truth[at] ? "abnormal" : "normal");
  const go = at => {
    const score = data.scores[at];
    const level = high > low ? (high - score) / (high - low) : 0.5;
    input.value = at;
    input.setAttribute("aria-valuetext", words(at));
    find("output").value = `frame ${words(at)}`;
    find(".cursor").setAttribute("d", `M${at} 0V1`);
    find(".dot").setAttribute("d", score === null ? "" : `M${at} ${level}h0`);
    paint(at);
  };
  const pause = () => {
    if (!timer) return;
    timer = clearInterval(timer);
    button.textContent = "Play";
    find("[role=status]").textContent = `paused at frame ${words(Number(input.value))}`;
  };
  const quiet = () => { find("[role=status]").textContent = ""; };  // the slider says its place
  const start = () => {
    if (Number(input.value) === last) go(0);
    button.textContent = "Pause";
    quiet();
    timer = setInterval(() => {
      go(Number(input.value) + 1);
      if (Number(input.value) === last) pause();
    }, 1000 / data.rate);
  };
  const seek = event => {
    const {left, width} = plot.getBoundingClientRect();
    const share = Math.min(Math.max((event.clientX - left) / width, 0), 1);
    pause();
    quiet();
    go(Math.round(share * last));
  };

  button.addEventListener("click", () => timer ? pause() : start());
  input.addEventListener("input", () => { pause(); quiet(); go(Number(input.value)); });
  plot.addEventListener("pointerdown", event => {
    plot.setPointerCapture(event.pointerId);
    seek(event);
  });
  plot.addEventListener("pointermove", event => {
    if (plot.hasPointerCapture(event.pointerId)) seek(event);
  });
  // Who asks for less motion while it plays has it stop; it never starts by itself.
  matchMedia("(prefers-reduced-motion: reduce)").addEventListener("change", event => {
    if (event.matches) pause();
  });

  sheet.onload = () => {  // until then, and where it fails, the still picture stays
    Object.assign(canvas, {width: data.width * data.scale, height: data.height * data.scale});
    for (const mark of [find(".cursor"), find(".dot")]) mark.removeAttribute("visibility");
    go(0);
    find(".still").hidden = true;
    canvas.hidden = find(".controls").hidden = false;
  };
  sheet.src = data.sheet;
}
