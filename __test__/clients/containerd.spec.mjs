// containerd, and with it Kubernetes, BuildKit and docker's new image store, which share its library: one PUT per blob, tokens by POST, mirrors.
import assert from 'node:assert/strict';
import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { client } from '../../scripts/clients.mjs';
import { few, matrix, password } from '../support/matrix.mjs';
import { peopleAndImages } from '../support/oci-clients.mjs';
import { write } from '../support/packages.mjs';
import { run, startServer } from '../support/process.mjs';

const containerd = await client('containerd');

/** What needs a kernel of one's own, or mounts. Fetching, storing and pushing content, and unpacking into plain folders, need neither. */
const disabled = [
  ...['grpc.v1.cri', 'internal.v1.opt', 'runtime.v1.linux', 'runtime.v2.task', 'nri.v1.nri'],
  ...['overlayfs', 'btrfs', 'devmapper', 'zfs', 'aufs'].map((name) => `snapshotter.v1.${name}`),
].map((name) => `io.containerd.${name}`);

async function setUp(site) {
  await peopleAndImages(site);
  site.socket = join(site.box.dir, 'containerd.sock');
  const config = {
    'config.toml': [
      'version = 2',
      `root = ${JSON.stringify(join(site.box.dir, 'root'))}`,
      `state = ${JSON.stringify(join(site.box.dir, 'state'))}`,
      `disabled_plugins = ${JSON.stringify(disabled)}`,
      `[grpc]\naddress = ${JSON.stringify(site.socket)}`,
      `[ttrpc]\naddress = ${JSON.stringify(`${site.socket}.ttrpc`)}`,
    ].join('\n'),
  };
  await write(site.box.dir, config);
  site.daemon = await startServer([...containerd.argv, '--config', join(site.box.dir, 'config.toml')], {
    cwd: site.box.dir,
    env: site.box.env,
    ready: /containerd successfully booted/,
  });
  for (let tries = 0; !existsSync(site.socket) && tries < 50; tries += 1) await sleep(100);
}

const ctr = (site, args, options = {}) => run(['/usr/bin/ctr', '--address', site.socket, ...args], { cwd: site.box.dir, env: site.box.env, ...options });

matrix('containerd', { storages: few, protocol: 'oci', setUp, tearDown: (site) => site.daemon?.stop() }, (step) => {
  const remote = (site, name) => `${site.registry.host}/${name}`;
  const owner = ['--user', `alice:${password}`];
  /** Takes an image in from its layout and calls it by the place it goes to. */
  const loaded = async (site, name, to) => {
    const archive = join(site.box.dir, `${name}.tar`);
    (await run(['/usr/bin/tar', '-C', site.layout(name), '-cf', archive, '.'], { cwd: site.box.dir, env: site.box.env })).ok();
    (await ctr(site, ['images', 'import', '--no-unpack', '--base-name', remote(site, to), archive])).ok();
    return remote(site, `${to}:${name}`);
  };
  const pull = (site, name, flags = []) => ctr(site, ['images', 'pull', '--plain-http', '--snapshotter', 'native', ...flags, name]);
  const push = (site, name, flags = owner) => ctr(site, ['images', 'push', '--plain-http', ...flags, name]);
  /** Forgets everything, so that a pull has to fetch. */
  const forget = async (site, name) => void (await ctr(site, ['images', 'rm', '--sync', name])).ok();

  step('pushes and pulls an image', async (site) => {
    const name = await loaded(site, 'small', 'team/app');
    (await push(site, name)).ok();
    await forget(site, name);
    (await pull(site, name)).ok().shows(/unpacking linux\/amd64/);
    (await ctr(site, ['images', 'ls'])).ok().shows(new RegExp(site.small.descriptor.digest));
  });

  step('pushes and pulls a layer of many megabytes', async (site) => {
    const name = await loaded(site, 'big', 'team/big');
    (await push(site, name)).ok();
    await forget(site, name);
    (await pull(site, name)).ok();
  });

  step('pushes and pulls an image of several platforms', async (site) => {
    const archive = join(site.box.dir, 'multi.tar');
    (await run(['/usr/bin/tar', '-C', site.layout('multi'), '-cf', archive, '.'], { cwd: site.box.dir, env: site.box.env })).ok();
    (await ctr(site, ['images', 'import', '--no-unpack', '--all-platforms', '--base-name', remote(site, 'team/multi'), archive])).ok();
    const name = remote(site, 'team/multi:multi');
    (await push(site, name)).ok();
    await forget(site, name);
    (await ctr(site, ['content', 'fetch', '--plain-http', '--all-platforms', name])).ok();
    for (const digest of site.multi.blobs.keys()) (await ctr(site, ['content', 'get', digest])).ok();
  });

  step('pulls through a mirror, by the path with and without v2', async (site) => {
    for (const [host, more] of [['oci', ''], ['oci/v2', 'override_path = true'], ['oci', 'override_path = true']]) {
      const folder = await site.box.folder(`hosts-${Math.random().toString(36).slice(2)}`);
      const hosts = `[host."${site.registry.url}/${host}"]\ncapabilities = ["pull", "resolve"]\n${more}\n`;
      await write(folder, { 'mirror.example.com/hosts.toml': hosts });
      const name = 'mirror.example.com/team/app:small';
      (await ctr(site, ['images', 'pull', '--hosts-dir', folder, '--snapshotter', 'native', name])).ok();
      await forget(site, name);
    }
  });

  step('is told that an image is missing', async (site) => {
    (await pull(site, remote(site, 'team/app:v9'))).refused(/team\/app:v9: not found/);
    (await pull(site, remote(site, 'team/none:v1'))).refused(/team\/none:v1: not found/);
  });

  step('is told why it may not', async (site) => {
    const name = await loaded(site, 'small', 'private/app');
    (await push(site, name, [])).refused(/authorization failed|unauthorized/i);
    (await push(site, name, ['--user', 'alice:guessed'])).refused(/authorization failed|unauthorized|401/i);
    (await push(site, name)).ok();
    (await pull(site, name, [])).refused(/pull access denied.*authorization failed/);
    (await pull(site, name, ['--user', 'alice:guessed'])).refused(/401|unauthorized|authorization failed/i);
    assert.match((await pull(site, name, owner)).ok().output, /done/);
  });
});
