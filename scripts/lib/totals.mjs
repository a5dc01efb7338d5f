// Adds up what the test runners say about themselves.

/** Counts of passed, failed and skipped tests. */
export const zero = () => ({ passed: 0, failed: 0, skipped: 0 });

export function add(a, b) {
  return { passed: a.passed + b.passed, failed: a.failed + b.failed, skipped: a.skipped + b.skipped };
}

/** Reads every `test result: ok. 5 passed; 0 failed; 1 ignored; 0 measured; 2 filtered out; …` of cargo. */
export function cargoTotals(output) {
  let sum = zero();
  for (const [, passed, failed, ignored, left] of output.matchAll(/^test result: \w+\. (\d+) passed; (\d+) failed; (\d+) ignored; \d+ measured; (\d+) filtered out/gm)) {
    sum = add(sum, { passed: Number(passed), failed: Number(failed), skipped: Number(ignored) + Number(left) });
  }
  return sum;
}

/** Reads the closing lines of Node's test runner (`# pass 5` in TAP, `ℹ pass 5` in the spec reporter). */
export function nodeTotals(output) {
  const count = (word) => Number(output.match(new RegExp(`^(?:#|ℹ) ${word} (\\d+)$`, 'm'))?.[1] ?? 0);
  return { passed: count('pass'), failed: count('fail') + count('cancelled'), skipped: count('skipped') + count('todo') };
}

export function line({ passed, failed, skipped }) {
  return `${passed} passed, ${failed} failed${skipped ? `, ${skipped} skipped` : ''}`;
}
