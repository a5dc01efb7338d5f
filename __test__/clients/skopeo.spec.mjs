// skopeo, and with it podman, buildah and CRI-O, which share its library: one streamed PATCH for each blob, a mount dance between repositories.
import assert from 'node:assert/strict';
import { client } from '../../scripts/clients.mjs';
import { matrix, password } from '../support/matrix.mjs';
import { assertSameImage, digestOf } from '../support/oci.mjs';
import { peopleAndImages } from '../support/oci-clients.mjs';
import { run } from '../support/process.mjs';

const { argv } = await client('skopeo');

const skopeo = (site, args, { as = 'owner', ...more } = {}) => run([...argv, '--insecure-policy', ...args], { cwd: site.box.dir, env: site.as(as), ...more });

matrix('skopeo', { protocol: 'oci', setUp: peopleAndImages }, (step) => {
  const remote = (site, name) => `docker://${site.registry.host}/${name}`;
  const local = (site, name) => `oci:${site.layout(name)}:${name}`;
  const push = (site, name, to, { all, ...more } = {}) =>
    skopeo(site, ['copy', '--preserve-digests', '--dest-tls-verify=false', ...(all ? ['--all'] : []), local(site, name), remote(site, to)], more);
  const pull = async (site, from, { all, ...more } = {}) => {
    const folder = await site.box.folder(`pulled/${from.replace(/\W/g, '-')}-${Math.random().toString(36).slice(2)}`);
    const done = await skopeo(site, ['copy', '--preserve-digests', '--src-tls-verify=false', ...(all ? ['--all'] : []), remote(site, from), `oci:${folder}:pulled`], more);
    return Object.assign(done, { folder });
  };

  step('logs in, and not with a wrong password', async (site) => {
    const login = () => ['login', '--tls-verify=false', '--username', 'alice', '--password-stdin', '--authfile', site.authFile('fresh'), site.registry.host];
    (await skopeo(site, login(), { as: 'fresh', input: 'guessed' })).refused(/invalid username\/password/);
    (await skopeo(site, login(), { as: 'fresh', input: password })).ok().shows(/Login Succeeded/);
    (await skopeo(site, ['login', '--get-login', '--authfile', site.authFile('fresh'), site.registry.host], { as: 'fresh' })).ok().shows(/alice/);
  });

  step('logs in with a token', async (site) => {
    const args = ['login', '--tls-verify=false', '--username', 'alice', '--password-stdin', '--authfile', `${site.authFile('fresh')}.token`, site.registry.host];
    (await skopeo(site, args, { as: 'fresh', input: site.token })).ok().shows(/Login Succeeded/);
  });

  step('pushes and pulls an image', async (site) => {
    (await push(site, 'small', 'team/app:v1', { as: 'fresh' })).ok();
    const pulled = await pull(site, 'team/app:v1', { as: 'nobody' });
    pulled.ok();
    await assertSameImage(pulled.folder, site.small);
  });

  step('pushes and pulls a layer of many megabytes', async (site) => {
    (await push(site, 'big', 'team/big:v1')).ok();
    const pulled = await pull(site, 'team/big:v1');
    pulled.ok();
    await assertSameImage(pulled.folder, site.big);
  });

  step('pushes and pulls an image of several platforms', async (site) => {
    (await push(site, 'multi', 'team/multi:v1', { all: true })).ok();
    const pulled = await pull(site, 'team/multi:v1', { all: true });
    pulled.ok();
    await assertSameImage(pulled.folder, site.multi);
  });

  step('inspects what is there', async (site) => {
    const raw = (await skopeo(site, ['inspect', '--raw', '--tls-verify=false', remote(site, 'team/app:v1')])).ok();
    assert.equal(digestOf(Buffer.from(raw.stdout)), site.small.descriptor.digest);
    const shown = (await skopeo(site, ['inspect', '--tls-verify=false', remote(site, 'team/app:v1')])).ok().json();
    assert.equal(shown.Digest, site.small.descriptor.digest);
    assert.equal(shown.Architecture, 'amd64');
    (await skopeo(site, ['inspect', '--tls-verify=false', remote(site, `team/app@${site.small.descriptor.digest}`)])).ok();
  });

  step('copies between repositories', async (site) => {
    const args = ['copy', '--all', '--preserve-digests', '--src-tls-verify=false', '--dest-tls-verify=false'];
    (await skopeo(site, [...args, remote(site, 'team/multi:v1'), remote(site, 'other/copy:v2')])).ok();
    const pulled = await pull(site, 'other/copy:v2', { all: true });
    pulled.ok();
    await assertSameImage(pulled.folder, site.multi);
  });

  step('lists tags', async (site) => {
    (await push(site, 'small', 'team/app:v2')).ok();
    const { Tags: tags } = (await skopeo(site, ['list-tags', '--tls-verify=false', remote(site, 'team/app')])).ok().json();
    assert.deepEqual(tags, ['v1', 'v2']);
  });

  step('synchronises a repository to a folder and back, all tags and platforms', async (site) => {
    const folder = await site.box.folder('synced');
    const sync = (args) => skopeo(site, ['sync', '--all', '--preserve-digests', ...args]);
    // A source without a tag is all of the repository's.
    (await sync(['--src-tls-verify=false', '--scoped', '--src', 'docker', '--dest', 'dir', `${site.registry.host}/team/app`, folder])).ok();
    (await sync(['--src-tls-verify=false', '--src', 'docker', '--dest', 'dir', `${site.registry.host}/team/multi:v1`, folder])).ok();
    (await sync(['--dest-tls-verify=false', '--src', 'dir', '--dest', 'docker', folder, `${site.registry.host}/mirror`])).ok();
    const pulled = await pull(site, 'mirror/multi:v1', { all: true });
    pulled.ok();
    await assertSameImage(pulled.folder, site.multi);
    // From registry to registry, which mounts.
    (await sync(['--src-tls-verify=false', '--dest-tls-verify=false', '--src', 'docker', '--dest', 'docker', `${site.registry.host}/team/app`, `${site.registry.host}/copied`])).ok();
    const { Tags: tags } = (await skopeo(site, ['list-tags', '--tls-verify=false', remote(site, 'copied/app')])).ok().json();
    assert.deepEqual(tags, ['v1', 'v2']);
  });

  step('is told that an image is missing', async (site) => {
    (await pull(site, 'team/app:v9')).refused(/manifest unknown/i);
    (await pull(site, 'team/none:v1')).refused(/unknown/i);
  });

  step('is told why it may not', async (site) => {
    (await push(site, 'small', 'private/app:v1')).ok();
    (await pull(site, 'private/app:v1', { as: 'nobody' })).refused(/unauthorized|authentication required|denied/i);
    (await pull(site, 'private/app:v1', { as: 'liar' })).refused(/unauthorized|invalid username\/password/i);
    (await pull(site, 'private/app:v1', { as: 'reader' })).refused(/unauthorized|denied|insufficient/i);
    (await push(site, 'small', 'team/app:v3', { as: 'nobody' })).refused(/unauthorized|authentication required|denied/i);
    (await push(site, 'small', 'team/app:v3', { as: 'reader' })).refused(/unauthorized|denied|insufficient/i);
    (await pull(site, 'team/app:v3')).refused(/manifest unknown/i);
    (await pull(site, 'private/app:v1')).ok();
  });

  step('deletes an image, which it does by digest', async (site) => {
    (await skopeo(site, ['delete', '--tls-verify=false', remote(site, 'team/app:v1')])).ok();
    (await pull(site, 'team/app:v1')).refused(/manifest unknown/i);
    // The digest is gone, and with it the other tag that pointed to it.
    (await pull(site, 'team/app:v2')).refused(/manifest unknown/i);
    (await skopeo(site, ['delete', '--tls-verify=false', remote(site, 'team/big:v1')], { as: 'nobody' })).refused(/unauthorized|authentication required|denied/i);
  });
});
