// regctl: chunked uploads with their places, tags deleted alone, referrers, and copies that mount.
import assert from 'node:assert/strict';
import { join } from 'node:path';
import { client } from '../../scripts/clients.mjs';
import { few, matrix, password } from '../support/matrix.mjs';
import { assertSameImage, digestOf, noise } from '../support/oci.mjs';
import { peopleAndImages } from '../support/oci-clients.mjs';
import { run } from '../support/process.mjs';

const { argv } = await client('regctl');

const regctl = (site, args, { as = 'owner', cwd = site.box.dir, ...more } = {}) => {
  const host = ['--host', `reg=${site.registry.host},tls=disabled`];
  return run([...argv, ...host, ...args], { cwd, env: { ...site.as(as), REGCTL_CONFIG: join(site.box.home, as, 'regctl.json') }, ...more });
};

matrix('regctl', { storages: few, protocol: 'oci', setUp: peopleAndImages }, (step) => {
  const remote = (site, name) => `${site.registry.host}/${name}`;
  const push = (site, name, to, options) => regctl(site, ['image', 'copy', '--digest-tags', `ocidir://${site.layout(name)}:${name}`, remote(site, to)], options);
  const pull = async (site, from, options) => {
    const folder = `${await site.box.folder('pulled')}/${Math.random().toString(36).slice(2)}`;
    return Object.assign(await regctl(site, ['image', 'copy', remote(site, from), `ocidir://${folder}:it`], options), { folder });
  };

  step('logs in, and not with a wrong password', async (site) => {
    const login = ['registry', 'login', site.registry.host, '--user', 'alice', '--pass-stdin'];
    (await regctl(site, login, { as: 'fresh', input: 'guessed' })).refused(/unauthorized/i);
    (await regctl(site, login, { as: 'fresh', input: password })).ok();
    (await push(site, 'small', 'team/first:v1', { as: 'fresh' })).ok();
  });

  step('pushes and pulls images, of several platforms too', async (site) => {
    for (const name of ['small', 'big', 'multi']) {
      (await push(site, name, `team/${name}:v1`)).ok();
      const pulled = await pull(site, `team/${name}:v1`, { as: 'nobody' });
      pulled.ok();
      await assertSameImage(pulled.folder, site[name]);
    }
  });

  step('uploads a blob in chunks, and fetches it', async (site) => {
    const bytes = noise(21_000_001, 'chunks');
    const chunked = ['--host', `reg=${site.registry.host},tls=disabled,blobChunk=1000000,blobMax=1000`];
    (await regctl(site, [...chunked, 'blob', 'put', remote(site, 'team/blobs')], { input: bytes })).ok().shows(new RegExp(digestOf(bytes)));
    // The blob itself goes to the standard output.
    const get = [...argv, '--host', `reg=${site.registry.host},tls=disabled`, 'blob', 'get', remote(site, 'team/blobs'), digestOf(bytes)];
    const got = await run(['/bin/sh', '-c', '"$@" | sha256sum', 'sh', ...get], { cwd: site.box.dir, env: { ...site.as('owner'), REGCTL_CONFIG: join(site.box.home, 'regctl.json') } });
    assert.equal(`sha256:${got.ok().stdout.split(' ')[0]}`, digestOf(bytes));
    (await regctl(site, ['blob', 'head', remote(site, 'team/blobs'), digestOf(bytes)])).ok().shows(/Content-Length: 21000001/i);
  });

  step('lists tags and repositories', async (site) => {
    (await regctl(site, ['image', 'copy', remote(site, 'team/small:v1'), remote(site, 'team/small:v2')])).ok();
    assert.equal((await regctl(site, ['tag', 'ls', remote(site, 'team/small')])).ok().stdout, 'v1\nv2\n');
    const repositories = (await regctl(site, ['repo', 'ls', site.registry.host])).ok().stdout.split('\n');
    for (const name of ['team/big', 'team/multi', 'team/small']) assert.ok(repositories.includes(name), repositories.join(' '));
  });

  step('attaches what belongs to an image, lists it, and copies it along', async (site) => {
    const put = (type) => ['artifact', 'put', '--subject', remote(site, 'team/small:v1'), '--artifact-type', type, '--file-media-type', 'application/json', '--annotation', `kind=${type}`];
    for (const type of ['application/vnd.example.sbom', 'application/vnd.example.signature']) (await regctl(site, put(type), { input: `{"${type}":1}` })).ok();
    const types = async (name, ...filter) => {
      const list = (await regctl(site, ['artifact', 'list', remote(site, name), '--format', '{{json .}}', ...filter])).json();
      return list.descriptors.map(({ artifactType }) => artifactType).sort();
    };
    assert.deepEqual(await types('team/small:v1'), ['application/vnd.example.sbom', 'application/vnd.example.signature']);
    assert.deepEqual(await types('team/small:v1', '--filter-artifact-type', 'application/vnd.example.sbom'), ['application/vnd.example.sbom']);
    (await regctl(site, ['image', 'copy', '--referrers', remote(site, 'team/small:v1'), remote(site, 'other/small:v1')])).ok();
    assert.equal((await types('other/small:v1')).length, 2);
    // The referrers list was used: no tag was written in its place.
    assert.equal((await regctl(site, ['tag', 'ls', remote(site, 'other/small')])).ok().stdout, 'v1\n');
  });

  step('deletes a tag alone, then the manifest', async (site) => {
    (await regctl(site, ['tag', 'delete', remote(site, 'team/small:v2')])).ok();
    assert.equal((await regctl(site, ['tag', 'ls', remote(site, 'team/small')])).ok().stdout, 'v1\n');
    (await pull(site, 'team/small:v1')).ok();
    (await regctl(site, ['manifest', 'delete', '--force-tag-dereference', remote(site, 'team/small:v1')])).ok();
    (await pull(site, 'team/small:v1')).refused(/not found/i);
  });

  step('is told that something is missing', async (site) => {
    (await pull(site, 'team/big:v9')).refused(/not found/i);
    (await regctl(site, ['tag', 'ls', remote(site, 'team/none')])).refused(/not found/i);
  });

  step('is told why it may not', async (site) => {
    (await push(site, 'small', 'private/app:v1')).ok();
    (await pull(site, 'private/app:v1', { as: 'nobody' })).refused(/unauthorized/i);
    (await pull(site, 'private/app:v1', { as: 'liar' })).refused(/unauthorized/i);
    (await push(site, 'small', 'team/app:v3', { as: 'nobody' })).refused(/unauthorized/i);
    (await push(site, 'small', 'team/app:v3', { as: 'reader' })).refused(/unauthorized/i);
    (await pull(site, 'private/app:v1')).ok();
  });
});
