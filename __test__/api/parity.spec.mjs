// `npm run parity`: a suite in the style of the replaced package's runs against this one, and what fails or does not load is said and counted.
import assert from 'node:assert/strict';
import { cp, mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, it } from 'node:test';
import { root } from '../../scripts/lib/paths.mjs';
import { write } from '../support/packages.mjs';
import { run } from '../support/process.mjs';

const suite = join(root, '__test__/parity');
const { NODE_TEST_CONTEXT: _inner, ...env } = process.env;

const parity = (dir, ...flags) => run([process.execPath, join(root, 'scripts/parity.mjs'), dir, ...flags], { cwd: tmpdir(), env, seconds: 200 });

/** A copy of the suite with more in it. */
async function copyWith(t, files) {
  const dir = await mkdtemp(join(tmpdir(), 'smartregistry-parity-'));
  t.after(() => rm(dir, { recursive: true, force: true }));
  await cp(suite, dir, { recursive: true });
  await write(dir, files);
  return dir;
}

describe('parity', { timeout: 400_000 }, () => {
  for (const kind of ['moto', 'smarts3']) {
    it(`runs every file of a checkout over ${kind}, and loads none of its sources`, async () => {
      const { stdout } = (await parity(suite, '--s3', kind)).ok();
      for (const [name, passed] of [['npm', 11], ['oci', 7], ['storage.hooks', 6], ['auth.provider', 3], ['integration.crossprotocol', 4]]) {
        assert.match(stdout, new RegExp(`^passed +test/test\\.${name}\\.ts  ${passed} passed$`, 'm'));
      }
      assert.match(stdout, /^passed +test\/test\.upstream\.provider\.node\+bun\+deno\.ts  4 passed$/m);
      assert.match(stdout, /^not for Node test\/test\.page\.chrome\.ts$/m);
      assert.match(stdout, /^35 passed, 0 failed in 6 files, of which 0 did not load$/m);
    });
  }

  it('tells failures from files that do not load, and ends with 1', async (t) => {
    const framework = `import { expect, tap } from '@git.zone/tstest/tapbundle';\n`;
    const dir = await copyWith(t, {
      'test/sub/test.made.fails.ts': `${framework}
        tap.test('counts', async () => { expect(1).toEqual(1); });
        tap.test('cannot count', async () => { const one: number = 1; expect(one).toEqual(2); });
        tap.skip.test('not today', async () => {});
        export default tap.start();`,
      'test/test.made.missing.ts': `${framework}import { parseInternals } from '../ts/npm/helpers.npmregistry.js';\ntap.test(parseInternals(), async () => {});\nexport default tap.start();`,
      'test/test.made.uninstalled.ts': `${framework}import * as bucket from 'a-package-that-nobody-installed';\ntap.test(String(bucket), async () => {});\nexport default tap.start();`,
      'test/test.made.dies.ts': `${framework}tap.test('starts', async () => {});\ntap.test('dies', async () => process.exit(3));\nexport default tap.start();`,
      'test/test.made.stays.ts': `${framework}tap.test('leaves a timer', async () => void setInterval(() => {}, 1000));\nexport default tap.start();`,
    });
    const done = await parity(dir, '--only', 'made');
    assert.equal(done.code, 1, done.describe());
    done.shows(/^FAILED +test\/sub\/test\.made\.fails\.ts  1 passed, 1 failed, 1 skipped\n +cannot count: .+ \(test\.made\.fails\.ts:4:\d+\)$/m);
    done.shows(/^DID NOT LOAD test\/test\.made\.missing\.ts\n +ended with code 1: SyntaxError: .*does not provide an export named 'parseInternals'$/m);
    done.shows(/^DID NOT LOAD test\/test\.made\.uninstalled\.ts\n +ended with code 1: .*Cannot find package 'a-package-that-nobody-installed'/m);
    done.shows(/^FAILED +test\/test\.made\.dies\.ts  1 passed, 1 failed\n +ran 1 of 2 tests and ended with code 3$/m);
    done.shows(/^passed +test\/test\.made\.stays\.ts  1 passed\n +its process did not end by itself/m);
    done.shows(/^3 passed, 4 failed in 5 files, of which 2 did not load$/m);
  });

  it('takes what the checkout has installed before anything of its own', async (t) => {
    const installed = (name, text) => ({
      [`node_modules/${name}/package.json`]: JSON.stringify({ name, type: 'module', exports: { '.': './index.js', './tapbundle': './index.js' } }),
      [`node_modules/${name}/index.js`]: text,
    });
    const dir = await copyWith(t, {
      ...installed('@git.zone/tstest', `export const tap = { test: (name) => console.log('1..1\\nok 1 - ' + name) }; export const expect = undefined;`),
      ...installed('left-over', `export const value = 'of the checkout';`),
      'test/test.made.installed.ts': `import { tap } from '@git.zone/tstest/tapbundle';\nimport { value } from 'left-over';\ntap.test(value);`,
    });
    const { stdout } = (await parity(dir, '--only', 'made')).ok();
    assert.match(stdout, /^passed +test\/test\.made\.installed\.ts  1 passed$/m);
  });

  it('says what is wrong with its arguments', async () => {
    (await parity(join(root, 'js'))).refused(/has no folder test/);
    (await parity(suite, '--only', 'nothing-of-that-name')).refused(/no test file for Node with nothing-of-that-name in its name/);
    (await parity(suite, '--s3', 'tape')).refused(/--s3 is moto or smarts3, not tape/);
  });
});
