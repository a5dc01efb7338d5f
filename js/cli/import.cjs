// `import`: takes over what another registry has.
'use strict';

const { text } = require('node:stream/consumers');
const { UserError } = require('./config.cjs');
const { withRegistry } = require('./operation.cjs');
const { progress } = require('./progress.cjs');
const { size } = require('./units.cjs');

/** The exit code when something could not be imported. */
const INCOMPLETE = 1;

/** Runs an import and says what came of it. */
async function run(protocol, from, names, { json = false, passwordStdin, tokenStdin, username, as, ...options }) {
  if (passwordStdin && username === undefined) throw new UserError('--password-stdin needs --username');
  const secret = passwordStdin || tokenStdin ? (await text(process.stdin)).trim() : undefined;
  const report = await withRegistry(options, async (registry) => {
    const shown = await progress({ quiet: json });
    const login = passwordStdin ? { username, password: secret } : { token: secret };
    return registry.import({ protocol, from, names, as, ...login, onProgress: shown.show }).finally(shown.stop);
  });
  if (report.problems.length > 0) process.exitCode = INCOMPLETE;
  if (json) {
    process.stdout.write(`${JSON.stringify(report, undefined, 2)}\n`);
    return;
  }
  // What another registry calls things is not for the terminal to obey.
  const plain = (text) => text.replace(/[\x00-\x1f\x7f-\x9f]/g, '?');
  const lines = report.problems.map(({ name, version, problem }) => plain(`${name}${version ? `@${version}` : ''}: ${problem}`));
  const parts = [`${report.imported} imported`, `${report.present} here already`];
  if (report.missing > 0) parts.push(`${report.missing} without their tarball`);
  if (report.bytes > 0) parts.push(size(report.bytes));
  if (report.problems.length > 0) parts.push(`${report.problems.length} not imported`);
  lines.push(`${report.names} ${protocol === 'npm' ? 'packages' : 'repositories'}: ${parts.join(', ')}`);
  process.stdout.write(`${lines.join('\n')}\n`);
}

const importNpm = (from, options) => run('npm', from, options.package, options);
const importOci = (from, options) => run('oci', from, options.repository, options);

module.exports = { importNpm, importOci };
