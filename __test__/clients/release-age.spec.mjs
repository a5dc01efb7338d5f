// The clients that by default wait before they take a new version: out of a registry that knows when each was published elsewhere they take the newest that
// is old enough, and where there is none they refuse, or say that they made an exception. npm and bun, who wait for nothing, take the newest.
import { after, before, describe, it } from 'node:test';
import { npmUpstream } from '../support/npm-upstream.mjs';
import { assertInstalled, packed, writePackage } from '../support/packages.mjs';
import { reader } from '../support/readers.mjs';
import { startRegistry } from '../support/registry.mjs';
import { sandbox } from '../support/sandbox.mjs';

const hoursAgo = (hours) => new Date(Date.now() - hours * 3_600_000).toISOString();

/** What each does about a package that has no version old enough, and says of it; those without a word wait for none. */
const waiting = {
  npm: {},
  bun: {},
  'pnpm-11': { takes: /Added 1 entry to minimumReleaseAgeExclude[^]*newborn@1\.0\.0/ },
  'pnpm-12': { takes: /Added 1 entry to minimumReleaseAgeExclude[^]*newborn@1\.0\.0/ },
  'yarn-berry': { refuses: /newborn[^\n]*quarantined/ },
  deno: { refuses: /newborn[^]*minimum[ -]dependency[ -](age|date)/i },
};

describe('release ages that clients ask for by themselves', { concurrency: 1 }, () => {
  const ages = { aged: { '1.0.0': 3000, '1.1.0': 200, '1.2.0': 2 }, newborn: { '1.0.0': 1 } };
  const made = {};
  let box;
  let upstream;
  let proxy;

  before(async () => {
    box = await sandbox('ages');
    upstream = await npmUpstream();
    for (const [name, versions] of Object.entries(ages)) {
      for (const [version, hours] of Object.entries(versions)) {
        const one = await writePackage(await box.folder(`${name}-${version}`), { name, version });
        upstream.add({ name, version }, await packed(one), hoursAgo(hours));
        made[`${name}@${version}`] = one;
      }
    }
    proxy = await startRegistry('listener', 'local', { upstreams: { npm: { upstreams: [{ id: 'origin', url: upstream.url, priority: 1, enabled: true }] } } });
  }, { timeout: 120_000 });
  after(async () => {
    await proxy?.stop();
    await upstream?.close();
    await box.remove();
  });

  for (const [name, { takes, refuses }] of Object.entries(waiting)) {
    const waits = takes ?? refuses;
    it(`${name} takes the newest${waits ? ' that is a day old' : ''}`, async () => {
      const mine = await reader(name, box, proxy.npm, { anyAge: false });
      const project = await mine.project('range', { aged: '^1.0.0' });
      (await mine.install(project)).ok();
      await assertInstalled(project, made[`aged@${waits ? '1.1.0' : '1.2.0'}`]);
      const newborn = await mine.project('newborn', { newborn: '^1.0.0' });
      const done = await mine.install(newborn);
      if (refuses) return done.refused(refuses);
      done.ok().shows(takes ?? /(?:)/);
      await assertInstalled(newborn, made['newborn@1.0.0']);
    });
  }
});
