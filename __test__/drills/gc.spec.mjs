// Garbage is collected without a pause, with a grace of seconds, while four processes push, mount, delete and push again what has just become
// unused. No push is refused for something that was promised to be there, nothing that a tag names is lost, and what is dead goes.
// SMARTREGISTRY_DRILL_SECONDS says for how long.
import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { SmartRegistry } from '../../index.js';
import { startFleet } from '../support/fleet.mjs';
import { digestOf, noise, types } from '../support/oci.mjs';
import { checkRepository, must } from '../support/wire.mjs';

const seconds = Number(process.env.SMARTREGISTRY_DRILL_SECONDS ?? 30);
const PROCESSES = 4;
const WORKERS = 3;
const GRACE = 6000;
/** Layers that everybody pushes: so many that each is unused for longer than the grace now and then, and comes back. */
const LAYERS = 150;
const REPOSITORIES = ['team/one', 'team/two', 'three'];

for (const storage of ['local', 'moto']) {
  describe(`garbage collection under ${PROCESSES} pushing processes on ${storage}`, () => {
    it('refuses no push, loses nothing, and leaves nothing', { timeout: (seconds + 240) * 1000 }, async (t) => {
      const oci = { gc: { graceMs: GRACE, intervalMs: 0 } };
      const fleet = await startFleet(storage, PROCESSES, { oci, limits: { metadataTtlMs: 200 }, maintenance: { enabled: false } });
      const collector = new SmartRegistry({ ...fleet.registry.config, maintenance: { enabled: false } });
      try {
        await collector.init();
        await drill(t, fleet.members, collector);
      } finally {
        await collector.destroy();
        await fleet.stop();
      }
    });
  });
}

async function drill(t, members, collector) {
  const until = Date.now() + seconds * 1000;
  const removed = {};
  let pushing = true;
  let collections = 0;
  const collect = async () => {
    const { protocols } = await collector.gc();
    collections += 1;
    for (const [kind, count] of Object.entries(protocols.oci.removed)) removed[kind] = (removed[kind] ?? 0) + count;
    return protocols.oci.removed;
  };
  const collecting = (async () => {
    while (pushing) await collect();
  })();
  const workers = members.flatMap((member, process) => Array.from({ length: WORKERS }, (_, number) => new Worker(member, process * WORKERS + number)));
  await Promise.all(workers.map((worker) => worker.run(until)));
  pushing = false;
  await collecting;
  const counts = Object.fromEntries(['pushed', 'reused', 'uploaded', 'mounted', 'deleted'].map((kind) => [kind, workers.reduce((sum, worker) => sum + worker.counts[kind], 0)]));
  t.diagnostic(`${collections} collections removed ${JSON.stringify(removed)} meanwhile; ${JSON.stringify(counts)}`);
  assert.ok(removed.blobs > 0 && removed.links > 0, 'something died and was collected while pushes went on');
  for (const [kind, count] of Object.entries(counts)) assert.ok(count > 0, `no image was ${kind}`);

  const live = new Map(REPOSITORIES.map((name) => [name, new Map()]));
  for (const worker of workers) for (const [tag, image] of worker.images) live.get(image.repository).set(tag, image.manifest);
  await sleep(1100);
  for (const member of members) {
    for (const [name, images] of live) assert.deepEqual(new Set(await checkRepository(member, name)), new Set(images.keys()));
  }

  await sleep(GRACE + 2000);
  for (let more = 0; more < 3; more++) await collect();
  assert.deepEqual(await collect(), {}, 'nothing is left to collect');
  const needed = new Set([...live.values()].flatMap((images) => [...images.values()]).flatMap(({ config, layers }) => [config, ...layers].map(({ digest }) => digest)));
  const stored = (await collector.getStorage().listObjects('oci/blobs/')).map((key) => key.replace('oci/blobs/', '').replace('/', ':'));
  assert.deepEqual(new Set(stored), needed, 'the bucket holds the blobs that are named and no others');
  for (const name of REPOSITORIES) await checkRepository(members[0], name);
}

class Worker {
  constructor(member, number) {
    this.member = member;
    this.number = number;
    this.headers = { authorization: member.basic };
    this.images = new Map();
    this.counts = { pushed: 0, reused: 0, uploaded: 0, mounted: 0, deleted: 0 };
  }

  async run(until) {
    for (let turn = 0; Date.now() < until; turn++) {
      await this.push(`w${this.number}-${turn}`);
      // Few images live at a time, so that most layers are unused now and then.
      while (this.images.size > 1) await this.remove(this.images.keys().next().value);
      await sleep(Math.random() * 400);
    }
  }

  async push(tag) {
    const repository = pick(REPOSITORIES);
    const layers = [noise(3000, `layer ${Math.floor(Math.random() * LAYERS)}`), noise(3000, `layer ${Math.floor(Math.random() * LAYERS)}`)];
    const config = Buffer.from(JSON.stringify({ architecture: 'amd64', os: 'linux', rootfs: { type: 'layers', diff_ids: [] } }));
    for (const blob of [...layers, config]) await this.blob(repository, blob);
    // Some clients take their time between the last blob and the manifest.
    if (Math.random() < 0.2) await sleep(Math.random() * (GRACE / 3));
    const describe = (mediaType, bytes) => ({ mediaType, digest: digestOf(bytes), size: bytes.length });
    const manifest = { schemaVersion: 2, mediaType: types.manifest, config: describe(types.config, config), layers: layers.map((one) => describe(types.layer, one)), annotations: { tag } };
    must(await this.send('PUT', `${repository}/manifests/${tag}`, JSON.stringify(manifest), types.manifest), 201);
    this.images.set(tag, { repository, manifest, digest: digestOf(Buffer.from(JSON.stringify(manifest))) });
    this.counts.pushed += 1;
  }

  async blob(repository, bytes) {
    const digest = digestOf(bytes);
    if (Math.random() < 0.7) {
      const found = must(await this.send('HEAD', `${repository}/blobs/${digest}`), 200, 404);
      if (found.status === 200) {
        this.counts.reused += 1;
        return;
      }
    }
    let start;
    if (Math.random() < 0.4) {
      start = must(await this.send('POST', `${repository}/blobs/uploads/?mount=${digest}&from=${pick(REPOSITORIES)}`), 201, 202);
      if (start.status === 201) {
        this.counts.mounted += 1;
        return;
      }
    } else {
      start = must(await this.send('POST', `${repository}/blobs/uploads/`), 202);
    }
    const place = new URL(start.headers.get('location'), this.member.url);
    if (Math.random() < 0.5) {
      must(await this.send('PATCH', place, bytes), 202);
      place.searchParams.set('digest', digest);
      must(await this.send('PUT', place), 201);
    } else {
      place.searchParams.set('digest', digest);
      must(await this.send('PUT', place, bytes), 201);
    }
    this.counts.uploaded += 1;
  }

  async remove(tag) {
    const { repository, digest } = this.images.get(tag);
    must(await this.send('DELETE', `${repository}/manifests/${digest}`), 202);
    this.images.delete(tag);
    this.counts.deleted += 1;
  }

  async send(method, path, body, type = 'application/octet-stream') {
    const url = path instanceof URL ? path : `${this.member.url}/v2/${path}`;
    const response = await fetch(url, { method, body, headers: body === undefined ? this.headers : { ...this.headers, 'content-type': type } });
    return { status: response.status, headers: response.headers, text: await response.text(), url: String(url) };
  }
}

const pick = (list) => list[Math.floor(Math.random() * list.length)];
