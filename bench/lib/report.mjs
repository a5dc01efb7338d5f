// The figures as tables, in Markdown: the same text on the terminal and in RESULTS.md.
import { cost, ratios, spread } from './stats.mjs';
import { descriptions } from './servers.mjs';
import { verdicts } from './targets.mjs';

const MB = 1 << 20;

/** Cores that other programs may keep busy before the clock tells more of them than of us. */
const QUIET = 0.2;

/** What each of ours is compared with in its table, first the one that its target names. */
const peers = ['nginx', 'nodeMemory', 'nodeWeb', 'nodeFile', 'nodePut', 'nodePutFsync'];

/** Digits that mean something. */
function number(value) {
  if (value >= 1000) return Math.round(value).toLocaleString('en-US');
  return value >= 100 ? value.toFixed(0) : value >= 10 ? value.toFixed(1) : value.toFixed(2);
}

const range = ({ median, min, max }, print = number) => (min === max ? print(median) : `${print(median)} (${print(min)}–${print(max)})`);
const ratio = (value) => value.toFixed(2);

function table(head, rows) {
  const widths = head.map((_, column) => Math.max(3, ...[head, ...rows].map((row) => row[column].length)));
  const line = (row) => `| ${row.map((cell, column) => cell.padEnd(widths[column])).join(' | ')} |`;
  return [line(head), line(widths.map((width) => '-'.repeat(width))), ...rows.map(line)].join('\n');
}

/** Wanted and measured. */
export function targetsTable({ scenarios }) {
  const rows = verdicts(scenarios).map(({ scenario, ours, peer, least, ratio: measured, thrift, met }) => [
    scenarios[scenario].title, `${ours} / ${peer}`, `≥ ${least.toFixed(2)}`, range(measured, ratio), met ? 'met' : 'missed', range(thrift, ratio),
  ]);
  return table(['scenario', 'speed of', 'target', 'measured', '', 'by CPU'], rows);
}

/** One scenario: a line for each server. */
export function scenarioTable({ title, unit, per, samples }) {
  const names = Object.keys(samples);
  const compared = peers.filter((peer) => names.includes(peer));
  const rows = names.map((name) => {
    const of = (pick) => spread(samples[name].map(pick));
    const latency = samples[name][0].p99 === undefined ? number(of(({ p50 }) => p50).median) : `${number(of(({ p50 }) => p50).median)} / ${number(of(({ p99 }) => p99).median)}`;
    return [
      name,
      range(of(({ score }) => score)),
      ...compared.map((peer) => (peer === name ? '1' : range(ratios(samples, name, peer), ratio))),
      number(of(cost).median * 1e6),
      latency,
      number(of(({ peak }) => peak).median / MB),
    ];
  });
  const head = [title, unit, ...compared.map((peer) => `of ${peer}`), `CPU µs per ${per}`, 'ms p50 / p99', 'peak MB'];
  return table(head, rows);
}

/** The whole of RESULTS.md. */
export function markdown(results) {
  const { machine, run, scenarios } = results;
  const used = Object.keys(descriptions).filter((name) => Object.values(scenarios).some(({ samples }) => samples[name]));
  const others = spread(Object.values(scenarios).flatMap(({ samples }) => Object.values(samples).flat().map((sample) => sample.others)));
  return `# Results

Made by \`${run.command}\`; [bench/](.) is how. Speeds compare only within a run.

${table(['', ''], [
    ['date', run.date],
    ['machine', `${machine.cores} cores, ${machine.cpu}, ${machine.memory} GB`],
    ['system', machine.kernel],
    ['programs', Object.entries(machine.programs).map(([name, version]) => `${name} ${version}`).join(', ')],
    ['addon', `profile \`${run.profile}\``],
    ['rounds', `${run.rounds}, GETs for ${run.seconds} s each`],
    ['cores kept busy by other programs', `${ratio(others.median)} in the median sample, ${ratio(others.max)} at most`],
  ])}

${others.median > QUIET ? `**Other programs kept ${ratio(others.median)} of ${machine.cores} cores busy in the median sample: the speeds of this run, and what they meet or miss, are not to be relied on;
the CPU figures are.**\n\n` : ''}## Targets

Ratios of speed within a round: the median of the rounds, and the lowest and highest. "By CPU" is the ratio of the work done per second of CPU: what the speeds
would compare as if nothing but the server's own work held them back.

${targetsTable(results)}

## Figures

Speeds and ratios are medians of the rounds (lowest–highest); CPU is that of the server's processes, user and system; peak is their resident memory,
file pages that they share included.

${Object.values(scenarios).map(scenarioTable).join('\n\n')}

## Servers

${table(['name', 'what it is'], used.map((name) => [name, descriptions[name]]))}

## How it is measured

- All servers run at the same time on 127.0.0.1, and one is asked at a time. In each round every server of a scenario is measured once, the order moves on
  by one from round to round, and a ratio is taken between samples of the same round.
- **The load runs on the same cores.** \`wrk\` has one thread and ${scenarios['packument-10k']?.connections ?? 32} connections (4 for 64 MB). Where a server is faster than one thread of it can ask, that thread
  is what is measured: look at the CPU per request then, which is also what noise disturbs least.
- Ours stores in a local folder with \`durability: 'full'\`: every write is answered when it is on the disk. \`nodePut\` does not do that; \`nodePutFsync\` does. The
  targets are against \`nodePut\`; like with like are \`listener\` and \`nodePutFsync\`, \`listenerRelaxed\` and \`nodePut\`.
- A push is what \`curl\` tells for all of its requests: POST, PUT, or POST, PATCH in chunks, PUT. The floor gets the same bytes in the same form in one request. Each
  sample has other bytes, and what the former left to be written is on the disk before it begins.
- A publish has a tarball of 10 KB; each makes a new package. The floor parses the document, decodes the tarball, checks its SHA-512, and writes it and an \`index.json\`.
- Every answer that is asked for once is compared byte by byte beforehand, on every server; an error under load, a wrong status or a wrong number of bytes ends
  the run.
`;
}
