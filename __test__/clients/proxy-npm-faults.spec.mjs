// What clients see while the registry behind theirs does wrong: they are refused and told, nothing of it is installed or kept, and once it does right again
// the same clients install the same packages.
import assert from 'node:assert/strict';
import { after, before, describe, it } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { npmUpstream } from '../support/npm-upstream.mjs';
import { noise } from '../support/oci.mjs';
import { assertInstalled, packed, write, writePackage } from '../support/packages.mjs';
import { reader } from '../support/readers.mjs';
import { startRegistry } from '../support/registry.mjs';
import { sandbox } from '../support/sandbox.mjs';

const clients = ['npm', 'pnpm-12', 'yarn-berry'];

const status = (code, headers = {}) => (response) => response.writeHead(code, headers).end('{"error":"not today"}');
const text = (change) => (response, found) => response.writeHead(200, { 'content-type': 'application/json' }).end(change(found.toString()));
const never = () => {};
const cut = (response, found) => {
  response.writeHead(200, { 'content-length': found.length });
  response.write(found.subarray(0, found.length / 2), () => setTimeout(() => response.destroy(), 50));
};
const flipped = (response, found) => {
  const wrong = Buffer.from(found);
  wrong[wrong.length - 100] ^= 1;
  response.writeHead(200, { 'content-length': wrong.length }).end(wrong);
};

/** A small tarball is found to be bad before any of it is sent, and that is said. */
const said = { npm: /E50[23]/, 'pnpm-12': /Tarball server returned HTTP 50[23]/, 'yarn-berry': /Response Code: 50[23]/ };

/** A large one is on its way by then: the connection breaks, and each client calls that something else. */
const broken = {
  npm: /E50[23]|ECONNRESET/,
  'pnpm-12': /Tarball server returned HTTP 50[23]|Failed to fetch/,
  'yarn-berry': /Response Code: 50[23]|socket hang up|aborted/,
};

/** With which file what goes wrong, and what of it is to be seen: the status for all, the words for npm, which alone prints them. */
const faults = {
  'has not got it': ['packument', status(404), 404, /E404/],
  'fails': ['packument', status(500), 503, /upstream origin/],
  'keeps its document to itself': ['packument', status(401), 502, /upstream origin/],
  'never answers': ['packument', never, 503, /upstream origin/],
  'shows a page instead': ['packument', text(() => '<html>please log in</html>'), 502, /upstream origin/],
  'sends half a document': ['packument', cut, 503, /upstream origin/],
  'sends the document of another package': ['packument', text((found) => found.replaceAll('"name":"', '"name":"not-')), 502, /upstream origin/],
  'has lost a tarball': ['tarball', status(404), 404, /E404/],
  'sends half a tarball': ['tarball', cut],
  'sends a tarball with another byte': ['tarball', flipped],
  'sends half a large tarball': ['tarball', cut],
  'sends a large tarball with another byte': ['tarball', flipped],
  // The last one: for as long as it asks for, nothing else is asked for either.
  'asks for patience': ['packument', status(429, { 'retry-after': '1' }), 503, /upstream origin/],
};

describe('an upstream that', { concurrency: 1 }, () => {
  const made = {};
  const nameOf = (fault, who) => `${fault.replaceAll(' ', '-')}-${who}`;
  const each = (work) => Promise.all(clients.map(work));
  let box;
  let upstream;
  let proxy;
  let readers;

  const add = async (name, large) => {
    const one = await writePackage(await box.folder(name), { name, version: '1.0.0' });
    if (large) await write(one.folder, Object.assign(one.files, { 'lib/noise.bin': noise(3_000_000, name) }));
    upstream.add({ name, version: '1.0.0' }, await packed(one), '2020-01-02T03:04:05.678Z');
    made[name] = one;
  };

  before(async () => {
    box = await sandbox('faults');
    upstream = await npmUpstream();
    const resilience = { timeoutMs: 2000, maxRetries: 0, circuitBreakerThreshold: 1000 };
    const cache = { negativeCacheTtlSeconds: 1, defaultTtlSeconds: 1, staleWhileRevalidate: false };
    proxy = await startRegistry('listener', 'local', { upstreams: { npm: { upstreams: [{ id: 'origin', url: upstream.url, priority: 1, enabled: true }], resilience, cache } } });
    readers = Object.fromEntries(await each(async (who) => [who, await reader(who, box, proxy.npm)]));
    await each((who) => add(`good-${who}`));
    for (const [fault, [what, how]] of Object.entries(faults)) {
      for (const who of clients) {
        await add(nameOf(fault, who), fault.includes('large'));
        upstream.breaks(upstream.paths(nameOf(fault, who), '1.0.0')[what], how);
      }
    }
  }, { timeout: 120_000 });
  after(async () => {
    await proxy?.stop();
    await upstream?.close();
    await box.remove();
  });

  for (const [fault, [, , seen, words]] of Object.entries(faults)) {
    it(`${fault} is nobody's to install`, () => each(async (who) => {
      const name = nameOf(fault, who);
      const project = await readers[who].project(name, { [name]: '1.0.0' });
      const refused = (await readers[who].install(project)).refused(seen ? new RegExp(`\\bE?${seen}\\b`) : (fault.includes('large') ? broken : said)[who]);
      if (who === 'npm' && words) refused.shows(words);
      // What clients had unpacked by then, not all of them clear away.
      await assert.rejects(assertInstalled(project, made[name]));
    }));
  }

  it('does right again gives each client all of it', async () => {
    // What was not there is remembered for a second, and so is what asked to be left alone.
    await sleep(1200);
    await each(async (who) => {
      const names = Object.keys(faults).map((fault) => nameOf(fault, who));
      for (const name of names) for (const path of Object.values(upstream.paths(name, '1.0.0'))) upstream.breaks(path);
      const project = await readers[who].project('again', Object.fromEntries(names.map((name) => [name, '1.0.0'])));
      (await readers[who].install(project)).ok();
      for (const name of names) await assertInstalled(project, made[name]);
    });
  });

  it('goes wrong later keeps nobody from what was seen before', async () => {
    await each(async (who) => (await readers[who].install(await readers[who].project('before', { [`good-${who}`]: '*' }))).ok());
    await sleep(1200);
    for (const [how, fault] of Object.entries({ failing: status(500), silent: never })) {
      await each(async (who) => {
        const name = `good-${who}`;
        for (const path of Object.values(upstream.paths(name, '1.0.0'))) upstream.breaks(path, fault);
        await readers[who].afresh();
        const project = await readers[who].project(`while-${how}`, { [name]: '*' });
        (await readers[who].install(project)).ok();
        await assertInstalled(project, made[name]);
      });
    }
  });
});
