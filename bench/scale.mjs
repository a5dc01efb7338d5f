// `npm run bench:scale`: what a registry's size costs. Registries of several sizes are generated, indexed and served side by side; publishing, searching and
// starting are measured in turns, and compared with the smallest. `node bench/scale.mjs [options]`:
//   --sizes N,…        packages of each registry, the smallest first (1000,100000,200000)
//   --rounds N         turns of each registry (7)
//   --publishes N      publishes of a turn, one after another (40)
//   --searches N       searches of a turn, one after another (60)
//   --profile NAME     how the addon is built (release)
//   --json FILE        writes everything that was measured
//   --markdown FILE    writes the report, e.g. bench/SCALE.md
import { mkdir, rm, writeFile } from 'node:fs/promises';
import { mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { run, startServer } from '../__test__/support/process.mjs';
import { sandbox } from '../__test__/support/sandbox.mjs';
import { build } from '../scripts/build.mjs';
import { nodeModules } from '../scripts/lib/node-modules.mjs';
import { cli } from '../scripts/lib/paths.mjs';
import { say, script, StepError } from '../scripts/lib/run.mjs';
import { machine } from './lib/machine.mjs';
import { get } from './lib/get.mjs';
import { requests, send } from './lib/publish.mjs';
import { percentile, spread } from './lib/stats.mjs';

/** What a package is made of: descriptions and names that searches find some of. */
const WORDS = 'parser server client stream buffer array promise router logger config theme widget plugin loader bundler linter runner reporter adapter driver cache queue worker socket proxy token schema model query index chart table form modal button slider editor viewer player picker tree graph matrix vector number string date time color font icon image audio video file folder path archive zip hash crypto cookie session auth user mail push event signal timer'.split(' ');
const SCOPES = ['', '', '', '@acme/', '@tools/', '@ui/'];

/** What is allowed: against the smallest registry. */
const TARGETS = { publish: 1.1, search: 3, start: 1.5 };

await script(async () => {
  const options = readOptions();
  await nodeModules({ dev: true });
  await build(options.profile);
  const box = await sandbox('scale');
  const registries = [];
  try {
    for (const size of options.sizes) registries.push(await make(box, size));
    for (let round = 0; round < options.rounds; round += 1) {
      say(`round ${round + 1} of ${options.rounds}`);
      for (const registry of registries) await turn(registry, round, options);
    }
    const results = { date: new Date().toISOString().slice(0, 16), machine: await machine(), options, registries: registries.map(({ size, measured }) => ({ size, measured })) };
    if (options.json) await writeFile(options.json, `${JSON.stringify(results, undefined, 1)}\n`);
    const report = markdown(results);
    if (options.markdown) await writeFile(options.markdown, report);
    console.log(report);
  } finally {
    await Promise.all(registries.map((registry) => registry.server?.stop()));
    await box.remove();
  }
});

function readOptions() {
  const { values } = parseArgs({
    options: { sizes: { type: 'string', default: '1000,100000,200000' }, rounds: { type: 'string', default: '7' }, publishes: { type: 'string', default: '40' }, searches: { type: 'string', default: '60' }, profile: { type: 'string', default: 'release' }, json: { type: 'string' }, markdown: { type: 'string' } },
  });
  const number = (name) => {
    const value = Number(values[name]);
    if (!Number.isInteger(value) || value < 1) throw new StepError(`--${name} is a number`);
    return value;
  };
  const sizes = values.sizes.split(',').map(Number);
  if (sizes.some((size) => !Number.isInteger(size) || size < 10)) throw new StepError('--sizes is a list of numbers');
  return { ...values, sizes, rounds: number('rounds'), publishes: number('publishes'), searches: number('searches') };
}

/** Numbers that are the same in every run. */
function* random(seed) {
  let state = seed >>> 0;
  for (;;) {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    yield state;
  }
}

/** A folder with so many packages as another program has left them: packuments, and no index. */
async function generate(folder, size) {
  const numbers = random(size);
  const word = () => WORDS[numbers.next().value % WORDS.length];
  for (let i = 0; i < size; i += 1) {
    const name = `${SCOPES[numbers.next().value % SCOPES.length]}${word()}-${word()}-${i.toString(36)}`;
    const version = `${1 + (i % 9)}.${i % 20}.0`;
    const manifest = {
      name, version, description: `A ${word()} for ${word()} and ${word()}, with ${word()}`, keywords: [word(), word()], license: 'MIT',
      author: { name: `${word()} ${word()}` }, dist: { shasum: (i + 1).toString(16).padStart(40, '0'), tarball: `http://registry.example.com/npm/${name}/-/x.tgz` },
    };
    const time = new Date(1.6e12 + i * 1e5).toISOString();
    const packument = { name, 'dist-tags': { latest: version }, versions: { [version]: manifest }, time: { created: time, modified: time, [version]: time }, maintainers: [{ name: word(), email: '' }] };
    const place = join(folder, 'npm', 'packages', name);
    mkdirSync(place, { recursive: true });
    writeFileSync(join(place, 'index.json'), JSON.stringify(packument));
  }
}

/** Generates a registry, lets it index itself, and starts it. */
async function make(box, size) {
  const folder = join(box.dir, `data-${size}`);
  await mkdir(folder, { recursive: true });
  say(`generating ${size} packages`);
  await generate(folder, size);
  const registry = { size, folder, box, measured: { index: 0, publish: [], requests: [], search: [], firstSearch: [], start: [] } };
  const command = async (args, input) => (await run([process.execPath, cli, ...args, '--data', folder], { cwd: box.dir, env: box.env, input, seconds: 900 })).ok();
  await command(['user', 'add', 'bench', '--password-stdin'], 'bench password\n');
  registry.token = (await command(['token', 'create', '--user', 'bench', '--protocol', 'npm'])).stdout.trim();
  const began = performance.now();
  await start(registry);
  for (;;) {
    const { body } = await get(registry.server.port, '/npm/-/v1/search?text=&size=1');
    if (JSON.parse(body).total === size) break;
    await new Promise((done) => setTimeout(done, 250));
  }
  registry.measured.index = (performance.now() - began) / 1000;
  say(`indexed ${size} packages in ${registry.measured.index.toFixed(1)} s`);
  return registry;
}

/** Starts it; seconds until it says that it listens. */
async function start(registry) {
  const began = performance.now();
  const { box, folder, size } = registry;
  const server = await startServer([process.execPath, cli, 'serve', '--port', '0', '--data', folder], { cwd: box.dir, env: { ...box.env, NODE_ENV: 'production' }, ready: /listening on http:\/\/127\.0\.0\.1:(\d+)/, seconds: 600 });
  registry.server = { name: `${size} packages`, port: Number(server.match[1]), stop: server.stop };
  return (performance.now() - began) / 1000;
}

async function timed(work) {
  const began = performance.now();
  await work();
  return performance.now() - began;
}

async function storeRequests(port) {
  const { body } = await get(port, '/-/metrics');
  const counts = [...body.toString().matchAll(/^smartregistry_storage_requests_total(?:\{[^}]*\})? (\d+)$/gm)];
  if (counts.length === 0) throw new StepError('the metrics do not say how many requests the store got');
  return counts.reduce((sum, [, count]) => sum + Number(count), 0);
}

