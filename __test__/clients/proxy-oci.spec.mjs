// Images pulled through: a registry of ours whose upstream is another one, by clients that know nothing of it; and what is left when the upstream is gone.
import assert from 'node:assert/strict';
import { setTimeout as sleep } from 'node:timers/promises';
import { client } from '../../scripts/clients.mjs';
import { few, matrix, password } from '../support/matrix.mjs';
import { assertSameImage, digestOf } from '../support/oci.mjs';
import { peopleAndImages } from '../support/oci-clients.mjs';
import { run } from '../support/process.mjs';
import { startRegistry } from '../support/registry.mjs';
import { sandbox } from '../support/sandbox.mjs';
import { basicAuth } from '../support/wire.mjs';

const clients = { crane: await client('crane'), skopeo: await client('skopeo'), oras: await client('oras') };

/** The matrix starts the upstream; this starts who pulls from it, with users of its own, over the same kind of storage. */
async function setUp(site) {
  await peopleAndImages(site);
  const upstream = {
    id: 'origin',
    url: site.registry.url,
    namespace: 'origin.example',
    auth: { type: 'basic', username: 'alice', password },
  };
  const config = {
    upstreams: {
      oci: {
        upstreams: [upstream],
        cache: { defaultTtlSeconds: 1, staleWhileRevalidate: false },
        resilience: { maxRetries: 1, retryDelayMs: 50, timeoutMs: 10_000 },
      },
    },
  };
  const through = { registry: await startRegistry('listener', site.registry.storageKind, config), box: await sandbox('through') };
  site.through = through;
  await through.registry.addUser('alice', password);
  await peopleAndImages(through);
}

async function tearDown(site) {
  await site.through?.registry.stop();
  await site.through?.box.remove();
}

matrix('pulling images through', { modes: ['listener'], storages: few, protocol: 'oci', setUp, tearDown }, (step) => {
  const use = (at, name, args, as = 'nobody') => run([...clients[name].argv, ...args], { cwd: at.box.dir, env: at.as(as) });
  const remote = (at, name) => `${at.registry.host}/${name}`;

  const pulls = {
    crane: (from, folder) => ['pull', '--format=oci', from, folder],
    oras: (from, folder) => ['cp', '--from-plain-http', '--to-oci-layout', from, `${folder}:v1`],
    skopeo: (from, folder) => ['--insecure-policy', 'copy', '--all', '--preserve-digests', '--src-tls-verify=false', `docker://${from}`, `oci:${folder}:v1`],
  };
  const pull = async ({ through }, name, from, wanted, as) => {
    const folder = `${await through.box.folder('pulled')}/${name}-${Math.random().toString(36).slice(2)}`;
    (await use(through, name, pulls[name](remote(through, from), folder), as)).ok();
    await assertSameImage(folder, wanted);
  };
  const ask = ({ through }, path, options) => fetch(`${through.registry.url}/v2/${path}`, options);

  step('what is pushed upstream is pulled from here', async (site) => {
    for (const name of ['small', 'big']) (await use(site, 'crane', ['push', site.layout(name), remote(site, `team/${name}:v1`)], 'owner')).ok();
    const args = ['--insecure-policy', 'copy', '--all', '--preserve-digests', '--dest-tls-verify=false', `oci:${site.layout('multi')}:multi`, `docker://${remote(site, 'team/multi:v1')}`];
    (await use(site, 'skopeo', args, 'owner')).ok();
    for (const name of Object.keys(pulls)) await pull(site, name, 'team/small:v1', site.small);
    await pull(site, 'crane', 'team/big:v1', site.big);
    await pull(site, 'skopeo', 'team/multi:v1', site.multi);
  });

  step('tags are those that the upstream has', async (site) => {
    (await use(site, 'crane', ['tag', remote(site, 'team/small:v1'), 'latest'], 'owner')).ok();
    const { stdout } = (await use(site.through, 'crane', ['ls', remote(site.through, 'team/small')])).ok();
    assert.equal(stdout, 'latest\nv1\n');
    (await use(site, 'crane', ['push', site.layout('big'), remote(site, 'team/small:latest')], 'owner')).ok();
    await pull(site, 'crane', 'team/small:latest', site.big);
  });

  step('what needs a login upstream needs one here', async (site) => {
    (await use(site, 'crane', ['push', site.layout('small'), remote(site, 'private/app:v1')], 'owner')).ok();
    await pull(site, 'crane', 'private/app:v1', site.small, 'owner');
    (await use(site.through, 'crane', ['manifest', remote(site.through, 'private/app:v1')])).refused(/UNAUTHORIZED|401/);
  });

  step('a mirror is told apart by the namespace that containerd sends', async (site) => {
    const authorization = basicAuth('alice', password);
    const options = { headers: { authorization } };
    const answer = await ask(site, 'team/small/manifests/v1?ns=origin.example', options);
    assert.equal(answer.status, 200);
    assert.equal(answer.headers.get('oci-namespace'), 'origin.example');
    assert.equal(digestOf(Buffer.from(await answer.arrayBuffer())), site.small.descriptor.digest);
    for (const [digest, bytes] of site.small.blobs) {
      if (digest === site.small.descriptor.digest) continue;
      const blob = await ask(site, `team/small/blobs/${digest}?ns=origin.example`, options);
      assert.ok(Buffer.from(await blob.arrayBuffer()).equals(bytes), digest);
    }
    assert.equal((await ask(site, 'team/small/manifests/v1?ns=elsewhere.example', options)).status, 404);
    await pull(site, 'skopeo', 'origin.example/team/small:v1', site.small);
  });

  step('what is cached takes no pushes, and what is pushed here hides the upstream', async (site) => {
    const push = (to) => use(site.through, 'crane', ['push', site.through.layout('small'), remote(site.through, to)], 'owner');
    (await push('team/big:mine')).refused(/cached from upstream origin/);
    (await push('team/own:v1')).ok();
    (await use(site, 'crane', ['push', site.layout('big'), remote(site, 'team/own:v2')], 'owner')).ok();
    (await use(site.through, 'crane', ['manifest', remote(site.through, 'team/own:v2')])).refused(/MANIFEST_UNKNOWN/);
    await pull(site, 'crane', 'team/own:v1', site.small);
  });

  step('what is here stays when the upstream is gone', async (site) => {
    process.kill(site.registry.pid, 'SIGKILL');
    // Until its port is closed, and every tag is stale.
    for (let tries = 0; tries < 50 && (await fetch(site.registry.url).then(() => true, () => false)); tries += 1) await sleep(100);
    await sleep(1100);
    for (const name of Object.keys(pulls)) await pull(site, name, 'team/small:v1', site.small);
    await pull(site, 'crane', 'team/big:v1', site.big);
    await pull(site, 'skopeo', 'team/multi:v1', site.multi);
    await pull(site, 'crane', 'private/app:v1', site.small, 'owner');
    const { stdout } = (await use(site.through, 'crane', ['ls', remote(site.through, 'team/small')])).ok();
    assert.equal(stdout, 'latest\nv1\n');
    const answer = await ask(site, 'team/never/manifests/v1', { headers: { authorization: basicAuth('alice', password) } });
    assert.equal(answer.status, 503);
    assert.ok(Number(answer.headers.get('retry-after')) > 0);
  });
});
