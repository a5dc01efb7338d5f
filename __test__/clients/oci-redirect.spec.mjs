// Downloads that the registry sends to the bucket itself (`redirectDownloads`), by clients that must follow and must not hand their credentials on.
import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import { client } from '../../scripts/clients.mjs';
import { matrix, password } from '../support/matrix.mjs';
import { assertSameImage } from '../support/oci.mjs';
import { peopleAndImages } from '../support/oci-clients.mjs';
import { run } from '../support/process.mjs';
import { basicAuth } from '../support/wire.mjs';

const clients = { crane: await client('crane'), oras: await client('oras'), skopeo: await client('skopeo'), regctl: await client('regctl') };

const config = { storage: { redirectDownloads: true } };

matrix('redirects to the bucket', { protocol: 'oci', storages: ['moto'], config, setUp: peopleAndImages }, (step) => {
  const use = (site, name, args) => run([...clients[name].argv, ...args], { cwd: site.box.dir, env: site.as('owner') });
  const remote = (site) => `${site.registry.host}/private/big:v1`;
  const layerOf = ({ big }) => [...big.blobs].sort(([, a], [, b]) => b.length - a.length)[0];

  step('a large layer is answered with a link that is good without credentials', async (site) => {
    (await use(site, 'crane', ['push', site.layout('big'), remote(site)])).ok();
    const [digest, bytes] = layerOf(site);
    const url = `${site.registry.url}/v2/private/big/blobs/${digest}`;
    const authorization = basicAuth('alice', password);
    const answer = await fetch(url, { headers: { authorization }, redirect: 'manual' });
    assert.equal(answer.status, 307);
    assert.equal(answer.headers.get('docker-content-digest'), digest);
    const link = answer.headers.get('location');
    assert.notEqual(new URL(link).host, site.registry.host);
    const body = Buffer.from(await (await fetch(link)).arrayBuffer());
    assert.equal(`sha256:${createHash('sha256').update(body).digest('hex')}`, digest);
    const part = await fetch(link, { headers: { range: 'bytes=100-199' } });
    assert.equal(part.status, 206);
    assert.ok(Buffer.from(await part.arrayBuffer()).equals(bytes.subarray(100, 200)));
    // Several ranges, HEAD and whoever may not read never get there.
    assert.equal((await fetch(url, { headers: { authorization, range: 'bytes=0-9,20-29' }, redirect: 'manual' })).status, 206);
    assert.equal((await fetch(url, { method: 'HEAD', headers: { authorization }, redirect: 'manual' })).status, 200);
    assert.equal((await fetch(url, { redirect: 'manual' })).status, 401);
  });

  const pulls = {
    crane: (site, folder) => ['pull', '--format=oci', remote(site), folder],
    oras: (site, folder) => ['cp', '--from-plain-http', '--to-oci-layout', remote(site), `${folder}:v1`],
    skopeo: (site, folder) => ['--insecure-policy', 'copy', '--preserve-digests', '--src-tls-verify=false', `docker://${remote(site)}`, `oci:${folder}:v1`],
    regctl: (site, folder) => ['--host', `reg=${site.registry.host},tls=disabled`, 'image', 'copy', remote(site), `ocidir://${folder}:v1`],
  };
  for (const [name, args] of Object.entries(pulls)) {
    step(`${name} follows it`, async (site) => {
      const folder = `${await site.box.folder('pulled')}/${name}`;
      (await use(site, name, args(site, folder))).ok();
      await assertSameImage(folder, site.big);
    });
  }
});
