// Many processes write to one storage at the same moment, and nothing that was acknowledged is lost.
// SMARTREGISTRY_DRILL_ROUNDS repeats the drill.
import assert from 'node:assert/strict';
import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { describe, it } from 'node:test';
import { cli } from '../../scripts/lib/paths.mjs';
import { startFleet } from '../support/fleet.mjs';
import { run } from '../support/process.mjs';
import { startRegistry } from '../support/registry.mjs';
import { missingRgw } from '../support/s3.mjs';
import { checkPackage, checkRepository, must, publish, pushImage } from '../support/wire.mjs';

const rounds = Number(process.env.SMARTREGISTRY_DRILL_ROUNDS ?? 1);
const PROCESSES = 4;
const WRITES = 64;

for (const storage of ['local', 'moto', 'rgw']) {
  describe(`${PROCESSES} processes x ${WRITES} writes on ${storage}`, () => {
    const skip = storage === 'rgw' && process.env[missingRgw];
    it('keeps every version of a package and every tag of a repository', { timeout: 600_000, skip }, async (t) => {
      const fleet = await startFleet(storage, PROCESSES);
      try {
        for (let round = 0; round < rounds; round++) await race(fleet.members, `race-${round}`);
      } catch (error) {
        for (const { log } of fleet.members) t.diagnostic(log().slice(-2000));
        throw error;
      } finally {
        await fleet.stop();
      }
    });
  });
}

async function race(members, name) {
  const numbers = members.flatMap((member, process) => Array.from({ length: WRITES }, (_, n) => ({ member, n: process * WRITES + n })));
  const published = await Promise.all(numbers.map(({ member, n }) => publish(member, name, `1.0.${n}`)));
  published.forEach((answer) => must(answer, 201));
  const pushed = await Promise.all(numbers.map(({ member, n }) => pushImage(member, `team/${name}`, `t${n}`)));
  pushed.forEach((answer) => must(answer, 201));
  // Another process may serve a document that is as old as its cache allows.
  await new Promise((done) => setTimeout(done, 1100));
  for (const member of members) {
    assert.equal((await checkPackage(member, name)).length, numbers.length);
    assert.equal((await checkRepository(member, `team/${name}`)).length, numbers.length);
  }
}

describe('a bucket that ignores conditional writes', () => {
  it('is named in the log and by /-/ready, and serves one process', { timeout: 120_000 }, async () => {
    const registry = await startRegistry('listener', 'smarts3');
    try {
      assert.match(registry.log(), /conditional writes/);
      const ready = await fetch(`${registry.url}/-/ready`);
      assert.equal(ready.status, 200);
      assert.match(await ready.text(), /conditional writes/);
    } finally {
      await registry.stop();
    }
  });

  it('is refused when conditional writes are required', { timeout: 120_000 }, async () => {
    const registry = await startRegistry('listener', 'smarts3');
    try {
      const file = join(registry.box.dir, 'required.json');
      const config = { ...registry.config, storage: { ...registry.config.storage, conditionalWrites: 'required' } };
      await writeFile(file, JSON.stringify(config));
      const argv = [process.execPath, cli, 'serve', '--port', '0', '--config', file];
      const refused = await run(argv, { cwd: registry.box.dir, env: registry.box.env });
      refused.refused(/conditional writes/);
    } finally {
      await registry.stop();
    }
  });
});
