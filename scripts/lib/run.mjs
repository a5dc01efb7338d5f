// Runs one step of a script: quiet while it works, its whole output when it fails.
import { spawn } from 'node:child_process';
import { root } from './paths.mjs';

/** A step that failed. Its message already holds everything a reader needs, so scripts print it without a stack. */
export class StepError extends Error {}

/**
 * Runs `command` and resolves with its exit code and output.
 *
 * @param {string} command
 * @param {string[]} args
 * @param {{ cwd?: string, env?: NodeJS.ProcessEnv, input?: string, show?: boolean, allowFailure?: boolean }} [options]
 *   `show` passes the output through as it comes (to stderr, since stdout may belong to the caller);
 *   `allowFailure` resolves for any exit code instead of throwing.
 */
export function run(command, args, { cwd = root, env = process.env, input, show = false, allowFailure = false } = {}) {
  return new Promise((done, fail) => {
    const child = spawn(command, args, { cwd, env, stdio: [input === undefined ? 'ignore' : 'pipe', 'pipe', 'pipe'] });
    let output = '';
    let stdout = '';
    child.stdout.on('data', (chunk) => {
      stdout += chunk;
      output += chunk;
      if (show) process.stderr.write(chunk);
    });
    child.stderr.on('data', (chunk) => {
      output += chunk;
      if (show) process.stderr.write(chunk);
    });
    child.on('error', (error) => fail(new StepError(`cannot run ${command}: ${error.message}`)));
    child.on('close', (code, signal) => {
      if (code === 0 || allowFailure) return done({ code, signal, output, stdout });
      const end = signal ? `was ended by ${signal}` : `failed with exit code ${code}`;
      fail(new StepError(`${[command, ...args].join(' ')} ${end}${show ? '' : `\n${output.trimEnd()}`}`));
    });
    if (input !== undefined) child.stdin.end(input);
  });
}

/** Runs `main` as a script: a failed step prints its message alone, anything else its stack; both end with code 1. */
export async function script(main) {
  try {
    process.exitCode = (await main()) ?? 0;
  } catch (error) {
    process.stderr.write(`${error instanceof StepError ? `error: ${error.message}` : error.stack}\n`);
    process.exitCode = 1;
  }
}

/** One line about what is going on, on stderr. */
export function say(text) {
  process.stderr.write(`${text}\n`);
}
