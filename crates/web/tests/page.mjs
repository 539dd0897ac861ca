// The page in headless Chromium: draws a digit, compresses an ONNX file, compares with onnxruntime-web, recognises a picture, and
// shows errors.
//   node page.mjs PAGE PACKAGES CHROMIUM MODEL.onnx
import assert from "node:assert/strict";
import { existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { createServer } from "node:http";
import { createRequire } from "node:module";
import { tmpdir } from "node:os";
import { extname, join, normalize, resolve } from "node:path";

const [folder, packages, chromium, model] = process.argv.slice(2);
const require = createRequire(resolve(packages, "node_modules/"));
const { chromium: browserType } = require("playwright-core");

const types = { ".html": "text/html", ".js": "text/javascript", ".mjs": "text/javascript", ".css": "text/css", ".wasm": "application/wasm" };
const server = createServer((request, response) => {
  const path = join(folder, normalize(new URL(request.url, "http://x").pathname).replace(/\/$/, "/index.html"));
  if (!existsSync(path)) return response.writeHead(404).end();
  response.writeHead(200, { "content-type": types[extname(path)] ?? "application/octet-stream" }).end(readFileSync(path));
});
await new Promise((done) => server.listen(0, "127.0.0.1", done));

const profile = mkdtempSync(join(tmpdir(), "slq-chromium-"));
const browser = await browserType.launchPersistentContext(profile, {
  executablePath: chromium,
  headless: true,
  viewport: { width: 1100, height: 1000 },
  colorScheme: "light",
  args: ["--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync"],
});

const shots = process.env.SCREENSHOTS;
if (shots) mkdirSync(shots, { recursive: true });
const shot = (page, name) => shots && page.screenshot({ path: join(shots, `${name}.png`), fullPage: true });

try {
  const page = await browser.newPage();
  page.setDefaultTimeout(120_000);
  const problems = [];
  page.on("pageerror", (error) => problems.push(error.message));
  page.on("console", (message) => message.type() === "error" && problems.push(message.text()));
  await page.goto(`http://127.0.0.1:${server.address().port}/`);
  await page.waitForSelector("#digit[data-ready=yes]");
  assert.match(await page.textContent("#about"), /kernels: simd128/);

  // Digits as strokes on the pad of 280 x 280.
  const digits = {
    1: [[[140, 50], [140, 230]]],
    7: [[[80, 60], [200, 60], [130, 230]]],
    0: [Array.from({ length: 25 }, (_, i) => [140 + 60 * Math.sin(i * Math.PI / 12), 140 - 85 * Math.cos(i * Math.PI / 12)])],
    3: [[[90, 65], [140, 50], [185, 75], [180, 110], [130, 132], [185, 155], [192, 195], [145, 228], [88, 212]]],
  };
  const draw = async (digit) => {
    await page.locator("#pad").scrollIntoViewIfNeeded();
    await page.click("#digit-clear");
    assert.equal(await page.textContent("#digit-answer"), "?");
    const box = await page.locator("#pad").boundingBox();
    for (const [first, ...rest] of digits[digit]) {
      await page.mouse.move(box.x + first[0], box.y + first[1]);
      await page.mouse.down();
      for (const [x, y] of rest) await page.mouse.move(box.x + x, box.y + y, { steps: 4 });
      await page.mouse.up();
    }
    await page.waitForFunction((d) => document.getElementById("digit-answer").textContent === d, digit);
    assert.match(await page.textContent("#digit-time"), /answered in [\d.]+ ms/);
  };
  for (const digit of Object.keys(digits)) await draw(digit);
  console.log(`page: digits ${Object.keys(digits).join(", ")} recognised, the last ${await page.textContent("#digit-time")}`);

  // What is no network and no picture is an error, and the page goes on.
  await page.setInputFiles("#compress-file", { name: "bad.onnx", mimeType: "", buffer: Buffer.from("hello") });
  await page.waitForFunction(() => document.getElementById("compress-error").textContent !== "");
  await page.setInputFiles("#picture-files", { name: "bad.png", mimeType: "image/png", buffer: Buffer.from("hello") });
  await page.waitForFunction(() => document.getElementById("picture-error").textContent.includes("neither"));
  const whole = readFileSync(join(folder, "lenet.slq"));
  for (const length of [0, 3, 20, whole.length / 2 | 0, whole.length - 1]) {
    const name = `cut${length}.slq`;
    await page.setInputFiles("#picture-files", { name, mimeType: "", buffer: whole.subarray(0, length) });
    await page.waitForFunction((n) => document.getElementById("picture-error").textContent.startsWith(`${n}: `), name);
  }
  // A module that stops in the middle is replaced, with the networks that are open.
  const stopped = await page.evaluate(() => import("./slq.js").then((slq) => slq.open({ length: 0xffffffff })).catch((e) => e.message));
  assert.match(stopped, /^the module stopped .*; it starts anew$/);
  await draw("7");

  await page.selectOption("#bits", "4");
  await page.setInputFiles("#compress-file", model);
  await page.waitForSelector("#compress-result:not([hidden])");
  assert.equal(await page.textContent("#compress-error"), "");
  assert.equal(await page.locator("#layers tbody tr").count(), 4);
  const sizes = await page.textContent("#sizes");
  assert.match(sizes, /times smaller/);
  const saved = [];
  for (const id of ["save-onnx", "save-slq"]) {
    const [download] = await Promise.all([page.waitForEvent("download"), page.click(`#${id}`)]);
    const path = join(profile, download.suggestedFilename());
    await download.saveAs(path);
    saved.push(path);
  }
  assert.deepEqual(saved.map((p) => extname(p)), [".onnx", ".slq"]);
  const [onnx, slq] = saved.map((p) => readFileSync(p));
  assert.ok(slq.length < onnx.length && onnx.length * 7 < readFileSync(model).length, `${onnx.length}, ${slq.length}`);
  assert.deepEqual([...slq.subarray(1, 4)], [...Buffer.from("SLQ")]);

  if (existsSync(join(folder, "ort"))) {
    await page.click("#compare");
    await page.waitForFunction(() => document.getElementById("compare-result").dataset.equal !== undefined);
    const text = await page.textContent("#compare-result");
    assert.equal(await page.getAttribute("#compare-result", "data-equal"), "true", text);
    console.log(`page: ${text}`);
  } else {
    console.log("SKIPPED page beside onnxruntime-web: it is not beside the page");
  }

  // A network and a picture: the container that was saved, and the last drawing, a 7.
  const png = Buffer.from((await page.evaluate(() => document.getElementById("pad").toDataURL("image/png"))).split(",")[1], "base64");
  const picture = join(profile, "seven.png");
  writeFileSync(picture, png);
  await page.setInputFiles("#picture-files", [saved[1], picture]);
  await page.waitForFunction(() => document.querySelector("#picture-answer li"));
  assert.equal(await page.textContent("#picture-error"), "");
  assert.match(await page.textContent("#picture-answer li"), /^class 7: /);

  // A network and a picture of one's own: NETWORK=net.slq PICTURE=picture.jpg.
  const { NETWORK, PICTURE } = process.env;
  if (NETWORK && PICTURE) {
    await page.evaluate(() => document.getElementById("picture-answer").replaceChildren());
    await page.setInputFiles("#picture-files", [NETWORK, PICTURE]);
    await page.waitForFunction(() => document.querySelector("#picture-answer li") || document.getElementById("picture-error").textContent);
    assert.equal(await page.textContent("#picture-error"), "");
    const [best, took, opened] = await Promise.all(["answer li", "time", "network"].map((id) => page.textContent(`#picture-${id}`)));
    console.log(`page: ${best}; ${took}; ${opened}`);
  }

  await shot(page, "light");
  await page.emulateMedia({ colorScheme: "dark" });
  await shot(page, "dark");
  await page.setViewportSize({ width: 400, height: 800 });
  await shot(page, "narrow");
  assert.ok(await page.evaluate(() => document.documentElement.scrollWidth <= innerWidth), "no sideways scrolling on a phone");
  assert.deepEqual(problems, []);
  console.log("page: compressed, saved, compared, recognised a picture; no errors in the console");
} finally {
  await browser.close();
  server.close();
  rmSync(profile, { recursive: true, force: true });
}
