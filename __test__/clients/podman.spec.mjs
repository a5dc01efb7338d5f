// podman, and with it buildah and CRI-O, which share its library: layers packed anew on the way out, zstd:chunked among them, and search.
import assert from 'node:assert/strict';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { client } from '../../scripts/clients.mjs';
import { few, matrix, password } from '../support/matrix.mjs';
import { image, noise, writeLayout } from '../support/oci.mjs';
import { peopleAndImages } from '../support/oci-clients.mjs';
import { write } from '../support/packages.mjs';
import { run } from '../support/process.mjs';

const { argv } = await client('podman');

/** A store of its own in plain folders: it needs no mount, no cgroup and no journal of the machine. */
const store = (site, name) => [
  ...['--root', join(site.store, name), '--runroot', join(site.store, 'run', name)],
  ...['--storage-driver', 'vfs', '--cgroup-manager', 'cgroupfs', '--events-backend', 'file'],
];

const podman = (site, args, { as = 'owner', from = 'mine', ...more } = {}) =>
  run([...argv, ...store(site, from), ...args], { cwd: site.box.dir, env: site.as(as), ...more });

const plain = '--tls-verify=false';

async function setUp(site) {
  await peopleAndImages(site);
  // podman takes no path here that is longer than 50 characters.
  site.store = await mkdtemp(join(tmpdir(), 'sr-'));
}

const tearDown = (site) => site.store && rm(site.store, { recursive: true, force: true });

