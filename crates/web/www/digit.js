// The drawing pad and the packed LeNet.
import * as slq from "./slq.js";
import { probabilities, size, time } from "./format.js";

const SIDE = 28;

/** The drawing as MNIST has digits: white on black, 20 pixels in the longer side, the centre of mass in the middle. */
export function mnist(pad) {
  const { data, width, height } = pad.getContext("2d").getImageData(0, 0, pad.width, pad.height);
  let [left, top, right, bottom] = [width, height, -1, -1];
  for (let y = 0; y < height; y++) {
    for (let x = 0; x < width; x++) {
      if (data[4 * (y * width + x)] > 20) {
        [left, right] = [Math.min(left, x), Math.max(right, x)];
        [top, bottom] = [Math.min(top, y), Math.max(bottom, y)];
      }
    }
  }
  if (right < 0) return null;
  const [w, h] = [right - left + 1, bottom - top + 1];
  const factor = 20 / Math.max(w, h);
  const draw = (dx, dy) => {
    const small = new OffscreenCanvas(SIDE, SIDE).getContext("2d");
    small.fillRect(0, 0, SIDE, SIDE);
    small.imageSmoothingQuality = "high";
    small.drawImage(pad, left, top, w, h, (SIDE - w * factor) / 2 + dx, (SIDE - h * factor) / 2 + dy, w * factor, h * factor);
    const pixels = small.getImageData(0, 0, SIDE, SIDE).data;
    return Float32Array.from({ length: SIDE * SIDE }, (_, i) => pixels[4 * i]);
  };
  const first = draw(0, 0);
  let [sum, mx, my] = [0, 0, 0];
  first.forEach((v, i) => { sum += v; mx += v * (i % SIDE); my += v * Math.floor(i / SIDE); });
  return draw(13.5 - mx / sum, 13.5 - my / sum).map((v) => v / 255);
}

export async function startDigit() {
  const [pad, answer, bars, note] = ["pad", "digit-answer", "digit-bars", "digit-time"].map((id) => document.getElementById(id));
  const context = pad.getContext("2d", { willReadFrequently: true });
  const clear = () => {
    context.fillStyle = "#000";
    context.fillRect(0, 0, pad.width, pad.height);
    answer.textContent = "?";
    bars.replaceChildren();
    note.textContent = "\u00a0";
  };
  clear();
  const file = await fetch("lenet.slq");
  if (!file.ok) throw new Error(`lenet.slq: ${file.status} ${file.statusText}`);
  const bytes = new Uint8Array(await file.arrayBuffer());
  const network = await slq.open(bytes);
  const line = document.getElementById("digit-network");
  line.textContent = `A LeNet of 431 000 weights in a file of ${size(bytes.length)} (1.72 MB as floats), opened in ${time(network.ms)}.`;

  let [busy, again] = [false, false];
  async function recognise() {
    if (busy) { again = true; return; }
    busy = true;
    const image = mnist(pad);
    try {
      if (image) show(await slq.run(network.network, [1, 1, SIDE, SIDE], image));
    } catch (error) {
      note.textContent = error.message;
    }
    busy = false;
    if (again) { again = false; recognise(); }
  }

  function show({ values, ms }) {
    const shares = probabilities(values);
    const best = shares.indexOf(Math.max(...shares));
    answer.textContent = best;
    note.textContent = `answered in ${time(ms)}`;
    bars.replaceChildren(...shares.flatMap((p, digit) => {
      const [label, bar, value] = [document.createElement("span"), document.createElement("i"), document.createElement("span")];
      [label.textContent, bar.style.width, value.textContent] = [digit, `${100 * p}%`, `${(100 * p).toFixed(1)} %`];
      return [label, bar, value];
    }));
  }

  let last = null;
  const at = (event) => {
    const box = pad.getBoundingClientRect();
    return [(event.clientX - box.left) * pad.width / box.width, (event.clientY - box.top) * pad.height / box.height];
  };
  const stroke = (to) => {
    context.strokeStyle = "#fff";
    context.lineWidth = 22;
    context.lineCap = context.lineJoin = "round";
    context.beginPath();
    context.moveTo(...last);
    context.lineTo(...to);
    context.stroke();
    last = to;
  };
  pad.addEventListener("pointerdown", (event) => {
    pad.setPointerCapture(event.pointerId);
    last = at(event);
    stroke(last);
  });
  pad.addEventListener("pointermove", (event) => { if (last) { stroke(at(event)); recognise(); } });
  const end = () => { if (last) { last = null; recognise(); } };
  pad.addEventListener("pointerup", end);
  pad.addEventListener("pointercancel", end);
  document.getElementById("digit-clear").addEventListener("click", clear);
  document.getElementById("digit").dataset.ready = "yes";
}
