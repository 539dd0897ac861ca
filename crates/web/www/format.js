// Numbers as people read them.

export function size(bytes) {
  if (bytes < 1000) return `${bytes} B`;
  const [value, unit] = bytes < 1e6 ? [bytes / 1e3, "KB"] : [bytes / 1e6, "MB"];
  return `${value < 10 ? value.toFixed(2) : value < 100 ? value.toFixed(1) : value.toFixed(0)} ${unit}`;
}

export const time = (ms) => (ms < 10 ? `${ms.toFixed(2)} ms` : ms < 1000 ? `${ms.toFixed(0)} ms` : `${(ms / 1000).toFixed(1)} s`);

export function softmax(scores) {
  const most = Math.max(...scores);
  const parts = Array.from(scores, (s) => Math.exp(s - most));
  const sum = parts.reduce((a, b) => a + b, 0);
  return parts.map((p) => p / sum);
}

/** Probabilities: scores that are probabilities already stay. */
export function probabilities(scores) {
  const sum = scores.reduce((a, b) => a + b, 0);
  const already = scores.every((s) => s >= 0) && Math.abs(sum - 1) < 1e-3;
  return already ? Array.from(scores) : softmax(scores);
}
