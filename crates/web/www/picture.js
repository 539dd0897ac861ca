// A picture and a network that the user brings.
import * as slq from "./slq.js";
import { bytesOf, onFiles } from "./drop.js";
import { probabilities, size, time } from "./format.js";

/** What most networks of ImageNet take, where the file does not say. */
const USUAL = { mean: [0.485, 0.456, 0.406], std: [0.229, 0.224, 0.225], resize: { short_side: 256 } };

/** The property as an object. */
function parsed(text) {
  try {
    const stored = JSON.parse(text);
    if (stored && typeof stored === "object") return stored;
  } catch { /* said below */ }
  throw new Error("the property slq.preprocessing of the file cannot be read");
}

/** How the file says pictures are prepared, or the usual way. */
export function preparation(properties) {
  const text = properties["slq.preprocessing"];
  if (text === undefined) return { ...USUAL, assumed: true };
  const stored = parsed(text);
  if (stored.mean_image) throw new Error("the network subtracts a mean image, which this page does not");
  return stored;
}

/** The values of a picture for an input [1, channels, height, width], and what was cut out. */
export function prepare(bitmap, [, channels, height, width], how) {
  let [w, h] = [bitmap.width, bitmap.height];
  const { resize } = how;
  if (resize?.exact) [h, w] = resize.exact;
  else {
    // Without a resize that reaches the input, the shorter side is brought to it.
    const short = resize?.short_side ?? Math.min(w, h);
    const factor = Math.max(short / Math.min(w, h), height / h, width / w);
    const chosen = resize?.short_side || how.crop ? factor : Math.max(height / h, width / w);
    [w, h] = [Math.max(width, Math.floor(w * chosen)), Math.max(height, Math.floor(h * chosen))];
  }
  const view = new OffscreenCanvas(width, height);
  const context = view.getContext("2d");
  context.imageSmoothingQuality = "high";
  context.drawImage(bitmap, -Math.floor((w - width) / 2), -Math.floor((h - height) / 2), w, h);
  const pixels = context.getImageData(0, 0, width, height).data;
  const plane = width * height;
  const values = new Float32Array(channels * plane);
  const scale = how.scale ?? 1 / 255;
  const pick = (list, c, otherwise) => (list?.length ? list[list.length === 1 ? 0 : c] : otherwise);
  for (let c = 0; c < channels; c++) {
    const from = how.channel_order === "bgr" ? channels - 1 - c : c;
    const [mean, std] = [pick(how.mean, c, 0), pick(how.std, c, 1)];
    for (let i = 0; i < plane; i++) {
      const p = 4 * i;
      const v = channels === 1 ? 0.299 * pixels[p] + 0.587 * pixels[p + 1] + 0.114 * pixels[p + 2] : pixels[p + from];
      values[c * plane + i] = how.mean_first ? (v - mean) * scale / std : (v * scale - mean) / std;
    }
  }
  return { values, view };
}

/** Pixels of a side. */
const MOST_SIDE = 4096;

/** The input's shape with one picture; 224 x 224 where it is free. */
function shapeOf(input) {
  const shape = input.shape ?? [];
  if (shape.length !== 4) throw new Error(`the input ${input.name} is not pictures: it has ${shape.length} axes`);
  const [, channels, height, width] = shape.map((d) => d ?? undefined);
  if (channels !== 1 && channels !== 3) throw new Error(`the input has ${channels} channels, not 1 or 3`);
  const [h, w] = [height ?? 224, width ?? 224];
  if (!(h > 0 && w > 0 && h <= MOST_SIDE && w <= MOST_SIDE)) throw new Error(`the input is ${w} x ${h} pixels; this page makes 1 to ${MOST_SIDE} each way`);
  return [1, channels, h, w];
}

export function startPicture() {
  const get = (id) => document.getElementById(`picture-${id}`);
  let network = null;
  let bitmap = null;

  async function openNetwork(file) {
    const opened = await slq.open(await bytesOf(file));
    let [shape, how] = [];
    try {
      shape = shapeOf(opened.inputs[0] ?? {});
      how = preparation(opened.properties);
    } catch (error) {
      await slq.close(opened.network);
      throw error;
    }
    const classes = opened.properties["slq.classes"];
    if (network) await slq.close(network.network);
    network = { ...opened, shape, how, classes: classes?.split("\n") };
    const held = `${size(opened.packed_bytes)} of it codes in memory`;
    const said = how.assumed ? " The file does not say how pictures are prepared: ImageNet's usual mean and deviation are assumed." : "";
    get("network").textContent = `${file.name}: ${size(opened.file_bytes)}, ${held}, opened in ${time(opened.ms)}.${said}`;
  }

  async function recognise() {
    const { values, view } = prepare(bitmap, network.shape, network.how);
    const shown = get("view");
    [shown.width, shown.height, shown.hidden] = [view.width, view.height, false];
    shown.getContext("2d").drawImage(view, 0, 0);
    const result = await slq.run(network.network, network.shape, values);
    const shares = probabilities(result.values);
    const best = shares.map((p, i) => [p, i]).sort((a, b) => b[0] - a[0]).slice(0, 5);
    get("answer").replaceChildren(...best.map(([p, i]) => {
      const item = document.createElement("li");
      item.textContent = `${network.classes?.[i] ?? `class ${i}`}: ${(100 * p).toFixed(1)} %`;
      return item;
    }));
    get("time").textContent = `answered in ${time(result.ms)}`;
  }

  async function take(files) {
    get("error").textContent = "";
    try {
      for (const file of files) {
        if (/\.(slq|onnx)$/i.test(file.name)) {
          await openNetwork(file).catch((error) => { throw new Error(`${file.name}: ${error.message}`); });
        }
        else {
          bitmap = await createImageBitmap(file).catch(() => {
            throw new Error(`${file.name} is neither a network (.slq, .onnx) nor a picture that the browser reads`);
          });
        }
      }
      if (network && bitmap) await recognise();
    } catch (error) {
      get("error").textContent = error.message;
    }
  }
  onFiles(get("drop"), get("files"), take);
}