/** One turn: a fresh start, a first search, publishes, searches. */
async function turn(registry, round, { publishes, searches }) {
  const { measured, size, token } = registry;
  await registry.server.stop();
  measured.start.push(await start(registry));
  const { port } = registry.server;
  const search = async (text) => {
    const { status } = await get(port, `/npm/-/v1/search?text=${encodeURIComponent(text)}&size=20`);
    if (status !== 200) throw new StepError(`a search was answered with ${status}`);
  };
  measured.firstSearch.push(await timed(() => search('parser')));
  const list = await requests(publishes + 5, `published-${size}-${round}`, 2000, token);
  // The first ones read what a process reads once.
  await send(registry.server, list.slice(0, 5), { connections: 1, seconds: 60 });
  const before = await storeRequests(port);
  const { latencies } = await send(registry.server, list.slice(5), { connections: 1, seconds: 120 });
  measured.requests.push(((await storeRequests(port)) - before) / latencies.length);
  measured.publish.push(...latencies);
  // What was published since the index was last asked is entered by the first that asks.
  await search('token');
  const numbers = random(round);
  const word = () => WORDS[numbers.next().value % WORDS.length];
  for (let i = 0; i < searches; i += 1) {
    const text = i % 3 === 0 ? word() : i % 3 === 1 ? `${word()} ${word()}` : `keywords:${word()} ${word().slice(0, 4)}`;
    measured.search.push(await timed(() => search(text)));
  }
}

function markdown({ date, machine: { cores, cpu, memory, kernel }, options, registries }) {
  const [least] = registries;
  const middle = (list) => spread(list).median;
  const figures = ({ measured }) => ({
    requests: middle(measured.requests), publish: middle(measured.publish), search: percentile(measured.search, 0.99), searchMedian: middle(measured.search), start: middle(measured.start), first: middle(measured.firstSearch), index: measured.index,
  });
  const base = figures(least);
  const rows = registries.map((registry) => {
    const own = figures(registry);
    const beside = (name, digits = 2) => `${own[name].toFixed(digits)} (${(own[name] / base[name]).toFixed(2)})`;
    return [registry.size.toLocaleString('en-US'), own.requests.toFixed(2), beside('publish'), beside('searchMedian'), beside('search'), beside('start'), own.first.toFixed(0), own.index.toFixed(1)];
  });
  const head = ['packages', 'store requests per publish', 'publish, ms', 'search, ms', 'search p99, ms', 'start, s', 'first search, ms', 'first indexing, s'];
  const table = [head, head.map(() => '---'), ...rows].map((row) => `| ${row.join(' | ')} |`).join('\n');
  const verdicts = registries.slice(1).map((registry) => {
    const own = figures(registry);
    const say = (name, key) => `${name} ${(own[key] / base[key]).toFixed(2)} of at most ${TARGETS[key]}`;
    return `- ${registry.size.toLocaleString('en-US')} packages: ${say('publish', 'publish')}, ${say('search p99', 'search')}, ${say('start', 'start')}; store requests per publish ${own.requests === base.requests ? 'the same' : 'not the same'}`;
  });
  return `# What size costs

Made by \`npm run bench:scale\`; one client, one request after another, over the local folder; medians of ${options.rounds} turns that alternate between the registries; in brackets the
ratio to the smallest. The first search of a process loads the index; the first indexing is of a bucket that another program has filled.

${table}

${verdicts.join('\n')}

${date.replace('T', ' ')} UTC; ${cores} cores, ${cpu}, ${memory} GiB, ${kernel}; addon built as \`${options.profile}\`.
`;
}
