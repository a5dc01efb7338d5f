// `gc`: removes what nothing names any more, on the same data as the server, also while it runs.
'use strict';

const { withRegistry } = require('./operation.cjs');
const { progress } = require('./progress.cjs');
const { size } = require('./units.cjs');

/** Kinds of things by what one and several of them are called. */
const WORDS = { sessions: ['upload session', 'upload sessions'], repositories: ['repository', 'repositories'], referrers: ['referrer', 'referrers'] };

function count(kind, number) {
  const [one, many] = WORDS[kind] ?? [kind.replace(/s$/, ''), kind];
  return `${number} ${number === 1 ? one : many}`;
}

/** @param {any} report what a protocol has to say */
function* lines(protocol, report, dryRun) {
  for (const { kind, name, reason } of report.details) yield `${protocol}: ${count(kind, 1).slice(2)} ${name}: ${reason}`;
  for (const warning of report.warnings) yield `${protocol}: warning: ${warning}`;
  const removed = Object.entries(report.removed).map(([kind, number]) => count(kind, number));
  const verb = dryRun ? 'would remove' : 'removed';
  yield `${protocol}: ${verb} ${removed.join(', ') || 'nothing'}${report.bytes > 0 ? `, which ${dryRun ? 'would free' : 'frees'} ${size(report.bytes)}` : ''}`;
}

/** @param {{ dryRun?: boolean, json?: boolean, data?: string, config?: string }} options */
async function gc({ dryRun = false, json = false, ...options }) {
  const report = await withRegistry(options, async (registry) => {
    const shown = await progress({ quiet: json });
    return registry.gc({ dryRun, onProgress: shown.show }).finally(shown.stop);
  });
  if (json) {
    process.stdout.write(`${JSON.stringify(report, undefined, 2)}\n`);
    return;
  }
  const all = Object.entries(report.protocols).flatMap(([protocol, one]) => [...lines(protocol, one, dryRun)]);
  process.stdout.write(`${(all.length > 0 ? all : ['nothing here is collected']).join('\n')}\n`);
}

module.exports = { gc };
