// `npm run parity -- DIR`: runs the test suite of a checkout of @push.rocks/smartregistry against this package.
// `node scripts/parity.mjs DIR [--only TEXT]… [--s3 moto|smarts3] [--timeout SECONDS] [--verbose]`. Imports of the checkout's own sources lead here, all
// others to its node_modules. The report on stdout has a line per file and the sum; the exit code is 1 unless every file passed.
import { stat } from 'node:fs/promises';
import { join, relative, resolve } from 'node:path';
import { pathToFileURL } from 'node:url';
import { parseArgs } from 'node:util';
import { startS3 } from '../__test__/support/s3.mjs';
import { build } from './build.mjs';
import { client } from './clients.mjs';
import { nodeModules } from './lib/node-modules.mjs';
import { root } from './lib/paths.mjs';
import { say, script, StepError } from './lib/run.mjs';
import { testFiles } from './parity/files.mjs';
import { runFile } from './parity/run-file.mjs';

/** S3 servers whose start needs no packages of the system. */
const kinds = ['moto', 'smarts3'];

const words = { passed: 'passed      ', failed: 'FAILED      ', unloaded: 'DID NOT LOAD' };

await script(async () => {
  const { checkout, only, s3, seconds, verbose } = options();
  if (!(await stat(join(checkout, 'test')).catch(() => undefined))?.isDirectory()) throw new StepError(`${checkout} has no folder test: it is no checkout with a test suite`);
  await nodeModules({ dev: true });
  await build('dev');
  const { files, others } = await testFiles(checkout, only);
  if (files.length === 0) throw new StepError(`${checkout}/test has no test file for Node${only.length ? ` with ${only.join(' or ')} in its name` : ''}`);
  const server = await startS3(s3);
  try {
    const env = { ...process.env, ...s3Variables(server.descriptor), SMARTREGISTRY_PARITY: JSON.stringify(await redirections(checkout)) };
    const results = [];
    for (const file of files) {
      const result = await runFile(file, { cwd: checkout, env, seconds, verbose });
      results.push(result);
      console.log(lineOf(relative(checkout, file), result));
    }
    for (const file of others) console.log(`not for Node ${relative(checkout, file)}`);
    return summary(results);
  } finally {
    await server.stop();
  }
});

function options() {
  const { values, positionals } = parseArgs({
    allowPositionals: true,
    options: {
      only: { type: 'string', multiple: true, default: [] },
      s3: { type: 'string', default: 'moto' },
      timeout: { type: 'string', default: '300' },
      verbose: { type: 'boolean', default: false },
    },
  });
  if (positionals.length !== 1) throw new StepError('name one checkout of @push.rocks/smartregistry: npm run parity -- DIR');
  if (!kinds.includes(values.s3)) throw new StepError(`--s3 is ${kinds.join(' or ')}, not ${values.s3}`);
  const seconds = Number(values.timeout);
  if (!(seconds > 0)) throw new StepError(`--timeout is a number of seconds, not ${values.timeout}`);
  return { checkout: resolve(positionals[0]), only: values.only, s3: values.s3, seconds, verbose: values.verbose };
}

/** What the resolving hook has to know. The test framework and what reads the environment have a substitute, for checkouts that nothing was installed in. */
async function redirections(checkout) {
  const ours = (name) => new URL(`parity/${name}`, import.meta.url).href;
  return {
    checkout: pathToFileURL(`${checkout}/`).href,
    self: pathToFileURL(join(root, 'index.mjs')).href,
    substitutes: {
      '@git.zone/tstest/tapbundle': ours('tap.mjs'),
      '@push.rocks/tapbundle': ours('tap.mjs'),
      '@push.rocks/smartexpect': pathToFileURL((await client('smartexpect')).file).href,
      '@push.rocks/qenv': ours('qenv.mjs'),
    },
  };
}

/** The server's descriptor under the names that such suites ask for. */
function s3Variables({ endpoint, port, useSsl, accessKey, accessSecret, region }) {
  return {
    S3_ENDPOINT: endpoint,
    S3_PORT: String(port),
    S3_USESSL: String(useSsl),
    S3_REGION: region,
    S3_ACCESSKEY: accessKey,
    S3_SECRETKEY: accessSecret,
    S3_ACCESSSECRET: accessSecret,
  };
}

function lineOf(name, { outcome, passed, failed, skipped, message, note }) {
  const counts = outcome === 'unloaded' ? '' : `  ${passed} passed${failed ? `, ${failed} failed` : ''}${skipped ? `, ${skipped} skipped` : ''}`;
  const details = [message, note].filter(Boolean).map((text) => `\n    ${text.replaceAll('\n', '\n    ')}`);
  return `${words[outcome]} ${name}${counts}${details.join('')}`;
}

function summary(results) {
  const sum = (field) => results.reduce((total, result) => total + result[field], 0);
  const unloaded = results.filter(({ outcome }) => outcome === 'unloaded').length;
  console.log(`${sum('passed')} passed, ${sum('failed')} failed in ${results.length} files, of which ${unloaded} did not load`);
  if (unloaded) say('a file that did not load needs something that this package does not export, or packages that are not installed in the checkout');
  return results.every(({ outcome }) => outcome === 'passed') ? 0 : 1;
}
