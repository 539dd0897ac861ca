// The module in node: its vector kernels against the scalar kernels of the machine that made the fixtures, at every width.
//   node module.mjs slq.wasm FIXTURES
import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { Call, floats, instantiate, json } from "../www/module.js";

const [wasm, fixtures] = process.argv.slice(2);
const module = await instantiate(readFileSync(wasm));
const about = json(module.call(Call.about));
assert.equal(about.isa, "simd128");

const read = (bits, kind) => new Uint8Array(readFileSync(join(fixtures, `${bits}.${kind}`)));
for (let bits = 1; bits <= 8; bits++) {
  const wanted = floats(read(bits, "out"));
  const most = wanted.reduce((m, v) => Math.max(m, Math.abs(v)), 0);
  // 2: every layer packed, 0: small ones are floats, 1: all floats.
  for (const expand of [2, 0, 1]) {
    const { network, packed_bytes } = json(module.call(Call.open, expand, 0, read(bits, "slq")));
    assert.equal(packed_bytes === 0, expand === 1);
    const answer = floats(module.call(Call.run, network, 0, read(bits, "run")));
    assert.equal(answer.length, wanted.length);
    answer.forEach((v, i) => assert.ok(Math.abs(v - wanted[i]) <= 1e-5 * most, `${bits} bits: ${v} for ${wanted[i]}`));
    module.call(Call.close, network);
  }
}

// Errors are texts, and leave the module in order.
for (const [number, argument, text] of [[77, [], /no call/], [Call.open, [1, 2, 3], /neither/], [Call.open, [0x89, 0x53, 0x4c, 0x51], /./]]) {
  assert.throws(() => module.call(number, 0, 0, Uint8Array.from(argument)), text);
}
const damaged = read(4, "slq");
for (let at = 0; at < damaged.length; at += 997) {
  const bytes = damaged.slice();
  bytes[at] ^= 0x55;
  assert.throws(() => module.call(Call.open, 0, 0, bytes), (error) => error instanceof Error && !(error instanceof WebAssembly.RuntimeError));
}

const { network } = json(module.call(Call.open, 2, 0, read(4, "slq")));
const argument = read(4, "run");
for (let i = 0; i < 10; i++) module.call(Call.run, network, 0, argument);
const start = performance.now();
for (let i = 0; i < 50; i++) module.call(Call.run, network, 0, argument);
console.log(`module: 8 widths equal the scalar kernels; LeNet at 4 bits, 3 images: ${((performance.now() - start) / 50).toFixed(2)} ms`);
