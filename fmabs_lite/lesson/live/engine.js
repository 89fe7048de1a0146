// A small engine for the networks of chapters 03 to 08: convolutions, their transposes, and what
// stands around them, on typed arrays. A block is {c, h, w, data}, data in the order (C, H, W).

// Half precision, as it comes in base64, to single.
function halves(base64) {
  const bytes = Uint8Array.from(atob(base64), letter => letter.charCodeAt(0));
  const view = new DataView(bytes.buffer);
  return Float32Array.from({length: bytes.length / 2}, (_, k) => {
    const bits = view.getUint16(2 * k, true), power = bits >> 10 & 31, rest = bits & 1023;
    const size = power ? (1 + rest / 1024) * 2 ** (power - 15) : rest * 2 ** -24;
    return bits & 32768 ? -size : size;
  });
}

const AFTER = {
  none: value => value,
  relu: value => Math.max(value, 0),
  sigmoid: value => 1 / (1 + Math.exp(-value)),
};

// The layers of a network with their weights: whole numbers in eight bits, times the scale of their
// output channel. Each layer takes its own from the front of what is left.
function withWeights({layers, steps, halves: rest}) {
  const whole = Int8Array.from(atob(steps), letter => letter.charCodeAt(0)), half = halves(rest);
  let start = 0, behind = 0;
  return layers.map(layer => {
    const patch = layer.k ** 2, count = layer.c_in * layer.c_out * patch;
    const scale = half.subarray(behind, behind += layer.c_out);
    const bias = half.subarray(behind, behind += layer.c_out);
    const channel = layer.transposed ? k => Math.floor(k / patch) % layer.c_out
      : k => Math.floor(k / (layer.c_in * patch));
    const weight = Float32Array.from(whole.subarray(start, start += count),
      (step, k) => step * scale[channel(k)]);
    return {...layer, weight, bias};
  });
}

const run = (layers, block) => layers.reduce((x, layer) =>
  layer.transposed ? widened(x, layer) : convolved(x, layer), block);

// For each of the k × k places in a kernel: every (near, far) pair of places that it joins, where
// far is `stride` times as fine as near. Both kinds of layers walk along these pairs.
function joined(layer, near, far, visit) {
  for (let row = 0; row < layer.k; row++) for (let column = 0; column < layer.k; column++)
    for (let y = 0; y < near.h; y++) {
      const fy = y * layer.stride + row - layer.pad;
      if (fy < 0 || fy >= far.h) continue;
      for (let x = 0; x < near.w; x++) {
        const fx = x * layer.stride + column - layer.pad;
        if (fx < 0 || fx >= far.w) continue;
        visit(row * layer.k + column, y * near.w + x, fy * far.w + fx);
      }
    }
}

// out[r, p] += Σ_i matrix(r, i) · from[i, p], for p among `places` places.
function multiplied(rows, inner, places, matrix, from, out) {
  for (let r = 0; r < rows; r++) for (let i = 0; i < inner; i++) {
    const factor = matrix(r, i), to = r * places, at = i * places;
    if (factor) for (let p = 0; p < places; p++) out[to + p] += factor * from[at + p];
  }
}

function finished(out, layer, places) {
  const after = AFTER[layer.after];
  for (let o = 0; o < layer.c_out; o++) for (let p = o * places; p < (o + 1) * places; p++)
    out[p] = after(out[p] + layer.bias[o]);
  return out;
}

// torch.nn.Conv2d: all patches side by side, then one product. Weights are (c_out, c_in, k, k).
function convolved(block, layer) {
  const reach = side => Math.floor((side + 2 * layer.pad - layer.k) / layer.stride) + 1;
  const small = {h: reach(block.h), w: reach(block.w)}, places = small.h * small.w;
  const patch = layer.k ** 2, inner = layer.c_in * patch, area = block.h * block.w;
  const patches = new Float32Array(inner * places);
  joined(layer, small, block, (k, near, far) => {
    for (let i = 0; i < layer.c_in; i++)
      patches[(i * patch + k) * places + near] = block.data[i * area + far];
  });
  const out = new Float32Array(layer.c_out * places);
  multiplied(layer.c_out, inner, places, (o, i) => layer.weight[o * inner + i], patches, out);
  return {c: layer.c_out, ...small, data: finished(out, layer, places)};
}

