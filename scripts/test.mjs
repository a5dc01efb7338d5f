// `npm test`: builds and installs what is missing and runs every test. `node scripts/test.mjs [core|js|clients|drills]…` runs parts.
// The last line on stdout is the sum: `N passed, N failed`.
import { existsSync } from 'node:fs';
import { readdir } from 'node:fs/promises';
import { availableParallelism } from 'node:os';
import { join } from 'node:path';
import { sharedVariable, startS3 } from '../__test__/support/s3.mjs';
import { build } from './build.mjs';
import { client, clientNames, isLazy } from './clients.mjs';
import { nodeModules } from './lib/node-modules.mjs';
import { cargoTarget, root } from './lib/paths.mjs';
import { run, say, script, StepError } from './lib/run.mjs';
import { add, cargoTotals, line, nodeTotals, zero } from './lib/totals.mjs';

const parts = { core, js, clients, drills };

/** Without arguments. Drills want the machine for themselves and minutes each: they run by name. */
const usual = ['core', 'js', 'clients'];

await script(async () => {
  const asked = process.argv.slice(2);
  for (const name of asked) {
    if (!parts[name]) throw new StepError(`there is no part ${name} of the tests; there are ${Object.keys(parts).join(', ')}`);
  }
  await nodeModules({ dev: true });
  const env = { ...process.env, CARGO_TARGET_DIR: cargoTarget };
  const servers = await lendS3(env);
  let total = zero();
  try {
    for (const name of asked.length ? asked : usual) {
      const started = Date.now();
      const result = await parts[name](env);
      say(`${name}: ${line(result)} in ${Math.round((Date.now() - started) / 1000)} s`);
      total = add(total, result);
    }
  } finally {
    await Promise.all(servers.map((server) => server.stop()));
  }
  if (total.passed === 0 && total.failed === 0) throw new StepError('no test ran');
  console.log(line(total));
  return total.failed ? 1 : 0;
});

/** One moto and one smarts3 serve all tests of the run: each test takes a bucket of its own. */
async function lendS3(env) {
  const servers = [];
  for (const kind of ['moto', 'smarts3']) {
    const server = await startS3(kind);
    env[sharedVariable(kind)] = JSON.stringify(server.descriptor);
    servers.push(server);
  }
  return servers;
}

/** The core and the S3 and local backends, without Node. */
async function core(env) {
  say('testing the core');
  const args = ['test', '--locked', '--no-default-features', '--features', 's3-tests', '--no-fail-fast'];
  const { code, output } = await run('cargo', args, { env, show: true, allowFailure: true });
  return settled(code, cargoTotals(output), 'cargo test');
}

/** The JavaScript side: the contract of the facade, types, streams, exit. */
async function js(env) {
  await build('dev');
  return nodeTest(env, await specs('__test__/api'), { concurrency: 1 });
}

/** Real clients against the listener and an Express app, over every storage. */
async function clients(env) {
  await build('dev');
  for (const name of clientNames) if (!isLazy(name)) await client(name);
  return nodeTest(env, await specs('__test__/clients'), { concurrency: availableParallelism() + 1 });
}

/** Races, kills and memory: each drill wants the machine for itself. */
async function drills(env) {
  await build('dev');
  return nodeTest(env, await specs('__test__/drills'), { concurrency: 1 });
}

async function specs(folder) {
  const path = join(root, folder);
  if (!existsSync(path)) return [];
  return (await readdir(path)).filter((name) => /\.(spec|test)\.[cm]?js$/.test(name)).sort().map((name) => join(path, name));
}

async function nodeTest(env, files, { concurrency }) {
  if (files.length === 0) return zero();
  say(`testing ${files.length} files of ${files[0].slice(root.length + 1).split('/').slice(0, -1).join('/')}`);
  const { NODE_TEST_CONTEXT: _inner, ...clean } = env;
  const args = ['--test', `--test-concurrency=${concurrency}`, '--test-reporter=spec', ...files];
  const { code, output } = await run(process.execPath, args, { env: clean, show: true, allowFailure: true });
  return settled(code, nodeTotals(output), 'node --test');
}

/** A runner that failed without a failed test (a crash, a compile error) counts as one: the sum must not look clean. */
function settled(code, totals, what) {
  if (code === 0 || totals.failed > 0) return totals;
  say(`${what} failed with exit code ${code}`);
  return add(totals, { passed: 0, failed: 1, skipped: 0 });
}
