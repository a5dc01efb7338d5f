// The server is killed at random moments under load. No acknowledged write is lost, and nothing names an artifact that is not there.
// SMARTREGISTRY_DRILL_KILLS sets how often (default 5); SMARTREGISTRY_DRILL_SEED repeats a run's moments.
import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { startFleet } from '../support/fleet.mjs';
import { checkPackage, checkRepository, publish, pushImage } from '../support/wire.mjs';

const kills = Number(process.env.SMARTREGISTRY_DRILL_KILLS ?? 5);
const seed = Number(process.env.SMARTREGISTRY_DRILL_SEED ?? Date.now() % 1_000_000);
const WRITERS = 6;
const packages = ['killed-a', 'killed-b'];
const repositories = ['killed/a', 'killed/b'];

for (const storage of ['local', 'moto']) {
  describe(`kill -9, ${kills} times, ${storage}`, () => {
    it('loses no acknowledged write', { timeout: 60_000 + kills * 15_000 }, async (t) => {
      t.diagnostic(`seed ${seed}`);
      const random = generator(seed);
      const fleet = await startFleet(storage, 1);
      const acknowledged = { packages: new Set(), repositories: new Set() };
      let next = 0;
      try {
        for (let kill = 0; kill < kills; kill++) {
          const server = await fleet.start();
          const load = Array.from({ length: WRITERS }, (_, n) => write(server, n, () => next++, acknowledged));
          await new Promise((done) => setTimeout(done, 100 + random() * 900));
          process.kill(server.pid, 'SIGKILL');
          await Promise.all(load);
        }
        await verify(fleet.members[0], acknowledged);
        t.diagnostic(`${acknowledged.packages.size} publishes and ${acknowledged.repositories.size} pushes were acknowledged`);
        assert.ok(acknowledged.packages.size >= kills && acknowledged.repositories.size >= kills, 'there was too little load for the drill to mean anything');
      } finally {
        await fleet.stop();
      }
    });
  });
}

/** Publishes and pushes until the server is gone. */
async function write(server, writer, number, acknowledged) {
  for (;;) {
    const n = number();
    const [name, repository] = [packages[n % packages.length], repositories[n % repositories.length]];
    try {
      if (writer % 2) {
        const { status } = await publish(server, name, `1.0.${n}`, { size: 1000 + (n % 7) * 5000 });
        if (status === 201) acknowledged.packages.add(`${name}@1.0.${n}`);
      } else {
        const { status } = await pushImage(server, repository, `t${n}`, { size: 1000 + (n % 5) * 20_000, chunked: n % 3 === 0 });
        if (status === 201) acknowledged.repositories.add(`${repository}:t${n}`);
      }
    } catch (error) {
      if (error.code === 'ERR_ASSERTION') throw error;
      return;
    }
  }
}

async function verify(server, acknowledged) {
  await new Promise((done) => setTimeout(done, 1100));
  for (const name of packages) {
    const versions = new Set(await checkPackage(server, name));
    const lost = [...acknowledged.packages].filter((id) => id.startsWith(`${name}@`) && !versions.has(id.slice(name.length + 1)));
    assert.deepEqual(lost, [], 'acknowledged publishes are gone');
  }
  for (const repository of repositories) {
    const tags = new Set(await checkRepository(server, repository));
    const lost = [...acknowledged.repositories].filter((id) => id.startsWith(`${repository}:`) && !tags.has(id.slice(repository.length + 1)));
    assert.deepEqual(lost, [], 'acknowledged pushes are gone');
  }
}

/** A small generator with a seed, so that a failing run's moments can be had again. */
function generator(state) {
  return () => {
    state = (state * 1_103_515_245 + 12_345) & 0x7fffffff;
    return state / 0x7fffffff;
  };
}
