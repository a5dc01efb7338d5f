// `npm test`: builds and installs what is missing and runs every test. `node scripts/test.mjs [core|js|clients|drills]…` runs parts.
// The last line on stdout is the sum: `N passed, N failed`.
import { existsSync } from 'node:fs';
import { readdir } from 'node:fs/promises';
import { availableParallelism } from 'node:os';
import { join } from 'node:path';
import { storages } from '../__test__/support/registry.mjs';
import { missingRgw, sharedVariable, startS3 } from '../__test__/support/s3.mjs';
import { tokenServers, urlVariable } from '../__test__/support/token-servers.mjs';
import { build } from './build.mjs';
import { client, clientNames, isLazy } from './clients.mjs';
import { nodeModules } from './lib/node-modules.mjs';
import { cargoTarget, root } from './lib/paths.mjs';
import { run, say, script, StepError } from './lib/run.mjs';
import { add, cargoTotals, line, nodeTotals, zero } from './lib/totals.mjs';

const parts = { core, js, clients, drills };

/** Without arguments. Drills want the machine for themselves and minutes each: they run by name. */
const usual = ['core', 'js', 'clients'];

/** The parts with tests over Ceph's S3 server, which takes its time to start. */
const overRgw = ['core', 'clients', 'drills'];

await script(async () => {
  const asked = process.argv.slice(2);
  for (const name of asked) {
    if (!parts[name]) throw new StepError(`there is no part ${name} of the tests; there are ${Object.keys(parts).join(', ')}`);
  }
  const names = asked.length ? asked : usual;
  await nodeModules({ dev: true });
  const env = { ...process.env, CARGO_TARGET_DIR: cargoTarget };
  const servers = [];
  let total = zero();
  try {
    await lendS3(env, servers, names);
    if (names.includes('core')) await lendTokenServers(env, servers);
    for (const name of names) {
      const started = Date.now();
      const result = await parts[name](env);
      say(`${name}: ${line(result)} in ${Math.round((Date.now() - started) / 1000)} s`);
      total = add(total, result);
    }
  } finally {
    await Promise.all(servers.map((server) => server.stop()));
  }
  if (total.passed === 0 && total.failed === 0) throw new StepError('no test ran');
  if (env[missingRgw]) say(`skipped: every test over Ceph's S3 server, since ${env[missingRgw]}`);
  console.log(line(total));
  return total.failed ? 1 : 0;
});

/** One server of each kind serves all tests of the run: each test takes a bucket of its own. */
async function lendS3(env, servers, names) {
  const kinds = ['moto', 'smarts3'];
  if (names.some((name) => overRgw.includes(name)) && (await rgwInstalls(env))) kinds.push('rgw');
  const lend = async (kind) => {
    const server = await startS3(kind);
    servers.push(server);
    env[sharedVariable(kind)] = JSON.stringify(server.descriptor);
  };
  const failed = (await Promise.allSettled(kinds.map(lend))).find(({ status }) => status === 'rejected');
  if (failed) throw failed.reason;
}

/** The behaviour suite of the token stores runs over each of them, with a schema or a database number for each test. */
async function lendTokenServers(env, servers) {
  for (const [kind, start] of Object.entries(tokenServers)) {
    const server = await start();
    servers.push(server);
    env[urlVariable(kind)] = server.url;
  }
}

/** Ceph's packages are Debian's. Where they do not install, its tests are left out, each counted as skipped, and the run says why. */
async function rgwInstalls(env) {
  try {
    await client('rgw');
    return true;
  } catch (error) {
    if (!(error instanceof StepError)) throw error;
    env[missingRgw] = error.message.split('\n')[0];
    say(`!!! Ceph's S3 server is not here, and no test runs over it: ${error.message}`);
    return false;
  }
}

/** The core and the S3 and local backends, without Node. */
async function core(env) {
  say('testing the core');
  const args = ['test', '--locked', '--no-default-features', '--features', 's3-tests', '--no-fail-fast'];
  if (env[missingRgw]) args.push('--', '--skip', 'rgw_');
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
  env = { SMARTREGISTRY_TEST_STORAGES: storages.join(), ...env };
  return nodeTest(env, await specs('__test__/clients'), { concurrency: availableParallelism() });
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
