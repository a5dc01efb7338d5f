// Runs one test file in a process of its own and reads what it says in the Test Anything Protocol.
import { spawn } from 'node:child_process';
import { basename } from 'node:path';
import { Parser } from 'tap-parser';

const register = new URL('register.mjs', import.meta.url).href;

/** How long a file may go on after its last test. Registries and servers that a suite leaves open would keep it for ever. */
const AFTERWARDS = 3000;

/** More of a message than this is no help in a report. */
const SHOWN = 1500;

/**
 * @param {string} file
 * @param {{ cwd: string, env: NodeJS.ProcessEnv, seconds: number, verbose: boolean }} options
 * @returns {Promise<{ outcome: 'passed' | 'failed' | 'unloaded', passed: number, failed: number, skipped: number, message?: string, note?: string }>}
 */
export function runFile(file, { cwd, env, seconds, verbose }) {
  return new Promise((done, fail) => {
    const child = spawn(process.execPath, ['--enable-source-maps', '--import', register, file], { cwd, env, stdio: ['ignore', 'pipe', 'pipe'] });
    const seen = watch();
    let errors = '';
    let [late, left] = [false, false];
    const end = () => child.kill('SIGKILL');
    const limit = setTimeout(() => {
      late = true;
      end();
    }, seconds * 1000);
    let afterwards;
    seen.onComplete(() => {
      afterwards = setTimeout(() => {
        left = true;
        end();
      }, AFTERWARDS);
    });
    child.stdout.on('data', (chunk) => {
      seen.write(chunk);
      if (verbose) process.stderr.write(chunk);
    });
    child.stderr.setEncoding('utf8').on('data', (text) => {
      errors = (errors + text).slice(-64 * 1024);
      if (verbose) process.stderr.write(text);
    });
    child.on('error', fail);
    child.on('close', (code, signal) => {
      clearTimeout(limit);
      clearTimeout(afterwards);
      const ended = left ? undefined : late ? `was ended after ${seconds} s without finishing` : code === 0 ? undefined : `ended with ${signal ?? `code ${code}`}`;
      done(judge(seen.finish(), { file, ended, left, errors }));
    });
  });
}

/** Follows the output: which assertions there were, what was printed after the first failure, and when the plan is fulfilled. */
function watch() {
  const parser = new Parser();
  const state = { plan: undefined, asserts: [], extra: '' };
  let complete = () => {};
  let lines = 0;
  parser.on('plan', ({ start, end }) => (state.plan = end - start + 1));
  parser.on('assert', (assert) => state.asserts.push(assert));
  // The parser tells of an assertion when it knows that no diagnosis follows: of the last one, at the end.
  parser.on('line', (line) => {
    if (/^(not )?ok\b/.test(line)) lines += 1;
    if (state.plan !== undefined && lines >= state.plan) complete();
  });
  // What a framework says of a failure outside of the protocol's own form for it.
  parser.on('extra', (text) => {
    if (!isGood(state.asserts.at(-1) ?? { ok: true }) && state.asserts.filter((assert) => !isGood(assert)).length === 1) state.extra += text;
  });
  return {
    write: (chunk) => parser.write(chunk),
    onComplete: (call) => {
      complete = () => {
        complete = () => {};
        call();
      };
    },
    finish() {
      parser.end();
      return state;
    },
  };
}

const isGood = ({ ok, todo, skip }) => ok || Boolean(todo) || Boolean(skip);

function judge({ plan, asserts, extra }, { file, ended, left, errors }) {
  const bad = asserts.filter((assert) => !isGood(assert));
  const skipped = asserts.filter(({ skip, todo }) => skip || todo).length;
  const counts = { passed: asserts.length - bad.length - skipped, failed: bad.length, skipped };
  const note = left ? 'its process did not end by itself after the last test, and was ended' : undefined;
  if (asserts.length === 0 && !plan) {
    return { outcome: 'unloaded', ...counts, failed: 1, message: shorten(`${ended ?? 'ran no test'}${errors ? `: ${reasonIn(errors)}` : ''}`) };
  }
  if (bad.length) return { outcome: 'failed', ...counts, message: shorten(`${bad[0].name}: ${messageOf(bad[0], extra, file)}`), note };
  // Tests that passed say nothing of those that never came.
  const missing = plan === undefined ? 'has no plan' : asserts.length < plan ? `ran ${asserts.length} of ${plan} tests` : undefined;
  if (missing || ended) {
    const why = [missing, ended].filter(Boolean).join(' and ');
    return { outcome: 'failed', ...counts, failed: 1, message: shorten(errors ? `${why}: ${reasonIn(errors)}` : why) };
  }
  return { outcome: 'passed', ...counts, note };
}

function messageOf({ diag }, extra, file) {
  const error = diag?.error ?? diag;
  const said = error?.message ?? extra.trim();
  const place = String(error?.stack ?? '').match(new RegExp(`${basename(file).replace(/[.+]/g, '\\$&')}:\\d+:\\d+`));
  return `${said || (diag ? JSON.stringify(diag) : 'it says no more')}${place ? ` (${place[0]})` : ''}`;
}

/** The line that names an error, else the last that was printed. */
function reasonIn(errors) {
  const lines = errors.trim().split('\n');
  return lines.find((line) => /^(Uncaught )?[\w.]*Error\b.*:/.test(line.trim())) ?? lines.at(-1);
}

const shorten = (text) => (text.length > SHOWN ? `${text.slice(0, SHOWN)} …` : text);
