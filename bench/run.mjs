// `npm run bench`: ours and its peers, measured in one run. `node bench/run.mjs [options]`:
//   --only name,…      scenarios (lib/scenarios.mjs); all of them otherwise
//   --rounds N         samples of each server per scenario (5)
//   --seconds N        length of a sample of GETs or publishes (4)
//   --profile NAME     how the addon is built (release)
//   --quick            one short round, to see that it works; its figures mean nothing
//   --json FILE        writes everything that was measured
//   --markdown FILE    writes the report, e.g. bench/RESULTS.md
//   --from FILE        measures nothing: takes what --json wrote
import { rmSync } from 'node:fs';
import { readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { run } from '../__test__/support/process.mjs';
import { startRegistry } from '../__test__/support/registry.mjs';
import { basicAuth } from '../__test__/support/wire.mjs';
import { build } from '../scripts/build.mjs';
import { client } from '../scripts/clients.mjs';
import { nodeModules } from '../scripts/lib/node-modules.mjs';
import { say, script, StepError } from '../scripts/lib/run.mjs';
import { machine } from './lib/machine.mjs';
import { markdown, scenarioTable, targetsTable } from './lib/report.mjs';
import { scenarios } from './lib/scenarios.mjs';
import { seed } from './lib/seed.mjs';
import { startBeside } from './lib/servers.mjs';
import { watch } from './lib/usage.mjs';

// Servers are ended when this process exits, which it would not do in order on a signal.
for (const name of ['SIGINT', 'SIGTERM']) process.on(name, () => process.exit(1));

await script(async () => {
  const options = readOptions();
  const results = options.from ? JSON.parse(await readFile(options.from, 'utf8')) : await measureAll(options);
  if (options.json) await writeFile(options.json, `${JSON.stringify(results, undefined, 1)}\n`);
  if (options.markdown) await writeFile(options.markdown, markdown(results));
  for (const scenario of Object.values(results.scenarios)) console.log(`${scenarioTable(scenario)}\n`);
  console.log(targetsTable(results));
});

function readOptions() {
  const { values } = parseArgs({
    options: {
      only: { type: 'string' },
      rounds: { type: 'string' },
      seconds: { type: 'string' },
      profile: { type: 'string', default: 'release' },
      quick: { type: 'boolean', default: false },
      json: { type: 'string' },
      markdown: { type: 'string' },
      from: { type: 'string' },
    },
  });
  const count = (name, usual, most) => {
    const value = Number(values[name] ?? usual);
    if (!Number.isInteger(value) || value < 1 || value > most) throw new StepError(`--${name} is a number from 1 to ${most}`);
    return value;
  };
  const names = values.only?.split(',') ?? Object.keys(scenarios);
  for (const name of names) {
    if (!scenarios[name]) throw new StepError(`no scenario is called ${name}; there are ${Object.keys(scenarios).join(', ')}`);
  }
  if (values.quick && values.markdown) throw new StepError('--quick measures nothing that could be reported');
  return { ...values, names, rounds: count('rounds', values.quick ? 1 : 5, 100), seconds: count('seconds', values.quick ? 1 : 4, 60) };
}

async function measureAll(options) {
  await nodeModules({ dev: true });
  await build(options.profile);
  for (const name of ['nginx', 'wrk', 'curl']) await client(name);
  const date = new Date().toISOString().slice(0, 16).replace('T', ' ');
  const registry = await startRegistry('listener', 'local');
  process.on('exit', () => rmSync(registry.box.dir, { recursive: true, force: true }));
  const servers = new Map();
  try {
    const context = await prepare(registry, options);
    const measured = {};
    for (const name of options.names) measured[name] = await measure(name, servers, context, options);
    const { rounds, seconds, profile, quick } = options;
    return { run: { date: `${date} UTC`, command: commandOf(options), rounds, seconds, profile, quick }, machine: await machine(), scenarios: measured };
  } finally {
    for (const server of servers.values()) await server.stop();
    await registry.stop();
  }
}

/** A user, its tokens, and what is asked for. */
async function prepare(registry, { seconds, quick }) {
  const { box } = registry;
  await registry.addUser('bench', 'bench-password');
  const token = await registry.createToken('bench', 'npm');
  const ociToken = await registry.createToken('bench', 'oci');
  const files = join(box.dir, 'files');
  say('publishing and pushing what is asked for');
  const bytes = await seed({ ...registry, token, basic: basicAuth('bench', ociToken) }, files);
  // What was written before must not be on its way to the disk while something else is measured.
  const settle = async () => (await run(['sync', '--file-system', box.dir], { cwd: box.dir, env: box.env })).ok();
  return { registry, box, files, bytes, token, ociToken, seconds, quick, watch, settle };
}

async function measure(name, servers, context, { rounds }) {
  const { title, unit, per, connections, servers: names, ...scenario } = scenarios[name];
  for (const server of names) {
    if (!servers.has(server)) servers.set(server, await startBeside(server, context));
    await scenario.prepare(servers.get(server), context);
  }
  const samples = Object.fromEntries(names.map((server) => [server, []]));
  for (let round = 0; round < rounds; round += 1) {
    for (let i = 0; i < names.length; i += 1) {
      const server = names[(i + round) % names.length];
      const sample = await scenario.sample(servers.get(server), context);
      samples[server].push(sample);
      say(`${name}, round ${round + 1} of ${rounds}, ${server}: ${Math.round(sample.score)} ${unit}`);
    }
  }
  return { title, unit, per, connections, samples };
}

/** The command as somebody else would type it: files it wrote are no part of what it measured. */
function commandOf({ only, rounds, seconds, profile, quick }) {
  const flags = [
    only && `--only ${only}`,
    !quick && rounds !== 5 && `--rounds ${rounds}`,
    !quick && seconds !== 4 && `--seconds ${seconds}`,
    profile !== 'release' && `--profile ${profile}`,
    quick && '--quick',
  ];
  return ['npm run bench', ...(flags.some(Boolean) ? ['--', ...flags.filter(Boolean)] : [])].join(' ');
}
