// `verify` and `stats`: whether everything is there and whole, and how much it is.
'use strict';

const { withRegistry } = require('./operation.cjs');
const { progress } = require('./progress.cjs');
const { columns, size } = require('./units.cjs');

/** The exit code when something is wrong with the data: 1. It is the answer, not a failure of the command. */
const WRONG = 1;

/** @param {{ shallow?: boolean, rebuildIndex?: boolean, json?: boolean, data?: string, config?: string }} options */
async function verify({ shallow = false, rebuildIndex = false, json = false, ...options }) {
  const report = await withRegistry(options, async (registry) => {
    const shown = await progress({ quiet: json });
    return registry.verify({ shallow, rebuildIndex, onProgress: shown.show }).finally(shown.stop);
  });
  if (report.problems > 0) process.exitCode = WRONG;
  if (json) {
    process.stdout.write(`${JSON.stringify(report, undefined, 2)}\n`);
    return;
  }
  const lines = report.findings.map(({ protocol, name, key, problem }) => `${protocol}${name ? ` ${name}` : ''}: ${problem} (${key})`);
  const more = report.problems - report.findings.length;
  if (more > 0) lines.push(`and ${more} more`);
  const read = shallow ? '' : `, ${size(report.bytes)} read`;
  lines.push(`${report.problems === 0 ? 'everything is there' : `problems: ${report.problems}`}; looked at ${report.names} packages and repositories and ${report.objects} objects${read}`);
  process.stdout.write(`${lines.join('\n')}\n`);
}

/** @param {{ json?: boolean, data?: string, config?: string }} options */
async function stats({ json = false, ...options }) {
  const report = await withRegistry(options, (registry) => registry.stats());
  if (json) {
    process.stdout.write(`${JSON.stringify(report, undefined, 2)}\n`);
    return;
  }
  const rows = [['PROTOCOL', 'WHAT', 'OBJECTS', 'SIZE']];
  for (const [protocol, { names, folders }] of Object.entries(report.protocols)) {
    rows.push([protocol, 'names', names, '']);
    for (const [folder, { objects, bytes }] of Object.entries(folders)) rows.push([protocol, folder, objects, size(bytes)]);
  }
  rows.push(['', "the registry's own", report.private.objects, size(report.private.bytes)], ['', 'total', report.total.objects, size(report.total.bytes)]);
  process.stdout.write(`${columns(rows)}\n`);
}

module.exports = { verify, stats };