matrix('podman', { storages: few, protocol: 'oci', setUp, tearDown }, (step) => {
  const remote = (site, name) => `${site.registry.host}/${name}`;
  /** Loads an image from its layout and names it after the place it goes to. */
  const loaded = async (site, name, to) => {
    // The path becomes the image's name, which has no upper case: so it is a relative one.
    const id = (await podman(site, ['pull', '--quiet', `oci:layouts/${name}`])).ok().stdout.trim();
    (await podman(site, ['tag', id, remote(site, to)])).ok();
    return id;
  };
  const push = (site, to, flags = [], options = {}) => podman(site, ['push', '--quiet', plain, ...flags, remote(site, to)], options);
  /** Pulls into an empty store and answers with the image's id, which is the digest of its configuration. */
  const pulled = async (site, name, options = {}) => {
    const from = Math.random().toString(36).slice(2, 8);
    return podman(site, ['pull', '--quiet', plain, remote(site, name)], { from, ...options });
  };

  step('logs in, and not with a wrong password', async (site) => {
    const login = ['login', plain, '-u', 'alice', '--password-stdin', site.registry.host];
    (await podman(site, login, { as: 'fresh', input: 'guessed' })).refused(/invalid username\/password/);
    (await podman(site, login, { as: 'fresh', input: password })).ok().shows(/Login Succeeded/);
    (await podman(site, ['logout', site.registry.host], { as: 'fresh' })).ok();
  });

  step('pushes layers as zstd:chunked, and pulls them', async (site) => {
    const layout = await site.box.folder('layouts/chunked');
    const files = { 'data/other.bin': noise(3_000_000, 'chunked'), 'usr/bin/tool': 'x'.repeat(100_000), 'etc/empty': '' };
    await writeLayout(layout, await image([files]), 'chunked');
    const id = await loaded(site, 'chunked', 'team/chunked:v1');
    (await push(site, 'team/chunked:v1', ['--compression-format', 'zstd:chunked'])).ok();
    const manifest = await (await fetch(`${site.registry.url}/v2/team/chunked/manifests/v1`)).json();
    const [layer] = manifest.layers;
    assert.match(layer.mediaType, /\+zstd$/);
    // What a partial pull asks for: the table of contents and a few files, as several ranges in an order of its own.
    const [offset, length] = layer.annotations['io.containers.zstd-chunked.manifest-position'].split(':').map(Number);
    const ranges = [[offset, offset + length - 1], [0, 99], [100, 199]];
    const range = `bytes=${ranges.map((pair) => pair.join('-')).join(',')}`;
    const answer = await fetch(`${site.registry.url}/v2/team/chunked/blobs/${layer.digest}`, { headers: { range } });
    assert.equal(answer.status, 206);
    const parts = [...(await answer.text()).matchAll(/Content-Range: bytes (\d+)-(\d+)\//g)].map(([, from, to]) => [Number(from), Number(to)]);
    assert.deepEqual(parts, ranges);
    assert.equal((await pulled(site, 'team/chunked:v1', { as: 'nobody' })).ok().stdout.trim(), id);
  });

  step('pushes and pulls an image', async (site) => {
    const id = await loaded(site, 'small', 'team/app:v1');
    (await push(site, 'team/app:v1')).ok();
    assert.equal((await pulled(site, 'team/app:v1', { as: 'nobody' })).ok().stdout.trim(), id);
  });

  step('pushes and pulls a layer of many megabytes', async (site) => {
    const id = await loaded(site, 'big', 'team/big:v1');
    (await push(site, 'team/big:v1')).ok();
    assert.equal((await pulled(site, 'team/big:v1')).ok().stdout.trim(), id);
  });

  step('builds on a pulled image, and pushes only what is new', async (site) => {
    const context = await site.box.folder('context');
    await write(context, { Containerfile: `FROM ${remote(site, 'team/app:v1')}\nCOPY new /etc/new\nLABEL made=here\n`, new: 'new\n' });
    (await podman(site, ['build', '--quiet', plain, '--isolation', 'chroot', '--tag', remote(site, 'team/built:v1'), context])).ok();
    (await push(site, 'team/built:v1')).ok();
    const layersOf = async (name) => (await (await fetch(`${site.registry.url}/v2/${name}/manifests/v1`)).json()).layers.map(({ digest }) => digest);
    const [base, built] = [await layersOf('team/app'), await layersOf('team/built')];
    assert.deepEqual(built.slice(0, base.length), base);
    assert.equal(built.length, base.length + 1);
    (await pulled(site, 'team/built:v1')).ok();
  });

  step('pushes and pulls a manifest list', async (site) => {
    const list = remote(site, 'team/list:v1');
    (await podman(site, ['manifest', 'create', list])).ok();
    (await podman(site, ['manifest', 'add', plain, list, `docker://${remote(site, 'team/app:v1')}`])).ok();
    (await podman(site, ['manifest', 'push', '--all', plain, list, `docker://${list}`])).ok();
    (await pulled(site, 'team/list:v1')).ok();
  });

  step('searches, and lists tags', async (site) => {
    (await podman(site, ['tag', remote(site, 'team/app:v1'), remote(site, 'private/app:v1')])).ok();
    (await push(site, 'private/app:v1')).ok();
    const search = async (as, ...args) =>
      (await podman(site, ['search', plain, '--format', '{{.Name}}', ...args], { as })).ok().stdout.trim().split('\n').sort();
    const { host } = site.registry;
    assert.deepEqual(await search('owner', `${host}/app`), [`${host}/private/app`, `${host}/team/app`]);
    assert.deepEqual(await search('owner', `${host}/`), ['built', 'chunked', 'list', 'app', 'big'].map((name) => `${host}/team/${name}`).concat(`${host}/private/app`).sort());
    (await podman(site, ['search', plain, `${host}/app`], { as: 'nobody' })).refused(/unauthorized|authentication required/i);
    (await podman(site, ['search', plain, '--list-tags', remote(site, 'team/app')])).ok().shows(/team\/app +v1/);
  });

  step('is told that an image is missing', async (site) => {
    (await pulled(site, 'team/app:v9')).refused(/manifest unknown: there is no manifest v9 in this repository/);
    (await pulled(site, 'team/none:v1')).refused(/manifest unknown/);
  });

  step('is told why it may not', async (site) => {
    (await pulled(site, 'private/app:v1', { as: 'nobody' })).refused(/unauthorized|authentication required|denied/i);
    (await pulled(site, 'private/app:v1', { as: 'liar' })).refused(/unauthorized|invalid username\/password/i);
    (await push(site, 'team/app:v1', [], { as: 'nobody' })).refused(/unauthorized|authentication required|denied/i);
    (await push(site, 'team/app:v1', [], { as: 'reader' })).refused(/unauthorized|denied|insufficient/i);
    (await pulled(site, 'private/app:v1')).ok();
  });
});