// torch.nn.ConvTranspose2d: one product, then every patch is laid down. (c_in, c_out, k, k).
function widened(block, layer) {
  const reach = side => (side - 1) * layer.stride - 2 * layer.pad + layer.k;
  const large = {h: reach(block.h), w: reach(block.w)}, area = large.h * large.w;
  const patch = layer.k ** 2, rows = layer.c_out * patch, places = block.h * block.w;
  const patches = new Float32Array(rows * places);
  multiplied(rows, layer.c_in, places, (r, i) => layer.weight[i * rows + r], block.data, patches);
  const out = new Float32Array(layer.c_out * area);
  joined(layer, block, large, (k, near, far) => {
    for (let o = 0; o < layer.c_out; o++)
      out[o * area + far] += patches[(o * patch + k) * places + near];
  });
  return {c: layer.c_out, ...large, data: finished(out, layer, area)};
}

const zipped = (one, other, join) =>
  ({...one, data: one.data.map((value, k) => join(value, other.data[k]))});

// The mean over the channels.
function averaged(block) {
  const places = block.h * block.w, data = new Float32Array(places);
  block.data.forEach((value, k) => { data[k % places] += value / block.c; });
  return {c: 1, h: block.h, w: block.w, data};
}

// Bilinear, as `enlarge` of chapter 04: pixels are squares, and the outermost reach to the border.
function enlarged(map, side) {
  const data = new Float32Array(side * side);
  const near = place => {
    const exact = Math.min(Math.max((place + 0.5) * map.h / side - 0.5, 0), map.h - 1);
    const first = Math.min(Math.floor(exact), map.h - 2);
    return [first, exact - first];
  };
  for (let y = 0; y < side; y++) for (let x = 0; x < side; x++) {
    const [top, down] = near(y), [left, right] = near(x), at = top * map.w + left;
    const [a, b, c, d] = [at, at + 1, at + map.w, at + map.w + 1].map(k => map.data[k]);
    data[y * side + x] = (1 - down) * ((1 - right) * a + right * b)
      + down * ((1 - right) * c + right * d);
  }
  return {c: 1, h: side, w: side, data};
}

// A Gaussian's weights along both axes, mirrored at the edges, as `smooth` of chapter 04.
function smoothed(map, weights) {
  const half = (weights.length - 1) / 2;
  const mirror = (place, side) => place < 0 ? -1 - place : place >= side ? 2 * side - 1 - place : place;
  const along = (from, address, side) => from.map((_, k) => {
    const [place, at] = address(k);
    return weights.reduce((sum, weight, j) => sum + weight * from[at(mirror(place + j - half, side))], 0);
  });
  const rows = along(map.data, k => [k % map.w, x => k - k % map.w + x], map.w);
  const data = along(rows, k => [Math.floor(k / map.w), y => y * map.w + k % map.w], map.h);
  return {...map, data};
}

// AUROC of chapter 02: how often a marked pixel lies above an unmarked one; ties count one half.
function auroc(values, marked) {
  const order = [...values.keys()].sort((a, b) => values[a] - values[b]);
  let sum = 0, count = 0;
  for (let first = 0, last; first < order.length; first = last) {
    for (last = first; last < order.length && values[order[last]] === values[order[first]]; last++);
    const among = order.slice(first, last).filter(k => marked[k]).length;
    sum += among * (first + last + 1) / 2;
    count += among;
  }
  return (sum - count * (count + 1) / 2) / (count * (order.length - count));
}
