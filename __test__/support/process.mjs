// Starts programs for the tests: output kept, time limited, everything ended by its own pid.
import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import { client } from '../../scripts/clients.mjs';

/** More output than this is cut in the middle of a failure message: the first and the last part tell the story. */
const SHOWN = 12_000;

const running = new Set();

// A test file that ends early must not leave its servers behind.
process.on('exit', () => {
  for (const child of running) signal(child, 'SIGKILL');
});

/** Signals the process and, since clients start helpers of their own, its group. */
function signal(child, name) {
  if (child.exitCode !== null || child.signalCode !== null) return;
  try {
    process.kill(-child.pid, name);
  } catch {
    child.kill(name);
  }
}

/** What a finished program left. `output` is stdout and stderr in the order they came. */
export class Finished {
  constructor(fields) {
    Object.assign(this, fields);
  }

  /** The command, how it ended and what it printed, for the message of a failed assertion. */
  describe() {
    const end = this.timedOut ? `was ended after ${this.seconds} s without finishing` : `ended with ${this.signal ?? `code ${this.code}`}`;
    return `${this.line}\n(in ${this.cwd}) ${end}; it printed:\n${shorten(this.output)}`;
  }

  /** Asserts success. */
  ok() {
    assert.equal(this.code, 0, this.describe());
    return this;
  }

  /** Asserts failure, and that the client printed `pattern` for its user. */
  refused(pattern) {
    assert.ok(this.code !== 0 && !this.timedOut, `should have been refused: ${this.describe()}`);
    return this.shows(pattern);
  }

  /** Asserts that the program printed `pattern`. */
  shows(pattern) {
    assert.match(this.output, pattern, this.describe());
    return this;
  }

  /** Asserts that the program did not print `pattern`. */
  hides(pattern) {
    assert.doesNotMatch(this.output, pattern, this.describe());
    return this;
  }

  /** The stdout as JSON. */
  json() {
    try {
      return JSON.parse(this.stdout);
    } catch (error) {
      assert.fail(`not JSON (${error.message}): ${this.describe()}`);
    }
  }
}

/**
 * Runs `argv` to its end. Never rejects for a failing program: ask the result `.ok()` or `.refused(/…/)`.
 *
 * @param {string[]} argv
 * @param {{ cwd: string, env: Record<string, string>, input?: string, answers?: [RegExp, string | ((seen: string) => string | Promise<string>)][], terminal?: boolean, seconds?: number }} options
 *   the environment is used as given: nothing of this process leaks in; `answers` are typed one after another, each when the program has asked for it,
 *   with `terminal` on a pseudo terminal, for programs that ask nobody else
 * @returns {Promise<Finished>}
 */
export async function run(argv, { cwd, env, input, answers, terminal = false, seconds = 90 }) {
  const [command, ...args] = terminal ? [...(await python()), fileURLToPath(new URL('terminal.py', import.meta.url)), ...argv] : argv;
  const line = argv.join(' ');
  return new Promise((done, fail) => {
    const child = spawn(command, args, { cwd, env, detached: true, stdio: [input ?? answers ? 'pipe' : 'ignore', 'pipe', 'pipe'] });
    running.add(child);
    let [stdout, output, timedOut] = ['', '', false];
    const reply = answers && typist(child, answers);
    child.stdout.setEncoding('utf8').on('data', (text) => {
      stdout += text;
      output += text;
      reply?.(text);
    });
    child.stderr.setEncoding('utf8').on('data', (text) => {
      output += text;
      reply?.(text);
    });
    const limit = setTimeout(() => {
      timedOut = true;
      signal(child, 'SIGKILL');
    }, seconds * 1000);
    child.on('error', (error) => {
      clearTimeout(limit);
      running.delete(child);
      fail(new Error(`cannot run ${line}: ${error.message}`));
    });
    child.on('close', (code, name) => {
      clearTimeout(limit);
      running.delete(child);
      done(new Finished({ line, cwd, code, signal: name, stdout, output, timedOut, seconds }));
    });
    child.stdin?.on('error', () => {}); // a client that fails before it reads closes its end
    if (input !== undefined) child.stdin.end(input);
  });
}

/** The Python that moto runs on. */
const python = async () => (await client('moto')).argv;

/** Types each answer when its question has appeared. Clients that ask twice drop what was typed ahead. */
function typist(child, answers) {
  const open = [...answers];
  let seen = '';
  return (text) => {
    seen += text;
    if (!open.length || !open[0][0].test(seen)) return;
    const [, answer] = open.shift();
    // Some answers depend on what was printed, and take their time.
    const said = seen;
    const soon = Promise.resolve().then(() => (typeof answer === 'function' ? answer(said) : answer));
    seen = '';
    const last = !open.length;
    soon.then(
      (line) => {
        child.stdin.write(`${line}\n`);
        if (last) child.stdin.end();
      },
      (error) => {
        signal(child, 'SIGKILL');
        child.emit('error', error);
      },
    );
  };
}

/**
 * Starts a server and waits for the line that says it is ready.
 *
 * @param {string[]} argv
 * @param {{ cwd?: string, env: Record<string, string>, ready?: RegExp, seconds?: number }} options without `ready` the caller finds out by itself
 * @returns {Promise<{ pid: number, match: RegExpMatchArray, log: () => string, runs: () => boolean, stop: (name?: string) => Promise<number | null> }>}
 *   `runs` is false once it has ended by itself or otherwise; `stop` sends SIGTERM or another signal, after ten seconds SIGKILL, and resolves with the
 *   exit code (null when it had to be killed)
 */
export async function startServer(argv, { cwd, env, ready, seconds = 60 }) {
  const [command, ...args] = argv;
  const child = spawn(command, args, { cwd, env, detached: true, stdio: ['ignore', 'pipe', 'pipe'] });
  running.add(child);
  let log = '';
  const closed = new Promise((done) => {
    child.on('close', (code) => {
      running.delete(child);
      done(code);
    });
  });
  const match = await new Promise((done, fail) => {
    if (!ready) child.on('spawn', done);
    const limit = setTimeout(() => {
      signal(child, 'SIGKILL');
      fail(new Error(`${argv.join(' ')} was not ready after ${seconds} s; it printed:\n${shorten(log)}`));
    }, seconds * 1000);
    if (!ready) clearTimeout(limit);
    const take = (text) => {
      log += text;
      const found = ready && log.match(ready);
      if (!found) return;
      clearTimeout(limit);
      done(found);
    };
    child.stdout.setEncoding('utf8').on('data', take);
    child.stderr.setEncoding('utf8').on('data', take);
    child.on('error', (error) => {
      clearTimeout(limit);
      running.delete(child);
      fail(new Error(`cannot run ${argv.join(' ')}: ${error.message}`));
    });
    closed.then((code) => {
      clearTimeout(limit);
      fail(new Error(`${argv.join(' ')} ended with code ${code} before it was ready; it printed:\n${shorten(log)}`));
    });
  });
  const stop = async (name = 'SIGTERM') => {
    signal(child, name);
    const late = setTimeout(() => signal(child, 'SIGKILL'), 10_000);
    const code = await closed;
    clearTimeout(late);
    return code;
  };
  return { pid: child.pid, match, log: () => shorten(log), runs: () => running.has(child), stop };
}

function shorten(text) {
  const clean = text.trim();
  if (clean.length <= SHOWN) return clean || '(nothing)';
  return `${clean.slice(0, SHOWN / 2)}\n… ${clean.length - SHOWN} characters left out …\n${clean.slice(-SHOWN / 2)}`;
}
