// The contract under every runtime that loads the addon: the specs of this folder, run by the test runner of each. All of them have to run the same tests.
import assert from 'node:assert/strict';
import { dirname, join } from 'node:path';
import { after, before, describe, it } from 'node:test';
import { client } from '../../scripts/clients.mjs';
import { root } from '../../scripts/lib/paths.mjs';
import { nodeTotals } from '../../scripts/lib/totals.mjs';
import { run } from '../support/process.mjs';
import { sharedVariable, startS3 } from '../support/s3.mjs';
import { sandbox } from '../support/sandbox.mjs';

const specs = ['registry', 'requests', 'streams', 'node-handler', 'parsers', 'extensions', 'many', 'readme', 'exit'];

/** How each runner is called, and how it counts what passed. Each ends with an error where anything failed; what it left out is read here. */
const runners = {
  node: { args: ['--test', '--test-reporter=spec'], totals: nodeTotals },
  bun: {
    args: ['test'],
    totals: (output) => ({ passed: number(output, /^ *(\d+) pass$/m), failed: number(output, /^ *(\d+) fail$/m), skipped: number(output, /^ *(\d+) (?:skip|todo)$/m) }),
  },
  deno: {
    args: ['test', '--allow-all', '--no-check', '--no-lock'],
    totals: (output) => ({ passed: number(output, /^ok \|.*\((\d+) steps?\)/m), failed: number(output, /(\d+) failed/), skipped: number(output, /([1-9]\d*) ignored/m) + number(output, /ignored \((\d+) steps?\)/) }),
  },
};

const number = (output, pattern) => Number(output.match(pattern)?.[1] ?? 0);

/** `npm test` has run these specs by the Node that runs it. */
const present = `node-${process.versions.node.split('.')[0]}`;
const runtimes = ['node-20', 'node-22', 'node-24', 'bun', 'deno'].filter((name) => name !== present);

describe('the contract', { concurrency: 2 }, () => {
  let box;
  const servers = [];
  const lent = {};
  /** Tests of each spec, by the first runtime that ran it. */
  const counts = new Map();

  before(
    async () => {
      box = await sandbox('runtimes');
      for (const kind of ['moto', 'smarts3']) {
        const server = await startS3(kind);
        servers.push(server);
        lent[sharedVariable(kind)] = JSON.stringify(server.descriptor);
      }
    },
    { timeout: 120_000 },
  );
  after(async () => {
    for (const server of servers) await server.stop();
    await box?.remove();
  });

  for (const name of runtimes) {
    describe(`holds under ${name}`, { concurrency: 1 }, () => {
      const { args, totals } = runners[name.split('-')[0]];
      let argv;
      // A runtime that can't be had fails its tests: they are never left out.
      before(async () => ({ argv } = await client(name)), { timeout: 300_000 });

      for (const spec of specs) {
        it(spec, { timeout: 180_000 }, async () => {
          const env = { ...box.env, ...lent, SMARTREGISTRY_TEST_ABORTS: '50', PATH: `${dirname(argv[0])}:${box.env.PATH}` };
          const done = (await run([...argv, ...args, join('__test__', 'api', `${spec}.spec.mjs`)], { cwd: root, env, seconds: 170 })).ok();
          const { passed, failed, skipped } = totals(done.output);
          assert.deepEqual([failed, skipped], [0, 0], done.describe());
          assert.ok(passed > 0, done.describe());
          if (!counts.has(spec)) counts.set(spec, passed);
          assert.equal(passed, counts.get(spec), `another number of tests than elsewhere: ${done.describe()}`);
        });
      }
    });
  }
});
