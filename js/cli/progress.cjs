// How far a long command is: a line that changes on a terminal, a line now and then elsewhere. All of it on stderr: stdout is for the result.
'use strict';

/** How often a log is told, at most. */
const LOG_EVERY = 10_000;

/** @param {{ phase: string, done: number, total?: number }} standing */
function describe({ phase, done, total }) {
  if (total) return `${phase}: ${done} of ${total} (${Math.floor((100 * done) / total)} %)`;
  return done > 0 ? `${phase}: ${done}` : phase;
}

/**
 * Shows progress until `stop()`; `quiet` shows nothing.
 *
 * @param {{ quiet?: boolean, stream?: NodeJS.WriteStream }} [options]
 */
async function progress({ quiet = false, stream = process.stderr } = {}) {
  if (quiet) return { show() {}, stop() {} };
  if (stream.isTTY) {
    const { default: ora } = await import('ora');
    const spinner = ora({ stream, discardStdin: false }).start();
    return { show: (standing) => void (spinner.text = describe(standing)), stop: () => void spinner.stop() };
  }
  let phase;
  let told = 0;
  return {
    show(standing) {
      const now = Date.now();
      if (!standing.phase || (standing.phase === phase && now - told < LOG_EVERY)) return;
      [phase, told] = [standing.phase, now];
      stream.write(`${describe(standing)}\n`);
    },
    stop() {},
  };
}

module.exports = { progress, describe };
